// Copies elements between two layouts of the same shape, converting between float types: what slice, concat, pad and transpose
// are made of.
#pragma once

#include <vector>

#include "backend/cuda/registry.h"
#include "core/shape.h"
#include "kernels/transpose.h"

namespace mpt::cuda {

// Equal types of any kind, or two float types that kernels compute with.
constexpr bool can_copy(DType from, DType to) {
  const auto element = [](DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; };
  return from == to || (element(from) && element(to));
}

class StridedCopy {
 public:
  // Strides in elements, for every axis of `shape`.
  StridedCopy(DType from, DType to, const Shape& shape, const Strides& from_strides, const Strides& to_strides);

  // from and to point at the first element that is copied.
  void run(const void* from, void* to, Stream stream) const;
  bool is_tiled() const { return tiled_; }

 private:
  struct Axis {
    int64_t size, from, to;
  };
  void copy_rows(const void* from, void* to, Stream stream) const;
  void copy_tiles(const void* from, void* to, Stream stream) const;

  DType from_, to_;
  bool empty_ = false;
  std::vector<Axis> axes_;  // outside the run or the tiles
  int64_t run_ = 1;         // elements that are contiguous on both sides
  bool tiled_ = false;      // else: a matrix with rows contiguous in `from` and columns in `to`
  Axis row_ = {}, column_ = {};
};

// Writes `value` (its bits in the low bytes of an element of `size` bytes) to `rows` runs, `stride` elements apart.
void fill_rows(void* to, int64_t size, uint32_t value, int64_t rows, int64_t run, int64_t stride, Stream stream);

}  // namespace mpt::cuda
