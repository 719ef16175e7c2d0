// What the compiler knows of each kind of op: one definition per kind, in the file of that op.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace mpt {

enum class OpClass : uint8_t {
  matmul = MPT_CLASS_MATMUL,
  reduction = MPT_CLASS_REDUCTION,
  elementwise = MPT_CLASS_ELEMENTWISE,
  shape = MPT_CLASS_SHAPE,
};

// Shape rule's answer for one output. narrow: may be stored in 16 bits. wanted = false makes the output none.
struct OutputInfo {
  Shape shape;
  DType dtype = DType::f32;
  bool narrow = true;
  bool wanted = true;
};

struct Cost {
  double flops = 0;  // multiply and add count two
  double bytes = 0;  // read and written, at the values' storage types
};

// Handed to a gradient rule: the forward node's output gradients come in, input gradients go out.
class GradientContext {
 public:
  virtual ~GradientContext() = default;
  virtual Graph& graph() = 0;
  virtual ValueId output_gradient(int output) = 0;  // none: no gradient arrives there
  virtual bool wants(int input) const = 0;          // does anything behind this input need a gradient
  virtual void add(int input, ValueId gradient) = 0;
};

struct OpDef {
  const char* name;
  OpClass op_class;
  std::vector<OutputInfo> (*infer)(const Graph&, Node&);  // may complete the attributes
  void (*gradient)(GradientContext&, const Node&);        // null: no gradient flows
  Cost (*cost)(const Graph&, const Node&);
  // May output share the memory of an input that dies here? Null: never. Shapes and sizes of elements are equal by then.
  bool (*in_place)(const Graph&, const Node&, int input, int output);
};

const OpDef& op_def(OpKind kind);

// Bytes of all inputs and outputs: the memory part of most costs.
double bytes_of(const Graph& graph, const Node& node);

}  // namespace mpt
