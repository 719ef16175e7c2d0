#include "backend/cuda/emu/block.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cfenv>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/emu/faults.h"
#include "backend/cuda/emu/fiber.h"
#include "backend/cuda/emu/memory.h"
#include "backend/cuda/emu/shim.h"
#include "core/error.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace mpt::cuda::emu {

uint64_t launch_number = 0;

namespace {

constexpr unsigned warp_lanes = 32, most_threads = 1024;
constexpr uint64_t zone_bytes = 64;

const char* name_of(WarpOperation operation) {
  switch (operation) {
    case WarpOperation::sync:
      return "__syncwarp";
    case WarpOperation::shuffle:
      return "a shuffle";
    case WarpOperation::ballot:
      return "a vote";
    case WarpOperation::match:
      return "__match_any_sync";
    default:
      return "a reduction";
  }
}

uint64_t combine(WarpOperation operation, uint64_t a, uint64_t b) {
  const auto ua = static_cast<uint32_t>(a), ub = static_cast<uint32_t>(b);
  const auto sa = static_cast<int32_t>(ua), sb = static_cast<int32_t>(ub);
  switch (operation) {
    case WarpOperation::sum:
    case WarpOperation::sum_signed:
      return ua + ub;
    case WarpOperation::min:
      return ua < ub ? ua : ub;
    case WarpOperation::max:
      return ua > ub ? ua : ub;
    case WarpOperation::min_signed:
      return sa < sb ? ua : ub;
    case WarpOperation::max_signed:
      return sa > sb ? ua : ub;
    case WarpOperation::bit_and:
      return ua & ub;
    case WarpOperation::bit_or:
      return ua | ub;
    case WarpOperation::bit_xor:
      return ua ^ ub;
    default:
      return 0;
  }
}

enum class State : uint8_t { ready, at_barrier, at_warp, done };

struct Thread {
  Fiber* fiber = nullptr;
  State state = State::ready;
  uint64_t in = 0, out = 0;
  unsigned source = 0;
};

struct Group {  // lanes that wait for one another
  unsigned mask, arrived;
  WarpOperation operation;
};
struct Warp {
  unsigned lanes = 0, done = 0;
  std::vector<Group> groups;
};

// Shared memory between pages that nobody may touch.
class SharedMemory {
 public:
  void begin_launch(uint64_t dynamic_bytes) {
    map();
    used_ = zone_bytes;
    static_bytes_ = 0;
    std::memset(static_, poison_byte, used_);
    zones_.assign(1, 0);
    dynamic_bytes_ = dynamic_bytes;
    dynamic_ = dynamic_end_ - (dynamic_bytes + 15) / 16 * 16;
  }
  void begin_block() {
    std::memset(static_, poison_byte, used_);
    std::memset(dynamic_ - zone_bytes, poison_byte, static_cast<std::size_t>(dynamic_end_ - dynamic_) + zone_bytes);
  }
  // Null: no room.
  void* allocate(uint64_t bytes, uint64_t alignment) {
    static_bytes_ += bytes;
    if (static_bytes_ > static_shared_bytes || static_bytes_ + dynamic_bytes_ > most_shared_bytes) return nullptr;
    const uint64_t to = alignment < 16 ? 16 : alignment, offset = (used_ + to - 1) / to * to, end = offset + bytes;
    if (end + zone_bytes > static_room) return nullptr;
    std::memset(static_ + offset, poison_byte, bytes + zone_bytes);
    used_ = end + zone_bytes;
    zones_.push_back(end);
    return static_ + offset;
  }
  void* dynamic() const { return dynamic_; }
  bool zones_intact() const {
    for (uint64_t zone : zones_)
      if (!is_poison(static_ + zone, static_ + zone + zone_bytes)) return false;
    return is_poison(dynamic_ - zone_bytes, dynamic_) && is_poison(dynamic_ + dynamic_bytes_, dynamic_end_);
  }
  bool holds(const void* address) const { return address >= begin_ && address < end_; }

 private:
  static constexpr uint64_t static_room = 128 << 10, dynamic_room = 256 << 10;

