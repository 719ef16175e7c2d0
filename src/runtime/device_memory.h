// A block of a backend's memory with one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "backend/backend.h"

namespace mpt {

// What one tensor takes of a block: every tensor begins on a cache line.
constexpr uint64_t padded_bytes(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

class DeviceMemory {
 public:
  DeviceMemory() = default;
  // Zero-filled. A backend that executes nothing gives none: data() is null, bytes() as asked for.
  DeviceMemory(std::shared_ptr<Backend> backend, uint64_t bytes) : backend_(std::move(backend)), bytes_(bytes) {
    if (bytes_ == 0 || !backend_->executes()) return;
    data_ = backend_->allocate(bytes_);
    backend_->fill_zero(data_, bytes_);
  }
  ~DeviceMemory() { release(); }
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    if (this != &other) {
      release();
      swap(other);
    }
    return *this;
  }

  uint64_t bytes() const { return bytes_; }
  // The place `offset` bytes from the start; null where there is no memory.
  template <typename T = void>
  T* at(uint64_t offset) const {
    return data_ == nullptr ? nullptr : reinterpret_cast<T*>(static_cast<char*>(data_) + offset);
  }
  void release() noexcept {
    if (data_ != nullptr) backend_->deallocate(data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
  }

 private:
  void swap(DeviceMemory& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  std::shared_ptr<Backend> backend_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Runs `work` within Backend::execute().
template <typename F>
void execute_on(Backend& backend, F&& work) {
  backend.execute([](void* f) { (*static_cast<std::remove_reference_t<F>*>(f))(); }, &work);
}

}  // namespace mpt
