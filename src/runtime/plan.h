// A model compiled for actual sizes, a precision and a device: prepared kernels with offsets, run one after another.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "passes/memory_plan.h"
#include "runtime/model.h"
#include "runtime/params.h"

namespace mpt {

struct PlanRequest {
  std::vector<ValueId> outputs;          // of the model; computed and kept
  ValueId loss = none;                   // of the model; none: forward only, dropout off
  std::map<std::string, int64_t> sizes;  // of named dimensions
  bool accumulate = false;               // gradients are added up over micro-steps, in FP32
  std::vector<bool> parameters;          // by slot: differentiate with respect to it
  std::vector<ValueId> keep;             // of the model: readable after the run
  std::vector<ValueId> keep_gradients;   // of the model: their gradients are
  uint64_t activation_budget = 0;
  bool fp32_weights = false;      // parameters are read in FP32: evaluation with weight averages
  std::set<std::string> demoted;  // ops kept in FP32 beyond the model's own overrides
};

class Plan {
 public:
  // precision: the store's, or another for reports (such a plan can't be bound).
  Plan(std::shared_ptr<Context> context, const Model& model, const Params& params, const PlanRequest& request,
       mpt_precision precision);

  // ---- what came of it
  const Graph& graph() const { return graph_; }
  const MemoryPlan& memory() const { return memory_; }
  uint64_t activation_bytes() const { return memory_.activation_bytes + constants_.bytes(); }
  uint64_t scratch_bytes() const { return memory_.scratch_bytes; }
  double flops() const { return flops_; }
  double recomputed_flops() const { return recomputed_flops_; }
  ValueId value_of(ValueId in_model) const { return value_of_[in_model]; }
  ValueId gradient_of(ValueId in_model) const;
  const std::vector<int32_t>& gradient_slots() const { return gradient_slots_; }  // parameters that get a gradient
  bool is_kept(ValueId value) const;                                              // readable after the run
  std::string text() const;

  // ---- running
  // Resolves pointers: parameters in the store (their averages where `averages` has one), the rest in the workspace.
  void bind(const Params& params, void* workspace, const std::vector<float*>* averages = nullptr);
  void* pointer(ValueId value) const { return pointers_[value]; }
  // Inside the backend's threads. Throws CANCELLED as soon as `cancel` is set.
  void run(const StepVars& vars, const std::atomic<bool>* cancel);
  // The same with variables that kernels can read where they are; on a device that works later, enqueues.
  void launch(const StepVars* placed, const std::atomic<bool>* cancel = nullptr);

  // Replays the step one kernel at a time, inputs staged anew, and stops at the first non-finite value.
  struct Blame {
    const Node* node = nullptr;  // none: everything was finite
    ValueId value = none;
    int64_t element = -1;
    double found = 0;
  };
  Blame find_non_finite(const StepVars& vars);

 private:
  struct Launch {
    NodeId node;
    const Kernel* kernel;
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    void* scratch;
  };

  void apply_overrides(const Model& model, const PlanRequest& request);
  void place_parameters(const Params& params);
  void store_constants();
  void prepare_kernels(std::vector<uint64_t>* scratch);

  std::shared_ptr<Context> context_;
  Graph graph_;
  std::vector<ValueId> value_of_;     // by id in the model
  std::vector<ValueId> gradient_of_;  // by id in graph_
  std::vector<int32_t> gradient_slots_;
  std::vector<ValueId> kept_;
  MemoryPlan memory_;
  double flops_ = 0, recomputed_flops_ = 0;
  std::vector<std::unique_ptr<Kernel>> kernels_;  // by node; null for views
  DeviceBuffer constants_;
  std::vector<uint64_t> constant_offset_;  // by value
  std::vector<void*> pointers_;            // by value
  std::vector<Launch> launches_;
};

}  // namespace mpt
