"""The steps of ./dev gpu."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_run import Step, Wrong

ROOT = Path(__file__).resolve().parent.parent
ON_GPU = {"MPT_TEST_DEVICE": "cuda"}
TARGETS = ["mpt", "mpt_cuda", "test_ops", "test_cuda_device", "test_end_to_end", "compare_precisions", "first_steps",
           "bench_training", "bench_optimizer"]

# The demo's curves, on a network that the reference backend, double arithmetic in plain loops, gets through in a minute.
CURVE_STEPS = 30
CURVE_SETTINGS = ["layers=2", "width=16", "heads=2", "context=16", "batch=8", "warmup=4"]
CURVE_TOKENS = 16 * 8
# Both the CPU's and the GPU's curve leave the one in double arithmetic by roundings alone, which come in another order but are of
# the same size and number: so their distances from it are two draws from one distribution. Training amplifies a rounding the
# same on both. A factor of 4 between two such draws leaves room for luck and none for an error, which is larger by powers of ten.
CURVE_FACTOR = 4
# A distance may be small by luck. What it is not expected to be below: a rounding of each token's loss to the storage type, which
# the mean over the tokens makes smaller by the root of their number; in FP32 that of the loss itself.
CURVE_FLOOR = {"fp32": 2.0**-22, "fp16": 2.0**-11 / math.sqrt(CURVE_TOKENS), "bf16": 2.0**-8 / math.sqrt(CURVE_TOKENS)}

SANITIZER_CASES = 4  # of each op
SANITIZER_CHUNK = 24  # cases in a process
# Only our own kernels answer for their shared memory: NVIDIA's libraries copy into it asynchronously by means that racecheck
# does not know in full.
LIBRARY_OPS = {"matmul", "batched", "linear", "attention"}

BENCH_PRECISIONS = "fp32,fp16,bf16"


def files_with_cases(folder):
    """The test files of a folder that hold cases, by stem; the mark is the one that tests/CMakeLists.txt goes by."""
    return [path.stem for path in sorted((ROOT / "tests" / folder).glob("*.cpp")) if "TEST_CASE" in path.read_text()]


def judge_doctest(output):
    found = re.search(r"\[doctest\] test cases: +(\d+) \| +(\d+) passed", output)
    if not found or int(found[1]) == 0:
        raise Wrong("no test case was run")
    assertions = re.search(r"\[doctest\] assertions: +(\d+)", output)
    return [("test cases", int(found[1]), ""), ("assertions", int(assertions[1]) if assertions else 0, "")]


def doctest_steps(build, program, folder, names, limit):
    return [Step(f"{folder} {name}", [build / "tests" / program, f"--source-file=*tests/{folder}/{name}.cpp"], limit, ON_GPU,
                 judge_doctest) for name in names]


def configure_and_build(cmake, build, options):
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    return [
        Step("configure", [cmake, *generator, "-S", ".", "-B", build, f"-DMPT_PYTHON={sys.executable}", *options], 120),
        Step("build", [cmake, "--build", build, "--target", *TARGETS, "-j", str(os.cpu_count() or 1)], 540),
    ]


def correctness(build, out, python):
    library = ROOT / "tests/cuda/library/test_library.py"
    steps = [Step("library", [python, library, "--library", build / "libmpt.so", "--cuda-library", build / "libmpt_cuda.so"]),
             Step("first steps", [build / "examples/first_steps"], 60)]
    steps += doctest_steps(build, "test_cuda_device", "cuda", ["contract_blas", "contract_dnn", "flat_passes"], 240)
    steps += doctest_steps(build, "test_ops", "ops", files_with_cases("ops"), 300)
    steps += doctest_steps(build, "test_end_to_end", "end_to_end", files_with_cases("end_to_end"), 300)
    steps += curve_steps(build, out)
    return steps


def demo(build, folder, device, *arguments):
    return [build / "examples/compare_precisions", "--device", device, "--ablation", "none", "--out", folder, *arguments]


def curve_steps(build, out):
    """The demo trains on the GPU, on the CPU and in double arithmetic; then in its own size on the GPU."""
    folders = {device: build / f"curves/{device.split(':')[0]}" for device in ("reference", "cpu", "cuda:0")}
    small = ["--precision", BENCH_PRECISIONS, "--steps", str(CURVE_STEPS), *settings(CURVE_SETTINGS)]
    command = [sys.executable, __file__, "curves", *folders.values()]
    script = " && ".join(quoted(demo(build, folder, device, *small)) for device, folder in folders.items())
    return [
        Step("demo: curves agree with the CPU's", ["bash", "-c", f"{script} && {quoted(command)}"], 400, {}, read_figures),
        Step("demo: trains in every precision", ["bash", "-c", quoted(demo(build, build / "curves/whole", "cuda:0", "--steps",
             "300")) + f" && {quoted([sys.executable, __file__, 'losses', build / 'curves/whole'])}"], 300, {}, read_figures),
    ]


def quoted(argv):
    return shlex.join(map(str, argv))


def settings(values):
    return [argument for value in values for argument in ("--set", value)]


def read_report(folder):
    return {run["name"]: run for run in json.loads((Path(folder) / "report.json").read_text())["runs"]}


def distance(a, b):
    """The largest relative difference of two curves; infinite where a loss is missing or they are of other lengths."""
    if len(a) != len(b) or not a or None in a or None in b:
        return math.inf
    return max(abs(x - y) / abs(y) for x, y in zip(a, b))


def compare_curves(reference, cpu, device):
    """Figures; raises Wrong where the device is further from double arithmetic than roundings take it."""
    exact, host, there = read_report(reference), read_report(cpu), read_report(device)
    figures, wrong = [], []
    for name, run in exact.items():
        of_cpu, of_device = distance(host[name]["loss"], run["loss"]), distance(there[name]["loss"], run["loss"])
        limit = CURVE_FACTOR * max(of_cpu, CURVE_FLOOR[run["precision"]])
        figures.append((f"{name}: distance", f"{of_device:.2e} (CPU's {of_cpu:.2e}, at most {limit:.2e})", ""))
        if not of_device <= limit:
            wrong.append(f"{name}: losses are off by {of_device:.2e}, expected at most {limit:.2e}")
    if wrong:
        raise Wrong("; ".join(wrong))
    return figures


def check_losses(folder):
    """Every run of the demo learns."""
    figures = []
    for name, run in read_report(folder).items():
        first, last = run["loss"][0], run["loss"][-1]
        figures.append((f"{name}: validation loss", run["val_loss"], ""))
        figures.append((f"{name}: step", run["ms_per_step"], "ms"))
        # Its guess at the beginning is one in 256 bytes: 5.5; that text is not uniform alone brings it under 4.
        if last is None or run["val_loss"] is None or not (last < 4 and run["val_loss"] < 4):
            raise Wrong(f"{name}: the loss went from {first} to {last} (validation {run['val_loss']}), expected less than 4")
    return figures


def read_figures(output):
    """What this file prints as a program: the last line, as JSON."""
    return [tuple(figure) for figure in json.loads(output.splitlines()[-1])]


# Sanitizers


def some_cases(listed, count):
    """The first cases of every op from doctest's list; a case's name begins with its op's."""
    chosen = {}
    for name in listed.splitlines():
        if name and not name.startswith(("[doctest]", "===")):
            chosen.setdefault(name.split()[0], []).append(name)
    return [name for names in chosen.values() for name in names[:count]]


