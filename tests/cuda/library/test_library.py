"""libmpt_cuda.so exports one function, and where it, a library below it or the driver is missing, a context for the GPU is refused
with the sentence that tells which, while the CPU goes on working."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LIBRARY, CUDA_LIBRARY = None, None


class ContextOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("threads", ctypes.c_int32), ("seed", ctypes.c_uint64),
                ("device", ctypes.c_char_p), ("allocator", ctypes.c_void_p), ("log", ctypes.c_void_p),
                ("log_user", ctypes.c_void_p), ("log_level", ctypes.c_int32)]


def create(library, device):
    """Makes a context and destroys it; returns the status's name and the message."""
    options, context = ContextOptions(), ctypes.c_void_p()
    library.mpt_context_options_init(ctypes.byref(options), ctypes.c_uint64(ctypes.sizeof(options)))
    options.device = device.encode()
    status = library.mpt_context_create(ctypes.byref(context), ctypes.byref(options))
    if status != 0 and context.value is not None:
        return "a context", "although it failed"
    library.mpt_context_destroy(context)
    return library.mpt_status_name(status).decode(), library.mpt_last_error_message().decode()


def ask(path):
    """What a process of its own prints that loads the library: a line for each context, then the count of devices."""
    library = ctypes.CDLL(path)
    library.mpt_status_name.restype = library.mpt_last_error_message.restype = ctypes.c_char_p
    library.mpt_context_destroy.argtypes = [ctypes.c_void_p]
    for device in ("cuda:0", "cpu", "cuda:0", "cuda", "cpu"):
        name, message = create(library, device)
        print(f"{device}|{name}|{message if name != 'MPT_OK' else ''}")
    count = ctypes.c_int32(-1)
    status = library.mpt_cuda_device_count(ctypes.byref(count))
    print(f"count|{library.mpt_status_name(status).decode()}|"
          f"{library.mpt_last_error_message().decode() if status else count.value}")


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class Library(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def answers(self, library):
        env = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        done = subprocess.run([sys.executable, __file__, "--ask", library], capture_output=True, text=True, check=False, env=env)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)  # the library prints nothing
        return [line.split("|", 2) for line in done.stdout.splitlines()]

    def check_refused(self, library, says):
        answers = self.answers(library)
        self.assertEqual(len(answers), 6)
        for what, status, message in answers:
            if what == "cpu":
                self.assertEqual(status, "MPT_OK", message)
                continue
            self.assertEqual(status, "MPT_ERROR_UNSUPPORTED", message)
            for words in says:
                self.assertIn(words, message)
        return answers[0][2]

    def copy_of_library(self):
        """libmpt.so in a folder of its own, by the name that the linker knows it under."""
        return shutil.copy(LIBRARY, self.folder / "libmpt.so")

    def beside_it(self):
        """The name under which libmpt.so looks for the CUDA backend."""
        names = [path for path in CUDA_LIBRARY.parent.glob("libmpt_cuda.so.*") if path.is_symlink()]
        self.assertEqual(len(names), 1, names)
        return self.folder / names[0].name

    def test_exports(self):
        listed = subprocess.run(["nm", "-D", "--defined-only", CUDA_LIBRARY], capture_output=True, text=True, check=True)
        symbols = [line.split() for line in listed.stdout.splitlines()]
        self.assertEqual([fields[-1].split("@")[0] for fields in symbols if fields[-2] != "A"], ["mpt_cuda_entry"])

    @unittest.skipIf(has_driver(), "there is a CUDA driver")
    def test_no_driver(self):
        self.check_refused(LIBRARY, ["there is no CUDA driver", "libcuda.so.1"])

    @unittest.skipUnless(has_driver(), "there is no CUDA driver")
    def test_driver(self):
        answers = self.answers(LIBRARY)
        if answers[0][1] == "MPT_OK":
            self.assertGreaterEqual(int(answers[-1][2]), 1)
        else:
            self.assertEqual(answers[0][1], "MPT_ERROR_UNSUPPORTED")

    def test_missing_library(self):
        message = self.check_refused(self.copy_of_library(), ["could not be loaded", "libmpt_cuda.so", "No such file"])
        self.assertNotIn("driver", message)

    def test_library_that_is_none(self):
        self.beside_it().write_text("no library\n")
        self.check_refused(self.copy_of_library(), ["could not be loaded", str(self.folder)])

    def test_library_of_something_else(self):
        shutil.copy(LIBRARY, self.beside_it())
        self.check_refused(self.copy_of_library(), ["another build"])


def main():
    global LIBRARY, CUDA_LIBRARY
    if sys.argv[1] == "--ask":
        ask(sys.argv[2])
        return
    at = sys.argv.index("--library")
    LIBRARY, CUDA_LIBRARY = Path(sys.argv[at + 1]).resolve(), Path(sys.argv[at + 3]).resolve()
    del sys.argv[at:at + 4]
    unittest.main()


if __name__ == "__main__":
    main()
