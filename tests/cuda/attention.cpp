// The kernels of attention beyond the sizes of the op's table: head sizes up to several chunks, times of several tiles, mixed
// storage, rows that allow no 16-byte access.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "cuda/emulated.h"
#include "kernels/attention.h"
#include "kernels/numerics/float16.h"

namespace mpt::test {
namespace {

using cuda::Element;

struct Setup {
  int batch, queries, keys, heads, kv_heads, head_size;
  bool causal = false, packed = false, lengths = false, mask = false;
  Element q = Element::f32, k = Element::f32, v = Element::f32, out = Element::f32;
  int64_t misaligned = 0;  // elements before each tensor's first
};

uint16_t narrowed(Element type, float x) { return type == Element::f16 ? f32_to_f16(x) : f32_to_bf16(x); }
float widened(Element type, uint16_t x) { return type == Element::f16 ? f16_to_f32(x) : bf16_to_f32(x); }

// [batch, time, width] in storage on the device, and its numbers.
struct Stored {
  Element type = Element::f32;
  int64_t batch = 0, time = 0, width = 0, before = 0;
  std::vector<double> values;
  void* memory = nullptr;

  double at(int64_t b, int64_t t, int64_t i) const {
    return values[static_cast<std::size_t>((b * time + t) * width + i)];
  }
};

class Run {
 public:
  explicit Run(const Setup& setup) : s(setup) {
    const int64_t d = s.head_size, q_width = (s.heads + (s.packed ? 2 * s.kv_heads : 0)) * d;
    q = normal(s.q, s.queries, q_width);
    if (!s.packed) {
      k = normal(s.k, s.keys, s.kv_heads * d);
      v = normal(s.v, s.keys, s.kv_heads * d);
    }
    dout = normal(s.out, s.queries, s.heads * d);
    std::vector<int32_t> lengths;
    for (int b = 0; b < s.batch; ++b) lengths.push_back(b % 3 == 1 ? 0 : s.keys - s.keys / 3);
    mask_.assign(static_cast<std::size_t>(s.batch) * s.queries * s.keys, 1);
    // About a third hidden; every seventh row sees nothing.
    for (std::size_t i = 0; i < mask_.size(); ++i) mask_[i] = i / s.keys % 7 != 3 && random_() % 3 != 0;
    lengths_ = lengths;

    cuda::AttentionShape& shape = forward_.shape;
    shape.batch = s.batch;
    shape.heads = s.heads;
    shape.kv_heads = s.kv_heads;
    shape.queries = s.queries;
    shape.keys = s.keys;
    shape.head_size = s.head_size;
    shape.scale = scale();
    shape.causal = s.causal;
    if (s.lengths) shape.lengths = device_.to_device(lengths);
    if (s.mask) {
      shape.mask = device_.to_device(mask_);
      shape.mask_batch = static_cast<int64_t>(s.queries) * s.keys;
    }
    forward_.q = rows<const void*>(q, 0);
    forward_.k = rows<const void*>(keys(), k_offset());
    forward_.v = rows<const void*>(values(), v_offset());
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(s.head_size)); }
  const Stored& keys() const { return s.packed ? q : k; }
  const Stored& values() const { return s.packed ? q : v; }
  int64_t k_offset() const { return s.packed ? int64_t{s.heads} * s.head_size : 0; }
  int64_t v_offset() const { return s.packed ? int64_t{s.heads + s.kv_heads} * s.head_size : 0; }
  int kv_head(int h) const { return h / (s.heads / s.kv_heads); }

  bool sees(int b, int query, int key) const {
    if ((s.causal && key > query) || (s.lengths && key >= lengths_[static_cast<std::size_t>(b)])) return false;
    return !s.mask || mask_[(static_cast<std::size_t>(b) * s.queries + query) * s.keys + key] != 0;
  }