  static bool is_poison(const unsigned char* begin, const unsigned char* end) {
    for (; begin < end; ++begin)
      if (*begin != poison_byte) return false;
    return true;
  }
  void map() {
    if (begin_) return;
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t bytes = static_room + dynamic_room + 3 * page;
    void* memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail(MPT_ERROR_OUT_OF_MEMORY, "emu: no shared memory");
    begin_ = static_cast<unsigned char*>(memory);
    end_ = begin_ + bytes;
    static_ = begin_ + page;
    dynamic_end_ = end_ - page;
    mprotect(static_, static_room, PROT_READ | PROT_WRITE);
    mprotect(dynamic_end_ - dynamic_room, dynamic_room, PROT_READ | PROT_WRITE);
  }

  unsigned char *begin_ = nullptr, *end_ = nullptr, *static_ = nullptr, *dynamic_ = nullptr, *dynamic_end_ = nullptr;
  uint64_t used_ = 0, static_bytes_ = 0, dynamic_bytes_ = 0;
  std::vector<uint64_t> zones_;
};

class Runner {
 public:
  void run(const char* name, const LaunchShape& shape, const std::function<void()>& thread, uint64_t seed);
  bool runs() const { return runs_; }

  int barrier(BlockOperation operation, int predicate);
  uint64_t exchange(WarpOperation operation, unsigned mask, uint64_t value, unsigned source);
  unsigned lane() const { return current_ % warp_lanes; }
  void* new_shared(SharedSlot& slot, uint64_t bytes, uint64_t alignment);
  void* dynamic_shared() const { return shared_.dynamic(); }
  [[noreturn]] void give_up(const char* format, ...) __attribute__((format(printf, 2, 3)));
  [[noreturn]] void give_up_at(const void* address);

 private:
  static void entry();
  void work();
  void run_block();
  void begin_thread(unsigned t);
  void end_thread();
  void make_current(unsigned t);
  void make_ready(unsigned t);
  void dispatch(Fiber& from, bool last);
  void wait(State state);
  void release_barrier();
  void complete(Warp& warp, std::size_t group);
  Fiber* idle_fiber();
  std::string what_waits() const;
  [[noreturn]] void leave();

  const std::function<void()>* thread_ = nullptr;
  const char* name_ = "";
  Extent extent_;
  unsigned count_ = 0, warps_ = 0;
  std::mt19937_64 random_;
  bool runs_ = false, start_first_ = true;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Fiber main_;
  Fiber* running_ = nullptr;
  Thread threads_[most_threads];
  Warp warp_[most_threads / warp_lanes];
  unsigned warp_order_[most_threads / warp_lanes], lane_order_[warp_lanes];
  unsigned current_ = 0, started_ = 0, live_ = 0, first_warp_ = 0;
  unsigned ready_[most_threads], ready_head_ = 0, ready_tail_ = 0;  // a ring

  std::vector<unsigned> waiting_;  // at the block's barrier
  BlockOperation barrier_operation_ = BlockOperation::sync;
  int barrier_count_ = 0, barrier_result_ = 0;

