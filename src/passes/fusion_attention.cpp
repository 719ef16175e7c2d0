// Attention over three slices of one projection reads the projection itself, and writes one gradient of it.
#include <algorithm>
#include <array>
#include <optional>

#include "passes/fusion_program.h"
#include "passes/fusion_steps.h"
#include "passes/rewrite.h"

namespace mpt {
namespace {

class AttentionPacker {
 public:
  AttentionPacker(Graph& graph, const std::vector<ValueId>& kept)
      : graph_(graph), kept_(flags_of(graph, kept)), readers_(readers_of(graph)), dead_(graph.nodes.size(), 0) {}

  void run() {
    for (NodeId n = 1; n < static_cast<NodeId>(graph_.nodes.size()); ++n) {
      if (graph_.node(n).kind == OpKind::attention) pack(n);
    }
    remove_nodes(graph_, dead_);
  }

 private:
  using Slices = std::array<ValueId, 3>;

  // The value whose adjoining slices q, k and v are; none if they are anything else.
  ValueId packed_source(const Slices& qkv, const AttentionAttrs& attrs) const {
    ValueId source = none;
    int64_t at = 0;
    for (ValueId v : qkv) {
      const NodeId producer = graph_.value(v).producer;
      if (producer == none || graph_.node(producer).kind != OpKind::slice) return none;
      const Node& slice = graph_.node(producer);
      const auto& range = std::get<SliceAttrs>(slice.attrs);
      const ValueId x = slice.inputs[0];
      if (source == none) source = x;
      const bool fits = x == source && range.axis == graph_.shape(x).rank() - 1 && range.begin == at &&
                        graph_.value(x).dtype == graph_.value(v).dtype;
      if (!fits) return none;
      at = range.end;
    }
    const int64_t head_size = graph_.shape(qkv[0])[-1] / attrs.heads;
    const bool whole = at == graph_.shape(source)[-1] && at == (attrs.heads + 2 * attrs.kv_heads) * head_size;
    return whole ? source : none;
  }

  // The backward node over the same slices, if that is all that reads them beside the forward node.
  std::optional<NodeId> backward_node(const Slices& qkv, NodeId forward) const {
    NodeId found = none;
    for (int i = 0; i < 3; ++i) {
      if (kept_[qkv[i]]) return std::nullopt;
      for (NodeId r : readers_[qkv[i]]) {
        if (r == forward) continue;
        const Node& node = graph_.node(r);
        const bool same = node.kind == OpKind::attention_grad &&
                          std::equal(qkv.begin(), qkv.end(), node.inputs.begin()) && (found == none || found == r);
        if (!same) return std::nullopt;
        found = r;
      }
    }
    return found;
  }

  // The sum of the three gradients, each padded with zeros to its place in the projection; none if it isn't that.
  NodeId sum_of_padded(const Node& grad, ValueId source) const {
    NodeId sum = none;
    int64_t at = 0;
    for (ValueId d : grad.outputs) {
      if (d == none || kept_[d] || readers_[d].size() != 1) return none;
      const NodeId p = readers_[d][0];
      if (graph_.node(p).kind != OpKind::pad) return none;
      const Node& pad = graph_.node(p);
      const auto& range = std::get<PadAttrs>(pad.attrs);
      const ValueId padded = pad.outputs[0];
      const bool fits = range.axis == graph_.shape(source).rank() - 1 && range.before == at && range.value == 0 &&
                        graph_.shape(padded) == graph_.shape(source) && !kept_[padded] && readers_[padded].size() == 1;
      if (!fits) return none;
      const NodeId reader = readers_[padded][0];
      if (sum != none && reader != sum) return none;
      sum = reader;
      at += graph_.shape(d)[-1];
    }
    const Node& node = graph_.node(sum);
    const bool is_sum = node.kind == OpKind::elementwise && node.inputs.size() == 3 &&
                        is_plain_sum(std::get<ElementwiseAttrs>(node.attrs).program) &&
                        graph_.shape(node.outputs[0]) == graph_.shape(source);
    return is_sum ? sum : none;
  }

  void pack(NodeId n) {
    const auto attrs = std::get<AttentionAttrs>(graph_.node(n).attrs);
    if (attrs.packed) return;
    const std::vector<ValueId>& inputs = graph_.node(n).inputs;
    const Slices qkv{inputs[0], inputs[1], inputs[2]};
    const ValueId source = packed_source(qkv, attrs);
    if (source == none) return;
    const std::optional<NodeId> backward = backward_node(qkv, n);
    if (!backward) return;
    if (*backward != none) {
      const NodeId sum = sum_of_padded(graph_.node(*backward), source);
      if (sum == none) return;
      Node& grad = graph_.node(*backward);
      for (ValueId d : grad.outputs) dead_[readers_[d][0]] = 1;
      dead_[sum] = 1;
      read_packed(grad, source);
      grad.outputs = {graph_.node(sum).outputs[0]};
    }
    for (ValueId v : qkv) dead_[graph_.value(v).producer] = 1;
    read_packed(graph_.node(n), source);
  }

  static void read_packed(Node& node, ValueId source) {
    std::get<AttentionAttrs>(node.attrs).packed = true;
    node.inputs[0] = source;
    node.inputs[1] = node.inputs[2] = none;
  }

  Graph& graph_;
  const std::vector<char> kept_;
  const std::vector<std::vector<NodeId>> readers_;
  std::vector<char> dead_;
};

}  // namespace

void pack_attention(Graph& graph, const std::vector<ValueId>& kept) { AttentionPacker(graph, kept).run(); }

}  // namespace mpt
