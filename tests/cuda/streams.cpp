// The emulated device's memory, streams and recordings: what a program gets wrong about their order shows, and what
// it may not do is an error.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backend/cuda/emu/memory.h"
#include "cuda/emulated.h"
#include "kernels/launch.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;

__global__ void twice(float* y, const float* x) { y[threadIdx.x] = 2 * x[threadIdx.x]; }
__global__ void add_to(float* x, float by) { x[threadIdx.x] += by; }

constexpr std::size_t n = 64, bytes = n * sizeof(float);

// Two streams, one that copies and one that computes.
struct TwoStreams {
  Emulated emu;
  Device& device = emu.device();
  Stream copies = device.create_stream(), compute = emu.stream();
  Event event = device.create_event();
  float* pinned = static_cast<float*>(device.allocate_pinned(bytes));
  float *x = emu.allocate<float>(n), *y = emu.allocate<float>(n);
  ~TwoStreams() {
    device.destroy_event(event);
    device.destroy_stream(copies);
  }
  void fill(float value) { std::fill(pinned, pinned + n, value); }
};

TEST_CASE("streams: work waits for another stream by an event, and without one sees what was there") {
  TwoStreams s;
  s.fill(3);
  s.device.copy_in(s.copies, s.x, s.pinned, bytes);
  launch(twice, dim3(1), dim3(n), 0, s.compute, s.y, s.x);  // the wait is missing
  CHECK(std::isnan(s.emu.to_host(s.y, n)[0]));
  s.device.record(s.event, s.copies);
  s.device.wait(s.compute, s.event);
  launch(twice, dim3(1), dim3(n), 0, s.compute, s.y, s.x);
  CHECK(s.emu.to_host(s.y, n)[n - 1] == 6);
}

TEST_CASE("streams: a wait is for what was recorded before it") {
  TwoStreams s;
  s.fill(1);
  s.device.copy_in(s.copies, s.x, s.pinned, bytes);
  s.device.record(s.event, s.copies);
  s.device.wait(s.compute, s.event);
  launch(add_to, dim3(1), dim3(n), 0, s.copies, s.x, 10.0f);  // later than the event: need not be seen
  launch(twice, dim3(1), dim3(n), 0, s.compute, s.y, s.x);
  CHECK(s.emu.to_host(s.y, n)[0] == 2);
  s.device.synchronize(s.copies);
  CHECK(s.emu.to_host(s.x, n)[0] == 11);
}

TEST_CASE("streams: pinned memory that the host overwrites before the copy ran is sent as it is then") {
  TwoStreams s;
  s.fill(3);
  s.device.copy_in(s.compute, s.x, s.pinned, bytes);
  s.fill(4);  // too early
  CHECK(s.emu.to_host(s.x, n)[0] == 4);
  s.fill(5);
  s.device.copy_in(s.compute, s.x, s.pinned, bytes);
  s.device.record(s.event, s.compute);
  s.device.synchronize_event(s.event);
  s.fill(6);
  CHECK(s.emu.to_host(s.x, n)[0] == 5);
}

TEST_CASE("streams: results are there after a wait, and not before") {
  TwoStreams s;
  s.device.fill(s.compute, s.x, 0, bytes);
  s.fill(7);
  s.device.copy_out(s.compute, s.pinned, s.x, bytes);
  s.device.record(s.event, s.compute);
  CHECK(s.pinned[0] == 7);
  CHECK(!s.device.has_happened(s.event));
  CHECK(s.device.has_happened(s.event));
  CHECK(s.pinned[0] == 0);
}

TEST_CASE("fault: late work uses memory that was freed") {
  TwoStreams s;
  s.device.fill(s.compute, s.x, 0, bytes);
  launch(twice, dim3(1), dim3(n), 0, s.compute, s.y, s.x);
  s.emu.forget(s.x);
  s.device.deallocate(s.x);
  CHECK(has(error_of([&] { s.emu.synchronize(); }), "bytes that was freed"));
  // After an error nothing of what was enqueued runs, and then the device is well.
  CHECK(std::isnan(s.emu.to_host(s.y, n)[0]));
  launch(twice, dim3(1), dim3(n), 0, s.compute, s.y, s.x);
  const std::string error = error_of([&] { s.emu.synchronize(); });
  CHECK(has(error, "freed"));
  CHECK(has(error, "float*, const float*"));  // tells the kernel
}

