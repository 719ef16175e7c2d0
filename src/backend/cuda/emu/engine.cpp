#include "backend/cuda/emu/engine.h"

#include <utility>

#include "backend/cuda/emu/faults.h"
#include "core/error.h"

namespace mpt::cuda::emu {

namespace {

std::map<Stream, Engine*>& owners() {
  static std::map<Stream, Engine*> all;
  return all;
}

}  // namespace

std::recursive_mutex& big_lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

Engine*& current_engine() {
  static thread_local Engine* current = nullptr;
  return current;
}

Engine& engine_of(Stream stream) {
  const auto found = owners().find(stream);
  if (found == owners().end()) fail(MPT_ERROR_DEVICE, "emu: %p is no stream, or was destroyed", stream);
  return *found->second;
}

void enqueue(Stream stream, const char* what, std::function<void(Memory&)> work) {
  const std::lock_guard lock(big_lock());
  Engine& engine = engine_of(stream);
  engine.check_current(what);
  engine.enqueue(stream, {what, [&engine, work = std::move(work)] { work(engine.memory()); }});
}

Engine::Engine(const EmulationOptions& options) : options_(options), memory_(options.memory_bytes) { watch(memory_); }

Engine::~Engine() {
  const std::lock_guard lock(big_lock());
  for (const auto& [stream, queue] : queues_) owners().erase(stream);
  forget(memory_);
  if (current_engine() == this) current_engine() = nullptr;
}

void Engine::check_current(const char* what) const {
  if (current_engine() != this) fail(MPT_ERROR_DEVICE, "emu: %s: another device is current", what);
}

void Engine::check_not_recording(const char* what) const {
  for (const auto& [stream, queue] : queues_)
    if (queue->recording) fail(MPT_ERROR_DEVICE, "emu: %s while work is recorded", what);
}

void* Engine::allocate(uint64_t bytes, bool pinned) {
  check_not_recording("allocation");
  if (!pinned && ++allocations_ == options_.fail_allocation)
    fail(MPT_ERROR_DEVICE_OUT_OF_MEMORY, "emu: allocation %lld of %llu bytes fails, as was asked for",
         static_cast<long long>(allocations_), static_cast<unsigned long long>(bytes));
  return memory_.allocate(bytes, pinned);
}

// What is wrong with it becomes the error of whoever waits next.
void Engine::deallocate(void* pointer, bool pinned) {
  if (!pointer) return;
  try {
    check_not_recording("deallocation");
    const std::string complaint = memory_.deallocate(pointer, pinned);
    if (!complaint.empty()) fail(MPT_ERROR_DEVICE, "%s", complaint.c_str());
  } catch (...) {
    if (!error_) error_ = std::current_exception();
  }
}

// ---- streams

std::shared_ptr<Queue> Engine::queue(Stream stream) const {
  const auto found = queues_.find(stream);
  if (found == queues_.end()) fail(MPT_ERROR_DEVICE, "emu: %p is no stream of this device", stream);
  return found->second;
}

Stream Engine::create_stream() {
  auto queue = std::make_shared<Queue>();
  const Stream stream = queue.get();
  queues_[stream] = std::move(queue);
  owners()[stream] = this;
  return stream;
}

// Its work stays where an event waits for it.
void Engine::destroy_stream(Stream stream) {
  queues_.erase(stream);
  owners().erase(stream);
}

void Engine::enqueue(Stream stream, Work work) {
  const auto q = queue(stream);
  if (q->recording) {
    q->recording->branches[q->branch].push_back({std::move(work), 0, 0});
    return;
  }
  q->steps.push_back({std::move(work), nullptr, 0});
  ++q->enqueued;
  if (!options_.late) run_until(*q, q->enqueued);
}

void Engine::run_until(Queue& queue, uint64_t ticket) {
  if (queue.done >= ticket) return;
  const Memory::Access access(memory_);
  while (queue.done < ticket) {
    Queue::Step step = std::move(queue.steps.front());
    queue.steps.pop_front();
    if (step.wait_for) {
      run_until(*step.wait_for, step.ticket);
    } else {
      try {
        step.work.run();
        memory_.check_zones(step.work.what);
      } catch (...) {
        if (!error_) error_ = std::current_exception();
        drop_all();
      }
    }
    if (queue.done < ticket) ++queue.done;
  }
}

// After an error nothing of what was enqueued runs.
void Engine::drop_all() {
  for (const auto& [stream, queue] : queues_) {
    queue->steps.clear();
    queue->done = queue->enqueued;
  }
}

void Engine::throw_error() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Engine::synchronize(Stream stream) {
  check_not_recording("synchronization");
  const auto q = queue(stream);
  run_until(*q, q->enqueued);
  throw_error();
}

// ---- events

void Engine::record(Mark& mark, Stream stream) {
  const auto q = queue(stream);
  mark = Mark{};
  mark.recorded = true;
  if (q->recording) {
    mark.in_recording = true;
    mark.recording = q->recording;
    mark.branch = q->branch;
    mark.position = q->recording->branches[q->branch].size();
  } else {
    mark.queue = q;
    mark.ticket = q->enqueued;
  }
}

void Engine::wait(Stream stream, const Mark& mark) {
  const auto q = queue(stream);
  if (!mark.recorded) return;
  if (mark.in_recording) {
    const auto recording = mark.recording.lock();
    if (!recording) fail(MPT_ERROR_DEVICE, "emu: a stream waits for an event of a recording that has ended");
    if (!q->recording) {  // joins it, as a branch of its own
      q->recording = recording;
      q->branch = recording->branches.size();
      recording->branches.emplace_back();
    } else if (q->recording != recording) {
      fail(MPT_ERROR_DEVICE, "emu: a stream that is recorded waits for another recording");
    }
    recording->branches[q->branch].push_back({{}, mark.branch, mark.position});
    return;
  }
  if (q->recording) fail(MPT_ERROR_DEVICE, "emu: a stream that is recorded waits for an event from before");
  q->steps.push_back({{}, mark.queue, mark.ticket});
  ++q->enqueued;
  if (!options_.late) run_until(*q, q->enqueued);
}

void Engine::synchronize(const Mark& mark) {
  check_not_recording("synchronization");
  if (mark.queue) run_until(*mark.queue, mark.ticket);
  throw_error();
}

// No at first, where there was something left to do: who asks again gets another answer.
bool Engine::has_happened(const Mark& mark) {
  check_not_recording("a question for an event");
  if (!mark.queue || mark.queue->done >= mark.ticket) return true;
  run_until(*mark.queue, mark.ticket);
  throw_error();
  return false;
}

// ---- recordings

void Engine::begin_recording(Stream stream) {
  const auto q = queue(stream);
  if (q->recording) fail(MPT_ERROR_DEVICE, "emu: the stream is recorded already");
  q->recording = std::make_shared<Recorded>();
  q->recording->branches.emplace_back();
  q->branch = 0;
}

void Engine::leave_recording(const Recorded& recorded) {
  for (const auto& [stream, queue] : queues_)
    if (queue->recording.get() == &recorded) queue->recording = nullptr;
}

namespace {

// The steps of all branches, in an order that the waits allow: those of the first, and of others what it waits for.
void walk(const Recorded& recorded, std::vector<std::size_t>& made, std::size_t branch, std::size_t position,
          const std::function<void(const Work&)>& visit) {
  while (made[branch] < position) {
    const Recorded::Step& step = recorded.branches[branch][made[branch]];
    if (step.work.run)
      visit(step.work);
    else
      walk(recorded, made, step.branch, step.position, visit);
    ++made[branch];
  }
}

}  // namespace

std::shared_ptr<const Recorded> Engine::end_recording(Stream stream) {
  const auto q = queue(stream);
  const std::shared_ptr<Recorded> recorded = q->recording;
  if (!recorded || q->branch != 0) fail(MPT_ERROR_DEVICE, "emu: no recording was begun on the stream");
  leave_recording(*recorded);
  std::vector<std::size_t> made(recorded->branches.size(), 0);
  walk(*recorded, made, 0, recorded->branches[0].size(), [](const Work&) {});
  for (std::size_t b = 0; b < made.size(); ++b)
    if (made[b] < recorded->branches[b].size())
      fail(MPT_ERROR_DEVICE, "emu: recorded work of another stream is not waited for by the one that was recorded");
  return recorded;
}

void Engine::abandon_recording(Stream stream) {
  const auto found = queues_.find(stream);
  if (found == queues_.end() || !found->second->recording) return;
  const std::shared_ptr<Recorded> recorded = found->second->recording;
  leave_recording(*recorded);
}

void Engine::replay(const Recorded& recorded) {
  std::vector<std::size_t> made(recorded.branches.size(), 0);
  walk(recorded, made, 0, recorded.branches[0].size(), [this](const Work& work) {
    work.run();
    memory_.check_zones(work.what);
  });
}

}  // namespace mpt::cuda::emu