  SharedMemory shared_;
  std::string error_;
  const void* fault_ = nullptr;
};

Runner& runner() {
  static Runner one;
  return one;
}

void Runner::run(const char* name, const LaunchShape& shape, const std::function<void()>& thread, uint64_t seed) {
  MPT_INVARIANT(!runs_);
  struct Running {
    explicit Running(Runner& r) : runner(r) {
      runner.runs_ = true;
      std::fegetenv(&environment);
      std::fesetenv(FE_DFL_ENV);
    }
    ~Running() {
      runner.runs_ = false;
      std::fesetenv(&environment);
    }
    Runner& runner;
    std::fenv_t environment;
  } running(*this);
  name_ = name;
  thread_ = &thread;
  extent_ = shape.block;
  count_ = extent_.x * extent_.y * extent_.z;
  warps_ = (count_ + warp_lanes - 1) / warp_lanes;
  ::blockDim = dim3(extent_.x, extent_.y, extent_.z);
  ::gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  ++launch_number;
  shared_.begin_launch(shape.shared_bytes);
  random_.seed(seed * 0x9e3779b97f4a7c15ull + launch_number);
  std::iota(warp_order_, warp_order_ + warps_, 0u);
  std::iota(lane_order_, lane_order_ + warp_lanes, 0u);
  for (unsigned i = warps_; i > 1; --i) std::swap(warp_order_[i - 1], warp_order_[random_() % i]);
  for (unsigned i = warp_lanes; i > 1; --i) std::swap(lane_order_[i - 1], lane_order_[random_() % i]);

  const uint64_t blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  constexpr uint64_t strides[] = {7919, 6151, 4093, 3067, 1543, 769};  // primes: one of them has no factor in common
  uint64_t stride = 1;
  for (uint64_t s : strides)
    if (blocks % s != 0) {
      stride = s;
      break;
    }
  uint64_t b = random_() % blocks;
  for (uint64_t i = 0; i < blocks; ++i, b = (b + stride) % blocks) {
    ::blockIdx.x = static_cast<unsigned>(b % shape.grid.x);
    ::blockIdx.y = static_cast<unsigned>(b / shape.grid.x % shape.grid.y);
    ::blockIdx.z = static_cast<unsigned>(b / shape.grid.x / shape.grid.y);
    run_block();
  }
}

void Runner::run_block() {
  shared_.begin_block();
  for (unsigned w = 0; w < warps_; ++w) {
    const unsigned lanes = count_ - w * warp_lanes;
    warp_[w].lanes = lanes >= warp_lanes ? ~0u : (1u << lanes) - 1;
    warp_[w].done = 0;
    warp_[w].groups.clear();
  }
  const uint64_t choice = random_();
  start_first_ = choice & 1;
  first_warp_ = static_cast<unsigned>((choice >> 8) % warps_);
  started_ = 0;
  live_ = count_;
  ready_head_ = ready_tail_ = 0;
  waiting_.clear();
  error_.clear();
  fault_ = nullptr;
  idle_.clear();
  for (const auto& fiber : fibers_) idle_.push_back(fiber.get());
  dispatch(main_, false);
  if (fault_)
    error_ = std::string("touched memory that it may not: ") +
             (shared_.holds(fault_) ? "beside shared memory" : describe_address(fault_));
  if (error_.empty() && live_ > 0) error_ = "no thread can go on: " + what_waits();
  if (error_.empty() && !shared_.zones_intact()) error_ = "wrote beside an array in shared memory";
  if (error_.empty()) return;
  for (const auto& fiber : fibers_) fiber->forget_frames();
  fail(MPT_ERROR_DEVICE, "emu: %s: block (%u, %u, %u), thread (%u, %u, %u): %s", name_, ::blockIdx.x, ::blockIdx.y,
       ::blockIdx.z, ::threadIdx.x, ::threadIdx.y, ::threadIdx.z, error_.c_str());
}

// ---- threads and fibers

Fiber* Runner::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>());
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void Runner::make_current(unsigned t) {
  current_ = t;
  ::threadIdx.x = t % extent_.x;
  ::threadIdx.y = t / extent_.x % extent_.y;
  ::threadIdx.z = t / extent_.x / extent_.y;
}

void Runner::make_ready(unsigned t) {
  threads_[t].state = State::ready;
  ready_[ready_tail_++ % most_threads] = t;
}

// Goes on with another thread: one that may, or one that has not begun; with none, back to run_block().
void Runner::dispatch(Fiber& from, bool last) {
  const bool any_ready = ready_head_ != ready_tail_, any_unstarted = started_ < warps_ * warp_lanes;
  if (any_ready && !(start_first_ && any_unstarted)) {
    const unsigned t = ready_[ready_head_++ % most_threads];
    make_current(t);
    running_ = threads_[t].fiber;
    from.switch_to(*running_, last);
  } else if (any_unstarted) {
    running_ = idle_fiber();
    // 13 lines apart: the tops spread over the sets of the first-level cache.
    running_->prepare(entry, started_ * 832);
    from.switch_to(*running_, last);
  } else {
    running_ = nullptr;
    from.switch_to(main_, last);
  }
}

