// The CUDA backend: memory and one stream of a device, and what its kernels are chosen for.
#include "backend/cuda/backend.h"

#include <cstring>

#include "backend/cuda/flat_passes.h"
#include "backend/cuda/registry.h"
#include "core/error.h"

namespace mpt::cuda {
namespace {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(Libraries libraries)
      : device_(std::move(libraries.device)),
        blas_(std::move(libraries.blas)),
        dnn_(std::move(libraries.dnn)),
        scope_(*device_),
        stream_(*device_),
        passes_(*device_, stream_.get()),
        target_{*device_, *blas_, dnn_.get(), stream_.get()},
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
    upload(vars_, &vars, sizeof vars);
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

  void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out) override {
    FlatControl c{};
    c.inverse_scale = args.inverse_scale;
    c.clip_value = args.clip_value;
    upload(control_, &c, sizeof c);
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
    upload(control_, &c, sizeof c);
    passes_.update(passes_.tables(store), args.hyper, control_.device<FlatControl>());
    const FlatControl found = read_control();
    if (found.overflows > 0 && out->first_overflow < 0) out->first_overflow = found.first_overflow;
    out->overflows_16bit += found.overflows;
  }
  void round_copies(const FlatStore& store) override { passes_.round_copies(passes_.tables(store)); }
  void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first) override {
    const FlatTables tables = passes_.tables(store);
    Block pointers(*device_, store.segments.size() * sizeof(float*));
    upload(pointers, sums, store.segments.size() * sizeof(float*));
    passes_.accumulate(tables, pointers.device<float*>(), factor, first);
    device_->synchronize(stream_.get());  // `pointers` goes
  }
  void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out) override {
    const FlatControl c = control_of(args);
    upload(control_, &c, sizeof c);
    Block result(*device_, sizeof *out);
    passes_.statistics(passes_.tables(store), args.hyper, control_.device<FlatControl>(),
                       result.device<mpt_update_statistics>());
    download(result, out, sizeof *out);
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
  class OwnStream {
   public:
    explicit OwnStream(Device& device) : device_(device), stream_(device.create_stream()) {}
    ~OwnStream() { device_.destroy_stream(stream_); }
    Stream get() const { return stream_; }

   private:
    Device& device_;
    Stream stream_;
  };
  // Device memory with pinned host memory beside it, for small structs.
  class Block {
   public:
    Block(Device& device, uint64_t bytes)
        : device_(device), memory_(device.allocate(bytes)), pinned_(nullptr) {
      try {
        pinned_ = device.allocate_pinned(bytes);
      } catch (...) {
        device.deallocate(memory_);
        throw;
      }
    }
    ~Block() {
      device_.deallocate(memory_);
      device_.deallocate_pinned(pinned_);
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    template <typename T = void>
    T* device() const {
      return static_cast<T*>(memory_);
    }
    void* pinned() const { return pinned_; }

   private:
    Device& device_;
    void* memory_;
    void* pinned_;
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
  // The pinned copy may still be read by an earlier upload: it is waited for.
  void upload(const Block& block, const void* from, uint64_t bytes) {
    device_->synchronize(stream_.get());
    std::memcpy(block.pinned(), from, bytes);
    device_->copy_in(stream_.get(), block.device(), block.pinned(), bytes);
  }
  void download(const Block& block, void* to, uint64_t bytes) {
    device_->copy_out(stream_.get(), block.pinned(), block.device(), bytes);
    device_->synchronize(stream_.get());
    std::memcpy(to, block.pinned(), bytes);
  }
  FlatControl read_control() {
    FlatControl c;
    download(control_, &c, sizeof c);
    return c;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Blas> blas_;
  std::unique_ptr<Dnn> dnn_;
  Scope scope_;
  OwnStream stream_;
  FlatPasses passes_;
  Target target_;
  Block control_, vars_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(Libraries libraries) {
  return std::make_unique<CudaBackend>(std::move(libraries));
}

}  // namespace mpt::cuda
