// An emulated device with one stream, current while it lives, and what tests of it need.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "backend/cuda/emu/emulation.h"
#include "core/error.h"

namespace mpt::test {

class Emulated {
 public:
  explicit Emulated(const cuda::EmulationOptions& options = {})
      : libraries_(cuda::make_emulation(options)), current_(device()), stream_(device().create_stream()) {}
  ~Emulated() { device().destroy_stream(stream_); }

  cuda::Device& device() const { return *libraries_.device; }
  cuda::Blas& blas() const { return *libraries_.blas; }
  cuda::Dnn& dnn() const { return *libraries_.dnn; }
  cuda::Stream stream() const { return stream_; }
  void synchronize() const { device().synchronize(stream_); }

  template <typename T>
  T* to_device(const std::vector<T>& contents) const {
    T* memory = static_cast<T*>(device().allocate(contents.size() * sizeof(T)));
    device().copy_in(stream_, memory, contents.data(), contents.size() * sizeof(T));
    return memory;
  }
  template <typename T>
  std::vector<T> to_host(const T* memory, std::size_t count) const {
    std::vector<T> contents(count);
    device().copy_out(stream_, contents.data(), memory, count * sizeof(T));
    synchronize();
    return contents;
  }
  template <typename T>
  T* allocate(std::size_t count) const {
    return static_cast<T*>(device().allocate(count * sizeof(T)));
  }

 private:
  cuda::Libraries libraries_;
  cuda::CurrentDevice current_;
  cuda::Stream stream_;
};

// What `work` throws; empty: nothing.
template <typename F>
std::string error_of(F work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace mpt::test
