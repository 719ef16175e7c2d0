#include <algorithm>
#include <limits>

#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"
#include "kernels/attention.h"
#include "kernels/attention_padding.h"

namespace mpt::cuda {
namespace {

// Where each tensor of a node stands among its inputs and outputs.
enum Position { q_in, k_in, v_in, mask_in, lengths_in, out_in, logsumexp_in, dout_in, grad_inputs };

// One tensor's rows as stored: strides in elements, and where the first head begins in a row.
struct Rows {
  Element type = Element::f32;
  int64_t batch = 0, time = 0, offset = 0;

  bool operator==(const Rows&) const = default;
};

Rows rows_of(const Value& value, int64_t offset = 0) {
  return {element_of(value.dtype), value.shape[1] * value.shape[2], value.shape[2], offset};
}

struct Problem {
  Problem(const Graph& graph, const Node& node) : attrs(std::get<AttentionAttrs>(node.attrs)) {
    const bool gradient = node.kind == OpKind::attention_grad;
    const Value& first = graph.value(node.inputs[q_in]);
    batch = first.shape[0];
    queries = first.shape[1];
    q = rows_of(first);
    if (attrs.packed) {
      keys = queries;
      head_size = first.shape[2] / (attrs.heads + 2 * attrs.kv_heads);
      k = rows_of(first, attrs.heads * head_size);
      v = rows_of(first, (attrs.heads + attrs.kv_heads) * head_size);
    } else {
      keys = graph.shape(node.inputs[k_in])[1];
      head_size = first.shape[2] / attrs.heads;
      k = rows_of(graph.value(node.inputs[k_in]));
      v = rows_of(graph.value(node.inputs[v_in]));
    }
    has_lengths = has(node.inputs, lengths_in);
    has_mask = has(node.inputs, mask_in);
    if (has_mask) {
      const int rank = graph.shape(node.inputs[mask_in]).rank();
      mask_head = rank == 4 ? queries * keys : 0;
      mask_batch = rank == 4 ? attrs.heads * mask_head : rank == 3 ? queries * keys : 0;
    }
    if (!gradient) {
      out = rows_of(graph.value(node.outputs[0]));
      return;
    }
    out = rows_of(graph.value(node.inputs[out_in]));
    dout = rows_of(graph.value(node.inputs[dout_in]));
    const auto gradient_rows = [&](std::size_t output, int64_t offset) {
      return has(node.outputs, output) ? rows_of(graph.value(node.outputs[output]), offset) : Rows{};
    };
    dq = gradient_rows(0, 0);
    dk = gradient_rows(attrs.packed ? 0 : 1, k.offset);
    dv = gradient_rows(attrs.packed ? 0 : 2, v.offset);
  }

