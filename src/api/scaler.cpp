#include "api/handles.h"

using mpt::checked;
using mpt::guarded;

namespace {

mpt_scaler_options default_options() {
  mpt_scaler_options o{};
  o.struct_size = sizeof o;
  o.mode = MPT_SCALER_DYNAMIC;
  o.initial_scale = 65536;
  o.growth_factor = 2;
  o.backoff_factor = 0.5;
  o.growth_interval = 2000;
  o.hysteresis = 1;
  o.min_scale = 1;
  o.max_scale = 16777216;
  o.skip_limit = 100;
  o.skip_policy = MPT_SKIP_FAIL;
  return o;
}

}  // namespace

extern "C" {

mpt_status mpt_scaler_options_init(mpt_scaler_options* options, uint64_t struct_size) {
  return guarded("mpt_scaler_options_init",
                 [&] { mpt::init_struct("mpt_scaler_options", options, struct_size, default_options()); });
}

mpt_status mpt_scaler_state_init(mpt_scaler_state* state, uint64_t struct_size) {
  return guarded("mpt_scaler_state_init",
                 [&] { mpt::init_struct("mpt_scaler_state", state, struct_size, mpt_scaler_state{}); });
}

mpt_status mpt_scaler_create(mpt_scaler** out, mpt_context* context, const mpt_scaler_options* options) {
  return mpt::created("mpt_scaler_create", out, [&](mpt_scaler& handle) {
    const mpt::Call call(checked(context, "context").context, mpt::Context::Access::use);
    handle.context = context->context;
    handle.scaler = std::make_shared<mpt::Scaler>(mpt::read_options("mpt_scaler_options", options, default_options()));
  });
}

void mpt_scaler_destroy(mpt_scaler* scaler) { mpt::destroy_handle(scaler); }

mpt_status mpt_scaler_get_state(mpt_scaler* scaler, mpt_scaler_state* out) {
  return guarded("mpt_scaler_get_state", [&] {
    const mpt::Call call(checked(scaler, "scaler").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    mpt_scaler_state state{};
    scaler->scaler->describe(&state);
    mpt::write_struct("mpt_scaler_state", out, state);
  });
}

mpt_status mpt_scaler_begin(mpt_scaler* scaler, mpt_params* params, double* out_scale) {
  return guarded("mpt_scaler_begin", [&] {
    const mpt::Call call(checked(scaler, "scaler").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(checked(params, "params").context == scaler->context,
                       "scaler and params are of different contexts");
    MPT_CHECK_ARGUMENT(out_scale, "out_scale is NULL");
    if (!params->params->allocated())
      mpt::fail(MPT_ERROR_INVALID_STATE, "the store has no memory yet: call mpt_params_allocate first");
    params->params->begin_gradients(scaler->scaler.get());
    *out_scale = scaler->scaler->scale();
  });
}

mpt_status mpt_scaler_unscale(mpt_scaler* scaler, mpt_params* params) {
  return guarded("mpt_scaler_unscale", [&] {
    const mpt::Call call(checked(scaler, "scaler").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(checked(params, "params").context == scaler->context,
                       "scaler and params are of different contexts");
    if (!params->params->allocated())
      mpt::fail(MPT_ERROR_INVALID_STATE, "the store has no memory yet: call mpt_params_allocate first");
    params->params->unscale_gradients(*scaler->scaler, "mpt_scaler_unscale");
  });
}

}  // extern "C"
