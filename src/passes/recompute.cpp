#include "passes/recompute.h"

#include <algorithm>
#include <cinttypes>
#include <optional>

#include "graph/op_def.h"
#include "passes/liveness.h"
#include "passes/memory_plan.h"
#include "passes/rewrite.h"
#include "passes/simplify.h"

namespace mpt {
namespace {

using NodeSet = std::vector<char>;  // by id of a node of the original graph

// Writes the graph in which the backward pass reads copies of what the nodes in a set made.
class CopyWriter {
 public:
  CopyWriter(const Graph& original, const NodeSet& dropped)
      : original_(original), dropped_(dropped), graph_(original), copy_of_(original.values.size(), none), nodes_(1) {}

  // `copied` (may be null) receives the values that have copies.
  Graph write(const std::vector<ValueId>& kept, std::vector<ValueId>* copied = nullptr) {
    for (std::size_t n = 1; n < original_.nodes.size(); ++n) {
      Node node = original_.nodes[n];
      if (node.backward) read_copies(node);
      nodes_.push_back(std::move(node));
    }
    set_nodes(graph_, std::move(nodes_));
    remove_dead(graph_, kept);
    for (ValueId v = 1; copied && v < static_cast<ValueId>(copy_of_.size()); ++v) {
      const NodeId producer = copy_of_[v] == none ? none : graph_.value(copy_of_[v]).producer;
      if (producer != none && graph_.node(producer).kind != OpKind::reshape) copied->push_back(v);
    }
    return std::move(graph_);
  }

 private:
  // A view of something dropped is made again with it.
  bool is_copied(ValueId v) const {
    const NodeId producer = original_.value(v).producer;
    if (producer == none) return false;
    const Node& node = original_.node(producer);
    if (node.backward) return false;
    return node.kind == OpKind::reshape ? is_copied(node.inputs[0]) : dropped_[producer] != 0;
  }

  void read_copies(Node& node) {
    for (ValueId& in : node.inputs) {
      if (in == none || !is_copied(in)) continue;
      if (copy_of_[in] == none) copy(original_.value(in).producer);
      in = copy_of_[in];
    }
  }

  void copy(NodeId n) {
    Node node = original_.node(n);
    node.name += ".again";
    node.backward = true;
    node.recomputed = true;
    read_copies(node);
    for (ValueId& out : node.outputs) {
      if (out == none) continue;
      Value value = original_.value(out);
      value.name += ".again";
      copy_of_[out] = graph_.add_value(std::move(value));
      out = copy_of_[out];
    }
    nodes_.push_back(std::move(node));
  }

  const Graph& original_;
  const NodeSet& dropped_;
  Graph graph_;
  std::vector<ValueId> copy_of_;  // by value of the original
  std::vector<Node> nodes_;
};

// What a set of dropped nodes leads to.
struct Trial {
  Graph graph;
  uint64_t peak = 0;  // of live bytes
  int32_t peak_position = 0;
};

// Nodes to drop together.
struct Candidate {
  std::vector<NodeId> nodes;
  double cost_per_byte = 0;  // of what they free at the peak
};

// Finds the candidates of a trial: what the forward pass made, lies idle at the peak, and is read again after it.
class CandidateFinder {
 public:
  CandidateFinder(const Graph& original, const NodeSet& dropped, const Trial& now, const std::vector<ValueId>& kept)
      : original_(original),
        dropped_(dropped),
        now_(now),
        liveness_(find_lifetimes(now.graph, kept, {.in_place = false})) {
    const auto n_buffers = liveness_.buffers.size();
    last_forward_.assign(n_buffers, 0);
    first_backward_.assign(n_buffers, 0);
    const Graph& graph = now.graph;
    for (NodeId n = 1; n < static_cast<NodeId>(graph.nodes.size()); ++n) {
      const Node& node = graph.node(n);
      if (node.kind == OpKind::reshape) continue;
      for (ValueId in : node.inputs) {
        const int32_t b = in == none ? -1 : liveness_.buffer_of[in];
        if (b < 0) continue;
        if (!node.backward) last_forward_[b] = n;
        if (node.backward && first_backward_[b] == 0) first_backward_[b] = n;
      }
    }
    for (ValueId v : kept) {
      if (v != none && liveness_.buffer_of[v] >= 0) first_backward_[liveness_.buffer_of[v]] = 0;
    }
  }

