"""Runs the steps of ./dev gpu: each under a limit of time, the next one whatever became of the last, and a summary of all."""

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "not run"
TAIL_LINES = 30


@dataclass
class Step:
    """A command and what is made of its output. `judge(output)` returns figures, a list of (name, value, unit), or raises
    Wrong; without it the exit status decides alone."""

    name: str
    argv: list
    limit: float = 120
    env: dict = field(default_factory=dict)
    judge: object = None
    needs: object = None  # needs() returns a sentence if the step can't be run here
    files: list = field(default_factory=list)  # JSON lines that it writes; they go to results.json


class Wrong(Exception):
    """What a judge did not like."""


@dataclass
class Result:
    step: Step
    stage: str
    outcome: str
    seconds: float = 0
    reason: str = ""
    figures: list = field(default_factory=list)

    @property
    def line(self):
        """What runs the step alone, from the checkout's root."""
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.step.env.items())
        return f"{variables} {shlex.join(map(str, self.step.argv))}".strip()


class Run:
    def __init__(self, root, out, minutes, say=print):
        self.root, self.out, self.minutes, self.say = Path(root), Path(out), minutes, say
        self.results, self.records, self.machine = [], [], {}
        self.lock = threading.Lock()
        self.started = set()
        self.out.mkdir(parents=True, exist_ok=True)

    def log(self, stage, text):
        path = self.out / f"{stage}.log"
        with path.open("a" if stage in self.started else "w", encoding="utf-8") as file:
            file.write(text)
        self.started.add(stage)

    def stage(self, name, steps, jobs=1):
        """Runs the steps, `jobs` at a time; `steps` may be a function that is called now. True if all passed."""
        end = time.monotonic() + 60 * self.minutes
        first = len(self.results)
        try:
            steps = steps() if callable(steps) else steps
        except Exception as error:  # noqa: BLE001 - the other stages may yet tell something
            self.add(Result(Step(f"{name}: preparing", ["./dev", "gpu", "--stage", name]), name, FAILED, 0, str(error)), "")
            return False
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda step: self.one(name, step, end), steps))
        return all(result.outcome == PASSED for result in self.results[first:])

    def one(self, stage, step, end):
        reason = step.needs() if step.needs else None
        left = end - time.monotonic()
        if reason is None and left < 1:
            reason = f"no time was left of the stage's {self.minutes:g} minutes"
        if reason is not None:
            self.add(Result(step, stage, SKIPPED, 0, reason), "")
            return
        begin = time.monotonic()
        limit = min(step.limit, left)
        status, output = run_command(step.argv, self.root, step.env, limit)
        seconds = time.monotonic() - begin
        result = Result(step, stage, PASSED, seconds)
        if status is None:
            result.outcome, result.reason = FAILED, f"was ended after {limit:.0f} s"
        elif status != 0:
            result.outcome, result.reason = FAILED, f"ended with status {status}"
        elif step.judge:
            try:
                result.figures = step.judge(output) or []
            except Wrong as wrong:
                result.outcome, result.reason = FAILED, str(wrong)
            except Exception as error:  # noqa: BLE001 - output that a judge does not understand
                result.outcome, result.reason = FAILED, f"its output was not understood: {type(error).__name__}: {error}"
        self.add(result, output)

    def add(self, result, output):
        with self.lock:
            self.results.append(result)
            for path in map(Path, result.step.files):
                if path.exists():
                    self.records += [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            self.log(result.stage, f"===== {result.step.name}: {result.outcome} {result.reason}\n$ {result.line}\n{output}\n")
            reason = f": {result.reason}" if result.reason else ""
            self.say(f"{result.outcome:8} {result.seconds:6.1f} s  {result.stage}: {result.step.name}{reason}")
            if result.outcome == FAILED:
                for line in output.splitlines()[-TAIL_LINES:]:
                    self.say(f"         | {line}")
            self.write()

    def write(self):
        """After every step, so that a run that is cut off leaves what it has found."""
        (self.out / "summary.md").write_text(self.summary(), encoding="utf-8")
        results = [{"stage": r.stage, "name": r.step.name, "outcome": r.outcome, "seconds": round(r.seconds, 2),
                    "reason": r.reason, "line": r.line, "figures": [list(figure) for figure in r.figures]} for r in self.results]
        (self.out / "results.json").write_text(
            json.dumps({"machine": self.machine, "steps": results, "measured": self.records}, indent=1) + "\n",
            encoding="utf-8")

    def count(self, outcome):
        return sum(result.outcome == outcome for result in self.results)

    def summary(self):
        lines = ["# GPU run", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += ["", f"{self.count(PASSED)} passed, {self.count(FAILED)} failed, {self.count(SKIPPED)} not run", ""]
        for outcome, title in ((FAILED, "## Failed"), (SKIPPED, "## Not run")):
            chosen = [result for result in self.results if result.outcome == outcome]
            if not chosen:
                continue
            lines += [title, ""]
            for result in chosen:
                lines.append(f"- {result.stage}: {result.step.name}: {result.reason}")
                lines.append(f"  `{result.line}`")
            lines.append("")
        figures = [(result, figure) for result in self.results for figure in result.figures]
        if figures:
            lines += ["## Figures", "", "| step | figure | value |", "|---|---|---|"]
            lines += [f"| {result.step.name} | {name} | {number(value)} {unit} |".replace("  |", " |")
                      for result, (name, value, unit) in figures]
            lines.append("")
        passed = [result for result in self.results if result.outcome == PASSED]
        if passed:
            lines += ["## Passed", ""]
            lines += [f"- {result.stage}: {result.step.name} ({result.seconds:.0f} s)" for result in passed]
        return "\n".join(lines).rstrip() + "\n"


def number(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run_command(argv, folder, env, limit):
    """Status and output; no status where the limit was passed. The command's children end with it."""
    try:
        process = subprocess.Popen([str(argument) for argument in argv], cwd=folder, env={**os.environ, **env}, text=True,
                                   errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        return 127, f"{error}\n"
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output
