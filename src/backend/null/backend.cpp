// Plans only: every node is taken, nothing is run, and memory is addresses with nothing behind them, so that steps of sizes
// that no machine has can be compiled and their bytes counted.
#include <atomic>

#include "backend/backend.h"
#include "core/error.h"

namespace mpt {
namespace {

[[noreturn]] void refuse(const char* what) {
  fail(MPT_ERROR_UNSUPPORTED, "null: %s: this device compiles and plans, but runs nothing", what);
}

class NullKernel : public Kernel {
 public:
  void run(const KernelArgs&) const override { refuse("run"); }
  const char* implementation() const override { return "null"; }
};

class NullBackend : public Backend {
 public:
  const char* name() const override { return "null"; }
  std::string info() const override { return "plans only"; }
  bool executes() const override { return false; }
  bool host_memory() const override { return false; }

  std::unique_ptr<Kernel> prepare(const Graph&, const Node&) override { return std::make_unique<NullKernel>(); }
  void execute(void (*work)(void*), void* argument) override { work(argument); }

  void* allocate(uint64_t bytes) override {
    if (bytes == 0) return nullptr;
    return reinterpret_cast<void*>(
        static_cast<uintptr_t>(next_.fetch_add((bytes + alignment - 1) / alignment * alignment)));
  }
  void deallocate(void*, uint64_t) noexcept override {}
  void copy_in(void*, const void*, uint64_t) override {}
  void copy_out(void*, const void*, uint64_t) override { refuse("copy_out"); }
  void fill_zero(void*, uint64_t) override {}

  void check_gradients(const FlatStore&, const CheckArgs&, CheckResult*) override { refuse("check_gradients"); }
  void update(const FlatStore&, const UpdateArgs&, UpdateResult*) override { refuse("update"); }
  void round_copies(const FlatStore&) override {}
  void accumulate_gradients(const FlatStore&, float* const*, float, bool) override { refuse("accumulate_gradients"); }
  void statistics(const FlatStore&, const UpdateArgs&, mpt_update_statistics*) override { refuse("statistics"); }

 private:
  static constexpr uint64_t alignment = 64;
  // No process has memory at addresses from here on: a read by mistake faults.
  std::atomic<uint64_t> next_{uint64_t{1} << 63};
};

}  // namespace

std::unique_ptr<Backend> make_null_backend(const BackendOptions&) { return std::make_unique<NullBackend>(); }

}  // namespace mpt
