#include "backend/cuda/emu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define MPT_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MPT_EMU_ASAN 1
#endif
#endif
#if defined(MPT_EMU_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace mpt::cuda::emu {

namespace {

#if defined(MPT_EMU_ASAN)
constexpr std::size_t stack_bytes = 256 << 10;
#else
constexpr std::size_t stack_bytes = 128 << 10;
#endif

// Who switched last: its stack is what AddressSanitizer describes to whoever goes on. One block runs at a time.
Fiber* previous = nullptr;
Fiber* now = nullptr;

}  // namespace

#if defined(__x86_64__)

// Keeps what a call keeps - rbx, rbp, r12 to r15 and the stack - in *from, and takes it from `to`. No kernel changes
// the modes of the floating-point unit.
extern "C" void mpt_emu_switch(void** from, void* to);
asm(R"(
.text
.globl mpt_emu_switch
.hidden mpt_emu_switch
.type mpt_emu_switch, @function
mpt_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mpt_emu_switch, .-mpt_emu_switch
)");

#endif

void Fiber::prepare(void (*entry)(), std::size_t shift) {
  if (!memory_) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* memory =
        mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail(MPT_ERROR_OUT_OF_MEMORY, "emu: no memory for a stack");
    mprotect(memory, page, PROT_NONE);  // a stack that runs over faults
    memory_ = memory;
    bottom_ = static_cast<char*>(memory) + page;
    bytes_ = stack_bytes;
  }
  fake_stack_ = nullptr;
  char* top = static_cast<char*>(const_cast<void*>(bottom_)) + bytes_ - shift % (bytes_ / 8) / 64 * 64;
#if defined(MPT_EMU_ASAN)
  // The outermost frames never return: what AddressSanitizer knows of those before is forgotten.
  constexpr std::size_t outermost = 4096;
  __asan_unpoison_memory_region(top - outermost,
                                static_cast<std::size_t>(static_cast<const char*>(bottom_) + bytes_ - top) + outermost);
#endif
#if defined(__x86_64__)
  void** frame = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 6; ++i) frame[i] = nullptr;
  frame[6] = reinterpret_cast<void*>(entry);
  frame[7] = nullptr;  // where `entry` would return to
  stack_pointer_ = frame;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = const_cast<void*>(bottom_);
  context_.uc_stack.ss_size = static_cast<std::size_t>(top - static_cast<const char*>(bottom_));
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::forget_frames() {
#if defined(MPT_EMU_ASAN)
  if (memory_) __asan_unpoison_memory_region(bottom_, bytes_);
#endif
}

Fiber::~Fiber() {
  if (memory_) munmap(memory_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + stack_bytes);
}

void Fiber::after_switch() {
#if defined(MPT_EMU_ASAN)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
  if (previous && !previous->memory_) {  // the thread's own stack becomes known by leaving it
    previous->bottom_ = bottom;
    previous->bytes_ = bytes;
  }
#endif
}

void Fiber::entered() { now->after_switch(); }

void Fiber::switch_to(Fiber& to, [[maybe_unused]] bool last) {
#if defined(MPT_EMU_ASAN)
  __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack_, to.bottom_, to.bytes_);
#endif
  previous = this;
  now = &to;
#if defined(__x86_64__)
  mpt_emu_switch(&stack_pointer_, to.stack_pointer_);
#else
  swapcontext(&context_, &to.context_);
#endif
  after_switch();
}

}  // namespace mpt::cuda::emu
