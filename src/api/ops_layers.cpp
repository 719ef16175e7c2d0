// Matrix multiply, layers with parameters, attention.
#include <cmath>

#include "api/builder.h"
#include "ops/op.h"

using mpt::AttentionAttrs;
using mpt::build;
using mpt::Graph;
using mpt::guarded;
using mpt::InitializerInfo;
using mpt::none;
using mpt::OpKind;
using mpt::Shape;
using mpt::ValueId;

namespace {

const mpt_linear_options default_linear{sizeof(mpt_linear_options), 1, MPT_INIT_DEFAULT, 0, 0, MPT_INIT_DEFAULT, 0, 0};
const mpt_norm_options default_norm{sizeof(mpt_norm_options), 1e-5, 1, 1};
const mpt_attention_options default_attention{sizeof(mpt_attention_options), 0, 0, none, none, 0};
const mpt_embedding_options default_embedding{sizeof(mpt_embedding_options), MPT_INIT_NORMAL, 0, 1};

std::string require_name(const char* name) {
  MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
  return name;
}

// PyTorch's default of linear layers: uniform within 1 / sqrt(in).
InitializerInfo initializer(mpt_initializer kind, double a, double b, int64_t fan_in) {
  if (kind != MPT_INIT_DEFAULT) return {kind, a, b, 1, 1};
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return {MPT_INIT_UNIFORM, -bound, bound, 1, 1};
}

int64_t known_last_size(const Graph& graph, ValueId x) {
  const Shape& shape = graph.shape(x);
  MPT_CHECK_ARGUMENT(shape.rank() >= 1 && shape[-1] > 0, "%s: the last size must be known, for parameters depend on it",
                     graph.describe(x).c_str());
  return shape[-1];
}

// x W^T + bias with parameters of the given names.
ValueId linear(Graph& graph, const std::string& name, ValueId x, int64_t features, const mpt_linear_options& o,
               const std::string& weight_name, const std::string& bias_name) {
  MPT_CHECK_ARGUMENT(features > 0, "features is %lld, expected at least 1", static_cast<long long>(features));
  const int64_t in = known_last_size(graph, x);
  const ValueId weight = mpt::add_parameter(graph, weight_name, Shape{features, in},
                                            initializer(o.weight_initializer, o.weight_a, o.weight_b, in), false);
  const bool vector = graph.shape(x).rank() == 1;
  if (vector) x = mpt::reshape_to(graph, x, Shape{1, in});
  const std::string product = mpt::unique_name(graph, o.bias ? name + ".product" : name);
  ValueId y = graph.apply(OpKind::matmul, product, mpt::MatmulAttrs{false, true, {}}, {x, weight});
  if (o.bias) {
    const ValueId bias = mpt::add_parameter(graph, bias_name, Shape{features},
                                            initializer(o.bias_initializer, o.bias_a, o.bias_b, in), false);
    y = graph.apply(OpKind::elementwise, mpt::unique_name(graph, name),
                    mpt::ElementwiseAttrs{mpt::single_step(mpt::Ewise::add), {}}, {y, bias});
  }
  return vector ? mpt::reshape_to(graph, y, Shape{features}) : y;
}

AttentionAttrs attention_attrs(int32_t heads, const mpt_attention_options& o) {
  MPT_CHECK_ARGUMENT(heads > 0, "heads is %d, expected at least 1", heads);
  MPT_CHECK_ARGUMENT(o.kv_heads >= 0 && std::isfinite(o.scale), "kv_heads is %d and scale is %g", o.kv_heads, o.scale);
  AttentionAttrs attrs;
  attrs.heads = heads;
  attrs.kv_heads = o.kv_heads == 0 ? heads : o.kv_heads;
  attrs.causal = o.causal != 0;
  attrs.scale = o.scale;
  return attrs;
}

void set_default_scale(AttentionAttrs* attrs, int64_t features, int64_t columns) {
  if (attrs->scale == 0 && features >= columns) attrs->scale = 1 / std::sqrt(static_cast<double>(features / columns));
}

void require_optional(const Graph& graph, const mpt_attention_options& o) {
  if (o.mask != none) mpt::require_tensor(graph, o.mask, "options.mask");
  if (o.key_lengths != none) mpt::require_tensor(graph, o.key_lengths, "options.key_lengths");
}

mpt_tensor norm(mpt_model* model, const char* function, const char* name, mpt_tensor x, const mpt_norm_options* options,
                bool rms) {
  return build(model, function, {x}, [&](Graph& graph) {
    const std::string layer = require_name(name);
    const mpt_norm_options o = mpt::read_options("mpt_norm_options", options, default_norm);
    MPT_CHECK_ARGUMENT(std::isfinite(o.epsilon) && o.epsilon >= 0,
                       "epsilon is %g, expected a finite number of at least 0", o.epsilon);
    ValueId weight = none, bias = none;
    if (o.scale) {
      const int64_t size = known_last_size(graph, x);
      weight = mpt::add_parameter(graph, layer + ".weight", Shape{size}, {MPT_INIT_CONSTANT, 1, 0, 1, 1}, true);
    }
    if (o.shift && !rms) {
      const int64_t size = known_last_size(graph, x);
      bias = mpt::add_parameter(graph, layer + ".bias", Shape{size}, {MPT_INIT_ZEROS, 0, 0, 1, 1}, true);
    }
    return graph.apply(OpKind::norm, mpt::unique_name(graph, layer), mpt::NormAttrs{rms, o.epsilon, ~0u},
                       {x, weight, bias, none});
  });
}

}  // namespace

