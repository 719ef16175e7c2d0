"""What the tests of the example programs share."""

import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = None


def run(program, *arguments, cwd):
    """Runs an example with no terminal; returns status, stdout and stderr."""
    return run_any(PROGRAMS / program, *arguments, cwd=cwd)


def run_any(*argv, cwd):
    done = subprocess.run([str(argument) for argument in argv], cwd=cwd, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def main():
    """Runs the tests of the calling file; --programs FOLDER says where the built examples are."""
    global PROGRAMS
    at = sys.argv.index("--programs")
    PROGRAMS = Path(sys.argv[at + 1]).resolve()
    del sys.argv[at:at + 2]
    unittest.main()
