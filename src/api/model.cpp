#include <cmath>

#include "api/builder.h"
#include "runtime/host_array.h"

using mpt::build;
using mpt::checked;
using mpt::Graph;
using mpt::guarded;
using mpt::none;
using mpt::Shape;
using mpt::ValueId;

namespace {

// A shape of the caller's: sizes at least 0, or ids of named dimensions.
Shape read_shape(const Graph& graph, int32_t rank, const int64_t* sizes) {
  MPT_CHECK_ARGUMENT(rank >= 0 && rank <= MPT_MAX_RANK, "rank is %d, expected 0 to %d", rank, MPT_MAX_RANK);
  MPT_CHECK_ARGUMENT(sizes || rank == 0, "shape is NULL for rank %d", rank);
  for (int32_t i = 0; i < rank; ++i)
    MPT_CHECK_ARGUMENT(sizes[i] > 0 || graph.dims->is_valid(sizes[i]),
                       "shape[%d] is %lld, expected a size of at least 1 or a named dimension", i,
                       static_cast<long long>(sizes[i]));
  const Shape shape(rank, sizes);
  mpt::check_known_sizes(shape);
  return shape;
}

void require_free_name(const Graph& graph, const char* name) {
  MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
  MPT_CHECK_ARGUMENT(graph.find(name) == none, "the name '%s' is taken by another tensor", name);
}

}  // namespace

extern "C" {

mpt_status mpt_model_create(mpt_model** out, mpt_context* context) {
  return mpt::created("mpt_model_create", out, [&](mpt_model& handle) {
    const mpt::Call call(checked(context, "context").context, mpt::Context::Access::use);
    handle.context = context->context;
    handle.model = std::make_shared<mpt::Model>();
    handle.model->error_message.reserve(1024);  // for any message: telling of missing memory must need none
    handle.model->context = context->context;
    handle.model->graph.dims = std::make_shared<mpt::Dims>();
  });
}

void mpt_model_destroy(mpt_model* model) { mpt::destroy_handle(model); }

mpt_status mpt_model_check(mpt_model* model) {
  return guarded("mpt_model_check", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::read);
    model->model->throw_error();
  });
}

mpt_status mpt_model_clear_error(mpt_model* model) {
  return guarded("mpt_model_clear_error", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::use);
    model->model->error = MPT_OK;
    model->model->error_message.clear();
  });
}

int64_t mpt_model_dim(mpt_model* model, const char* name) {
  int64_t id = 0;
  build(model, "mpt_model_dim", {}, [&](Graph& graph) -> ValueId {
    MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
    id = graph.dims->named(name);
    return none;
  });
  return id;
}

mpt_tensor mpt_model_set_name(mpt_model* model, mpt_tensor tensor, const char* name) {
  return build(model, "mpt_model_set_name", {tensor}, [&](Graph& graph) {
    require_free_name(graph, name);
    mpt::Value& value = graph.value(tensor);
    MPT_CHECK_ARGUMENT(value.role == mpt::Role::activation,
                       "'%s' is an input, constant or parameter and keeps its name", value.name.c_str());
    value.name = name;
    return tensor;
  });
}

mpt_tensor mpt_model_find(const mpt_model* model, const char* name) {
  if (!model || model->tag != mpt_model::expected_tag || !name) return none;
  return model->model->graph.find(name);
}

mpt_status mpt_model_tensor_shape(const mpt_model* model, mpt_tensor tensor, int64_t* out_shape, int32_t* out_rank) {
  return guarded("mpt_model_tensor_shape", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out_shape && out_rank, "out_shape or out_rank is NULL");
    mpt::require_tensor(model->model->graph, tensor, "tensor");
    const Shape& shape = model->model->graph.shape(tensor);
    std::copy(shape.begin(), shape.end(), out_shape);
    *out_rank = shape.rank();
  });
}

mpt_status mpt_model_dump(const mpt_model* model, char* buffer, uint64_t capacity, uint64_t* out_needed) {
  return guarded("mpt_model_dump", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::read);
    mpt::copy_text(model->model->graph.text(), buffer, capacity, out_needed);
  });
}

mpt_status mpt_model_set_op_dtype(mpt_model* model, const char* name, mpt_dtype dtype) {
  return guarded("mpt_model_set_op_dtype", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
    MPT_CHECK_ARGUMENT(dtype == MPT_FLOAT32 || dtype == 0, "dtype is %d, expected MPT_FLOAT32 or 0", dtype);
    for (const mpt::Node& node : model->model->graph.nodes) {
      if (node.name != name) continue;
      if (dtype == 0)
        model->model->op_keeps_fp32.erase(name);
      else
        model->model->op_keeps_fp32[name] = true;
      return;
    }
    mpt::fail(MPT_ERROR_INVALID_ARGUMENT, "the model has no op '%s': mpt_model_dump lists them", name);
  });
}

mpt_status mpt_model_set_class_dtype(mpt_model* model, int32_t op_class, mpt_dtype dtype) {
  return guarded("mpt_model_set_class_dtype", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(op_class >= MPT_CLASS_MATMUL && op_class <= MPT_CLASS_SHAPE, "op_class is %d, expected %d to %d",
                       op_class, MPT_CLASS_MATMUL, MPT_CLASS_SHAPE);
    MPT_CHECK_ARGUMENT(dtype == MPT_FLOAT32 || dtype == 0, "dtype is %d, expected MPT_FLOAT32 or 0", dtype);
    model->model->class_keeps_fp32[op_class] = dtype == MPT_FLOAT32;
  });
}