def pattern(names):
    return "-tc=" + ",".join(name.replace(",", "?").replace("\\", "?") for name in names)


def sanitizer_of(nvcc):
    beside = nvcc.parent / "compute-sanitizer" if nvcc else None
    return shutil.which("compute-sanitizer") or (str(beside) if beside and beside.exists() else None)


def sanitizers(build, nvcc):
    tool = sanitizer_of(nvcc)

    def needs():
        return None if tool else "compute-sanitizer is neither on the path nor beside nvcc"

    def under(check, *argv, limit=150, name, judge=None, env=ON_GPU):
        return Step(f"{check}: {name}", [tool or "compute-sanitizer", "--tool", check, "--error-exitcode", "99", *argv], limit,
                    env, judge, needs)

    listed = subprocess.run([build / "tests/test_ops", "-ltc"], capture_output=True, text=True, check=True).stdout
    cases = some_cases(listed, SANITIZER_CASES)
    training = demo(build, build / "curves/sanitized", "cuda:0", "--precision", "fp16,bf16", "--steps", "4",
                    *settings(CURVE_SETTINGS))
    passes = [build / "tests/test_cuda_device", "-tc=flat passes: an update*,flat passes: the check*,flat passes: averages*"]
    steps = []
    for check in ("memcheck", "racecheck", "synccheck"):
        chosen = [name for name in cases if check != "racecheck" or name.split()[0] not in LIBRARY_OPS]
        if check != "racecheck":
            steps.append(under(check, *training, name="training", limit=180, env={}))
        steps.append(under(check, *passes, name="flat passes", judge=judge_doctest))
        for begin in range(0, len(chosen), SANITIZER_CHUNK):
            part = chosen[begin:begin + SANITIZER_CHUNK]
            steps.append(under(check, build / "tests/test_ops", pattern(part), judge=judge_doctest,
                               name=f"ops {part[0].split()[0]} to {part[-1].split()[0]} ({begin + 1}-{begin + len(part)})"))
    return steps


# Figures


def figures(build, out, python):
    def bench(name, *arguments, limit=150):
        path = build / f"bench/{name}.json"
        argv = [python, "bench/run.py", *arguments, "--device", "cuda:0", "--build", build, "--json", path]
        return Step(name, argv, limit, {}, lambda _: read_bench(path), None, [path])

    return [
        bench("gpt2-124m", "gpt2-124m", "--peers", "--rounds", "3", "--precision", BENCH_PRECISIONS, limit=270),
        bench("optimizer 124M", "optimizer", "--peers", "--parameters", "124e6", "--rounds", "3", limit=100),
        bench("optimizer 1B", "optimizer", "--peers", "--parameters", "1e9", "--rounds", "3", limit=150),
        bench("gpt and mlp", "gpt", "mlp", "--peers", "--rounds", "5", limit=150),
    ]


def read_bench(path):
    """The figures of bench/run.py's JSON lines."""
    found = []
    for line in Path(path).read_text().splitlines():
        r = json.loads(line)
        side = r.get("peer") or "libmpt"
        name = f"{r['workload']} {r.get('precision', '')} {side}".replace("  ", " ")
        found.append((f"{name}: time", r["ms_median"], "ms"))
        for key, unit in (("ratio", "of the peer's time"), ("ratio_own_fp32", "of own fp32's time"),
                          ("tokens_per_s", "tokens/s"), ("model_tflops", "TFLOP/s of the model"),
                          ("share_of_matmul", "of a matrix multiply's rate"), ("gb_per_s", "GB/s"),
                          ("share_of_copy", "of a copy's rate"), ("device_bytes", "bytes on the device")):
            if r.get(key) is not None:
                found.append((f"{name}: {key}", r[key], unit))
    return found


def main():
    command, *folders = sys.argv[1:]
    try:
        print(json.dumps(compare_curves(*folders) if command == "curves" else check_losses(*folders)))
    except Wrong as wrong:
        sys.exit(str(wrong))


if __name__ == "__main__":
    main()
