// Scaled dot-product attention of several heads: softmax(scale q k^T + mask) v.
#include <cmath>
#include <limits>

#include "backend/ref/kernels.h"

namespace mpt::ref {

namespace {

// One of q, k, v: columns [column, column + heads * size) of a tensor [B, T, width].
struct Heads {
  Tensor tensor;
  int64_t column = 0, size = 0;

  int64_t at(int64_t b, int64_t t, int64_t head, int64_t d) const {
    return (b * tensor.shape[1] + t) * tensor.shape[2] + column + head * size + d;
  }
  double get(int64_t b, int64_t t, int64_t head, int64_t d) const { return tensor[at(b, t, head, d)]; }
};

struct Attention {
  AttentionAttrs attrs;
  Heads q, k, v;
  Tensor mask, lengths;
  int64_t batch, queries, keys, size;

  Attention(const AttentionAttrs& a, const Launch& launch) : attrs(a) {
    const Tensor x = launch.input(0);
    batch = x.shape[0];
    queries = x.shape[1];
    size = x.shape[2] / (a.packed ? a.heads + 2 * a.kv_heads : a.heads);
    q = {x, 0, size};
    k = a.packed ? Heads{x, a.heads * size, size} : Heads{launch.input(1), 0, size};
    v = a.packed ? Heads{x, (a.heads + a.kv_heads) * size, size} : Heads{launch.input(2), 0, size};
    keys = k.tensor.shape[1];
    mask = launch.input(3);
    lengths = launch.input(4);
  }

  int64_t kv_head(int64_t head) const { return head / (attrs.heads / attrs.kv_heads); }

  bool sees(int64_t b, int64_t head, int64_t t, int64_t s) const {
    if (attrs.causal && s > t) return false;
    if (lengths && s >= static_cast<int64_t>(lengths[b])) return false;
    if (!mask) return true;
    const int rank = mask.shape.rank();  // [T, S], [B, T, S] or [B, H, T, S], where a size may be 1
    int64_t offset = 0;
    const int64_t position[4] = {b, rank == 3 ? b : head, t, s};
    for (int axis = 0; axis < rank; ++axis) {
      offset = offset * mask.shape[axis] + (mask.shape[axis] == 1 ? 0 : position[4 - rank + axis]);
    }
    return mask[offset] != 0;
  }

  double score(int64_t b, int64_t head, int64_t t, int64_t s) const {
    double sum = 0;
    for (int64_t d = 0; d < size; ++d) sum += q.get(b, t, head, d) * k.get(b, s, kv_head(head), d);
    return attrs.scale * sum;
  }

  int64_t row(int64_t b, int64_t head, int64_t t) const { return (b * attrs.heads + head) * queries + t; }
};

}  // namespace

std::unique_ptr<Kernel> prepare_attention(const Graph& graph, const Node& node) {
  const auto attrs = std::get<AttentionAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Attention at(attrs, launch);
    const Heads out{launch.output(0), 0, at.size};
    const Tensor logsumexp = launch.output(1);
    double* p = launch.scratch();
    for (int64_t b = 0; b < at.batch; ++b) {
      for (int64_t head = 0; head < attrs.heads; ++head) {
        for (int64_t t = 0; t < at.queries; ++t) {
          double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
          for (int64_t s = 0; s < at.keys; ++s) {
            if (!at.sees(b, head, t, s)) continue;
            p[s] = at.score(b, head, t, s);
            maximum = std::fmax(maximum, p[s]);
          }
          for (int64_t s = 0; s < at.keys; ++s) {
            p[s] = at.sees(b, head, t, s) ? std::exp(p[s] - maximum) : 0;
            sum += p[s];
          }
          for (int64_t d = 0; d < at.size; ++d) {
            double o = 0;
            for (int64_t s = 0; s < at.keys; ++s) {
              if (p[s] != 0) o += p[s] * at.v.get(b, s, at.kv_head(head), d);
            }
            out.tensor.set(out.at(b, t, head, d), sum == 0 ? 0 : o / sum);  // a row that sees nothing gives zeros
          }
          if (logsumexp) logsumexp.set(at.row(b, head, t), maximum + std::log(sum));
        }
      }
    }
  };
  const Shape& keys = graph.shape(attrs.packed ? node.inputs.at(0) : node.inputs.at(1));
  return make_kernel(graph, node, run, doubles(keys[1]));
}

