// Chains of element-wise steps, and matrix products whose epilogue is such a chain.
#include <algorithm>

#include "backend/ref/program.h"
#include "backend/ref/tensor.h"
#include "ops/tolerance_parts.h"

namespace mpt::test {

namespace {

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double normal_pdf(double x) { return std::exp(-x * x / 2) * 0.3989422804014327; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double tanh_gelu_argument(double x) { return 0.7978845608028654 * (x + 0.044715 * x * x * x); }

// Half a unit of the subnormals: what an intermediate result there may be off, in units of u.
const double subnormal = std::ldexp(1.0, -150) / unit;

// The error of one step on exact operands, in units of u. The functions of kernels/numerics/math.h state theirs in
// units in the last place, which are at most 2 u of the result: exp 2 u, log 2 u, tanh 3 u, sigmoid 5 u, Phi 10 u.
double own_error(const ElementwiseStep& step, double a, double b, double y) {
  const double size = std::fabs(y);
  switch (step.op) {
    case Ewise::copy:
    case Ewise::relu:
    case Ewise::clamp:
    case Ewise::relu_grad:
    case Ewise::clamp_grad:
      return 0;
    case Ewise::scale:
      return std::fabs(step.p * a) + size;  // product and sum
    case Ewise::exp:
    case Ewise::log:
      return 2 * size;
    case Ewise::tanh:
      return 3 * size;
    case Ewise::sigmoid:
      return 5 * size;
    case Ewise::gelu:
      return 11 * size + 2 * std::fabs(a) * subnormal;  // Phi and a product
    case Ewise::silu:
      return 6 * size + 2 * std::fabs(a) * subnormal;  // sigmoid and a product
    case Ewise::dropout:
      return 4 * size;  // 1 - p, its inverse, the product
    case Ewise::sigmoid_grad:
      return 3 * size;  // 1 - b and two products
    case Ewise::gelu_tanh: {
      // x sigmoid(2 z): z has 5 roundings (its terms have one sign), which exp(2 z) makes 2 |z| times larger.
      return (7 + 12 * std::fabs(tanh_gelu_argument(a))) * size + 2 * std::fabs(a) * subnormal;
    }
    case Ewise::gelu_grad:  // Phi, density (a square, exp, two products), product, sum; their signs may differ
      return std::fabs(a) * (11 * normal_cdf(b) + (6 + b * b) * std::fabs(b) * normal_pdf(b)) + 2 * size;
    case Ewise::gelu_tanh_grad: {
      // s (1 + 2 b (1 - s) z') with s = sigmoid(2 z): as gelu_tanh for s, and the same for 1 - s; z' has 5 roundings.
      const double z = tanh_gelu_argument(b), s = sigmoid(2 * z), rest = sigmoid(-2 * z);
      const double slope = 0.7978845608028654 * (1 + 3 * 0.044715 * b * b);
      const double relative = 6 + 12 * std::fabs(z);
      return std::fabs(a) * (relative * s + 2 * std::fabs(b) * slope * s * rest * (2 * relative + 8)) + 2 * size;
    }
    case Ewise::silu_grad: {  // s (1 + b (1 - s)): sigmoid twice, two products, a sum
      const double s = sigmoid(b);
      return std::fabs(a) * s * (6 + 12 * std::fabs(b) * (1 - s)) + 2 * size;
    }
    case Ewise::tanh_grad:
      return std::fabs(a) * b * b + 2 * size;  // b b, then 1 - b b, then a product
    default:
      return size;  // one correctly rounded operation; doubling and halving are exact
  }
}

// Runs steps on values and their errors. What an operand's error does to a step is seen by moving the operand by it.
void propagate(const Program& program, double* values, double* errors, int64_t element, const StepVars& vars) {
  ref::run_program(program, values, element, vars);
  for (std::size_t n = 0; n < program.steps.size(); ++n) {
    ElementwiseStep step = program.steps[n];
    const std::size_t result = static_cast<std::size_t>(program.inputs) + n;
    const bool two = has_two_operands(step.op);
    const double a = values[step.a], b = two ? values[step.b] : 0;
    const double ea = errors[step.a], eb = two ? errors[step.b] : 0;
    double moved = 0;
    if (ea > 0 || eb > 0) {
      step.a = 0;
      step.b = 1;
      const Program single{2, {step}, {2}};
      for (const double da : {-ea, ea}) {
        for (const double db : {-eb, eb}) {
          double registers[3] = {a + da, b + db, 0};
          ref::run_program(single, registers, element, vars);
          moved = std::max(moved, std::fabs(registers[2] - values[result]));
        }
      }
    }
    errors[result] = moved + unit * own_error(step, a, b, values[result]);
  }
}

}  // namespace

void bound_elementwise(const Bound& bound) {
  const auto& attrs = std::get<ElementwiseAttrs>(bound.node.attrs);
  const Program& program = attrs.program;
  Values values(static_cast<std::size_t>(ref::register_count(program))), errors(values.size());
  ref::Walk walk(attrs.shape);
  for (int i = 0; i < program.inputs; ++i) walk.add(broadcast_strides(bound.in_shape(i), attrs.shape));
  for (int64_t e = 0; e < attrs.shape.elements(); ++e, walk.next()) {
    for (int i = 0; i < program.inputs; ++i) values[i] = bound.in[i][walk.offset(i)];
    propagate(program, values.data(), errors.data(), e, bound.vars);
    for (std::size_t y = 0; y < program.outputs.size(); ++y) {
      if (bound.has_out(static_cast<int>(y))) bound.error[y][e] = errors[program.outputs[y]];
    }
  }
}

// A sum of K products: K + 1 roundings on the way of each term, and then the epilogue's.
void bound_matmul(const Bound& bound) {
  const auto& attrs = std::get<MatmulAttrs>(bound.node.attrs);
  const Shape &a = bound.in_shape(0), &b = bound.in_shape(1), &c = bound.out_shape(0);
  const int64_t rows = c[-2], columns = c[-1], depth = attrs.transpose_a ? a[-2] : a[-1];
  Shape batch, a_batch, b_batch;
  for (int i = 0; i + 2 < c.rank(); ++i) batch.push_back(c[i]);
  for (int i = 0; i + 2 < a.rank(); ++i) a_batch.push_back(a[i]);
  for (int i = 0; i + 2 < b.rank(); ++i) b_batch.push_back(b[i]);
  ref::Walk matrix(batch), element(c);
  matrix.add(broadcast_strides(a_batch, batch));
  matrix.add(broadcast_strides(b_batch, batch));
  for (std::size_t i = 2; i < bound.node.inputs.size(); ++i)
    element.add(broadcast_strides(bound.in_shape(static_cast<int>(i)), c));

  Program epilogue = attrs.epilogue;
  epilogue.inputs = static_cast<int>(bound.node.inputs.size()) - 1;
  if (epilogue.outputs.empty()) epilogue.outputs = {0};
  Values values(static_cast<std::size_t>(ref::register_count(epilogue))), errors(values.size());
  int64_t e = 0;
  for (int64_t m = 0; m < batch.elements(); ++m, matrix.next()) {
    const double* left = bound.in[0].data() + matrix.offset(0) * rows * depth;
    const double* right = bound.in[1].data() + matrix.offset(1) * depth * columns;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j, ++e, element.next()) {
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < depth; ++k) {
          const double term = left[attrs.transpose_a ? k * rows + i : i * depth + k] *
                              right[attrs.transpose_b ? j * depth + k : k * columns + j];
          sum += term;
          magnitude += std::fabs(term);
        }
        values[0] = sum;
        errors[0] = static_cast<double>(depth + 1) * unit * magnitude;
        for (int x = 1; x < epilogue.inputs; ++x) values[x] = bound.in[x + 1][element.offset(x - 1)];
        propagate(epilogue, values.data(), errors.data(), e, bound.vars);
        for (std::size_t y = 0; y < epilogue.outputs.size(); ++y) {
          if (bound.has_out(static_cast<int>(y))) bound.error[y][e] = errors[epilogue.outputs[y]];
        }
      }
    }
  }
}

}  // namespace mpt::test