extern "C" {

mpt_tensor mpt_matmul(mpt_model* model, mpt_tensor a, mpt_tensor b, int32_t transpose_a, int32_t transpose_b) {
  return build(model, "mpt_matmul", {a, b}, [&](Graph& graph) {
    return graph.apply(OpKind::matmul, "", mpt::MatmulAttrs{transpose_a != 0, transpose_b != 0, {}}, {a, b});
  });
}

mpt_status mpt_linear_options_init(mpt_linear_options* options, uint64_t struct_size) {
  return guarded("mpt_linear_options_init",
                 [&] { mpt::init_struct("mpt_linear_options", options, struct_size, default_linear); });
}

mpt_tensor mpt_linear(mpt_model* model, const char* name, mpt_tensor x, int64_t features,
                      const mpt_linear_options* options) {
  return build(model, "mpt_linear", {x}, [&](Graph& graph) {
    const std::string layer = require_name(name);
    const mpt_linear_options o = mpt::read_options("mpt_linear_options", options, default_linear);
    return linear(graph, layer, x, features, o, layer + ".weight", layer + ".bias");
  });
}

mpt_status mpt_norm_options_init(mpt_norm_options* options, uint64_t struct_size) {
  return guarded("mpt_norm_options_init",
                 [&] { mpt::init_struct("mpt_norm_options", options, struct_size, default_norm); });
}

mpt_tensor mpt_layer_norm(mpt_model* model, const char* name, mpt_tensor x, const mpt_norm_options* options) {
  return norm(model, "mpt_layer_norm", name, x, options, false);
}

mpt_tensor mpt_rms_norm(mpt_model* model, const char* name, mpt_tensor x, const mpt_norm_options* options) {
  return norm(model, "mpt_rms_norm", name, x, options, true);
}

mpt_status mpt_attention_options_init(mpt_attention_options* options, uint64_t struct_size) {
  return guarded("mpt_attention_options_init",
                 [&] { mpt::init_struct("mpt_attention_options", options, struct_size, default_attention); });
}

mpt_tensor mpt_attention(mpt_model* model, mpt_tensor q, mpt_tensor k, mpt_tensor v, int32_t heads,
                         const mpt_attention_options* options) {
  return build(model, "mpt_attention", {q, k, v}, [&](Graph& graph) {
    const mpt_attention_options o = mpt::read_options("mpt_attention_options", options, default_attention);
    require_optional(graph, o);
    AttentionAttrs attrs = attention_attrs(heads, o);
    if (graph.shape(q).rank() == 3) set_default_scale(&attrs, graph.shape(q)[2], heads);
    return graph.apply(OpKind::attention, "", attrs, {q, k, v, o.mask, o.key_lengths});
  });
}

mpt_tensor mpt_multi_head_attention(mpt_model* model, const char* name, mpt_tensor x, int32_t heads,
                                    const mpt_attention_options* options, const mpt_linear_options* linear_options) {
  return build(model, "mpt_multi_head_attention", {x}, [&](Graph& graph) {
    const std::string layer = require_name(name);
    const mpt_attention_options o = mpt::read_options("mpt_attention_options", options, default_attention);
    const mpt_linear_options l = mpt::read_options("mpt_linear_options", linear_options, default_linear);
    MPT_CHECK_ARGUMENT(o.kv_heads == 0 || o.kv_heads == heads, "kv_heads is %d, expected 0 or heads %d", o.kv_heads,
                       heads);
    require_optional(graph, o);
    const int64_t features = known_last_size(graph, x);
    AttentionAttrs attrs = attention_attrs(heads, o);
    attrs.packed = true;
    MPT_CHECK_ARGUMENT(features % heads == 0, "%s: the last size is not a multiple of %d heads",
                       graph.describe(x).c_str(), heads);
    set_default_scale(&attrs, features, heads);
    const ValueId qkv =
        linear(graph, layer + ".in_proj", x, 3 * features, l, layer + ".in_proj_weight", layer + ".in_proj_bias");
    const ValueId mixed = graph.apply(OpKind::attention, mpt::unique_name(graph, layer + ".attention"), attrs,
                                      {qkv, none, none, o.mask, o.key_lengths});
    return linear(graph, layer + ".out_proj", mixed, features, l, layer + ".out_proj.weight", layer + ".out_proj.bias");
  });
}

mpt_status mpt_embedding_options_init(mpt_embedding_options* options, uint64_t struct_size) {
  return guarded("mpt_embedding_options_init",
                 [&] { mpt::init_struct("mpt_embedding_options", options, struct_size, default_embedding); });
}

mpt_tensor mpt_embedding(mpt_model* model, const char* name, mpt_tensor indices, int64_t count, int64_t features,
                         const mpt_embedding_options* options) {
  return build(model, "mpt_embedding", {indices}, [&](Graph& graph) {
    const std::string layer = require_name(name);
    const mpt_embedding_options o = mpt::read_options("mpt_embedding_options", options, default_embedding);
    const InitializerInfo init = o.initializer == MPT_INIT_DEFAULT ? InitializerInfo{MPT_INIT_NORMAL, 0, 1, 1, 1}
                                                                   : InitializerInfo{o.initializer, o.a, o.b, 1, 1};
    const ValueId table = mpt::add_parameter(graph, layer + ".weight", Shape{count, features}, init, false);
    return graph.apply(OpKind::gather, mpt::unique_name(graph, layer), mpt::GatherAttrs{0, {}}, {table, indices});
  });
}

}  // extern "C"
