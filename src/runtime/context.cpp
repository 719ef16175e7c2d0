#include "runtime/context.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "runtime/devices.h"

namespace mpt {
namespace {

void* allocate_default(void*, uint64_t bytes, uint64_t alignment) {
  void* pointer = nullptr;
  return posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : nullptr;
}
void deallocate_default(void*, void* pointer, uint64_t) { std::free(pointer); }

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

Context::Context(const mpt_context_options& options, void* stream)
    : log_(options.log),
      log_user_(options.log_user),
      log_level_(options.log_level),
      seed_(options.seed),
      process_(getpid()),
      device_(options.device ? options.device : "cpu") {
  constexpr int max_threads = 1024;
  MPT_CHECK_ARGUMENT(options.threads >= 0 && options.threads <= max_threads, "threads is %d, expected 0 to %d",
                     options.threads, max_threads);
  threads_ = options.threads == 0 ? available_cores() : options.threads;
  mpt_allocator allocator{};
  if (options.allocator) allocator = *options.allocator;
  MPT_CHECK_ARGUMENT(!allocator.allocate == !allocator.deallocate,
                     "allocator: allocate and deallocate must both be given or both be NULL");
  if (!allocator.allocate) {
    allocator.allocate = allocate_default;
    allocator.deallocate = deallocate_default;
  }
  BackendOptions backend;
  backend.threads = threads_;
  backend.allocate = allocator.allocate;
  backend.deallocate = allocator.deallocate;
  backend.user = allocator.user;
  backend.stream = stream;
  backend_ = make_backend(device_, backend);
  allocator_ = allocator;  // only now: release is for contexts that came to be
  log(MPT_LOG_INFO, "context on %s: %s", backend_->name(), backend_->info().c_str());
}

Context::~Context() {
  drain();
  backend_.reset();
  if (allocator_.release) allocator_.release(allocator_.user);
}

void Context::log(int32_t level, const char* format, ...) const {
  if (!log_ || level < log_level_) return;
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  log_(log_user_, level, text);
}

void Context::enter(Access access) {
  if (getpid() != process_)
    fail(MPT_ERROR_INVALID_STATE, "the context was made in another process: a forked child must make its own");
  const std::thread::id self = std::this_thread::get_id();
  if (busy_.load(std::memory_order_acquire) && owner_.load(std::memory_order_relaxed) == self) {
    if (access == Access::use) fail(MPT_ERROR_INVALID_STATE, "called from a callback of a call on the same context");
    ++depth_;
    return;
  }
  if (busy_.exchange(true, std::memory_order_acquire))
    fail(MPT_ERROR_INVALID_STATE, "another thread is inside a call on the same context");
  owner_.store(self, std::memory_order_relaxed);
  depth_ = 1;
}

void Context::leave() noexcept {
  if (--depth_ > 0) return;
  drain();
  owner_.store(std::thread::id(), std::memory_order_relaxed);
  busy_.store(false, std::memory_order_release);
  // What another thread queued between drain and release must not wait for the next call.
  bool waiting;
  {
    const std::lock_guard<std::mutex> lock(queue_lock_);
    waiting = !queue_.empty();
  }
  if (waiting && !busy_.exchange(true, std::memory_order_acquire)) {
    drain();
    busy_.store(false, std::memory_order_release);
  }
}

void Context::drain() noexcept {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard<std::mutex> lock(queue_lock_);
    work.swap(queue_);
  }
  for (auto& destroy : work) destroy();
}

void Context::destroy_later(std::function<void()> destroy) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(queue_lock_);
    queue_.push_back(destroy);
  } catch (...) {  // no memory for the queue: wait for our turn instead
    while (busy_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
    destroy();
    busy_.store(false, std::memory_order_release);
    return;
  }
  if (!busy_.exchange(true, std::memory_order_acquire)) {
    drain();
    busy_.store(false, std::memory_order_release);
  }
}

DeviceBuffer::DeviceBuffer(std::shared_ptr<Context> context, uint64_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  if (bytes > 0) data_ = context_->backend().allocate(bytes);
}

void DeviceBuffer::reset() noexcept {
  if (data_) context_->backend().deallocate(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  context_.reset();
}

}  // namespace mpt