std::unique_ptr<Kernel> prepare_attention_grad(const Graph& graph, const Node& node) {
  const auto attrs = std::get<AttentionAttrs>(node.attrs);
  const auto run = [attrs](const Launch& launch) {
    const Attention at(attrs, launch);
    const Heads out{launch.input(5), 0, at.size}, dout{launch.input(7), 0, at.size};
    const Tensor logsumexp = launch.input(6);
    Heads dq = at.q, dk = at.k, dv = at.v;
    dq.tensor = launch.output(0);
    dk.tensor = attrs.packed ? launch.output(0) : launch.output(1);
    dv.tensor = attrs.packed ? launch.output(0) : launch.output(2);

    // Sums over all queries and all heads that share a key's head: [B, S, kv_heads, D].
    const int64_t count = at.batch * at.keys * attrs.kv_heads * at.size;
    double* dk_sums = launch.scratch();
    double* dv_sums = dk_sums + count;
    double* dq_row = dv_sums + count;
    for (int64_t i = 0; i < 2 * count; ++i) dk_sums[i] = 0;

    for (int64_t b = 0; b < at.batch; ++b) {
      for (int64_t head = 0; head < attrs.heads; ++head) {
        const int64_t kv = at.kv_head(head);
        for (int64_t t = 0; t < at.queries; ++t) {
          double delta = 0;  // sum of p dp over the keys, which is out . dout
          for (int64_t d = 0; d < at.size; ++d) {
            delta += out.get(b, t, head, d) * dout.get(b, t, head, d);
            dq_row[d] = 0;
          }
          for (int64_t s = 0; s < at.keys; ++s) {
            if (!at.sees(b, head, t, s)) continue;
            const double p = std::exp(at.score(b, head, t, s) - logsumexp[at.row(b, head, t)]);
            double dp = 0;
            for (int64_t d = 0; d < at.size; ++d) dp += dout.get(b, t, head, d) * at.v.get(b, s, kv, d);
            const double dscore = attrs.scale * p * (dp - delta);
            const int64_t sums = ((b * at.keys + s) * attrs.kv_heads + kv) * at.size;
            for (int64_t d = 0; d < at.size; ++d) {
              dq_row[d] += dscore * at.k.get(b, s, kv, d);
              dk_sums[sums + d] += dscore * at.q.get(b, t, head, d);
              dv_sums[sums + d] += p * dout.get(b, t, head, d);
            }
          }
          for (int64_t d = 0; dq.tensor && d < at.size; ++d) dq.tensor.set(dq.at(b, t, head, d), dq_row[d]);
        }
      }
    }
    for (int64_t b = 0; b < at.batch; ++b) {
      for (int64_t s = 0; s < at.keys; ++s) {
        for (int64_t kv = 0; kv < attrs.kv_heads; ++kv) {
          for (int64_t d = 0; d < at.size; ++d) {
            const int64_t i = ((b * at.keys + s) * attrs.kv_heads + kv) * at.size + d;
            if (dk.tensor) dk.tensor.set(dk.at(b, s, kv, d), dk_sums[i]);
            if (dv.tensor) dv.tensor.set(dv.at(b, s, kv, d), dv_sums[i]);
          }
        }
      }
    }
  };
  const Shape& x = graph.shape(node.inputs.at(0));
  const Shape& keys = attrs.packed ? x : graph.shape(node.inputs.at(1));
  const int64_t size = x[2] / (attrs.packed ? attrs.heads + 2 * attrs.kv_heads : attrs.heads);
  return make_kernel(graph, node, run, doubles(2 * keys[0] * keys[1] * attrs.kv_heads * size + size));
}

}  // namespace mpt::ref
