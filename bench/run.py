#!/usr/bin/env python3
"""Measures workloads and compares them: ./dev bench [mlp] [gpt] [optimizer] [--peers] [--precision fp32,fp16,bf16] ...

Everything that is compared is measured in the same run by turns: one process per side, each waiting until it is told to do the
next few steps (bench/common/side.h). A ratio is that of two medians over all steps; its spread is that of the ratios of single
rounds. Absolute times mean little on machines that differ and are shared.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("fp32", "fp16", "bf16")
WORKLOADS = ("mlp", "gpt", "optimizer")
GPU_WORKLOADS = ("gpt2-124m",)
# Sides that need the GPU's memory for themselves: one after another, not by turns.
APART = ("gpt2-124m",)
GPT2 = {"context": 1024, "width": 768, "layers": 12, "vocabulary": 50304}
MATMUL_SIZE = 8192
BYTE_CLASSES = ("master", "copy16", "gradients", "optimizer", "activations", "scratch")
SLOW_MS = 4000  # a peer that takes longer for a step does one step in each of SLOW_ROUNDS rounds
SLOW_ROUNDS = 3
DEFAULT_TEXT_BYTES = 4 << 20


class Failure(Exception):
    pass


class Side:
    """A process that does steps when it is told to."""

    def __init__(self, argv, workload, precision, peer, compiled=False):
        self.workload, self.precision, self.peer, self.compiled = workload, precision, peer, compiled
        self.rounds = []
        self.losses = []
        self.process = subprocess.Popen([str(argument) for argument in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        ready = self.read()
        self.name, self.step_ms = ready["name"], ready["ms"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"{self.workload} {self.precision}: {self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def run(self, steps):
        self.tell(f"run {steps}")
        answer = self.read()
        self.rounds.append(answer["ms"])
        self.losses += answer["loss"]

    def end(self):
        self.tell("end")
        self.result = self.read()
        self.process.wait()

    def median(self):
        return statistics.median(ms for one in self.rounds for ms in one)


def ratio_of(side, other):
    """Ratio of medians, and the least and greatest ratio of a round's medians; None where one has not been measured."""
    if side is None or other is None or not side.rounds or not other.rounds:
        return None
    by_round = [statistics.median(a) / statistics.median(b) for a, b in zip(side.rounds, other.rounds)]
    return {"ratio": side.median() / other.median(), "least": min(by_round), "greatest": max(by_round)}


def library_folder(options):
    candidates = [options.build] if options.build else [ROOT / "build/release", ROOT / "build"]
    for folder in candidates:
        if (Path(folder) / "bench/training").exists():
            return Path(folder).resolve()
    raise Failure(f"found no bench/training in {', '.join(str(c) for c in candidates)}, expected a build with MPT_BENCH=ON")


def peer_python(options):
    """A Python that has PyTorch, or None with a sentence that says so."""
    python = options.peer_python or sys.executable
    try:
        found = subprocess.run([python, "-c", "import torch; print(torch.__version__)"],
                               capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"--peer-python: {error}") from error
    if found.returncode == 0:
        return python
    print(f"PyTorch is not installed for {python}: libmpt is measured alone (--peer-python names another Python).")
    return None


def default_text(folder):
    """Python's standard library, sorted: text that is on every machine with a Python."""
    text, size = folder / "text", 0
    with text.open("wb") as out:
        for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
            data = path.read_bytes()
            out.write(data)
            size += len(data)
            if size >= DEFAULT_TEXT_BYTES:
                break
    return text


def on_gpu(options):
    return options.device.startswith("cuda")


