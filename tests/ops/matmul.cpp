// TEST_CASEs: matrix products, batched, broadcast, either side transposed, with epilogues.
#include <doctest/doctest.h>

#include "ops/op.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build product(bool transpose_a, bool transpose_b, Program epilogue = {}) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    const NodeId node = graph.add(OpKind::matmul, "product", MatmulAttrs{transpose_a, transpose_b, epilogue}, in);
    return graph.node(node).outputs;
  };
}

std::string flags(bool transpose_a, bool transpose_b) {
  return std::string(transpose_a ? "T" : "N") + (transpose_b ? "T" : "N");
}

Shape matrix(int64_t rows, int64_t columns, bool transposed) {
  return transposed ? Shape{columns, rows} : Shape{rows, columns};
}

std::vector<OpCase> plain() {
  const int64_t sizes[][3] = {{1, 1, 1},   {1, 1, 257},  {2, 3, 5},    {31, 33, 1},    {1, 257, 31},  {257, 1, 33},
                              {33, 31, 2}, {17, 65, 64}, {64, 48, 96}, {101, 67, 129}, {129, 130, 63}};
  std::vector<OpCase> cases;
  for (const auto& [m, n, k] : sizes) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        cases.push_back(
            {flags(ta, tb) + " " + text({m, n, k}), {{matrix(m, k, ta)}, {matrix(k, n, tb)}}, product(ta, tb)});
      }
    }
  }
  cases.push_back({"NN 257x129x521", {{{257, 521}}, {{521, 129}}}, product(false, false)});
  cases.push_back({"NT 65x131x1031", {{{65, 1031}}, {{131, 1031}}}, product(false, true)});
  cases.push_back({"TN 67x63x2053", {{{2053, 67}}, {{2053, 63}}}, product(true, false)});
  // Terms that cancel: what counts is the sum of their magnitudes.
  cases.push_back({"NN with sums near zero 5x5x300", {{{5, 300}, -8, 8}, {{300, 5}, -8, 8}}, product(false, false)});
  return cases;
}
const OpTable plain_table(__FILE__, __LINE__, "matmul", plain());

std::vector<OpCase> batched() {
  struct Batch {
    Shape a, b;
    bool ta, tb;
  };
  const Batch batches[] = {{{3, 5, 7}, {3, 7, 9}, false, false},
                           {{3, 5, 7}, {7, 9}, false, false},  // one b for all: as a linear layer
                           {{2, 3, 17, 33}, {31, 33}, false, true},
                           {{5, 7}, {4, 7, 3}, false, false},        // one a for all
                           {{2, 1, 5, 7}, {3, 7, 2}, false, false},  // broadcast on both sides
                           {{2, 3, 33, 17}, {2, 3, 33, 19}, true, false},
                           {{2, 3, 17, 33}, {2, 1, 19, 33}, false, true},
                           {{4, 1, 31}, {4, 31, 1}, false, false},
                           {{7, 1, 1, 64}, {1, 5, 64, 3}, false, false},
                           {{2, 2, 9, 5}, {2, 2, 4, 9}, true, true}};
  std::vector<OpCase> cases;
  for (const Batch& b : batches) {
    cases.push_back({flags(b.ta, b.tb) + " " + text(b.a) + " by " + text(b.b), {{b.a}, {b.b}}, product(b.ta, b.tb)});
  }
  return cases;
}
const OpTable batch_table(__FILE__, __LINE__, "batched matmul", batched());

std::vector<ValueId> linear(Graph& graph, const std::vector<ValueId>& in) {
  return {ewise2(graph, Ewise::add, matmul(graph, in[0], in[1], false, true), in[2])};
}

std::vector<OpCase> linears() {
  std::vector<OpCase> cases;
  for (const Shape& x : {Shape{1, 3}, Shape{31, 17}, Shape{2, 33, 20}, Shape{3, 2, 5, 9}}) {
    cases.push_back({"with bias " + text(x) + " to 23", {{x}, {{23, x[-1]}}, {{23}}}, linear});
    cases.push_back(
        {"with an FP32 bias " + text(x) + " to 1", {{x}, {{1, x[-1]}}, {.shape = {1}, .narrow = false}}, linear});
  }
  cases.push_back({"of data 33x40", {{.shape = {33, 40}, .differentiate = false}, {{20, 40}}, {{20}}}, linear});
  return cases;
}
const OpTable linear_table(__FILE__, __LINE__, "linear", linears());