  // The cheapest first.
  std::vector<Candidate> find() const {
    std::vector<Candidate> found;
    for (NodeId n = 1; n < static_cast<NodeId>(original_.nodes.size()); ++n) {
      if (!may_drop(n) || dropped_[n] || idle_bytes(n) == 0) continue;
      if (auto candidate = close(n)) found.push_back(std::move(*candidate));
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Candidate& a, const Candidate& b) { return a.cost_per_byte < b.cost_per_byte; });
    return found;
  }

 private:
  // A user's own function runs once: nobody knows what it does besides.
  bool may_drop(NodeId n) const {
    const Node& node = original_.node(n);
    return !node.backward && node.kind != OpKind::reshape && node.kind != OpKind::custom;
  }

  const Buffer* buffer(ValueId v) const {
    const int32_t b = liveness_.buffer_of[v];
    return b < 0 ? nullptr : &liveness_.buffers[b];
  }
  bool is_alive(const Buffer& b) const { return b.first <= now_.peak_position && now_.peak_position <= b.last; }

  int64_t idle_bytes(NodeId n) const {
    int64_t bytes = 0;
    for (ValueId out : original_.node(n).outputs) {
      const Buffer* b = out == none ? nullptr : buffer(out);
      if (!b) continue;
      const auto index = b - liveness_.buffers.data();
      const bool idle =
          is_alive(*b) && last_forward_[index] < now_.peak_position && first_backward_[index] > now_.peak_position;
      if (idle) bytes += static_cast<int64_t>(b->bytes);
    }
    return bytes;
  }

  // The node, and those that must run again because what it reads is gone by then. What a forward input of the step
  // needs to stay for it counts against it.
  std::optional<Candidate> close(NodeId n) const {
    constexpr std::size_t most_nodes = 32;
    Candidate candidate{{n}, 0};
    std::vector<int32_t> extended;
    int64_t saved = 0;
    double cost = 0;
    for (std::size_t i = 0; i < candidate.nodes.size(); ++i) {
      if (candidate.nodes.size() > most_nodes) return std::nullopt;
      const Node& node = original_.node(candidate.nodes[i]);
      const Cost own = op_def(node.kind).cost(original_, node);
      cost += own.flops + own.bytes;
      saved += idle_bytes(candidate.nodes[i]);
      for (ValueId in : node.inputs) {
        if (in == none) continue;
        const NodeId producer = maker_of(in);
        if (producer != none && (dropped_[producer] || contains(candidate.nodes, producer))) continue;
        const Buffer* b = buffer(in);
        if (b && is_alive(*b)) continue;
        if (producer != none && may_drop(producer)) {
          candidate.nodes.push_back(producer);
        } else if (b && !contains(extended, liveness_.buffer_of[in])) {
          extended.push_back(liveness_.buffer_of[in]);
          saved -= static_cast<int64_t>(b->bytes);
        }
      }
    }
    if (saved <= 0) return std::nullopt;
    candidate.cost_per_byte = cost / static_cast<double>(saved);
    return candidate;
  }

  // The node behind any views.
  NodeId maker_of(ValueId v) const {
    NodeId producer = original_.value(v).producer;
    while (producer != none && original_.node(producer).kind == OpKind::reshape)
      producer = original_.value(original_.node(producer).inputs[0]).producer;
    return producer;
  }

  template <typename T>
  static bool contains(const std::vector<T>& list, T value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  }