def side_makers(workload, options, build, python, folder):
    """What starts each side."""
    makers = []
    program, name = ("optimizer", workload.split("-")[1]) if workload.startswith("optimizer-") else ("training", workload)
    chosen = ["--batch", options.batch] if options.batch and program == "training" else []
    chosen += ["--parameters", options.parameters] if options.parameters and program == "optimizer" else []
    common = ["--threads", options.threads, "--device", options.device, *chosen]
    if workload == "gpt":
        common += ["--text", options.text or default_text(folder)]

    def add(argv, precision, peer, compiled=False):
        makers.append(lambda: Side(argv, workload, precision, peer, compiled))

    for index, precision in enumerate(options.precision):
        extra = ["--export", folder] if index == 0 and program == "training" else []
        add([build / "bench" / program, name, precision, *common, *extra], precision, False)
        if program == "optimizer" and precision != "fp32":
            continue  # PyTorch updates no 16-bit copies
        if python:
            argv = [python, ROOT / "bench/peer_torch.py", name, precision, options.threads, folder, "--device", options.device,
                    *chosen]
            add(argv, precision, True)
            if on_gpu(options) and program == "training" and precision != "fp32":
                add([*argv, "--compile"], precision, True, True)
    return makers


def steps_of_round(side, options):
    return max(1, min(options.max_steps, round(options.seconds * 1e3 / side.step_ms)))


def measure(workload, options, build, python):
    sides = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for start in side_makers(workload, options, build, python, Path(folder)):
                sides.append(start())
                if workload in APART and on_gpu(options):
                    for _ in range(options.rounds):
                        sides[-1].run(steps_of_round(sides[0], options))
                    sides[-1].end()
            if workload in APART and on_gpu(options):
                return sides
            steps = steps_of_round(sides[0], options)
            for round_index in range(options.rounds):
                # Every other round backwards, so that no side always follows the same one.
                for side in sides if round_index % 2 == 0 else reversed(sides):
                    if side.step_ms < SLOW_MS:
                        side.run(steps)
                    elif round_index < SLOW_ROUNDS:
                        side.run(1)
            for side in sides:
                side.end()
        finally:
            for side in sides:
                if side.process.poll() is None:
                    side.process.kill()
                    side.process.wait()
    return sides


def measure_matmul(options, python):
    """TFLOP/s of a large BF16 matrix multiply on the same device, by PyTorch; None without it."""
    if not python or not on_gpu(options):
        return None
    code = f"""
import torch
a, b = (torch.randn({MATMUL_SIZE}, {MATMUL_SIZE}, device="{options.device}", dtype=torch.bfloat16) for _ in range(2))
times = []
for i in range(13):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record(); a @ b; end.record(); end.synchronize()
    times.append(begin.elapsed_time(end))
print(2 * {MATMUL_SIZE}**3 / sorted(times[3:])[5] * 1e-9)
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def add_rates(record, matmul):
    """Of GPT-2: tokens and floating-point operations a second. 6 operations for each weight of a matrix multiply and token,
    12 L T C for attention's (forward and backward, all T x T products counted), as PaLM's appendix B counts them."""
    if record["workload"] != "gpt2-124m":
        return
    tokens = record["batch"] * GPT2["context"]
    weights = 12 * GPT2["layers"] * GPT2["width"] ** 2 + GPT2["width"] * GPT2["vocabulary"]
    each = 6 * weights + 12 * GPT2["layers"] * GPT2["context"] * GPT2["width"]
    record["tokens_per_s"] = tokens * 1e3 / record["ms_median"]
    record["model_tflops"] = tokens * each / record["ms_median"] * 1e-9
    if matmul:
        record["matmul_tflops"], record["share_of_matmul"] = matmul, record["model_tflops"] / matmul


def find(sides, precision, peer, compiled=False):
    return next((side for side in sides if (side.precision, side.peer, side.compiled) == (precision, peer, compiled)), None)


def records_of(sides, matmul=None):
    """One JSON object a side. An own side's ratio is to the peer in the same precision."""
    records = []
    for side in sides:
        record = dict(side.result, workload=side.workload)
        add_rates(record, matmul)
        if not side.peer:
            against_peer = ratio_of(side, find(sides, side.precision, True))
            against_fp32 = ratio_of(side, find(sides, "fp32", False)) if side.precision != "fp32" else None
            compiled = ratio_of(side, find(sides, side.precision, True, True))
            if compiled:
                record["ratio_compiled"] = compiled["ratio"]
                record["ratio_compiled_spread"] = [compiled["least"], compiled["greatest"]]
            if record.get("device") != "cpu" and record.get("bytes"):
                record["device_bytes"] = record["bytes"]["total"]
            record["ratio"] = against_peer and against_peer["ratio"]
            record["ratio_spread"] = against_peer and [against_peer["least"], against_peer["greatest"]]
            record["ratio_own_fp32"] = against_fp32 and against_fp32["ratio"]
            record["ratio_own_fp32_spread"] = against_fp32 and [against_fp32["least"], against_fp32["greatest"]]
        records.append(record)
    return records