TEST_CASE("fault: copies beyond an allocation, of the wrong kind of memory, or of what was freed") {
  TwoStreams s;
  const auto error = [&](auto work) {
    return error_of([&] {
      work();
      s.emu.synchronize();
    });
  };
  CHECK(has(error([&] { s.device.fill(s.compute, s.x, 0, bytes + 1); }), "257 bytes from"));
  CHECK(has(error([&] { s.device.copy(s.compute, s.x, s.y + 1, bytes); }), "4 bytes into"));
  CHECK(has(error([&] { s.device.copy(s.compute, s.x, s.pinned, bytes); }), "expected device memory"));
  CHECK(has(error([&] { s.device.copy_out(s.compute, s.x, s.y, bytes); }), "expected host memory"));
  CHECK(has(error([&] { s.device.copy_in(s.compute, s.pinned, s.pinned, 4); }), "expected device memory"));
  CHECK(has(error([&] { s.device.copy(s.compute, s.x + 1, s.x, bytes - 4); }), "overlap"));
  s.device.copy_in(s.compute, s.x, s.pinned, bytes);
  s.device.deallocate_pinned(s.pinned);
  CHECK(has(error([] {}), "freed"));
  s.emu.forget(s.y);
  s.device.deallocate(s.y);
  s.device.deallocate(s.y);
  CHECK(has(error([] {}), "deallocated what is no allocation"));
}

