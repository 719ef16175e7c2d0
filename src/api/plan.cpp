#include "api/builder.h"
#include "runtime/memory_report.h"

using mpt::checked;
using mpt::guarded;

namespace {

const mpt_plan_options default_options{sizeof(mpt_plan_options), 1, 0, nullptr, 0};

}  // namespace

extern "C" {

mpt_status mpt_memory_report_init(mpt_memory_report* report, uint64_t struct_size) {
  return guarded("mpt_memory_report_init",
                 [&] { mpt::init_struct("mpt_memory_report", report, struct_size, mpt_memory_report{}); });
}

mpt_status mpt_plan_options_init(mpt_plan_options* options, uint64_t struct_size) {
  return guarded("mpt_plan_options_init",
                 [&] { mpt::init_struct("mpt_plan_options", options, struct_size, default_options); });
}

mpt_status mpt_plan_create(mpt_plan** out, mpt_params* params, int32_t n_outputs, const mpt_tensor* outputs,
                           int32_t n_dims, const char* const* dim_names, const int64_t* dim_sizes,
                           const mpt_plan_options* options) {
  return mpt::created("mpt_plan_create", out, [&](mpt_plan& handle) {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(params->model, "the parameter store was made without a model");
    params->model->throw_error();
    const mpt_plan_options o = mpt::read_options("mpt_plan_options", options, default_options);
    MPT_CHECK_ARGUMENT(n_outputs >= 1 && outputs, "n_outputs is %d or outputs is NULL, expected at least one",
                       n_outputs);
    MPT_CHECK_ARGUMENT(n_dims >= 0 && (n_dims == 0 || (dim_names && dim_sizes)), "n_dims is %d or an array is NULL",
                       n_dims);
    mpt::PlanRequest& request = handle.request;
    for (int32_t i = 0; i < n_outputs; ++i) {
      mpt::require_tensor(params->model->graph, outputs[i], "an output");
      request.outputs.push_back(outputs[i]);
    }
    for (int32_t i = 0; i < n_dims; ++i) {
      MPT_CHECK_ARGUMENT(dim_names[i] && dim_sizes[i] > 0, "dimension %d has no name or size %lld, expected at least 1",
                         i, static_cast<long long>(dim_sizes[i]));
      request.sizes[dim_names[i]] = dim_sizes[i];
    }
    if (o.training) request.loss = outputs[0];
    request.accumulate = o.accumulate != 0;
    request.activation_budget = o.activation_budget;
    if (o.optimizer) {
      MPT_CHECK_ARGUMENT(checked(o.optimizer, "options.optimizer").optimizer->params() == params->params,
                         "options.optimizer belongs to another parameter store");
      handle.optimizer = o.optimizer->optimizer;
      request.parameters.assign(static_cast<std::size_t>(params->params->count()), false);
      for (int32_t slot : handle.optimizer->slots()) request.parameters[slot] = handle.optimizer->trains(slot);
    }
    handle.context = params->context;
    handle.params = params->params;
    handle.model = params->model;
    handle.plan = std::make_unique<mpt::Plan>(params->context, *params->model, *params->params, request,
                                              params->params->config().precision);
  });
}

void mpt_plan_destroy(mpt_plan* plan) { mpt::destroy_handle(plan); }

mpt_status mpt_plan_memory(mpt_plan* plan, mpt_memory_report* out) {
  return guarded("mpt_plan_memory", [&] {
    const mpt::Call call(checked(plan, "plan").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    mpt_memory_report report{};
    mpt::report_memory(plan->context, *plan->model, *plan->params, plan->request, {plan->optimizer.get()},
                       plan->plan.get(), &report);
    mpt::write_struct("mpt_memory_report", out, report);
  });
}

mpt_status mpt_plan_dump(mpt_plan* plan, char* buffer, uint64_t capacity, uint64_t* out_needed) {
  return guarded("mpt_plan_dump", [&] {
    const mpt::Call call(checked(plan, "plan").context, mpt::Context::Access::read);
    mpt::copy_text(plan->plan->text(), buffer, capacity, out_needed);
  });
}

}  // extern "C"
