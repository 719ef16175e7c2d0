// The oracle: double precision, one thread, written to be read.
#include <cstdlib>
#include <cstring>

#include "backend/ref/flat_passes.h"
#include "backend/ref/registry.h"
#include "core/float_mode.h"
#include "ops/op.h"

namespace mpt {

namespace {

class RefBackend : public Backend {
 public:
  explicit RefBackend(const BackendOptions& options) : options_(options) {}

  const char* name() const override { return "ref"; }
  std::string info() const override { return "double precision, 1 thread"; }

  std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node) override {
    const ref::Prepare prepare = ref::implementation_of(node.kind);
    if (!prepare)
      fail(MPT_ERROR_UNSUPPORTED, "ref: no implementation of '%s' (node '%s')", op_def(node.kind).name,
           node.name.c_str());
    return prepare(graph, node);
  }

  void execute(void (*work)(void*), void* argument) override {
    const FloatMode mode;
    work(argument);
  }

  void* allocate(uint64_t bytes) override {
    if (bytes == 0) return nullptr;
    void* pointer = options_.allocate ? options_.allocate(options_.user, bytes, alignment)
                                      : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!pointer)
      fail(MPT_ERROR_OUT_OF_MEMORY, "ref: %llu bytes could not be allocated", static_cast<unsigned long long>(bytes));
    return pointer;
  }
  void deallocate(void* pointer, uint64_t bytes) noexcept override {
    if (!pointer) return;
    if (options_.allocate) {
      if (options_.deallocate) options_.deallocate(options_.user, pointer, bytes);
    } else {
      std::free(pointer);
    }
  }
  void copy_in(void* device, const void* host, uint64_t bytes) override {
    if (bytes) std::memcpy(device, host, bytes);
  }
  void copy_out(void* host, const void* device, uint64_t bytes) override {
    if (bytes) std::memcpy(host, device, bytes);
  }
  void fill_zero(void* device, uint64_t bytes) override {
    if (bytes) std::memset(device, 0, bytes);
  }

  void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) override {
    ref::check_gradients(store, args, out);
  }
  void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out) override {
    ref::update(store, args, out);
  }
  void round_copies(const FlatStore& store) override { ref::round_copies(store); }
  void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) override {
    ref::accumulate_gradients(store, sums, factor, first);
  }
  void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) override {
    ref::statistics(store, args, out);
  }

 private:
  static constexpr uint64_t alignment = 64;
  BackendOptions options_;
};

}  // namespace

std::unique_ptr<Backend> make_ref_backend(const BackendOptions& options) {
  return std::make_unique<RefBackend>(options);
}

}  // namespace mpt