  AttentionAttrs attrs;
  int64_t batch = 0, queries = 0, keys = 0, head_size = 0;
  bool has_mask = false, has_lengths = false;
  int64_t mask_batch = 0, mask_head = 0;
  Rows q, k, v, out, dout, dq, dk, dv;  // the last four: of the gradient only
};

// ---- by our own kernels

// Positions are 32-bit in the kernels, with room for a tile beyond the end.
bool supports_own(const Graph& graph, const Node& node, const Target&) {
  if (!has_element_types(graph, node)) return false;
  const Problem p(graph, node);
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1024;
  return std::max({p.batch, p.queries, p.keys, p.head_size}) <= most;
}

template <typename Pointer>
HeadRows<Pointer> heads_of(Pointer tensor, const Rows& rows, int64_t head_size) {
  HeadRows<Pointer> heads;
  if (tensor == nullptr) return heads;
  const int64_t size = size_of_element(rows.type);
  const auto address = reinterpret_cast<uintptr_t>(tensor) + static_cast<uintptr_t>(rows.offset * size);
  heads.data = reinterpret_cast<Pointer>(address);
  heads.batch = rows.batch;
  heads.time = rows.time;
  heads.type = rows.type;
  heads.vector =
      address % 16 == 0 && rows.batch * size % 16 == 0 && rows.time * size % 16 == 0 && head_size * size % 16 == 0;
  return heads;
}

AttentionShape shape_of(const Problem& p, const KernelArgs& args) {
  AttentionShape s;
  s.batch = static_cast<int32_t>(p.batch);
  s.heads = p.attrs.heads;
  s.kv_heads = p.attrs.kv_heads;
  s.queries = static_cast<int32_t>(p.queries);
  s.keys = static_cast<int32_t>(p.keys);
  s.head_size = static_cast<int32_t>(p.head_size);
  s.scale = static_cast<float>(p.attrs.scale);
  s.causal = p.attrs.causal;
  s.lengths = p.has_lengths ? static_cast<const int32_t*>(args.inputs[lengths_in]) : nullptr;
  s.mask = p.has_mask ? static_cast<const uint8_t*>(args.inputs[mask_in]) : nullptr;
  s.mask_batch = p.mask_batch;
  s.mask_head = p.mask_head;
  return s;
}

void run_own(const Problem& p, const KernelArgs& args, Stream stream) {
  AttentionArgs a;
  a.shape = shape_of(p, args);
  a.q = heads_of(args.inputs[q_in], p.q, p.head_size);
  a.k = heads_of(args.inputs[p.attrs.packed ? q_in : k_in], p.k, p.head_size);
  a.v = heads_of(args.inputs[p.attrs.packed ? q_in : v_in], p.v, p.head_size);
  a.out = heads_of(args.outputs[0], p.out, p.head_size);
  a.logsumexp = static_cast<float*>(args.outputs[1]);
  attention(a, stream);
}

void run_own_grad(const Problem& p, const KernelArgs& args, Stream stream) {
  AttentionGradArgs a;
  a.shape = shape_of(p, args);
  a.q = heads_of(args.inputs[q_in], p.q, p.head_size);
  a.k = heads_of(args.inputs[p.attrs.packed ? q_in : k_in], p.k, p.head_size);
  a.v = heads_of(args.inputs[p.attrs.packed ? q_in : v_in], p.v, p.head_size);
  a.out = heads_of(args.inputs[out_in], p.out, p.head_size);
  a.dout = heads_of(args.inputs[dout_in], p.dout, p.head_size);
  a.logsumexp = static_cast<const float*>(args.inputs[logsumexp_in]);
  a.delta = static_cast<float*>(args.scratch);
  a.dq = heads_of(args.outputs[0], p.dq, p.head_size);
  a.dk = heads_of(args.outputs[p.attrs.packed ? 0 : 1], p.dk, p.head_size);
  a.dv = heads_of(args.outputs[p.attrs.packed ? 0 : 2], p.dv, p.head_size);
  attention_grad(a, stream);
}

uint64_t own_grad_scratch(const Problem& p) {
  return static_cast<uint64_t>(p.batch * p.attrs.heads * p.queries) * sizeof(float);
}

class OwnAttention final : public Kernel {
 public:
  OwnAttention(const Graph& graph, const Node& node, const Target& target)
      : problem_(graph, node), stream_(target.stream) {}
  const char* implementation() const override { return "attention"; }
  void run(const KernelArgs& args) const override { run_own(problem_, args, stream_); }

 private:
  Problem problem_;
  Stream stream_;
};

class OwnAttentionGrad final : public Kernel {
 public:
  OwnAttentionGrad(const Graph& graph, const Node& node, const Target& target)
      : problem_(graph, node), stream_(target.stream) {}
  const char* implementation() const override { return "attention_grad"; }
  uint64_t scratch_bytes() const override { return own_grad_scratch(problem_); }
  void run(const KernelArgs& args) const override { run_own_grad(problem_, args, stream_); }

