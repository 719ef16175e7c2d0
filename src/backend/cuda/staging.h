// Pinned memory for inputs on their way to the device: the host fills one buffer while the copy of another is under way.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cuda/memory.h"

namespace mpt::cuda {

class Staging {
 public:
  Staging(Device& device, Stream stream) : device_(device), stream_(stream) {}
  ~Staging() {
    for (Buffer& buffer : buffers_) device_.deallocate_pinned(buffer.memory);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // A buffer that no copy reads any more. It is the caller's until send() or cancel().
  void* take(uint64_t bytes);
  // Enqueues its copy.
  void send(void* staged, void* device, uint64_t bytes);
  void cancel(void* staged) noexcept;
  uint64_t bytes() const;  // of all buffers

 private:
  struct Buffer {
    void* memory;
    uint64_t bytes;
    OwnEvent sent;
    bool taken;
    uint64_t order;  // of its last use
  };
  Buffer& find(void* staged);

  Device& device_;
  Stream stream_;
  std::vector<Buffer> buffers_;
  uint64_t uses_ = 0;
};

}  // namespace mpt::cuda
