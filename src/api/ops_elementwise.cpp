#include <cmath>

#include "api/builder.h"
#include "ops/op.h"

using mpt::build;
using mpt::ElementwiseAttrs;
using mpt::Ewise;
using mpt::Graph;
using mpt::OpKind;
using mpt::ValueId;

namespace {

mpt_tensor unary(mpt_model* model, const char* function, Ewise op, mpt_tensor x, double p = 0, double q = 0) {
  return build(model, function, {x}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(std::isfinite(static_cast<float>(p)) && std::isfinite(static_cast<float>(q)),
                       "a number is not finite in float32: %g, %g", p, q);
    const std::string name = std::string(mpt::name_of(op)) + "_" + std::to_string(graph.nodes.size());
    return graph.apply(
        OpKind::elementwise, name,
        ElementwiseAttrs{mpt::single_step(op, static_cast<float>(p), static_cast<float>(q), graph.building_stream_id),
                         {}},
        {x});
  });
}

mpt_tensor binary(mpt_model* model, const char* function, Ewise op, mpt_tensor a, mpt_tensor b) {
  return build(model, function, {a, b}, [&](Graph& graph) {
    const std::string name = std::string(mpt::name_of(op)) + "_" + std::to_string(graph.nodes.size());
    return graph.apply(OpKind::elementwise, name, ElementwiseAttrs{mpt::single_step(op), {}}, {a, b});
  });
}

}  // namespace

extern "C" {

mpt_tensor mpt_add(mpt_model* m, mpt_tensor a, mpt_tensor b) { return binary(m, "mpt_add", Ewise::add, a, b); }
mpt_tensor mpt_sub(mpt_model* m, mpt_tensor a, mpt_tensor b) { return binary(m, "mpt_sub", Ewise::sub, a, b); }
mpt_tensor mpt_mul(mpt_model* m, mpt_tensor a, mpt_tensor b) { return binary(m, "mpt_mul", Ewise::mul, a, b); }
mpt_tensor mpt_div(mpt_model* m, mpt_tensor a, mpt_tensor b) { return binary(m, "mpt_div", Ewise::div, a, b); }
mpt_tensor mpt_scale(mpt_model* m, mpt_tensor x, double factor, double offset) {
  return unary(m, "mpt_scale", Ewise::scale, x, factor, offset);
}
mpt_tensor mpt_relu(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_relu", Ewise::relu, x); }
mpt_tensor mpt_leaky_relu(mpt_model* m, mpt_tensor x, double slope) {
  return unary(m, "mpt_leaky_relu", Ewise::leaky_relu, x, slope);
}
mpt_tensor mpt_gelu(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_gelu", Ewise::gelu, x); }
mpt_tensor mpt_gelu_tanh(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_gelu_tanh", Ewise::gelu_tanh, x); }
mpt_tensor mpt_silu(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_silu", Ewise::silu, x); }
mpt_tensor mpt_sigmoid(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_sigmoid", Ewise::sigmoid, x); }
mpt_tensor mpt_tanh(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_tanh", Ewise::tanh, x); }
mpt_tensor mpt_exp(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_exp", Ewise::exp, x); }
mpt_tensor mpt_log(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_log", Ewise::log, x); }
mpt_tensor mpt_sqrt(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_sqrt", Ewise::sqrt, x); }
mpt_tensor mpt_square(mpt_model* m, mpt_tensor x) { return unary(m, "mpt_square", Ewise::square, x); }

mpt_tensor mpt_clamp(mpt_model* m, mpt_tensor x, double low, double high) {
  return build(m, "mpt_clamp", {x}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(low <= high, "low is %g and high is %g, expected low <= high", low, high);
    const std::string name = "clamp_" + std::to_string(graph.nodes.size());
    return graph.apply(
        OpKind::elementwise, name,
        ElementwiseAttrs{mpt::single_step(Ewise::clamp, static_cast<float>(low), static_cast<float>(high)), {}}, {x});
  });
}

mpt_tensor mpt_dropout(mpt_model* m, mpt_tensor x, double rate) {
  return build(m, "mpt_dropout", {x}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(rate >= 0 && rate < 1, "rate is %g, expected 0 <= rate < 1", rate);
    if (rate == 0) return x;
    const std::string name = "dropout_" + std::to_string(graph.nodes.size());
    return graph.apply(
        OpKind::elementwise, name,
        ElementwiseAttrs{mpt::single_step(Ewise::dropout, static_cast<float>(rate), 0, graph.building_stream_id), {}},
        {x});
  });
}

mpt_tensor mpt_stop_gradient(mpt_model* m, mpt_tensor x) {
  return build(m, "mpt_stop_gradient", {x}, [&](Graph& graph) {
    const std::string name = "stop_gradient_" + std::to_string(graph.nodes.size());
    ElementwiseAttrs attrs{mpt::single_step(Ewise::copy), {}};
    attrs.stop_gradient = true;
    return graph.apply(OpKind::elementwise, name, attrs, {x});
  });
}

}  // extern "C"
