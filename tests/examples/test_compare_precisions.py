"""compare_precisions writes a whole report, or one sentence on what is wrong and no file."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import support

TEXT = "".join(f"line {i}: the square of {i} is {i * i}\n" for i in range(400))
SMALL = [argument for setting in ("layers=1", "width=16", "heads=2", "context=16", "batch=4")
         for argument in ("--set", setting)]
RUNS = {"fp32": ("fp32", True, "off"), "fp16": ("fp16", True, "dynamic"), "bf16": ("bf16", True, "off"),
        "fp16-no-scaling": ("fp16", True, "off"), "fp16-no-master": ("fp16", False, "dynamic")}
RUN_KEYS = {"name", "precision", "master", "scaling", "seed", "steps", "loss", "val_loss", "ms_per_step", "bytes",
            "skipped", "underflow_share", "lost_update_share"}
BYTE_KEYS = {"master", "copy16", "gradients", "optimizer", "activations", "scratch", "total"}


class ComparePrecisions(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "text.txt").write_text(TEXT)

    def compare(self, *arguments):
        return support.run("compare_precisions", "--text", "text.txt", "--out", "out", *arguments, cwd=self.folder)

    def report(self, *arguments):
        status, out, err = self.compare(*arguments)
        self.assertEqual((status, err), (0, ""), out)
        self.assertEqual([path.name for path in (self.folder / "out").iterdir()], ["report.json"])
        return out, json.loads((self.folder / "out/report.json").read_text())

    def refused(self, *arguments, says):
        status, out, err = self.compare(*arguments)
        self.assertEqual(status, 1, out + err)
        self.assertTrue(err.startswith("compare_precisions: "), err)
        self.assertEqual(err.count("\n"), 1, err)
        for words in says:
            self.assertIn(words, err)
        left = list((self.folder / "out").iterdir()) if (self.folder / "out").is_dir() else []
        self.assertEqual(left, [])

    def test_first_table(self):
        out, report = self.report("--ablation", "none", "--steps", "6", "--seed", "3", *SMALL)
        self.assertEqual([run["name"] for run in report["runs"]], list(RUNS))
        self.assertEqual(report["ablations"], [])
        self.assertEqual(report["machine"]["device"], "cpu")
        self.assertIn("mpt", report["versions"])
        for run in report["runs"]:
            self.assertLessEqual(RUN_KEYS, run.keys())
            self.assertEqual(BYTE_KEYS, run["bytes"].keys())
            self.assertEqual((run["precision"], run["master"], run["scaling"]), RUNS[run["name"]])
            self.assertEqual((run["seed"], run["steps"], len(run["loss"]), len(run["scale"])), (3, 6, 6, 6))
            self.assertGreater(run["bytes"]["activations"], 0)
            # Each seen gradient that is not zero is in one bin.
            counts = run["gradients"]
            self.assertEqual(sum(counts["histogram"]), counts["seen"] - counts["zero"])
        fp32, fp16 = report["runs"][0], report["runs"][1]
        self.assertAlmostEqual(fp32["loss"][0], fp16["loss"][0], delta=0.01 * fp32["loss"][0])
        self.assertLess(fp32["val_loss"], fp32["loss"][0])
        self.assertEqual(len(report["sample"]["text"]), 400)
        self.assertIn("| ", out)

    def test_same_seed_same_losses(self):
        arguments = ("--precision", "fp16", "--steps", "4", *SMALL)
        _, first = self.report(*arguments)
        _, second = self.report(*arguments)
        _, other = self.report("--seed", "1", *arguments)
        self.assertEqual([run["name"] for run in first["runs"]], ["fp16"])
        self.assertEqual(first["runs"][0]["loss"], second["runs"][0]["loss"])
        self.assertNotEqual(first["runs"][0]["loss"], other["runs"][0]["loss"])

    def test_ablations(self):
        for name, methods in (("no-scaling", ["fp32", "fp16", "fp16-no-scaling"]),
                              ("no-master", ["fp32", "fp16", "fp16-no-master"])):
            with self.subTest(name):
                out, report = self.report("--ablation", name, "--steps", "4", *SMALL,
                                          *(["--set", "pretrain_steps=5"] if name == "no-master" else []))
                self.assertEqual(report["runs"], [])
                self.assertEqual([run["name"] for run in report["ablations"][0]["runs"]], methods)
                self.assertIn("from FP32's", out)
                if name == "no-master":
                    # All start from the same weights, learned before.
                    starts = [run["first_val_loss"] for run in report["ablations"][0]["runs"]]
                    self.assertLess(max(starts) - min(starts), 0.01 * starts[0])

    def test_report(self):
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            self.skipTest("matplotlib is not installed")
        self.report("--ablation", "none", "--steps", "3", *SMALL)
        draw = (sys.executable, support.ROOT / "examples/report.py")
        status, _, err = support.run_any(*draw, "out", cwd=self.folder)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual((self.folder / "out/report.png").read_bytes()[:4], b"\x89PNG")
        page = (self.folder / "out/report.html").read_text()
        self.assertEqual(page.count("data:image/png;base64,"), 3)
        self.assertNotIn("src=\"http", page)

        (self.folder / "out/report.json").write_text("{}")
        for folder, says in (("out", "no report"), ("nowhere", "nowhere/report.json")):
            status, _, err = support.run_any(*draw, folder, cwd=self.folder)
            self.assertEqual(status, 1)
            self.assertIn(says, err)
            self.assertEqual(err.count("\n"), 1)

    def test_device(self):
        """The network trains on the device that is named: sums in double give other FP16 numbers."""
        arguments = ("--precision", "fp16", "--ablation", "none", "--steps", "3", *SMALL)
        _, on_cpu = self.report(*arguments)
        _, exact = self.report("--device", "reference", *arguments)
        self.assertEqual(exact["machine"]["device"], "reference")
        (a,), (b,) = (report["runs"] for report in (on_cpu, exact))
        self.assertNotEqual(a["loss"], b["loss"])
        for x, y in zip(a["loss"], b["loss"]):
            self.assertAlmostEqual(x, y, delta=x * 2**-11)  # a rounding of each logit, at most

    def test_bad_input(self):
        (self.folder / "short.txt").write_text("x" * 169)
        # A tenth of the text must hold 16 bytes and one more.
        self.refused("--text", "short.txt", "--precision", "fp32", *SMALL, says=["short.txt", "169", "170"])
        self.refused("--text", "missing.txt", says=["missing.txt"])
        self.refused("--text", ".", says=["'.'"])
        self.refused("--out", "text.txt/out", says=["text.txt"])
        self.refused("--out", "/proc/1/out", says=["/proc/1/out"])
        self.refused("--precision", "fp32,fp8", says=["fp8"])
        self.refused("--precision", "", says=["''"])
        self.refused("--ablation", "all", says=["all", "no-master"])
        self.refused("--precision", "bf16", "--ablation", "no-master", says=["no-master"])
        self.refused("--steps", "0", says=["'0'"])
        self.refused("--steps", "ten", says=["'ten'"])
        self.refused("--seed", "-1", says=["'-1'"])
        self.refused("--seed", says=["--seed"])
        self.refused("--colour", "red", says=["--colour"])
        self.refused("--device", "tpu", says=["'tpu'", "cuda:0"])
        self.refused("--set", "width=0", says=["width=0"])
        self.refused("--set", "depth=3", says=["depth=3", "layers"])
        self.refused("--set", "width=10", "--set", "heads=4", says=["10", "4"])
        self.refused("--set", "lr=nan", says=["lr=nan"])

    def test_help(self):
        status, out, err = support.run("compare_precisions", "--help", cwd=self.folder)
        self.assertEqual((status, err), (0, ""))
        for option in ("--text", "--steps", "--seed", "--precision", "--ablation", "--set", "--device", "--out"):
            self.assertIn(option, out)


if __name__ == "__main__":
    support.main()
