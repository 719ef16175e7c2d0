#include "runtime/inputs.h"

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "graph/op_def.h"
#include "runtime/host_array.h"

namespace mpt {
namespace {

const mpt_array* find_array(const mpt_array* inputs, int32_t n, const std::string& name) {
  for (int32_t i = 0; i < n; ++i)
    if (name == inputs[i].name) return &inputs[i];
  return nullptr;
}

const InputInfo* find_input(const Graph& model, const char* name) {
  for (const InputInfo& input : model.inputs)
    if (model.value(input.value).name == name) return &input;
  return nullptr;
}

std::string input_names(const Graph& model) {
  std::string names;
  for (const InputInfo& input : model.inputs)
    names += (names.empty() ? "'" : ", '") + model.value(input.value).name + "'";
  return names.empty() ? "none" : names;
}

void check_dtype(const InputInfo& input, const mpt_array& array, const std::string& who) {
  const auto found = static_cast<DType>(array.dtype);
  if (found == DType::u8 && input.dtype == DType::f32 && !input.std.empty()) return;
  if (is_float(found) && !is_float(input.dtype))
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s has dtype %s, expected %s or an integer type that converts exactly",
         who.c_str(), name_of(found), name_of(input.dtype));
}

// The range of integers that a node allows for what it reads at `position`.
struct Range {
  int64_t end;
  std::optional<int32_t> also;  // a number that is fine besides [0, end)
  std::string reader;
};

std::optional<Range> range_of(const Graph& graph, const Node& node, std::size_t position) {
  if (node.kind == OpKind::gather && position == 1) {
    const auto& attrs = std::get<GatherAttrs>(node.attrs);
    return Range{attrs.x_shape[attrs.axis], std::nullopt, node.name};
  }
  if (node.kind == OpKind::cross_entropy && position == 1)
    return Range{graph.shape(node.inputs[0])[-1], std::get<CrossEntropyAttrs>(node.attrs).ignore_index, node.name};
  if (node.kind == OpKind::attention && position == 4) {
    const bool packed = std::get<AttentionAttrs>(node.attrs).packed;
    return Range{graph.shape(node.inputs[packed ? 0 : 1])[1] + 1, std::nullopt, node.name};
  }
  return std::nullopt;
}

// Whether a node's output is made of elements of its input at `position`.
bool passes_on(const Node& node, std::size_t position) {
  return op_def(node.kind).op_class == OpClass::shape || (node.kind == OpKind::gather && position == 0);
}

// Checks `value` (an integer input or constant, or something made of its elements) against all that reads it.
void check_range(const Graph& graph, ValueId value, const int32_t* elements, int64_t count, const std::string& who) {
  for (const Node& node : graph.nodes)
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] != value) continue;
      if (passes_on(node, i) && !node.outputs.empty() && node.outputs[0] != none) {
        check_range(graph, node.outputs[0], elements, count, who);
        if (node.kind == OpKind::pad) {
          const auto added = static_cast<int32_t>(std::get<PadAttrs>(node.attrs).value);
          check_range(graph, node.outputs[0], &added, 1, "padding '" + node.name + "'");
        }
      }
      const std::optional<Range> range = range_of(graph, node, i);
      if (!range) continue;
      for (int64_t e = 0; e < count; ++e)
        if ((elements[e] < 0 || elements[e] >= range->end) && !(range->also && elements[e] == *range->also))
          fail(MPT_ERROR_INVALID_ARGUMENT, "%s: element %lld is %d, expected 0 to %lld for '%s'", who.c_str(),
               static_cast<long long>(e), elements[e], static_cast<long long>(range->end - 1), range->reader.c_str());
    }
}

}  // namespace

Sizes bind_sizes(const Graph& model, const Backend& backend, const mpt_array* inputs, int32_t n_inputs) {
  MPT_CHECK_ARGUMENT(n_inputs >= 0 && (inputs || n_inputs == 0), "inputs is NULL or n_inputs is %d", n_inputs);
  Sizes sizes;
  for (int32_t i = 0; i < n_inputs; ++i) {
    const mpt_array& array = inputs[i];
    MPT_CHECK_ARGUMENT(array.name, "inputs[%d].name is NULL", i);
    const InputInfo* input = find_input(model, array.name);
    MPT_CHECK_ARGUMENT(input, "the model has no input '%s'; its inputs are %s", array.name, input_names(model).c_str());
    MPT_CHECK_ARGUMENT(find_array(inputs, i, array.name) == nullptr, "input '%s' is given twice", array.name);
    const std::string who = "input '" + std::string(array.name) + "'";
    check_array(array, who, &backend);
    check_dtype(*input, array, who);
    const Shape& expected = model.shape(input->value);
    const Shape found = shape_of(array);
    bool fits = found.rank() == expected.rank();
    for (int axis = 0; fits && axis < expected.rank(); ++axis) {
      if (expected[axis] >= 0) {
        fits = found[axis] == expected[axis];
        continue;
      }
      const std::string& name = model.dims->name(expected[axis]);
      MPT_CHECK_ARGUMENT(found[axis] > 0, "%s has shape %s: dimension '%s' is empty, expected at least 1", who.c_str(),
                         found.text().c_str(), name.c_str());
      const auto [known, is_new] = sizes.emplace(name, found[axis]);
      MPT_CHECK_ARGUMENT(is_new || known->second == found[axis],
                         "%s has shape %s: dimension '%s' is %lld there, but %lld in an input before it", who.c_str(),
                         found.text().c_str(), name.c_str(), static_cast<long long>(found[axis]),
                         static_cast<long long>(known->second));
    }
    MPT_CHECK_ARGUMENT(fits, "input %s: found shape %s", model.describe(input->value).c_str(), found.text().c_str());
  }
  return sizes;
}

