#include "passes/simplify.h"

#include <cstring>
#include <string>
#include <type_traits>
#include <unordered_map>

#include "passes/rewrite.h"

namespace mpt {
namespace {

Program* program_of(Node& node) {
  if (auto* e = std::get_if<ElementwiseAttrs>(&node.attrs)) return &e->program;
  if (auto* m = std::get_if<MatmulAttrs>(&node.attrs)) return m->epilogue.outputs.empty() ? nullptr : &m->epilogue;
  return nullptr;
}

// Outputs of fused programs that nobody reads are not stored.
void drop_unread_outputs(Node& node, const std::vector<char>& needed) {
  Program* program = program_of(node);
  if (!program || node.outputs.size() < 2) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (!needed[node.outputs[i]]) continue;
    node.outputs[kept] = node.outputs[i];
    program->outputs[kept++] = program->outputs[i];
  }
  node.outputs.resize(kept);
  program->outputs.resize(kept);
}

class Simplifier {
 public:
  Simplifier(Graph& graph, const std::vector<ValueId>& kept) : graph_(graph), kept_(flags_of(graph, kept)) {}

  bool forward_copies();
  bool join_views();
  bool merge_equal_nodes();

 private:
  bool leaves(ValueId v) const { return leaves_the_step(graph_, kept_, v); }
  // Readers of `from` read `to` instead.
  void forward(ValueId from, ValueId to) {
    if (target_.empty()) target_.resize(graph_.values.size(), none);
    target_[from] = to;
  }
  bool apply_forwards();

