#include "passes/memory_plan.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "graph/op_def.h"

namespace mpt {
namespace {

bool meet(const Buffer& a, const Buffer& b) { return a.first <= b.last && b.first <= a.last; }

// Places the buffers in the given order, each in the smallest gap it fits into among those that are already placed
// and live at the same time, else above them.
uint64_t place_in_order(const std::vector<Buffer>& buffers, const std::vector<int32_t>& order,
                        std::vector<uint64_t>* offsets) {
  struct Placed {
    uint64_t offset;
    int32_t buffer;
  };
  std::vector<Placed> placed;  // by offset
  placed.reserve(buffers.size());
  uint64_t arena = 0;
  for (int32_t index : order) {
    const Buffer& buffer = buffers[index];
    uint64_t best = MemoryPlan::outside, best_gap = ~uint64_t{0}, top = 0;
    for (const Placed& p : placed) {
      const Buffer& other = buffers[p.buffer];
      if (!meet(buffer, other)) continue;
      if (p.offset > top && p.offset - top >= buffer.bytes && p.offset - top < best_gap) {
        best = top;
        best_gap = p.offset - top;
      }
      top = std::max(top, p.offset + other.bytes);
    }
    const uint64_t offset = best == MemoryPlan::outside ? top : best;
    (*offsets)[index] = offset;
    const auto at = std::upper_bound(placed.begin(), placed.end(), offset,
                                     [](uint64_t value, const Placed& p) { return value < p.offset; });
    placed.insert(at, {offset, index});
    arena = std::max(arena, offset + buffer.bytes);
  }
  return arena;
}

uint64_t greatest_sum(const std::vector<Buffer>& buffers) {
  int32_t end = 0;
  for (const Buffer& b : buffers) end = std::max(end, b.last);
  std::vector<uint64_t> change(static_cast<std::size_t>(end) + 2, 0);
  for (const Buffer& b : buffers) {
    change[b.first] += b.bytes;
    change[b.last + 1] -= b.bytes;
  }
  uint64_t now = 0, peak = 0;
  for (uint64_t c : change) peak = std::max(peak, now += c);
  return peak;
}

}  // namespace

uint64_t assign_offsets(const std::vector<Buffer>& buffers, std::vector<uint64_t>* offsets) {
  using Before = std::function<bool(const Buffer&, const Buffer&)>;
  const auto length = [](const Buffer& b) { return static_cast<uint64_t>(b.last - b.first) + 1; };
  // None of these is best for all graphs; each takes milliseconds.
  const Before orders[] = {
      [](const Buffer& a, const Buffer& b) { return a.bytes > b.bytes; },
      [](const Buffer& a, const Buffer& b) { return a.first < b.first; },
      [&](const Buffer& a, const Buffer& b) { return length(a) > length(b); },
      [&](const Buffer& a, const Buffer& b) { return a.bytes * length(a) > b.bytes * length(b); },
      [](const Buffer& a, const Buffer& b) { return a.last > b.last; },
  };
  const uint64_t bound = greatest_sum(buffers);
  std::vector<int32_t> order(buffers.size());
  std::vector<uint64_t> trial(buffers.size());
  uint64_t best = ~uint64_t{0};
  for (const Before& before : orders) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return before(buffers[a], buffers[b]); });
    const uint64_t bytes = place_in_order(buffers, order, &trial);
    if (bytes < best) {
      best = bytes;
      *offsets = trial;
    }
    if (best == bound) break;
  }
  return best;
}

MemoryPlan plan_memory(const Graph& graph, const std::vector<uint64_t>& scratch_bytes, const std::vector<ValueId>& kept,
                       const LivenessOptions& options) {
  const Liveness liveness = find_lifetimes(graph, kept, options);
  std::vector<Buffer> buffers = liveness.buffers;
  std::vector<uint64_t> offsets;
  MemoryPlan plan;
  plan.storage = liveness.storage;
  plan.activation_bytes = assign_offsets(buffers, &offsets);

  // Scratch is a buffer that lives during its node.
  std::vector<NodeId> owners;
  for (NodeId n = 1; n < static_cast<NodeId>(scratch_bytes.size()); ++n) {
    if (scratch_bytes[n] == 0) continue;
    owners.push_back(n);
    buffers.push_back({aligned(scratch_bytes[n]), n, n});
  }
  plan.arena_bytes = plan.activation_bytes;
  if (!owners.empty()) plan.arena_bytes = assign_offsets(buffers, &offsets);
  plan.activation_bytes = std::min(plan.activation_bytes, plan.arena_bytes);
  plan.scratch_bytes = plan.arena_bytes - plan.activation_bytes;
  plan.lower_bound = greatest_sum(buffers);

  plan.offset.assign(graph.values.size(), MemoryPlan::outside);
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    if (liveness.buffer_of[v] >= 0) plan.offset[v] = offsets[liveness.buffer_of[v]];
  }
  plan.scratch_offset.assign(graph.nodes.size(), 0);
  for (std::size_t i = 0; i < owners.size(); ++i) plan.scratch_offset[owners[i]] = offsets[liveness.buffers.size() + i];
  return plan;
}

