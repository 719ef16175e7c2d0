// The threads of one context. Work is given as numbered tasks whose count and extent depend on the problem alone, so that
// results have the same bits for any number of threads: a task never learns how many there are.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace mpt::cpu {

class Parallel {
 public:
  // threads = 0: one per hardware thread this process may use. No thread is started before work needs one.
  explicit Parallel(int threads);
  ~Parallel();
  Parallel(const Parallel&) = delete;
  Parallel& operator=(const Parallel&) = delete;

  int threads() const { return threads_; }

  // Calls body(context, task, worker) once for every task in [0, tasks), in any order, and returns when all are done.
  // worker < threads() is unique among the calls of this run that are under way: it indexes the scratch of one thread.
  // The floating-point mode is round to nearest with subnormals kept in every call, and the caller's again afterwards.
  // A body must not start parallel work itself. The first exception that a body throws is rethrown here.
  using Body = void (*)(void* context, int64_t task, int worker);
  void run(int64_t tasks, Body body, void* context) const;

  template <typename F>
  void run(int64_t tasks, F&& body) const {
    using Function = std::remove_reference_t<F>;
    run(
        tasks, [](void* context, int64_t task, int worker) { (*static_cast<Function*>(context))(task, worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Calls body(begin, end) for consecutive ranges of `grain` elements (the last may be shorter) that cover [0, n).
  template <typename F>
  void for_range(int64_t n, int64_t grain, F&& body) const {
    if (n <= 0) return;
    run((n + grain - 1) / grain, [&](int64_t task, int) {
      const int64_t begin = task * grain;
      body(begin, begin + grain < n ? begin + grain : n);
    });
  }

 private:
  struct Arena;
  int threads_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace mpt::cpu
