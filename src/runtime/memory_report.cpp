#include "runtime/memory_report.h"

namespace mpt {

void report_memory(const std::shared_ptr<Context>& context, const Model& model, const Params& params,
                   const PlanRequest& request, const std::vector<const Optimizer*>& optimizers, const Plan* plan,
                   mpt_memory_report* out) {
  std::unique_ptr<Plan> own;
  if (!plan) {
    own = std::make_unique<Plan>(context, model, params, request, params.config().precision);
    plan = own.get();
  }
  const uint32_t struct_size = out->struct_size;
  *out = mpt_memory_report{};
  out->struct_size = struct_size;
  const ParamsBytes bytes = params.planned_bytes();
  out->master = bytes.master;
  out->copy16 = bytes.copy16;
  out->gradients = bytes.gradients;
  for (const Optimizer* optimizer : optimizers) {
    if (!optimizer) continue;
    out->optimizer += optimizer->state_bytes();
    out->gradients += optimizer->sums_bytes();
  }
  out->activations = plan->activation_bytes();
  out->scratch = plan->scratch_bytes();
  out->total =
      out->master + out->copy16 + out->gradients + out->optimizer + out->activations + out->scratch + out->library;
  out->flops = static_cast<uint64_t>(plan->flops());
  out->recomputed_flops = static_cast<uint64_t>(plan->recomputed_flops());

  PlanRequest fp32 = request;
  fp32.activation_budget = 0;
  const Plan reference(context, model, params, fp32, MPT_PRECISION_FP32);
  const ParamsBytes fp32_bytes = params.planned_bytes(MPT_PRECISION_FP32);
  out->fp32_activations = reference.activation_bytes();
  out->fp32_scratch = reference.scratch_bytes();
  out->fp32_total = fp32_bytes.master + fp32_bytes.copy16 + fp32_bytes.gradients + out->optimizer +
                    out->fp32_activations + out->fp32_scratch;
  for (const Optimizer* optimizer : optimizers)
    if (optimizer) out->fp32_total += optimizer->sums_bytes();
}

}  // namespace mpt
