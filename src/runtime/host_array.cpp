#include "runtime/host_array.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "io/convert.h"
#include "kernels/numerics/float16.h"

namespace mpt {
namespace {

// To FP32 with the lost bits kept in the last place (round to odd), so that a second rounding to 16 bits gives what one
// rounding of the double gives: FP32 has more than two bits beyond either 16-bit type.
float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(value)) return nearest;
  float toward_zero = nearest;
  if (std::isinf(nearest) || std::fabs(static_cast<double>(nearest)) > std::fabs(value))
    toward_zero = std::nextafterf(nearest, 0.0f);
  uint32_t bits;
  std::memcpy(&bits, &toward_zero, sizeof bits);
  bits |= 1u;
  std::memcpy(&toward_zero, &bits, sizeof bits);
  return toward_zero;
}

int64_t load_integer(const void* dense, int64_t index, DType type) {
  switch (type) {
    case DType::i32:
      return static_cast<const int32_t*>(dense)[index];
    case DType::i64:
      return static_cast<const int64_t*>(dense)[index];
    default:
      return static_cast<const uint8_t*>(dense)[index];
  }
}

void store_integer(void* dense, int64_t index, DType type, int64_t value, const std::string& who) {
  if (is_float(type)) {
    store_element(dense, index, type, static_cast<double>(value));
    if (load_element(dense, index, type) != static_cast<double>(value))
      fail(MPT_ERROR_INVALID_ARGUMENT, "%s: the integer %lld is not exact in %s", who.c_str(),
           static_cast<long long>(value), name_of(type));
    return;
  }
  const int64_t low = type == DType::i32 ? INT32_MIN : type == DType::u8 ? 0 : INT64_MIN;
  const int64_t high = type == DType::i32 ? INT32_MAX : type == DType::u8 ? 255 : INT64_MAX;
  if (value < low || value > high)
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: the integer %lld is outside the range of %s", who.c_str(),
         static_cast<long long>(value), name_of(type));
  switch (type) {
    case DType::i32:
      static_cast<int32_t*>(dense)[index] = static_cast<int32_t>(value);
      break;
    case DType::i64:
      static_cast<int64_t*>(dense)[index] = value;
      break;
    default:
      static_cast<uint8_t*>(dense)[index] = static_cast<uint8_t>(value);
  }
}

Strides strides_of_array(const mpt_array& array) {
  bool dense = true;
  for (int i = 0; i < array.rank; ++i) dense = dense && array.strides[i] == 0;
  if (dense) return strides_of(shape_of(array));
  Strides strides{};
  for (int i = 0; i < array.rank; ++i) strides[i] = array.strides[i];
  return strides;
}

bool is_dense(const mpt_array& array) {
  const Strides dense = strides_of(shape_of(array)), own = strides_of_array(array);
  for (int i = 0; i < array.rank; ++i)
    if (array.shape[i] != 1 && own[i] != dense[i]) return false;
  return true;
}

// Calls body(position in dense order, position in the array's memory, coordinates) for each element.
template <class Body>
void for_each(const mpt_array& array, Body body) {
  const Shape shape = shape_of(array);
  const Strides strides = strides_of_array(array);
  const int64_t count = shape.elements();
  std::array<int64_t, Shape::max_rank> at{};
  int64_t offset = 0;
  for (int64_t i = 0; i < count; ++i) {
    body(i, offset, at);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      offset += strides[axis];
      if (++at[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      at[axis] = 0;
    }
  }
}

}  // namespace

double load_element(const void* dense, int64_t index, DType type) {
  switch (type) {
    case DType::f64:
      return static_cast<const double*>(dense)[index];
    case DType::f32:
      return static_cast<const float*>(dense)[index];
    case DType::f16:
      return f16_to_f32(static_cast<const uint16_t*>(dense)[index]);
    case DType::bf16:
      return bf16_to_f32(static_cast<const uint16_t*>(dense)[index]);
    default:
      return static_cast<double>(load_integer(dense, index, type));
  }
}

void store_element(void* dense, int64_t index, DType type, double value) {
  switch (type) {
    case DType::f64:
      static_cast<double*>(dense)[index] = value;
      break;
    case DType::f32:
      static_cast<float*>(dense)[index] = static_cast<float>(value);
      break;
    case DType::f16:
      static_cast<uint16_t*>(dense)[index] = f32_to_f16(round_to_odd(value));
      break;
    case DType::bf16:
      static_cast<uint16_t*>(dense)[index] = f32_to_bf16(round_to_odd(value));
      break;
    default:
      fail(MPT_ERROR_INTERNAL, "store_element: %s is no float type", name_of(type));
  }
}

Shape shape_of(const mpt_array& array) { return Shape(array.rank, array.shape); }