  void forward() {
    out = empty(s.out, s.queries, int64_t{s.heads} * s.head_size);
    const std::size_t n = static_cast<std::size_t>(s.batch) * s.heads * s.queries;
    forward_.out = rows<void*>(out, 0);
    forward_.logsumexp = device_.allocate<float>(n);
    cuda::attention(forward_, device_.stream());
    read(out);
    const std::vector<float> numbers = device_.to_host(forward_.logsumexp, n);
    logsumexp.assign(numbers.begin(), numbers.end());
  }
  void backward() {
    cuda::AttentionGradArgs a;
    a.shape = forward_.shape;
    a.q = forward_.q;
    a.k = forward_.k;
    a.v = forward_.v;
    a.out = rows<const void*>(out, 0);
    a.dout = rows<const void*>(dout, 0);
    a.logsumexp = forward_.logsumexp;
    a.delta = device_.allocate<float>(logsumexp.size());
    dq = empty(q.type, q.time, q.width);
    a.dq = rows<void*>(dq, 0);
    if (!s.packed) {
      dk = empty(k.type, k.time, k.width);
      dv = empty(v.type, v.time, v.width);
    }
    a.dk = rows<void*>(s.packed ? dq : dk, k_offset());
    a.dv = rows<void*>(s.packed ? dq : dv, v_offset());
    cuda::attention_grad(a, device_.stream());
    read(dq);
    if (!s.packed) {
      read(dk);
      read(dv);
    }
  }

  const Setup s;
  Stored q, k, v, dout, out, dq, dk, dv;
  std::vector<double> logsumexp;

 private:
  Stored shaped(Element type, int64_t time, int64_t width) const {
    Stored x;
    x.type = type;
    x.batch = s.batch;
    x.time = time;
    x.width = width;
    x.before = s.misaligned;
    return x;
  }
  Stored normal(Element type, int64_t time, int64_t width) {
    Stored x = shaped(type, time, width);
    std::normal_distribution<float> normal;
    const std::size_t n = static_cast<std::size_t>(x.before + x.batch * time * width);
    std::vector<float> wide(n);
    std::vector<uint16_t> narrow(n);
    for (std::size_t i = 0; i < n; ++i) {
      wide[i] = normal(random_);
      if (type == Element::f32) continue;
      narrow[i] = narrowed(type, wide[i]);
      wide[i] = widened(type, narrow[i]);
    }
    x.memory = type == Element::f32 ? static_cast<void*>(device_.to_device(wide)) : device_.to_device(narrow);
    x.values.assign(wide.begin() + x.before, wide.end());
    return x;
  }
  Stored empty(Element type, int64_t time, int64_t width) {
    Stored x = shaped(type, time, width);
    x.memory = device_.allocate<char>(static_cast<std::size_t>(x.before + x.batch * time * width) *
                                      static_cast<std::size_t>(size_of_element(type)));
    return x;
  }
  void read(Stored& x) {
    const std::size_t n = static_cast<std::size_t>(x.before + x.batch * x.time * x.width);
    x.values.clear();
    if (x.type == Element::f32) {
      for (float number : device_.to_host(static_cast<float*>(x.memory), n)) x.values.push_back(number);
    } else {
      for (uint16_t bits : device_.to_host(static_cast<uint16_t*>(x.memory), n))
        x.values.push_back(widened(x.type, bits));
    }
    x.values.erase(x.values.begin(), x.values.begin() + x.before);
  }
  template <typename Pointer>
  cuda::HeadRows<Pointer> rows(const Stored& x, int64_t offset) const {
    const int64_t size = size_of_element(x.type);
    cuda::HeadRows<Pointer> heads;
    const auto address = reinterpret_cast<uintptr_t>(x.memory) + static_cast<uintptr_t>((x.before + offset) * size);
    heads.data = reinterpret_cast<Pointer>(address);
    heads.batch = x.time * x.width;
    heads.time = x.width;
    heads.type = x.type;
    heads.vector = address % 16 == 0 && x.width * size % 16 == 0 && s.head_size * size % 16 == 0;
    return heads;
  }

  Emulated device_;
  std::mt19937 random_{7};
  std::vector<uint8_t> mask_;
  std::vector<int32_t> lengths_;
  cuda::AttentionArgs forward_;
};

constexpr double unit = 0x1p-24;

double rounding(Element type) { return type == Element::f32 ? unit : type == Element::f16 ? 0x1p-11 : 0x1p-8; }

// Elements that are off by more than their arithmetic's error and one rounding.
int64_t wrong(const Stored& found, const std::vector<double>& exact, const std::vector<double>& error) {
  int64_t count = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double smallest = found.type == Element::f16 ? 0x1p-14 : 0x1p-126;  // below, the distance of numbers is fixed
    const double most = error[i] + rounding(found.type) * std::max(std::fabs(exact[i]) + error[i], smallest);
    if (!(std::fabs(found.values[i] - exact[i]) <= most)) ++count;
  }
  return count;
}

