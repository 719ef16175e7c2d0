// Bytes by class for a plan and what it trains with, and the same in FP32.
#pragma once

#include "runtime/optimizer.h"
#include "runtime/plan.h"

namespace mpt {

// `plan`: compiled for `request` already; null: compiled here. Fills all of `out` but struct_size.
void report_memory(const std::shared_ptr<Context>& context, const Model& model, const Params& params,
                   const PlanRequest& request, const std::vector<const Optimizer*>& optimizers, const Plan* plan,
                   mpt_memory_report* out);

}  // namespace mpt
