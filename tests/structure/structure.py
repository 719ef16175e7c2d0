"""Checks how the sources are laid out: python3 structure.py CHECKOUT [CHECK...]

Each function named check_* is one check; it yields a line for each thing that is not as it should be.
"""

import re
import subprocess
import sys
from pathlib import Path

# What each folder of src/ may include, beside itself, the public header and kernels/numerics. The dependency direction is
# api -> runtime -> passes -> {ops, backend.h} -> graph -> core.
BELOW_PASSES = {"ops", "backend", "graph", "core"}
BELOW_RUNTIME = BELOW_PASSES | {"passes"}
MAY_INCLUDE = {
    "core": set(),
    "graph": {"core"},
    "ops": {"graph", "core"},
    "backend": {"graph", "core"},
    "backend/": {"backend", "ops", "graph", "core"},
    "passes": BELOW_PASSES,
    "io": {"core"},
    "comm": {"core"},
    "runtime": BELOW_RUNTIME | {"io", "comm"},
    "diagnose": BELOW_RUNTIME | {"runtime"},
    "api": BELOW_RUNTIME | {"runtime", "io", "comm", "diagnose"},
}
# Third-party headers that only one room knows.
CONFINED = {"dnnl": "src/backend/cpu/", "oneapi/dnnl": "src/backend/cpu/", "nlohmann/": "src/io/"}

PUBLIC_HEADERS = {"mpt.h", "mpt_cuda.h"}
LONGEST_FILE = 800
MAY_BE_LONGER = {"include/mpt.h"}
SOURCE_SUFFIXES = {".c", ".h", ".cpp", ".hpp", ".inc", ".cu", ".cuh", ".py", ".cmake", ".map", ".in", ".sh", ".i"}
SOURCE_NAMES = {"dev", "CMakeLists.txt", "run"}
# Written so that this file does not hold what it looks for.
UNFINISHED = re.compile("TO" + "DO|FIX" + r"ME|\bXX" + r"X\b")
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:home|root|work|tmp/w|Users|mnt)/[\w.-]+")


def tracked_files(root):
    """The files of the repository; all files where it is no git checkout."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
                            capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.splitlines()
    else:
        names = [str(path.relative_to(root)) for path in root.rglob("*")
                 if not {".git", "build", ".venv"} & set(path.relative_to(root).parts)]
    return sorted(name for name in names if (root / name).is_file())


def sources(root):
    return [name for name in tracked_files(root)
            if Path(name).suffix in SOURCE_SUFFIXES or Path(name).name in SOURCE_NAMES]


def native_sources(root, folder):
    return [name for name in sources(root)
            if name.startswith(folder) and Path(name).suffix in {".c", ".h", ".cpp", ".hpp", ".inc"}]


def lines_of(root, name):
    return (root / name).read_text(encoding="utf-8", errors="replace").splitlines()


def layer(path):
    """The layer of a file that is named relative to src/. A backend's own folder is a layer of its own: 'backend/cpu'."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "backend" and len(parts) > 2 else parts[0]


def check_includes(root):
    """Includes follow the dependency direction, and no header includes itself by a detour."""
    graph = {}
    for name in native_sources(root, "src/"):
        path = name.removeprefix("src/")
        here = layer(path)
        allowed = MAY_INCLUDE.get("backend/" if here.startswith("backend/") else here)
        if allowed is None:
            yield f"{name}: the folder src/{here}/ has no layer"
            continue
        graph[path] = []
        for number, line in enumerate(lines_of(root, name), 1):
            include = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if not include:
                continue
            bracket, target = include.groups()
            for prefix, room in CONFINED.items():
                if target.startswith(prefix) and not name.startswith(room):
                    yield f"{name}:{number}: includes {target}, which only {room} may"
            if bracket == "<" or target in PUBLIC_HEADERS or target.startswith("kernels/numerics/"):
                continue
            if target.startswith("kernels/") and here == "backend/cuda":
                continue
            if not (root / "src" / target).exists():
                yield f"{name}:{number}: includes {target}, and there is no src/{target}"
                continue
            graph[path].append(target)
            there = layer(target)
            if there != here and there not in allowed:
                yield f"{name}:{number}: src/{here}/ may not include {target}"
    yield from cycles(graph)


def cycles(graph):
    done = set()

    def visit(path, above):
        if path in above:
            yield "include cycle: " + " -> ".join([*above[above.index(path):], path])
        elif path not in done:
            for target in graph.get(path, []):
                yield from visit(target, [*above, path])
            done.add(path)

    for path in graph:
        yield from visit(path, [])


def check_numerics(root):
    """The functions that host and device share include nothing of the library but each other."""
    for name in native_sources(root, "kernels/numerics/"):
        for number, line in enumerate(lines_of(root, name), 1):
            include = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if include and not include[1].startswith("kernels/numerics/") and include[1] != "mpt.h":
                yield f"{name}:{number}: includes {include[1]}"


def check_length(root):
    """A file has one job and reads in one sitting."""
    for name in sources(root):
        length = len(lines_of(root, name))
        if length > LONGEST_FILE and name not in MAY_BE_LONGER:
            yield f"{name}: {length} lines, at most {LONGEST_FILE} are allowed"


def check_words(root):
    """Nothing is left unfinished, and nothing speaks of one machine."""
    for name in sources(root):
        for number, line in enumerate(lines_of(root, name), 1):
            for what, pattern in (("unfinished work", UNFINISHED), ("a path of one machine", MACHINE_PATH)):
                found = pattern.search(line)
                if found:
                    yield f"{name}:{number}: {what}: {found[0]}"


def check_headers(root):
    """Headers of the library can be included twice; public ones by C programs of any age."""
    for folder in ("src/", "kernels/", "tests/"):
        for name in native_sources(root, folder):
            if name.endswith(".h") and "#pragma once" not in lines_of(root, name):
                yield f"{name}: no '#pragma once'"
    for name in native_sources(root, "include/"):
        if not any(line.startswith(("#ifndef MPT_", "#pragma once")) for line in lines_of(root, name)):
            yield f"{name}: no include guard"


def check_own_header(root):
    """x.cpp includes x.h before anything else: so each header is seen to need no other before it."""
    for name in native_sources(root, "src/"):
        header = str(Path(name).with_suffix(".h"))
        if not name.endswith(".cpp") or not (root / header).exists():
            continue
        includes = (re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line) for line in lines_of(root, name))
        first = next((include[1] for include in includes if include), "nothing")
        if first != header.removeprefix("src/"):
            yield f"{name}: includes {first} first, expected {header.removeprefix('src/')}"


def check_layout(root):
    """Text files hold no tabs and no trailing blanks, and end with a newline."""
    for name in sources(root):
        text = (root / name).read_text(encoding="utf-8", errors="replace")
        if text and not text.endswith("\n"):
            yield f"{name}: no newline at the end"
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                yield f"{name}:{number}: blanks at the end of the line"
            if "\t" in line:
                yield f"{name}:{number}: a tab"


CHECKS = {name[len("check_"):]: function for name, function in list(globals().items()) if name.startswith("check_")}


def main():
    root = Path(sys.argv[1]).resolve()
    found = 0
    for check in sys.argv[2:] or CHECKS:
        for line in CHECKS[check](root):
            print(f"{check}: {line}")
            found += 1
    print(f"{found} found")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
