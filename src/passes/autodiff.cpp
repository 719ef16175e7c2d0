#include "passes/autodiff.h"

#include "graph/op_def.h"

namespace mpt {
namespace {

class Differentiator final : public GradientContext {
 public:
  Differentiator(Graph& graph, const DifferentiateOptions& options) : graph_(graph), options_(options) {}

  Differentiated run(ValueId loss);

  Graph& graph() override { return graph_; }
  ValueId output_gradient(int output) override {
    const ValueId id = node_.outputs[output];
    return id == none ? none : gradient_of(id);
  }
  bool wants(int input) const override {
    const ValueId id = node_.inputs[input];
    return id != none && needed_[id];
  }
  void add(int input, ValueId gradient) override;

 private:
  void find_needed();
  ValueId gradient_of(ValueId id);
  void claim(ValueId gradient, ValueId primal);
  void finish_parameters(Differentiated& result);

  Graph& graph_;
  const DifferentiateOptions& options_;
  Node node_;                                        // being differentiated; a copy, since the graph grows meanwhile
  std::vector<bool> needed_;                         // by value: does a wanted gradient lie behind it
  std::vector<int> parameter_uses_;                  // by value
  std::vector<std::vector<ValueId>> contributions_;  // by value
  std::vector<ValueId> sum_;                         // by value: its whole gradient, once formed
};

void Differentiator::find_needed() {
  needed_.assign(graph_.values.size(), false);
  for (std::size_t slot = 0; slot < graph_.parameters.size(); ++slot)
    if (options_.parameters.empty() || options_.parameters[slot])
      for (std::size_t v = 1; v < graph_.values.size(); ++v)
        if (graph_.values[v].role == Role::parameter && graph_.values[v].slot == static_cast<int32_t>(slot))
          needed_[v] = true;
  for (ValueId id : options_.inputs) needed_[id] = true;
  for (const Node& node : graph_.nodes) {
    bool any = false;
    for (ValueId input : node.inputs) any = any || (input != none && needed_[input]);
    if (!any) continue;
    for (ValueId output : node.outputs)
      if (output != none && is_float(graph_.value(output).dtype)) needed_[output] = true;
  }
}

// A fresh gradient belongs to its primal and is stored as that is; one that passes through several ops keeps its first owner.
void Differentiator::claim(ValueId gradient, ValueId primal) {
  Value& value = graph_.value(gradient);
  if (value.primal != none || value.role != Role::gradient) return;
  value.primal = primal;
  value.narrow = graph_.value(primal).narrow;
  // Partial gradients of a shared parameter stay FP32: their sum is rounded once.
  if (graph_.value(primal).role == Role::parameter && parameter_uses_[primal] > 1) value.narrow = false;
}

void Differentiator::add(int input, ValueId gradient) {
  const ValueId primal = node_.inputs[input];
  claim(gradient, primal);
  contributions_[primal].push_back(gradient);
}

ValueId Differentiator::gradient_of(ValueId id) {
  if (sum_[id] != none) return sum_[id];
  std::vector<ValueId>& parts = contributions_[id];
  if (parts.empty()) return none;
  if (parts.size() == 1) return sum_[id] = parts[0];
  Program program;  // ((p0 + p1) + p2) + ...
  program.inputs = static_cast<int>(parts.size());
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const int left = i == 1 ? 0 : program.inputs + static_cast<int>(i) - 2;
    program.steps.push_back({Ewise::add, static_cast<int16_t>(left), static_cast<int16_t>(i)});
  }
  program.outputs = {static_cast<int16_t>(program.inputs + static_cast<int>(parts.size()) - 2)};
  const ValueId sum = graph_.apply(OpKind::elementwise, "", ElementwiseAttrs{program, {}}, parts);
  graph_.value(sum).primal = id;
  graph_.value(sum).narrow = graph_.value(id).narrow;
  return sum_[id] = sum;
}

// Each parameter's gradient becomes a value of its own that lives in the parameter store.
void Differentiator::finish_parameters(Differentiated& result) {
  result.parameter_gradients.assign(graph_.parameters.size(), none);
  for (std::size_t v = 1, end = sum_.size(); v < end; ++v) {
    const Value primal = graph_.values[v];
    if (primal.role != Role::parameter || !needed_[v]) continue;
    const auto slot = static_cast<std::size_t>(primal.slot);
    ValueId gradient = gradient_of(static_cast<ValueId>(v));
    if (gradient == none) continue;
    MPT_INVARIANT(result.parameter_gradients[slot] == none);
    const std::vector<int> uses = count_uses(graph_);
    const Value& found = graph_.value(gradient);
    const bool own = found.producer != none && found.role == Role::gradient && uses[gradient] == 0 && found.slot < 0 &&
                     graph_.node(found.producer).kind != OpKind::reshape &&
                     graph_.node(found.producer).kind != OpKind::loss_seed;
    if (options_.accumulate) {
      graph_.value(gradient).narrow = false;
      gradient = graph_.apply(OpKind::accumulate, "", NoAttrs{}, {gradient});
    } else if (!own) {
      gradient =
          graph_.apply(OpKind::elementwise, "", ElementwiseAttrs{Program{1, {{Ewise::copy, 0}}, {1}}, {}}, {gradient});
    }
    Value& value = graph_.value(gradient);
    value.role = Role::param_gradient;
    value.slot = primal.slot;
    value.primal = static_cast<ValueId>(v);
    value.narrow = primal.narrow && !options_.accumulate;
    value.name = primal.name + ".grad";
    result.parameter_gradients[slot] = gradient;
  }
}

Differentiated Differentiator::run(ValueId loss) {
  if (graph_.shape(loss).elements() != 1)
    fail(MPT_ERROR_INVALID_ARGUMENT, "the loss %s must have one element", graph_.describe(loss).c_str());
  find_needed();
  parameter_uses_ = count_uses(graph_);
  contributions_.resize(graph_.values.size());
  sum_.assign(graph_.values.size(), none);

  const auto forward_nodes = static_cast<NodeId>(graph_.nodes.size());
  graph_.building_backward = true;
  if (needed_[loss]) {
    ValueId seed = graph_.apply(OpKind::loss_seed, "loss_seed", SeedAttrs{options_.weight}, {});
    if (graph_.shape(loss).rank() != 0)
      seed = graph_.apply(OpKind::reshape, "", ReshapeAttrs{graph_.shape(loss), -1}, {seed});
    graph_.value(seed).primal = loss;
    contributions_[loss].push_back(seed);
  }
  for (NodeId n = forward_nodes - 1; n > 0; --n) {
    node_ = graph_.node(n);
    const OpDef& def = op_def(node_.kind);
    if (!def.gradient) continue;
    bool arrives = false, wanted = false;
    for (ValueId output : node_.outputs) arrives = arrives || (output != none && !contributions_[output].empty());
    for (ValueId input : node_.inputs) wanted = wanted || (input != none && needed_[input]);
    if (!arrives || !wanted) continue;
    graph_.building_keep_fp32 = node_.keep_fp32;
    graph_.building_stream_id = node_.stream_id;
    def.gradient(*this, node_);
  }
  graph_.building_keep_fp32 = false;
  graph_.building_stream_id = 0;

  Differentiated result;
  finish_parameters(result);
  result.gradient_of.assign(sum_.size(), none);
  for (std::size_t v = 1; v < sum_.size(); ++v)
    if (!contributions_[v].empty()) result.gradient_of[v] = gradient_of(static_cast<ValueId>(v));
  graph_.building_backward = false;
  for (std::size_t v = 1; v < sum_.size(); ++v)
    if (const ValueId g = result.gradient_of[v];
        g != none && graph_.value(g).primal == static_cast<ValueId>(v) && graph_.value(g).role == Role::gradient)
      graph_.value(g).name = graph_.values[v].name + ".grad";
  return result;
}

}  // namespace

Differentiated differentiate(Graph& graph, ValueId loss, const DifferentiateOptions& options) {
  return Differentiator(graph, options).run(loss);
}

}  // namespace mpt
