// Arrays of the caller's: checked, and copied from and to dense storage with one rounding.
#pragma once

#include <string>

#include "backend/backend.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "mpt.h"

namespace mpt {

// Throws INVALID_ARGUMENT with `who` in front: dtype, rank, sizes, pointer, device. Where `backend` is given, its own memory
// is fine too.
void check_array(const mpt_array& array, const std::string& who, const Backend* backend = nullptr);
inline bool on_device(const mpt_array& array) { return array.device_type != MPT_DEVICE_CPU; }
// A dense tensor in some memory as an array, all strides given; and an array with all its strides.
mpt_array dense_array(void* data, DType type, const Shape& shape);
mpt_array with_strides(const mpt_array& array);
// Throws unless elements of `from` may become elements of `to`: floats don't become integers.
void check_conversion(DType from, DType to, const std::string& who);
Shape shape_of(const mpt_array& array);

// Reads an array, strides heeded, into dense memory of type `to`. Floats round once, to nearest even; integers convert
// exactly or are INVALID_ARGUMENT; floats don't become integers.
void read_array(const mpt_array& array, DType to, void* dense, const std::string& who);
// (value - mean[c]) / std[c] of uint8 elements, c the position along `axis`, rounded once.
void read_normalized(const mpt_array& array, int axis, const float* mean, const float* std, DType to, void* dense);
// Writes dense memory of type `from` into an array of any float type (or the same type); the shape must be equal.
void write_array(const void* dense, DType from, const Shape& shape, const mpt_array& array, const std::string& who);

// One element of dense memory. Narrowing from double rounds once.
double load_element(const void* dense, int64_t index, DType type);
void store_element(void* dense, int64_t index, DType type, double value);

}  // namespace mpt
