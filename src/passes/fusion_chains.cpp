// Element-wise nodes into the elementwise node or the matmul that makes what they read.
#include <algorithm>

#include "passes/fusion_program.h"
#include "passes/fusion_state.h"
#include "passes/fusion_steps.h"

namespace mpt {
namespace {

class ChainFuser {
 public:
  ChainFuser(Graph& graph, const std::vector<ValueId>& kept, bool elementwise, bool epilogues, Caution caution)
      : state_(graph, kept), graph_(graph), elementwise_(elementwise), epilogues_(epilogues), caution_(caution) {}

  void run() {
    for (NodeId n = 1; n < state_.size(); ++n) {
      while (!state_.is_dead(n) && graph_.node(n).kind == OpKind::elementwise && fuse_with_a_producer(n)) {
      }
    }
    state_.finish();
  }

 private:
  bool may_take(const Node& producer) const {
    return (producer.kind == OpKind::elementwise && elementwise_) || (producer.kind == OpKind::matmul && epilogues_);
  }

  bool fuse_with_a_producer(NodeId consumer) {
    std::vector<NodeId> producers;
    for (ValueId v : graph_.node(consumer).inputs) producers.push_back(graph_.value(v).producer);
    std::sort(producers.rbegin(), producers.rend());  // the last one has most of the other inputs before it
    producers.erase(std::unique(producers.begin(), producers.end()), producers.end());
    for (NodeId producer : producers) {
      if (producer != none && fuse(producer, consumer)) return true;
    }
    return false;
  }

  bool fuse(NodeId p, NodeId c) {
    const Node &first = graph_.node(p), &second = graph_.node(c);
    if (!may_take(first) || first.backward != second.backward || first.recomputed != second.recomputed) return false;
    if (graph_.shape(first.outputs[0]) != graph_.shape(second.outputs[0])) return false;
    const BoundProgram a = bind_program(first), b = bind_program(second);
    std::vector<char> stored;
    for (ValueId v : a.outputs) stored.push_back(state_.is_wanted_beside(v, c));
    const auto joined = join_programs(a, b, stored);
    if (!joined) return false;
    const NodeId at = place_of(p, c, stored);
    if (at == none) return false;

    Node node = first;
    node.name += "+" + second.name;
    node.keep_fp32 = first.keep_fp32 || second.keep_fp32;
    store_program(node, *joined);
    state_.replace(at, std::move(node), at == p ? c : p);
    return true;
  }

  // Where the joined node goes, none: nowhere.
  NodeId place_of(NodeId p, NodeId c, const std::vector<char>& stored) const {
    const Node &first = graph_.node(p), &second = graph_.node(c);
    const bool all_ready = std::all_of(second.inputs.begin(), second.inputs.end(), [&](ValueId v) {
      return graph_.value(v).producer == p || state_.is_ready_at(v, p);
    });
    uint64_t dropped = 0, made = 0;
    for (std::size_t i = 0; i < first.outputs.size(); ++i) {
      if (!stored[i]) dropped += state_.bytes(first.outputs[i]);
    }
    for (ValueId v : second.outputs) made += state_.bytes(v);
    if (all_ready) {
      // The second's outputs are there earlier.
      const bool costs_little = caution_ == Caution::fast && state_.are_neighbours(p, c);
      return made <= dropped || costs_little ? p : none;
    }
    // The first's inputs stay until the second's time, and its outputs come only then.
    for (ValueId v : first.outputs) {
      if (!state_.readers(v).empty() && state_.readers(v).front() < c) return none;
    }
    return state_.bytes_freed_by(p) <= dropped ? c : none;
  }

  FusionState state_;
  Graph& graph_;
  const bool elementwise_, epilogues_;
  const Caution caution_;
};

}  // namespace

void fuse_chains(Graph& graph, const std::vector<ValueId>& kept, bool elementwise, bool epilogues, Caution caution) {
  ChainFuser(graph, kept, elementwise, epilogues, caution).run();
}

}  // namespace mpt
