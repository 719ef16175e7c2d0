#include "passes/liveness.h"

#include <algorithm>

#include "ops/op.h"
#include "passes/rewrite.h"

namespace mpt {
namespace {

bool lives_in_workspace(Role role) { return role == Role::input || role == Role::activation || role == Role::gradient; }

uint64_t bytes_of(const Value& v) { return static_cast<uint64_t>(v.shape.elements()) * size_of(v.dtype); }

class LifetimeFinder {
 public:
  LifetimeFinder(const Graph& graph, const std::vector<ValueId>& kept, const LivenessOptions& options)
      : graph_(graph), options_(options), end_(static_cast<int32_t>(graph.nodes.size())) {
    find_storage();
    find_last_uses(kept);
    make_buffers();
  }

  Liveness take() { return std::move(result_); }

 private:
  void find_storage() {
    auto& storage = result_.storage;
    storage.resize(graph_.values.size());
    for (std::size_t v = 0; v < storage.size(); ++v) storage[v] = static_cast<ValueId>(v);
    for (const Node& node : graph_.nodes) {
      if (node.kind != OpKind::reshape) continue;
      const ValueId x = node.inputs[0], y = node.outputs[0];
      MPT_INVARIANT(graph_.value(x).dtype == graph_.value(y).dtype && graph_.value(y).role != Role::param_gradient);
      storage[y] = storage[x];
    }
  }

  void find_last_uses(const std::vector<ValueId>& kept) {
    first_.assign(graph_.values.size(), -1);
    last_.assign(graph_.values.size(), -1);
    for (ValueId v = 1; v < static_cast<ValueId>(graph_.values.size()); ++v) {
      if (graph_.value(v).role == Role::input) first_[v] = last_[v] = 0;
    }
    const auto& storage = result_.storage;
    for (NodeId n = 1; n < end_; ++n) {
      for (ValueId in : graph_.node(n).inputs) {
        if (in != none) last_[storage[in]] = std::max(last_[storage[in]], n);
      }
      for (ValueId out : graph_.node(n).outputs) {
        if (out == none) continue;
        const ValueId s = storage[out];
        if (s == out) first_[s] = n;
        last_[s] = std::max(last_[s], n);
      }
    }
    for (ValueId v : kept) {
      if (v != none) last_[storage[v]] = end_;
    }
  }

  void make_buffers() {
    result_.buffer_of.assign(graph_.values.size(), -1);
    for (ValueId v = 1; v < static_cast<ValueId>(graph_.values.size()); ++v) {
      if (graph_.value(v).role == Role::input) open_buffer(v);
    }
    for (NodeId n = 1; n < end_; ++n) {
      for (std::size_t i = 0; i < graph_.node(n).outputs.size(); ++i) {
        const ValueId out = graph_.node(n).outputs[i];
        if (out == none || result_.storage[out] != out || !lives_in_workspace(graph_.value(out).role)) continue;
        if (!options_.in_place || !overwrite_an_input(n, static_cast<int>(i))) open_buffer(out);
      }
    }
    for (std::size_t v = 1; v < graph_.values.size(); ++v) {
      const ValueId s = result_.storage[v];
      if (s == static_cast<ValueId>(v)) continue;
      result_.buffer_of[v] = result_.buffer_of[s];
      result_.storage[v] = result_.storage[s];
    }
  }

  void open_buffer(ValueId v) {
    result_.buffer_of[v] = static_cast<int32_t>(result_.buffers.size());
    result_.buffers.push_back({aligned(bytes_of(graph_.value(v))), first_[v], last_[v]});
  }

  // Puts output number `index` of a node where an input that dies there is, if the op allows it.
  bool overwrite_an_input(NodeId n, int index) {
    const Node& node = graph_.node(n);
    const auto may_overwrite = op_def(node.kind).in_place;
    if (!may_overwrite) return false;
    const ValueId out = node.outputs[index];
    const Value& y = graph_.value(out);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId in = node.inputs[i];
      if (in == none) continue;
      const Value& x = graph_.value(in);
      const int32_t b = buffer_holding(in);
      if (b < 0 || result_.buffers[b].last != n || x.shape != y.shape || size_of(x.dtype) != size_of(y.dtype)) continue;
      if (is_read_elsewise(node, i, b) || is_taken(node, index, b)) continue;
      if (!may_overwrite(graph_, node, static_cast<int>(i), index)) continue;
      result_.buffer_of[out] = b;
      result_.storage[out] = result_.storage[result_.storage[in]];
      result_.buffers[b].last = last_[out];
      return true;
    }
    return false;
  }

  int32_t buffer_holding(ValueId v) const { return result_.buffer_of[result_.storage[v]]; }

  // Does the node read this buffer through another input too, in a way that writing in place would disturb?
  bool is_read_elsewise(const Node& node, std::size_t input, int32_t buffer) const {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i == input || node.inputs[i] == none || buffer_holding(node.inputs[i]) != buffer) continue;
      const bool same_elements = node.kind == OpKind::elementwise && node.inputs[i] == node.inputs[input];
      if (!same_elements) return true;
    }
    return false;
  }

  // Did an earlier output of the node take the buffer?
  bool is_taken(const Node& node, int output, int32_t buffer) const {
    for (int i = 0; i < output; ++i) {
      if (node.outputs[i] != none && result_.buffer_of[node.outputs[i]] == buffer) return true;
    }
    return false;
  }

  const Graph& graph_;
  const LivenessOptions& options_;
  const int32_t end_;  // the position after the last node
  Liveness result_;
  std::vector<int32_t> first_, last_;  // of the values that own storage, views counted
};

}  // namespace

Liveness find_lifetimes(const Graph& graph, const std::vector<ValueId>& kept, const LivenessOptions& options) {
  return LifetimeFinder(graph, kept, options).take();
}

std::vector<uint64_t> live_bytes(const Graph& graph, const Liveness& liveness,
                                 const std::vector<uint64_t>& scratch_bytes) {
  const std::size_t end = graph.nodes.size();  // where what survives the step is still alive
  std::vector<uint64_t> bytes(end + 2, 0);
  for (const Buffer& b : liveness.buffers) {
    bytes[b.first] += b.bytes;
    bytes[b.last + 1] -= b.bytes;  // wraps; the running sum below wraps back
  }
  bytes.pop_back();
  for (std::size_t i = 1; i <= end; ++i) bytes[i] += bytes[i - 1];
  for (std::size_t i = 0; i < scratch_bytes.size(); ++i) bytes[i] += aligned(scratch_bytes[i]);
  return bytes;
}

uint64_t peak_live_bytes(const Graph& graph, const Liveness& liveness, const std::vector<uint64_t>& scratch_bytes) {
  const std::vector<uint64_t> bytes = live_bytes(graph, liveness, scratch_bytes);
  return *std::max_element(bytes.begin(), bytes.end());
}

}  // namespace mpt
