// TEST_CASEs: nothing is missing: every kind of op has implementations on every backend and a table of cases.
#include <doctest/doctest.h>

#include <set>

#include "graph/op_def.h"
#include "ops/op_test.h"
#include "ops/run_node.h"

namespace mpt::test {
namespace {

void store_in(Graph& graph, DType narrow) {
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    if (is_float(graph.values[v].dtype)) graph.values[v].dtype = graph.values[v].narrow ? narrow : DType::f32;
  }
}

TEST_CASE("registry: every kind of op and every element-wise function occurs in the tables") {
  std::set<OpKind> kinds;
  std::set<Ewise> functions;
  for (const OpCase& op_case : all_cases()) {
    for (const Node& node : build_graph(op_case).graph.nodes) {
      if (!node.outputs.empty()) kinds.insert(node.kind);
      if (const auto* attrs = std::get_if<ElementwiseAttrs>(&node.attrs)) {
        for (const ElementwiseStep& step : attrs->program.steps) functions.insert(step.op);
      }
    }
  }
  for (int k = 0; k < static_cast<int>(OpKind::count_); ++k) {
    CHECK_MESSAGE(kinds.count(static_cast<OpKind>(k)), std::string(op_def(static_cast<OpKind>(k)).name)
                                                           << " is in no table");
  }
  for (int e = 0; e < static_cast<int>(Ewise::count_); ++e) {
    CHECK_MESSAGE(functions.count(static_cast<Ewise>(e)), std::string(name_of(static_cast<Ewise>(e)))
                                                              << " is in no table");
  }
}

TEST_CASE("registry: every node of every table has an implementation in all precisions, on every backend") {
  const std::unique_ptr<Backend> null = make_null_backend(make_cpu_backend({}));
  for (const OpCase& op_case : all_cases()) {
    CaseGraph built = build_graph(op_case);
    for (const DType narrow : {DType::f32, DType::f16, DType::bf16}) {
      store_in(built.graph, narrow);
      for (std::size_t n = 1; n < built.graph.nodes.size(); ++n) {
        for (Backend* backend : {&ref_backend(), &tested_backend(2), null.get()}) {
          const std::unique_ptr<Kernel> kernel = backend->prepare(built.graph, built.graph.nodes[n]);
          CHECK(std::string(kernel->implementation()) != "");
        }
      }
    }
  }
}

TEST_CASE("registry: the names of cases differ, so that each can be run alone") {
  std::set<std::string> names;
  for (const OpCase& op_case : all_cases()) {
    CHECK_MESSAGE(names.insert(op_case.name).second, op_case.name << " occurs twice");
    CHECK_MESSAGE(op_case.name.find_first_of(",*") == std::string::npos, op_case.name << " can't be a filter");
  }
}

}  // namespace
}  // namespace mpt::test
