// Attention. Scores: D products, a scale: (D + 2) u sum |q k|. Probabilities exp(score - maximum) / sum: the scores'
// errors and the exponent's own rounding, 2 u for exp, and for the running maximum one more exponent and product per
// block of keys.
#include <algorithm>

#include "ops/tolerance_parts.h"

namespace mpt::test {

namespace {

struct Heads {
  const double* data;
  int64_t length, width, column;
  const double* row(int64_t b, int64_t t, int64_t head, int64_t size) const {
    return data + (b * length + t) * width + column + head * size;
  }
};

double product(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
double magnitude(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::fabs(a[i] * b[i]);
  return sum;
}

class AttentionBound {
 public:
  explicit AttentionBound(const Bound& bound) : bound_(bound), attrs_(std::get<AttentionAttrs>(bound.node.attrs)) {
    const Shape& x = bound.in_shape(0);
    batch_ = x[0];
    queries_ = x[1];
    size_ = x[2] / (attrs_.packed ? attrs_.heads + 2 * attrs_.kv_heads : attrs_.heads);
    keys_ = attrs_.packed ? x[1] : bound.in_shape(1)[1];
    const int64_t kv_width = attrs_.packed ? x[2] : attrs_.kv_heads * size_;
    q_ = {bound.in[0].data(), queries_, x[2], 0};
    k_ = {bound.in[attrs_.packed ? 0 : 1].data(), keys_, kv_width, attrs_.packed ? attrs_.heads * size_ : 0};
    v_ = {bound.in[attrs_.packed ? 0 : 2].data(), keys_, kv_width,
          attrs_.packed ? (attrs_.heads + attrs_.kv_heads) * size_ : 0};
  }

  void forward() {
    for_rows([&](int64_t b, int64_t head, int64_t t) {
      const int64_t kv = head / (attrs_.heads / attrs_.kv_heads);
      const Row row = look_at(b, head, t);
      const int64_t r = (b * attrs_.heads + head) * queries_ + t;
      const double n = static_cast<double>(keys_);
      const double relative = 2 * row.score_error + unit * (2 * row.spread + 4 * n + 8);
      for (int64_t d = 0; d < size_; ++d) {
        double sum = 0;
        for (int64_t s = 0; s < keys_; ++s) sum += row.p[s] * std::fabs(v_.row(b, s, kv, size_)[d]);
        bound_.error[0][((b * queries_ + t) * attrs_.heads + head) * size_ + d] = relative * sum;
      }
      if (bound_.has_out(1) && row.seen) {
        bound_.error[1][r] = row.score_error + unit * (row.spread + 3 * n + 6 + 2 * std::fabs(bound_.out[1][r]));
      }
    });
  }

  // ds = scale p (dp - delta), dq = sum ds k, dk = sum ds q, dv = sum p dout, with dp = dout . v and delta = dout .
  // out.
  void backward() {
    const Values &out = bound_.in[5], &lse = bound_.in[6], &dout = bound_.in[7];
    const double d_terms = static_cast<double>(size_ + 1);
    const double q_terms = static_cast<double>(queries_ * (attrs_.heads / attrs_.kv_heads) + 2);
    const double k_terms = static_cast<double>(keys_ + 2);
    const int64_t kv_width = attrs_.packed ? bound_.in_shape(0)[2] : attrs_.kv_heads * size_;
    const std::size_t dk_out = attrs_.packed ? 0 : 1, dv_out = attrs_.packed ? 0 : 2;
    for_rows([&](int64_t b, int64_t head, int64_t t) {
      const int64_t kv = head / (attrs_.heads / attrs_.kv_heads);
      const int64_t row = ((b * queries_ + t) * attrs_.heads + head) * size_;
      const double* g = dout.data() + row;
      const double* o = out.data() + row;
      const double* q = q_.row(b, t, head, size_);
      const double l = lse[(b * attrs_.heads + head) * queries_ + t];
      const double delta = product(g, o, size_), delta_error = unit * d_terms * magnitude(g, o, size_);
      for (int64_t s = 0; s < keys_; ++s) {
        if (!sees(b, head, t, s)) continue;
        const double* k = k_.row(b, s, kv, size_);
        const double* v = v_.row(b, s, kv, size_);
        const double score = attrs_.scale * product(q, k, size_), p = std::exp(score - l);
        const double p_error = p * (score_error(q, k) + unit * (std::fabs(score - l) + std::fabs(score) + 3));
        const double dp = product(g, v, size_), dp_error = unit * d_terms * magnitude(g, v, size_);
        const double scale = std::fabs(attrs_.scale);
        const double ds = scale * p * std::fabs(dp - delta);
        const double ds_error =
            scale * (p_error * std::fabs(dp - delta) + p * (dp_error + delta_error)) + 4 * unit * ds;
        for (int64_t d = 0; d < size_; ++d) {
          const int64_t q_at = (b * queries_ + t) * q_.width + q_.column + head * size_ + d;
          const int64_t k_at = (b * keys_ + s) * kv_width + k_.column + kv * size_ + d;
          const int64_t v_at = (b * keys_ + s) * kv_width + v_.column + kv * size_ + d;
          if (bound_.has_out(0)) bound_.error[0][q_at] += (ds_error + unit * k_terms * ds) * std::fabs(k[d]);
          if (bound_.has_out(static_cast<int>(dk_out))) {
            bound_.error[dk_out][k_at] += (ds_error + unit * q_terms * ds) * std::fabs(q[d]);
          }
          if (bound_.has_out(static_cast<int>(dv_out))) {
            bound_.error[dv_out][v_at] += (p_error + unit * q_terms * p) * std::fabs(g[d]);
          }
        }
      }
    });
  }

 private:
  struct Row {
    Values p;
    double score_error = 0, spread = 0;  // the largest over the keys seen; spread: of |score| and |score - maximum|
    bool seen = false;
  };

  template <typename F>
  void for_rows(F f) {
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t head = 0; head < attrs_.heads; ++head) {
        for (int64_t t = 0; t < queries_; ++t) f(b, head, t);
      }
    }
  }

