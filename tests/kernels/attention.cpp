#include "backend/cpu/attention.h"

#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

struct Setup {
  int64_t batch, queries, keys;
  int heads, kv_heads;
  int64_t head_size;
  bool causal = false, packed = false, lengths = false;
  int mask_rank = 0;
  double scale = 0.3;
  DType type = DType::f32;
};

// Everything in double, as the formulas say.
struct Exact {
  std::vector<double> out, logsumexp, dq, dk, dv;
  double magnitude = 0;  // the largest of what is summed: bounds the error of sums
};

class Attention {
 public:
  explicit Attention(const Setup& s) : s(s) {
    const int64_t row = s.packed ? (s.heads + 2 * s.kv_heads) * s.head_size : s.heads * s.head_size;
    q = Tensor(s.type, {s.batch, s.queries, row}).fill_normal(1);
    if (!s.packed) {
      k = Tensor(s.type, {s.batch, s.keys, s.kv_heads * s.head_size}).fill_normal(2);
      v = Tensor(s.type, {s.batch, s.keys, s.kv_heads * s.head_size}).fill_normal(3);
    }
    dout = Tensor(s.type, {s.batch, s.queries, s.heads * s.head_size}).fill_normal(4);
    std::mt19937 random(5);
    if (s.mask_rank == 2) mask = Tensor(DType::u8, {s.queries, s.keys});
    if (s.mask_rank == 3) mask = Tensor(DType::u8, {s.batch, s.queries, s.keys});
    if (s.mask_rank == 4) mask = Tensor(DType::u8, {s.batch, s.heads, s.queries, s.keys});
    // About a third hidden; every seventh row sees nothing.
    if (s.mask_rank > 0) mask.fill([&](int64_t i) { return i / s.keys % 7 != 3 && random() % 3 != 0; });
    lengths =
        Tensor(DType::i32, {s.batch}).fill([&](int64_t b) { return b % 3 == 2 ? 0 : (s.keys * (b + 1)) / (b + 2); });
  }

  int64_t group() const { return s.heads / s.kv_heads; }
  double q_at(int64_t b, int64_t t, int64_t h, int64_t d) const { return q.get(q_index(b, t, h, d)); }
  double k_at(int64_t b, int64_t t, int64_t h, int64_t d) const { return (s.packed ? q : k).get(k_index(b, t, h, d)); }
  double v_at(int64_t b, int64_t t, int64_t h, int64_t d) const { return (s.packed ? q : v).get(v_index(b, t, h, d)); }
  int64_t q_index(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return (b * s.queries + t) * q.shape()[2] + h * s.head_size + d;
  }
  int64_t k_index(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return s.packed ? q_index(b, t, s.heads + h, d) : ((b * s.keys + t) * s.kv_heads + h) * s.head_size + d;
  }
  int64_t v_index(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return s.packed ? q_index(b, t, s.heads + s.kv_heads + h, d) : k_index(b, t, h, d);
  }
  int64_t out_index(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return ((b * s.queries + t) * s.heads + h) * s.head_size + d;
  }
  bool seen(int64_t b, int64_t h, int64_t query, int64_t key) const {
    if (s.causal && key > query) return false;
    if (s.lengths && key >= static_cast<int64_t>(lengths.get(b))) return false;
    const int64_t item = s.mask_rank == 2 ? 0 : s.mask_rank == 3 ? b : b * s.heads + h;
    return s.mask_rank == 0 || mask.get((item * s.queries + query) * s.keys + key) != 0;
  }

