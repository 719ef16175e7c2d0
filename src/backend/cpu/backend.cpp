// The CPU backend: the threads and memory of one context, and what its kernels are chosen for.
#include <cstdlib>
#include <cstring>

#include "backend/backend.h"
#include "backend/cpu/flat_passes.h"
#include "backend/cpu/registry.h"
#include "core/error.h"
#include "core/float_mode.h"

namespace mpt {
namespace {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options)
      : options_(options), parallel_(options.threads), isa_(cpu::isa()) {}

  const char* name() const override { return "cpu"; }
  std::string info() const override {
    return std::string(cpu::name_of(isa_)) + ", " + std::to_string(parallel_.threads()) +
           (parallel_.threads() == 1 ? " thread" : " threads");
  }

  std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node) override {
    return cpu::prepare_kernel(graph, node, {parallel_, isa_});
  }

  void execute(void (*work)(void*), void* argument) override {
    const FloatMode mode;
    work(argument);
  }

  void* allocate(uint64_t bytes) override {
    if (bytes == 0) return nullptr;
    void* pointer = options_.allocate != nullptr
                        ? options_.allocate(options_.user, bytes, alignment)
                        : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (pointer == nullptr)
      fail(MPT_ERROR_OUT_OF_MEMORY, "cpu: %llu bytes could not be allocated", static_cast<unsigned long long>(bytes));
    return pointer;
  }
  void deallocate(void* pointer, uint64_t bytes) noexcept override {
    if (pointer == nullptr) return;
    if (options_.allocate == nullptr)
      std::free(pointer);
    else if (options_.deallocate != nullptr)
      options_.deallocate(options_.user, pointer, bytes);
  }
  void copy_in(void* device, const void* host, uint64_t bytes) override { copy(device, host, bytes); }
  void copy_out(void* host, const void* device, uint64_t bytes) override { copy(host, device, bytes); }
  void fill_zero(void* device, uint64_t bytes) override {
    parallel_.for_range(static_cast<int64_t>(bytes), piece, [&](int64_t begin, int64_t end) {
      std::memset(static_cast<char*>(device) + begin, 0, static_cast<std::size_t>(end - begin));
    });
  }

  void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) override {
    cpu::check_gradients(parallel_, store, args, out);
  }
  void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out) override {
    cpu::update(parallel_, store, args, out);
  }
  void round_copies(const FlatStore& store) override { cpu::round_copies(parallel_, store); }
  void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) override {
    cpu::accumulate_gradients(parallel_, store, sums, factor, first);
  }
  void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) override {
    cpu::statistics(parallel_, store, args, out);
  }

 private:
  static constexpr uint64_t alignment = 64;
  static constexpr int64_t piece = 1 << 20;

  void copy(void* to, const void* from, uint64_t bytes) {
    parallel_.for_range(static_cast<int64_t>(bytes), piece, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                  static_cast<std::size_t>(end - begin));
    });
  }

  BackendOptions options_;
  cpu::Parallel parallel_;
  cpu::Isa isa_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace mpt