namespace {

// Plays the step and remembers whose contents every byte of the workspace holds: it knows nothing of lifetimes.
class PlanChecker {
 public:
  PlanChecker(const Graph& graph, const MemoryPlan& plan) : graph_(graph), plan_(plan) {
    view_of_.resize(graph.values.size());
    std::iota(view_of_.begin(), view_of_.end(), 0);
    for (const Node& node : graph.nodes) {
      if (node.kind == OpKind::reshape) view_of_[node.outputs[0]] = view_of_[node.inputs[0]];
    }
    holder_[0] = none;
  }

  void run(const std::vector<uint64_t>& scratch_bytes, const std::vector<ValueId>& kept) {
    for (ValueId v = 1; v < static_cast<ValueId>(graph_.values.size()); ++v) {
      if (graph_.value(v).role == Role::input) write(v);
    }
    for (NodeId n = 1; n < static_cast<NodeId>(graph_.nodes.size()); ++n) {
      const Node& node = graph_.node(n);
      for (ValueId in : node.inputs) require_intact(in, node);
      if (static_cast<std::size_t>(n) < scratch_bytes.size()) check_scratch(node, n, scratch_bytes[n]);
      if (node.kind != OpKind::reshape) write_outputs(node);
    }
    for (ValueId v : kept) require_intact(v, Node{});
  }

 private:
  bool is_placed(ValueId v) const { return v != none && plan_.offset[v] != MemoryPlan::outside; }
  uint64_t begin(ValueId v) const { return plan_.offset[v]; }
  uint64_t end(ValueId v) const {
    return begin(v) + static_cast<uint64_t>(graph_.shape(v).elements()) * size_of(graph_.value(v).dtype);
  }
  static bool overlap(uint64_t a_begin, uint64_t a_end, uint64_t b_begin, uint64_t b_end) {
    return a_begin < b_end && b_begin < a_end;
  }

  [[noreturn]] void broken(const char* what, ValueId v, const Node& node) const {
    fail(MPT_ERROR_INTERNAL, "memory plan: %s %%%d %s at node '%s'", what, v, graph_.describe(v).c_str(),
         node.name.c_str());
  }

  void split_at(uint64_t at) {
    const auto next = std::prev(holder_.upper_bound(at));
    holder_.emplace(at, next->second);
  }

  void fill(uint64_t from, uint64_t to, ValueId holder) {
    split_at(from);
    split_at(to);
    holder_.erase(holder_.find(from), holder_.find(to));
    holder_[from] = holder;
  }

  void write(ValueId v) {
    const Role role = graph_.value(v).role;
    const bool belongs_outside = role != Role::input && role != Role::activation && role != Role::gradient;
    if (belongs_outside == is_placed(v)) broken("wrong kind of memory for", v, Node{});
    if (!is_placed(v)) return;
    if (begin(v) % workspace_alignment != 0) broken("misaligned", v, Node{});
    if (end(v) > plan_.arena_bytes) broken("outside the arena:", v, Node{});
    fill(begin(v), end(v), v);
  }

  void require_intact(ValueId v, const Node& reader) const {
    if (!is_placed(v)) return;
    if (begin(v) != begin(view_of_[v])) broken("a view apart from its memory:", v, reader);
    auto at = std::prev(holder_.upper_bound(begin(v)));
    for (; at != holder_.end() && at->first < end(v); ++at) {
      if (at->second != view_of_[v]) broken("overwritten before it is read:", v, reader);
    }
  }

  void check_scratch(const Node& node, NodeId n, uint64_t bytes) {
    if (bytes == 0) return;
    const uint64_t from = plan_.scratch_offset[n], to = from + bytes;
    if (from % workspace_alignment != 0 || to > plan_.arena_bytes) broken("scratch misplaced;", none, node);
    for (const std::vector<ValueId>* values : {&node.inputs, &node.outputs}) {
      for (ValueId v : *values) {
        if (is_placed(v) && overlap(from, to, begin(v), end(v))) broken("scratch over", v, node);
      }
    }
    fill(from, to, none);
  }

  void write_outputs(const Node& node) {
    for (std::size_t o = 0; o < node.outputs.size(); ++o) {
      const ValueId out = node.outputs[o];
      if (out == none) continue;
      if (is_placed(out)) {
        for (std::size_t i = 0; i < node.inputs.size(); ++i) check_overwriting(node, i, o);
        for (std::size_t other = 0; other < o; ++other) {
          const ValueId v = node.outputs[other];
          if (is_placed(v) && overlap(begin(v), end(v), begin(out), end(out)))
            broken("two outputs share memory:", out, node);
        }
      }
      write(out);
    }
  }

  void check_overwriting(const Node& node, std::size_t input, std::size_t output) const {
    const ValueId in = node.inputs[input], out = node.outputs[output];
    if (!is_placed(in) || !overlap(begin(in), end(in), begin(out), end(out))) return;
    const auto allowed = op_def(node.kind).in_place;
    if (begin(in) != begin(out) || end(in) != end(out) || graph_.shape(in) != graph_.shape(out) || !allowed ||
        !allowed(graph_, node, static_cast<int>(input), static_cast<int>(output)))
      broken("written over an input:", out, node);
  }

  const Graph& graph_;
  const MemoryPlan& plan_;
  std::vector<ValueId> view_of_;
  std::map<uint64_t, ValueId> holder_;  // from this byte on; none: nothing of use
};

}  // namespace

void check_plan(const Graph& graph, const MemoryPlan& plan, const std::vector<uint64_t>& scratch_bytes,
                const std::vector<ValueId>& kept) {
  PlanChecker(graph, plan).run(scratch_bytes, kept);
}

}  // namespace mpt
