#include "backend/cpu/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mpt::cpu {
namespace {

HeadRows rows_of(const Value& value, int64_t offset = 0) {
  const int64_t row = value.shape[2];
  return {value.dtype, value.shape[1] * row, row, offset};
}

GemmElement gemm_element(DType type) {
  return type == DType::f16 ? GemmElement::f16 : type == DType::bf16 ? GemmElement::bf16 : GemmElement::f32;
}

}  // namespace

AttentionProblem::AttentionProblem(const Graph& graph, const Node& node, bool gradient) {
  const auto& attrs = std::get<AttentionAttrs>(node.attrs);
  const auto input = [&](std::size_t i) { return i < node.inputs.size() ? node.inputs[i] : none; };
  heads = attrs.heads;
  kv_heads = attrs.kv_heads;
  causal = attrs.causal;
  packed = attrs.packed;
  scale = static_cast<float>(attrs.scale);
  const Value& first = graph.value(node.inputs[0]);
  batch = first.shape[0];
  queries = first.shape[1];
  q = rows_of(first);
  if (attrs.packed) {
    keys = queries;
    head_size = first.shape[2] / (heads + 2 * kv_heads);
    k = rows_of(first, heads * head_size);
    v = rows_of(first, (heads + kv_heads) * head_size);
  } else {
    keys = graph.shape(node.inputs[1])[1];
    head_size = first.shape[2] / heads;
    k = rows_of(graph.value(node.inputs[1]));
    v = rows_of(graph.value(node.inputs[2]));
  }
  has_lengths = input(4) != none;
  if (const ValueId mask = input(3); mask != none) {
    has_mask = true;
    const Shape& shape = graph.shape(mask);
    mask_head = shape.rank() == 4 ? queries * keys : 0;
    mask_batch = shape.rank() == 4 ? heads * mask_head : shape.rank() == 3 ? queries * keys : 0;
  }
  if (!gradient) {
    out = rows_of(graph.value(node.outputs[0]));
    return;
  }
  out = rows_of(graph.value(node.inputs[5]));
  dout = rows_of(graph.value(node.inputs[7]));
  const auto gradient_rows = [&](std::size_t output, int64_t offset) {
    return output < node.outputs.size() && node.outputs[output] != none
               ? rows_of(graph.value(node.outputs[output]), offset)
               : HeadRows{};
  };
  dq = gradient_rows(0, 0);
  dk = gradient_rows(attrs.packed ? 0 : 1, k.offset);
  dv = gradient_rows(attrs.packed ? 0 : 2, v.offset);
}

int64_t AttentionProblem::key_end(const int32_t* lengths, int64_t b, int64_t query_end) const {
  int64_t end = keys;
  if (lengths != nullptr) end = std::clamp<int64_t>(lengths[b], 0, end);
  return causal ? std::min(end, query_end) : end;
}

AttentionTensors::AttentionTensors(const KernelArgs& args, const AttentionProblem& problem)
    : q(args.inputs[0]),
      k(args.inputs[problem.packed ? 0 : 1]),
      v(args.inputs[problem.packed ? 0 : 2]),
      mask(problem.has_mask ? static_cast<const uint8_t*>(args.inputs[3]) : nullptr),
      lengths(problem.has_lengths ? static_cast<const int32_t*>(args.inputs[4]) : nullptr) {}

float AttentionProblem::hidden() const { return std::copysign(std::numeric_limits<float>::infinity(), -scale); }

void TileProduct::multiply(int64_t m, int64_t n, const float* a, int64_t packed, int64_t first, int64_t last,
                           const float* b, float* c, int64_t ldc, bool add) const {
  a += first * kernel.row_lanes;
  for (int64_t row = 0; row < m; row += kernel.rows) {
    kernel.multiply(std::min<int64_t>(kernel.rows, m - row), n, last - first, a, b, c, ldc, add);
    a += packed * kernel.row_lanes;
    c += kernel.rows * ldc;
  }
}

TileProduct tile_product(Isa level, DType a, bool transposed_a, DType b, bool transposed_b) {
#if defined(__x86_64__)
  if (level == Isa::avx512_bf16 && a == DType::bf16 && b == DType::bf16) {
    return {avx512::gemm_kernel_bf16(transposed_a, transposed_b)};
  }
#endif
  return {MPT_CHOOSE_ISA(level, gemm_kernel)({gemm_element(a), transposed_a}, {gemm_element(b), transposed_b})};
}

AttentionKernels attention_kernels(Isa level) { return MPT_CHOOSE_ISA(level, attention_kernels)(); }

}  // namespace mpt::cpu
