#!/usr/bin/env python3
"""What ./dev gpu and ./dev gpu-kit do: everything that needs an NVIDIA GPU, in stages, and the files that a machine with a GPU but
without a network lacks. It asks nothing of the network and of the system's packages."""

import argparse
import os
import shutil
import sys
from pathlib import Path

import gpu_stages
from gpu_machine import (
    ROOT,
    Missing,
    cmake_options,
    find_gpu,
    find_libraries,
    find_nvcc,
    find_torch_python,
    make_kit,
)
from gpu_run import FAILED, PASSED, SKIPPED, Run

BUILD = ROOT / "build/gpu"
STAGES = ("build", "correctness", "sanitizers", "figures")
DEFAULT_MINUTES = 9.5


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./dev gpu", description="Builds for the GPU of this machine, then tests and measures on "
                                     "it. Goes on after a failure and ends with a summary.")
    parser.add_argument("--stage", action="append", default=[], metavar="NAME",
                        help=f"{', '.join(STAGES)}; may be repeated; default: all, one after another")
    parser.add_argument("--kit", help="folder that ./dev gpu-kit has made")
    parser.add_argument("--out", default="build/gpu-results", help="folder for summary.md, results.json and logs; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="limit of each stage; default: %(default)s")
    parser.add_argument("--python", help="the Python that holds PyTorch; default: this one, python3, or .venv's")
    options = parser.parse_args(arguments)
    options.stage = [name for given in options.stage for name in given.split(",")] or list(STAGES)
    for name in options.stage:
        if name not in STAGES:
            parser.error(f"--stage: found {name}, expected one of {', '.join(STAGES)}")
    if not options.minutes > 0:
        parser.error("--minutes: expected more than 0")
    if options.kit and not Path(options.kit, "kit.json").exists():
        parser.error(f"--kit: {options.kit} is no folder that ./dev gpu-kit has made")
    return options


def run(arguments):
    options = parse(arguments)
    gpu = find_gpu()
    nvcc = find_nvcc()
    holder, packages = find_torch_python([options.python, sys.executable, shutil.which("python3"), ROOT / ".venv/bin/python"])
    libraries = find_libraries(nvcc, packages)
    kit = Path(options.kit).resolve() if options.kit else None
    run_of = Run(ROOT, Path(options.out).resolve(), options.minutes, lambda text: print(text, flush=True))
    run_of.machine = {
        "GPU": f"{gpu['name']} (sm_{gpu['architecture']})",
        "driver": f"{gpu['driver'] or 'version unknown'}, for CUDA {gpu['driver_cuda']}",
        "CUDA compiler": nvcc.resolve(), "cuBLASLt": libraries["cublaslt"].resolve(),
        "cuDNN": libraries["cudnn"].resolve() if libraries["cudnn"] and libraries["cudnn_header"] else "not found",
        "Python with PyTorch": holder or "none: libmpt is measured alone",
        "processor cores": os.cpu_count(),
    }
    run_of.machine = {name: str(value) for name, value in run_of.machine.items()}
    for name, value in run_of.machine.items():
        print(f"{name}: {value}")
    cmake = shutil.which("cmake")
    if cmake is None:
        raise Missing("found no cmake on the path")
    stages = list(dict.fromkeys(options.stage))
    built = all((BUILD / "tests" / name).exists() for name in ("test_ops", "test_cuda_device", "test_end_to_end"))
    if not built and "build" not in stages:
        stages.insert(0, "build")
    python = holder or sys.executable
    jobs = max(1, min(4, (os.cpu_count() or 1) // 2))
    if "build" in stages:
        options_of_cmake = cmake_options(nvcc, gpu, libraries, kit, BUILD)
        run_of.stage("build", lambda: gpu_stages.configure_and_build(cmake, BUILD, options_of_cmake))
    if "correctness" in stages:
        run_of.stage("correctness", lambda: gpu_stages.correctness(BUILD, run_of.out, python), jobs)
    if "sanitizers" in stages:
        run_of.stage("sanitizers", lambda: gpu_stages.sanitizers(BUILD, nvcc), jobs)
    if "figures" in stages:
        run_of.stage("figures", lambda: gpu_stages.figures(BUILD, run_of.out, python))
    print(f"\n{run_of.summary()}\nWritten: {run_of.out}/summary.md, results.json and a log of each stage")
    print(f"{run_of.count(PASSED)} passed, {run_of.count(FAILED)} failed, {run_of.count(SKIPPED)} not run")
    return 0 if run_of.count(PASSED) == len(run_of.results) else 1


def kit(arguments):
    parser = argparse.ArgumentParser(prog="./dev gpu-kit", description="Collects what a GPU machine without a network lacks: the "
                                     "headers of doctest, nlohmann-json, oneTBB and cuDNN's frontend, and oneTBB's library.")
    parser.add_argument("folder", metavar="DIR", help="folder for it, new or a kit to be made again")
    options = parser.parse_args(arguments)
    packages = sorted((ROOT / ".venv/lib").glob("python3*/site-packages"))
    count, total = make_kit(options.folder, packages)
    print(f"{options.folder}: {count} files, {total / 1e6:.1f} MB. On the GPU machine: ./dev gpu --kit {options.folder}")
    return 0


def main():
    commands = {"run": run, "kit": kit}
    try:
        return commands[sys.argv[1]](sys.argv[2:])
    except Missing as missing:
        print(f"dev: {missing}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
