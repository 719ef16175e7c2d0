#include "backend/cuda/matmul_epilogue.h"

#include <algorithm>
#include <vector>

namespace mpt::cuda {
namespace {

// What a register of the program holds, as far as the library can compute it.
struct Form {
  enum Kind { other, sum, input, relu, gelu, gelu_gradient } kind = other;
  int number = -1;               // of the node's input, of input and gelu_gradient
  int bias = -1, residual = -1;  // inputs that were added to the sum

  bool operator==(const Form& f) const {
    return kind == f.kind && number == f.number && bias == f.bias && residual == f.residual;
  }
};

class Matcher {
 public:
  Matcher(const Graph& graph, const Node& node)
      : graph_(graph), node_(node), program_(std::get<MatmulAttrs>(node.attrs).epilogue) {
    for (std::size_t o = 0; o < node.outputs.size(); ++o)
      if (node.outputs[o] != none) outputs_.push_back(static_cast<int>(o));
  }

  std::optional<NativeEpilogue> match() {
    if (outputs_.empty() || outputs_.size() > 2) return std::nullopt;
    type_ = output(outputs_[0]).dtype;
    for (int o : outputs_)
      if (output(o).dtype != type_) return std::nullopt;
    run();
    return outputs_.size() == 1 ? one_output() : two_outputs();
  }

 private:
  const Value& output(int o) const { return graph_.value(node_.outputs[static_cast<std::size_t>(o)]); }
  const Shape& shape() const { return output(outputs_[0]).shape; }
  const Form& stored(int o) const {
    const std::size_t r = program_.outputs.empty() ? 0 : static_cast<std::size_t>(program_.outputs[o]);
    return forms_[r];
  }

  bool has_type(int input) const { return graph_.value(node_.inputs[static_cast<std::size_t>(input)]).dtype == type_; }
  bool is_bias(int input) const {
    const Shape& s = graph_.shape(node_.inputs[static_cast<std::size_t>(input)]);
    return has_type(input) && s.rank() > 0 && s[-1] == shape()[-1] && s.elements() == shape()[-1];
  }
  bool is_whole(int input) const {
    const Shape& s = graph_.shape(node_.inputs[static_cast<std::size_t>(input)]);
    return has_type(input) && s.elements() == shape().elements();
  }

  Form added(const Form& a, const Form& b) const {
    if (b.kind == Form::sum) return a.kind == Form::input ? added(b, a) : Form{};
    if (a.kind != Form::sum || b.kind != Form::input) return {};
    Form form = a;
    if (form.bias < 0 && is_bias(b.number))
      form.bias = b.number;
    else if (form.residual < 0 && is_whole(b.number))
      form.residual = b.number;
    else
      return {};
    return form;
  }

  Form after(const ElementwiseStep& step) const {
    const Form& a = forms_[step.a];
    switch (step.op) {
      case Ewise::copy:
        return a;
      case Ewise::add:
        return added(a, forms_[step.b]);
      case Ewise::relu:
        return a.kind == Form::sum ? Form{Form::relu, -1, a.bias, a.residual} : Form{};
      case Ewise::gelu_tanh:
        return a.kind == Form::sum && a.residual < 0 ? Form{Form::gelu, -1, a.bias} : Form{};
      case Ewise::gelu_tanh_grad: {
        const Form& x = forms_[step.b];
        const bool fits = a == Form{Form::sum} && x.kind == Form::input && is_whole(x.number);
        return fits ? Form{Form::gelu_gradient, x.number} : Form{};
      }
      default:
        return {};
    }
  }

  void run() {
    forms_.push_back({Form::sum});
    for (int i = 1; i < program_.inputs; ++i) forms_.push_back({Form::input, i + 1});
    for (const ElementwiseStep& step : program_.steps) forms_.push_back(after(step));
  }