void Runner::entry() {
  Fiber::entered();
  runner().work();
}

// A fiber takes one thread after the other; only threads that wait keep theirs.
void Runner::work() {
  Fiber* const self = running_;
  while (started_ < warps_ * warp_lanes && (start_first_ || ready_head_ == ready_tail_)) {
    const unsigned i = started_++;
    const unsigned t = warp_order_[(i / warp_lanes + first_warp_) % warps_] * warp_lanes + lane_order_[i % warp_lanes];
    if (t >= count_) continue;
    make_current(t);
    threads_[t].fiber = self;
    threads_[t].state = State::ready;
    (*thread_)();
    end_thread();
    running_ = self;
  }
  idle_.push_back(self);  // dispatch() goes on with a ready thread or with run_block() now, and does not take it
  dispatch(*self, true);
  __builtin_unreachable();
}

void Runner::end_thread() {
  Warp& warp = warp_[current_ / warp_lanes];
  threads_[current_].state = State::done;
  warp.done |= 1u << lane();
  --live_;
  for (const Group& group : warp.groups)
    if (group.mask & 1u << lane())
      give_up("the thread ended, and lanes of its warp wait for it at %s with the mask 0x%x",
              emu::name_of(group.operation), group.mask);
  if (!waiting_.empty())
    give_up("the thread ended, and %zu threads of its block wait at __syncthreads", waiting_.size());
}

void Runner::wait(State state) {
  Thread& self = threads_[current_];
  self.state = state;
  dispatch(*self.fiber, false);
}

void Runner::leave() {
  Fiber* const self = running_;
  running_ = nullptr;
  self->switch_to(main_, true);
  __builtin_unreachable();
}

void Runner::give_up(const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  error_ = message;
  leave();
}

void Runner::give_up_at(const void* address) {
  fault_ = address;
  leave();
}

std::string Runner::what_waits() const {
  std::string text = std::to_string(waiting_.size()) + " threads wait at __syncthreads, " +
                     std::to_string(count_ - live_) + " have ended";
  for (unsigned w = 0; w < warps_; ++w)
    for (const Group& group : warp_[w].groups) {
      char line[160];
      std::snprintf(line, sizeof line, "; warp %u: %s with the mask 0x%x, where the lanes 0x%x came", w,
                    emu::name_of(group.operation), group.mask, group.arrived);
      if (text.size() < 400) text += line;
    }
  return text;
}

// ---- barriers

int Runner::barrier(BlockOperation operation, int predicate) {
  if (live_ < count_) give_up("__syncthreads after %u threads of the block ended", count_ - live_);
  if (waiting_.empty()) {
    barrier_operation_ = operation;
    barrier_count_ = 0;
  } else if (operation != barrier_operation_) {
    give_up("the block's threads are at barriers of different kinds");
  }
  barrier_count_ += predicate != 0;
  waiting_.push_back(current_);
  if (waiting_.size() < count_) {
    wait(State::at_barrier);
    return barrier_result_;
  }
  switch (operation) {
    case BlockOperation::sync:
      break;
    case BlockOperation::count:
      barrier_result_ = barrier_count_;
      break;
    case BlockOperation::all:
      barrier_result_ = barrier_count_ == static_cast<int>(count_);
      break;
    case BlockOperation::any:
      barrier_result_ = barrier_count_ > 0;
      break;
  }
  for (unsigned t : waiting_)
    if (t != current_) make_ready(t);
  waiting_.clear();
  return barrier_result_;
}