 private:
  Problem problem_;
  Stream stream_;
};

// ---- by cuDNN

// cuDNN reads and writes one 16-bit type, and no mask of ours. It is asked for a plan before the node is taken; the plan is
// kept by Dnn, so that preparing the kernel finds it again.
bool fits_dnn(const Graph& graph, const Node& node) {
  if (has(node.inputs, mask_in)) return false;
  const DType type = graph.value(node.inputs[q_in]).dtype;
  if (type != DType::f16 && type != DType::bf16) return false;
  const bool gradient = node.kind == OpKind::attention_grad;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (i != lengths_in && i != logsumexp_in && has(node.inputs, i) && graph.value(node.inputs[i]).dtype != type)
      return false;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (!gradient && i == 1) continue;  // logsumexp
    // It writes all gradients.
    if (!has(node.outputs, i) || graph.value(node.outputs[i]).dtype != type) return false;
  }
  return true;
}

AttentionProblem dnn_problem(const Graph& graph, const Node& node) {
  const Problem p(graph, node);
  AttentionProblem d;
  d.type = graph.value(node.inputs[q_in]).dtype;
  d.batch = p.batch;
  d.heads = p.attrs.heads;
  d.kv_heads = p.attrs.kv_heads;
  d.q_time = p.queries;
  d.kv_time = p.keys;
  d.head_size = p.head_size;
  d.scale = p.attrs.scale;
  d.causal = p.attrs.causal;
  d.lengths = p.has_lengths;
  const auto layout = [&](const Rows& rows) { return AttentionProblem::Layout{rows.batch, p.head_size, rows.time}; };
  d.q = layout(p.q);
  d.k = layout(p.k);
  d.v = layout(p.v);
  d.out = layout(p.out);
  if (node.kind == OpKind::attention_grad) {
    d.dout = layout(p.dout);
    d.dq = layout(p.dq);
    d.dk = layout(p.dk);
    d.dv = layout(p.dv);
  }
  return d;
}

std::unique_ptr<Dnn::Plan> dnn_plan(const Graph& graph, const Node& node, const Target& target) {
  const AttentionProblem problem = dnn_problem(graph, node);
  return node.kind == OpKind::attention ? target.dnn->attention(problem) : target.dnn->attention_grad(problem);
}

bool supports_dnn(const Graph& graph, const Node& node, const Target& target) {
  if (target.dnn == nullptr || !fits_dnn(graph, node) || !supports_own(graph, node, target)) return false;
  const std::unique_ptr<Dnn::Plan> plan = dnn_plan(graph, node, target);
  // A deterministic backward pass may keep the gradients of all scores: long sequences are better off slow than out of memory.
  return plan != nullptr && plan->workspace_bytes() <= target.device.properties().memory_bytes / 8;
}

class DnnAttention final : public Kernel {
 public:
  DnnAttention(const Graph& graph, const Node& node, const Target& target)
      : problem_(graph, node),
        gradient_(node.kind == OpKind::attention_grad),
        size_(size_of(graph.value(node.inputs[q_in]).dtype)),
        plan_(dnn_plan(graph, node, target)),
        stream_(target.stream) {
    if (plan_ == nullptr) fail(MPT_ERROR_INTERNAL, "attention '%s': its plan is gone", node.name.c_str());
  }
  const char* implementation() const override { return gradient_ ? "attention_grad.cudnn" : "attention.cudnn"; }
  uint64_t scratch_bytes() const override {
    const uint64_t own = gradient_ ? own_grad_scratch(problem_) : 0;
    return std::max(lengths_offset() + 2 * lengths_bytes() + workspace_alignment, own);
  }

