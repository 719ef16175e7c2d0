#include "passes/fusion.h"

#include <functional>

#include "passes/fusion_steps.h"
#include "passes/liveness.h"
#include "passes/simplify.h"

namespace mpt {
namespace {

// A step is undone, or done with more caution, where it would raise the peak of memory.
void within_memory(Graph& graph, const std::vector<ValueId>& kept, const std::function<void(Graph&, Caution)>& step) {
  const uint64_t before = peak_live_bytes(graph, find_lifetimes(graph, kept), {});
  for (Caution caution : {Caution::fast, Caution::strict}) {
    Graph fused = graph;
    step(fused, caution);
    if (peak_live_bytes(fused, find_lifetimes(fused, kept), {}) > before) continue;
    graph = std::move(fused);
    return;
  }
}

}  // namespace

void fuse(Graph& graph, const std::vector<ValueId>& kept, const FusionOptions& options) {
  simplify(graph, kept);
  const auto step = [&](bool wanted, const std::function<void(Graph&, Caution)>& run) {
    if (wanted) within_memory(graph, kept, run);
  };
  step(options.transposes, [&](Graph& g, Caution) { absorb_transposes(g, kept); });
  step(options.packed_attention, [&](Graph& g, Caution) { pack_attention(g, kept); });
  step(options.norm_grad_add, [&](Graph& g, Caution) { absorb_gradient_sums(g, kept); });
  step(options.elementwise || options.epilogues,
       [&](Graph& g, Caution caution) { fuse_chains(g, kept, options.elementwise, options.epilogues, caution); });
  step(options.residual_norm, [&](Graph& g, Caution caution) { absorb_residuals(g, kept, caution); });
  simplify(graph, kept);
}

}  // namespace mpt
