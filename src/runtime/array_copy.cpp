#include "runtime/array_copy.h"

#include <cstring>
#include <vector>

#include "core/error.h"
#include "io/convert.h"

namespace mpt {
namespace {

Shape shape_of(const mpt_array& array) { return Shape(array.rank, array.shape); }

Strides strides_of_array(const mpt_array& array) {
  Strides strides{};
  bool dense = true;
  for (int axis = 0; axis < array.rank; ++axis) {
    strides[axis] = array.strides[axis];
    dense = dense && strides[axis] == 0;
  }
  return dense ? strides_of(shape_of(array)) : strides;
}

// Visits the offsets of elements [begin, begin + count), row-major.
template <typename Visit>
void for_offsets(const mpt_array& array, const Strides& strides, int64_t begin, int64_t count, Visit&& visit) {
  int64_t index[MPT_MAX_RANK] = {};
  int64_t rest = begin, offset = 0;
  for (int axis = array.rank - 1; axis >= 0; --axis) {
    index[axis] = rest % array.shape[axis];
    rest /= array.shape[axis];
    offset += index[axis] * strides[axis];
  }
  for (int64_t i = 0; i < count; ++i) {
    visit(i, offset);
    for (int axis = array.rank - 1; axis >= 0; --axis) {
      offset += strides[axis];
      if (++index[axis] < array.shape[axis]) break;
      offset -= index[axis] * strides[axis];
      index[axis] = 0;
    }
  }
}

char* element_at(const mpt_array& array, int64_t offset) {
  return static_cast<char*>(array.data) + offset * static_cast<int64_t>(size_of(static_cast<DType>(array.dtype)));
}

}  // namespace

void require_float_array(const mpt_array& array, const Shape& shape, const char* who, const char* name) {
  MPT_CHECK_ARGUMENT(is_known(array.dtype) && is_float(static_cast<DType>(array.dtype)),
                     "%s: '%s': found dtype %d, expected a float type", who, name, array.dtype);
  MPT_CHECK_ARGUMENT(array.rank >= 0 && array.rank <= MPT_MAX_RANK, "%s: '%s': found rank %d, expected 0 to %d", who,
                     name, array.rank, MPT_MAX_RANK);
  MPT_CHECK_ARGUMENT(shape_of(array) == shape, "%s: '%s': found shape %s, expected %s", who, name,
                     shape_of(array).text().c_str(), shape.text().c_str());
  MPT_CHECK_ARGUMENT(array.data != nullptr, "%s: '%s': found data NULL, expected %lld elements", who, name,
                     static_cast<long long>(shape.elements()));
}

void copy_to_array(Backend& backend, const void* tensor, DType dtype, const Shape& shape, float factor,
                   const mpt_array& array) {
  const Strides strides = strides_of_array(array);
  const int64_t elements = shape.elements();
  const auto target = static_cast<DType>(array.dtype);
  char raw[ArrayReader::block * sizeof(float)];
  float values[ArrayReader::block];
  for (int64_t begin = 0; begin < elements; begin += ArrayReader::block) {
    const int64_t count = elements - begin < ArrayReader::block ? elements - begin : ArrayReader::block;
    const uint64_t size = size_of(dtype);
    backend.copy_out(raw, static_cast<const char*>(tensor) + static_cast<uint64_t>(begin) * size,
                     static_cast<uint64_t>(count) * size);
    convert_elements(dtype, raw, DType::f32, values, static_cast<std::size_t>(count));
    if (factor != 1)
      for (int64_t i = 0; i < count; ++i) values[i] *= factor;
    for_offsets(array, strides, begin, count, [&](int64_t i, int64_t offset) {
      if (target == DType::f64) {
        const double wide = static_cast<double>(values[i]);
        std::memcpy(element_at(array, offset), &wide, sizeof wide);
      } else {
        convert_elements(DType::f32, &values[i], target, element_at(array, offset), 1);
      }
    });
  }
}

ArrayReader::ArrayReader(const mpt_array& array) : array_(array), strides_(strides_of_array(array)) {
  elements_ = shape_of(array).elements();
}

bool ArrayReader::next() {
  begin_ += count_;
  count_ = elements_ - begin_ < block ? elements_ - begin_ : block;
  if (count_ <= 0) return false;
  const auto source = static_cast<DType>(array_.dtype);
  for_offsets(array_, strides_, begin_, count_, [&](int64_t i, int64_t offset) {
    if (source == DType::f64) {
      double wide;
      std::memcpy(&wide, element_at(array_, offset), sizeof wide);
      values_[i] = static_cast<float>(wide);
    } else {
      convert_elements(source, element_at(array_, offset), DType::f32, &values_[i], 1);
    }
  });
  return true;
}

}  // namespace mpt
