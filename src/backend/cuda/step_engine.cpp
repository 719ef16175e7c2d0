#include "backend/cuda/step_engine.h"

#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/registry.h"
#include "core/error.h"
#include "kernels/step.h"

namespace mpt::cuda {
namespace {

class Program final : public StepProgram {
 public:
  explicit Program(const StepWork& step_work) : work(step_work) {}
  StepWork work;
  std::unique_ptr<Recording> recording;  // null: kernel by kernel
  const void* segments = nullptr;        // where the tables were when it was recorded
};

class Engine final : public StepEngine {
 public:
  Engine(Device& device, Stream stream, FlatPasses& passes, const StepRules& rules)
      : device_(device),
        stream_(stream),
        passes_(passes),
        state_(device, sizeof(StepState)),
        control_(device, sizeof(FlatControl)),
        rules_(device, sizeof(StepRules) + table_bytes(rules)),
        outcomes_(device, sizeof(StepOutcome) * kept) {
    StepRules on_device = rules;
    std::vector<char> bytes(sizeof(StepRules) + table_bytes(rules));
    if (rules.schedule.table_length > 0) {
      on_device.schedule.table = reinterpret_cast<const double*>(rules_.device<char>() + sizeof(StepRules));
      std::memcpy(bytes.data() + sizeof(StepRules), rules.schedule.table, table_bytes(rules));
    }
    std::memcpy(bytes.data(), &on_device, sizeof on_device);
    rules_.upload(stream_, bytes.data(), bytes.size());
    const FlatControl control{};
    control_.upload(stream_, &control, sizeof control);
    for (uint64_t i = 0; i < kept; ++i) events_.emplace_back(device);
  }
  ~Engine() override {
    try {
      const CurrentDevice current(device_);
      device_.synchronize(stream_);
    } catch (...) {  // the device is lost
    }
  }

  void write(const StepState& state) override {
    const CurrentDevice current(device_);
    StepState next = state;
    next.finished = finished_;
    state_.upload(stream_, &next, sizeof next);
  }
  StepState read() override {
    const CurrentDevice current(device_);
    StepState state;
    state_.download(stream_, &state, sizeof state);
    return state;
  }

  std::unique_ptr<StepProgram> make_program(const StepWork& work) override {
    const CurrentDevice current(device_);
    auto program = std::make_unique<Program>(work);
    if (work.recorded) record(program.get());
    return program;
  }

  uint64_t run(StepProgram& step_program) override {
    const CurrentDevice current(device_);
    auto& program = static_cast<Program&>(step_program);
    const FlatTables tables = passes_.tables(*program.work.store);
    // The slot's last outcome must have been written before another is: this bounds how far the host runs ahead.
    const uint64_t number = finished_;
    const Event event = events_[number % kept].get();
    if (program.work.update && number >= kept) device_.synchronize_event(event);
    if (program.recording && program.segments != tables.segments) record(&program);
    if (program.recording)
      program.recording->run(stream_);
    else
      enqueue(program.work, tables);
    if (!program.work.update) return number;
    device_.record(event, stream_);
    ++finished_;
    return number;
  }

  bool outcome(uint64_t number, bool wait, StepOutcome* out) override {
    MPT_INVARIANT(number < finished_ && finished_ - number <= kept);
    const CurrentDevice current(device_);
    const Event event = events_[number % kept].get();
    if (wait)
      device_.synchronize_event(event);
    else if (!device_.has_happened(event))
      return false;
    *out = outcomes_.pinned<StepOutcome>()[number % kept];
    return true;
  }

 private:
  static uint64_t table_bytes(const StepRules& rules) {
    return rules.schedule.table ? static_cast<uint64_t>(rules.schedule.table_length) * sizeof(double) : 0;
  }

  void record(Program* program) {
    const FlatTables tables = passes_.tables(*program->work.store);  // they are copied now, not with every run
    program->recording.reset();
    device_.begin_recording(stream_);
    try {
      enqueue(program->work, tables);
    } catch (...) {
      device_.abandon_recording(stream_);
      throw;
    }
    program->recording = device_.end_recording(stream_);
    program->segments = tables.segments;
  }

  void enqueue(const StepWork& work, const FlatTables& tables) {
    const StepPointers step{state_.device<StepState>(), control_.device<FlatControl>(), outcomes_.pinned<StepOutcome>(),
                            static_cast<uint32_t>(kept), rules_.device<StepRules>()};
    step_begin(step, stream_);
    work.pass(work.self, &step.state->vars);
    step_add_loss(step, work.loss, element_of(work.loss_dtype), stream_);
    if (!work.update) return;
    step_prepare_check(step, stream_);
    passes_.check(tables, step.control);
    step_decide(step, stream_);
    if (work.averages) passes_.seed_averages(tables, step.control);
    passes_.update(tables, work.hyper, step.control);
    step_finish(step, stream_);
  }

  Device& device_;
  Stream stream_;
  FlatPasses& passes_;
  Block state_, control_, rules_, outcomes_;  // of outcomes_ the pinned half alone is used
  std::vector<OwnEvent> events_;              // by slot: the step whose outcome it holds is over
  uint64_t finished_ = 0;                     // outcomes enqueued
};

}  // namespace

std::unique_ptr<StepEngine> make_step_engine(Device& device, Stream stream, FlatPasses& passes,
                                             const StepRules& rules) {
  const CurrentDevice current(device);
  return std::make_unique<Engine>(device, stream, passes, rules);
}

}  // namespace mpt::cuda
