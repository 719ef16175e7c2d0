#include "backend/cuda/staging.h"

#include "core/error.h"

namespace mpt::cuda {

void* Staging::take(uint64_t bytes) {
  // The buffers that are large enough and not much too large; the one used longest ago is the likeliest to be free.
  Buffer* oldest = nullptr;
  int fitting = 0;
  for (Buffer& buffer : buffers_) {
    if (buffer.taken || buffer.bytes < bytes || buffer.bytes / 4 > bytes) continue;
    ++fitting;
    if (oldest == nullptr || buffer.order < oldest->order) oldest = &buffer;
  }
  constexpr int at_once = 2;  // one that is filled, one that is copied
  if (oldest == nullptr || (fitting < at_once && !device_.has_happened(oldest->sent.get()))) {
    void* memory = device_.allocate_pinned(bytes);
    try {
      OwnEvent event(device_);
      device_.record(event.get(), stream_);
      buffers_.push_back({memory, bytes, std::move(event), true, uses_++});
    } catch (...) {
      device_.deallocate_pinned(memory);
      throw;
    }
    return memory;
  }
  device_.synchronize_event(oldest->sent.get());
  oldest->taken = true;
  return oldest->memory;
}

Staging::Buffer& Staging::find(void* staged) {
  for (Buffer& buffer : buffers_)
    if (buffer.memory == staged && buffer.taken) return buffer;
  fail(MPT_ERROR_INTERNAL, "cuda: a staging buffer that was not taken");
}

void Staging::send(void* staged, void* device, uint64_t bytes) {
  Buffer& buffer = find(staged);
  buffer.taken = false;
  buffer.order = uses_++;
  device_.copy_in(stream_, device, staged, bytes);
  device_.record(buffer.sent.get(), stream_);
}

void Staging::cancel(void* staged) noexcept {
  for (Buffer& buffer : buffers_)
    if (buffer.memory == staged) buffer.taken = false;
}

uint64_t Staging::bytes() const {
  uint64_t sum = 0;
  for (const Buffer& buffer : buffers_) sum += buffer.bytes;
  return sum;
}

}  // namespace mpt::cuda
