// Shapes: up to eight sizes, row-major, dense. While a model is being built a size may be negative: the id of a
// named dimension (graph/dims.h); in a compiled graph every size is a positive number.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace mpt {

class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    for (int64_t s : sizes) push_back(s);
  }
  Shape(int rank, const int64_t* sizes) {
    for (int i = 0; i < rank; ++i) push_back(sizes[i]);
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[axis < 0 ? axis + rank_ : axis]; }
  int64_t& operator[](int axis) { return sizes_[axis < 0 ? axis + rank_ : axis]; }
  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  void push_back(int64_t size) {
    if (rank_ == max_rank) fail(MPT_ERROR_INVALID_ARGUMENT, "a shape has more than %d dimensions", max_rank);
    sizes_[rank_++] = size;
  }
  void insert(int axis, int64_t size);
  void erase(int axis);

  // Number of elements; every size must be known. Throws on overflow of 2^48, more than any machine addresses.
  int64_t elements() const;
  bool is_known() const;  // no named dimension in it
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }

  std::string text() const;  // "[32, 10]"; named sizes print as "?-1"

 private:
  int rank_ = 0;
  std::array<int64_t, max_rank> sizes_{};
};

using Strides = std::array<int64_t, Shape::max_rank>;

// Row-major strides in elements.
Strides strides_of(const Shape& shape);

// Strides with which `from` is read at every position of `to` (NumPy broadcasting: 0 where a size of 1 is repeated).
// `from` must be broadcastable to `to`.
Strides broadcast_strides(const Shape& from, const Shape& to);

// NumPy's broadcast of two known shapes; false where they don't fit.
bool broadcast(const Shape& a, const Shape& b, Shape* out);

// Turns -1 .. -rank into 0 .. rank-1; throws for anything outside.
int normalize_axis(int axis, int rank, const char* what);

}  // namespace mpt