  // Gradients with delta formed from the stored output, as every implementation that stores it does.
  Exact exact(const Tensor* stored_out, const Tensor* stored_logsumexp) const {
    Exact e;
    e.out.assign(static_cast<std::size_t>(s.batch * s.queries * s.heads * s.head_size), 0);
    e.logsumexp.assign(static_cast<std::size_t>(s.batch * s.heads * s.queries), -INFINITY);
    e.dq.assign(static_cast<std::size_t>(q.count()), 0);
    e.dk.assign(static_cast<std::size_t>(s.packed ? q.count() : k.count()), 0);
    e.dv = e.dk;
    std::vector<double> score(static_cast<std::size_t>(s.keys)), p(score.size());
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t h = 0; h < s.heads; ++h)
        for (int64_t i = 0; i < s.queries; ++i) {
          const int64_t g = h / group();
          double top = -INFINITY, sum = 0;
          for (int64_t j = 0; j < s.keys; ++j) {
            double dot = 0;
            for (int64_t d = 0; d < s.head_size; ++d) dot += q_at(b, i, h, d) * k_at(b, j, g, d);
            score[j] = seen(b, h, i, j) ? s.scale * dot : -INFINITY;
            top = std::max(top, score[j]);
          }
          if (top == -INFINITY) continue;
          for (int64_t j = 0; j < s.keys; ++j) sum += std::exp(score[j] - top);
          double& lse = e.logsumexp[(b * s.heads + h) * s.queries + i];
          lse = top + std::log(sum);
          const double base = stored_logsumexp ? stored_logsumexp->get((b * s.heads + h) * s.queries + i) : lse;
          double delta = 0;
          for (int64_t d = 0; d < s.head_size; ++d) {
            const int64_t at = out_index(b, i, h, d);
            for (int64_t j = 0; j < s.keys; ++j) {
              p[j] = std::exp(score[j] - base);
              e.out[at] += p[j] == 0 ? 0 : p[j] * v_at(b, j, g, d);
            }
            delta += dout.get(at) * (stored_out ? stored_out->get(at) : e.out[at]);
          }
          for (int64_t j = 0; j < s.keys; ++j) {
            if (p[j] == 0) continue;
            double dp = 0;
            for (int64_t d = 0; d < s.head_size; ++d) dp += dout.get(out_index(b, i, h, d)) * v_at(b, j, g, d);
            const double ds = s.scale * p[j] * (dp - delta);
            for (int64_t d = 0; d < s.head_size; ++d) {
              e.dv[v_index(b, j, g, d)] += p[j] * dout.get(out_index(b, i, h, d));
              e.dq[q_index(b, i, h, d)] += ds * k_at(b, j, g, d);
              e.dk[k_index(b, j, g, d)] += ds * q_at(b, i, h, d);
              e.magnitude =
                  std::max({e.magnitude, std::fabs(e.dv[v_index(b, j, g, d)]), std::fabs(e.dq[q_index(b, i, h, d)]),
                            std::fabs(e.dk[k_index(b, j, g, d)]), std::fabs(dp), std::fabs(delta)});
            }
          }
        }
    return e;
  }

  void add_inputs(KernelCase& c) const {
    c.input(q);
    if (s.packed) {
      c.no_input();
      c.no_input();
    } else {
      c.input(k);
      c.input(v);
    }
    if (s.mask_rank > 0)
      c.input(mask);
    else
      c.no_input();
    if (s.lengths)
      c.input(lengths);
    else
      c.no_input();
  }

  AttentionAttrs attrs() const { return {s.heads, s.kv_heads, s.causal, s.packed, s.scale}; }

  Setup s;
  Tensor q, k, v, mask, lengths, dout;
};

void check_attention(const Setup& s) {
  CAPTURE(s.batch);
  CAPTURE(s.queries);
  CAPTURE(s.keys);
  CAPTURE(s.heads);
  CAPTURE(s.kv_heads);
  CAPTURE(s.head_size);
  CAPTURE(s.causal);
  CAPTURE(s.packed);
  CAPTURE(s.mask_rank);
  const std::string type_name = name_of(s.type);
  CAPTURE(type_name);
  const Attention a(s);
  const Exact exact = a.exact(nullptr, nullptr);
  // u: half a unit in the last place. Inputs are normal numbers, at most 5: a score's sum of D products has an error of at most D u sum|q k|, and
  // sum|q k| stays below 2 D (mean 0.64 D). Error of a scaled score, and by it relative of a probability (with exp, the
  // subtraction and division: 8 u more): e.
  const double u = unit, d = static_cast<double>(s.head_size), keys = static_cast<double>(s.keys);
  const double e = std::fabs(s.scale) * (d + 1) * u * 2 * d + 16 * u;
  // out is an average of v (at most 5) by weights with relative errors 2 e + S u (numerator and denominator).
  const double out_error = 5 * (2 * e + 2 * keys * u);
  // logsumexp: |maximum| < 5 D scale.
  const double lse_error = e + keys * u + 4 * u * 5 * d * std::fabs(s.scale);

  KernelCase forward(OpKind::attention, a.attrs());
  a.add_inputs(forward);
  forward.output(s.type, a.dout.shape());
  forward.output(DType::f32, {s.batch, s.heads, s.queries});
  std::vector<Tensor> stored;
  forward.run_all(cpu::make_attention, [&](const std::vector<Tensor>& outputs) {
    check_close(outputs[0], exact.out, out_error);
    check_close(outputs[1], exact.logsumexp, lse_error);
    stored = outputs;
  });

  // Of the stored out and logsumexp the exact gradient is formed too. p has a relative error of e + |lse| u; dp and delta have
  // D products of numbers up to 5; a gradient sums over T group (dk, dv) or S (dq) terms of up to `magnitude` together.
  const Exact gradient = a.exact(&stored[0], &stored[1]);
  const double terms = static_cast<double>(std::max(s.queries * a.group(), s.keys));
  const double error =
      (e + 5 * d * std::fabs(s.scale) * u + 2 * d * u + terms * u) * 16 * std::max(1.0, gradient.magnitude);
  KernelCase backward(OpKind::attention_grad, a.attrs());
  a.add_inputs(backward);
  backward.input(stored[0]);
  backward.input(stored[1]);
  backward.input(a.dout);
  backward.output(s.type, a.q.shape());
  if (!s.packed) {
    backward.output(s.type, a.k.shape());
    backward.output(s.type, a.v.shape());
  }
  backward.run_all(cpu::make_attention_grad, [&](const std::vector<Tensor>& outputs) {
    if (s.packed) {
      std::vector<double> all = gradient.dq;
      for (std::size_t i = 0; i < all.size(); ++i) all[i] += gradient.dk[i] + gradient.dv[i];
      check_close(outputs[0], all, error);
    } else {
      check_close(outputs[0], gradient.dq, error);
      check_close(outputs[1], gradient.dk, error);
      check_close(outputs[2], gradient.dv, error);
    }
  });
}

}  // namespace

