#include "passes/instantiate.h"

#include "core/error.h"

namespace mpt {
namespace {

class Instantiator {
 public:
  Instantiator(const Graph& model, const InstantiateOptions& options) : model_(model), options_(options) {}

  Instance run() {
    instance_.value_of.assign(model_.values.size(), none);
    mark_needed();
    copy_sources();
    for (std::size_t n = 1; n < model_.nodes.size(); ++n)
      if (node_needed_[n]) copy_node(model_.nodes[n]);
    return std::move(instance_);
  }

 private:
  void mark_needed() {
    needed_.assign(model_.values.size(), false);
    node_needed_.assign(model_.nodes.size(), false);
    for (ValueId output : options_.outputs) {
      MPT_INVARIANT(model_.valid(output));
      needed_[output] = true;
    }
    for (std::size_t n = model_.nodes.size() - 1; n > 0; --n) {
      const Node& node = model_.nodes[n];
      bool any = false;
      for (ValueId output : node.outputs) any = any || (output != none && needed_[output]);
      if (!any) continue;
      node_needed_[n] = true;
      for (ValueId input : node.inputs)
        if (input != none) needed_[input] = true;
    }
  }

  int64_t resolve(int64_t size) {
    if (size >= 0) return size;
    if (const auto known = derived_.find(size); known != derived_.end()) return known->second;
    const std::string& name = model_.dims->name(size);
    const auto found = options_.sizes.find(name);
    if (found == options_.sizes.end())
      fail(MPT_ERROR_INVALID_ARGUMENT, "the size of dimension '%s' is not known: no input that has it was given",
           name.c_str());
    return found->second;
  }

  Shape resolve(const Shape& shape, int except = -1) {
    Shape out;
    for (int i = 0; i < shape.rank(); ++i) out.push_back(i == except ? shape[i] : resolve(shape[i]));
    return out;
  }

  void copy_sources() {
    Graph& graph = instance_.graph;
    graph.inputs = model_.inputs;
    graph.constants = model_.constants;
    graph.parameters = model_.parameters;
    for (InputInfo& input : graph.inputs) input.value = copy_source(input.value);
    for (ConstantInfo& constant : graph.constants) constant.value = copy_source(constant.value);
    for (ParameterInfo& parameter : graph.parameters) parameter.value = copy_source(parameter.value);
  }

  ValueId copy_source(ValueId id) {
    if (!needed_[id]) return none;
    Value value = model_.value(id);
    value.shape = resolve(value.shape);
    return instance_.value_of[id] = instance_.graph.add_value(std::move(value));
  }

  bool is_identity(const Node& node) const {
    const auto* attrs = std::get_if<ElementwiseAttrs>(&node.attrs);
    return attrs && !options_.training && attrs->program.steps[0].op == Ewise::dropout;
  }

  void copy_node(const Node& node) {
    if (is_identity(node)) {
      instance_.value_of[node.outputs[0]] = instance_.value_of[node.inputs[0]];
      return;
    }
    Graph& graph = instance_.graph;
    Attrs attrs = node.attrs;
    if (auto* reshape = std::get_if<ReshapeAttrs>(&attrs)) reshape->shape = resolve(reshape->shape, reshape->rest_axis);
    if (auto* custom = std::get_if<CustomAttrs>(&attrs))
      for (Shape& shape : custom->out_shapes) shape = resolve(shape);
    std::vector<ValueId> inputs;
    for (ValueId input : node.inputs) inputs.push_back(input == none ? none : instance_.value_of[input]);
    graph.building_stream_id = node.stream_id;
    graph.building_keep_fp32 = node.keep_fp32;
    const NodeId id = graph.add(node.kind, node.name, std::move(attrs), std::move(inputs));
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId from = node.outputs[i], to = graph.node(id).outputs[i];
      if (from == none || to == none) continue;
      instance_.value_of[from] = to;
      graph.value(to).name = model_.value(from).name;
      learn(model_.shape(from), graph.shape(to));
    }
  }

  // Sizes that inference derived from named ones (the rest of a reshape, say) are known from here on.
  void learn(const Shape& named, const Shape& actual) {
    for (int i = 0; i < named.rank(); ++i)
      if (named[i] < 0 && !model_.dims->is_named(named[i])) derived_.emplace(named[i], actual[i]);
  }

  const Graph& model_;
  const InstantiateOptions& options_;
  Instance instance_;
  std::vector<bool> needed_, node_needed_;
  std::map<int64_t, int64_t> derived_;
};

}  // namespace

Instance instantiate(const Graph& model, const InstantiateOptions& options) {
  return Instantiator(model, options).run();
}

}  // namespace mpt
