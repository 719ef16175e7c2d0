#include <cmath>

#include "api/handles.h"
#include "io/checkpoint.h"
#include "runtime/host_array.h"

using mpt::checked;
using mpt::guarded;
using mpt::Params;
using mpt::Part;

namespace {

const mpt_params_options default_options{sizeof(mpt_params_options), MPT_PRECISION_FP32, 0, 0};

mpt::ParamsConfig read_config(const mpt_params_options* options, const std::shared_ptr<mpt::Context>& context) {
  const mpt_params_options o = mpt::read_options("mpt_params_options", options, default_options);
  MPT_CHECK_ARGUMENT(o.precision >= MPT_PRECISION_FP32 && o.precision <= MPT_PRECISION_BF16,
                     "precision is %d, expected MPT_PRECISION_FP32, _FP16 or _BF16", o.precision);
  MPT_CHECK_ARGUMENT(o.gradient_dtype == 0 || o.gradient_dtype == MPT_FLOAT32,
                     "gradient_dtype is %d, expected 0 or MPT_FLOAT32", o.gradient_dtype);
  mpt::ParamsConfig config;
  config.precision = o.precision;
  config.no_master = o.no_master != 0;
  config.gradient_dtype = o.gradient_dtype;
  config.seed = context->seed();
  std::weak_ptr<mpt::Context> weak = context;
  config.log = [weak](int32_t level, const char* text) {
    if (const auto owner = weak.lock()) owner->log(level, "%s", text);
  };
  return config;
}

// The backend, kept alive together with its context.
std::shared_ptr<mpt::Backend> backend_of(const std::shared_ptr<mpt::Context>& context) {
  return std::shared_ptr<mpt::Backend>(context, &context->backend());
}

Params& allocated(mpt_params* handle) {
  if (!handle->params->allocated())
    mpt::fail(MPT_ERROR_INVALID_STATE, "the store has no memory yet: call mpt_params_allocate first");
  return *handle->params;
}

int32_t slot_of(const Params& params, const char* name) {
  MPT_CHECK_ARGUMENT(name, "name is NULL");
  const int32_t slot = params.find(name);
  MPT_CHECK_ARGUMENT(slot >= 0, "the store has no parameter '%s'", name);
  return slot;
}

void warn_of_overflow(const mpt::Context& context, const mpt::CheckpointTensor& tensor) {
  if (tensor.stored != mpt::DType::f16) return;
  constexpr float first_infinite = 65520;  // rounds to 2^16, which FP16 lacks
  const auto* values = static_cast<const float*>(tensor.data);
  int64_t count = 0;
  for (int64_t i = 0; i < tensor.shape.elements(); ++i)
    if (std::isfinite(values[i]) && std::fabs(values[i]) >= first_infinite) ++count;
  if (count > 0)
    context.log(MPT_LOG_WARNING, "'%s': %lld weights are infinite in float16", tensor.name.c_str(),
                static_cast<long long>(count));
}

Part read_part(int32_t part) {
  MPT_CHECK_ARGUMENT(part >= MPT_PART_MASTER && part <= MPT_PART_GRADIENT,
                     "part is %d, expected MPT_PART_MASTER to MPT_PART_GRADIENT", part);
  return static_cast<Part>(part);
}

}  // namespace

void mpt::describe_part(mpt_params& params, const char* name, int32_t part, mpt_array* out) {
  const Params& p = allocated(&params);
  const int32_t slot = slot_of(p, name);
  const Part which = read_part(part);
  const Shape& shape = p.parameter(slot).shape;
  mpt_array array{};
  array.name = p.parameter(slot).name.c_str();
  array.data = p.data(slot, which);
  array.dtype = static_cast<mpt_dtype>(p.dtype(slot, which));
  array.rank = shape.rank();
  std::copy(shape.begin(), shape.end(), array.shape);
  array.device_type = params.context->backend().device_type();
  array.device_index = params.context->backend().device_index();
  *out = array;
}

