// Runs training steps: one plan per shape, one workspace, one or several objectives.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device_steps.h"
#include "runtime/inputs.h"
#include "runtime/optimizer.h"
#include "runtime/plan.h"
#include "runtime/workspace.h"

namespace mpt {

// A batch as the caller described it.
struct Batch {
  const mpt_array* inputs;
  int32_t count;
};

class Trainer {
 public:
  Trainer(std::shared_ptr<Model> model, std::shared_ptr<Params> params, std::shared_ptr<Workspace> workspace,
          ValueId loss, std::shared_ptr<Optimizer> optimizer, std::shared_ptr<Scaler> scaler,
          const mpt_trainer_options& options);
  ~Trainer();
  void add_objective(ValueId loss, std::shared_ptr<Optimizer> optimizer, std::shared_ptr<Scaler> scaler);

  void step(const Batch& batch, mpt_step_result* result);
  double backward(const Batch& batch);
  void update(mpt_step_result* result);
  const mpt_step_result& objective_result(int32_t objective);

  double evaluate(const Batch& batch, bool use_average);
  void predict(const Batch& batch, const mpt_array* outputs, int32_t n_outputs);
  void keep(const std::string& name);
  void fetch(const mpt_array& out);
  void cancel() { cancelled_.store(true); }

  void memory(mpt_memory_report* out);
  std::string text() const;
  void save(const std::string& path);
  void load(const std::string& path);

 private:
  struct Objective {
    ValueId loss;
    std::shared_ptr<Optimizer> optimizer;
    std::shared_ptr<Scaler> scaler;
    bool shared = false;  // another objective has the same optimizer
    double loss_sum = 0;  // over the micro-steps gathered
    double scale = 1;     // that its last backward pass used
    bool finite = true;   // all its gradients since the last update
    mpt_step_result result{};
    std::unique_ptr<DeviceSteps> device;  // where a device decides on its steps
    double device_scale = 1;              // of the gradients that the device's last known step left
  };
  struct CachedPlan {
    std::string key;
    PlanRequest request;
    std::unique_ptr<Plan> plan;
    uint64_t workspace_generation = ~uint64_t{0};
    uint64_t params_layout = ~uint64_t{0};
    std::unique_ptr<StepProgram> gather, update;  // of a device that decides for itself
  };

  // ---- plans (trainer_plans.cpp)
  Plan& prepare(const std::string& kind, PlanRequest request, bool averages);
  Plan& training_plan(const Objective& objective, Sizes sizes);
  void run(Plan& plan, const StepVars& vars);
  StepVars step_vars(const Objective& objective) const;
  std::vector<float*> averages() const;

  std::vector<Optimizer*> distinct_optimizers() const;

  // ---- steps
  void require_trainable(const char* what) const;
  bool uses_sums(const Objective& objective) const;
  void check_batch(const Batch& batch, const Sizes& sizes);
  void backward_objective(Objective& objective, const Batch& batch, const Sizes& sizes);
  void update_objectives(Optimizer& optimizer, const Batch* batch);
  void fill_result(Objective& objective, const GradientCheck& check, const UpdateReport& report, bool applied);
  void finish_pass(bool last, mpt_step_result* result);
  void abandon_batch() noexcept;
  void begin_call();
  // What to do when too many steps in a row were skipped at the scale's floor: throws NUMERIC, or demotes an op.
  void apply_skip_policy(Objective& objective, const GradientCheck& check, int32_t skips_in_a_row, const Batch* batch);
  std::string blame(Objective& objective, const Batch& batch, std::string* op);
  void report_progress();

  // ---- steps that the device decides on (trainer_device.cpp)
  bool device_decides() const;
  void step_on_device(const Batch& batch, const Sizes& sizes, mpt_step_result* result);
  void enqueue_pass(Objective& objective, const Batch& batch, const Sizes& sizes, bool last);
  void hear(Objective& objective, const StepOutcome& outcome, const Batch* batch);
  void hear_all(bool wait, const Batch* batch);
  void read_value(const Plan& plan, ValueId value, const mpt_array& out, const std::string& who);

  std::shared_ptr<Model> model_;
  std::shared_ptr<Params> params_;
  std::shared_ptr<Workspace> workspace_;
  std::vector<Objective> objectives_;
  int32_t accumulation_steps_;
  uint64_t activation_budget_;
  int32_t max_plans_;
  bool eager_;
  mpt_progress_function progress_;
  void* progress_user_;
  uint64_t seed_;

  std::list<CachedPlan> plans_;  // most recently used first
  std::vector<std::string> kept_;
  std::set<std::string> demoted_;
  Plan* last_plan_ = nullptr;     // of the last training pass
  bool values_readable_ = false;  // the workspace still holds that pass's values
  PlanRequest last_request_;
  bool has_last_request_ = false;
  int32_t micro_step_ = 0;      // gathered so far
  bool backward_done_ = false;  // by mpt_trainer_backward; the update is due
  bool split_ = false;          // backward and update are separate calls
  bool started_ = false;
  std::atomic<bool> cancelled_{false};
};

}  // namespace mpt
