#include "ops/array.h"

#include <cstdlib>

#include "backend/ref/tensor.h"

namespace mpt::test {

double round_to(DType dtype, double x) { return ref::round_to(dtype, x); }

Array::Array(const Shape& s, DType t, const std::vector<double>& values) : Array(s, t) {
  const ref::Tensor tensor{bytes.data(), t, s, s.elements()};
  for (int64_t i = 0; i < tensor.elements; ++i) tensor.set(i, values[static_cast<std::size_t>(i)]);
}

std::vector<double> Array::values() const {
  const ref::Tensor tensor{const_cast<unsigned char*>(bytes.data()), dtype, shape, size()};
  std::vector<double> values(static_cast<std::size_t>(size()));
  for (int64_t i = 0; i < tensor.elements; ++i) values[static_cast<std::size_t>(i)] = tensor[i];
  return values;
}

GuardedBuffer::GuardedBuffer(std::size_t bytes, unsigned char poison) : bytes_(bytes) {
  const std::size_t total = (bytes + 2 * guard + 63) / 64 * 64;
  memory_.reset(static_cast<unsigned char*>(std::aligned_alloc(64, total)));
  std::memset(memory_.get(), guard_byte, bytes + 2 * guard);
  if (bytes) std::memset(data(), poison, bytes);
}

GuardedBuffer::GuardedBuffer(const Array& contents) : GuardedBuffer(contents.bytes.size(), 0) {
  if (bytes_) std::memcpy(data(), contents.bytes.data(), bytes_);
}

bool GuardedBuffer::intact() const {
  for (std::size_t i = 0; i < guard; ++i) {
    if (memory_.get()[i] != guard_byte || memory_.get()[guard + bytes_ + i] != guard_byte) return false;
  }
  return true;
}

void GuardedBuffer::copy_out(Array* a) const {
  if (!a->bytes.empty()) std::memcpy(a->bytes.data(), data(), a->bytes.size());
}

}  // namespace mpt::test
