// TEST_CASEs: activations, arithmetic with broadcasting, chains.
#include <doctest/doctest.h>

#include <cmath>

#include "ops/op.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

const std::vector<Shape> shapes = {{}, {1}, {2}, {31}, {33, 1}, {3, 5, 7}, {257}, {2, 1031}};

// A function on every shape, its inputs in [low, high].
void add_function(std::vector<OpCase>& cases, const std::string& name, const Build& build, int operands, double low,
                  double high, std::vector<double> avoid = {}) {
  for (const Shape& shape : shapes) {
    cases.push_back({name + " " + text(shape),
                     std::vector<Input>(operands, Input{.shape = shape, .low = low, .high = high, .avoid = avoid}),
                     build});
  }
}

std::vector<OpCase> functions() {
  std::vector<OpCase> cases;
  add_function(cases, "copy", unary(Ewise::copy), 1, -4, 4);
  add_function(cases, "scale", unary(Ewise::scale, 0.7f, -1.3f), 1, -4, 4);
  add_function(cases, "relu", unary(Ewise::relu), 1, -4, 4, {0});
  add_function(cases, "leaky_relu", unary(Ewise::leaky_relu, 0.1f), 1, -4, 4, {0});
  add_function(cases, "gelu", unary(Ewise::gelu), 1, -6, 6);
  add_function(cases, "gelu_tanh", unary(Ewise::gelu_tanh), 1, -5, 5);
  add_function(cases, "silu", unary(Ewise::silu), 1, -10, 10);
  add_function(cases, "sigmoid", unary(Ewise::sigmoid), 1, -10, 10);
  add_function(cases, "tanh", unary(Ewise::tanh), 1, -5, 5);
  add_function(cases, "exp", unary(Ewise::exp), 1, -8, 8);
  add_function(cases, "log", unary(Ewise::log), 1, 0.125, 50);
  add_function(cases, "sqrt", unary(Ewise::sqrt), 1, 0.125, 50);
  add_function(cases, "square", unary(Ewise::square), 1, -9, 9);
  add_function(cases, "clamp", unary(Ewise::clamp, -1.5f, 2.0f), 1, -4, 4, {-1.5, 2});
  add_function(cases, "add", binary(Ewise::add), 2, -4, 4);
  add_function(cases, "sub", binary(Ewise::sub), 2, -4, 4);
  add_function(cases, "mul", binary(Ewise::mul), 2, -4, 4);
  add_function(cases, "div", binary(Ewise::div), 2, 0.25, 4);
  return cases;
}
const OpTable function_table(__FILE__, __LINE__, "elementwise", functions());

// NumPy's broadcasting: trailing axes, sizes of 1 anywhere, both sides at once, ranks that differ.
std::vector<OpCase> broadcasts() {
  const std::pair<Shape, Shape> pairs[] = {{{33, 31}, {31}},
                                           {{33, 31}, {33, 1}},
                                           {{33, 31}, {1, 31}},
                                           {{33, 31}, {1}},
                                           {{33, 31}, {}},
                                           {{}, {257}},
                                           {{5, 1}, {1, 7}},
                                           {{2, 1, 3, 1}, {4, 1, 5}},
                                           {{2, 3, 5, 7}, {3, 1, 7}},
                                           {{2, 3, 5, 7}, {3, 1, 1}},
                                           {{1, 1}, {2, 3}},
                                           {{3, 1, 257}, {3, 5, 1}},
                                           {{2, 1, 2, 1, 2, 1, 2, 1}, {1, 2, 1, 2, 1, 2, 1, 2}}};
  std::vector<OpCase> cases;
  for (const auto& [a, b] : pairs) {
    cases.push_back({"add " + text(a) + " and " + text(b), {{a}, {b}}, binary(Ewise::add)});
    cases.push_back({"mul " + text(a) + " and " + text(b), {{a}, {b}}, binary(Ewise::mul)});
    cases.push_back({"div " + text(a) + " and " + text(b), {{a, -2, 2}, {b, 0.5, 2}}, binary(Ewise::div)});
    cases.push_back({"sub " + text(b) + " and " + text(a), {{b}, {a}}, binary(Ewise::sub)});
  }
  cases.push_back({"add of an FP32 parameter", {{{33, 31}}, {.shape = {31}, .narrow = false}}, binary(Ewise::add)});
  cases.push_back({"large add of a row", {{{127, 1031}}, {{1031}}}, binary(Ewise::add)});
  return cases;
}
const OpTable broadcast_table(__FILE__, __LINE__, "broadcast", broadcasts());