// Errors, with u half a unit in the last place: a score s has D products and a scale, (D + 2) u sum |q k| =: e_s. A weight
// p = exp(s - base) has e_s + (|s| + |base| + 8) u relative to it; forward both the numerator's and the denominator's count, with
// S additions and a rescaling for each tile of keys. dp and delta have D products each. A gradient adds up to N terms: N u each.
void check(const Setup& setup) {
  Run run(setup);
  const Setup& s = run.s;
  CAPTURE(s.queries);
  CAPTURE(s.keys);
  CAPTURE(s.head_size);
  CAPTURE(s.causal);
  CAPTURE(s.packed);
  run.forward();
  run.backward();
  const int64_t d = s.head_size;
  const double scale = static_cast<double>(run.scale()), terms = static_cast<double>(d + 2) * unit;
  std::vector<double> out(run.out.values.size()), out_error(out.size());
  std::vector<double> dq(run.dq.values.size()), dq_error(dq.size());
  std::vector<double> dk_own(run.dk.values.size()), dk_own_error(dk_own.size()), dv_own(dk_own), dv_own_error(dk_own);
  std::vector<double>&dk = s.packed ? dq : dk_own, &dv = s.packed ? dq : dv_own;
  std::vector<double>&dk_error = s.packed ? dq_error : dk_own_error, &dv_error = s.packed ? dq_error : dv_own_error;
  const double key_sums = static_cast<double>(s.keys + 8) * unit;
  const double query_sums = static_cast<double>(int64_t{s.queries} * (s.heads / s.kv_heads) + 8) * unit;
  int64_t wrong_logsumexp = 0;
  std::vector<double> score(static_cast<std::size_t>(s.keys)), score_error(score);

  for (int b = 0; b < s.batch; ++b)
    for (int h = 0; h < s.heads; ++h)
      for (int t = 0; t < s.queries; ++t) {
        const int64_t g = run.kv_head(h), q_at = h * d, k_at = run.k_offset() + g * d, v_at = run.v_offset() + g * d;
        double top = -INFINITY, sum = 0, worst = 0, spread = 0;
        for (int j = 0; j < s.keys; ++j) {
          double product = 0, magnitude = 0;
          for (int64_t i = 0; i < d; ++i) {
            const double term = run.q.at(b, t, q_at + i) * run.keys().at(b, j, k_at + i);
            product += term;
            magnitude += std::fabs(term);
          }
          const std::size_t n = static_cast<std::size_t>(j);
          score[n] = run.sees(b, t, j) ? scale * product : -INFINITY;
          score_error[n] = terms * scale * magnitude;
          if (!run.sees(b, t, j)) continue;
          top = std::max(top, score[n]);
          worst = std::max(worst, score_error[n]);
          spread = std::max(spread, std::fabs(score[n]));
        }
        for (double x : score) sum += top == -INFINITY ? 0 : std::exp(x - top);
        const double stored = run.logsumexp[(static_cast<std::size_t>(b) * s.heads + h) * s.queries + t];
        if (top == -INFINITY) {
          wrong_logsumexp += stored != -INFINITY;
          continue;  // out and its share of the gradients are 0
        }
        const double exact = top + std::log(sum);
        wrong_logsumexp +=
            !(std::fabs(stored - exact) <= worst + key_sums + unit * (4 * spread + 2 * std::fabs(exact)));

        double delta = 0, delta_error = 0;
        for (int64_t i = 0; i < d; ++i) {
          const double term = run.out.at(b, t, q_at + i) * run.dout.at(b, t, q_at + i);
          delta += term;
          delta_error += terms * std::fabs(term);
        }
        for (int j = 0; j < s.keys; ++j) {
          if (!run.sees(b, t, j)) continue;
          const std::size_t n = static_cast<std::size_t>(j);
          const double p = std::exp(score[n] - top) / sum, weight = std::exp(score[n] - stored);
          const double p_error = 2 * (worst + key_sums) + (4 * spread + 8) * unit;
          const double weight_error = score_error[n] + (std::fabs(score[n]) + std::fabs(stored) + 8) * unit;
          double dp = 0, dp_error = 0;
          for (int64_t i = 0; i < d; ++i) {
            const double term = run.dout.at(b, t, q_at + i) * run.values().at(b, j, v_at + i);
            dp += term;
            dp_error += terms * std::fabs(term);
          }
          const double ds = scale * weight * (dp - delta);
          const double ds_error = std::fabs(ds) * (weight_error + 4 * unit) + scale * weight * (dp_error + delta_error);
          for (int64_t i = 0; i < d; ++i) {
            const std::size_t at = static_cast<std::size_t>((int64_t{b} * s.queries + t) * s.heads * d + q_at + i);
            const std::size_t in_q = static_cast<std::size_t>((int64_t{b} * s.queries + t) * run.q.width + q_at + i);
            const std::size_t in_k = static_cast<std::size_t>((int64_t{b} * s.keys + j) * run.keys().width + k_at + i);
            const std::size_t in_v =
                static_cast<std::size_t>((int64_t{b} * s.keys + j) * run.values().width + v_at + i);
            const double k = run.keys().at(b, j, k_at + i), v = run.values().at(b, j, v_at + i);
            const double q = run.q.at(b, t, q_at + i), g_out = run.dout.at(b, t, q_at + i);
            out[at] += p * v;
            out_error[at] += p * std::fabs(v) * p_error;
            dq[in_q] += ds * k;
            dq_error[in_q] += (ds_error + std::fabs(ds) * key_sums) * std::fabs(k);
            dk[in_k] += ds * q;
            dk_error[in_k] += (ds_error + std::fabs(ds) * query_sums) * std::fabs(q);
            dv[in_v] += weight * g_out;
            dv_error[in_v] += weight * (weight_error + query_sums) * std::fabs(g_out);
          }
        }
      }
  CHECK(wrong(run.out, out, out_error) == 0);
  CHECK(wrong_logsumexp == 0);
  CHECK(wrong(run.dq, dq, dq_error) == 0);
  if (s.packed) return;
  CHECK(wrong(run.dk, dk, dk_error) == 0);
  CHECK(wrong(run.dv, dv, dv_error) == 0);
}