  const Graph& original_;
  const NodeSet& dropped_;
  const Trial& now_;
  const Liveness liveness_;                             // of now_.graph; values of the original have the same ids there
  std::vector<int32_t> last_forward_, first_backward_;  // readers, by buffer
};

class Recomputer {
 public:
  Recomputer(const Graph& graph, const std::vector<ValueId>& kept, uint64_t budget)
      : original_(graph), kept_(kept), budget_(budget), dropped_(graph.nodes.size(), 0) {}

  // The graph within the budget.
  Graph run(RecomputeReport* report) {
    Trial now = attempt(dropped_);
    while (!fits(now)) {
      if (!improve(&now))
        fail(MPT_ERROR_OUT_OF_MEMORY,
             "activation_budget: found %" PRIu64 " bytes, expected at least %" PRIu64 " (without recomputation %" PRIu64
             ")",
             budget_, planned_bytes(now.graph), planned_bytes(original_));
    }
    restore_the_needless(&now);
    describe(now, report);
    return std::move(now.graph);
  }

 private:
  Trial attempt(const NodeSet& dropped) const {
    Trial trial;
    trial.graph = CopyWriter(original_, dropped).write(kept_);
    const std::vector<uint64_t> live = live_bytes(trial.graph, find_lifetimes(trial.graph, kept_), {});
    const auto peak = std::max_element(live.begin(), live.end());
    trial.peak = *peak;
    trial.peak_position = static_cast<int32_t>(peak - live.begin());
    return trial;
  }

  uint64_t planned_bytes(const Graph& graph) const { return plan_memory(graph, {}, kept_).activation_bytes; }
  bool fits(const Trial& trial) const { return trial.peak <= budget_ && planned_bytes(trial.graph) <= budget_; }

  bool improve(Trial* now) {
    for (const Candidate& candidate : CandidateFinder(original_, dropped_, *now, kept_).find()) {
      NodeSet more = dropped_;
      for (NodeId n : candidate.nodes) more[n] = 1;
      Trial trial = attempt(more);
      if (trial.peak > now->peak) continue;
      dropped_ = std::move(more);
      *now = std::move(trial);
      return true;
    }
    return false;
  }

  // Later choices can make earlier ones needless: the dearest are tried first.
  void restore_the_needless(Trial* now) {
    std::vector<NodeId> nodes;
    for (NodeId n = 1; n < static_cast<NodeId>(dropped_.size()); ++n) {
      if (dropped_[n]) nodes.push_back(n);
    }
    const auto flops = [&](NodeId n) {
      return op_def(original_.node(n).kind).cost(original_, original_.node(n)).flops;
    };
    std::stable_sort(nodes.begin(), nodes.end(), [&](NodeId a, NodeId b) { return flops(a) > flops(b); });
    for (NodeId n : nodes) {
      dropped_[n] = 0;
      Trial trial = attempt(dropped_);
      if (fits(trial))
        *now = std::move(trial);
      else
        dropped_[n] = 1;
    }
  }

  void describe(const Trial& now, RecomputeReport* report) const {
    report->activation_bytes = planned_bytes(now.graph);
    CopyWriter(original_, dropped_).write(kept_, &report->values);
    for (const Node& node : now.graph.nodes) {
      if (node.recomputed) report->extra_flops += op_def(node.kind).cost(now.graph, node).flops;
    }
  }

  const Graph& original_;
  const std::vector<ValueId>& kept_;
  const uint64_t budget_;
  NodeSet dropped_;
};

}  // namespace

RecomputeReport recompute(Graph& graph, const std::vector<ValueId>& kept, uint64_t activation_budget) {
  RecomputeReport report;
  report.activation_bytes = plan_memory(graph, {}, kept).activation_bytes;
  if (activation_budget == 0 || report.activation_bytes <= activation_budget) return report;
  Graph original = graph;
  sink_views(original);  // what is made again is made where it is read
  graph = Recomputer(original, kept, activation_budget).run(&report);
  return report;
}

}  // namespace mpt
