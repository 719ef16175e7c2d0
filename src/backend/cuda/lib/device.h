// All that the CUDA backend asks of the runtime: memory, streams, events, copies, recorded work. Two implementations: the
// real one (device_cuda.cpp), and one that plays it on the host for tests (emu/). Kernels are launched by kernels/launch.h.
//
// Functions throw Error: DEVICE_OUT_OF_MEMORY, DEVICE, DEVICE_LOST. Work that is enqueued reports its errors later, at the
// next synchronize. Unless said otherwise pointers are device memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/launch.h"

namespace mpt::cuda {

struct DeviceProperties {
  std::string name;  // "NVIDIA H200"
  int major = 0, minor = 0;
  int multiprocessors = 1;
  uint64_t memory_bytes = 0;
  uint64_t cache_bytes = 0;             // second level
  uint64_t shared_bytes_per_block = 0;  // the most that a launch may ask for
};

using Event = void*;

// Recorded work, to be run again and again.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void run(Stream stream) = 0;  // enqueues it
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceProperties& properties() const = 0;
  // Makes it the calling thread's device, and gives back what was; for a scope: CurrentDevice.
  virtual int make_current() = 0;
  virtual void restore_current(int previous) noexcept = 0;

  virtual void* allocate(uint64_t bytes) = 0;  // aligned to 256 bytes
  virtual void deallocate(void* pointer) noexcept = 0;
  // Host memory that copies to and from the device read without a detour, and kernels can write.
  virtual void* allocate_pinned(uint64_t bytes) = 0;
  virtual void deallocate_pinned(void* pointer) noexcept = 0;

  virtual Stream create_stream() = 0;
  virtual void destroy_stream(Stream stream) noexcept = 0;
  virtual void synchronize(Stream stream) = 0;  // waits for all that was enqueued

  virtual Event create_event() = 0;
  virtual void destroy_event(Event event) noexcept = 0;
  virtual void record(Event event, Stream stream) = 0;  // happens when the stream gets there
  virtual void wait(Stream stream, Event event) = 0;    // the stream's later work waits for the event recorded last
  virtual void synchronize_event(Event event) = 0;      // the host waits
  virtual bool has_happened(Event event) = 0;

  // Enqueued. Host memory that is pinned must stay as it is until the stream got there; other host memory may be read or
  // written before the call returns, or later: synchronize first.
  virtual void copy_in(Stream stream, void* to, const void* host, uint64_t bytes) = 0;
  virtual void copy_out(Stream stream, void* host, const void* from, uint64_t bytes) = 0;
  virtual void copy(Stream stream, void* to, const void* from, uint64_t bytes) = 0;
  virtual void fill(Stream stream, void* to, int byte, uint64_t bytes) = 0;

  // Between the two, what is enqueued on `stream` is recorded and not run. Nothing may be synchronized meanwhile.
  virtual void begin_recording(Stream stream) = 0;
  virtual std::unique_ptr<Recording> end_recording(Stream stream) = 0;
  virtual void abandon_recording(Stream stream) noexcept = 0;  // after an error in between
};

class CurrentDevice {
 public:
  explicit CurrentDevice(Device& device) : device_(device), previous_(device.make_current()) {}
  ~CurrentDevice() { device_.restore_current(previous_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  Device& device_;
  int previous_;
};

}  // namespace mpt::cuda