  bool sees(int64_t b, int64_t head, int64_t t, int64_t s) const {
    if (attrs_.causal && s > t) return false;
    if (bound_.has_in(4) && s >= static_cast<int64_t>(bound_.in[4][b])) return false;
    if (!bound_.has_in(3)) return true;
    const int rank = bound_.in_shape(3).rank();
    const int64_t matrix = rank == 2 ? 0 : rank == 3 ? b : b * attrs_.heads + head;
    return bound_.in[3][(matrix * queries_ + t) * keys_ + s] != 0;
  }

  double score_error(const double* q, const double* k) const {
    return unit * static_cast<double>(size_ + 2) * std::fabs(attrs_.scale) * magnitude(q, k, size_);
  }

  Row look_at(int64_t b, int64_t head, int64_t t) const {
    const int64_t kv = head / (attrs_.heads / attrs_.kv_heads);
    const double* q = q_.row(b, t, head, size_);
    Row row;
    row.p.assign(static_cast<std::size_t>(keys_), 0.0);
    Values scores(row.p);
    double maximum = -INFINITY, minimum = INFINITY, sum = 0;
    for (int64_t s = 0; s < keys_; ++s) {
      if (!sees(b, head, t, s)) continue;
      const double* k = k_.row(b, s, kv, size_);
      scores[s] = attrs_.scale * product(q, k, size_);
      maximum = std::max(maximum, scores[s]);
      minimum = std::min(minimum, scores[s]);
      row.score_error = std::max(row.score_error, score_error(q, k));
      row.spread = std::max(row.spread, std::fabs(scores[s]));
      row.seen = true;
    }
    if (row.seen) row.spread += maximum - minimum;
    for (int64_t s = 0; s < keys_; ++s) {
      if (sees(b, head, t, s)) sum += row.p[s] = std::exp(scores[s] - maximum);
    }
    for (double& p : row.p) p = row.seen ? p / sum : 0;
    return row;
  }

  const Bound& bound_;
  AttentionAttrs attrs_;
  int64_t batch_, queries_, keys_, size_;
  Heads q_, k_, v_;
};

}  // namespace

void bound_attention(const Bound& bound) {
  AttentionBound attention(bound);
  bound.node.kind == OpKind::attention ? attention.forward() : attention.backward();
}

}  // namespace mpt::test