// Epilogues: register 0 is the sum, 1.. the further inputs.
std::vector<OpCase> epilogues() {
  const Program bias{2, {{Ewise::add, 0, 1}}, {2}};
  const Program bias_gelu{2, {{Ewise::add, 0, 1}, {Ewise::gelu, 2}}, {2, 3}};  // stores what the gradient needs, too
  const Program bias_relu{2, {{Ewise::add, 0, 1}, {Ewise::relu, 2}}, {3}};
  const Program residual{3, {{Ewise::add, 0, 1}, {Ewise::add, 3, 2}}, {4}};
  const Program dropped{2, {{Ewise::add, 0, 1}, {Ewise::dropout, 2, -1, 0.25f, 0, 8}}, {3}};
  const Program gradient{2, {{Ewise::gelu_grad, 0, 1}}, {2}};
  const Program bias_gelu_tanh{2, {{Ewise::add, 1, 0}, {Ewise::gelu_tanh, 2}}, {3, 2}};
  const Program gelu_tanh{1, {{Ewise::gelu_tanh, 0}}, {1}};
  const Program gelu_tanh_gradient{2, {{Ewise::gelu_tanh_grad, 0, 1}}, {2}};
  const Program relu_gradient{2, {{Ewise::relu_grad, 0, 1}}, {2}};
  const Program residual_relu{3, {{Ewise::add, 0, 2}, {Ewise::add, 3, 1}, {Ewise::relu, 4}}, {5}};
  const Program scaled{1, {{Ewise::scale, 0, -1, 0.125f, 0}}, {1}};
  std::vector<OpCase> cases;
  const int64_t sizes[][3] = {{1, 1, 1}, {5, 31, 7}, {65, 33, 129}, {130, 257, 40}, {1, 16, 9}, {33, 40, 24}};
  for (const auto& [m, n, k] : sizes) {
    const std::string size = text({m, n, k});
    const Shape a{m, k}, b{n, k}, c{m, n}, row{n};
    cases.push_back({"bias " + size, {{a}, {b}, {row}}, product(false, true, bias), false});
    cases.push_back(
        {"FP32 bias " + size, {{a}, {b}, {.shape = row, .narrow = false}}, product(false, true, bias), false});
    cases.push_back({"bias and gelu " + size, {{a}, {b}, {row}}, product(false, true, bias_gelu), false});
    cases.push_back({"bias and relu " + size, {{a}, {b}, {row}}, product(false, true, bias_relu), false});
    cases.push_back({"bias and residual " + size, {{a}, {b}, {row}, {c}}, product(false, true, residual), false});
    cases.push_back({"bias and dropout " + size, {{a}, {b}, {row}}, product(false, true, dropped), false});
    cases.push_back({"gelu gradient " + size, {{a}, {b}, {c}}, product(false, true, gradient), false});
    // Sums stay where the reference's 1 + tanh has digits left.
    const auto small = [](const Shape& shape) { return Input{shape, -0.3, 0.3}; };
    cases.push_back(
        {"bias and gelu_tanh " + size, {small(a), small(b), small(row)}, product(false, true, bias_gelu_tanh), false});
    cases.push_back({"gelu_tanh " + size, {small(a), small(b)}, product(false, true, gelu_tanh), false});
    cases.push_back(
        {"gelu_tanh gradient " + size, {{a}, {b}, small(c)}, product(false, true, gelu_tanh_gradient), false});
    cases.push_back({"relu gradient " + size, {{a}, {b}, {c}}, product(false, true, relu_gradient), false});
    cases.push_back(
        {"bias and residual and relu " + size, {{a}, {b}, {row}, {c}}, product(false, true, residual_relu), false});
    cases.push_back({"scale " + size, {{a}, {b}}, product(false, true, scaled), false});
    cases.push_back({"TN scale " + size, {{{k, m}}, {{k, n}}}, product(true, false, scaled), false});
  }
  cases.push_back({"batched bias and residual 3x17x33x20",
                   {{{3, 17, 20}}, {{33, 20}}, {{33}}, {{3, 17, 33}}},
                   product(false, true, residual),
                   false});
  cases.push_back({"bias of rows 17x33x20", {{{17, 20}}, {{33, 20}}, {{17, 1}}}, product(false, true, bias), false});
  return cases;
}
const OpTable epilogue_table(__FILE__, __LINE__, "matmul epilogue", epilogues());

TEST_CASE("matmul: inner sizes and leading axes that don't fit are refused with both shapes") {
  std::string message = shape_error_of({{{3, 5}}, {{4, 7}}}, product(false, false));
  for (const char* part : {"product", "[3, 5]", "[4, 7]"}) CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{2, 3, 5}}, {{3, 5, 7}}}, product(false, false));
  for (const char* part : {"product", "[2, 3, 5]", "[3, 5, 7]"}) CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{5}}, {{5, 7}}}, product(false, false));
  for (const char* part : {"product", "[5]"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
