// lib/device.h on the host, and launches.
#include <cstring>
#include <utility>

#include "backend/cuda/emu/block.h"
#include "backend/cuda/emu/engine.h"
#include "backend/cuda/emu/libraries.h"
#include "backend/cuda/lib/device.h"
#include "core/error.h"

namespace mpt::cuda {

void launch_failed(int code, const char* reason) { fail(MPT_ERROR_DEVICE, "emu: launch: %s (%d)", reason, code); }

namespace emu {
namespace {

// Devices by the number that make_current() gives back.
std::map<int, Engine*>& numbered() {
  static std::map<int, Engine*> all;
  return all;
}

class EmulatedRecording : public Recording {
 public:
  EmulatedRecording(Engine& engine, std::shared_ptr<const Recorded> recorded)
      : engine_(engine), recorded_(std::move(recorded)) {}
  void run(Stream stream) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("recorded work");
    engine_.enqueue(stream,
                    {"recorded work", [engine = &engine_, recorded = recorded_] { engine->replay(*recorded); }});
  }

 private:
  Engine& engine_;
  std::shared_ptr<const Recorded> recorded_;
};

class EmulatedDevice : public Device {
 public:
  explicit EmulatedDevice(const EmulationOptions& options) : engine_(options) {
    properties_.name = "emulated device";
    properties_.major = 9;
    properties_.minor = 0;
    properties_.multiprocessors = 4;
    properties_.memory_bytes = options.memory_bytes;
    properties_.cache_bytes = uint64_t{50} << 20;
    properties_.shared_bytes_per_block = most_shared_bytes;
    const std::lock_guard lock(big_lock());
    static int count = 0;
    number_ = ++count;
    numbered()[number_] = &engine_;
  }
  ~EmulatedDevice() override {
    const std::lock_guard lock(big_lock());
    numbered().erase(number_);
  }

  const DeviceProperties& properties() const override { return properties_; }
  int make_current() override {
    const std::lock_guard lock(big_lock());
    int previous = 0;
    for (const auto& [number, engine] : numbered())
      if (engine == current_engine()) previous = number;
    current_engine() = &engine_;
    return previous;
  }
  void restore_current(int previous) noexcept override {
    const std::lock_guard lock(big_lock());
    const auto found = numbered().find(previous);
    current_engine() = found == numbered().end() ? nullptr : found->second;
  }

  void* allocate(uint64_t bytes) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("allocation");
    return engine_.allocate(bytes, false);
  }
  void deallocate(void* pointer) noexcept override {
    const std::lock_guard lock(big_lock());
    engine_.deallocate(pointer, false);
  }
  void* allocate_pinned(uint64_t bytes) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("allocation");
    return engine_.allocate(bytes, true);
  }
  void deallocate_pinned(void* pointer) noexcept override {
    const std::lock_guard lock(big_lock());
    engine_.deallocate(pointer, true);
  }

