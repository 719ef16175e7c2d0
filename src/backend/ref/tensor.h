// Tensors as the reference's kernels see them: any storage type, read into double and written with one rounding.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/shape.h"

namespace mpt::ref {

// The nearest value of the type, ties to even, in one rounding straight from double; overflow gives infinity.
double round_to(DType dtype, double x);

struct Tensor {
  void* data = nullptr;  // null: a missing optional tensor
  DType dtype = DType::f32;
  Shape shape;
  int64_t elements = 0;

  explicit operator bool() const { return data != nullptr; }
  double operator[](int64_t i) const;
  void set(int64_t i, double x) const;
};

// Visits the elements of a shape in row-major order and keeps, for up to `max_operands` tensors with strides of their
// own, the offset that belongs to the current element.
class Walk {
 public:
  explicit Walk(const Shape& shape) : shape_(shape) {}
  int add(const Strides& strides);  // returns the operand's number
  int64_t offset(int operand) const { return offsets_[operand]; }
  void next();

  static constexpr int max_operands = 64;

 private:
  Shape shape_;
  int64_t position_[Shape::max_rank] = {};
  int operands_ = 0;
  Strides strides_[max_operands];
  int64_t offsets_[max_operands] = {};
};

}  // namespace mpt::ref
