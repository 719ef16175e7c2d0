// What each kind of node needs to know besides its tensors. Backends read these.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/shape.h"
#include "kernels/numerics/elementwise.h"
#include "mpt.h"

namespace mpt {

enum class OpKind : uint8_t {
  elementwise,         // inputs.. -> outputs..            ElementwiseAttrs
  matmul,              // a, b, epilogue inputs.. -> c.. MatmulAttrs
  reduce,              // x -> y                           ReduceAttrs
  reduce_max_grad,     // x, y, dy -> dx                   ReduceAttrs
  softmax,             // x -> y                           SoftmaxAttrs
  softmax_grad,        // y, dy -> dx                      SoftmaxAttrs
  norm,                // x, weight?, bias?, residual? -> y, mean?, rstd, sum?     NormAttrs
  norm_grad,           // x, weight?, mean?, rstd, dy, add? -> dx?, dweight?, dbias?  NormAttrs
  attention,           // q, k, v | qkv,0,0; mask?, lengths? -> out, logsumexp   AttentionAttrs
  attention_grad,      // q, k, v | qkv,0,0; mask?, lengths?, out, logsumexp, dout -> dq, dk, dv | dqkv
  reshape,             // x -> y, the same memory          ReshapeAttrs
  transpose,           // x -> y                           TransposeAttrs
  slice,               // x -> y                           SliceAttrs
  concat,              // x.. -> y                         AxisAttrs
  gather,              // x, indices -> y                  GatherAttrs
  gather_grad,         // dy, indices -> dx                GatherAttrs
  pad,                 // x -> y                           PadAttrs
  cross_entropy,       // logits, labels -> loss, logsumexp [rows], weight []      CrossEntropyAttrs
  cross_entropy_grad,  // logits, labels, logsumexp, weight, dloss -> dlogits      CrossEntropyAttrs
  pair_loss,           // x, target -> loss                PairLossAttrs
  pair_loss_grad,      // x, target, dloss -> dx?, dtarget?  PairLossAttrs
  loss_seed,           // -> the loss scale, FP32 scalar   SeedAttrs
  accumulate,          // x -> gradient buffer (+)=        no attributes
  custom,              // inputs.. -> outputs..            CustomAttrs
  custom_grad,         // inputs.., outputs.., douts.. -> dinputs..   CustomAttrs
  count_
};

// A chain of element-wise steps over FP32 registers. Registers 0 .. inputs-1 hold the inputs, broadcast to the node's shape;
// step i writes register inputs + i. `outputs` names the registers that are stored, each rounded once.
struct ElementwiseStep {
  Ewise op;
  int16_t a = 0, b = -1;   // operand registers; b unused by one-operand steps
  float p = 0, q = 0;      // parameters: see kernels/numerics/elementwise.h
  uint32_t stream_id = 0;  // dropout: op field of the random counter
};
struct Program {
  int inputs = 0;
  std::vector<ElementwiseStep> steps;
  std::vector<int16_t> outputs;
};

struct NoAttrs {};

struct ElementwiseAttrs {
  Program program;
  Shape shape;                      // of every output; set by the shape rule
  bool stop_gradient = false;       // of a copy: no gradient flows back
  bool broadcast_to_shape = false;  // `shape` was given and the inputs broadcast to it, though none may have it
};

// c = epilogue(op(a) op(b)). The epilogue's register 0 is the FP32 sum, registers 1.. are the node's inputs from index 2,
// broadcast to c's shape; its outputs are the node's outputs. An empty program stores register 0.
struct MatmulAttrs {
  bool transpose_a = false, transpose_b = false;
  Program epilogue;
};

enum class Reduction : uint8_t { sum, mean, max };
struct ReduceAttrs {
  Reduction reduction{};
  std::vector<int> axes;  // sorted, not negative
  bool keep = false;
};

struct SoftmaxAttrs {
  int axis = -1;
  bool log = false;
};

// Over the last axis. Layer norm: mean and rstd; RMS norm: rstd alone (output mean is none).
// With a residual input (fused) the norm is of sum = round(x + residual), which is stored as output 3.
struct NormAttrs {
  bool rms = false;
  double epsilon = 1e-5;
  uint32_t wanted = ~0u;  // norm_grad: bit i is output i
};

struct AttentionAttrs {
  int heads = 1, kv_heads = 1;
  bool causal = false;
  bool packed = false;  // one input [B, T, (heads + 2 kv_heads) * D] holds q, k and v side by side
  double scale = 1;
};

struct ReshapeAttrs {
  Shape shape;  // as the user gave it: may hold one -1 below (rest_axis) and named dimensions
  int rest_axis = -1;
};
struct TransposeAttrs {
  std::vector<int> axes;
};
struct SliceAttrs {
  int axis = 0;
  int64_t begin = 0, end = 0;
};
struct AxisAttrs {
  int axis = 0;
};
struct GatherAttrs {
  int axis = 0;
  Shape x_shape;  // of the gathered tensor, for the gradient
};
struct PadAttrs {
  int axis = 0;
  int64_t before = 0, after = 0;
  double value = 0;
};
struct CrossEntropyAttrs {
  bool mean = true;
  double label_smoothing = 0;
  int32_t ignore_index = -100;
};
enum class PairLoss : uint8_t { mse, l1, bce };
struct PairLossAttrs {
  PairLoss loss{};
  bool mean = true;
  uint32_t wanted = ~0u;  // pair_loss_grad: bit i is output i
};
struct SeedAttrs {
  double weight = 1;  // the seed is weight * loss scale
};
struct CustomAttrs {
  mpt_custom_forward forward = nullptr;
  mpt_custom_backward backward = nullptr;
  void* user = nullptr;
  uint64_t scratch_bytes = 0;
  bool fp32 = false;
  std::vector<Shape> out_shapes;
  int n_inputs = 0, n_outputs = 0;
  std::vector<bool> wanted;  // custom_grad: by output, one per input of the op
};

using Attrs = std::variant<NoAttrs, ElementwiseAttrs, MatmulAttrs, ReduceAttrs, SoftmaxAttrs, NormAttrs, AttentionAttrs,
                           ReshapeAttrs, TransposeAttrs, SliceAttrs, AxisAttrs, GatherAttrs, PadAttrs,
                           CrossEntropyAttrs, PairLossAttrs, SeedAttrs, CustomAttrs>;

}  // namespace mpt