extern "C" {

mpt_status mpt_params_options_init(mpt_params_options* options, uint64_t struct_size) {
  return guarded("mpt_params_options_init",
                 [&] { mpt::init_struct("mpt_params_options", options, struct_size, default_options); });
}

mpt_status mpt_load_options_init(mpt_load_options* options, uint64_t struct_size) {
  return guarded("mpt_load_options_init",
                 [&] { mpt::init_struct("mpt_load_options", options, struct_size, mpt_load_options{}); });
}

mpt_status mpt_params_create(mpt_params** out, mpt_model* model, const mpt_params_options* options) {
  return mpt::created("mpt_params_create", out, [&](mpt_params& handle) {
    const mpt::Call call(checked(model, "model").context, mpt::Context::Access::use);
    model->model->throw_error();
    const mpt::ParamsConfig config = read_config(options, model->context);
    handle.context = model->context;
    handle.model = model->model;
    handle.params = std::make_shared<Params>(backend_of(model->context), config);
    for (const mpt::ParameterInfo& p : model->model->graph.parameters)
      handle.params->add(p.name, p.shape, p.initializer, p.keep_fp32);
    handle.params->allocate();
  });
}

mpt_status mpt_params_create_empty(mpt_params** out, mpt_context* context, const mpt_params_options* options) {
  return mpt::created("mpt_params_create_empty", out, [&](mpt_params& handle) {
    const mpt::Call call(checked(context, "context").context, mpt::Context::Access::use);
    handle.context = context->context;
    handle.params = std::make_shared<Params>(backend_of(context->context), read_config(options, context->context));
  });
}

void mpt_params_destroy(mpt_params* params) { mpt::destroy_handle(params); }

mpt_status mpt_params_register(mpt_params* params, const char* name, int32_t rank, const int64_t* shape,
                               const mpt_param_options* options) {
  return guarded("mpt_params_register", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(name && *name, "name is NULL or empty");
    MPT_CHECK_ARGUMENT(rank >= 0 && rank <= MPT_MAX_RANK && (shape || rank == 0), "'%s': rank is %d or shape is NULL",
                       name, rank);
    for (int32_t i = 0; i < rank; ++i)
      MPT_CHECK_ARGUMENT(shape[i] > 0, "'%s': shape[%d] is %lld, expected at least 1", name, i,
                         static_cast<long long>(shape[i]));
    const mpt_param_options o =
        mpt::read_options("mpt_param_options", options, mpt_param_options{0, MPT_INIT_ZEROS, 0, 1, 0});
    if (params->params->allocated()) mpt::fail(MPT_ERROR_INVALID_STATE, "'%s': the store is allocated already", name);
    mpt::InitializerInfo initializer{o.initializer == MPT_INIT_DEFAULT ? MPT_INIT_ZEROS : o.initializer, o.a, o.b, 1,
                                     1};
    mpt::set_fans(mpt::Shape(rank, shape), &initializer);
    params->params->add(name, mpt::Shape(rank, shape), initializer, o.keep_fp32 != 0);
  });
}

mpt_status mpt_params_use_buffers(mpt_params* params, const char* name, void* copy16, void* gradient) {
  return guarded("mpt_params_use_buffers", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    if (params->params->allocated()) mpt::fail(MPT_ERROR_INVALID_STATE, "the store is allocated already");
    params->params->use_buffers(slot_of(*params->params, name), copy16, gradient);
  });
}

mpt_status mpt_params_allocate(mpt_params* params) {
  return guarded("mpt_params_allocate", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    if (params->params->allocated()) mpt::fail(MPT_ERROR_INVALID_STATE, "the store is allocated already");
    MPT_CHECK_ARGUMENT(params->params->count() > 0, "nothing was registered, expected at least one parameter");
    params->params->allocate();
  });
}

int32_t mpt_params_count(const mpt_params* params) {
  return params && params->tag == mpt_params::expected_tag ? params->params->count() : 0;
}

const char* mpt_params_name(const mpt_params* params, int32_t index) {
  if (index < 0 || index >= mpt_params_count(params)) return nullptr;
  return params->params->parameter(index).name.c_str();
}