// What a process says that reads there; empty: it came to its end.
std::string last_words_of_reader(const float* at) {
  int said[2];
  REQUIRE(pipe(said) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(said[1], STDERR_FILENO);
    dup2(said[1], STDOUT_FILENO);
    [[maybe_unused]] const volatile float found = *static_cast<const volatile float*>(at);
    _exit(0);
  }
  close(said[1]);
  std::string text;
  char part[256];
  for (ssize_t got; (got = read(said[0], part, sizeof part)) > 0;) text.append(part, static_cast<std::size_t>(got));
  close(said[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : text;
}

TEST_CASE("fault: the host touches device memory") {
  Emulated emu;
  const float* fresh = emu.allocate<float>(n);
  CHECK(
      has(last_words_of_reader(fresh + 1), "the host touched device memory: 4 bytes into an allocation of 256 bytes"));
  const float* used = emu.to_device(std::vector<float>(n, 1.0f));
  CHECK(has(last_words_of_reader(used + 2), "the host touched device memory: 8 bytes into an allocation of 256 bytes"));
  const std::vector<float> host(1, 1.0f);
  CHECK(last_words_of_reader(host.data()).empty());
}

TEST_CASE("recording: runs again and again with the arguments of its time") {
  TwoStreams s;
  s.device.fill(s.compute, s.x, 0, bytes);
  s.device.begin_recording(s.compute);
  float by = 1;
  launch(add_to, dim3(1), dim3(n), 0, s.compute, s.x, by);
  by = 100;
  s.device.copy_out(s.compute, s.pinned, s.x, bytes);
  const std::unique_ptr<Recording> recording = s.device.end_recording(s.compute);
  CHECK(s.emu.to_host(s.x, n)[0] == 0);  // nothing ran
  for (int i = 1; i <= 3; ++i) {
    recording->run(s.compute);
    s.emu.synchronize();
    CHECK(s.pinned[5] == static_cast<float>(i));
  }
}

TEST_CASE("recording: takes other streams in by events, which it must wait for at its end") {
  TwoStreams s;
  s.device.fill(s.compute, s.x, 0, bytes);
  const auto begin = [&] {
    s.device.begin_recording(s.compute);
    launch(add_to, dim3(1), dim3(n), 0, s.compute, s.x, 1.0f);
    s.device.record(s.event, s.compute);
    s.device.wait(s.copies, s.event);
    launch(twice, dim3(1), dim3(n), 0, s.copies, s.y, s.x);
  };
  begin();
  CHECK(has(error_of([&] { s.device.end_recording(s.compute); }), "not waited for"));
  begin();
  s.device.record(s.event, s.copies);
  s.device.wait(s.compute, s.event);
  const std::unique_ptr<Recording> recording = s.device.end_recording(s.compute);
  recording->run(s.compute);
  recording->run(s.compute);
  CHECK(s.emu.to_host(s.y, n)[0] == 4);
  // The streams are their own again.
  launch(add_to, dim3(1), dim3(n), 0, s.copies, s.x, 1.0f);
  s.device.synchronize(s.copies);
  CHECK(s.emu.to_host(s.x, n)[0] == 3);
}

TEST_CASE("fault: waiting, allocating and copying from the stack while work is recorded") {
  TwoStreams s;
  float on_stack[n] = {};
  s.device.record(s.event, s.copies);
  s.device.begin_recording(s.compute);
  CHECK(has(error_of([&] { s.device.synchronize(s.compute); }), "while work is recorded"));
  CHECK(has(error_of([&] { s.device.synchronize(s.copies); }), "while work is recorded"));
  CHECK(has(error_of([&] { s.device.synchronize_event(s.event); }), "while work is recorded"));
  CHECK(has(error_of([&] { s.device.has_happened(s.event); }), "while work is recorded"));
  CHECK(has(error_of([&] { s.device.allocate(4); }), "while work is recorded"));
  CHECK(has(error_of([&] { s.device.copy_in(s.compute, s.x, on_stack, bytes); }), "not pinned"));
  CHECK(has(error_of([&] { s.device.copy_out(s.compute, on_stack, s.x, bytes); }), "not pinned"));
  CHECK(has(error_of([&] { s.device.wait(s.compute, s.event); }), "from before"));
  s.device.abandon_recording(s.compute);
  CHECK(error_of([&] { s.emu.synchronize(); }).empty());
}

TEST_CASE("memory: fresh memory is NaN, its end is known to the byte, and there is no more than there is") {
  EmulationOptions options;
  options.memory_bytes = 4096;
  options.fail_allocation = 3;
  Emulated emu(options);
  float* x = emu.allocate<float>(512);
  CHECK(reinterpret_cast<uintptr_t>(x) % 256 == 0);
  for (float value : emu.to_host(x, 512)) CHECK(std::isnan(value));
  const auto status = [&](uint64_t size) {
    try {
      emu.device().allocate(size);
    } catch (const Error& error) {
      return error.status();
    }
    return MPT_OK;
  };
  CHECK(status(2049) == MPT_ERROR_DEVICE_OUT_OF_MEMORY);
  CHECK(status(4) == MPT_ERROR_DEVICE_OUT_OF_MEMORY);  // the third
  CHECK(status(2048) == MPT_OK);
  emu.forget(x);
  emu.device().deallocate(x);
  CHECK(status(2048) == MPT_OK);
}

TEST_CASE("memory: addresses are used again only after all were handed out") {
  constexpr uint64_t range = 1 << 20;
  emu::Memory memory(range, range);
  void* const kept = memory.allocate(5000, false);
  std::set<void*> seen;
  int handed_out = 0;
  for (bool again = false; !again; ++handed_out) {
    REQUIRE(handed_out < 1000);
    void* const pointer = memory.allocate(5000, false);
    const emu::Memory::Access access(memory);
    static_cast<unsigned char*>(pointer)[4999] = 1;
    again = !seen.insert(pointer).second;
    CHECK(pointer != kept);
    CHECK(memory.deallocate(pointer, false).empty());
  }
  CHECK(handed_out > 40);  // of three pages at most, four where pages are of 4 KiB
  {
    const emu::Memory::Access access(memory);
    for (int i = 0; i < 5000; ++i) CHECK(static_cast<unsigned char*>(kept)[i] == emu::poison_byte);
  }
}

TEST_CASE("fault: a device is used that is not the thread's current one") {
  Emulated first;
  float* x = first.allocate<float>(n);
  {
    Emulated second;
    CHECK(has(error_of([&] { first.device().fill(first.stream(), x, 0, bytes); }), "another device is current"));
    CHECK(has(error_of([&] { launch(add_to, dim3(1), dim3(n), 0, first.stream(), x, 1.0f); }),
              "another device is current"));
    CHECK(has(error_of([&] { second.device().fill(first.stream(), x, 0, bytes); }), "another device"));
  }
  CHECK(error_of([&] { first.synchronize(); }).empty());
}

}  // namespace
}  // namespace mpt::test
