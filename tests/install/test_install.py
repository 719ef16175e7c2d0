"""Installs the library, moves the installed tree elsewhere, and links programs against it by pkg-config and by CMake."""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

C_PROGRAM = """
#include <mpt.h>
#include <stdio.h>
int main(void) {
  printf("%d.%d.%d\\n", MPT_VERSION_MAJOR, MPT_VERSION_MINOR, MPT_VERSION_PATCH);
  puts(mpt_build_info());
  return 0;
}
"""
CXX_PROGRAM = C_PROGRAM.replace("<mpt.h>", "<mpt.hpp>")
CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C CXX)
find_package(mpt {version} REQUIRED)
add_executable(c_program program.c)
add_executable(cxx_program program.cpp)
target_link_libraries(c_program mpt::mpt)
target_link_libraries(cxx_program mpt::mpt)
"""


def run(*argv, **options):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, argv))} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(how, output, version):
    if output.splitlines()[0] != version:
        raise SystemExit(f"{how}: the program printed {output!r}, expected version {version}")
    print(f"{how}: {output.splitlines()[0]}")


def main():
    parser = argparse.ArgumentParser()
    for option in ("cmake", "build", "cc", "cxx", "version"):
        parser.add_argument(f"--{option}", required=True)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(options.cmake, "--install", options.build, "--prefix", work / "first")
        prefix = work / "moved here"
        (work / "first").rename(prefix)
        (pc,) = prefix.rglob("mpt.pc")
        lib = pc.parent.parent
        (work / "program.c").write_text(C_PROGRAM)
        (work / "program.cpp").write_text(CXX_PROGRAM)
        (work / "CMakeLists.txt").write_text(CMAKE_PROJECT.format(version=options.version))

        missing = [name for name in ("include/mpt.h", "include/mpt.hpp") if not (prefix / name).exists()]
        missing += [] if list(prefix.rglob("LICENSE")) else ["LICENSE"]
        if missing:
            raise SystemExit(f"not installed: {missing}")

        env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent), "LD_LIBRARY_PATH": str(lib)}
        if run("pkg-config", "--modversion", "mpt", env=env).strip() != options.version:
            raise SystemExit("pkg-config knows another version")
        flags = run("sh", "-c", 'eval "printf \'%s\\n\' $(pkg-config --cflags --libs mpt)"', env=env).splitlines()
        run(options.cc, "-std=c99", work / "program.c", "-o", work / "by_pkg_config", *flags)
        check("pkg-config", run(work / "by_pkg_config", env=env), options.version)

        run(options.cmake, "-S", work, "-B", work / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_C_COMPILER={options.cc}", f"-DCMAKE_CXX_COMPILER={options.cxx}")
        run(options.cmake, "--build", work / "build")
        for program in ("c_program", "cxx_program"):
            check(f"find_package, {program}", run(work / "build" / program), options.version)


if __name__ == "__main__":
    main()
