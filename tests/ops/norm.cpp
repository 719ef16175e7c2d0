// TEST_CASEs: layer norm and RMS norm, with and without weight, bias and a fused residual.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

// Inputs: x, then those of weight, bias and residual that are asked for.
Build norm(bool rms, bool weight, bool bias, bool residual = false, double epsilon = 1e-5) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    std::size_t next = 1;
    std::vector<ValueId> inputs = {in[0], weight ? in[next++] : none};
    inputs.push_back(bias ? in[next++] : none);
    inputs.push_back(residual ? in[next++] : none);
    const NodeId id = graph.add(OpKind::norm, "normed", NormAttrs{rms, epsilon}, inputs);
    return std::vector<ValueId>{graph.node(id).outputs[0]};
  };
}

Input parameter(int64_t size) { return {.shape = {size}, .low = -1.5, .high = 1.5, .narrow = false}; }

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  const Shape shapes[] = {{7},      {1, 2},     {31, 33},      {33, 31},  {1, 257},
                          {5, 128}, {2, 3, 17}, {3, 2, 2, 64}, {3, 1031}, {257, 96}};
  for (const Shape& shape : shapes) {
    const int64_t width = shape[-1];
    for (const bool rms : {false, true}) {
      const std::string name = std::string(rms ? "rms " : "layer ") + text(shape);
      cases.push_back({name, {{shape}}, norm(rms, false, false)});
      cases.push_back({name + " weight", {{shape}, parameter(width)}, norm(rms, true, false)});
      if (!rms)
        cases.push_back({name + " weight bias", {{shape}, parameter(width), parameter(width)}, norm(rms, true, true)});
    }
  }
  for (const Shape& shape : {Shape{1, 3}, Shape{31, 33}, Shape{2, 5, 128}, Shape{3, 1031}}) {
    const int64_t width = shape[-1];
    cases.push_back({"layer residual " + text(shape),
                     {{shape}, parameter(width), parameter(width), {shape}},
                     norm(false, true, true, true),
                     false});
    cases.push_back(
        {"rms residual " + text(shape), {{shape}, parameter(width), {shape}}, norm(true, true, false, true), false});
    cases.push_back({"layer residual bare " + text(shape), {{shape}, {shape}}, norm(false, false, false, true), false});
  }
  // Rows that a GPU's block holds as a whole, and rows longer than that.
  for (const Shape& shape : {Shape{3, 5000}, Shape{2, 8200}}) {
    const int64_t width = shape[-1];
    cases.push_back(
        {"layer long " + text(shape), {{shape}, parameter(width), parameter(width)}, norm(false, true, true)});
    cases.push_back({"rms long " + text(shape), {{shape}, parameter(width)}, norm(true, true, false)});
  }
  // A mean far from zero: E[x^2] - E[x]^2 would lose the variance.
  cases.push_back({"layer far from zero 5x257", {{{5, 257}, 1000, 1002}}, norm(false, false, false)});
  cases.push_back({"layer of equal values 2x64", {{.shape = {2, 64}, .low = 3, .high = 3}}, norm(false, false, false)});
  cases.push_back(
      {"layer of zeros 2x33", {{.shape = {2, 33}, .low = 0, .high = 0}}, norm(false, false, false), true, false});
  cases.push_back(
      {"rms of zeros 2x33", {{.shape = {2, 33}, .low = 0, .high = 0}}, norm(true, false, false), true, false});
  cases.push_back({"layer large epsilon 3x31", {{{3, 31}}}, norm(false, false, false, false, 0.1)});
  cases.push_back({"layer of a constant x 9x31",
                   {{.shape = {9, 31}, .differentiate = false}, parameter(31), parameter(31)},
                   norm(false, true, true)});
  cases.push_back({"layer bias alone wanted 9x31",
                   {{.shape = {9, 31}, .differentiate = false},
                    {.shape = {31}, .narrow = false, .differentiate = false},
                    parameter(31)},
                   norm(false, true, true)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "norm", table_cases());

// The gradient with a sum fused into it: dx = norm's gradient + add.
std::vector<OpCase> added() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{2, 3}, Shape{31, 33}, Shape{5, 128}}) {
    const Shape rows{shape[0]};
    for (const bool rms : {false, true}) {
      cases.push_back({std::string(rms ? "rms " : "layer ") + text(shape),
                       {{shape},
                        parameter(shape[1]),
                        {.shape = rows, .narrow = false},
                        {.shape = rows, .low = 0.3, .high = 2, .narrow = false},
                        {shape},
                        {shape}},
                       [rms](Graph& graph, const std::vector<ValueId>& in) {
                         const NodeId id = graph.add(OpKind::norm_grad, "back", NormAttrs{rms, 1e-5, rms ? 3u : 7u},
                                                     {in[0], in[1], rms ? none : in[2], in[3], in[4], in[5]});
                         return std::vector<ValueId>{graph.node(id).outputs[0]};
                       },
                       false});
    }
  }
  return cases;
}
const OpTable added_table(__FILE__, __LINE__, "norm gradient and sum", added());

TEST_CASE("norm: weights of another size are refused with both shapes") {
  const std::string message = shape_error_of({{{3, 5}}, parameter(4)}, norm(false, true, false));
  for (const char* part : {"normed", "[3, 5]", "[4]"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
