"""Checks of the C ABI that need no running program.

    abi.py languages      mpt.h and mpt.hpp compile without warnings in every language and with every compiler found
    abi.py documentation  every function of mpt.h is documented
    abi.py exports LIB    the library exports what the header declares and exports.txt lists, and nothing else
    abi.py layout         sizes, offsets and constants are those of layout.c, which names all that the header has
    abi.py binary         abidiff finds no difference to mpt.abi, and does find one in headers that break the ABI
    abi.py renew          writes exports.txt, layout.c and mpt.abi anew and new structs into first_sizes.txt, after a change
                          of mpt.h that adds; look at the difference
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import binary
from header import Header

HERE = Path(__file__).parent
INCLUDE = HERE.parent.parent / "include"
PUBLIC = (INCLUDE / "mpt.h", INCLUDE / "mpt_cuda.h")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]

# Functions without a comment of their own: what is said of all of them, and where.
GROUPS = {
    "element-wise; shapes broadcast as in NumPy": ["mpt_add", "mpt_sub", "mpt_mul", "mpt_div", "mpt_relu", "mpt_leaky_relu", "mpt_sigmoid", "mpt_tanh", "mpt_exp", "mpt_log", "mpt_sqrt", "mpt_square"],
    "softmax, norms, attention, embedding": ["mpt_softmax", "mpt_log_softmax"],
    "shape; no arithmetic": ["mpt_concat"],
    "keep: reduced axes stay with size 1": ["mpt_mean"],
    "a network as described: ops, shapes, named dimensions": ["mpt_model_create"],
    "loss-scaler state": ["mpt_scaler_get_state"],
    "at the last sampled update": ["mpt_optimizer_statistics"],
    "Bytes by class, planned": ["mpt_plan_memory"],
}


def run(command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def compilers():
    found = []
    for c, cxx in (("gcc", "g++"), ("clang", "clang++")):
        if shutil.which(c) and shutil.which(cxx):
            found.append((c, cxx))
    return found


def check_languages():
    program = "int main(void) { return mpt_version() == 0 || MPT_OK != 0; }\n"
    cases = []
    for c, cxx in compilers():
        cases += [(c, "c", "c99", '#include "mpt.h"\n' + program, []), (c, "c", "c11", '#include "mpt.h"\n' + program, []),
                  (cxx, "c++", "c++11", '#include "mpt.h"\nint main() { return mpt_version() == nullptr; }\n', []),
                  (cxx, "c++", "c++20", '#include "mpt.h"\nint main() { return mpt_version() == nullptr; }\n', []),
                  (c, "c", "c89", '#include "mpt.h"\n' + program, ["-Wno-long-long"]),
                  (c, "c", "c99", '#include "mpt_cuda.h"\n' + program, []),
                  (cxx, "c++", "c++11", '#include "mpt_cuda.h"\nint main() { return mpt_version() == nullptr; }\n', []),
                  (cxx, "c++", "c++11", '#include "mpt.hpp"\nint main() { return 0; }\n', []),
                  (cxx, "c++", "c++20", '#include "mpt.hpp"\nint main() { return 0; }\n', [])]
    if not cases:
        yield "no compiler was found"
    for compiler, language, standard, source, more in cases:
        done = run([compiler, "-x", language, f"-std={standard}", *WARNINGS, *more, f"-I{INCLUDE}", "-fsyntax-only", "-"],
                   input=source)
        if done.returncode != 0:
            yield f"{compiler} -std={standard} of {source.splitlines()[0]}:\n{done.stderr}"


def check_documentation():
    header = Header(*PUBLIC)
    covered = set()
    for text, names in GROUPS.items():
        if text not in header.text:
            yield f"the header does not say '{text}', which documents {', '.join(names)}"
        covered.update(names)
    for name in header.undocumented():
        # Of these two kinds the conventions on the first page tell everything.
        if name not in covered and not name.endswith(("_init", "_destroy")):
            yield f"{name} has no comment"
    for name in covered - set(header.undocumented()):
        yield f"{name} has a comment of its own: take it out of GROUPS"


def exported(library):
    done = run(["nm", "-D", "--defined-only", "--format=posix", library])
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    names = [line.split()[0].split("@")[0] for line in done.stdout.splitlines()]
    return [name for name in names if not re.fullmatch(r"MPT_[\d.]+|LIBMPT_[\d.]+", name)]  # the version's own symbol


def check_exports(library):
    declared = set(Header(*PUBLIC).prototypes())
    listed = (HERE / "exports.txt").read_text().split()
    if listed != sorted(set(listed)):
        yield "exports.txt is not sorted"
    found = set(exported(library))
    for what, a, b in (("declared in the headers, not in exports.txt", declared, set(listed)),
                       ("in exports.txt, not declared in the headers", set(listed), declared),
                       ("declared in the headers, not exported", declared, found),
                       ("exported, not declared in the headers", found, declared)):
        for name in sorted(a - b):
            yield f"{name} is {what}"


def layout_expressions(header):
    """(C expression, where it stands) for all that may never change."""
    for name in header.scalar_types():
        yield f"sizeof({name})"
    for name, members in header.structs().items():
        yield f"sizeof({name})"
        for member in members:
            yield f"offsetof({name}, {member})"
            yield f"sizeof((({name} *)0)->{member})"
    for name in header.constants():
        yield name


def layout_text(values):
    lines = ["/* The layout of what mpt.h defines, on 64-bit platforms: written by abi.py renew, and for ever. A line that no",
             " * longer compiles is a break of the ABI; members and constants may only be added. */",
             "/* clang-format off */", '#include "mpt_cuda.h"', "",
             "#define SAME(line, expression, value) typedef char same_##line[(expression) == (value) ? 1 : -1]", ""]
    for number, (expression, value) in enumerate(values, 1):
        lines.append(f"SAME({number}, {expression}, {value});")
    return "\n".join(lines) + "\n"


def measured_layout():
    expressions = list(layout_expressions(Header(*PUBLIC)))
    source = '#include "mpt_cuda.h"\n#include <stdio.h>\nint main(void) {\n' + "".join(
        f'  printf("%lld\\n", (long long)({e}));\n' for e in expressions) + "  return 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        done = run(["gcc", "-x", "c", "-std=c99", f"-I{INCLUDE}", "-o", f"{folder}/layout", "-"], input=source)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        values = run([f"{folder}/layout"]).stdout.split()
    return list(zip(expressions, values, strict=True))


def check_layout():
    golden = HERE / "layout.c"
    for c, cxx in compilers():
        for command in ([c, "-x", "c", "-std=c99"], [cxx, "-x", "c++", "-std=c++11"]):
            done = run([*command, f"-I{INCLUDE}", "-fsyntax-only", golden])
            if done.returncode != 0:
                yield f"{' '.join(command)}:\n{done.stderr}"
    pinned = {match.group(1) for match in re.finditer(r"^SAME\(\d+, (.*), -?\d+\);$", golden.read_text(), flags=re.MULTILINE)}
    for expression in layout_expressions(Header(*PUBLIC)):
        if expression not in pinned:
            yield f"{expression} is not in layout.c: add it with abi.py renew"


def renew_first_sizes(layout):
    """Adds structs that are new; a size that is there was the first one and stays."""
    path = HERE / "first_sizes.txt"
    first = dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}
    for name, members in Header(*PUBLIC).structs().items():
        if members[0] == "struct_size":
            first.setdefault(name, layout[f"sizeof({name})"])
    path.write_text("".join(f"{name} {size}\n" for name, size in sorted(first.items())))


def renew():
    names = sorted(Header(*PUBLIC).prototypes())
    (HERE / "exports.txt").write_text("\n".join(names) + "\n")
    layout = measured_layout()
    (HERE / "layout.c").write_text(layout_text(layout))
    renew_first_sizes(dict(layout))
    if binary.tools_missing():
        yield f"mpt.abi was not written, for these are missing: {', '.join(binary.tools_missing())}"
    else:
        binary.renew()


CHECKS = {"languages": check_languages, "documentation": check_documentation, "exports": check_exports,
          "layout": check_layout, "binary": binary.check, "renew": renew}


def main():
    if sys.argv[1] == "binary" and binary.tools_missing():
        print(f"missing: {', '.join(binary.tools_missing())} (Debian: abigail-tools)")
        return binary.NOT_INSTALLED
    problems = list(CHECKS[sys.argv[1]](*sys.argv[2:]))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