  Stream create_stream() override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("a new stream");
    return engine_.create_stream();
  }
  void destroy_stream(Stream stream) noexcept override {
    const std::lock_guard lock(big_lock());
    engine_.destroy_stream(stream);
  }
  void synchronize(Stream stream) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("synchronization");
    engine_.synchronize(stream);
  }

  Event create_event() override { return new Mark; }
  void destroy_event(Event event) noexcept override { delete &mark(event); }
  void record(Event event, Stream stream) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("an event");
    engine_.record(mark(event), stream);
  }
  void wait(Stream stream, Event event) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("a wait");
    engine_.wait(stream, mark(event));
  }
  void synchronize_event(Event event) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("synchronization");
    engine_.synchronize(mark(event));
  }
  bool has_happened(Event event) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("a question for an event");
    return engine_.has_happened(mark(event));
  }

  // Pinned memory is read when the copy runs: what the host writes too early is seen. Other memory is read at once.
  void copy_in(Stream stream, void* to, const void* host, uint64_t bytes) override {
    if (bytes == 0) return;
    check_host(host, "copy_in");
    if (engine_.memory().is_pinned(host)) {
      enqueue(stream, "copy_in", [=](Memory& memory) {
        memory.check_device(to, bytes, "copy_in");
        memory.check_pinned(host, bytes, "copy_in");
        std::memcpy(to, host, bytes);
      });
      return;
    }
    check_not_recorded(stream, "copy_in");
    const auto* from = static_cast<const unsigned char*>(host);
    enqueue(stream, "copy_in", [to, bytes, contents = std::vector<unsigned char>(from, from + bytes)](Memory& memory) {
      memory.check_device(to, bytes, "copy_in");
      std::memcpy(to, contents.data(), bytes);
    });
  }
  void copy_out(Stream stream, void* host, const void* from, uint64_t bytes) override {
    if (bytes == 0) return;
    check_host(host, "copy_out");
    const bool pinned = engine_.memory().is_pinned(host);
    if (!pinned) check_not_recorded(stream, "copy_out");
    enqueue(stream, "copy_out", [=](Memory& memory) {
      memory.check_device(from, bytes, "copy_out");
      if (pinned) memory.check_pinned(host, bytes, "copy_out");
      std::memcpy(host, from, bytes);
    });
  }
  void copy(Stream stream, void* to, const void* from, uint64_t bytes) override {
    if (bytes == 0) return;
    enqueue(stream, "copy", [=](Memory& memory) {
      memory.check_device(to, bytes, "copy");
      memory.check_device(from, bytes, "copy");
      const auto *a = static_cast<const char*>(to), *b = static_cast<const char*>(from);
      if (a < b + bytes && b < a + bytes) fail(MPT_ERROR_DEVICE, "emu: copy: the two ranges overlap");
      std::memcpy(to, from, bytes);
    });
  }
  void fill(Stream stream, void* to, int byte, uint64_t bytes) override {
    if (bytes == 0) return;
    enqueue(stream, "fill", [=](Memory& memory) {
      memory.check_device(to, bytes, "fill");
      std::memset(to, byte, bytes);
    });
  }

  void begin_recording(Stream stream) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("recording");
    engine_.begin_recording(stream);
  }
  std::unique_ptr<Recording> end_recording(Stream stream) override {
    const std::lock_guard lock(big_lock());
    engine_.check_current("recording");
    return std::make_unique<EmulatedRecording>(engine_, engine_.end_recording(stream));
  }
  void abandon_recording(Stream stream) noexcept override {
    const std::lock_guard lock(big_lock());
    engine_.abandon_recording(stream);
  }

 private:
  static Mark& mark(Event event) { return *static_cast<Mark*>(event); }
  void check_host(const void* host, const char* what) const {
    const Memory& memory = const_cast<Engine&>(engine_).memory();
    if (memory.holds(host) && !memory.is_pinned(host))
      fail(MPT_ERROR_DEVICE, "emu: %s: expected host memory, found %s", what, memory.describe(host).c_str());
  }
  // The host's memory must stay for ever where it is recorded: only pinned memory is taken for that.
  void check_not_recorded(Stream stream, const char* what) const {
    const std::lock_guard lock(big_lock());
    if (engine_.is_recording(stream))
      fail(MPT_ERROR_DEVICE, "emu: %s of host memory that is not pinned is recorded", what);
  }

  Engine engine_;
  DeviceProperties properties_;
  int number_ = 0;
};

struct Allowed {
  std::map<void (*)(), std::size_t> bytes;
};
Allowed& allowed() {
  static Allowed all;
  return all;
}

}  // namespace

std::unique_ptr<Device> make_device(const EmulationOptions& options) {
  return std::make_unique<EmulatedDevice>(options);
}

void allow_dynamic_shared(void (*kernel)(), std::size_t bytes) {
  const std::lock_guard lock(big_lock());
  if (bytes > most_shared_bytes) launch_failed(1, "more dynamic shared memory is asked for than a block may have");
  allowed().bytes[kernel] = bytes;
}

void enqueue_kernel(const char* name, Stream stream, const LaunchShape& shape, void (*kernel)(),
                    std::function<void()> thread) {
  const std::lock_guard lock(big_lock());
  const Extent &grid = shape.grid, &block = shape.block;
  if (grid.x < 1 || grid.x > 0x7fffffffu || grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535)
    launch_failed(9, "the grid is empty or too large");
  if (block.x < 1 || block.y < 1 || block.z < 1 || block.z > 64 || uint64_t{block.x} * block.y > 1024 ||
      uint64_t{block.x} * block.y * block.z > 1024)
    launch_failed(9, "the block is empty or has more than 1024 threads");
  if (shape.shared_bytes > static_shared_bytes && shape.shared_bytes > allowed().bytes[kernel])
    launch_failed(1, "more than 48 KiB of dynamic shared memory, which were not allowed");
  Engine& engine = engine_of(stream);
  engine.check_current("launch");
  engine.enqueue(stream, {name, [name, shape, thread = std::move(thread), seed = engine.seed()] {
                            run_grid(name, shape, thread, seed);
                          }});
}

}  // namespace emu
}  // namespace mpt::cuda
