// Host tensors of any storage type, and memory that notices when a kernel writes beside it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace mpt::test {

// The nearest value of a storage type, one rounding from double.
double round_to(DType dtype, double x);

struct Array {
  Shape shape;
  DType dtype = DType::f32;
  std::vector<unsigned char> bytes;

  Array() = default;
  Array(const Shape& s, DType t) : shape(s), dtype(t), bytes(static_cast<std::size_t>(s.elements()) * size_of(t)) {}
  Array(const Shape& s, DType t, const std::vector<double>& values);  // rounded to t

  int64_t size() const { return static_cast<int64_t>(bytes.size() / size_of(dtype)); }
  std::vector<double> values() const;  // exact
  Array converted(DType t) const { return Array(shape, t, values()); }
};

// Memory with guard words on both sides, 64-byte aligned, filled with `poison` first. Inputs are copied in and outputs
// out.
class GuardedBuffer {
 public:
  GuardedBuffer(std::size_t bytes, unsigned char poison);
  explicit GuardedBuffer(const Array& contents);

  void* data() const { return memory_.get() + guard; }
  std::size_t bytes() const { return bytes_; }
  // With the guards: what is copied to memory that the host can't reach, and back.
  unsigned char* whole() const { return memory_.get(); }
  std::size_t whole_bytes() const { return bytes_ + 2 * guard; }
  static constexpr std::size_t guard = 64;
  bool intact() const;  // the guards are as they were
  bool holds(const Array& a) const {
    return a.bytes.empty() || std::memcmp(data(), a.bytes.data(), a.bytes.size()) == 0;
  }
  void copy_out(Array* a) const;

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  static constexpr unsigned char guard_byte = 0xff;  // NaN in every float type: what is read beyond the end shows
  std::size_t bytes_;
  std::unique_ptr<unsigned char, Free> memory_;
};

}  // namespace mpt::test
