// Plans only: another backend chooses the kernels and says what scratch they need, nothing is run, and memory is addresses
// with nothing behind them, so that steps of sizes that no machine has can be compiled and their bytes counted.
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
  explicit NullKernel(std::unique_ptr<Kernel> planned) : planned_(std::move(planned)) {}
  void run(const KernelArgs&) const override { refuse("run"); }
  uint64_t scratch_bytes() const override { return planned_->scratch_bytes(); }
  const char* implementation() const override { return planned_->implementation(); }

 private:
  std::unique_ptr<Kernel> planned_;
};

class NullBackend : public Backend {
 public:
  explicit NullBackend(std::unique_ptr<Backend> planned) : planned_(std::move(planned)) {}

  const char* name() const override { return "null"; }
  std::string info() const override {
    return std::string("plans for ") + planned_->name() + " (" + planned_->info() + ")";
  }
  bool executes() const override { return false; }
  bool host_memory() const override { return false; }

  std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node) override {
    return std::make_unique<NullKernel>(planned_->prepare(graph, node));
  }
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
  const std::unique_ptr<Backend> planned_;
  // No process has memory at addresses from here on: a read by mistake faults.
  std::atomic<uint64_t> next_{uint64_t{1} << 63};
};

}  // namespace

std::unique_ptr<Backend> make_null_backend(std::unique_ptr<Backend> planned) {
  return std::make_unique<NullBackend>(std::move(planned));
}

}  // namespace mpt
