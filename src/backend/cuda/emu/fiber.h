// Fibers: stacks to switch between, one for each CUDA thread that waits. A register switch of our own on x86-64,
// elsewhere ucontext. AddressSanitizer is told of every switch.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace mpt::cuda::emu {

class Fiber {
 public:
  Fiber() = default;  // the thread's own stack
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to it calls `entry`, which never returns, on a stack of its own. `shift` moves the stack's top,
  // so that the tops of many stacks do not compete for the same lines of the cache.
  void prepare(void (*entry)(), std::size_t shift);
  // After an error: what runs on it was left in the middle.
  void forget_frames();
  // To be called first in `entry`.
  static void entered();
  // Until something switches back to this one. `last`: nothing will.
  void switch_to(Fiber& to, bool last = false);

 private:
  void after_switch();

#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  void* memory_ = nullptr;
  const void* bottom_ = nullptr;  // of the stack, for AddressSanitizer
  std::size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace mpt::cuda::emu
