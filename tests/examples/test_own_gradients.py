"""own_gradients learns, and its loss scale grows and backs off."""

import tempfile
import unittest

import support


class OwnGradients(unittest.TestCase):
    def test_learns(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = support.run("own_gradients", cwd=folder)
        self.assertEqual((status, err), (0, ""))
        rows = [line.split() for line in out.splitlines()[1:]]
        self.assertEqual([int(row[0]) for row in rows], [1, 50, 100, 150, 200, 250, 300, 350, 400])
        self.assertAlmostEqual(float(rows[0][1]), 1.1, delta=0.6)  # log 3 and what the initial weights add
        self.assertLess(float(rows[-1][1]), 0.2)
        self.assertGreaterEqual(float(rows[-1][4]), 95)
        scales = {float(row[2]) for row in rows}
        self.assertGreater(len(scales), 1)


if __name__ == "__main__":
    support.main()