void check_constants(const Graph& graph) {
  for (const ConstantInfo& constant : graph.constants)
    if (constant.value != none && !constant.integers.empty())
      check_range(graph, constant.value, constant.integers.data(), static_cast<int64_t>(constant.integers.size()),
                  "constant '" + graph.value(constant.value).name + "'");
}

void check_inputs_complete(const Plan& plan, const mpt_array* inputs, int32_t n_inputs, bool strict) {
  const Graph& graph = plan.graph();
  for (const InputInfo& input : graph.inputs) {
    if (input.value == none) continue;
    const std::string& name = graph.value(input.value).name;
    MPT_CHECK_ARGUMENT(find_array(inputs, n_inputs, name), "input '%s' is missing", name.c_str());
  }
  for (int32_t i = 0; strict && i < n_inputs; ++i) {
    bool needed = false;
    for (const InputInfo& input : graph.inputs)
      needed = needed || (input.value != none && graph.value(input.value).name == inputs[i].name);
    MPT_CHECK_ARGUMENT(needed, "input '%s' is not needed for this: leave it out", inputs[i].name);
  }
}

namespace {

// Where an input is converted to: the plan's own memory where the host can write it, else memory on the way to it.
class Target {
 public:
  Target(Backend& backend, void* memory, uint64_t bytes) : backend_(backend), memory_(memory), bytes_(bytes) {
    if (!backend_.host_memory()) staged_ = backend_.take_staging(bytes);
    if (!backend_.host_memory() && staged_ == nullptr) room_.resize(bytes);
  }
  ~Target() {
    if (staged_ != nullptr) backend_.cancel_staging(staged_);
  }
  void* data() { return backend_.host_memory() ? memory_ : staged_ != nullptr ? staged_ : room_.data(); }
  void send() {
    if (staged_ != nullptr)
      backend_.send_staging(std::exchange(staged_, nullptr), memory_, bytes_);
    else if (!backend_.host_memory())
      backend_.copy_in(memory_, room_.data(), bytes_);
  }

 private:
  Backend& backend_;
  void* memory_;
  uint64_t bytes_;
  void* staged_ = nullptr;
  std::vector<unsigned char> room_;
};

void stage_from_device(Backend& backend, const mpt_array& array, const InputInfo& input, const Value& value,
                       void* memory) {
  const std::string who = "input '" + value.name + "'";
  const auto from = static_cast<DType>(array.dtype);
  check_conversion(from, value.dtype, who);
  if (from == DType::u8 && !input.std.empty())
    fail(MPT_ERROR_UNSUPPORTED, "%s: uint8 pictures are normalised on the host: give them in host memory, or as floats",
         who.c_str());
  backend.convert(dense_array(memory, value.dtype, value.shape), with_strides(array), 1);
}

}  // namespace

void stage_inputs(const Plan& plan, Backend& backend, const mpt_array* inputs, int32_t n_inputs) {
  const Graph& graph = plan.graph();
  for (const InputInfo& input : graph.inputs) {
    if (input.value == none || !plan.pointer(input.value)) continue;
    const Value& value = graph.value(input.value);
    const mpt_array& array = *find_array(inputs, n_inputs, value.name);
    if (on_device(array)) {
      stage_from_device(backend, array, input, value, plan.pointer(input.value));
      continue;
    }
    Target target(backend, plan.pointer(input.value),
                  static_cast<uint64_t>(value.shape.elements()) * size_of(value.dtype));
    if (array.dtype == MPT_UINT8 && !input.std.empty())
      read_normalized(array, input.normalize_axis, input.mean.data(), input.std.data(), value.dtype, target.data());
    else
      read_array(array, value.dtype, target.data(), "input '" + value.name + "'");
    if (value.dtype == DType::i32)
      check_range(graph, input.value, static_cast<const int32_t*>(target.data()), value.shape.elements(),
                  "input '" + value.name + "'");
    target.send();
  }
}

}  // namespace mpt