  Graph& graph_;
  const std::vector<char> kept_;
  std::vector<ValueId> target_;
};

bool Simplifier::apply_forwards() {
  if (target_.empty()) return false;
  for (Node& node : graph_.nodes) {
    for (ValueId& in : node.inputs) {
      while (in != none && target_[in] != none) in = target_[in];
    }
  }
  target_.clear();
  return true;
}

bool is_copy(const Node& node) {
  const auto* attrs = std::get_if<ElementwiseAttrs>(&node.attrs);
  if (!attrs || node.inputs.size() != 1 || node.outputs.size() != 1) return false;
  for (const ElementwiseStep& step : attrs->program.steps) {
    if (step.op != Ewise::copy) return false;
  }
  return true;
}

// Readers of a copy that neither converts nor broadcasts, and of a reshape to the same shape, read the original.
bool Simplifier::forward_copies() {
  const std::vector<std::vector<NodeId>> readers = readers_of(graph_);
  for (const Node& node : graph_.nodes) {
    if (node.kind != OpKind::reshape && !is_copy(node)) continue;
    const ValueId x = node.inputs[0], y = node.outputs[0];
    if (graph_.shape(x) != graph_.shape(y) || graph_.value(x).dtype != graph_.value(y).dtype) continue;
    if (!readers[y].empty()) forward(y, x);
  }
  return apply_forwards();
}

// A reshape of a reshape, and a transpose that undoes a transpose.
bool Simplifier::join_views() {
  bool changed = false;
  for (Node& node : graph_.nodes) {
    if (node.inputs.empty() || node.inputs[0] == none) continue;
    const NodeId before = graph_.value(node.inputs[0]).producer;
    if (before == none || graph_.node(before).kind != node.kind) continue;
    const Node& first = graph_.node(before);
    if (node.kind == OpKind::reshape) {
      node.inputs[0] = first.inputs[0];
      changed = true;
    } else if (node.kind == OpKind::transpose) {
      std::vector<int> axes;
      for (int axis : std::get<TransposeAttrs>(node.attrs).axes)
        axes.push_back(std::get<TransposeAttrs>(first.attrs).axes[axis]);
      bool identity = true;
      for (std::size_t i = 0; i < axes.size(); ++i) identity = identity && axes[i] == static_cast<int>(i);
      const ValueId x = first.inputs[0], y = node.outputs[0];
      if (identity && graph_.value(x).dtype == graph_.value(y).dtype) forward(y, x);
    }
  }
  return apply_forwards() || changed;
}

// Everything about a node but its name and outputs, as bytes.
class Key {
 public:
  template <typename T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    text_.append(bytes, sizeof(T));
  }
  template <typename T>
  void put_all(const std::vector<T>& values) {
    put(values.size());
    for (const T& v : values) put(v);
  }
  void put(const Shape& shape) {
    put(shape.rank());
    for (int64_t size : shape) put(size);
  }
  void put(const Program& program) {
    put(program.inputs);
    put(program.steps.size());
    for (const ElementwiseStep& step : program.steps) {
      put(step.op);
      put(step.a);
      put(step.b);
      put(step.p);
      put(step.q);
      put(step.stream_id);
    }
    put_all(program.outputs);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// False for nodes that are never merged: those of the user's own functions and those with effects beyond their outputs.
bool put_attrs(Key& key, const Node& node) {
  return std::visit(
      [&](const auto& attrs) {
        using T = std::decay_t<decltype(attrs)>;
        if constexpr (std::is_same_v<T, ElementwiseAttrs>) {
          key.put(attrs.program);
        } else if constexpr (std::is_same_v<T, MatmulAttrs>) {
          key.put(attrs.transpose_a);
          key.put(attrs.transpose_b);
          key.put(attrs.epilogue);
        } else if constexpr (std::is_same_v<T, ReduceAttrs>) {
          key.put(attrs.reduction);
          key.put_all(attrs.axes);
        } else if constexpr (std::is_same_v<T, SoftmaxAttrs>) {
          key.put(attrs.axis);
          key.put(attrs.log);
        } else if constexpr (std::is_same_v<T, ReshapeAttrs>) {
          // the shapes of the outputs say it all
        } else if constexpr (std::is_same_v<T, TransposeAttrs>) {
          key.put_all(attrs.axes);
        } else if constexpr (std::is_same_v<T, SliceAttrs>) {
          key.put(attrs.axis);
          key.put(attrs.begin);
        } else if constexpr (std::is_same_v<T, AxisAttrs>) {
          key.put(attrs.axis);
        } else if constexpr (std::is_same_v<T, GatherAttrs>) {
          key.put(attrs.axis);
        } else if constexpr (std::is_same_v<T, PadAttrs>) {
          key.put(attrs.axis);
          key.put(attrs.before);
          key.put(attrs.value);
        } else {
          return false;
        }
        return true;
      },
      node.attrs);
}

// Nodes that compute the same from the same. Forward and backward nodes are kept apart: to carry a value from one
// pass to the other costs more memory than to form it twice.
bool Simplifier::merge_equal_nodes() {
  std::unordered_map<std::string, NodeId> seen;
  for (NodeId n = 1; n < static_cast<NodeId>(graph_.nodes.size()); ++n) {
    Node& node = graph_.node(n);
    for (ValueId& in : node.inputs) {
      while (in != none && !target_.empty() && target_[in] != none) in = target_[in];
    }
    Key key;
    key.put(node.kind);
    key.put(node.backward);
    key.put(node.recomputed);
    key.put_all(node.inputs);
    if (!put_attrs(key, node)) continue;
    bool mergeable = true;
    for (ValueId out : node.outputs) {
      if (out == none) {
        key.put(none);
        continue;
      }
      mergeable = mergeable && !leaves(out);
      key.put(graph_.value(out).dtype);
      key.put(graph_.shape(out));
    }
    const auto [entry, is_new] = seen.emplace(key.text(), n);
    if (is_new || !mergeable) continue;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId from = node.outputs[i], to = graph_.node(entry->second).outputs[i];
      if (from != none) forward(from, to);
    }
  }
  return apply_forwards();
}

}  // namespace

void remove_dead(Graph& graph, const std::vector<ValueId>& kept) {
  std::vector<char> needed = flags_of(graph, kept);
  for (std::size_t v = 1; v < needed.size(); ++v) needed[v] = leaves_the_step(graph, needed, static_cast<ValueId>(v));
  std::vector<char> dead(graph.nodes.size(), 1);
  dead[0] = 0;
  for (std::size_t n = graph.nodes.size(); n-- > 1;) {
    Node& node = graph.nodes[n];
    for (ValueId out : node.outputs) {
      if (out != none && needed[out]) dead[n] = 0;
    }
    if (dead[n]) continue;
    drop_unread_outputs(node, needed);
    for (ValueId in : node.inputs) {
      if (in != none) needed[in] = 1;
    }
  }
  remove_nodes(graph, dead);
}

void simplify(Graph& graph, const std::vector<ValueId>& kept) {
  bool changed = true;
  while (changed) {
    remove_dead(graph, kept);
    Simplifier simplifier(graph, kept);
    changed = simplifier.forward_copies();
    changed = simplifier.join_views() || changed;
    changed = simplifier.merge_equal_nodes() || changed;
  }
}

}  // namespace mpt
