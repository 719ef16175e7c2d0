// The CUDA backend: memory and one stream of a device, and what its kernels are chosen for.
#include "backend/cuda/backend.h"

#include "backend/cuda/flat_passes.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/registry.h"
#include "backend/cuda/staging.h"
#include "backend/cuda/step_engine.h"
#include "core/error.h"
#include "kernels/convert.h"

namespace mpt::cuda {
namespace {

class CudaBackend : public Backend {
 public:
  CudaBackend(Libraries libraries, int index, Stream stream)
      : device_(std::move(libraries.device)),
        blas_(std::move(libraries.blas)),
        dnn_(std::move(libraries.dnn)),
        scope_(*device_),
        index_(index),
        stream_(*device_, stream),
        passes_(*device_, stream_.get()),
        target_{*device_, *blas_, dnn_.get(), stream_.get()},
        staging_(*device_, stream_.get()),
        control_(*device_, sizeof(FlatControl)),
        vars_(*device_, sizeof(StepVars)) {
    scope_.leave();
  }
  ~CudaBackend() override {
    try {
      const CurrentDevice current(*device_);
      device_->synchronize(stream_.get());
    } catch (...) {  // the device is lost: nothing is left to wait for
    }
  }

  const char* name() const override { return "cuda"; }
  std::string info() const override {
    const DeviceProperties& p = device_->properties();
    return p.name + ", sm_" + std::to_string(p.major) + std::to_string(p.minor) + (dnn_ ? ", cuDNN" : "");
  }
  bool host_memory() const override { return false; }
  int32_t device_type() const override { return MPT_DEVICE_CUDA; }
  int32_t device_index() const override { return index_; }
  void* stream() const override { return stream_.get(); }

  std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node) override {
    const CurrentDevice current(*device_);
    return registry().prepare("cuda", graph, node, target_);
  }

  void execute(void (*work)(void*), void* argument) override {
    const CurrentDevice current(*device_);
    work(argument);
  }
  void synchronize() override {
    const CurrentDevice current(*device_);
    device_->synchronize(stream_.get());
  }
  const StepVars* place_vars(const StepVars& vars) override {
    vars_.upload(stream_.get(), &vars, sizeof vars);
    return vars_.device<StepVars>();
  }

  void* allocate(uint64_t bytes) override {
    if (bytes == 0) return nullptr;
    const CurrentDevice current(*device_);
    return device_->allocate(bytes);
  }
  // Work that still uses it comes first.
  void deallocate(void* pointer, uint64_t) noexcept override {
    if (pointer == nullptr) return;
    try {
      const CurrentDevice current(*device_);
      device_->synchronize(stream_.get());
    } catch (...) {
    }
    device_->deallocate(pointer);
  }
  void copy_in(void* device, const void* host, uint64_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(*device_);
    device_->copy_in(stream_.get(), device, host, bytes);
    device_->synchronize(stream_.get());
  }
  void copy_out(void* host, const void* device, uint64_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(*device_);
    device_->copy_out(stream_.get(), host, device, bytes);
    device_->synchronize(stream_.get());
  }
  void fill_zero(void* device, uint64_t bytes) override {
    if (bytes == 0) return;
    const CurrentDevice current(*device_);
    device_->fill(stream_.get(), device, 0, bytes);
  }

  void convert(const mpt_array& to, const mpt_array& from, float factor) override {
    ConvertArgs args{};
    args.from = from.data;
    args.to = to.data;
    args.from_type = static_cast<AnyType>(from.dtype);
    args.to_type = static_cast<AnyType>(to.dtype);
    args.rank = from.rank;
    args.count = 1;
    for (int d = 0; d < from.rank; ++d) {
      args.count *= from.shape[d];
      args.size[d] = from.shape[d];
      args.from_stride[d] = from.strides[d];
      args.to_stride[d] = to.strides[d];
    }
    args.factor = factor;
    const CurrentDevice current(*device_);
    cuda::convert(args, stream_.get());
  }

  void* take_staging(uint64_t bytes) override {
    const CurrentDevice current(*device_);
    return staging_.take(bytes);
  }
  void send_staging(void* staged, void* device, uint64_t bytes) override {
    const CurrentDevice current(*device_);
    staging_.send(staged, device, bytes);
  }
  void cancel_staging(void* staged) noexcept override { staging_.cancel(staged); }
  std::unique_ptr<StepEngine> make_step_engine(const StepRules& rules) override {
    return cuda::make_step_engine(*device_, stream_.get(), passes_, rules);
  }

  void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) override {
    FlatControl c{};
    c.inverse_scale = args.inverse_scale;
    c.clip_value = args.clip_value;
    control_.upload(stream_.get(), &c, sizeof c);
    passes_.check(passes_.tables(store), control_.device<FlatControl>());
    c = read_control();
    out->sum_of_squares += c.sum_of_squares;
    if (c.non_finite > 0 && out->first_segment < 0) {
      out->first_segment = c.first_segment;
      out->first_element = c.first_element;
    }
    out->non_finite += c.non_finite;
  }
  void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out) override {
    const FlatControl c = control_of(args);
    control_.upload(stream_.get(), &c, sizeof c);
    passes_.update(passes_.tables(store), args.hyper, control_.device<FlatControl>());
    const FlatControl found = read_control();
    if (found.overflows > 0 && out->first_overflow < 0) out->first_overflow = found.first_overflow;
    out->overflows_16bit += found.overflows;
  }
  void round_copies(const FlatStore& store) override { passes_.round_copies(passes_.tables(store)); }
  void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) override {
    const FlatTables tables = passes_.tables(store);
    Block pointers(*device_, store.segments.size() * sizeof(float*));
    pointers.upload(stream_.get(), sums, store.segments.size() * sizeof(float*));
    passes_.accumulate(tables, pointers.device<float*>(), factor, first);
    device_->synchronize(stream_.get());  // `pointers` goes
  }
  void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) override {
    const FlatControl c = control_of(args);
    control_.upload(stream_.get(), &c, sizeof c);
    Block result(*device_, sizeof *out);
    passes_.statistics(passes_.tables(store), args.hyper, control_.device<FlatControl>(),
                       result.device<mpt_update_statistics>());
    result.download(stream_.get(), out, sizeof *out);
  }

 private:
  // The device is current while the members are made.
  class Scope {
   public:
    explicit Scope(Device& device) : current_(std::make_unique<CurrentDevice>(device)) {}
    void leave() { current_.reset(); }

   private:
    std::unique_ptr<CurrentDevice> current_;
  };

  static FlatControl control_of(const UpdateArgs& args) {
    FlatControl c{};
    c.inverse_scale = args.inverse_scale;
    c.clip_value = args.clip_value;
    c.apply = 1;
    c.learning_rate = args.learning_rate;
    c.step = args.step;
    c.clip_factor = args.clip_factor;
    c.average_decay = args.average_decay;
    return c;
  }
  FlatControl read_control() {
    FlatControl c;
    control_.download(stream_.get(), &c, sizeof c);
    return c;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Blas> blas_;
  std::unique_ptr<Dnn> dnn_;
  Scope scope_;
  int index_;
  OwnStream stream_;
  FlatPasses passes_;
  Target target_;
  Staging staging_;
  Block control_, vars_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(Libraries libraries, int index, Stream stream) {
  return std::make_unique<CudaBackend>(std::move(libraries), index, stream);
}

}  // namespace mpt::cuda
