// The CUDA backend without a device, for plans alone: nothing is run, so no driver is needed.
#include <cstdlib>

#include "backend/cuda/backend.h"
#include "core/error.h"

namespace mpt::cuda {
namespace {

// Memory that is asked for is for the backend's own small structs.
class PlanningDevice final : public Device {
 public:
  PlanningDevice() {
    // Of the H200's data sheet and CUDA's table of compute capability 9.0.
    properties_.name = "planning for sm_90";
    properties_.major = 9;
    properties_.multiprocessors = 132;
    properties_.memory_bytes = uint64_t{141} * 1000 * 1000 * 1000;
    properties_.cache_bytes = uint64_t{50} << 20;
    properties_.shared_bytes_per_block = 227 << 10;
  }
  const DeviceProperties& properties() const override { return properties_; }
  int make_current() override { return 0; }
  void restore_current(int) noexcept override {}

  void* allocate(uint64_t bytes) override { return allocate_host(bytes); }
  void deallocate(void* pointer) noexcept override { std::free(pointer); }
  void* allocate_pinned(uint64_t bytes) override { return allocate_host(bytes); }
  void deallocate_pinned(void* pointer) noexcept override { std::free(pointer); }

  Stream create_stream() override { return nullptr; }
  void destroy_stream(Stream) noexcept override {}
  void synchronize(Stream) override {}
  Event create_event() override { return nullptr; }
  void destroy_event(Event) noexcept override {}
  void record(Event, Stream) override {}
  void wait(Stream, Event) override {}
  void synchronize_event(Event) override {}
  bool has_happened(Event) override { return true; }
  void copy_in(Stream, void*, const void*, uint64_t) override {}
  void copy_out(Stream, void*, const void*, uint64_t) override {}
  void copy(Stream, void*, const void*, uint64_t) override {}
  void fill(Stream, void*, int, uint64_t) override {}
  void begin_recording(Stream) override { refuse(); }
  std::unique_ptr<Recording> end_recording(Stream) override { refuse(); }
  void abandon_recording(Stream) noexcept override {}

 private:
  static void* allocate_host(uint64_t bytes) {
    void* pointer = std::calloc(1, bytes);
    if (pointer == nullptr)
      fail(MPT_ERROR_OUT_OF_MEMORY, "cuda: %llu bytes could not be allocated", static_cast<unsigned long long>(bytes));
    return pointer;
  }
  [[noreturn]] static void refuse() { fail(MPT_ERROR_UNSUPPORTED, "cuda: a plan without a device runs nothing"); }

  DeviceProperties properties_;
};

// cuBLASLt chooses an algorithm by asking the device; without one the most that it may take is counted.
class PlanningBlas final : public Blas {
 public:
  class Planned final : public Plan {
   public:
    explicit Planned(uint64_t bytes) : bytes_(bytes) {}
    uint64_t workspace_bytes() const override { return bytes_; }
    void run(Stream, const BlasOperands&) const override {}

   private:
    uint64_t bytes_;
  };
  std::unique_ptr<Plan> plan(const BlasProblem& problem, uint64_t most_workspace_bytes) override {
    if (problem.a != problem.b) return nullptr;  // as cuBLASLt
    return std::make_unique<Planned>(most_workspace_bytes);
  }
};

}  // namespace

Libraries make_planning() { return {std::make_unique<PlanningDevice>(), std::make_unique<PlanningBlas>(), nullptr}; }

}  // namespace mpt::cuda
