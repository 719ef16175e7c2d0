"""tools/kernel_resources.py reads what ptxas says, tells spills, and keeps the compiler's own messages."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/kernel_resources.py"

CLEAN = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN3mpt4cuda12_GLOBAL__N_15smallEPf' for 'sm_90'
ptxas info    : Function properties for _ZN3mpt4cuda12_GLOBAL__N_15smallEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 8.899 ms
"""
SPILLING = """\
ptxas info    : Compiling entry function '_Z5spillILi48EEvPf' for 'sm_80'
ptxas info    : Function properties for _Z5spillILi48EEvPf
    448 bytes stack frame, 528 bytes spill stores, 588 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 448 bytes cumulative stack size
"""
CALLED = """\
ptxas info    : Function properties for _Z6calledf
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
"""


class KernelResources(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_tool(self, *arguments):
        return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False)

    def compile(self, name, told, status=0):
        """As CMake does, with a compiler that says `told`."""
        compiler = self.folder / "compiler.py"
        compiler.write_text(f"import sys\nsys.stderr.write({told!r})\nsys.exit({status})\n")
        path = self.folder / f"{name}.cu.o"
        return path, self.run_tool("compile", sys.executable, compiler, "-c", f"{name}.cu", "-o", path)

    def test_table(self):
        path, done = self.compile("softmax", CLEAN + "softmax.cu(3): warning: unused\n")
        self.assertEqual((done.returncode, done.stderr), (0, "softmax.cu(3): warning: unused\n"))
        self.assertEqual(json.loads(Path(f"{path}.resources").read_text())[0]["registers"], 10)
        done = self.run_tool("table", self.folder / "backend.cpp.o", path)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.splitlines()[1].split(), ["softmax", "small", "sm_90", "10", "256", "0", "0"])
        self.assertIn("1 kernels, 0 problems", done.stdout)

    def test_spills(self):
        for told in (SPILLING, CLEAN + CALLED):
            path, _ = self.compile("norm", told)
            done = self.run_tool("table", path)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("spills", done.stdout.splitlines()[-1])
            self.assertIn("norm.cu.o", done.stdout.splitlines()[-1])

    def test_unknown_object(self):
        done = self.run_tool("table", self.folder / "lost.cu.o")
        self.assertEqual(done.returncode, 1)
        self.assertIn("lost.cu.o", done.stdout)
        self.assertEqual(self.run_tool("table").returncode, 1)

    def test_compiler_that_fails(self):
        path, done = self.compile("bad", "bad.cu(1): error: no\n", status=2)
        self.assertEqual((done.returncode, done.stderr), (2, "bad.cu(1): error: no\n"))
        self.assertFalse(Path(f"{path}.resources").exists())


if __name__ == "__main__":
    unittest.main()
