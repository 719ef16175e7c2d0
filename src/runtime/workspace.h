// The memory that plans run in. It grows to the largest plan that used it; plans bind anew when it has moved.
#pragma once

#include <memory>

#include "runtime/context.h"

namespace mpt {

class Workspace {
 public:
  Workspace(std::shared_ptr<Context> context, uint64_t bytes, uint64_t max_bytes);

  // At least this many bytes. Contents are lost when it grows. Throws OUT_OF_MEMORY, and is as before then where the
  // device can hold both.
  void require(uint64_t bytes);
  void* data() const { return buffer_.data(); }
  uint64_t bytes() const { return buffer_.bytes(); }
  uint64_t generation() const { return generation_; }  // changes when data() does
  const std::shared_ptr<Context>& context() const { return context_; }

  // Who wrote last: a trainer may fetch only what is still its own.
  const void* writer = nullptr;

 private:
  std::shared_ptr<Context> context_;
  uint64_t max_bytes_;
  uint64_t generation_ = 0;
  DeviceBuffer buffer_;
};

}  // namespace mpt
