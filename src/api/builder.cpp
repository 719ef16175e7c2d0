#include "api/builder.h"

namespace mpt {
namespace {

// The graph's lengths before a call, to go back to.
class Snapshot {
 public:
  explicit Snapshot(Graph& graph)
      : graph_(graph),
        values_(graph.values.size()),
        nodes_(graph.nodes.size()),
        inputs_(graph.inputs.size()),
        constants_(graph.constants.size()),
        parameters_(graph.parameters.size()) {}

  void restore() noexcept {
    graph_.values.erase(graph_.values.begin() + static_cast<std::ptrdiff_t>(values_), graph_.values.end());
    graph_.nodes.erase(graph_.nodes.begin() + static_cast<std::ptrdiff_t>(nodes_), graph_.nodes.end());
    graph_.inputs.erase(graph_.inputs.begin() + static_cast<std::ptrdiff_t>(inputs_), graph_.inputs.end());
    graph_.constants.erase(graph_.constants.begin() + static_cast<std::ptrdiff_t>(constants_), graph_.constants.end());
    graph_.parameters.erase(graph_.parameters.begin() + static_cast<std::ptrdiff_t>(parameters_),
                            graph_.parameters.end());
  }

 private:
  Graph& graph_;
  std::size_t values_, nodes_, inputs_, constants_, parameters_;
};

}  // namespace

void require_tensor(const Graph& graph, ValueId id, const char* argument) {
  // What an op keeps for its gradient has an id too, but no caller was given it and no gradient flows from it.
  const auto hidden = [&] {
    const NodeId producer = graph.value(id).producer;
    return producer != none && graph.node(producer).kind != OpKind::custom && graph.node(producer).outputs[0] != id;
  };
  MPT_CHECK_ARGUMENT(graph.valid(id) && !hidden(), "%s is %d, which is no tensor of the model", argument, id);
}

void check_known_sizes(const Shape& shape) {
  Shape known;
  for (int64_t size : shape)
    if (size >= 0) known.push_back(size);
  known.elements();
}

std::string unique_name(const Graph& graph, const std::string& wanted) {
  const auto taken = [&](const std::string& name) {
    for (const Node& node : graph.nodes)
      if (node.name == name) return true;
    return graph.find(name) != none;
  };
  std::string name = wanted;
  for (int i = 2; taken(name); ++i) name = wanted + "_" + std::to_string(i);
  return name;
}

ValueId add_parameter(Graph& graph, const std::string& name, const Shape& shape, const InitializerInfo& initializer,
                      bool keep_fp32) {
  MPT_CHECK_ARGUMENT(!name.empty(), "the parameter's name is empty");
  for (const ParameterInfo& known : graph.parameters) {
    if (known.name != name) continue;
    MPT_CHECK_ARGUMENT(known.shape == shape, "parameter '%s' exists with shape %s, found %s", name.c_str(),
                       known.shape.text().c_str(), shape.text().c_str());
    return known.value;
  }
  MPT_CHECK_ARGUMENT(graph.find(name) == none, "the name '%s' is taken by another tensor", name.c_str());
  for (int64_t size : shape)
    MPT_CHECK_ARGUMENT(size > 0, "parameter '%s' has shape %s: all sizes must be known and positive", name.c_str(),
                       shape.text().c_str());
  shape.elements();  // refuses more than can be addressed
  ParameterInfo info{none, name, shape, keep_fp32, initializer};
  // A gain of zero would make every weight zero: it means "not given".
  if (info.initializer.kind >= MPT_INIT_XAVIER_UNIFORM && info.initializer.kind <= MPT_INIT_KAIMING_NORMAL &&
      info.initializer.a == 0)
    info.initializer.a = 1;
  check_initializer(info.initializer, name);
  set_fans(shape, &info.initializer);
  Value value;
  value.name = name;
  value.shape = shape;
  value.narrow = !keep_fp32;
  value.role = Role::parameter;
  value.form = keep_fp32 ? ParamForm::master : ParamForm::copy;
  value.slot = static_cast<int32_t>(graph.parameters.size());
  info.value = graph.add_value(std::move(value));
  graph.parameters.push_back(std::move(info));
  return graph.parameters.back().value;
}

mpt_tensor build_op(mpt_model* model, const char* function, const mpt_tensor* inputs, int32_t n_inputs,
                    ValueId (*body)(void* state, Graph& graph), void* state) noexcept {
  clear_last_error();
  try {
    const Call call(checked(model, "model").context, Context::Access::use);
    Model& m = *model->model;
    if (m.error != MPT_OK) return none;  // the first mistake stands
    Graph& graph = m.graph;
    Snapshot before(graph);
    try {
      for (int32_t i = 0; i < n_inputs; ++i) require_tensor(graph, inputs[i], "a tensor argument");
      graph.building_stream_id = static_cast<uint32_t>(graph.nodes.size());  // the same for all nodes of this call
      return body(state, graph);
    } catch (...) {
      before.restore();
      m.error = report_current_exception(function);
      m.error_message = last_error_message();
      return none;
    }
  } catch (...) {
    report_current_exception(function);
    return none;
  }
}

}  // namespace mpt
