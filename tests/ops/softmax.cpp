// TEST_CASEs: softmax and log-softmax along every axis.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build softmax(int axis, bool log) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(OpKind::softmax, "soft", SoftmaxAttrs{axis, log}, {in[0]})};
  };
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  const Shape shapes[] = {{1},       {2},           {257},     {33, 1},   {1, 33},  {31, 67},
                          {5, 3, 7}, {2, 3, 5, 17}, {3, 1031}, {1031, 3}, {65, 512}};
  for (const Shape& shape : shapes) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      for (const bool log : {false, true}) {
        cases.push_back({std::string(log ? "log " : "") + text(shape) + " axis " + std::to_string(axis),
                         {{shape, -4, 4}},
                         softmax(axis, log)});
      }
    }
  }
  // Longer than a GPU's block holds.
  for (const bool log : {false, true})
    cases.push_back({std::string(log ? "log " : "") + "long 2x16400", {{{2, 16400}, -4, 4}}, softmax(-1, log)});
  // Without subtracting the maximum these overflow; with it the smallest underflow.
  cases.push_back({"of large values 7x33", {{{7, 33}, -200, 200}}, softmax(-1, false)});
  cases.push_back({"log of large values 7x33", {{{7, 33}, -200, 200}}, softmax(-1, true), true, false});
  cases.push_back({"of values far from zero 7x33", {{{7, 33}, 1000, 1004}}, softmax(-1, false)});
  cases.push_back({"log of values far from zero 7x33", {{{7, 33}, 1000, 1004}}, softmax(-1, true)});
  cases.push_back({"of values far below zero 7x33", {{{7, 33}, -1004, -1000}}, softmax(-1, false)});
  cases.push_back({"log of values far below zero 7x33", {{{7, 33}, -1004, -1000}}, softmax(0, true)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "softmax", table_cases());

TEST_CASE("softmax: an axis that isn't there is refused by name") {
  const std::string message = shape_error_of({{{3, 5}}}, softmax(2, false));
  CHECK(message.find("softmax") != std::string::npos);
  CHECK(message.find("2") != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
