// Owners of device memory, pinned host memory, events and streams.
#pragma once

#include <cstring>
#include <utility>

#include "backend/cuda/lib/device.h"

namespace mpt::cuda {

// Device memory with pinned host memory of the same size beside it, for small structs.
class Block {
 public:
  Block(Device& device, uint64_t bytes) : device_(device), bytes_(bytes), memory_(device.allocate(bytes)) {
    try {
      pinned_ = device.allocate_pinned(bytes);
    } catch (...) {
      device.deallocate(memory_);
      throw;
    }
  }
  ~Block() {
    device_.deallocate(memory_);
    device_.deallocate_pinned(pinned_);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  template <typename T = void>
  T* device() const {
    return static_cast<T*>(memory_);
  }
  template <typename T = void>
  T* pinned() const {
    return static_cast<T*>(pinned_);
  }
  // The pinned memory may still be read by an earlier upload: what was enqueued is waited for first.
  void upload(Stream stream, const void* from, uint64_t bytes) {
    device_.synchronize(stream);
    std::memcpy(pinned_, from, bytes);
    device_.copy_in(stream, memory_, pinned_, bytes);
  }
  void download(Stream stream, void* to, uint64_t bytes) {
    device_.copy_out(stream, pinned_, memory_, bytes);
    device_.synchronize(stream);
    std::memcpy(to, pinned_, bytes);
  }

 private:
  Device& device_;
  uint64_t bytes_;
  void* memory_;
  void* pinned_ = nullptr;
};

class OwnStream {
 public:
  // The caller's stream, or a new one.
  OwnStream(Device& device, Stream given)
      : device_(device), stream_(given != nullptr ? given : device.create_stream()), own_(given == nullptr) {}
  ~OwnStream() {
    if (own_) device_.destroy_stream(stream_);
  }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Device& device_;
  Stream stream_;
  bool own_;
};

class OwnEvent {
 public:
  explicit OwnEvent(Device& device) : device_(&device), event_(device.create_event()) {}
  ~OwnEvent() {
    if (event_ != nullptr) device_->destroy_event(event_);
  }
  OwnEvent(OwnEvent&& other) noexcept : device_(other.device_), event_(std::exchange(other.event_, nullptr)) {}
  OwnEvent& operator=(OwnEvent&&) = delete;
  Event get() const { return event_; }

 private:
  Device* device_;
  Event event_;
};

}  // namespace mpt::cuda
