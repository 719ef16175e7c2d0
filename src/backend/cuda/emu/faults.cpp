#include "backend/cuda/emu/faults.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "backend/cuda/emu/block.h"
#include "backend/cuda/emu/memory.h"

namespace mpt::cuda::emu {

namespace {

std::mutex mutex;
std::vector<const Memory*>& memories() {
  static std::vector<const Memory*> all;
  return all;
}
struct sigaction before[2];

const Memory* memory_of(const void* address) {
  for (const Memory* memory : memories())
    if (memory->holds(address)) return memory;
  return nullptr;
}

// Faults are synchronous: they interrupt a kernel or the host's own access, and no code that holds a lock.
void on_fault(int signal, siginfo_t* info, void* context) {
  const void* address = info->si_addr;
  give_block_up(address);  // does not return where a kernel runs
  if (memory_of(address)) {
    const std::string text = "emu: the host touched device memory: " + describe_address(address) + "\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  }
  const struct sigaction& next = before[signal == SIGBUS];
  if (next.sa_flags & SA_SIGINFO) {
    next.sa_sigaction(signal, info, context);
  } else if (next.sa_handler != SIG_DFL && next.sa_handler != SIG_IGN) {
    next.sa_handler(signal);
  } else {
    ::signal(signal, SIG_DFL);  // the access is tried again, and ends the program
  }
}

// A stack of its own for the handler: that of a kernel's thread may be what ran over.
void have_alternate_stack() {
  stack_t now{};
  if (sigaltstack(nullptr, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return;
  static thread_local std::vector<char> stack(64 << 10);
  stack_t own{};
  own.ss_sp = stack.data();
  own.ss_size = stack.size();
  sigaltstack(&own, nullptr);
}

}  // namespace

void watch(const Memory& memory) {
  const std::lock_guard lock(mutex);
  memories().push_back(&memory);
  have_alternate_stack();
  struct sigaction now {
  }, own{};
  sigaction(SIGSEGV, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) return;
  // Not deferred: a kernel's fault leaves the handler by switching to another stack.
  own.sa_sigaction = on_fault;
  own.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigemptyset(&own.sa_mask);
  sigaction(SIGSEGV, &own, &before[0]);
  sigaction(SIGBUS, &own, &before[1]);
}

void forget(const Memory& memory) {
  const std::lock_guard lock(mutex);
  auto& all = memories();
  all.erase(std::remove(all.begin(), all.end(), &memory), all.end());
}

std::string describe_address(const void* address) {
  if (const Memory* memory = memory_of(address)) return memory->describe(address);
  char text[64];
  std::snprintf(text, sizeof text, "address %p of the host", address);
  return text;
}

}  // namespace mpt::cuda::emu
