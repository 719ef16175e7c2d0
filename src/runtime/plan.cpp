#include "runtime/plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "graph/op_def.h"
#include "passes/autodiff.h"
#include "passes/fusion.h"
#include "passes/instantiate.h"
#include "passes/order.h"
#include "passes/precision.h"
#include "passes/recompute.h"
#include "runtime/host_array.h"
#include "runtime/inputs.h"

namespace mpt {

Plan::Plan(std::shared_ptr<Context> context, const Model& model, const Params& params, const PlanRequest& request,
           mpt_precision precision)
    : context_(std::move(context)) {
  const bool training = request.loss != none;
  InstantiateOptions instantiation{request.outputs, request.sizes, training};
  if (training) instantiation.outputs.push_back(request.loss);
  instantiation.outputs.insert(instantiation.outputs.end(), request.keep.begin(), request.keep.end());
  Instance instance = instantiate(model.graph, instantiation);
  graph_ = std::move(instance.graph);
  value_of_ = std::move(instance.value_of);
  apply_overrides(model, request);

  bool fp32_gradients = request.accumulate;
  for (int32_t slot = 0; slot < params.count(); ++slot)
    if (!params.parameter(slot).keep_fp32 && params.dtype(slot, Part::gradient) == DType::f32) fp32_gradients = true;
  if (training) {
    DifferentiateOptions options;
    options.accumulate = request.accumulate;
    options.parameters = request.parameters;
    const Differentiated result = differentiate(graph_, value_of_[request.loss], options);
    gradient_of_ = result.gradient_of;
    for (std::size_t slot = 0; slot < result.parameter_gradients.size(); ++slot)
      if (result.parameter_gradients[slot] != none) gradient_slots_.push_back(static_cast<int32_t>(slot));
  }
  for (ValueId id : instantiation.outputs) kept_.push_back(value_of_[id]);
  for (ValueId id : request.keep_gradients)
    if (const ValueId gradient = gradient_of(id); gradient != none) kept_.push_back(gradient);

  if (request.fp32_weights)
    for (Value& value : graph_.values)
      if (value.role == Role::parameter) value.narrow = false;
  assign_precision(graph_, PrecisionPolicy{precision, fp32_gradients, false});
  place_parameters(params);
  fuse(graph_, kept_);
  order_nodes(graph_, kept_);
  recomputed_flops_ = recompute(graph_, kept_, request.activation_budget).extra_flops;

  std::vector<uint64_t> scratch;
  prepare_kernels(&scratch);
  memory_ = plan_memory(graph_, scratch, kept_);
  store_constants();
}

ValueId Plan::gradient_of(ValueId in_model) const {
  const ValueId value = value_of_[in_model];
  return value == none || value >= static_cast<ValueId>(gradient_of_.size()) ? none : gradient_of_[value];
}

void Plan::apply_overrides(const Model& model, const PlanRequest& request) {
  for (Node& node : graph_.nodes) {
    const auto op_class = static_cast<std::size_t>(op_def(node.kind).op_class);
    node.keep_fp32 = model.class_keeps_fp32[op_class] || request.demoted.count(node.name) != 0;
    if (const auto own = model.op_keeps_fp32.find(node.name); own != model.op_keeps_fp32.end())
      node.keep_fp32 = own->second || request.demoted.count(node.name) != 0;
  }
}

// Without a master copy (the ablation) nothing but the 16-bit weights can be read.
void Plan::place_parameters(const Params& params) {
  for (Value& value : graph_.values) {
    if (value.role != Role::parameter) continue;
    if (value.slot >= params.count())
      fail(MPT_ERROR_INVALID_STATE, "parameter '%s' was added to the model after the parameter store was made",
           value.name.c_str());
    if (value.form == ParamForm::master && value.narrow && !params.has_fp32_master(value.slot)) {
      value.form = ParamForm::copy;
      value.dtype = params.dtype(value.slot, Part::copy);
    }
  }
}

void Plan::prepare_kernels(std::vector<uint64_t>* scratch) {
  kernels_.resize(graph_.nodes.size());
  scratch->assign(graph_.nodes.size(), 0);
  for (std::size_t n = 1; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    const Cost cost = op_def(node.kind).cost(graph_, node);
    flops_ += cost.flops;
    if (node.kind == OpKind::reshape && graph_.value(node.outputs[0]).role != Role::param_gradient) continue;  // a view
    kernels_[n] = context_->backend().prepare(graph_, node);
    (*scratch)[n] = kernels_[n]->scratch_bytes();
  }
}

void Plan::store_constants() {
  check_constants(graph_);
  constant_offset_.assign(graph_.values.size(), 0);
  uint64_t bytes = 0;
  for (std::size_t v = 1; v < graph_.values.size(); ++v) {
    const Value& value = graph_.values[v];
    if (value.role != Role::constant) continue;
    constant_offset_[v] = bytes;
    bytes += aligned(static_cast<uint64_t>(value.shape.elements()) * size_of(value.dtype));
  }
  if (bytes == 0 || !context_->backend().executes()) return;
  constants_ = DeviceBuffer(context_, bytes);
  for (std::size_t v = 1; v < graph_.values.size(); ++v) {
    const Value& value = graph_.values[v];
    if (value.role != Role::constant) continue;
    const ConstantInfo& constant = graph_.constants[value.slot];
    const auto count = static_cast<uint64_t>(value.shape.elements());
    std::vector<unsigned char> host(count * size_of(value.dtype));
    if (is_float(value.dtype))
      for (uint64_t i = 0; i < count; ++i)
        store_element(host.data(), static_cast<int64_t>(i), value.dtype, constant.floats[i]);
    else if (count)
      std::memcpy(host.data(), constant.integers.data(), host.size());
    context_->backend().copy_in(static_cast<char*>(constants_.data()) + constant_offset_[v], host.data(), host.size());
  }
}

void Plan::bind(const Params& params, void* workspace, const std::vector<float*>* averages) {
  pointers_.assign(graph_.values.size(), nullptr);
  for (std::size_t v = 1; v < graph_.values.size(); ++v) {
    const Value& value = graph_.values[v];
    if (value.role == Role::parameter) {
      float* average = averages && value.dtype == DType::f32 ? (*averages)[value.slot] : nullptr;
      const Part part = value.form == ParamForm::master ? Part::master : Part::copy;
      pointers_[v] = average ? average : params.data(value.slot, part);
    } else if (value.role == Role::constant) {
      pointers_[v] = static_cast<char*>(constants_.data()) + constant_offset_[v];
    } else if (value.role == Role::param_gradient) {
      pointers_[v] = params.data(value.slot, Part::gradient);
    } else if (memory_.offset[v] != MemoryPlan::outside) {
      pointers_[v] = static_cast<char*>(workspace) + memory_.offset[v];
    }
  }
  for (std::size_t v = 1; v < graph_.values.size(); ++v)  // views of what is outside the workspace
    if (!pointers_[v] && memory_.storage[v] != none) pointers_[v] = pointers_[memory_.storage[v]];

  launches_.clear();
  for (std::size_t n = 1; n < graph_.nodes.size(); ++n) {
    if (!kernels_[n]) continue;
    const Node& node = graph_.nodes[n];
    Launch launch{
        static_cast<NodeId>(n), kernels_[n].get(), {}, {}, static_cast<char*>(workspace) + memory_.scratch_offset[n]};
    for (ValueId input : node.inputs) launch.inputs.push_back(input == none ? nullptr : pointers_[input]);
    for (ValueId output : node.outputs) launch.outputs.push_back(output == none ? nullptr : pointers_[output]);
    launches_.push_back(std::move(launch));
  }
}

void Plan::run(const StepVars& vars, const std::atomic<bool>* cancel) {
  launch(context_->backend().place_vars(vars), cancel);
}

void Plan::launch(const StepVars* placed, const std::atomic<bool>* cancel) {
  for (const Launch& launch : launches_) {
    if (cancel && cancel->load(std::memory_order_relaxed)) fail(MPT_ERROR_CANCELLED, "cancelled");
    launch.kernel->run(KernelArgs{launch.inputs.data(), launch.outputs.data(), launch.scratch, placed});
  }
}

Plan::Blame Plan::find_non_finite(const StepVars& vars) {
  std::vector<unsigned char> host;
  const StepVars* placed = context_->backend().place_vars(vars);
  for (const Launch& launch : launches_) {
    launch.kernel->run(KernelArgs{launch.inputs.data(), launch.outputs.data(), launch.scratch, placed});
    const Node& node = graph_.node(launch.node);
    for (ValueId output : node.outputs) {
      if (output == none || !is_float(graph_.value(output).dtype)) continue;
      const Value& value = graph_.value(output);
      const int64_t count = value.shape.elements();
      host.resize(static_cast<std::size_t>(count) * size_of(value.dtype));
      context_->backend().copy_out(host.data(), pointers_[output], host.size());
      for (int64_t i = 0; i < count; ++i)
        if (const double x = load_element(host.data(), i, value.dtype); !std::isfinite(x)) return {&node, output, i, x};
    }
  }
  return {};
}

bool Plan::is_kept(ValueId value) const { return std::find(kept_.begin(), kept_.end(), value) != kept_.end(); }

std::string Plan::text() const {
  std::string out = graph_.text();
  out += "memory: activations " + std::to_string(activation_bytes()) + " scratch " + std::to_string(scratch_bytes()) +
         " least possible " + std::to_string(memory_.lower_bound) + "\n";
  for (std::size_t n = 1; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    out += node.name + ": " + (kernels_[n] ? kernels_[n]->implementation() : "view");
    for (ValueId output : node.outputs)
      if (output != none && memory_.offset[output] != MemoryPlan::outside)
        out += " %" + std::to_string(output) + "@" + std::to_string(memory_.offset[output]);
    if (kernels_[n] && kernels_[n]->scratch_bytes() > 0)
      out +=
          " scratch " + std::to_string(kernels_[n]->scratch_bytes()) + "@" + std::to_string(memory_.scratch_offset[n]);
    out += "\n";
  }
  return out;
}

}  // namespace mpt
