// The emulated device's streams: queues of work that runs as late as the rules of order allow - when somebody waits
// for it - so that what lacks a wait sees old contents. Work on different streams is in order by events alone.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/cuda/emu/emulation.h"
#include "backend/cuda/emu/memory.h"

namespace mpt::cuda::emu {

struct Work {
  const char* what = "";  // lives for ever
  std::function<void()> run;
};

// Recorded work: a branch for each stream that took part, the first that of the stream where recording began.
struct Recorded {
  struct Step {
    Work work;
    std::size_t branch = 0, position = 0;  // without work: waits until that branch has made so many steps
  };
  std::vector<std::vector<Step>> branches;
};

struct Queue {
  struct Step {
    Work work;
    std::shared_ptr<Queue> wait_for;  // instead of work
    uint64_t ticket = 0;
  };
  std::deque<Step> steps;
  uint64_t enqueued = 0, done = 0;
  std::shared_ptr<Recorded> recording;  // what it takes part in
  std::size_t branch = 0;
};

struct Mark {  // where an event was recorded last
  std::shared_ptr<Queue> queue;
  uint64_t ticket = 0;
  std::weak_ptr<Recorded> recording;
  std::size_t branch = 0, position = 0;
  bool recorded = false, in_recording = false;
};

class Engine {
 public:
  explicit Engine(const EmulationOptions& options);
  ~Engine();

  Memory& memory() { return memory_; }
  uint64_t seed() const { return options_.seed; }

  // Throws unless the calling thread made it current.
  void check_current(const char* what) const;
  void check_not_recording(const char* what) const;
  void* allocate(uint64_t bytes, bool pinned);
  void deallocate(void* pointer, bool pinned);

  Stream create_stream();
  void destroy_stream(Stream stream);
  void enqueue(Stream stream, Work work);
  bool is_recording(Stream stream) const { return queue(stream)->recording != nullptr; }
  void synchronize(Stream stream);

  void record(Mark& mark, Stream stream);
  void wait(Stream stream, const Mark& mark);
  void synchronize(const Mark& mark);
  bool has_happened(const Mark& mark);

  void begin_recording(Stream stream);
  std::shared_ptr<const Recorded> end_recording(Stream stream);
  void abandon_recording(Stream stream);
  void replay(const Recorded& recorded);  // within work

 private:
  std::shared_ptr<Queue> queue(Stream stream) const;
  void run_until(Queue& queue, uint64_t ticket);
  void drop_all();
  void throw_error();
  void leave_recording(const Recorded& recorded);

  EmulationOptions options_;
  Memory memory_;
  std::map<Stream, std::shared_ptr<Queue>> queues_;
  int64_t allocations_ = 0;
  std::exception_ptr error_;  // of work, until somebody waits
};

// One emulated device does something at a time.
std::recursive_mutex& big_lock();

// The device that the calling thread made current; null: none.
Engine*& current_engine();
// The device whose stream it is. Throws.
Engine& engine_of(Stream stream);

// For the libraries: `work` on a stream of the current device.
void enqueue(Stream stream, const char* what, std::function<void(Memory&)> work);

}  // namespace mpt::cuda::emu
