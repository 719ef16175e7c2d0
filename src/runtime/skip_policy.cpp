// What happens when too many steps in a row were skipped with the scale at its floor.
#include "runtime/trainer.h"

namespace mpt {

// Replays the step on its batch and tells the first non-finite value: op, pass, tensor, element. `op`: the user's op.
std::string Trainer::blame(Objective& objective, const Batch& batch, std::string* op) {
  Plan& plan =
      training_plan(objective, bind_sizes(model_->graph, model_->context->backend(), batch.inputs, batch.count));
  stage_inputs(plan, model_->context->backend(), batch.inputs, batch.count);
  struct Work {
    Plan& plan;
    StepVars vars;
    Plan::Blame blame;
  } work{plan, step_vars(objective), {}};
  workspace_->writer = this;
  model_->context->backend().execute(
      [](void* argument) {
        auto& w = *static_cast<Work*>(argument);
        w.blame = w.plan.find_non_finite(w.vars);
      },
      &work);
  if (!work.blame.node) return {};
  const Node& node = *work.blame.node;
  for (const Node& own : model_->graph.nodes)
    if (own.stream_id == node.stream_id && node.stream_id != 0) *op = own.name;
  return "the first non-finite value is " + std::to_string(work.blame.found) + " at element " +
         std::to_string(work.blame.element) + " of " + plan.graph().describe(work.blame.value) + ", written by '" +
         (op->empty() ? node.name : *op) + "' in the " + (node.backward ? "backward" : "forward") + " pass";
}

void Trainer::apply_skip_policy(Objective& objective, const GradientCheck& check, int32_t skips_in_a_row,
                                const Batch* batch) {
  const int32_t policy = objective.scaler->skip_policy();
  if (policy == MPT_SKIP_CONTINUE) return;
  std::string op, text;
  // The gradients of earlier micro-steps can't be replayed; the last batch is what there is.
  if (batch) text = blame(objective, *batch, &op);
  if (policy == MPT_SKIP_DEMOTE && !op.empty() && demoted_.insert(op).second) {
    model_->context->log(MPT_LOG_WARNING, "'%s' is kept in FP32 from now on: %s", op.c_str(), text.c_str());
    plans_.clear();  // they were compiled without it
    last_plan_ = nullptr;
    return;
  }
  fail(MPT_ERROR_NUMERIC, "%d steps in a row were skipped at the least scale %g: %s%s%s", skips_in_a_row,
       objective.scaler->scale(), check.text(*params_).c_str(), text.empty() ? "" : "; ", text.c_str());
}

}  // namespace mpt