TEST_CASE("attention: shapes around the tiles") {
  for (DType type : float_types) {
    check_attention({.batch = 1, .queries = 1, .keys = 1, .heads = 1, .kv_heads = 1, .head_size = 1, .type = type});
    check_attention({.batch = 2, .queries = 7, .keys = 19, .heads = 3, .kv_heads = 3, .head_size = 5, .type = type});
    check_attention({.batch = 1, .queries = 33, .keys = 131, .heads = 2, .kv_heads = 1, .head_size = 24, .type = type});
    check_attention(
        {.batch = 1, .queries = 300, .keys = 270, .heads = 2, .kv_heads = 2, .head_size = 16, .type = type});
    check_attention({.batch = 8, .queries = 150, .keys = 40, .heads = 4, .kv_heads = 2, .head_size = 33, .type = type});
  }
}

TEST_CASE("attention: causal") {
  for (DType type : float_types) {
    for (int64_t length : {1, 31, 32, 33, 128, 129, 300}) {
      check_attention({.batch = 1,
                       .queries = length,
                       .keys = length,
                       .heads = 2,
                       .kv_heads = 1,
                       .head_size = 17,
                       .causal = true,
                       .type = type});
    }
    check_attention({.batch = 9,
                     .queries = 140,
                     .keys = 140,
                     .heads = 2,
                     .kv_heads = 2,
                     .head_size = 8,
                     .causal = true,
                     .packed = true,
                     .type = type});
  }
}

TEST_CASE("attention: packed inputs with groups of heads") {
  for (DType type : float_types) {
    check_attention({.batch = 2,
                     .queries = 45,
                     .keys = 45,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_size = 11,
                     .packed = true,
                     .type = type});
  }
}

TEST_CASE("attention: masks, key lengths and rows that see nothing") {
  for (DType type : float_types) {
    for (int rank : {2, 3, 4}) {
      check_attention({.batch = 3,
                       .queries = 37,
                       .keys = 50,
                       .heads = 2,
                       .kv_heads = 1,
                       .head_size = 9,
                       .lengths = rank == 3,
                       .mask_rank = rank,
                       .type = type});
    }
    check_attention({.batch = 3,
                     .queries = 140,
                     .keys = 140,
                     .heads = 1,
                     .kv_heads = 1,
                     .head_size = 9,
                     .causal = true,
                     .lengths = true,
                     .mask_rank = 2,
                     .type = type});
    check_attention({.batch = 6,
                     .queries = 20,
                     .keys = 300,
                     .heads = 3,
                     .kv_heads = 3,
                     .head_size = 16,
                     .lengths = true,
                     .type = type});
  }
}

TEST_CASE("attention: a negative scale hides too") {
  check_attention({.batch = 1,
                   .queries = 40,
                   .keys = 40,
                   .heads = 1,
                   .kv_heads = 1,
                   .head_size = 8,
                   .causal = true,
                   .mask_rank = 2,
                   .scale = -0.4});
}

TEST_CASE("attention: scores far beyond the range of exp") {
  Attention a({.batch = 1, .queries = 40, .keys = 200, .heads = 1, .kv_heads = 1, .head_size = 4, .scale = 1});
  a.q.fill([](int64_t) { return 100; });
  a.k.fill([](int64_t i) { return i / 4 == 150 ? 100 : -100; });
  KernelCase forward(OpKind::attention, a.attrs());
  a.add_inputs(forward);
  forward.output(DType::f32, a.dout.shape());
  forward.output(DType::f32, {1, 1, 40});
  forward.run_all(cpu::make_attention, [&](const std::vector<Tensor>& outputs) {
    for (int64_t i = 0; i < 40; ++i) {
      CHECK(outputs[1].get(i) == 40000);
      for (int64_t d = 0; d < 4; ++d) CHECK(outputs[0].get(4 * i + d) == a.v.get(4 * 150 + d));
    }
  });
}

TEST_CASE("attention: a gradient that nobody wants is not written") {
  const Attention a({.batch = 1, .queries = 9, .keys = 9, .heads = 1, .kv_heads = 1, .head_size = 8});
  KernelCase backward(OpKind::attention_grad, a.attrs());
  a.add_inputs(backward);
  backward.input(Tensor(DType::f32, a.dout.shape()).fill_normal(6));
  backward.input(Tensor(DType::f32, {1, 1, 9}).fill([](int64_t) { return 3; }));
  backward.input(a.dout);
  backward.no_output();
  backward.output(DType::f32, a.k.shape());
  backward.no_output();
  const auto part = backward.run(cpu::make_attention_grad, cpu::Isa::portable, 1);
  CHECK(std::isfinite(part[1].get(0)));
}

}  // namespace mpt::test