def spread(ratio, limits):
    return "" if ratio is None else f"{ratio:.2f} ({limits[0]:.2f}-{limits[1]:.2f})"


def megabytes(count):
    return "" if count is None else f"{count / 1e6:.1f}"


def print_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    print()


def show(workload, sides, records):
    print(f"\n{workload}: batch {records[0]['batch']}, {records[0]['threads']} threads")
    if workload.startswith("optimizer"):
        yardstick = "copy" if any("copy_gb_per_s" in r for r in records) else "triad"
        rows = [("side", "precision", "ms", "min", "max", "to the peer", "B/parameter", "GB/s", f"{yardstick} GB/s", f"of the {yardstick}")]
        for side, r in zip(sides, records):
            rows.append((side.name if side.peer else "libmpt", side.precision, f"{r['ms_median']:.2f}", f"{r['ms_min']:.2f}",
                         f"{r['ms_max']:.2f}", spread(r.get("ratio"), r.get("ratio_spread")),
                         *(f"{r[key]:.4g}" if key in r else ""
                           for key in ("bytes_per_parameter", "gb_per_s", f"{yardstick}_gb_per_s")),
                         f"{100 * r[f'share_of_{yardstick}']:.0f} %" if f"share_of_{yardstick}" in r else ""))
        print_table(rows)
        return
    # Losses after the same number of steps: both sides train, and train the same.
    common = min(len(side.losses) for side in sides)
    rows = [("side", "precision", "ms", "min", "max", "per s", "to the peer", "to own fp32", "first loss",
             f"loss @{common + 2}", "planned MB", "act+scratch", "resident MB")]
    for side, r in zip(sides, records):
        plan = r["bytes"]
        rows.append((side.name if side.peer else "libmpt", side.precision, f"{r['ms_median']:.1f}", f"{r['ms_min']:.1f}",
                     f"{r['ms_max']:.1f}", f"{r['per_s']:.1f}", spread(r.get("ratio"), r.get("ratio_spread")),
                     spread(r.get("ratio_own_fp32"), r.get("ratio_own_fp32_spread")), f"{r['loss_first']:.4f}",
                     f"{side.losses[common - 1]:.4f}", megabytes(plan and plan["total"]),
                     megabytes(plan and plan["activations"] + plan["scratch"]), megabytes(r["resident_bytes"])))
    print_table(rows)
    if all(r["device"] == "cpu" for r in records):
        return
    rows = [("side", "precision", "to the compiled peer", "device MB", "tokens/s", "model TFLOP/s", "of a matrix multiply")]
    for side, r in zip(sides, records):
        rows.append((side.name if side.peer else "libmpt", side.precision,
                     spread(r.get("ratio_compiled"), r.get("ratio_compiled_spread")), megabytes(r.get("device_bytes")),
                     *(f"{r[key]:.5g}" if key in r else "" for key in ("tokens_per_s", "model_tflops")),
                     f"{100 * r['share_of_matmul']:.0f} %" if "share_of_matmul" in r else ""))
    print_table(rows)