mpt_tensor mpt_input(mpt_model* model, const char* name, mpt_dtype dtype, int32_t rank, const int64_t* shape) {
  return build(model, "mpt_input", {}, [&](Graph& graph) {
    require_free_name(graph, name);
    MPT_CHECK_ARGUMENT(dtype == MPT_FLOAT32 || dtype == MPT_INT32 || dtype == MPT_UINT8,
                       "input '%s': dtype is %d, expected MPT_FLOAT32, MPT_INT32 or MPT_UINT8", name, dtype);
    mpt::Value value;
    value.name = name;
    value.shape = read_shape(graph, rank, shape);
    value.dtype = static_cast<mpt::DType>(dtype);
    value.narrow = dtype == MPT_FLOAT32;
    value.role = mpt::Role::input;
    value.slot = static_cast<int32_t>(graph.inputs.size());
    const ValueId id = graph.add_value(std::move(value));
    graph.inputs.push_back({id, static_cast<mpt::DType>(dtype), {}, {}, 0});
    return id;
  });
}

mpt_status mpt_input_normalize(mpt_model* model, mpt_tensor input, int32_t axis, int32_t channels, const float* mean,
                               const float* std) {
  return guarded("mpt_input_normalize", [&] {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::use);
    Graph& graph = model->model->graph;
    mpt::require_tensor(graph, input, "input");
    const mpt::Value& value = graph.value(input);
    MPT_CHECK_ARGUMENT(value.role == mpt::Role::input && value.dtype == mpt::DType::f32, "%s is no float input",
                       graph.describe(input).c_str());
    const int at = mpt::normalize_axis(axis, value.shape.rank(), "mpt_input_normalize");
    MPT_CHECK_ARGUMENT(value.shape[at] == channels, "input %s: channels is %d, expected the size of axis %d",
                       graph.describe(input).c_str(), channels, at);
    MPT_CHECK_ARGUMENT(mean && std, "mean or std is NULL");
    for (int32_t c = 0; c < channels; ++c)
      MPT_CHECK_ARGUMENT(std::isfinite(mean[c]) && std::isfinite(std[c]) && std[c] > 0,
                         "channel %d: mean is %g and std is %g, expected finite numbers and std > 0", c,
                         static_cast<double>(mean[c]), static_cast<double>(std[c]));
    mpt::InputInfo& info = graph.inputs[value.slot];
    info.mean.assign(mean, mean + channels);
    info.std.assign(std, std + channels);
    info.normalize_axis = at;
  });
}

mpt_tensor mpt_constant(mpt_model* model, const mpt_array* array) {
  return build(model, "mpt_constant", {}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(array, "array is NULL");
    mpt::check_array(*array, "array");
    const bool floats = mpt::is_float(static_cast<mpt::DType>(array->dtype));
    mpt::Value value;
    value.name = mpt::unique_name(graph, array->name ? array->name : "constant_" + std::to_string(graph.values.size()));
    value.shape = mpt::shape_of(*array);
    value.dtype = floats ? mpt::DType::f32 : mpt::DType::i32;
    value.narrow = floats;
    value.role = mpt::Role::constant;
    value.slot = static_cast<int32_t>(graph.constants.size());
    mpt::ConstantInfo info{none, {}, {}};
    const auto count = static_cast<std::size_t>(value.shape.elements());
    if (floats) {
      info.floats.resize(count);
      mpt::read_array(*array, mpt::DType::f32, info.floats.data(), "array");
    } else {
      info.integers.resize(count);
      mpt::read_array(*array, mpt::DType::i32, info.integers.data(), "array");
    }
    info.value = graph.add_value(std::move(value));
    graph.constants.push_back(std::move(info));
    return graph.constants.back().value;
  });
}

mpt_status mpt_param_options_init(mpt_param_options* options, uint64_t struct_size) {
  return guarded("mpt_param_options_init", [&] {
    mpt::init_struct("mpt_param_options", options, struct_size, mpt_param_options{0, MPT_INIT_ZEROS, 0, 1, 0});
  });
}

mpt_tensor mpt_param(mpt_model* model, const char* name, int32_t rank, const int64_t* shape,
                     const mpt_param_options* options) {
  return build(model, "mpt_param", {}, [&](Graph& graph) {
    MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
    const mpt_param_options o =
        mpt::read_options("mpt_param_options", options, mpt_param_options{0, MPT_INIT_ZEROS, 0, 1, 0});
    const mpt_initializer kind = o.initializer == MPT_INIT_DEFAULT ? MPT_INIT_ZEROS : o.initializer;
    return mpt::add_parameter(graph, name, read_shape(graph, rank, shape), {kind, o.a, o.b, 1, 1}, o.keep_fp32 != 0);
  });
}

mpt_tensor mpt_model_param(mpt_model* model, const char* name) {
  return build(model, "mpt_model_param", {}, [&](Graph& graph) -> ValueId {
    MPT_CHECK_ARGUMENT(name, "name is NULL");
    for (const mpt::ParameterInfo& parameter : graph.parameters)
      if (parameter.name == name) return parameter.value;
    mpt::fail(MPT_ERROR_INVALID_ARGUMENT, "the model has no parameter '%s'", name);
  });
}

}  // extern "C"
