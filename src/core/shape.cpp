#include "core/shape.h"

#include <algorithm>

namespace mpt {

void Shape::insert(int axis, int64_t size) {
  push_back(size);
  std::rotate(sizes_.begin() + axis, sizes_.begin() + rank_ - 1, sizes_.begin() + rank_);
}

void Shape::erase(int axis) {
  std::copy(sizes_.begin() + axis + 1, sizes_.begin() + rank_, sizes_.begin() + axis);
  --rank_;
}

int64_t Shape::elements() const {
  constexpr int64_t limit = int64_t{1} << 48;
  int64_t count = 1;
  for (int64_t size : *this) {
    MPT_INVARIANT(size >= 0);
    if (size != 0 && count > limit / size)
      fail(MPT_ERROR_INVALID_ARGUMENT, "shape %s has more than 2^48 elements", text().c_str());
    count *= size;
  }
  return count;
}

bool Shape::is_known() const {
  return std::all_of(begin(), end(), [](int64_t s) { return s >= 0; });
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i) out += ", ";
    out += sizes_[i] < 0 ? "?" + std::to_string(sizes_[i]) : std::to_string(sizes_[i]);
  }
  return out + "]";
}

Strides strides_of(const Shape& shape) {
  Strides strides{};
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

Strides broadcast_strides(const Shape& from, const Shape& to) {
  const Strides own = strides_of(from);
  Strides strides{};
  const int lead = to.rank() - from.rank();
  MPT_INVARIANT(lead >= 0);
  for (int i = 0; i < from.rank(); ++i) strides[i + lead] = from[i] == 1 && to[i + lead] != 1 ? 0 : own[i];
  return strides;
}

bool broadcast(const Shape& a, const Shape& b, Shape* out) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result;
  for (int i = 0; i < rank; ++i) {
    const int64_t x = i < rank - a.rank() ? 1 : a[i - (rank - a.rank())];
    const int64_t y = i < rank - b.rank() ? 1 : b[i - (rank - b.rank())];
    if (x != y && x != 1 && y != 1) return false;
    result.push_back(x == 1 ? y : x);
  }
  *out = result;
  return true;
}

int normalize_axis(int axis, int rank, const char* what) {
  if (axis < -rank || axis >= rank)
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: axis %d is outside a tensor of rank %d", what, axis, rank);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace mpt
