// The intermediate representation: values (tensors) and nodes (ops) in topological order. The model that a user builds, the
// differentiated graph and the fused one are all this. Ids are indices; 0 is "none", so that optional inputs are 0.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "graph/attrs.h"
#include "graph/dims.h"

namespace mpt {

using ValueId = int32_t;
using NodeId = int32_t;
constexpr int32_t none = 0;

enum class Role : uint8_t {
  input,      // slot: index in Graph::inputs
  constant,   // slot: index in Graph::constants
  parameter,  // slot: index in Graph::parameters
  activation,
  gradient,        // of an activation
  param_gradient,  // slot: index in Graph::parameters
};

// How an op reads a parameter: the copy in the precision's storage type, or the FP32 master.
enum class ParamForm : uint8_t { copy, master };

struct Value {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;  // storage; the precision pass decides for narrow values
  bool narrow = false;       // may be stored in 16 bits
  Role role = Role::activation;
  ParamForm form = ParamForm::copy;
  int32_t slot = -1;
  NodeId producer = none;
  ValueId primal = none;  // of a gradient: the value it is the gradient of
};

struct Node {
  OpKind kind{};
  std::string name;
  Attrs attrs;
  std::vector<ValueId> inputs;   // none (0) where an optional input is missing
  std::vector<ValueId> outputs;  // none (0) where an optional output is not wanted
  bool backward = false;
  bool recomputed = false;  // a copy of a forward node, run again in the backward pass
  bool keep_fp32 = false;   // override: outputs stay FP32, parameters are read from the master
  uint32_t stream_id = 0;   // of the user's op: the op field of the random counter
};

struct InputInfo {
  ValueId value;
  DType dtype;                   // as declared: f32, i32 or u8
  std::vector<float> mean, std;  // of uint8 pictures; empty: not normalised
  int normalize_axis = 0;
};

struct ConstantInfo {
  ValueId value;
  std::vector<float> floats;  // contents, one of the two
  std::vector<int32_t> integers;
};

struct InitializerInfo {
  mpt_initializer kind = MPT_INIT_ZEROS;
  double a = 0, b = 1;
  int64_t fan_in = 1, fan_out = 1;
};

struct ParameterInfo {
  ValueId value;  // in the model's graph
  std::string name;
  Shape shape;
  bool keep_fp32 = false;
  InitializerInfo initializer;
};

class Graph {
 public:
  Graph();

  // Adds a node, infers its outputs and returns its id. Throws INVALID_ARGUMENT naming op, tensors and shapes; the graph is
  // then unchanged. Outputs are activations, or gradients while `building_backward`.
  NodeId add(OpKind kind, const std::string& name, Attrs attrs, std::vector<ValueId> inputs);
  // The same; returns the first output.
  ValueId apply(OpKind kind, const std::string& name, Attrs attrs, std::vector<ValueId> inputs);

  ValueId add_value(Value value);

  Value& value(ValueId id);
  const Value& value(ValueId id) const;
  Node& node(NodeId id) { return nodes[id]; }
  const Node& node(NodeId id) const { return nodes[id]; }
  const Shape& shape(ValueId id) const { return value(id).shape; }
  bool valid(ValueId id) const { return id > 0 && id < static_cast<ValueId>(values.size()); }
  ValueId find(const std::string& name) const;  // none where there is no such value

  std::string text() const;                // the dump: a line per node, in order
  std::string describe(ValueId id) const;  // "'fc1' [32, 256]", for messages

  std::vector<Value> values;  // [0] is unused
  std::vector<Node> nodes;    // [0] is unused; topological order
  std::vector<InputInfo> inputs;
  std::vector<ConstantInfo> constants;
  std::vector<ParameterInfo> parameters;
  std::shared_ptr<Dims> dims;  // of a model; empty in a compiled graph
  bool building_backward = false;
  bool building_keep_fp32 = false;
  uint32_t building_stream_id = 0;  // given to the nodes that are added
};

const char* name_of(Ewise op);  // "gelu_tanh"

// How many nodes read each value, by id.
std::vector<int> count_uses(const Graph& graph);

}  // namespace mpt
