// TEST_CASEs: sum, mean and maximum over every set of axes.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build reduction(Reduction kind, std::vector<int> axes, bool keep) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(OpKind::reduce, "reduction", ReduceAttrs{kind, axes, keep}, {in[0]})};
  };
}

const char* name_of(Reduction kind) {
  return kind == Reduction::sum ? "sum" : kind == Reduction::mean ? "mean" : "max";
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  const Shape shapes[] = {{1},       {257},        {33, 31},  {1, 67},   {67, 1},
                          {5, 7, 3}, {2, 3, 5, 7}, {513, 65}, {3, 1031}, {2, 129, 33}};
  for (const Shape& shape : shapes) {
    for (unsigned set = 1; set < 1u << shape.rank(); ++set) {
      std::vector<int> axes;
      std::string list;
      for (int axis = 0; axis < shape.rank(); ++axis) {
        if (set >> axis & 1) {
          axes.push_back(axis);
          list += std::to_string(axis);
        }
      }
      for (const Reduction kind : {Reduction::sum, Reduction::mean, Reduction::max}) {
        const bool keep = (set + static_cast<unsigned>(kind)) % 2 == 0;
        cases.push_back({std::string(name_of(kind)) + " " + text(shape) + " axes " + list + (keep ? " kept" : ""),
                         {{shape}},
                         reduction(kind, axes, keep)});
      }
    }
  }
  // The maximum's gradient goes to the first of equal elements: finite differences have no say.
  cases.push_back({"max of ties 2x4",
                   {{.shape = {2, 4}, .values = {1, 3, 3, 2, -1, -1, -1, -1}}},
                   reduction(Reduction::max, {1}, false),
                   true,
                   false});
  cases.push_back({"max of ties over both axes 2x4",
                   {{.shape = {2, 4}, .values = {1, 3, 3, 2, 3, -1, -1, 3}}},
                   reduction(Reduction::max, {0, 1}, false),
                   true,
                   false});
  cases.push_back({"max of small integers 33x67",
                   {{.shape = {33, 67},
                     .values =
                         [] {
                           std::vector<double> values;
                           for (int i = 0; i < 33 * 67; ++i) values.push_back(i * 7919 % 13 - 6);
                           return values;
                         }()}},
                   reduction(Reduction::max, {0}, false),
                   true,
                   false});
  for (const int axis : {0, 1}) {
    cases.push_back({"max of negative numbers 33x67 axis " + std::to_string(axis),
                     {{{33, 67}, -2000, -1000}},
                     reduction(Reduction::max, {axis}, false)});
  }
  // A sum that FP16 could not hold along the way.
  cases.push_back({"mean of large values 3x4099", {{{3, 4099}, 1000, 2000}}, reduction(Reduction::mean, {1}, false)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "reduce", table_cases());

}  // namespace
}  // namespace mpt::test
