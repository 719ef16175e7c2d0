#include "runtime/workspace.h"

namespace mpt {

Workspace::Workspace(std::shared_ptr<Context> context, uint64_t bytes, uint64_t max_bytes)
    : context_(std::move(context)), max_bytes_(max_bytes) {
  MPT_CHECK_ARGUMENT(max_bytes == 0 || bytes <= max_bytes, "bytes is %llu, expected at most max_bytes %llu",
                     static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(max_bytes));
  require(bytes);
}

void Workspace::require(uint64_t bytes) {
  if (bytes <= buffer_.bytes()) return;
  if (max_bytes_ != 0 && bytes > max_bytes_)
    fail(MPT_ERROR_OUT_OF_MEMORY, "the plan needs a workspace of %llu bytes, but its max_bytes is %llu",
         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(max_bytes_));
  DeviceBuffer larger(context_, bytes);
  buffer_ = std::move(larger);
  writer = nullptr;
  ++generation_;
}

}  // namespace mpt
