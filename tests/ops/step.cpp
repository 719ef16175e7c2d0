// TEST_CASEs: the seed of the backward pass and the sum of gradients over micro-steps.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"
#include "ops/run_node.h"

namespace mpt::test {
namespace {

// The harness runs each twice: as the first micro-step, and adding to what that wrote.
std::vector<OpCase> accumulates() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{33, 31}, Shape{65, 1031}}) {
    cases.push_back({text(shape),
                     {{shape}},
                     [](Graph& graph, const std::vector<ValueId>& in) {
                       return std::vector<ValueId>{graph.apply(OpKind::accumulate, "total", NoAttrs{}, {in[0]})};
                     },
                     false});
  }
  return cases;
}
const OpTable table(__FILE__, __LINE__, "accumulate", accumulates());

TEST_CASE("loss_seed: weight times loss scale times the micro-step's share, in FP32 also above 65504") {
  Graph graph;
  graph.apply(OpKind::loss_seed, "seed", SeedAttrs{0.5}, {});
  StepVars vars{};
  vars.loss_scale = 16777216;
  vars.loss_weight = 0.25f;
  for (Backend* backend : {&cpu_backend(2), &ref_backend()}) {
    const NodeRun run = run_node(*backend, graph, graph.node(1), {}, vars, 0xff);
    CHECK(run.complaint.empty());
    CHECK(run.outputs[0].dtype == DType::f32);
    CHECK(run.outputs[0].values()[0] == 2097152);
  }
}

}  // namespace
}  // namespace mpt::test
