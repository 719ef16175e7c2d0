// A device with its threads, the host program's allocator and log, and the rule that one thread at a time is inside.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/backend.h"

namespace mpt {

class Context {
 public:
  // Throws UNSUPPORTED for a device that this build lacks.
  // stream: of the caller's, for devices that have streams.
  explicit Context(const mpt_context_options& options, void* stream = nullptr);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Backend& backend() { return *backend_; }
  const std::shared_ptr<Backend>& shared_backend() const { return backend_; }
  const Backend& backend() const { return *backend_; }
  const std::string& device() const { return device_; }
  uint64_t seed() const { return seed_; }
  int threads() const { return threads_; }

  void log(int32_t level, const char* format, ...) const __attribute__((format(printf, 3, 4)));

  // ---- one thread at a time ----
  enum class Access { use, read };  // read: also from a callback of the call that is running
  // Throws INVALID_STATE where another thread is inside, in a forked child, or for `use` from a callback.
  void enter(Access access);
  void leave() noexcept;
  // Runs `destroy` now, or after the call that is running. From any thread.
  void destroy_later(std::function<void()> destroy) noexcept;

 private:
  void drain() noexcept;

  mpt_allocator allocator_{};
  mpt_log_function log_ = nullptr;
  void* log_user_ = nullptr;
  int32_t log_level_ = 0;
  uint64_t seed_ = 0;
  int threads_ = 1;
  int64_t process_ = 0;
  std::string device_;
  std::shared_ptr<Backend> backend_;

  std::atomic<bool> busy_{false};
  std::atomic<std::thread::id> owner_{};
  int depth_ = 0;
  std::mutex queue_lock_;
  std::vector<std::function<void()>> queue_;
};

// Holds a context for the length of one call.
class Call {
 public:
  Call(std::shared_ptr<Context> context, Context::Access access) : context_(std::move(context)) {
    context_->enter(access);
  }
  ~Call() { context_->leave(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  std::shared_ptr<Context> context_;
};

// Bytes of device memory, through the context's allocator.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::shared_ptr<Context> context, uint64_t bytes);
  ~DeviceBuffer() { reset(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  void reset() noexcept;
  void swap(DeviceBuffer& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

 private:
  std::shared_ptr<Context> context_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace mpt
