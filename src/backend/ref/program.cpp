#include "backend/ref/program.h"

#include <cmath>
#include <numbers>

#include "kernels/numerics/philox.h"

namespace mpt::ref {

namespace {

using std::numbers::pi;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The normal distribution's function and density.
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double normal_pdf(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * pi); }

double gelu_tanh_argument(double x) { return std::sqrt(2 / pi) * (x + 0.044715 * x * x * x); }

double gelu_tanh_derivative(double x) {
  const double t = std::tanh(gelu_tanh_argument(x));
  const double inner = std::sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner;
}

// NaN passes through every comparison here, so that an overflow is never hidden.
double evaluate(const ElementwiseStep& step, double a, double b, int64_t element, const StepVars& vars) {
  const double p = step.p, q = step.q;
  switch (step.op) {
    case Ewise::copy:
      return a;
    case Ewise::scale:
      return p * a + q;
    case Ewise::relu:
      return a <= 0 ? 0 : a;
    case Ewise::leaky_relu:
      return a <= 0 ? p * a : a;
    case Ewise::gelu:
      return a * normal_cdf(a);
    case Ewise::gelu_tanh:
      return 0.5 * a * (1 + std::tanh(gelu_tanh_argument(a)));
    case Ewise::silu:
      return a * sigmoid(a);
    case Ewise::sigmoid:
      return sigmoid(a);
    case Ewise::tanh:
      return std::tanh(a);
    case Ewise::exp:
      return std::exp(a);
    case Ewise::log:
      return std::log(a);
    case Ewise::sqrt:
      return std::sqrt(a);
    case Ewise::square:
      return a * a;
    case Ewise::clamp:
      return a < p ? p : a > q ? q : a;
    case Ewise::dropout:
      return uniform_of_element(vars, step.stream_id, static_cast<uint64_t>(element)) < step.p ? 0 : a / (1 - p);
    case Ewise::add:
      return a + b;
    case Ewise::sub:
      return a - b;
    case Ewise::mul:
      return a * b;
    case Ewise::div:
      return a / b;
    case Ewise::relu_grad:
      return b > 0 ? a : 0;
    case Ewise::leaky_relu_grad:
      return b > 0 ? a : p * a;
    case Ewise::gelu_grad:
      return a * (normal_cdf(b) + b * normal_pdf(b));
    case Ewise::gelu_tanh_grad:
      return a * gelu_tanh_derivative(b);
    case Ewise::silu_grad:
      return a * sigmoid(b) * (1 + b * (1 - sigmoid(b)));
    case Ewise::sigmoid_grad:
      return a * b * (1 - b);
    case Ewise::tanh_grad:
      return a * (1 - b * b);
    case Ewise::log_grad:
      return a / b;
    case Ewise::sqrt_grad:
      return a / (2 * b);
    case Ewise::square_grad:
      return 2 * a * b;
    case Ewise::clamp_grad:
      return b >= p && b <= q ? a : 0;
    case Ewise::count_:
      break;
  }
  fail(MPT_ERROR_INTERNAL, "ref: unknown element-wise function %d", static_cast<int>(step.op));
}

}  // namespace

void run_program(const Program& program, double* registers, int64_t element, const StepVars& vars) {
  double* result = registers + program.inputs;
  for (const ElementwiseStep& step : program.steps) {
    const double b = has_two_operands(step.op) ? registers[step.b] : 0;
    *result++ = evaluate(step, registers[step.a], b, element, vars);
  }
}

}  // namespace mpt::ref
