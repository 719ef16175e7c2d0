// Between tensors in a backend's memory and arrays of the caller's, of any float type and with any strides.
#pragma once

#include "backend/backend.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "mpt.h"

namespace mpt {

// Throws INVALID_ARGUMENT with `who` and `name` unless the array is of a float type and of this shape.
void require_float_array(const mpt_array& array, const Shape& shape, const char* who, const char* name);

// array = tensor * factor, rounded once. The array has been checked.
void copy_to_array(Backend& backend, const void* tensor, DType dtype, const Shape& shape, float factor,
                   const mpt_array& array);

// The elements of a checked array in row-major order, rounded to FP32, block by block.
class ArrayReader {
 public:
  explicit ArrayReader(const mpt_array& array);
  static constexpr int64_t block = 4096;
  bool next();  // the next block, false after the last
  const float* values() const { return values_; }
  int64_t begin() const { return begin_; }
  int64_t count() const { return count_; }

 private:
  const mpt_array& array_;
  Strides strides_;
  int64_t elements_ = 1;
  int64_t begin_ = 0, count_ = 0;
  float values_[block];
};

}  // namespace mpt
