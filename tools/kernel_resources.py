#!/usr/bin/env python3
"""Registers, shared memory and spills of every kernel, as ptxas tells them.

kernel_resources.py compile NVCC ARGUMENTS...   runs the compiler and keeps what ptxas says beside the object that it writes;
                                                CMake calls it so for each file (CUDA_COMPILER_LAUNCHER)
kernel_resources.py table OBJECT...             prints the table; status 1 if a kernel keeps registers in memory (spills) or
                                                nothing is known of an object; objects of other languages are left out
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUFFIX = ".resources"
ENTRY = re.compile(r"ptxas info\s*: Compiling entry function '(\S+)' for '(sm_\w+)'")
FUNCTION = re.compile(r"ptxas info\s*: Function properties for (\S+)")
STACK = re.compile(r"\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"ptxas info\s*: Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def resources_in(text):
    """One record for each kernel, and for each function that a kernel calls, with the architecture that it is compiled for."""
    records, entry, arch, record = [], None, None, None
    for line in text.splitlines():
        if found := ENTRY.match(line):
            entry, arch = found.groups()
        elif found := FUNCTION.match(line):
            record = {"name": found[1], "arch": arch, "kernel": found[1] == entry, "registers": None, "shared": 0}
            records.append(record)
        elif (found := STACK.match(line)) and record is not None:
            record["stack"], record["spill_stores"], record["spill_loads"] = map(int, found.groups())
        elif (found := USED.match(line)) and record is not None:
            record["registers"] = int(found[1])
            shared = SHARED.search(line)
            record["shared"] = int(shared[1]) if shared else 0
    return records


def is_of_ptxas(line):
    return line.startswith("ptxas info") or STACK.match(line) is not None


def compile_file(argv):
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    told = done.stdout + done.stderr
    for text, stream in ((done.stdout, sys.stdout), (done.stderr, sys.stderr)):
        for line in text.splitlines(keepends=True):
            if not is_of_ptxas(line):
                stream.write(line)
    if done.returncode == 0 and "-o" in argv[:-1]:
        at = Path(argv[argv.index("-o") + 1] + SUFFIX)
        at.write_text(json.dumps(resources_in(told)) + "\n")
    return done.returncode


def readable(names):
    """The names as C++ has them, without arguments."""
    if names and shutil.which("c++filt"):
        done = subprocess.run(["c++filt"], input="\n".join(names) + "\n", capture_output=True, text=True, check=False)
        if done.returncode == 0 and len(done.stdout.splitlines()) == len(names):
            return [without_arguments(line) for line in done.stdout.splitlines()]
    return names


def without_arguments(name):
    name = name.replace("(anonymous namespace)::", "").removeprefix("void ").replace("mpt::cuda::", "")
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:at]
    return name


def table(objects):
    objects = [Path(name) for name in objects if re.search(r"\.cu\.(o|obj)$", name)]
    problems, rows = [], []
    if not objects:
        problems.append("found no object of a CUDA file, expected names that end with .cu.o")
    for path in objects:
        try:
            records = json.loads(Path(f"{path}{SUFFIX}").read_text())
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: nothing is known of its kernels: {error}")
            continue
        for record, name in zip(records, readable([record["name"] for record in records])):
            spills = record.get("spill_stores", 0) + record.get("spill_loads", 0)
            if record["kernel"]:
                rows.append((path.name.split(".")[0], name, record["arch"], record["registers"], record["shared"],
                             record.get("stack", 0), spills))
            if spills:
                problems.append(f"{path.name}: {name} for {record['arch']} spills: {record['spill_stores']} bytes of stores, "
                                f"{record['spill_loads']} bytes of loads")
    head = ("file", "kernel", "for", "registers", "shared", "stack", "spills")
    cells = [head, *(tuple(map(str, row)) for row in sorted(rows, key=lambda row: row[:3]))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))))
    print(f"{len(rows)} kernels, {len(problems)} problems")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def main():
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "compile" and arguments:
        return compile_file(arguments)
    if command == "table":
        return table(arguments)
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
