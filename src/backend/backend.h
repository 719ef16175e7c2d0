// All that the engine asks of a device. ref, cpu, null and cuda implement it; nobody else includes their headers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/flat_store.h"
#include "backend/step_engine.h"
#include "graph/graph.h"
#include "kernels/numerics/step_vars.h"

namespace mpt {

// Pointers of one launch, resolved before the step. Missing optional tensors are null.
struct KernelArgs {
  const void* const* inputs;
  void* const* outputs;
  void* scratch;         // scratch_bytes(), 64-byte aligned; contents undefined
  const StepVars* vars;  // on the device: read through this pointer, never baked in
};

// A node prepared for a device: implementation chosen, everything that can be computed before the step computed.
// run() allocates nothing and is safe to call for different data from different threads.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const KernelArgs& args) const = 0;
  virtual uint64_t scratch_bytes() const { return 0; }
  virtual const char* implementation() const = 0;  // for plan dumps: "gemm.avx512.bf16"
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  virtual std::string info() const { return {}; }                 // instruction set, threads: for logs
  virtual bool executes() const { return true; }                  // false: plans only
  virtual bool host_memory() const { return true; }               // the host may read and write device memory
  virtual int32_t device_type() const { return MPT_DEVICE_CPU; }  // of its memory, as in mpt_array
  virtual int32_t device_index() const { return 0; }
  virtual void* stream() const { return nullptr; }  // that everything is enqueued on; null: there is none

  // The first implementation in this backend's list that takes the node. Throws UNSUPPORTED, naming the op.
  virtual std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node) = 0;

  // Runs `work` with the backend's threads and floating-point mode in place (the caller's are restored). One at a time.
  virtual void execute(void (*work)(void*), void* argument) = 0;
  virtual void synchronize() {}
  // `vars` where kernels can read them, until the next call; inside execute().
  virtual const StepVars* place_vars(const StepVars& vars) { return &vars; }

  // Device memory, 64-byte aligned, through the context's allocator.
  virtual void* allocate(uint64_t bytes) = 0;
  virtual void deallocate(void* pointer, uint64_t bytes) noexcept = 0;
  virtual void copy_in(void* device, const void* host, uint64_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, uint64_t bytes) = 0;
  virtual void fill_zero(void* device, uint64_t bytes) = 0;
  // For host_memory() == false: to = from * factor (of floats) between arrays in its memory, of equal shapes, any types and
  // with all strides given. Enqueued.
  virtual void convert(const mpt_array& /*to*/, const mpt_array& /*from*/, float /*factor*/) {}

  // For host_memory() == false: host memory that is filled and then sent, without waiting for what runs on the device.
  // What was taken is sent or cancelled; it is not the caller's any more then.
  virtual void* take_staging(uint64_t) { return nullptr; }
  virtual void send_staging(void* /*staged*/, void* /*device*/, uint64_t /*bytes*/) {}
  virtual void cancel_staging(void* /*staged*/) noexcept {}

  // Null where the host decides on every step. The schedule's table is copied.
  virtual std::unique_ptr<StepEngine> make_step_engine(const StepRules&) { return nullptr; }

  // The flat passes over a parameter store; called inside execute(). Sums are formed in a fixed order.
  // Finite check and norm of all gradients in one read: adds to `out`.
  virtual void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) = 0;
  // Unscale, clip, decay, moments, master, 16-bit copy, average in one pass (LAMB and NovoGrad: one more for their norms).
  virtual void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out) = 0;
  // master -> 16-bit copy.
  virtual void round_copies(const FlatStore& store) = 0;
  // sums[i] (+)= factor * gradient[i] for FP32 accumulators (shared optimizers of several objectives).
  virtual void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) = 0;
  // Of gradients (unscaled) and of the updates that `args` would make; runs before update().
  virtual void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) = 0;
};

struct BackendOptions {
  int threads = 0;  // 0: as many as the process may use
  void* (*allocate)(void* user, uint64_t bytes, uint64_t alignment) = nullptr;
  void (*deallocate)(void* user, void* pointer, uint64_t bytes) = nullptr;
  void* user = nullptr;
  void* stream = nullptr;  // of the caller's, for devices that have streams; null: one of the backend's own
};

// Instruction set and libraries, found without starting anything.
std::string cpu_build_info();

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions&);
std::unique_ptr<Backend> make_ref_backend(const BackendOptions&);
// Plans as for the device of `planned`, runs nothing.
std::unique_ptr<Backend> make_null_backend(std::unique_ptr<Backend> planned);

}  // namespace mpt
