"""./dev gpu: what it finds on a machine, what it collects, and that it goes on and tells everything."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import gpu
import gpu_machine
import gpu_run
import gpu_stages


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()

    def file(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class Machine(InFolder):
    def toolkit(self, *names):
        for name in names:
            self.file(f"toolkit/{name}")
        return self.file("toolkit/bin/nvcc")

    def find(self, nvcc):
        return gpu_machine.find_libraries(nvcc, [self.folder / "packages"])

    def test_everything_in_the_toolkit(self):
        nvcc = self.toolkit("include/cublasLt.h", "include/cudnn.h", "lib64/libcublasLt.so", "lib64/libcudnn.so.9")
        self.file("packages/nvidia/cudnn/lib/libcudnn.so.9")
        found = self.find(nvcc)
        self.assertEqual(found["cudnn"], self.folder / "toolkit/lib64/libcudnn.so.9")
        options = gpu_machine.cmake_options(nvcc, {"architecture": "90"}, found, None, self.folder / "build")
        self.assertIn("-DCMAKE_CUDA_ARCHITECTURES=90-real", options)
        self.assertFalse([option for option in options if "cublasLt_LIBRARY" in option or "CXX_FLAGS" in option])

    def test_wheels(self):
        """Both ways in which wheels are laid out: a folder for each library, or one for a CUDA version."""
        nvcc = self.toolkit("include/cuda.h", "lib64/libcudart.so")
        for name in ("cudnn/include/cudnn.h", "cudnn/lib/libcudnn.so.9", "cudnn/lib/libcudnn_graph.so.9",
                     "cu13/include/cublasLt.h", "cu13/lib/libcublasLt.so.13"):
            self.file(f"packages/nvidia/{name}")
        found = self.find(nvcc)
        wheels = self.folder / "packages/nvidia"
        self.assertEqual(found["cudnn"], wheels / "cudnn/lib/libcudnn.so.9")
        self.assertEqual(found["cublaslt"], wheels / "cu13/lib/libcublasLt.so.13")
        options = gpu_machine.cmake_options(nvcc, {"architecture": "80"}, found, None, self.folder / "build")
        self.assertIn(f"-DMPT_CUDNN_INCLUDE={wheels}/cudnn/include", options)
        self.assertIn(f"-DCUDA_cublasLt_LIBRARY={wheels}/cu13/lib/libcublasLt.so.13", options)
        self.assertIn(f"-DCMAKE_CXX_FLAGS=-isystem {wheels}/cu13/include", options)
        self.assertIn(f"-DCMAKE_BUILD_RPATH={self.folder}/build;{wheels}/cu13/lib;{wheels}/cudnn/lib", options)

    def test_no_cublaslt(self):
        with self.assertRaisesRegex(gpu_machine.Missing, r"libcublasLt\.so"):
            self.find(self.toolkit("include/cublasLt.h"))

    def test_without_cudnn(self):
        nvcc = self.toolkit("include/cublasLt.h", "lib64/libcublasLt.so")
        options = gpu_machine.cmake_options(nvcc, {"architecture": "80"}, self.find(nvcc), None, self.folder)
        self.assertFalse([option for option in options if "CUDNN" in option])

    def test_nvcc(self):
        nvcc = self.toolkit()
        self.assertEqual(gpu_machine.find_nvcc({"CUDA_HOME": str(self.folder / "toolkit"), "PATH": ""}), nvcc)


class Kit(InFolder):
    def listing(self, package):
        names = {"doctest-dev": ["/usr/include/doctest/doctest.h", "/usr/share/doc/doctest-dev/copyright"],
                 "nlohmann-json3-dev": ["/usr/include/nlohmann/json.hpp"], "libtbb-dev": ["/usr/include/tbb/task_arena.h"]}
        return names.get(package, [])

    def frontend(self):
        self.file("packages/include/cudnn_frontend.h")
        self.file("packages/include/cudnn_frontend/graph.h")
        return [self.folder / "packages"]

    def test_kit(self):
        files = {name for package in gpu_machine.KIT_PACKAGES for name in self.listing(package)}
        if not all(Path(name).exists() for name in files if "/doc/" not in name):
            self.skipTest("the packages that the kit is made of are not installed")
        count, total = gpu_machine.make_kit(self.folder / "kit", self.frontend())
        kit = json.loads((self.folder / "kit/kit.json").read_text())
        self.assertEqual((len(kit["files"]), kit["bytes"]), (count, total))
        self.assertLess(total, 16 << 20)
        for config in gpu_machine.KIT_CONFIGS.values():
            self.assertTrue(list((self.folder / "kit").rglob(config)), config)
        self.assertTrue(list((self.folder / "kit").rglob("libtbb.so")))
        self.assertTrue((self.folder / "kit/include/cudnn_frontend/graph.h").exists())
        self.assertFalse((self.folder / "kit/share/doc").exists())
        for path in (self.folder / "kit").rglob("*.cmake"):
            self.assertNotIn('set(_IMPORT_PREFIX "/usr")', path.read_text())
        # A kit is made again in the same place, and found by the build.
        gpu_machine.make_kit(self.folder / "kit", [self.folder / "packages"])
        found = {"cublaslt": Path("/l/libcublasLt.so"), "cublaslt_header": Path("/i/cublasLt.h"), "cudnn": None,
                 "cudnn_header": None}
        options = gpu_machine.cmake_options(Path("/t/bin/nvcc"), {"architecture": "90"}, found, self.folder / "kit", Path("/b"))
        self.assertIn(f"-DMPT_CUDNN_FRONTEND={self.folder}/kit/include", options)
        for name in ("doctest_DIR", "TBB_DIR", "nlohmann_json_DIR"):
            self.assertTrue([option for option in options if option.startswith(f"-D{name}={self.folder}/kit/")], name)

    def test_nothing_is_overwritten(self):
        self.file("mine/thesis.txt", "text")
        with self.assertRaisesRegex(gpu_machine.Missing, "is no kit"):
            gpu_machine.make_kit(self.folder / "mine", self.frontend(), self.listing)
        self.assertEqual([path.name for path in (self.folder / "mine").iterdir()], ["thesis.txt"])

    def test_missing(self):
        with self.assertRaisesRegex(gpu_machine.Missing, "doctest-dev"):
            gpu_machine.make_kit(self.folder / "kit", self.frontend(), lambda package: [])
        self.assertFalse((self.folder / "kit").exists())


class Running(InFolder):
    def run_steps(self, *steps, minutes=1.0, jobs=1):
        self.said = []
        run = gpu_run.Run(self.folder, self.folder / "out", minutes, self.said.append)
        run.machine = {"GPU": "none"}
        ok = run.stage("correctness", list(steps), jobs)
        return run, ok

    def python(self, name, code, **more):
        return gpu_run.Step(name, [sys.executable, "-c", code], **more)

    def test_goes_on(self):
        def dislike(output):
            raise gpu_run.Wrong(f"found {output.strip()}, expected 4")

        run, ok = self.run_steps(
            self.python("dies", "import os; print('last words', flush=True); os.abort()"),
            self.python("hangs", "import time; print('begun', flush=True); time.sleep(60)", limit=2),
            self.python("wrong", "print(5)", judge=dislike),
            self.python("garbled", "print('?')", judge=lambda output: [("n", float(output), "")]),
            gpu_run.Step("missing", [self.folder / "no such program"]),
            self.python("not here", "", needs=lambda: "there is no such tool"),
            self.python("good", "import os; print(os.environ['WHERE'])", env={"WHERE": "on the GPU"},
                        judge=lambda output: [("speed", 3.25, "GB/s"), ("place", output.strip(), "")]))
        self.assertFalse(ok)
        outcomes = {result.step.name: result.outcome for result in run.results}
        self.assertEqual(outcomes, {"dies": "failed", "hangs": "failed", "wrong": "failed", "garbled": "failed",
                                    "missing": "failed", "not here": "not run", "good": "passed"})
        summary = (self.folder / "out/summary.md").read_text()
        self.assertIn("1 passed, 5 failed, 1 not run", summary)
        self.assertIn("hangs: was ended after 2 s", summary)
        self.assertIn("wrong: found 5, expected 4", summary)
        self.assertIn("there is no such tool", summary)
        self.assertIn("| good | speed | 3.25 GB/s |", summary)
        self.assertIn("| good | place | on the GPU |", summary)
        self.assertIn("last words", "\n".join(self.said))
        # The lines run the steps alone.
        results = json.loads((self.folder / "out/results.json").read_text())
        line = next(step["line"] for step in results["steps"] if step["name"] == "good")
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, "on the GPU\n")
        self.assertIn(next(step["line"] for step in results["steps"] if step["name"] == "wrong"), summary)
        self.assertIn("begun", (self.folder / "out/correctness.log").read_text())

    def test_time_of_the_stage(self):
        run, ok = self.run_steps(self.python("long", "import time; time.sleep(30)"), self.python("late", ""), minutes=0.05)
        self.assertFalse(ok)
        self.assertEqual([result.outcome for result in run.results], ["failed", "not run"])

    def test_stage_that_cannot_be_prepared(self):
        run = gpu_run.Run(self.folder, self.folder / "out", 1, lambda text: None)

        def prepare():
            raise OSError("no list of tests")

        self.assertFalse(run.stage("sanitizers", prepare))
        self.assertIn("no list of tests", (self.folder / "out/summary.md").read_text())

    def test_measurements_are_kept(self):
        self.file("bench.json", '{"workload": "gpt", "ms_median": 2.5}\n')
        run, _ = self.run_steps(self.python("bench", "", files=[self.folder / "bench.json"]))
        self.assertEqual(run.records, [{"workload": "gpt", "ms_median": 2.5}])


class Stages(InFolder):
    def test_few_cases_of_every_op(self):
        listed = "[doctest] listing all test case names\n====\nsoftmax 3x33\nsoftmax 1x1\nsoftmax 5\nmatmul a\n====\n"
        self.assertEqual(gpu_stages.some_cases(listed, 2), ["softmax 3x33", "softmax 1x1", "matmul a"])

    def report(self, where, losses, scale=1.0):
        runs = [{"name": name, "precision": name, "loss": values, "val_loss": values[-1]} for name, values in losses.items()]
        self.file(f"{where}/report.json", json.dumps({"runs": runs}))
        return self.folder / where

    def test_curves(self):
        exact = {"fp32": [5.5, 4.0, 3.0], "bf16": [5.5, 4.0, 3.0]}
        near = {"fp32": [5.5, 4.000001, 3.000001], "bf16": [5.5, 4.001, 2.999]}
        far = {"fp32": [5.5, 4.00001, 3.0], "bf16": [5.5, 4.001, 2.999]}
        wrong = {"fp32": [5.5, 4.000001, 3.1], "bf16": [5.5, 4.001, 2.999]}
        exact, near, far, wrong = (self.report(name, losses) for name, losses in
                                   (("exact", exact), ("near", near), ("far", far), ("wrong", wrong)))
        figures = gpu_stages.compare_curves(exact, near, near)
        self.assertEqual([figure[0] for figure in figures], ["fp32: distance", "bf16: distance"])
        for device in (far, wrong):
            with self.assertRaisesRegex(gpu_run.Wrong, "fp32"):
                gpu_stages.compare_curves(exact, near, device)
        nan = self.report("nan", {"fp32": [5.5, None, None], "bf16": [5.5, 4.0, 3.0]})
        with self.assertRaisesRegex(gpu_run.Wrong, "fp32"):
            gpu_stages.compare_curves(exact, near, nan)

    def test_every_table_is_run(self):
        found = gpu_stages.files_with_cases("ops")
        tables = {path.stem for path in (ROOT / "tests/ops").glob("*.cpp") if "OpTable table(" in path.read_text()}
        self.assertGreater(len(tables), 5)
        self.assertLessEqual(tables, set(found))

    def test_steps_name_programs_of_the_build(self):
        build = self.folder / "build"
        for steps in (gpu_stages.correctness(build, self.folder, "python3"), gpu_stages.figures(build, self.folder, "python3")):
            self.assertTrue(steps)
            self.assertEqual(len({step.name for step in steps}), len(steps))


class Command(unittest.TestCase):
    def test_arguments(self):
        self.assertEqual(gpu.parse([]).stage, list(gpu.STAGES))
        self.assertEqual(gpu.parse(["--stage", "figures", "--minutes", "5"]).stage, ["figures"])
        self.assertEqual(gpu.parse(["--stage", "build,correctness"]).stage, ["build", "correctness"])

    def test_without_a_gpu(self):
        try:
            gpu_machine.find_gpu()
            self.skipTest("there is a GPU")
        except gpu_machine.Missing:
            pass
        done = subprocess.run([sys.executable, ROOT / "tools/gpu.py", "run"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("needs an NVIDIA GPU", done.stderr)


if __name__ == "__main__":
    unittest.main()
