// Tables of cases, one table per op, and everything that is checked of each case with no further code:
//
// - every node of the op's graph and of its gradient's, on the CPU in FP32, FP16, BF16 and in mixtures of FP32 and 16
// bits, against the reference in double on the same inputs, within derived tolerances (tolerance.h); - gradients
// against finite differences, in double; - guard words around every buffer, inputs unchanged, nothing read that
// wasn't written; - the same bits from run to run, for 1, 2 and 3 threads, and in place wherever the op allows it.
//
// A case is a test case of its own: `test_ops --test-case="softmax 3x33 axis 0"`.
//
// MPT_TEST_DEVICE=emu (the CUDA backend over the emulation of its libraries) or cuda in the environment runs the
// tables there instead of on the CPU: everything but threads and finite differences, which are the CPU's and the
// reference's.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "passes/autodiff.h"

namespace mpt::test {

// An input tensor: uniformly random contents, rounded to its storage type, or given ones.
struct Input {
  Shape shape;
  double low = -2, high = 2;        // integers: both inclusive
  DType dtype = DType::f32;         // i32 and u8: integers
  bool narrow = true;               // may be stored in 16 bits; false: FP32 always, as a norm's weight
  bool differentiate = true;        // floats only
  std::vector<double> avoid = {};   // keeps a hundredth away from these: kinks, which finite differences don't like
  std::vector<double> values = {};  // given contents
};

using Build = std::function<std::vector<ValueId>(Graph&, const std::vector<ValueId>&)>;

struct OpCase {
  std::string name;
  std::vector<Input> inputs;
  Build build;                     // adds the op and returns its outputs
  bool backward = true;            // the outputs are differentiable
  bool finite_differences = true;  // false where the case sits on a kink on purpose
};

// Registers a case for each entry, named "op name".
class OpTable {
 public:
  OpTable(const char* file, int line, const char* op, std::vector<OpCase> cases);
};

// Every registered case.
const std::vector<OpCase>& all_cases();

// The case's graph: inputs, op, and where it is differentiable a loss = the sum of all outputs times random weights,
// with its backward pass.
struct CaseGraph {
  Graph graph;
  std::vector<Input> inputs;  // the case's, then the weights
  std::vector<ValueId> input_values;
  std::vector<ValueId> outputs;
  ValueId loss = none;
  Differentiated gradients;
};
CaseGraph build_graph(const OpCase& op_case);

// Adds input values to a graph.
std::vector<ValueId> add_inputs(Graph& graph, const std::vector<Input>& inputs);

// The message with which `build` refuses these shapes; fails the test if it doesn't throw INVALID_ARGUMENT or changes
// the graph.
std::string shape_error_of(const std::vector<Input>& inputs, const Build& build);

// One-step builders.
Build unary(Ewise op, float p = 0, float q = 0);
Build binary(Ewise op);
std::string text(const Shape& shape);  // "3x33"; no commas, which test filters would split at

}  // namespace mpt::test
