"""DLPack in both directions, with NumPy as the other side: memory is shared, types and errors are told."""

import ctypes
import sys
import unittest

import numpy

FLOAT32, FLOAT16, INT64 = 1, 2, 6
MASTER, COPY16 = 1, 2
LIBRARY = None
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class Array(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 8), ("strides", ctypes.c_int64 * 8), ("device_type", ctypes.c_int32),
                ("device_index", ctypes.c_int32)]


class ParamsOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("precision", ctypes.c_int32), ("no_master", ctypes.c_int32),
                ("gradient_dtype", ctypes.c_int32)]


class Exported:
    """What numpy.from_dlpack takes: a tensor of the library's."""

    def __init__(self, pointer, versioned):
        self.pointer, self.versioned = pointer, versioned

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return new_capsule(self.pointer, b"dltensor_versioned" if self.versioned else b"dltensor", None)


class DLPack(unittest.TestCase):
    def setUp(self):
        self.mpt = ctypes.CDLL(LIBRARY)
        self.mpt.mpt_last_error_message.restype = ctypes.c_char_p
        self.context, self.params = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("mpt_context_create", ctypes.byref(self.context), None)
        options = ParamsOptions()
        self.call("mpt_params_options_init", ctypes.byref(options), ctypes.c_uint64(ctypes.sizeof(options)))
        options.precision = FLOAT16
        self.call("mpt_params_create_empty", ctypes.byref(self.params), self.context, ctypes.byref(options))
        self.call("mpt_params_register", self.params, b"w", 2, (ctypes.c_int64 * 2)(3, 5), None)
        self.call("mpt_params_allocate", self.params)

    def tearDown(self):
        self.mpt.mpt_params_destroy(self.params)
        self.mpt.mpt_context_destroy(self.context)

    def call(self, name, *arguments):
        status = getattr(self.mpt, name)(*arguments)
        self.assertEqual(status, 0, self.message())

    def message(self):
        return self.mpt.mpt_last_error_message().decode()

    def export(self, part, versioned):
        pointer = ctypes.c_void_p()
        name = "mpt_params_to_dlpack_versioned" if versioned else "mpt_params_to_dlpack"
        self.call(name, self.params, b"w", part, ctypes.byref(pointer))
        return numpy.from_dlpack(Exported(pointer.value, versioned))

    def test_exported_memory_is_the_stores_own(self):
        for versioned in (False, True):
            for part, dtype in ((MASTER, numpy.float32), (COPY16, numpy.float16)):
                seen = self.export(part, versioned)
                self.assertEqual((seen.shape, seen.dtype), ((3, 5), dtype))
                array = Array()
                self.call("mpt_params_tensor", self.params, b"w", part, ctypes.byref(array))
                self.assertEqual(seen.ctypes.data, array.data)

    def test_exported_memory_outlives_the_handles(self):
        seen = self.export(MASTER, True)
        values = numpy.arange(15, dtype=numpy.float32)
        array = Array(data=values.ctypes.data, dtype=FLOAT32, rank=2, shape=(3, 5))
        self.call("mpt_params_set", self.params, b"w", ctypes.byref(array))
        self.mpt.mpt_params_destroy(self.params)
        self.mpt.mpt_context_destroy(self.context)
        self.params, self.context = ctypes.c_void_p(), ctypes.c_void_p()
        numpy.testing.assert_array_equal(seen, values.reshape(3, 5))

    def imported(self, source, versioned):
        capsule = source.__dlpack__(max_version=(1, 0)) if versioned else source.__dlpack__()
        name = b"dltensor_versioned" if versioned else b"dltensor"
        array = Array()
        function = "mpt_array_from_dlpack_versioned" if versioned else "mpt_array_from_dlpack"
        status = getattr(self.mpt, function)(ctypes.c_void_p(pointer_of(capsule, name)), ctypes.byref(array))
        return status, array

    def test_an_imported_tensor_is_a_view(self):
        whole = numpy.arange(24, dtype=numpy.float32).reshape(4, 6)
        for versioned in (False, True):
            source = whole[1:, ::2]
            status, array = self.imported(source, versioned)
            self.assertEqual(status, 0, self.message())
            self.assertEqual(array.data, source.ctypes.data)
            self.assertEqual((array.rank, list(array.shape[:2])), (2, [3, 3]))
            self.assertEqual(list(array.strides[:2]), [6, 2])
            self.assertEqual((array.dtype, array.device_type), (FLOAT32, 0))
        status, array = self.imported(numpy.zeros(3, numpy.int64), True)
        self.assertEqual((status, array.dtype), (0, INT64))

    def test_types_that_libmpt_has_not_are_refused(self):
        status, _ = self.imported(numpy.zeros(3, numpy.complex64), True)
        self.assertEqual(status, -3)
        self.assertIn("64 bits", self.message())
        status, _ = self.imported(numpy.zeros((1,) * 9, numpy.float32), False)
        self.assertEqual(status, -3)
        self.assertIn("9 dimensions", self.message())

    def test_null_and_unknown_names_are_refused(self):
        pointer = ctypes.c_void_p(1)
        self.assertEqual(self.mpt.mpt_params_to_dlpack(self.params, b"nobody", MASTER, ctypes.byref(pointer)), -1)
        self.assertIn("nobody", self.message())
        self.assertIsNone(pointer.value)
        self.assertEqual(self.mpt.mpt_array_from_dlpack(None, ctypes.byref(Array())), -1)
        self.assertEqual(self.mpt.mpt_params_to_dlpack(self.params, b"w", 99, ctypes.byref(pointer)), -1)


if __name__ == "__main__":
    at = sys.argv.index("--library")
    LIBRARY = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main()
