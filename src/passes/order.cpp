#include "passes/order.h"

#include <algorithm>

#include "passes/liveness.h"
#include "passes/memory_plan.h"
#include "passes/rewrite.h"

namespace mpt {
namespace {

// List scheduling of the backward nodes. A ready node that frees more than it allocates goes at once, and so does a
// reshape, which costs nothing; if there is none, the next in the given order does.
class Scheduler {
 public:
  Scheduler(const Graph& graph, const std::vector<ValueId>& kept)
      : graph_(graph), liveness_(find_lifetimes(graph, kept, {.in_place = false})) {
    reads_left_.assign(liveness_.buffers.size(), 0);
    for (ValueId v : kept) {
      if (v != none && buffer(v) >= 0) ++reads_left_[buffer(v)];
    }
    missing_.assign(graph.nodes.size(), 0);
    readers_ = readers_of(graph);
    for (NodeId n = 1; n < size(); ++n) {
      for (int32_t b : buffers_read(n)) ++reads_left_[b];
      for (ValueId in : graph.node(n).inputs) {
        if (in != none && graph.value(in).producer != none) ++missing_[n];
      }
      if (missing_[n] == 0 && graph.node(n).backward) ready_.push_back(n);
    }
  }

  std::vector<NodeId> run() {
    for (NodeId n = 1; n < size(); ++n) {
      if (!graph_.node(n).backward) place(n);
    }
    while (static_cast<NodeId>(order_.size()) + 1 < size()) {
      NodeId best = none;
      int64_t least = 0;
      for (NodeId n : ready_) {  // sorted: the first of equals is the earliest
        if (graph_.node(n).kind == OpKind::reshape) {
          best = n;
          break;
        }
        const int64_t growth = growth_of(n);
        if (growth < least) {
          least = growth;
          best = n;
        }
      }
      MPT_INVARIANT(!ready_.empty());
      place(best == none ? ready_.front() : best);
    }
    return order_;
  }

 private:
  NodeId size() const { return static_cast<NodeId>(graph_.nodes.size()); }
  int32_t buffer(ValueId v) const { return liveness_.buffer_of[v]; }

  std::vector<int32_t> buffers_read(NodeId n) const {
    std::vector<int32_t> read;
    for (ValueId in : graph_.node(n).inputs) {
      if (in != none && buffer(in) >= 0) read.push_back(buffer(in));
    }
    std::sort(read.begin(), read.end());
    read.erase(std::unique(read.begin(), read.end()), read.end());
    return read;
  }

  int64_t growth_of(NodeId n) const {
    const Node& node = graph_.node(n);
    int64_t growth = 0;
    for (int32_t b : buffers_read(n)) {
      if (reads_left_[b] == 1) growth -= static_cast<int64_t>(liveness_.buffers[b].bytes);
    }
    for (ValueId out : node.outputs) {
      if (out != none && buffer(out) >= 0 && reads_left_[buffer(out)] > 0)
        growth += static_cast<int64_t>(liveness_.buffers[buffer(out)].bytes);
    }
    return growth;
  }

  void place(NodeId n) {
    order_.push_back(n);
    const auto at = std::lower_bound(ready_.begin(), ready_.end(), n);
    if (at != ready_.end() && *at == n) ready_.erase(at);
    for (int32_t b : buffers_read(n)) --reads_left_[b];
    for (ValueId out : graph_.node(n).outputs) {
      if (out == none) continue;
      for (NodeId reader : readers_[out]) {
        if (--missing_[reader] == 0 && graph_.node(reader).backward)
          ready_.insert(std::lower_bound(ready_.begin(), ready_.end(), reader), reader);
      }
    }
  }

  const Graph& graph_;
  const Liveness liveness_;
  std::vector<int> reads_left_;               // by buffer: nodes that still read it
  std::vector<int> missing_;                  // by node: inputs that are not yet there
  std::vector<std::vector<NodeId>> readers_;  // by value
  std::vector<NodeId> ready_;                 // backward nodes that can run
  std::vector<NodeId> order_;
};

}  // namespace

void order_nodes(Graph& graph, const std::vector<ValueId>& kept) {
  sink_views(graph);
  const std::vector<NodeId> order = Scheduler(graph, kept).run();
  Graph reordered = graph;
  std::vector<Node> nodes(1);
  nodes.reserve(graph.nodes.size());
  for (NodeId n : order) nodes.push_back(graph.node(n));
  set_nodes(reordered, std::move(nodes));
  sink_views(reordered);
  if (plan_memory(reordered, {}, kept).activation_bytes < plan_memory(graph, {}, kept).activation_bytes)
    graph = std::move(reordered);
}

}  // namespace mpt
