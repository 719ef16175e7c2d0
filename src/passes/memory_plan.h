// The memory plan: an offset in one workspace for every value and every kernel's scratch.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "passes/liveness.h"

namespace mpt {

struct MemoryPlan {
  static constexpr uint64_t outside = ~uint64_t{0};

  // By value. `storage`: the value that owns its memory (itself, or what it views or overwrites). `offset`: in the
  // workspace, `outside` for parameters, constants and gradients of parameters: their address is that of `storage` in
  // the store.
  std::vector<ValueId> storage;
  std::vector<uint64_t> offset;
  std::vector<uint64_t> scratch_offset;  // by node; 0 where it needs none

  uint64_t arena_bytes = 0;       // the workspace: activation_bytes + scratch_bytes
  uint64_t activation_bytes = 0;  // activations, their gradients and inputs: what the plan would take without scratch
  uint64_t scratch_bytes = 0;     // what scratch adds
  uint64_t lower_bound = 0;       // greatest sum of live bytes: no plan can be smaller
};

// `scratch_bytes` by node (empty: none). Values in `kept` survive the step; inputs live from its start.
MemoryPlan plan_memory(const Graph& graph, const std::vector<uint64_t>& scratch_bytes, const std::vector<ValueId>& kept,
                       const LivenessOptions& options = {});

// Plays the step: throws INTERNAL if a value is overwritten before its last reader, or anything is misaligned or
// misplaced.
void check_plan(const Graph& graph, const MemoryPlan& plan, const std::vector<uint64_t>& scratch_bytes,
                const std::vector<ValueId>& kept);

// Offsets for buffers so that those whose lifetimes meet don't overlap; returns the bytes needed.
uint64_t assign_offsets(const std::vector<Buffer>& buffers, std::vector<uint64_t>* offsets);

}  // namespace mpt
