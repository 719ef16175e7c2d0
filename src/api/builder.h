// How op functions of the C API add to a model: errors are kept in the model, and a call that fails adds nothing.
#pragma once

#include <initializer_list>
#include <type_traits>

#include "api/handles.h"

namespace mpt {

// Throws INVALID_ARGUMENT where an id is no tensor of the model.
void require_tensor(const Graph& graph, ValueId id, const char* argument);
// Refuses a shape with more elements than can be addressed, whatever its named dimensions turn out to be.
void check_known_sizes(const Shape& shape);
// A name for the node of a layer: the given one, or if that is taken the name with a number.
std::string unique_name(const Graph& graph, const std::string& wanted);

// Finds or adds a parameter; a known name must come with the known shape.
ValueId add_parameter(Graph& graph, const std::string& name, const Shape& shape, const InitializerInfo& initializer,
                      bool keep_fp32);

// Runs body(state, graph) -> id for an op function. `inputs`: ids that must be tensors of the model.
mpt_tensor build_op(mpt_model* model, const char* function, const mpt_tensor* inputs, int32_t n_inputs,
                    ValueId (*body)(void* state, Graph& graph), void* state) noexcept;

// The same with any callable; a std::function would need memory before the guard.
template <class Body>
mpt_tensor build(mpt_model* model, const char* function, const mpt_tensor* inputs, int32_t n_inputs,
                 Body&& body) noexcept {
  using Plain = std::remove_reference_t<Body>;
  const CallerState state;
  return build_op(
      model, function, inputs, n_inputs,
      [](void* state, Graph& graph) -> ValueId { return (*static_cast<Plain*>(state))(graph); }, &body);
}

template <class Body>
mpt_tensor build(mpt_model* model, const char* function, std::initializer_list<mpt_tensor> inputs,
                 Body&& body) noexcept {
  return build(model, function, inputs.begin(), static_cast<int32_t>(inputs.size()), body);
}

}  // namespace mpt