  // The library's GELU is less precise than FP32.
  bool may_use_gelu() const { return type_ != DType::f32; }
  // Its rows of stored values of x begin at multiples of 8.
  bool aux_fits() const { return shape()[-1] % 8 == 0; }

  std::optional<NativeEpilogue> one_output() const {
    const Form& form = stored(outputs_[0]);
    NativeEpilogue e;
    e.output = outputs_[0];
    e.bias = form.bias;
    e.residual = form.residual;
    switch (form.kind) {
      case Form::sum:
        return e;
      case Form::relu:
        e.kind = BlasEpilogue::relu;
        return e;
      case Form::gelu:
        if (!may_use_gelu()) return std::nullopt;
        e.kind = BlasEpilogue::gelu_tanh;
        return e;
      case Form::gelu_gradient:
        if (!may_use_gelu() || !aux_fits()) return std::nullopt;
        e.kind = BlasEpilogue::gelu_tanh_grad;
        e.aux_input = form.number;
        return e;
      case Form::input:
      case Form::other:
        break;
    }
    return std::nullopt;
  }

  // gelu_tanh(x), and x for the backward pass.
  std::optional<NativeEpilogue> two_outputs() const {
    if (!may_use_gelu() || !aux_fits()) return std::nullopt;
    for (int i = 0; i < 2; ++i) {
      const Form &x = stored(outputs_[i]), &y = stored(outputs_[1 - i]);
      if (x.kind != Form::sum || x.residual >= 0 || !(y == Form{Form::gelu, -1, x.bias})) continue;
      NativeEpilogue e;
      e.kind = BlasEpilogue::gelu_tanh_aux;
      e.bias = x.bias;
      e.aux_output = outputs_[i];
      e.output = outputs_[1 - i];
      return e;
    }
    return std::nullopt;
  }

  const Graph& graph_;
  const Node& node_;
  const Program& program_;
  std::vector<int> outputs_;
  DType type_ = DType::f32;
  std::vector<Form> forms_;
};

}  // namespace

std::optional<NativeEpilogue> native_epilogue(const Graph& graph, const Node& node) {
  return Matcher(graph, node).match();
}

bool commutes_with_rounding(const Graph& graph, const Node& node) {
  const Program& program = std::get<MatmulAttrs>(node.attrs).epilogue;
  std::vector<char> chosen(static_cast<std::size_t>(std::max(program.inputs, 1)), 0);
  chosen[0] = 1;
  // relu is not among them: it gives +0 for the small negative sums that round to -0.
  for (const ElementwiseStep& step : program.steps) {
    const bool by_input = step.op == Ewise::relu_grad && step.b > 0 && step.b < program.inputs;
    chosen.push_back((step.op == Ewise::copy || by_input) && chosen[step.a]);
  }
  DType type = DType::f32;
  for (std::size_t o = 0; o < node.outputs.size(); ++o) {
    if (node.outputs[o] == none) continue;
    const DType own = graph.value(node.outputs[o]).dtype;
    const std::size_t r = program.outputs.empty() ? 0 : static_cast<std::size_t>(program.outputs[o]);
    if (own == DType::f32 || (type != DType::f32 && own != type) || !chosen[r]) return false;
    type = own;
  }
  return type != DType::f32;
}

const char* name_of(const NativeEpilogue& epilogue) {
  switch (epilogue.kind) {
    case BlasEpilogue::relu:
      return "cublasLt.relu";
    case BlasEpilogue::gelu_tanh:
      return "cublasLt.gelu";
    case BlasEpilogue::gelu_tanh_aux:
      return "cublasLt.gelu_aux";
    case BlasEpilogue::gelu_tanh_grad:
      return "cublasLt.gelu_grad";
    default:
      break;
  }
  if (epilogue.bias >= 0 && epilogue.residual >= 0) return "cublasLt.bias_residual";
  return epilogue.bias >= 0 ? "cublasLt.bias" : epilogue.residual >= 0 ? "cublasLt.residual" : "cublasLt";
}

}  // namespace mpt::cuda
