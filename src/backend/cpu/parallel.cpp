#include "backend/cpu/parallel.h"

#include <algorithm>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "core/error.h"
#include "core/float_mode.h"

// oneTBB as distributions build it is not instrumented: ThreadSanitizer sees none of its synchronisation, and every task would
// look like a race. This file, with oneTBB's templates in it, is then compiled without instrumentation (cmake/MptLibrary.cmake)
// and says in its place what oneTBB promises: a task comes after the call that started it, and the call's return after all
// of its tasks. Between two tasks of a call nothing is promised, so races between them are still found.
#if defined(MPT_THREAD_SANITIZER)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#define MPT_TSAN_ACQUIRE(object) __tsan_acquire(object)
#define MPT_TSAN_RELEASE(object) __tsan_release(object)
#else
#define MPT_TSAN_ACQUIRE(object) static_cast<void>(object)
#define MPT_TSAN_RELEASE(object) static_cast<void>(object)
#endif

namespace mpt::cpu {
namespace {

// The order between a call and its tasks, by the addresses of two members.
class Order {
 public:
  Order() { MPT_TSAN_RELEASE(&started_); }
  ~Order() { MPT_TSAN_ACQUIRE(&finished_); }
  struct Task {
    explicit Task(Order& call) : order(call) { MPT_TSAN_ACQUIRE(&order.started_); }
    ~Task() { MPT_TSAN_RELEASE(&order.finished_); }
    Order& order;
  };

 private:
  char started_ = 0, finished_ = 0;
};

}  // namespace

// task_arena starts nothing before its first execute(). More threads than TBB may use in this process would only make it
// print a warning; results don't depend on how many there are.
struct Parallel::Arena {
  explicit Arena(int threads) : tasks(std::min(threads, allowed())) {}
  static int allowed() {
    return static_cast<int>(tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism));
  }
  tbb::task_arena tasks;
};

Parallel::Parallel(int threads) : threads_(threads == 0 ? tbb::info::default_concurrency() : threads) {
  MPT_CHECK_ARGUMENT(threads >= 0, "threads: found %d, expected 0 or more", threads);
  if (threads_ > 1) arena_ = std::make_unique<Arena>(threads_);
}

Parallel::~Parallel() = default;

void Parallel::run(int64_t tasks, Body body, void* context) const {
  if (tasks <= 0) return;
  if (arena_ == nullptr || tasks == 1) {
    FloatMode mode;
    for (int64_t task = 0; task < tasks; ++task) body(context, task, 0);
    return;
  }
  Order order;
  arena_->tasks.execute([&] {
    const auto chunk = [&](const tbb::blocked_range<int64_t>& range) {
      const Order::Task task_order(order);
      FloatMode mode;
      const int worker = tbb::this_task_arena::current_thread_index();
      for (int64_t task = range.begin(); task < range.end(); ++task) body(context, task, worker);
    };
    tbb::parallel_for(tbb::blocked_range<int64_t>(0, tasks), chunk);
  });
}

}  // namespace mpt::cpu
