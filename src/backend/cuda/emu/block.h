// One block of CUDA threads at a time: a fiber for each thread that waits, barriers of warps and of the block,
// exchange between lanes, shared memory. What shim.h's functions call.
#pragma once

#include <cstdint>
#include <functional>

namespace mpt::cuda::emu {

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

enum class WarpOperation : uint8_t {
  sync,
  shuffle,
  ballot,
  match,
  sum,
  sum_signed,
  min,
  min_signed,
  max,
  max_signed,
  bit_and,
  bit_or,
  bit_xor
};
enum class BlockOperation : uint8_t { sync, count, all, any };

// Where one MPT_SHARED declaration lies in the launch that runs.
struct SharedSlot {
  uint64_t launch = 0;
  void* at = nullptr;
};

// ---- called by kernels

int block_barrier(BlockOperation operation, int predicate);
// All lanes in `mask` come with the same operation and mask; each gets what it asked for. shuffle: the value of lane
// `source`.
uint64_t warp_exchange(WarpOperation operation, unsigned mask, uint64_t value, unsigned source);
unsigned lane_of_thread();
void* new_shared(SharedSlot& slot, uint64_t bytes, uint64_t alignment);
void* dynamic_shared();
extern uint64_t launch_number;
inline void* shared(SharedSlot& slot, uint64_t bytes, uint64_t alignment) {
  return slot.launch == launch_number ? slot.at : new_shared(slot, bytes, alignment);
}

// ---- called by the emulated device

struct LaunchShape {
  Extent grid, block;
  uint64_t shared_bytes = 0;
};
// Runs all blocks, in an order given by the seed. Throws Error with what the kernel did wrong: `name` tells which.
void run_grid(const char* name, const LaunchShape& shape, const std::function<void()>& thread, uint64_t seed);

// A memory fault: gives the block up if a kernel runs on this host thread and does not return then; else returns.
void give_block_up(const void* address);
bool block_runs();

constexpr uint64_t static_shared_bytes = 48 << 10, most_shared_bytes = 227 << 10;

}  // namespace mpt::cuda::emu