def plan(workload, batches, options, build):
    """The memory of training at several batches, planned and not allocated."""
    records = []
    for batch in batches:
        for precision in options.precision:
            argv = [build / "bench/memory", workload, precision, "--batch", str(batch), "--threads", str(options.threads),
                    "--device", options.device]
            run = subprocess.run(argv, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                raise Failure(f"{workload} {precision}: {run.stderr.strip()}")
            records.append(json.loads(run.stdout))
    print(f"\n{workload}: planned MB, AdamW, {records[0]['threads']} threads")
    rows = [("batch", "precision", *BYTE_CLASSES, "act+scratch", "to fp32", "total", "to fp32")]
    for record in records:
        bytes_of = record["bytes"]
        both = bytes_of["activations"] + bytes_of["scratch"]
        rows.append((str(record["batch"]), record["precision"], *(megabytes(bytes_of[name]) for name in BYTE_CLASSES),
                     megabytes(both), f"{both / (bytes_of['fp32_activations'] + bytes_of['fp32_scratch']):.2f}",
                     megabytes(bytes_of["total"]), f"{bytes_of['total'] / bytes_of['fp32_total']:.2f}"))
    print_table(rows)
    return records


def measure_start(options, build):
    """What a program pays that only loads the library; and the library's size."""
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        subprocess.run([build / "bench/training", "start", "fp32", "--device", options.device], check=True)
        times.append(1e3 * (time.perf_counter() - begin))
    record = {"workload": "start", "device": options.device, "ms_median": statistics.median(times), "ms_min": min(times),
              "ms_max": max(times), "library_bytes": (build / "libmpt.so").stat().st_size}
    size = f"{record['library_bytes'] / 1e6:.2f} MB"
    if shutil.which("strip"):
        with tempfile.NamedTemporaryFile() as stripped:
            subprocess.run(["strip", "-o", stripped.name, build / "libmpt.so"], check=True)
            record["library_bytes_stripped"] = os.path.getsize(stripped.name)
        size += f", {record['library_bytes_stripped'] / 1e6:.2f} MB without debug information"
    print(f"process that creates a context and ends: {record['ms_median']:.1f} ms; libmpt.so: {size}")
    return record


def parse():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures workloads; compares them with PyTorch.")
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="WORKLOAD",
                        help=f"{', '.join(WORKLOADS)}; on a GPU also {', '.join(GPU_WORKLOADS)}")
    parser.add_argument("--peers", action="store_true", help="measure PyTorch beside libmpt")
    parser.add_argument("--peer-python", help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="comma-separated; default all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one per core")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0; default: %(default)s")
    parser.add_argument("--batch", type=int, default=0, help="examples a step of training; default: the workload's own")
    parser.add_argument("--parameters", type=float, default=0, help="of the optimizer's update, as 124e6; default: 10 million")
    parser.add_argument("--text", help="file for gpt to train on; default: sources of Python's standard library")
    parser.add_argument("--json", help="file that gets one JSON object a line")
    parser.add_argument("--plan", metavar="BATCHES", help="measure nothing: plan the memory of mlp and gpt at these batches, "
                        "as 16,64,256")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round of one side")
    parser.add_argument("--max-steps", type=int, default=20, help="of a round")
    parser.add_argument("--build", help="build folder; default: build/release")
    options = parser.parse_args()
    options.precision = options.precision.split(",")
    for given, known in ((options.workloads, WORKLOADS + GPU_WORKLOADS), (options.precision, PRECISIONS)):
        for one in given:
            if one not in known:
                parser.error(f"found {one}, expected one of {', '.join(known)}")
    if options.plan:
        try:
            options.plan = [int(batch) for batch in options.plan.split(",")]
        except ValueError:
            options.plan = [0]
        if min(options.plan) < 1:
            parser.error("--plan: expected whole numbers from 1, separated by commas")
    if options.rounds < 1 or options.threads < 1 or options.max_steps < 1 or options.seconds <= 0:
        parser.error("--rounds, --threads, --max-steps and --seconds are at least 1, --seconds more than 0")
    return options


def main():
    options = parse()
    build = library_folder(options)
    if options.plan:
        records = [record for workload in options.workloads if workload != "optimizer"
                   for record in plan(workload, options.plan, options, build)]
    else:
        python = peer_python(options) if options.peers else None
        records = [measure_start(options, build)]
        parts = {"optimizer": ["optimizer-adamw", "optimizer-sgd"]}
        names = [name for one in options.workloads for name in parts.get(one, [one])]
        for workload in names:
            sides = measure(workload, options, build, python)
            measured = records_of(sides, measure_matmul(options, python) if workload in GPU_WORKLOADS else None)
            show(workload, sides, measured)
            records += measured
    if options.json:
        Path(options.json).write_text("".join(json.dumps(record) + "\n" for record in records))
        print(f"written: {options.json}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
