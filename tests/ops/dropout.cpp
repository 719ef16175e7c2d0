// TEST_CASEs: dropout, against the reference and against what randomness must be.
#include <doctest/doctest.h>

#include <cmath>

#include "ops/op.h"
#include "ops/op_test.h"
#include "ops/run_node.h"

namespace mpt::test {
namespace {

Build dropout(float rate, uint32_t stream_id) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(OpKind::elementwise, "drop",
                                            ElementwiseAttrs{single_step(Ewise::dropout, rate, 0, stream_id), {}}, in)};
  };
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{1}, Shape{3}, Shape{31}, Shape{33, 5}, Shape{257, 3}, Shape{63, 1031}}) {
    cases.push_back({"0.1 " + text(shape), {{shape, 0.5, 2}}, dropout(0.1f, 3)});
    cases.push_back({"0.5 " + text(shape), {{shape, 0.5, 2}}, dropout(0.5f, 4)});
  }
  cases.push_back({"0 7x9", {{{7, 9}}}, dropout(0, 5)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "dropout", table_cases());

// Which of n ones are kept.
std::vector<bool> mask(Backend& backend, int64_t n, float rate, uint32_t stream_id, StepVars vars,
                       DType dtype = DType::f32) {
  Graph graph;
  const std::vector<ValueId> in = add_inputs(graph, {{Shape{n}}});
  const ValueId y = dropout(rate, stream_id)(graph, in)[0];
  graph.value(in[0]).dtype = graph.value(y).dtype = dtype;
  const Array ones(Shape{n}, dtype, std::vector<double>(static_cast<std::size_t>(n), 1.0));
  const NodeRun run = run_node(backend, graph, graph.node(1), {ones}, vars, 0xff);
  std::vector<bool> kept;
  for (double value : run.outputs[0].values()) kept.push_back(value != 0);
  return kept;
}

StepVars vars_at(uint64_t seed, uint64_t step, uint32_t micro_step, uint32_t rank = 0) {
  StepVars vars{};
  vars.seed = seed;
  vars.step = step;
  vars.micro_step = micro_step;
  vars.rank = rank;
  return vars;
}

TEST_CASE("dropout: the mask depends on seed, step, micro-step, rank and op, and on nothing else") {
  const int64_t n = 4099;
  const std::vector<bool> base = mask(cpu_backend(2), n, 0.5f, 1, vars_at(11, 0, 0));
  CHECK(base == mask(cpu_backend(2), n, 0.5f, 1, vars_at(11, 0, 0)));
  CHECK(base == mask(cpu_backend(3), n, 0.5f, 1, vars_at(11, 0, 0), DType::f16));
  CHECK(base == mask(cpu_backend(1), n, 0.5f, 1, vars_at(11, 0, 0), DType::bf16));
  CHECK(base == mask(ref_backend(), n, 0.5f, 1, vars_at(11, 0, 0)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 1, vars_at(12, 0, 0)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 1, vars_at(11ull + (1ull << 32), 0, 0)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 1, vars_at(11, 1, 0)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 1, vars_at(11, 0, 1)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 1, vars_at(11, 0, 0, 1)));
  CHECK(base != mask(cpu_backend(2), n, 0.5f, 2, vars_at(11, 0, 0)));
}

TEST_CASE("dropout: the share that is kept is 1 - rate") {
  const int64_t n = 1 << 20;
  for (const float rate : {0.1f, 0.5f, 0.9f}) {
    int64_t kept = 0;
    for (bool k : mask(cpu_backend(2), n, rate, 9, vars_at(5, 3, 0))) kept += k;
    // Binomial: five standard deviations are passed once in two million seeds, and this one is fixed.
    const double expected = (1 - rate) * static_cast<double>(n), deviation = std::sqrt(expected * rate);
    CHECK(std::fabs(static_cast<double>(kept) - expected) < 5 * deviation);
  }
}

TEST_CASE("dropout: the gradient passes exactly where the element was kept") {
  const Shape shape{7, 129};
  const OpCase op_case{"", {{shape, 1, 2}}, dropout(0.3f, 6)};
  CaseGraph built = build_graph(op_case);
  std::vector<uint32_t> streams;
  for (const Node& node : built.graph.nodes) {
    if (const auto* attrs = std::get_if<ElementwiseAttrs>(&node.attrs)) {
      for (const ElementwiseStep& step : attrs->program.steps) {
        if (step.op == Ewise::dropout) streams.push_back(step.stream_id);
      }
    }
  }
  CHECK(streams == std::vector<uint32_t>{6, 6});
}

}  // namespace
}  // namespace mpt::test
