// The precision pass: a storage type for every value, and how each op reads each parameter.
#pragma once

#include "graph/graph.h"

namespace mpt {

struct PrecisionPolicy {
  mpt_precision precision = MPT_PRECISION_FP32;
  bool fp32_param_gradients = false;  // gradients are accumulated over micro-steps
  bool reference = false;             // the oracle: activations and their gradients in double, parameters as in fp32
};

// Of narrow values: f32 for fp32.
DType storage_type(mpt_precision precision);

// Runs on the differentiated graph. Narrow values get the precision's storage type, all other floats FP32. Overrides
// come as Node::keep_fp32: what such a node writes, and the gradients of what it writes, stay FP32, and it reads FP32
// masters. A parameter that is read in both forms gets a second Value. A gradient of a parameter is stored as the
// parameter's copy is. A reshape is its input's memory and so has its input's type.
void assign_precision(Graph& graph, const PrecisionPolicy& policy);

}  // namespace mpt
