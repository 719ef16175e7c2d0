"""first_steps is the program that mpt.h opens with, and it learns."""

import re
import tempfile
import unittest
from pathlib import Path

import support


class FirstSteps(unittest.TestCase):
    def test_is_the_program_of_the_header(self):
        header = (support.ROOT / "include/mpt.h").read_text().splitlines()
        begin = next(i for i, line in enumerate(header) if line.strip() == "*     #include <mpt.h>")
        end = next(i for i, line in enumerate(header) if i > begin and line == " *     }")
        program = [line[len(" *     "):] for line in header[begin:end + 1]]
        example = (support.ROOT / "examples/first_steps.c").read_text().splitlines()
        self.assertEqual(example[example.index("#include <mpt.h>"):], program)

    def test_learns(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = support.run("first_steps", cwd=folder)
            self.assertEqual((status, err), (0, ""))
            losses = [float(loss) for loss in re.findall(r"^step \d+ loss (\S+) scale \S+$", out, re.MULTILINE)]
            self.assertEqual(len(losses), 4, out)
            self.assertEqual(losses, sorted(losses, reverse=True))
            # Half of the four blobs mistaken costs log 2 = 0.69.
            self.assertLess(losses[-1], 0.1)
            self.assertEqual([path.name for path in Path(folder).iterdir()], ["xor.safetensors"])


if __name__ == "__main__":
    support.main()
