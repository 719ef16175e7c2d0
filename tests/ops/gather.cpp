// TEST_CASEs: picks along an axis and embeddings; repeated indices add up in the gradient.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build gather(int axis) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(OpKind::gather, "pick", GatherAttrs{axis, {}}, in)};
  };
}

Input indices(const Shape& shape, int64_t count) {
  return {.shape = shape, .low = 0, .high = static_cast<double>(count - 1), .dtype = DType::i32};
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  struct Sizes {
    Shape x, indices;
    int axis;
  };
  const Sizes sizes[] = {{{5, 3}, {7}, 0},          {{31, 33}, {2, 17}, 0},  {{257, 64}, {3, 5, 7}, 0},
                         {{1, 9}, {31}, 0},         {{1000, 5}, {2}, 0},     {{13}, {257}, 0},
                         {{4, 7, 3}, {5}, 1},       {{4, 7, 3}, {2, 5}, 2},  {{2, 33, 31}, {}, 1},
                         {{2, 3, 5, 7}, {1, 4}, 2}, {{3, 65, 17}, {129}, 1}, {{97, 128}, {16, 32}, 0},
                         {{5, 1031}, {67}, 0},      {{7, 300}, {64}, 1},     {{257, 1}, {33}, 0},
                         {{7, 64}, {600}, 0},       {{3, 5, 16}, {700}, 1},  {{70000, 2}, {5000}, 0}};
  for (const Sizes& s : sizes) {
    cases.push_back({text(s.x) + " by " + text(s.indices) + " axis " + std::to_string(s.axis),
                     {{s.x}, indices(s.indices, s.x[s.axis])},
                     gather(s.axis)});
  }
  cases.push_back({"one row many times 5x33",
                   {{{5, 33}}, {.shape = {300}, .dtype = DType::i32, .values = std::vector<double>(300, 2.0)}},
                   gather(0)});
  std::vector<double> two(4500, 3.0);
  for (std::size_t i = 0; i < two.size(); i += 3) two[i] = 64;
  cases.push_back(
      {"two rows many times 65x8", {{{65, 8}}, {.shape = {4500}, .dtype = DType::i32, .values = two}}, gather(0)});
  cases.push_back({"an FP32 table 31x17", {{.shape = {31, 17}, .narrow = false}, indices({3, 9}, 31)}, gather(0)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "gather", table_cases());

TEST_CASE("gather: an axis that isn't there and indices of another dtype are refused") {
  CHECK(shape_error_of({{{5, 3}}, indices({2}, 5)}, gather(2)).find("gather") != std::string::npos);
  const std::string message = shape_error_of({{{5, 3}}, {{2}}}, gather(0));
  for (const char* part : {"pick", "int32"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