uint64_t Runner::exchange(WarpOperation operation, unsigned mask, uint64_t value, unsigned source) {
  Warp& warp = warp_[current_ / warp_lanes];
  const unsigned own = 1u << lane();
  Thread& self = threads_[current_];
  self.in = value;
  self.source = source;
  std::size_t g = 0;
  while (g < warp.groups.size() && warp.groups[g].mask != mask) ++g;
  if (g == warp.groups.size()) {
    if (!(mask & own)) give_up("%s with the mask 0x%x, which lacks the calling lane", emu::name_of(operation), mask);
    if (mask & ~warp.lanes)
      give_up("%s with the mask 0x%x in a warp of the lanes 0x%x", emu::name_of(operation), mask, warp.lanes);
    if (mask & warp.done)
      give_up("%s with the mask 0x%x after the lanes 0x%x ended", emu::name_of(operation), mask, warp.done);
    for (const Group& other : warp.groups)
      if (other.mask & own) give_up("two operations of a warp with masks that overlap: 0x%x, 0x%x", mask, other.mask);
    warp.groups.push_back({mask, 0, operation});
  }
  Group& group = warp.groups[g];
  if (group.operation != operation)
    give_up("lanes of one warp are at different operations: %s and %s", emu::name_of(group.operation),
            emu::name_of(operation));
  if (!(mask & own)) give_up("%s with the mask 0x%x, which lacks the calling lane", emu::name_of(operation), mask);
  group.arrived |= own;
  if (group.arrived != mask)
    wait(State::at_warp);
  else
    complete(warp, g);
  return self.out;
}

void Runner::complete(Warp& warp, std::size_t g) {
  const Group group = warp.groups[g];
  warp.groups.erase(warp.groups.begin() + static_cast<std::ptrdiff_t>(g));
  Thread* const lanes = threads_ + current_ / warp_lanes * warp_lanes;
  const unsigned first = current_ / warp_lanes * warp_lanes;
  if (group.operation == WarpOperation::shuffle) {
    for (unsigned rest = group.mask; rest; rest &= rest - 1) {
      Thread& lane = lanes[std::countr_zero(rest)];
      if (!(group.mask >> lane.source & 1))
        give_up("lane %d of a shuffle reads lane %u, which the mask 0x%x lacks", std::countr_zero(rest), lane.source,
                group.mask);
      lane.out = lanes[lane.source].in;
    }
  } else if (group.operation == WarpOperation::match) {
    for (unsigned rest = group.mask; rest; rest &= rest - 1) {
      Thread& lane = lanes[std::countr_zero(rest)];
      lane.out = 0;
      for (unsigned others = group.mask; others; others &= others - 1)
        if (lanes[std::countr_zero(others)].in == lane.in) lane.out |= others & -others;
    }
  } else if (group.operation != WarpOperation::sync) {
    uint64_t all = 0;
    bool begun = false;
    for (unsigned rest = group.mask; rest; rest &= rest - 1) {
      const int l = std::countr_zero(rest);
      if (group.operation == WarpOperation::ballot)
        all |= static_cast<uint64_t>(lanes[l].in != 0) << l;
      else
        all = begun ? combine(group.operation, all, lanes[l].in) : lanes[l].in;
      begun = true;
    }
    for (unsigned rest = group.mask; rest; rest &= rest - 1) lanes[std::countr_zero(rest)].out = all;
  }
  for (unsigned l : lane_order_)
    if (group.mask >> l & 1 && first + l != current_) make_ready(first + l);
}

void* Runner::new_shared(SharedSlot& slot, uint64_t bytes, uint64_t alignment) {
  void* at = shared_.allocate(bytes, alignment);
  if (!at) give_up("too much shared memory: at most 48 KiB in arrays, and 227 KiB in all");
  slot = {launch_number, at};
  return at;
}

}  // namespace

int block_barrier(BlockOperation operation, int predicate) { return runner().barrier(operation, predicate); }
uint64_t warp_exchange(WarpOperation operation, unsigned mask, uint64_t value, unsigned source) {
  return runner().exchange(operation, mask, value, source);
}
unsigned lane_of_thread() { return runner().lane(); }
void* new_shared(SharedSlot& slot, uint64_t bytes, uint64_t alignment) {
  return runner().new_shared(slot, bytes, alignment);
}
void* dynamic_shared() { return runner().dynamic_shared(); }

void run_grid(const char* name, const LaunchShape& shape, const std::function<void()>& thread, uint64_t seed) {
  runner().run(name, shape, thread, seed);
}
bool block_runs() { return runner().runs(); }
void give_block_up(const void* address) {
  if (runner().runs()) runner().give_up_at(address);
}

}  // namespace mpt::cuda::emu
