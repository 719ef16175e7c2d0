// Transposes of the last two axes that only matmuls read become flags of these.
#include <algorithm>
#include <utility>

#include "passes/fusion_steps.h"
#include "passes/rewrite.h"

namespace mpt {
namespace {

bool swaps_last_two(const std::vector<int>& axes) {
  const int rank = static_cast<int>(axes.size());
  if (rank < 2 || axes[rank - 1] != rank - 2 || axes[rank - 2] != rank - 1) return false;
  for (int i = 0; i < rank - 2; ++i) {
    if (axes[i] != i) return false;
  }
  return true;
}

// Is it an operand, not an input of the epilogue?
bool reads_as_operand(const Node& node, ValueId v) {
  return node.kind == OpKind::matmul && std::find(node.inputs.begin() + 2, node.inputs.end(), v) == node.inputs.end();
}

}  // namespace

void absorb_transposes(Graph& graph, const std::vector<ValueId>& kept) {
  const std::vector<char> flags = flags_of(graph, kept);
  const std::vector<std::vector<NodeId>> readers = readers_of(graph);
  std::vector<char> dead(graph.nodes.size(), 0);
  // Backwards, so that of two transposes in a row both are taken.
  for (NodeId n = static_cast<NodeId>(graph.nodes.size()) - 1; n > 0; --n) {
    const Node& node = graph.node(n);
    if (node.kind != OpKind::transpose || !swaps_last_two(std::get<TransposeAttrs>(node.attrs).axes)) continue;
    const ValueId x = node.inputs[0], y = node.outputs[0];
    if (leaves_the_step(graph, flags, y) || graph.value(x).dtype != graph.value(y).dtype) continue;
    const auto absorbs = [&](NodeId r) { return reads_as_operand(graph.node(r), y); };
    if (!std::all_of(readers[y].begin(), readers[y].end(), absorbs)) continue;
    for (NodeId r : readers[y]) {
      Node& matmul = graph.node(r);
      auto& attrs = std::get<MatmulAttrs>(matmul.attrs);
      for (int i = 0; i < 2; ++i) {
        if (matmul.inputs[i] != y) continue;
        matmul.inputs[i] = x;
        bool& transposed = i == 0 ? attrs.transpose_a : attrs.transpose_b;
        transposed = !transposed;
      }
    }
    dead[n] = 1;
  }
  remove_nodes(graph, dead);
}

}  // namespace mpt
