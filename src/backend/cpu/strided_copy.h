// Copies elements between two layouts of the same shape, converting between float types: what slice, concat, pad, transpose
// and reshape are made of.
#pragma once

#include <cstdint>

#include "backend/cpu/parallel.h"
#include "backend/cpu/rows.h"
#include "core/shape.h"

namespace mpt::cpu {

// Equal types of any kind, or two float types that kernels compute with.
constexpr bool can_copy(DType from, DType to) { return from == to || (is_element(from) && is_element(to)); }

class StridedCopy {
 public:
  // Strides in elements, for every axis of `shape`.
  StridedCopy(DType from, DType to, const Shape& shape, const Strides& from_strides, const Strides& to_strides,
              Isa isa);

  // from and to point at the first element that is copied.
  void run(const Parallel& parallel, const void* from, void* to) const;

 private:
  struct Axis {
    int64_t size, from, to;
  };
  // The axes outside the innermost loops, walked in row-major order from a position.
  class Walk;

  void copy_rows(const Parallel& parallel, const void* from, void* to) const;
  void copy_tiles(const Parallel& parallel, const void* from, void* to) const;

  DType from_, to_;
  Rows rows_;
  int rank_ = 0;  // of the outer axes
  Axis axes_[Shape::max_rank] = {};
  int64_t count_ = 0;  // positions of the outer axes
  // Innermost: a run that is contiguous on both sides, or a matrix with rows contiguous in `from` and columns in `to`.
  int64_t run_ = 1;
  bool tiled_ = false;
  Axis row_ = {}, column_ = {};
};

}  // namespace mpt::cpu