  void run(const KernelArgs& args) const override {
    const Problem& p = problem_;
    const bool packed = p.attrs.packed;
    AttentionOperands o;
    o.q = args.inputs[q_in];
    o.k = at(args.inputs[packed ? q_in : k_in], p.k);
    o.v = at(args.inputs[packed ? q_in : v_in], p.v);
    if (gradient_) {
      // Only read: the interface has one pointer for both directions.
      o.out = const_cast<void*>(args.inputs[out_in]);
      o.logsumexp = const_cast<float*>(static_cast<const float*>(args.inputs[logsumexp_in]));
      o.dout = args.inputs[dout_in];
      o.dq = args.outputs[0];
      o.dk = const_cast<void*>(at(args.outputs[packed ? 0 : 1], p.dk));
      o.dv = const_cast<void*>(at(args.outputs[packed ? 0 : 2], p.dv));
    } else {
      o.out = args.outputs[0];
      o.logsumexp = static_cast<float*>(args.outputs[1]);
    }
    // Buffers of users may lie anywhere; cuDNN's kernels load 16 bytes at once.
    uintptr_t bits = 0;
    for (const void* pointer : {o.q, o.k, o.v, static_cast<const void*>(o.out), o.dout, static_cast<const void*>(o.dq),
                                static_cast<const void*>(o.dk), static_cast<const void*>(o.dv)})
      bits |= reinterpret_cast<uintptr_t>(pointer);
    if (bits % 16 != 0) return gradient_ ? run_own_grad(p, args, stream_) : run_own(p, args, stream_);
    const auto scratch = reinterpret_cast<uintptr_t>(args.scratch);
    const uintptr_t base = (scratch + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
    o.workspace = reinterpret_cast<void*>(base);
    if (!p.has_lengths) return plan_->run(stream_, o);

    AttentionLengthsArgs lengths;
    lengths.lengths = static_cast<const int32_t*>(args.inputs[lengths_in]);
    lengths.query_lengths = reinterpret_cast<int32_t*>(base + lengths_offset());
    lengths.key_lengths = reinterpret_cast<int32_t*>(base + lengths_offset() + lengths_bytes());
    lengths.batch = static_cast<int32_t>(p.batch);
    lengths.queries = static_cast<int32_t>(p.queries);
    lengths.keys = static_cast<int32_t>(p.keys);
    attention_lengths(lengths, stream_);
    o.lengths = lengths.key_lengths;
    o.query_lengths = lengths.query_lengths;
    plan_->run(stream_, o);
    AttentionPaddingArgs padding;
    padding.shape = shape_of(p, args);
    padding.queries = heads_of(args.outputs[0], gradient_ ? p.dq : p.out, p.head_size);
    if (gradient_) {
      padding.dk = heads_of(args.outputs[packed ? 0 : 1], p.dk, p.head_size);
      padding.dv = heads_of(args.outputs[packed ? 0 : 2], p.dv, p.head_size);
    } else {
      padding.logsumexp = static_cast<float*>(args.outputs[1]);
    }
    attention_padding(padding, stream_);
  }

 private:
  static constexpr uint64_t workspace_alignment = 256;

  // Behind cuDNN's workspace: the lengths of queries and of keys.
  uint64_t lengths_offset() const {
    return (plan_->workspace_bytes() + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
  }
  uint64_t lengths_bytes() const {
    return problem_.has_lengths ? static_cast<uint64_t>(problem_.batch) * sizeof(int32_t) : 0;
  }
  const void* at(const void* tensor, const Rows& rows) const {
    return static_cast<const char*>(tensor) + rows.offset * static_cast<int64_t>(size_);
  }

  Problem problem_;
  bool gradient_;
  std::size_t size_;
  std::unique_ptr<Dnn::Plan> plan_;
  Stream stream_;
};

template <typename K>
std::unique_ptr<Kernel> make(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<K>(graph, node, target);
}

}  // namespace

void register_attention(Registry& registry) {
  registry.add(OpKind::attention, {"attention.cudnn", supports_dnn, make<DnnAttention>});
  registry.add(OpKind::attention, {"attention", supports_own, make<OwnAttention>});
  registry.add(OpKind::attention_grad, {"attention_grad.cudnn", supports_dnn, make<DnnAttention>});
  registry.add(OpKind::attention_grad, {"attention_grad", supports_own, make<OwnAttentionGrad>});
}

}  // namespace mpt::cuda
