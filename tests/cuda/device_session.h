// A device by its libraries, with one stream, current while it lives, and what tests of it need.
#pragma once

#include <string>
#include <vector>

#include "backend/cuda/backend.h"
#include "core/error.h"

namespace mpt::test {

class DeviceSession {
 public:
  explicit DeviceSession(cuda::Libraries libraries)
      : libraries_(std::move(libraries)), current_(device()), stream_(device().create_stream()) {}
  ~DeviceSession() {
    for (void* memory : memory_) device().deallocate(memory);
    device().destroy_stream(stream_);
  }
  DeviceSession(const DeviceSession&) = delete;
  DeviceSession& operator=(const DeviceSession&) = delete;

  cuda::Device& device() const { return *libraries_.device; }
  cuda::Blas& blas() const { return *libraries_.blas; }
  cuda::Dnn* dnn() const { return libraries_.dnn.get(); }
  cuda::Stream stream() const { return stream_; }
  void synchronize() const { device().synchronize(stream_); }

  // Memory that goes with the session, or with release().
  template <typename T>
  T* allocate(std::size_t count) {
    memory_.push_back(device().allocate(count * sizeof(T)));
    return static_cast<T*>(memory_.back());
  }
  template <typename T>
  T* to_device(const std::vector<T>& contents) {
    T* memory = allocate<T>(contents.size());
    device().copy_in(stream_, memory, contents.data(), contents.size() * sizeof(T));
    synchronize();
    return memory;
  }
  template <typename T>
  std::vector<T> to_host(const T* memory, std::size_t count) const {
    std::vector<T> contents(count);
    device().copy_out(stream_, contents.data(), memory, count * sizeof(T));
    synchronize();
    return contents;
  }
  void release() {
    for (void* memory : memory_) device().deallocate(memory);
    memory_.clear();
  }
  void forget(const void* memory) { std::erase(memory_, memory); }  // somebody else deallocates it

 private:
  cuda::Libraries libraries_;
  cuda::CurrentDevice current_;
  cuda::Stream stream_;
  std::vector<void*> memory_;
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
