"""The binary interface as libabigail sees it: of a small library made of empty functions with the header's prototypes, so that
nothing but the header can change it."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from header import Header

HERE = Path(__file__).parent
BASELINE = HERE / "mpt.abi"
INCLUDE = HERE.parent.parent / "include"
NOT_INSTALLED = 77  # the test is told as skipped


def tools_missing():
    return [tool for tool in ("abidw", "abidiff", "gcc") if not shutil.which(tool)]


def run(command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def make_library(header_text, folder):
    """A shared library of empty functions. Locations stay in the debug information: abidiff passes anything without."""
    include = folder / "include"
    include.mkdir()
    (include / "mpt.h").write_text(header_text)
    shutil.copy(INCLUDE / "mpt_cuda.h", include)
    header = Header(include / "mpt.h", include / "mpt_cuda.h")
    functions = [f"{prototype} {{ {'' if header.functions()[name][0] == 'void' else 'return 0; '}}}"
                 for name, prototype in header.prototypes().items()]
    (folder / "empty.c").write_text('#include "mpt_cuda.h"\n' + "\n".join(functions) + "\n")
    library = folder / "libmpt.so"
    done = run(["gcc", "-std=c99", "-g", "-shared", "-fPIC", f"-ffile-prefix-map={folder}/=", f"-fdebug-prefix-map={folder}=.",
                f"-I{include}", "-o", library, folder / "empty.c"])
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return library, include


def dump(header_text):
    with tempfile.TemporaryDirectory() as name:
        library, include = make_library(header_text, Path(name))
        done = run(["abidw", "--headers-dir", include, "--drop-private-types", "--no-architecture", "--no-corpus-path",
                    "--no-comp-dir-path", "--no-elf-needed", "--type-id-style", "hash", library])
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        # Where the C library keeps its integer types is no part of ours.
        return re.sub(r" filepath='/[^']*' line='\d+' column='\d+'", "", done.stdout)


def differences(header_text):
    """What abidiff has to say of a header against the baseline; empty if it is the same."""
    with tempfile.TemporaryDirectory() as name:
        library, include = make_library(header_text, Path(name))
        done = run(["abidiff", "--headers-dir1", include, "--headers-dir2", include, "--no-architecture", BASELINE, library])
        return "" if done.returncode == 0 else f"abidiff ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def replaced(text, old, new):
    if text.count(old) != 1:
        raise ValueError(f"mpt.h has '{old}' {text.count(old)} times, expected once: choose another place to break")
    return text.replace(old, new)


def broken_copies(text):
    """Headers that break the ABI, each in another way."""
    yield "a member is inserted", replaced(text, "  double weight_a, weight_b;\n", "  int64_t inserted;\n  double weight_a, weight_b;\n")
    yield "a member has another type", replaced(text, "  double initial_scale; ", "  float initial_scale; ")
    yield "a parameter has another type", replaced(text, "mpt_dropout(mpt_model *model, mpt_tensor x, double rate)",
                                                   "mpt_dropout(mpt_model *model, mpt_tensor x, float rate)")
    yield "a parameter is added", replaced(text, "mpt_relu(mpt_model *model, mpt_tensor x)",
                                           "mpt_relu(mpt_model *model, mpt_tensor x, int32_t more)")
    yield "a function is gone", replaced(text, "MPT_API const char *mpt_version(void);\n", "")
    yield "an integer type is wider", replaced(text, "typedef int32_t mpt_tensor;", "typedef int64_t mpt_tensor;")


def check():
    text = (INCLUDE / "mpt.h").read_text()
    baseline = BASELINE.read_text()
    for path in sorted(set(re.findall(r"='(/[^'\n]*)'", baseline))):
        yield f"mpt.abi names a place of the machine that wrote it: {path}"
    found = differences(text)
    if found:
        yield f"include/mpt.h is not what mpt.abi was written from: {found}"
    for what, copy in broken_copies(text):
        if not differences(copy):
            yield f"a header in which {what} was not refused"


def renew():
    BASELINE.write_text(dump((INCLUDE / "mpt.h").read_text()))
