// TEST_CASEs: cross-entropy over class indices.
#include <doctest/doctest.h>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build cross_entropy(const CrossEntropyAttrs& attrs) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    const NodeId id = graph.add(OpKind::cross_entropy, "loss", attrs, in);
    return std::vector<ValueId>{graph.node(id).outputs[0]};
  };
}

// Random labels, every third of them ignored where that is asked for.
Input labels(const Shape& logits, int32_t ignored, bool some_ignored) {
  Shape shape = logits;
  shape.erase(shape.rank() - 1);
  Input input{.shape = shape, .low = 0, .high = static_cast<double>(logits[-1] - 1), .dtype = DType::i32};
  for (int64_t i = 0; some_ignored && i < shape.elements(); ++i) {
    input.values.push_back(i % 3 == 1 ? ignored : static_cast<double>(i * 7 % logits[-1]));
  }
  return input;
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{1}, Shape{1, 1}, Shape{1, 2}, Shape{31, 33}, Shape{33, 257}, Shape{2, 5, 7},
                             Shape{257, 3}, Shape{3, 1031}, Shape{130, 256}}) {
    for (const bool mean : {true, false}) {
      for (const double smoothing : {0.0, 0.1}) {
        const std::string name =
            std::string(mean ? "mean " : "sum ") + text(shape) + (smoothing > 0 ? " smoothed" : "");
        cases.push_back({name, {{shape, -4, 4}, labels(shape, -100, false)}, cross_entropy({mean, smoothing, -100})});
        if (shape.elements() / shape[-1] > 2) {
          cases.push_back({name + " some ignored",
                           {{shape, -4, 4}, labels(shape, -100, true)},
                           cross_entropy({mean, smoothing, -100})});
        }
      }
    }
  }
  // Rows longer than a GPU's block holds, and as many classes as a tokenizer has.
  for (const Shape& shape : {Shape{3, 5003}, Shape{2, 50304}})
    cases.push_back(
        {"mean long " + text(shape), {{shape, -4, 4}, labels(shape, -100, false)}, cross_entropy({true, 0.1, -100})});
  const Input all_ignored{.shape = {5}, .dtype = DType::i32, .values = std::vector<double>(5, -100.0)};
  cases.push_back({"mean all ignored", {{{5, 7}}, all_ignored}, cross_entropy({true, 0, -100})});
  cases.push_back({"sum all ignored", {{{5, 7}}, all_ignored}, cross_entropy({false, 0.1, -100})});
  // The ignored label may be a class of its own.
  cases.push_back({"mean class 0 ignored", {{{31, 7}}, labels({31, 7}, 0, true)}, cross_entropy({true, 0, 0})});
  cases.push_back(
      {"mean of large logits", {{{31, 33}, -300, 300}, labels({31, 33}, -100, false)}, cross_entropy({true, 0, -100})});
  cases.push_back({"mean of logits far below zero",
                   {{{31, 33}, -2000, -1990}, labels({31, 33}, -100, false)},
                   cross_entropy({true, 0, -100})});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "cross_entropy", table_cases());

TEST_CASE("cross_entropy: labels of another shape or dtype are refused with both shapes") {
  std::string message = shape_error_of({{{31, 7}}, {.shape = {30}, .dtype = DType::i32}}, cross_entropy({}));
  for (const char* part : {"loss", "[31, 7]", "[30]"}) CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{31, 7}}, {{31}}}, cross_entropy({}));
  for (const char* part : {"loss", "int32"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
