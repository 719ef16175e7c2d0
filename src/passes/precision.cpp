#include "passes/precision.h"

#include <vector>

#include "passes/rewrite.h"

namespace mpt {

DType storage_type(mpt_precision precision) {
  switch (precision) {
    case MPT_PRECISION_FP32:
      return DType::f32;
    case MPT_PRECISION_FP16:
      return DType::f16;
    case MPT_PRECISION_BF16:
      return DType::bf16;
  }
  fail(MPT_ERROR_INVALID_ARGUMENT, "precision: found %d, expected FP32, FP16 or BF16", precision);
}

namespace {

class PrecisionPass {
 public:
  PrecisionPass(Graph& graph, const PrecisionPolicy& policy)
      : graph_(graph),
        policy_(policy),
        narrow_(policy.reference ? DType::f64 : storage_type(policy.precision)),
        wide_(policy.reference ? DType::f64 : DType::f32),
        copy_(policy.reference ? DType::f32 : narrow_) {}

  void run() {
    type_values();
    type_overridden();
    type_accumulated();
    type_views();
    choose_forms();
  }

 private:
  static bool is_parameter(const Value& v) { return v.role == Role::parameter; }

  void type_values() {
    for (std::size_t i = 1; i < graph_.values.size(); ++i) {
      Value& v = graph_.values[i];
      if (!is_float(v.dtype) || is_parameter(v)) continue;
      if (v.role == Role::param_gradient) {
        v.dtype = v.narrow && !policy_.fp32_param_gradients ? copy_ : DType::f32;
      } else {
        v.dtype = v.narrow ? narrow_ : wide_;
      }
    }
  }

  void widen(ValueId id) {
    Value& v = graph_.value(id);
    if (is_float(v.dtype) && v.role != Role::param_gradient && !is_parameter(v)) v.dtype = wide_;
  }

  void type_overridden() {
    for (const Node& node : graph_.nodes) {
      if (!node.keep_fp32) continue;
      for (ValueId out : node.outputs) {
        if (out != none) widen(out);
      }
    }
    for (ValueId v = 1; v < static_cast<ValueId>(graph_.values.size()); ++v) {
      const ValueId primal = graph_.value(v).primal;
      if (primal == none) continue;
      const NodeId producer = graph_.value(primal).producer;
      if (producer != none && graph_.node(producer).keep_fp32) widen(v);
    }
  }

  // What is added up over micro-steps is not rounded before.
  void type_accumulated() {
    for (const Node& node : graph_.nodes) {
      if (node.kind == OpKind::accumulate) widen(node.inputs[0]);
    }
  }

  void type_views() {
    const std::vector<int> uses = count_uses(graph_);
    for (std::size_t n = graph_.nodes.size(); n-- > 1;) {  // backwards: the type that a chain of views is wanted in
      const Node& node = graph_.nodes[n];
      if (node.kind != OpKind::reshape) continue;
      const ValueId x = node.inputs[0];
      const bool wide = graph_.value(node.outputs[0]).dtype == wide_;
      if (wide && graph_.value(x).role == Role::gradient && uses[x] == 1) widen(x);
    }
    for (const Node& node : graph_.nodes) {
      if (node.kind == OpKind::reshape) view_of(node.inputs[0], node.outputs[0]);
    }
  }

  void view_of(ValueId x, ValueId y) {
    MPT_INVARIANT(graph_.value(y).role != Role::param_gradient);
    const Value& v = graph_.value(x);
    const bool master = is_parameter(v) && reads_master(v, false);
    graph_.value(y).dtype = !is_parameter(v) ? v.dtype : master ? DType::f32 : copy_;
  }

  bool reads_master(const Value& parameter, bool keep_fp32) const {
    return !is_16bit(copy_) || !parameter.narrow || keep_fp32;
  }

  void choose_forms() {
    const std::size_t n_values = graph_.values.size();
    std::vector<char> copy_read(n_values, 0), master_read(n_values, 0);
    for (const Node& node : graph_.nodes) {
      for (ValueId in : node.inputs) {
        if (in == none || !is_parameter(graph_.value(in))) continue;
        (form_for(node, in) == ParamForm::master ? master_read : copy_read)[in] = 1;
      }
    }
    std::vector<ValueId> master_of(n_values, none);
    for (ValueId v = 1; v < static_cast<ValueId>(n_values); ++v) {
      if (!is_parameter(graph_.value(v))) continue;
      const bool only_master = reads_master(graph_.value(v), false) || (master_read[v] && !copy_read[v]);
      set_form(v, only_master ? ParamForm::master : ParamForm::copy);
      master_of[v] = v;
      if (only_master || !master_read[v]) continue;
      const Value second = graph_.value(v);
      master_of[v] = graph_.add_value(second);
      set_form(master_of[v], ParamForm::master);
    }
    for (Node& node : graph_.nodes) {
      for (ValueId& in : node.inputs) {
        if (in == none || !is_parameter(graph_.value(in))) continue;
        if (form_for(node, in) == ParamForm::master) in = master_of[in];
      }
    }
  }

  // A view of a parameter is typed once, whoever reads it.
  ParamForm form_for(const Node& node, ValueId parameter) const {
    const bool keep = node.keep_fp32 && node.kind != OpKind::reshape;
    return reads_master(graph_.value(parameter), keep) ? ParamForm::master : ParamForm::copy;
  }

  void set_form(ValueId id, ParamForm form) {
    Value& v = graph_.value(id);
    v.form = form;
    v.dtype = form == ParamForm::master ? DType::f32 : copy_;
  }

  Graph& graph_;
  const PrecisionPolicy& policy_;
  const DType narrow_, wide_;  // of activations
  const DType copy_;           // of narrow parameters and their gradients
};

}  // namespace

void assign_precision(Graph& graph, const PrecisionPolicy& policy) { PrecisionPass(graph, policy).run(); }

}  // namespace mpt
