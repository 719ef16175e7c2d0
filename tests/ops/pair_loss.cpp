// TEST_CASEs: squared error, absolute error and binary cross-entropy on logits.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build pair_loss(PairLoss loss, bool mean) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(OpKind::pair_loss, "loss", PairLossAttrs{loss, mean}, in)};
  };
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{33, 5}, Shape{2, 3, 257}, Shape{65, 1031}}) {
    for (const bool mean : {true, false}) {
      const std::string name = std::string(mean ? " mean " : " sum ") + text(shape);
      cases.push_back(
          {"mse" + name, {{shape}, {.shape = shape, .differentiate = false}}, pair_loss(PairLoss::mse, mean)});
      cases.push_back({"mse of both" + name, {{shape}, {shape}}, pair_loss(PairLoss::mse, mean)});
      // Kept apart: the derivative jumps where the two are equal.
      cases.push_back({"l1" + name,
                       {{.shape = shape, .low = -2, .high = 2, .avoid = {0.5}},
                        {.shape = shape, .low = 0.5, .high = 0.5, .differentiate = false}},
                       pair_loss(PairLoss::l1, mean)});
      cases.push_back({"l1 of both" + name, {{shape, -2, 0}, {shape, 0.1, 2}}, pair_loss(PairLoss::l1, mean)});
      cases.push_back({"bce" + name,
                       {{shape, -6, 6}, {.shape = shape, .low = 0, .high = 1, .differentiate = false}},
                       pair_loss(PairLoss::bce, mean)});
      cases.push_back({"bce of both" + name, {{shape, -6, 6}, {shape, 0, 1}}, pair_loss(PairLoss::bce, mean)});
      cases.push_back({"mse of the target" + name,
                       {{.shape = shape, .differentiate = false}, {shape}},
                       pair_loss(PairLoss::mse, mean)});
    }
  }
  cases.push_back({"l1 of equal values",
                   {{.shape = {3}, .values = {1, -2, 0}}, {.shape = {3}, .values = {1, -2, 0}}},
                   pair_loss(PairLoss::l1, true),
                   true,
                   false});
  cases.push_back({"bce of large logits",
                   {{{33}, -500, 500}, {.shape = {33}, .low = 0, .high = 1, .differentiate = false}},
                   pair_loss(PairLoss::bce, true)});
  cases.push_back({"mse with an FP32 target 31x3",
                   {{{31, 3}}, {.shape = {31, 3}, .narrow = false, .differentiate = false}},
                   pair_loss(PairLoss::mse, true)});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "pair_loss", table_cases());

TEST_CASE("pair_loss: targets of another shape are refused with both shapes") {
  const std::string message = shape_error_of({{{31, 7}}, {{31}}}, pair_loss(PairLoss::mse, true));
  for (const char* part : {"loss", "[31, 7]", "[31]"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