// Kinks and limits, where finite differences have no say.
std::vector<OpCase> limits() {
  const std::vector<double> ends = {-2, -1.5, -1, 0, 1, 2, 2.5, -0.0};
  const auto at = [&](const char* name, Build build) {
    return OpCase{name, {{.shape = {8}, .values = ends}}, std::move(build), true, false};
  };
  const double inf = INFINITY;
  const auto far = [&](const char* name, Ewise op) {
    return OpCase{
        name, {{.shape = {10}, .values = {-1e4, 1e4, -60000, 60000, -100, 100, -20, 20, inf, NAN}}}, unary(op), false};
  };
  return {at("relu at 0", unary(Ewise::relu)),
          at("leaky_relu at 0", unary(Ewise::leaky_relu, 0.25f)),
          at("clamp at its ends", unary(Ewise::clamp, -1.5f, 2.0f)),
          far("far relu", Ewise::relu),
          far("far leaky_relu", Ewise::leaky_relu),
          far("far tanh", Ewise::tanh),
          far("far sigmoid", Ewise::sigmoid),
          far("far silu", Ewise::silu),
          far("far gelu", Ewise::gelu),
          far("far gelu_tanh", Ewise::gelu_tanh),
          far("far exp", Ewise::exp),
          far("far square", Ewise::square),
          far("far clamp", Ewise::clamp)};
}
const OpTable limit_table(__FILE__, __LINE__, "limits of", limits());

// Chains as fusion makes them: several steps, several results, a broadcast within.
std::vector<ValueId> chain(Graph& graph, const std::vector<ValueId>& in) {
  Program program{3,
                  {{Ewise::add, 0, 1},                 // 3: x + bias
                   {Ewise::gelu, 3},                   // 4
                   {Ewise::mul, 4, 2},                 // 5
                   {Ewise::scale, 5, -1, 0.5f, 1.0f},  // 6
                   {Ewise::tanh, 6}},                  // 7
                  {3, 7, 5}};
  const NodeId node = graph.add(OpKind::elementwise, "chain", ElementwiseAttrs{program, {}}, in);
  return graph.node(node).outputs;
}

std::vector<ValueId> sum_of_many(Graph& graph, const std::vector<ValueId>& in) {
  Program program;
  program.inputs = static_cast<int>(in.size());
  int16_t sum = 0;
  for (std::size_t i = 1; i < in.size(); ++i) {
    program.steps.push_back({Ewise::add, sum, static_cast<int16_t>(i)});
    sum = static_cast<int16_t>(in.size() + i - 1);
  }
  program.outputs = {sum};
  return {graph.apply(OpKind::elementwise, "sum", ElementwiseAttrs{program, {}}, in)};
}

std::vector<OpCase> chains() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{1}, Shape{3, 31}, Shape{7, 257}, Shape{33, 1031}}) {
    cases.push_back({"of five steps " + text(shape), {{shape}, {{shape[-1]}}, {shape}}, chain, false});
    cases.push_back({"of five steps with an FP32 bias " + text(shape),
                     {{shape}, {.shape = {shape[-1]}, .narrow = false}, {shape}},
                     chain,
                     false});
  }
  cases.push_back({"of twelve sums 5x67", std::vector<Input>(12, Input{.shape = {5, 67}}), sum_of_many, false});
  return cases;
}
const OpTable chain_table(__FILE__, __LINE__, "chain", chains());

std::vector<ValueId> stopped(Graph& graph, const std::vector<ValueId>& in) {
  ElementwiseAttrs attrs{single_step(Ewise::copy), {}};
  attrs.stop_gradient = true;
  const ValueId constant = graph.apply(OpKind::elementwise, "stop", attrs, {in[0]});
  return {ewise2(graph, Ewise::mul, in[1], constant)};
}

TEST_CASE("elementwise: no gradient flows through stop_gradient") {
  const OpCase op_case{"", {{{3, 5}}, {{3, 5}}}, stopped};
  const CaseGraph built = build_graph(op_case);
  CHECK(built.gradients.gradient_of[static_cast<std::size_t>(built.input_values[0])] == none);
  CHECK(built.gradients.gradient_of[static_cast<std::size_t>(built.input_values[1])] != none);
}

TEST_CASE("elementwise: shapes that don't broadcast are refused with both shapes") {
  const std::string message = shape_error_of({{{3, 5}}, {{4, 5}}}, [](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{
        graph.apply(OpKind::elementwise, "plus", ElementwiseAttrs{single_step(Ewise::add), {}}, in)};
  });
  CHECK(message.find("plus") != std::string::npos);
  CHECK(message.find("[3, 5]") != std::string::npos);
  CHECK(message.find("[4, 5]") != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