mpt_array dense_array(void* data, DType type, const Shape& shape) {
  mpt_array array{};
  array.data = data;
  array.dtype = static_cast<mpt_dtype>(type);
  array.rank = shape.rank();
  std::copy(shape.begin(), shape.end(), array.shape);
  return with_strides(array);
}

mpt_array with_strides(const mpt_array& array) {
  mpt_array out = array;
  if (!is_dense(array)) return out;
  const Strides strides = strides_of(shape_of(array));
  std::copy(strides.begin(), strides.begin() + array.rank, out.strides);
  return out;
}

void check_conversion(DType from, DType to, const std::string& who) {
  if (is_float(from) && !is_float(to))
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: dtype is %s, expected an integer type for %s", who.c_str(), name_of(from),
         name_of(to));
}

void check_array(const mpt_array& array, const std::string& who, const Backend* backend) {
  MPT_CHECK_ARGUMENT(is_known(array.dtype), "%s: dtype %d is unknown", who.c_str(), array.dtype);
  MPT_CHECK_ARGUMENT(array.rank >= 0 && array.rank <= MPT_MAX_RANK, "%s: rank is %d, expected 0 to %d", who.c_str(),
                     array.rank, MPT_MAX_RANK);
  for (int i = 0; i < array.rank; ++i)
    MPT_CHECK_ARGUMENT(array.shape[i] >= 0, "%s: size %d is %lld, expected at least 0", who.c_str(), i,
                       static_cast<long long>(array.shape[i]));
  const int64_t count = shape_of(array).elements();
  MPT_CHECK_ARGUMENT(array.data || count == 0, "%s: data is NULL for %lld elements", who.c_str(),
                     static_cast<long long>(count));
  if (array.device_type == MPT_DEVICE_CPU) return;
  const bool taken = backend != nullptr && backend->device_type() != MPT_DEVICE_CPU;
  MPT_CHECK_ARGUMENT(taken && array.device_type == backend->device_type(),
                     "%s: device_type is %d, expected MPT_DEVICE_CPU%s", who.c_str(), array.device_type,
                     taken ? " or MPT_DEVICE_CUDA" : "");
  MPT_CHECK_ARGUMENT(array.device_index == backend->device_index(),
                     "%s: device_index is %d, expected %d, the context's device", who.c_str(), array.device_index,
                     backend->device_index());
}

void read_array(const mpt_array& array, DType to, void* dense, const std::string& who) {
  const auto from = static_cast<DType>(array.dtype);
  check_conversion(from, to, who);
  if (is_float(from)) {
    if (is_dense(array) && is_convertible(from, to)) {
      convert_elements(from, array.data, to, dense, static_cast<std::size_t>(shape_of(array).elements()));
      return;
    }
    for_each(array, [&](int64_t i, int64_t offset, auto&) {
      store_element(dense, i, to, load_element(array.data, offset, from));
    });
    return;
  }
  if (is_dense(array) && from == to) {
    const auto bytes = static_cast<std::size_t>(shape_of(array).elements()) * size_of(to);
    if (bytes) std::memcpy(dense, array.data, bytes);
    return;
  }
  for_each(array, [&](int64_t i, int64_t offset, auto&) {
    store_integer(dense, i, to, load_integer(array.data, offset, from), who);
  });
}

void read_normalized(const mpt_array& array, int axis, const float* mean, const float* std, DType to, void* dense) {
  for_each(array, [&](int64_t i, int64_t offset, const auto& at) {
    const double value = static_cast<const uint8_t*>(array.data)[offset];
    store_element(dense, i, to, (value - static_cast<double>(mean[at[axis]])) / static_cast<double>(std[at[axis]]));
  });
}

void write_array(const void* dense, DType from, const Shape& shape, const mpt_array& array, const std::string& who) {
  if (shape_of(array) != shape)
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: the array has shape %s, the tensor %s", who.c_str(),
         shape_of(array).text().c_str(), shape.text().c_str());
  const auto to = static_cast<DType>(array.dtype);
  if (!is_float(from) || !is_float(to)) {
    if (is_float(from) != is_float(to))
      fail(MPT_ERROR_INVALID_ARGUMENT, "%s: dtype is %s, the tensor's is %s", who.c_str(), name_of(to), name_of(from));
    for_each(array, [&](int64_t i, int64_t offset, auto&) {
      store_integer(array.data, offset, to, load_integer(dense, i, from), who);
    });
    return;
  }
  if (is_dense(array) && is_convertible(from, to)) {
    convert_elements(from, dense, to, array.data, static_cast<std::size_t>(shape.elements()));
    return;
  }
  for_each(array, [&](int64_t i, int64_t offset, auto&) {
    store_element(array.data, offset, to, load_element(dense, i, from));
  });
}

}  // namespace mpt
