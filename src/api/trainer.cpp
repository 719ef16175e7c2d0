#include "api/builder.h"

using mpt::checked;
using mpt::guarded;

namespace {

mpt_trainer_options default_options() {
  mpt_trainer_options o{};
  o.struct_size = sizeof o;
  o.accumulation_steps = 1;
  o.max_plans = 8;
  return o;
}

void check_result(mpt_step_result* result) {
  if (result) mpt::write_struct("mpt_step_result", result, mpt_step_result{});
}

void write_result(mpt_step_result* result, const mpt_step_result& r) {
  if (result) mpt::write_struct("mpt_step_result", result, r);
}

}  // namespace

extern "C" {

mpt_status mpt_trainer_options_init(mpt_trainer_options* options, uint64_t struct_size) {
  return guarded("mpt_trainer_options_init",
                 [&] { mpt::init_struct("mpt_trainer_options", options, struct_size, default_options()); });
}

mpt_status mpt_trainer_create(mpt_trainer** out, mpt_tensor loss, mpt_params* params, mpt_optimizer* optimizer,
                              mpt_scaler* scaler, const mpt_trainer_options* options) {
  return mpt::created("mpt_trainer_create", out, [&](mpt_trainer& handle) {
    const mpt::Call call(checked(params, "params").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(params->model, "the parameter store was made without a model");
    params->model->throw_error();
    mpt::require_tensor(params->model->graph, loss, "loss");
    if (optimizer) checked(optimizer, "optimizer");
    if (scaler)
      MPT_CHECK_ARGUMENT(checked(scaler, "scaler").context == params->context,
                         "scaler and params are of different contexts");
    const mpt_trainer_options o = mpt::read_options("mpt_trainer_options", options, default_options());
    std::shared_ptr<mpt::Workspace> workspace;
    if (o.workspace) {
      MPT_CHECK_ARGUMENT(checked(o.workspace, "options.workspace").context == params->context,
                         "options.workspace and params are of different contexts");
      workspace = o.workspace->workspace;
    } else {
      workspace = std::make_shared<mpt::Workspace>(params->context, 0, 0);
    }
    handle.context = params->context;
    handle.model = params->model;
    handle.trainer = std::make_unique<mpt::Trainer>(params->model, params->params, workspace, loss,
                                                    optimizer ? optimizer->optimizer : nullptr,
                                                    scaler ? scaler->scaler : nullptr, o);
  });
}

mpt_status mpt_trainer_add_objective(mpt_trainer* trainer, mpt_tensor loss, mpt_optimizer* optimizer,
                                     mpt_scaler* scaler) {
  return guarded("mpt_trainer_add_objective", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    mpt::require_tensor(trainer->model->graph, loss, "loss");
    checked(optimizer, "optimizer");
    if (scaler)
      MPT_CHECK_ARGUMENT(checked(scaler, "scaler").context == trainer->context,
                         "scaler and trainer are of different contexts");
    trainer->trainer->add_objective(loss, optimizer->optimizer, scaler ? scaler->scaler : nullptr);
  });
}

void mpt_trainer_destroy(mpt_trainer* trainer) { mpt::destroy_handle(trainer); }

mpt_status mpt_trainer_step(mpt_trainer* trainer, const mpt_array* inputs, int32_t n_inputs, mpt_step_result* result) {
  return guarded("mpt_trainer_step", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    check_result(result);
    mpt_step_result r{};
    struct Write {  // also when a callback ended the call: the step itself is complete
      mpt_step_result* to;
      const mpt_step_result& from;
      ~Write() {
        if (!to) return;
        const uint32_t size = to->struct_size;
        std::memcpy(static_cast<void*>(to), &from, std::min<std::size_t>(size, sizeof from));
        to->struct_size = size;
      }
    } write{result, r};
    trainer->trainer->step({inputs, n_inputs}, result ? &r : nullptr);
  });
}

mpt_status mpt_trainer_backward(mpt_trainer* trainer, const mpt_array* inputs, int32_t n_inputs, double* out_loss) {
  return guarded("mpt_trainer_backward", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    const double loss = trainer->trainer->backward({inputs, n_inputs});
    if (out_loss) *out_loss = loss;
  });
}

mpt_status mpt_trainer_update(mpt_trainer* trainer, mpt_step_result* result) {
  return guarded("mpt_trainer_update", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    check_result(result);
    mpt_step_result r{};
    trainer->trainer->update(&r);
    write_result(result, r);
  });
}

mpt_status mpt_trainer_objective_result(mpt_trainer* trainer, int32_t objective, mpt_step_result* result) {
  return guarded("mpt_trainer_objective_result", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(result, "result is NULL");
    write_result(result, trainer->trainer->objective_result(objective));
  });
}

mpt_status mpt_trainer_evaluate(mpt_trainer* trainer, const mpt_array* inputs, int32_t n_inputs, int32_t use_average,
                                double* out_loss) {
  return guarded("mpt_trainer_evaluate", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(out_loss, "out_loss is NULL");
    *out_loss = trainer->trainer->evaluate({inputs, n_inputs}, use_average != 0);
  });
}

mpt_status mpt_trainer_predict(mpt_trainer* trainer, const mpt_array* inputs, int32_t n_inputs,
                               const mpt_array* outputs, int32_t n_outputs) {
  return guarded("mpt_trainer_predict", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    trainer->trainer->predict({inputs, n_inputs}, outputs, n_outputs);
  });
}

mpt_status mpt_trainer_keep(mpt_trainer* trainer, const char* name) {
  return guarded("mpt_trainer_keep", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(name, "name is NULL");
    trainer->trainer->keep(name);
  });
}

mpt_status mpt_trainer_fetch(mpt_trainer* trainer, const mpt_array* out) {
  return guarded("mpt_trainer_fetch", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    trainer->trainer->fetch(*out);
  });
}

mpt_status mpt_trainer_cancel(mpt_trainer* trainer) {
  return guarded("mpt_trainer_cancel",
                 [&] { checked(trainer, "trainer").trainer->cancel(); });  // any thread, at any time
}

mpt_status mpt_trainer_memory(mpt_trainer* trainer, mpt_memory_report* out) {
  return guarded("mpt_trainer_memory", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    mpt_memory_report report{};
    trainer->trainer->memory(&report);
    mpt::write_struct("mpt_memory_report", out, report);
  });
}

mpt_status mpt_trainer_dump(mpt_trainer* trainer, char* buffer, uint64_t capacity, uint64_t* out_needed) {
  return guarded("mpt_trainer_dump", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::read);
    mpt::copy_text(trainer->trainer->text(), buffer, capacity, out_needed);
  });
}

mpt_status mpt_trainer_save(mpt_trainer* trainer, const char* path) {
  return guarded("mpt_trainer_save", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::read);
    MPT_CHECK_ARGUMENT(path && *path, "path is NULL or empty");
    trainer->trainer->save(path);
  });
}

mpt_status mpt_trainer_load(mpt_trainer* trainer, const char* path) {
  return guarded("mpt_trainer_load", [&] {
    const mpt::Call call(checked(trainer, "trainer").context, mpt::Context::Access::use);
    MPT_CHECK_ARGUMENT(path && *path, "path is NULL or empty");
    trainer->trainer->load(path);
  });
}

}  // extern "C"