TEST_CASE("attention on the device: head sizes of one tile and of several") {
  for (int size : {16, 24, 32, 33, 48, 64, 65, 80, 96, 128, 129, 160, 192, 255, 256, 257}) {
    check({.batch = 1, .queries = 35, .keys = 67, .heads = 2, .kv_heads = 1, .head_size = size});
    check({.batch = 1,
           .queries = 35,
           .keys = 35,
           .heads = 2,
           .kv_heads = 1,
           .head_size = size,
           .causal = true,
           .packed = true});
  }
}

TEST_CASE("attention on the device: times around the tiles") {
  for (int time : {1, 31, 32, 33, 63, 64, 65, 129, 257}) {
    for (int size : {32, 64, 72}) {
      check({.batch = 1, .queries = time, .keys = time, .heads = 1, .kv_heads = 1, .head_size = size, .causal = true});
      check({.batch = 1, .queries = 3, .keys = time, .heads = 2, .kv_heads = 1, .head_size = size});
      check({.batch = 1, .queries = time, .keys = 3, .heads = 1, .kv_heads = 1, .head_size = size});
    }
  }
}

TEST_CASE("attention on the device: masks and lengths, items and rows that see nothing") {
  for (int size : {40, 64, 136}) {
    check({.batch = 3, .queries = 70, .keys = 100, .heads = 2, .kv_heads = 1, .head_size = size, .lengths = true});
    check({.batch = 2, .queries = 70, .keys = 100, .heads = 2, .kv_heads = 2, .head_size = size, .mask = true});
    check({.batch = 3,
           .queries = 70,
           .keys = 70,
           .heads = 1,
           .kv_heads = 1,
           .head_size = size,
           .causal = true,
           .lengths = true,
           .mask = true});
  }
}

TEST_CASE("attention on the device: storage") {
  constexpr Element f32 = Element::f32, f16 = Element::f16, bf16 = Element::bf16;
  for (int size : {24, 64, 136}) {
    for (int64_t misaligned : {0, 1}) {
      const auto with = [&](Element q, Element k, Element v, Element out) {
        check({.batch = 2,
               .queries = 37,
               .keys = 70,
               .heads = 2,
               .kv_heads = 1,
               .head_size = size,
               .q = q,
               .k = k,
               .v = v,
               .out = out,
               .misaligned = misaligned});
      };
      with(f32, f32, f32, f32);
      with(f16, f16, f16, f16);
      with(bf16, bf16, bf16, bf16);
      with(f16, f32, bf16, f16);
      with(f32, bf16, f32, bf16);
    }
  }
}

}  // namespace
}  // namespace mpt::test
