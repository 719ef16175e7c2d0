#include "api/handles.h"
#include "runtime/host_array.h"
#include "runtime/schedule.h"

using mpt::checked;
using mpt::guarded;

namespace {

mpt_schedule_options default_schedule() {
  mpt_schedule_options o{};
  o.struct_size = sizeof o;
  o.step_size = 1000;
  o.gamma = 0.1;
  o.power = 1;
  return o;
}

mpt_group_options default_group() {
  mpt_group_options o{};
  o.struct_size = sizeof o;
  o.learning_rate_factor = 1;
  o.weight_decay = -1;
  return o;
}

}  // namespace

extern "C" {

mpt_status mpt_schedule_options_init(mpt_schedule_options* options, uint64_t struct_size) {
  return guarded("mpt_schedule_options_init",
                 [&] { mpt::init_struct("mpt_schedule_options", options, struct_size, default_schedule()); });
}

mpt_status mpt_schedule_factor(const mpt_schedule_options* options, int64_t step, double* out_factor) {
  return guarded("mpt_schedule_factor", [&] {
    MPT_CHECK_ARGUMENT(out_factor, "out_factor is NULL");
    MPT_CHECK_ARGUMENT(step >= 0, "step is %lld, expected at least 0", static_cast<long long>(step));
    const mpt_schedule_options o = mpt::read_options("mpt_schedule_options", options, default_schedule());
    *out_factor = mpt::Schedule(o, "mpt_schedule_factor").factor(static_cast<uint64_t>(step));
  });
}

mpt_status mpt_optimizer_options_init(mpt_optimizer_options* options, uint64_t struct_size) {
  return guarded("mpt_optimizer_options_init", [&] {
    mpt::init_struct("mpt_optimizer_options", options, struct_size,
                     mpt::Optimizer::default_options(MPT_ADAMW, "mpt_optimizer_options_init"));
  });
}

mpt_status mpt_optimizer_options_init_kind(mpt_optimizer_options* options, uint64_t struct_size,
                                           mpt_optimizer_kind kind) {
  return guarded("mpt_optimizer_options_init_kind", [&] {
    mpt::init_struct("mpt_optimizer_options", options, struct_size,
                     mpt::Optimizer::default_options(kind, "mpt_optimizer_options_init_kind"));
  });
}

mpt_status mpt_group_options_init(mpt_group_options* options, uint64_t struct_size) {
  return guarded("mpt_group_options_init",
                 [&] { mpt::init_struct("mpt_group_options", options, struct_size, default_group()); });
}

mpt_status mpt_update_statistics_init(mpt_update_statistics* statistics, uint64_t struct_size) {
  return guarded("mpt_update_statistics_init",
                 [&] { mpt::init_struct("mpt_update_statistics", statistics, struct_size, mpt_update_statistics{}); });
}

mpt_status mpt_step_result_init(mpt_step_result* result, uint64_t struct_size) {
  return guarded("mpt_step_result_init",
                 [&] { mpt::init_struct("mpt_step_result", result, struct_size, mpt_step_result{}); });
}

mpt_status mpt_optimizer_create(mpt_optimizer** out, mpt_params* params, const mpt_optimizer_options* options) {
  return mpt::created("mpt_optimizer_create", out, [&](mpt_optimizer& handle) {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    const mpt_optimizer_options defaults = mpt::Optimizer::default_options(MPT_ADAMW, "mpt_optimizer_create");
    mpt_optimizer_options o = mpt::read_options("mpt_optimizer_options", options, defaults);
    mpt_schedule_options schedule{};
    if (o.schedule) {
      schedule = mpt::read_options("mpt_schedule_options", o.schedule, default_schedule());
      o.schedule = &schedule;
    }
    if (!params->params->allocated())
      mpt::fail(MPT_ERROR_INVALID_STATE, "the store has no memory yet: call mpt_params_allocate first");
    handle.context = params->context;
    handle.optimizer = std::make_shared<mpt::Optimizer>(params->params, o);
  });
}

void mpt_optimizer_destroy(mpt_optimizer* optimizer) { mpt::destroy_handle(optimizer); }

mpt_status mpt_optimizer_add_group(mpt_optimizer* optimizer, const char* pattern, const mpt_group_options* options,
                                   int32_t* out_matched) {
  return guarded("mpt_optimizer_add_group", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(pattern, "pattern is NULL");
    const mpt_group_options o = mpt::read_options("mpt_group_options", options, default_group());
    const int32_t matched = optimizer->optimizer->add_group(pattern, o, "mpt_optimizer_add_group");
    if (out_matched) *out_matched = matched;
  });
}

mpt_status mpt_optimizer_set_learning_rate(mpt_optimizer* optimizer, double learning_rate) {
  return guarded("mpt_optimizer_set_learning_rate", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::use);
    optimizer->optimizer->set_learning_rate(learning_rate, "mpt_optimizer_set_learning_rate");
  });
}

mpt_status mpt_optimizer_learning_rate(mpt_optimizer* optimizer, double* out) {
  return guarded("mpt_optimizer_learning_rate", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    *out = optimizer->optimizer->learning_rate();
  });
}

mpt_status mpt_optimizer_step(mpt_optimizer* optimizer, mpt_scaler* scaler, mpt_step_result* result) {
  return guarded("mpt_optimizer_step", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::use);
    if (scaler)
      MPT_CHECK_ARGUMENT(checked(scaler, "scaler").context == optimizer->context,
                         "optimizer and scaler are of different contexts");
    mpt_step_result r{};
    if (result) mpt::write_struct("mpt_step_result", result, r);
    optimizer->optimizer->step(scaler ? scaler->scaler.get() : nullptr, &r);
    if (result) mpt::write_struct("mpt_step_result", result, r);
  });
}

mpt_status mpt_optimizer_get_average(mpt_optimizer* optimizer, const char* name, const mpt_array* array) {
  return guarded("mpt_optimizer_get_average", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(name && array, "name or array is NULL");
    const mpt::Params& params = *optimizer->optimizer->params();
    const int32_t slot = params.find(name);
    MPT_CHECK_ARGUMENT(slot >= 0, "the store has no parameter '%s'", name);
    mpt::check_array(*array, "'" + std::string(name) + "'");
    const float* average = optimizer->optimizer->average(slot);
    if (!average)
      mpt::fail(MPT_ERROR_INVALID_STATE, "'%s' has no weight average: set average_decay in the optimizer's options",
                name);
    std::vector<float> host(static_cast<std::size_t>(params.parameter(slot).count));
    params.backend()->copy_out(host.data(), average, host.size() * sizeof(float));
    mpt::write_array(host.data(), mpt::DType::f32, params.parameter(slot).shape, *array, "'" + std::string(name) + "'");
  });
}

mpt_status mpt_optimizer_statistics(mpt_optimizer* optimizer, mpt_update_statistics* out) {
  return guarded("mpt_optimizer_statistics", [&] {
    const mpt::Call call(checked(optimizer, "optimizer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    mpt::write_struct("mpt_update_statistics", out, optimizer->optimizer->statistics());
  });
}

}  // extern "C"
