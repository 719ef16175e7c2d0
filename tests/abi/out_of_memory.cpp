// Allocation number n of every function fails, for n = 1, 2, … until the call succeeds: alone, and with all that come after
// it; of the context's allocator, and of operator new, which this program replaces. Each time the answer is OUT_OF_MEMORY with
// a message, everything is as before, and nothing is lost. `out_of_memory [NAME]` runs one function alone.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "calls.h"

namespace {

// One source of memory, which can be told to fail.
struct Source {
  std::atomic<int64_t> live{0}, countdown{0};
  std::atomic<bool> stays_empty{false}, reached{false};

  bool fails() {
    if (countdown.load() == 0) return reached.load() && stays_empty.load();
    if (countdown.fetch_sub(1) != 1) return false;
    reached = true;
    return true;
  }
  void arm(int64_t n, bool for_ever) {
    reached = false;
    stays_empty = for_ever;
    countdown = n;
  }
  // Whether an allocation failed since arm().
  bool disarm() {
    countdown = 0;
    const bool failed = reached.exchange(false);
    stays_empty = false;
    return failed;
  }
};

Source host, device;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (host.fails()) return nullptr;
  void* p = nullptr;
  if (posix_memalign(&p, alignment < sizeof(void*) ? sizeof(void*) : alignment, bytes ? bytes : 1) != 0) return nullptr;
  ++host.live;
  return p;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* p = allocate(bytes, alignment)) return p;
  throw std::bad_alloc();
}

void deallocate(void* p) noexcept {
  if (p) --host.live;
  std::free(p);
}

constexpr std::size_t usual = alignof(std::max_align_t);

}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, usual); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, usual); }
void operator delete(void* p) noexcept { deallocate(p); }
void operator delete[](void* p) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::size_t) noexcept { deallocate(p); }
void operator delete(void* p, std::align_val_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::align_val_t) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { deallocate(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { deallocate(p); }

namespace {

using namespace abi;

int problems = 0, failures = 0, releases = 0;

void problem(const std::string& who, const std::string& text) {
  std::printf("%s: %s\n", who.c_str(), text.c_str());
  ++problems;
}

void* device_allocate(void*, uint64_t bytes, uint64_t alignment) {
  if (device.fails()) return nullptr;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, bytes) != 0) return nullptr;
  ++device.live;
  return p;
}
void device_deallocate(void*, void* p, uint64_t) {
  if (p) --device.live;
  std::free(p);
}
void release(void*) { ++releases; }

const mpt_allocator allocator = {sizeof(mpt_allocator), device_allocate, device_deallocate, release, nullptr};

void check_failure(World& world, const Function& f, const std::string& who, mpt_status status,
                   const std::string& message, const std::string& before) {
  ++failures;
  if (status != MPT_ERROR_OUT_OF_MEMORY) problem(who, std::string(mpt_status_name(status)) + ": " + message);
  if (message.rfind(f.name + ": ", 0) != 0 || message.size() < f.name.size() + 5)
    problem(who, "the message does not begin with the function: '" + message + "'");
  if (f.parameters[0].kind == Kind::handle_out && world.out) problem(who, "*out is not NULL after a failure");
  if (world.state() != before) problem(who, "a model, weights or a scaler are not as before");
}

// Calls with allocation n failing; false once the call needs fewer.
bool fails_at(std::unique_ptr<World>* world, const Function& f, const Row& row, Source* source, int64_t n,
              bool for_ever) {
  World& w = **world;
  const std::string who = f.name + ", " + (source == &host ? "operator new" : "allocator") + " fails at " +
                          std::to_string(n) + (for_ever ? " and after" : "");
  if (row.prepare) row.prepare(w);
  const std::vector<Value> arguments = row.arguments(w);
  const std::string before = w.state();
  w.out = &w;
  source->arm(n, for_ever);
  const Result result = f.call(arguments.data());
  const bool reached = source->disarm();
  const bool op = f.result != "mpt_status";
  const bool failed = op ? result.integer == 0 : result.integer != MPT_OK;
  std::string message = mpt_last_error_message();
  if (failed && reached) {
    mpt_status status = static_cast<mpt_status>(result.integer);
    if (op) {
      status = mpt_model_check(w.model);
      if (mpt_last_error_message() != "mpt_model_check: " + message)
        problem(who, std::string("mpt_model_check tells '") + mpt_last_error_message() + "'");
      mpt_model_clear_error(w.model);
    }
    check_failure(w, f, who, status, message, before);
    return true;
  }
  if (failed) problem(who, "failed without need: " + message);
  if (f.parameters[0].kind == Kind::handle_out) destroy_out(w, f);
  if (!reached) return false;
  *world = std::make_unique<World>(&allocator);  // it could do without, and has changed
  return true;
}

void check_function(const Function& f, Source* source, bool for_ever) {
  const Row& row = *find_row(f.name);
  const int64_t live = host.live;
  const int before = problems;
  auto world = std::make_unique<World>(&allocator);
  for (int64_t n = 1; problems < before + 3 && fails_at(&world, f, row, source, n, for_ever); ++n)
    ;
  releases = 0;
  world.reset();
  if (releases != 1) problem(f.name, "the allocator was released " + std::to_string(releases) + " times");
  if (device.live != 0) problem(f.name, std::to_string(device.live) + " blocks of the allocator are lost");
  if (host.live != live) problem(f.name, std::to_string(host.live - live) + " blocks of operator new are lost");
}

bool is_tried(const Function& f) {
  const bool can_fail = f.result == "mpt_status" || f.result == "mpt_tensor" || f.name == "mpt_model_dim";
  return can_fail && f.name != "mpt_model_find" && f.name.find("_init") == std::string::npos && find_row(f.name);
}

}  // namespace

int main(int count, char** names) {
  {
    const World warm_up(&allocator);  // what is made once for the process
  }
  for (const Function& f : functions) {
    if (!is_tried(f) || (count > 1 && f.name != names[1])) continue;
    check_function(f, &host, false);  // a first time, for what is made once
    for (Source* source : {&host, &device})
      for (const bool for_ever : {false, true}) check_function(f, source, for_ever);
  }
  std::printf("%d failed allocations, %d problems\n", failures, problems);
  return problems == 0 && failures > 0 ? 0 : 1;
}
