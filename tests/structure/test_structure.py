"""Each check of structure.py finds what it is for, and nothing in a tree that is in order."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import structure


class Checks(unittest.TestCase):
    def found(self, check, files):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return list(structure.CHECKS[check](root))

    def test_order_is_accepted(self):
        files = {
            "src/core/error.h": '#pragma once\n#include <cstdint>\n#include "mpt.h"\n',
            "src/graph/graph.h": '#pragma once\n#include "core/error.h"\n#include "graph/attrs.h"\n',
            "src/graph/attrs.h": '#pragma once\n#include "core/error.h"\n',
            "src/backend/backend.h": '#pragma once\n#include "graph/graph.h"\n#include "kernels/numerics/half.h"\n',
            "src/backend/cpu/cpu.h": '#pragma once\n#include "backend/backend.h"\n#include <dnnl.hpp>\n',
            "src/backend/cpu/cpu.cpp": '#include "backend/cpu/cpu.h"\n#include "graph/attrs.h"\n',
            "src/runtime/plan.cpp": '#include "backend/backend.h"\n#include "graph/graph.h"\n',
            "kernels/numerics/half.h": "#pragma once\n#include <stdint.h>\n",
            "include/mpt.h": "#ifndef MPT_H\n#define MPT_H\n#endif\n" + "\n" * 900,
        }
        for check in structure.CHECKS:
            with self.subTest(check):
                self.assertEqual(self.found(check, files), [])

    def test_arrow_up(self):
        self.assertIn("may not include", self.found("includes", {
            "src/graph/a.h": '#include "passes/b.h"\n', "src/passes/b.h": ""})[0])
        self.assertIn("may not include", self.found("includes", {
            "src/core/a.h": '#include "ops/op.h"\n', "src/ops/op.h": ""})[0])

    def test_backends_are_private(self):
        for outside in ("runtime/a.cpp", "backend/registry.cpp", "backend/ref/a.cpp"):
            with self.subTest(outside):
                self.assertIn("may not include", self.found("includes", {
                    f"src/{outside}": '  #  include "backend/cpu/cpu.h"\n', "src/backend/cpu/cpu.h": ""})[0])

    def test_third_party_headers_are_confined(self):
        self.assertIn("only src/backend/cpu/", self.found("includes", {"src/core/a.h": "#include <dnnl.h>\n"})[0])

    def test_missing_header(self):
        self.assertIn("there is no", self.found("includes", {"src/core/a.h": '#include "core/b.h"\n'})[0])

    def test_unknown_folder(self):
        self.assertIn("no layer", self.found("includes", {"src/misc/a.h": ""})[0])

    def test_cycle(self):
        self.assertEqual(self.found("includes", {
            "src/core/a.h": '#include "core/b.h"\n', "src/core/b.h": '#include "core/a.h"\n'}),
            ["include cycle: core/a.h -> core/b.h -> core/a.h"])

    def test_numerics_stand_alone(self):
        self.assertEqual(len(self.found("numerics", {"kernels/numerics/a.h": '#include "core/error.h"\n'})), 1)

    def test_length(self):
        self.assertEqual(self.found("length", {"src/core/a.h": "x\n" * 800}), [])
        self.assertEqual(len(self.found("length", {"src/core/a.h": "x\n" * 801})), 1)

    def test_words(self):
        self.assertEqual(len(self.found("words", {"src/a.cpp": "// TO" + "DO later\n"})), 1)
        self.assertEqual(len(self.found("words", {"dev": "cd /ho" + "me/someone/x\n"})), 1)
        self.assertEqual(self.found("words", {"dev": "cd $HOME/work/x; ls src/root/y\n"}), [])

    def test_headers(self):
        self.assertEqual(len(self.found("headers", {"src/core/a.h": "int f();\n", "include/mpt.h": "int f(void);\n"})), 2)

    def test_own_header(self):
        files = {"src/core/a.h": "", "src/core/a.cpp": "// why\n#include <vector>\n#include \"core/a.h\"\n"}
        self.assertIn("includes vector first", self.found("own_header", files)[0])
        files["src/core/a.cpp"] = "#include \"core/a.h\"\n#include <vector>\n"
        self.assertEqual(self.found("own_header", files), [])

    def test_layout(self):
        self.assertEqual(len(self.found("layout", {"src/a.cpp": "int a; \n\tint b;\nint c;"})), 3)


if __name__ == "__main__":
    unittest.main()
