// Which memory every value lives in, and from when to when. Time is the position of a node; 0 is before the first.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

// Something that owns bytes in the workspace: a value together with its views and what reuses its memory in place.
struct Buffer {
  uint64_t bytes = 0;  // rounded up to `workspace_alignment`
  int32_t first = 0;   // position of the node that writes it; 0 for an input of the step
  int32_t last = 0;    // position of the last node that reads it; one past the last node if it must survive the step
};

constexpr uint64_t workspace_alignment = 64;
constexpr uint64_t aligned(uint64_t bytes) {
  return (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
}

struct Liveness {
  std::vector<Buffer> buffers;
  // By value: index into buffers; -1 for a value outside the workspace (parameters and their gradients, constants) or
  // unused.
  std::vector<int32_t> buffer_of;
  // By value: the value whose memory this one is: itself, or what it views, or what it was written over.
  std::vector<ValueId> storage;
};

struct LivenessOptions {
  bool in_place = true;
};

Liveness find_lifetimes(const Graph& graph, const std::vector<ValueId>& kept, const LivenessOptions& options = {});

// Bytes that live at each position 0 .. number of nodes; the `scratch_bytes` (by node; empty: none) of its node
// included.
std::vector<uint64_t> live_bytes(const Graph& graph, const Liveness& liveness,
                                 const std::vector<uint64_t>& scratch_bytes);
// The greatest of these: no plan can be smaller.
uint64_t peak_live_bytes(const Graph& graph, const Liveness& liveness, const std::vector<uint64_t>& scratch_bytes);

}  // namespace mpt