mpt_status mpt_params_tensor(mpt_params* params, const char* name, int32_t part, mpt_array* out) {
  return guarded("mpt_params_tensor", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    mpt::describe_part(*params, name, part, out);
  });
}

mpt_status mpt_params_get(mpt_params* params, const char* name, int32_t part, const mpt_array* array) {
  return guarded("mpt_params_get", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(array, "array is NULL");
    const Params& p = allocated(params);
    const int32_t slot = slot_of(p, name);
    mpt::check_array(*array, "'" + std::string(name) + "'", &params->context->backend());
    p.get(slot, read_part(part), *array, "mpt_params_get");
  });
}

mpt_status mpt_params_set(mpt_params* params, const char* name, const mpt_array* array) {
  return guarded("mpt_params_set", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(array, "array is NULL");
    Params& p = allocated(params);
    const int32_t slot = slot_of(p, name);
    mpt::check_array(*array, "'" + std::string(name) + "'", &params->context->backend());
    p.set(slot, *array, "mpt_params_set");
  });
}

mpt_status mpt_params_refresh(mpt_params* params) {
  return guarded("mpt_params_refresh", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    allocated(params).refresh();
  });
}

mpt_status mpt_params_save(mpt_params* params, const char* path, mpt_dtype dtype) {
  return guarded("mpt_params_save", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(path && *path, "path is NULL or empty");
    MPT_CHECK_ARGUMENT(dtype == MPT_FLOAT32 || dtype == MPT_FLOAT16 || dtype == MPT_BFLOAT16,
                       "dtype is %d, expected MPT_FLOAT32, MPT_FLOAT16 or MPT_BFLOAT16", dtype);
    const Params& p = allocated(params);
    std::vector<std::vector<float>> host;
    std::vector<mpt::CheckpointTensor> tensors;
    for (int32_t slot = 0; slot < p.count(); ++slot) {
      host.emplace_back(static_cast<std::size_t>(p.parameter(slot).count));
      p.read_master(slot, host.back().data());
      tensors.push_back({p.parameter(slot).name, mpt::DType::f32, p.parameter(slot).shape, host.back().data(),
                         static_cast<mpt::DType>(dtype)});
    }
    for (const mpt::CheckpointTensor& tensor : tensors) warn_of_overflow(*params->context, tensor);
    mpt::write_checkpoint(path, tensors, {{"format", "pt"}});
  });
}

mpt_status mpt_params_load(mpt_params* params, const char* path, const mpt_load_options* options) {
  return guarded("mpt_params_load", [&] {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(path && *path, "path is NULL or empty");
    const mpt_load_options o = mpt::read_options("mpt_load_options", options, mpt_load_options{});
    Params& p = allocated(params);
    const mpt::CheckpointReader reader(path);
    std::vector<mpt::TensorExpectation> expected;
    for (int32_t slot = 0; slot < p.count(); ++slot)
      expected.push_back({p.parameter(slot).name, mpt::DType::f32, p.parameter(slot).shape});
    mpt::TensorDifferences differences = reader.compare(expected, reader.is_own() ? mpt::checkpoint_state_prefix : "");
    if (o.allow_missing) differences.missing.clear();
    if (o.allow_unexpected) differences.unexpected.clear();
    if (!differences.empty())
      mpt::fail(MPT_ERROR_INVALID_ARGUMENT, "'%s' does not fit the parameters: %s", path, differences.text().c_str());
    std::vector<std::vector<float>> values(static_cast<std::size_t>(p.count()));
    for (int32_t slot = 0; slot < p.count(); ++slot) {
      if (!reader.contains(p.parameter(slot).name)) continue;
      values[slot].resize(static_cast<std::size_t>(p.parameter(slot).count));
      reader.read(p.parameter(slot).name, mpt::DType::f32, p.parameter(slot).shape, values[slot].data());
    }
    for (int32_t slot = 0; slot < p.count(); ++slot)
      if (!values[slot].empty()) p.write_master(slot, values[slot].data());
  });
}

}  // extern "C"
