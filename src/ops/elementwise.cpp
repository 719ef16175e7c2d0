// Element-wise arithmetic and activations, alone or as fused chains, with NumPy broadcasting.
#include "ops/op.h"

namespace mpt {
namespace {

std::vector<OutputInfo> infer(const Graph& graph, Node& node) {
  auto& attrs = std::get<ElementwiseAttrs>(node.attrs);
  Shape shape = attrs.broadcast_to_shape ? attrs.shape : graph.shape(node.inputs[0]);
  // A result is FP32 only where everything it is made of is: losses and other scalars.
  bool narrow = false;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    require_float(graph, node, static_cast<int>(i));
    narrow = narrow || graph.value(node.inputs[i]).narrow;
    if (!broadcast_named(shape, graph.shape(node.inputs[i]), &shape))
      shape_error(graph, node, "the shapes don't broadcast: sizes from the last axis on must be equal or 1");
  }
  attrs.shape = shape;
  return std::vector<OutputInfo>(attrs.program.outputs.size(), OutputInfo{shape, DType::f32, narrow});
}

void gradient(GradientContext& context, const Node& node) {
  const auto& attrs = std::get<ElementwiseAttrs>(node.attrs);
  if (attrs.stop_gradient) return;
  MPT_INVARIANT(attrs.program.steps.size() == 1);  // chains are fused after differentiation
  const ElementwiseStep step = attrs.program.steps[0];
  Graph& graph = context.graph();
  const ValueId dy = context.output_gradient(0), x = node.inputs[0], y = node.outputs[0];
  const ValueId b = node.inputs.size() > 1 ? node.inputs[1] : none;

  const auto back = [&](int input, auto make) {
    if (!context.wants(input)) return;
    const Shape target = graph.shape(node.inputs[input]);
    context.add(input, reduce_to(graph, make(), target));
  };
  switch (step.op) {
    case Ewise::copy:
      return back(0, [&] { return dy; });
    case Ewise::scale:
      return back(0, [&] { return ewise(graph, Ewise::scale, dy, step.p, 0); });
    case Ewise::relu:
      return back(0, [&] { return ewise2(graph, Ewise::relu_grad, dy, y); });
    case Ewise::leaky_relu:
      return back(0, [&] { return ewise2(graph, Ewise::leaky_relu_grad, dy, x, step.p); });
    case Ewise::gelu:
      return back(0, [&] { return ewise2(graph, Ewise::gelu_grad, dy, x); });
    case Ewise::gelu_tanh:
      return back(0, [&] { return ewise2(graph, Ewise::gelu_tanh_grad, dy, x); });
    case Ewise::silu:
      return back(0, [&] { return ewise2(graph, Ewise::silu_grad, dy, x); });
    case Ewise::sigmoid:
      return back(0, [&] { return ewise2(graph, Ewise::sigmoid_grad, dy, y); });
    case Ewise::tanh:
      return back(0, [&] { return ewise2(graph, Ewise::tanh_grad, dy, y); });
    case Ewise::exp:
      return back(0, [&] { return ewise2(graph, Ewise::mul, dy, y); });
    case Ewise::log:
      return back(0, [&] { return ewise2(graph, Ewise::log_grad, dy, x); });
    case Ewise::sqrt:
      return back(0, [&] { return ewise2(graph, Ewise::sqrt_grad, dy, y); });
    case Ewise::square:
      return back(0, [&] { return ewise2(graph, Ewise::square_grad, dy, x); });
    case Ewise::clamp:
      return back(0, [&] { return ewise2(graph, Ewise::clamp_grad, dy, x, step.p, step.q); });
    case Ewise::dropout:  // the mask is drawn again from the same counter
      return back(0, [&] {
        return graph.apply(OpKind::elementwise, "",
                           ElementwiseAttrs{single_step(Ewise::dropout, step.p, step.q, step.stream_id), {}}, {dy});
      });
    case Ewise::add:
      back(0, [&] { return dy; });
      return back(1, [&] { return dy; });
    case Ewise::sub:
      back(0, [&] { return dy; });
      return back(1, [&] { return ewise(graph, Ewise::scale, dy, -1, 0); });
    case Ewise::mul:
      back(0, [&] { return ewise2(graph, Ewise::mul, dy, b); });
      return back(1, [&] { return ewise2(graph, Ewise::mul, dy, x); });
    case Ewise::div: {  // d(a/b) = da / b - (a/b) db / b
      back(0, [&] { return ewise2(graph, Ewise::div, dy, b); });
      return back(1, [&] {
        const ValueId quotient = ewise2(graph, Ewise::div, ewise2(graph, Ewise::mul, dy, y), b);
        return ewise(graph, Ewise::scale, quotient, -1, 0);
      });
    }
    default:
      break;
  }
  fail(MPT_ERROR_INTERNAL, "elementwise '%s' has no gradient rule", name_of(step.op));
}

Cost cost(const Graph& graph, const Node& node) {
  const auto& program = std::get<ElementwiseAttrs>(node.attrs).program;
  double per_element = 0;
  for (const ElementwiseStep& step : program.steps) {
    switch (step.op) {
      case Ewise::gelu:
      case Ewise::gelu_tanh:
      case Ewise::silu:
      case Ewise::sigmoid:
      case Ewise::tanh:
      case Ewise::exp:
      case Ewise::log:
      case Ewise::gelu_grad:
      case Ewise::gelu_tanh_grad:
      case Ewise::silu_grad:
      case Ewise::dropout:
        per_element += 20;  // polynomials of about this length
        break;
      default:
        per_element += 1;
    }
  }
  return {per_element * elements(graph, node.outputs[0]), bytes_of(graph, node)};
}

// Blocks are read whole before they are written, so any input of the output's shape will do.
bool in_place(const Graph& graph, const Node& node, int input, int output) {
  return graph.shape(node.inputs[input]) == graph.shape(node.outputs[output]);
}

}  // namespace

const OpDef elementwise_def{"elementwise", OpClass::elementwise, infer, gradient, cost, in_place};

}  // namespace mpt
