// Graphs as text: for users, for error messages and for the tests of passes.
#include "graph/graph.h"
#include "graph/op_def.h"

namespace mpt {
namespace {

std::string shape_text(const Graph& graph, const Shape& shape) {
  std::string out = "[";
  for (int i = 0; i < shape.rank(); ++i) {
    if (i) out += ", ";
    const bool named = shape[i] < 0 && graph.dims && graph.dims->is_valid(shape[i]);
    out += named ? graph.dims->name(shape[i]) : std::to_string(shape[i]);
  }
  return out + "]";
}

constexpr const char* ewise_names[] = {"copy",
                                       "scale",
                                       "relu",
                                       "leaky_relu",
                                       "gelu",
                                       "gelu_tanh",
                                       "silu",
                                       "sigmoid",
                                       "tanh",
                                       "exp",
                                       "log",
                                       "sqrt",
                                       "square",
                                       "clamp",
                                       "dropout",
                                       "add",
                                       "sub",
                                       "mul",
                                       "div",
                                       "relu_grad",
                                       "leaky_relu_grad",
                                       "gelu_grad",
                                       "gelu_tanh_grad",
                                       "silu_grad",
                                       "sigmoid_grad",
                                       "tanh_grad",
                                       "log_grad",
                                       "sqrt_grad",
                                       "square_grad",
                                       "clamp_grad"};
static_assert(std::size(ewise_names) == static_cast<std::size_t>(Ewise::count_));

// "r2=gelu(r0) r3=mul(r2,r1) -> r3": registers are inputs first, then one per step.
std::string program_text(const Program& program) {
  std::string out;
  int reg = program.inputs;
  for (const ElementwiseStep& step : program.steps) {
    out += " r" + std::to_string(reg++) + "=" + name_of(step.op) + "(r" + std::to_string(step.a);
    if (step.b >= 0) out += ",r" + std::to_string(step.b);
    out += ")";
  }
  out += " ->";
  for (int16_t r : program.outputs) out += " r" + std::to_string(r);
  return out;
}

const Program* program_of(const Node& node) {
  if (const auto* e = std::get_if<ElementwiseAttrs>(&node.attrs)) return &e->program;
  if (const auto* m = std::get_if<MatmulAttrs>(&node.attrs))
    return m->epilogue.outputs.empty() ? nullptr : &m->epilogue;
  return nullptr;
}

}  // namespace

const char* name_of(Ewise op) { return ewise_names[static_cast<int>(op)]; }

std::string Graph::describe(ValueId id) const {
  if (!valid(id)) return "none";
  const Value& v = value(id);
  return "'" + v.name + "' " + shape_text(*this, v.shape);
}

std::string Graph::text() const {
  std::string out;
  for (std::size_t n = 1; n < nodes.size(); ++n) {
    const Node& node = nodes[n];
    out += node.backward ? "b " : node.recomputed ? "r " : "f ";
    out += node.name + ": ";
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (i) out += ", ";
      const ValueId o = node.outputs[i];
      out += o == none ? "-" : "%" + std::to_string(o) + " " + name_of(value(o).dtype) + shape_text(*this, shape(o));
    }
    out += std::string(" = ") + op_def(node.kind).name + "(";
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i) out += ", ";
      const ValueId in = node.inputs[i];
      if (in == none) {
        out += "-";
        continue;
      }
      const Value& v = value(in);
      out += "%" + std::to_string(in);
      if (v.role == Role::input || v.role == Role::parameter || v.role == Role::constant) out += ":" + v.name;
    }
    out += ")";
    if (const auto* m = std::get_if<MatmulAttrs>(&node.attrs)) {
      if (m->transpose_a) out += " transpose_a";
      if (m->transpose_b) out += " transpose_b";
    }
    if (const Program* program = program_of(node)) out += program_text(*program);
    if (node.keep_fp32) out += " keep_fp32";
    out += "\n";
  }
  return out;
}

}  // namespace mpt
