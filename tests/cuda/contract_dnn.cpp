// lib/dnn.h by its contract: attention and its gradient in several layouts against plain loops in double. The
// emulation runs it, and on a GPU the real library does.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "cuda/device_session.h"
#include "cuda/numbers.h"
#include "cuda/tested_libraries.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;
using Layout = AttentionProblem::Layout;

struct Case {
  const char* name;
  DType type;
  int64_t batch, heads, kv_heads, q_time, kv_time, head_size;
  bool causal, lengths, packed;  // packed: q, k, v in one tensor [batch, time, 3, heads, head_size]
};
constexpr Case all_cases[] = {
    {"one row", DType::f16, 1, 1, 1, 1, 1, 8, false, false, false},
    {"odd times", DType::f16, 2, 3, 3, 7, 33, 64, false, false, false},
    {"causal", DType::bf16, 2, 2, 2, 40, 40, 64, true, false, false},
    {"packed and causal", DType::f16, 2, 4, 4, 65, 65, 32, true, false, true},
    {"shared heads", DType::bf16, 1, 6, 2, 17, 17, 128, true, false, false},
    {"lengths", DType::f16, 3, 2, 2, 20, 20, 64, false, true, false},
    {"lengths and causal", DType::bf16, 3, 2, 1, 24, 24, 16, true, true, false},
};

// A tensor of the problem within memory that several may share.
struct Tensor {
  std::vector<unsigned char>* bytes = nullptr;
  DType type = DType::f16;
  int64_t offset = 0;  // elements
  Layout layout;
  double operator()(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return number_at(*bytes, type, at(b, h, t, c));
  }
  int64_t at(int64_t b, int64_t h, int64_t t, int64_t c) const {
    return offset + b * layout.batch + h * layout.head + t * layout.time + c;
  }
};

class Check {
 public:
  Check(DeviceSession& session, const Case& c) : session_(session), c_(c), random_(hash(c)) {
    p_.type = c.type;
    p_.batch = c.batch;
    p_.heads = c.heads;
    p_.kv_heads = c.kv_heads;
    p_.q_time = c.q_time;
    p_.kv_time = c.kv_time;
    p_.head_size = c.head_size;
    p_.scale = 1 / std::sqrt(static_cast<double>(c.head_size));
    p_.causal = c.causal;
    p_.lengths = c.lengths;
    // Times outside heads, as a linear layer writes them.
    const auto layout = [&](int64_t heads, int64_t time) {
      return Layout{time * heads * c.head_size, c.head_size, heads * c.head_size};
    };
    if (c.packed) {
      const int64_t row = 3 * c.heads * c.head_size;
      p_.q = p_.k = p_.v = p_.dq = p_.dk = p_.dv = {c.q_time * row, c.head_size, row};
    } else {
      p_.q = p_.dq = layout(c.heads, c.q_time);
      p_.k = p_.v = p_.dk = p_.dv = layout(c.kv_heads, c.kv_time);
    }
    p_.out = p_.dout = layout(c.heads, c.q_time);
    const int64_t q_size = c.batch * c.heads * c.q_time * c.head_size,
                  k_size = c.batch * c.kv_heads * c.kv_time * c.head_size;
    for (auto* set : {&in_, &gradients_}) {
      if (c.packed)
        set->assign(1, random_numbers(3 * q_size));
      else
        *set = {random_numbers(q_size), random_numbers(k_size), random_numbers(k_size)};
    }
    out_.assign(static_cast<std::size_t>(q_size) * 2, 0xff);
    dout_ = random_numbers(q_size);
    q_ = tensor(in_, 0, p_.q);
    k_ = tensor(in_, 1, p_.k);
    v_ = tensor(in_, 2, p_.v);
    dq_ = tensor(gradients_, 0, p_.dq);
    dk_ = tensor(gradients_, 1, p_.dk);
    dv_ = tensor(gradients_, 2, p_.dv);
    o_ = {&out_, c.type, 0, p_.out};
    do_ = {&dout_, c.type, 0, p_.dout};
    for (int64_t b = 0; b < c.batch; ++b)
      lengths_.push_back(static_cast<int32_t>(std::max<int64_t>(1, c.kv_time - 5 * b - 3)));
    logsumexp_.assign(static_cast<std::size_t>(c.batch * c.heads * c.q_time), NAN);
  }

  bool run() {
    const auto forward = session_.dnn()->attention(p_), backward = session_.dnn()->attention_grad(p_);
    if (!forward || !backward) return false;
    AttentionOperands o;
    const std::vector<unsigned char*> in = place(in_);
    o.q = in[0];
    o.k = in[1];
    o.v = in[2];
    unsigned char* out = session_.to_device(out_);
    o.out = out;
    o.logsumexp = session_.to_device(logsumexp_);
    if (c_.lengths) {
      o.lengths = session_.to_device(lengths_);
      o.query_lengths = session_.to_device(std::vector<int32_t>(lengths_.size(), static_cast<int32_t>(c_.q_time)));
    }
    run(*forward, o);
    out_ = session_.to_host(out, out_.size());
    logsumexp_ = session_.to_host(o.logsumexp, logsumexp_.size());
    run(*forward, o);
    if (session_.to_host(out, out_.size()) != out_) FAIL_CHECK(std::string(c_.name) << ": other bits the second time");
    compare_forward();

    o.dout = session_.to_device(dout_);
    const std::vector<unsigned char*> gradients = place(gradients_);
    o.dq = gradients[0];
    o.dk = gradients[1];
    o.dv = gradients[2];
    run(*backward, o);
    const auto fetch = [&] {
      std::vector<std::vector<unsigned char>> all;
      for (std::size_t i = 0; i < gradients_.size(); ++i)
        all.push_back(session_.to_host(gradients[i], gradients_[i].size()));
      return all;
    };
    std::vector<std::vector<unsigned char>> first = fetch();
    run(*backward, o);
    if (fetch() != first) FAIL_CHECK(std::string(c_.name) << ": other bits of gradients the second time");
    for (std::size_t i = 0; i < first.size(); ++i) gradients_[i] = first[i];
    compare_backward();
    session_.release();
    return true;
  }

 private:
  static uint64_t hash(const Case& c) { return static_cast<uint64_t>(c.q_time * 1000 + c.head_size + c.heads); }
  std::vector<unsigned char> random_numbers(int64_t count) {
    std::vector<unsigned char> bytes(static_cast<std::size_t>(count) * 2);
    std::uniform_real_distribution<double> uniform(-2, 2);
    for (int64_t i = 0; i < count; ++i) set_number(bytes, c_.type, i, uniform(random_));
    return bytes;
  }
  Tensor tensor(std::vector<std::vector<unsigned char>>& set, int64_t index, const Layout& layout) {
    if (!c_.packed) return {&set[static_cast<std::size_t>(index)], c_.type, 0, layout};
    return {&set[0], c_.type, index * c_.heads * c_.head_size, layout};
  }
  std::vector<unsigned char*> place(const std::vector<std::vector<unsigned char>>& set) {
    std::vector<unsigned char*> at;
    for (const auto& bytes : set) at.push_back(session_.to_device(bytes));
    for (int64_t i = 1; c_.packed && i < 3; ++i) at.push_back(at[0] + i * c_.heads * c_.head_size * 2);
    return at;
  }
  void run(const Dnn::Plan& plan, AttentionOperands& o) {
    o.workspace = plan.workspace_bytes() > 0 ? session_.allocate<unsigned char>(plan.workspace_bytes()) : nullptr;
    plan.run(session_.stream(), o);
    session_.synchronize();
  }

  int64_t keys(int64_t b, int64_t t) const {
    int64_t n = c_.kv_time;
    if (c_.causal) n = std::min(n, t + 1);
    if (c_.lengths) n = std::min<int64_t>(n, lengths_[static_cast<std::size_t>(b)]);
    return n;
  }
  int64_t kv_head(int64_t h) const { return h / (c_.heads / c_.kv_heads); }
  struct Sum {
    double exact = 0, size = 0;
    void add(double term) {
      exact += term;
      size += std::fabs(term);
    }
  };
  Sum dot(const Tensor& x, int64_t b, int64_t h, int64_t t, const Tensor& y, int64_t g, int64_t s) const {
    Sum sum;
    for (int64_t c = 0; c < c_.head_size; ++c) sum.add(x(b, h, t, c) * y(b, g, s, c));
    return sum;
  }
  // Of a score in FP32: head_size products are added, scaled and, for powers of two, scaled again.
  double score_error(const Sum& score) const {
    return p_.scale * score.size * static_cast<double>(c_.head_size + 3) * half_ulp;
  }
  void note(const char* of, int64_t b, int64_t h, int64_t t, int64_t c, double found, double exact, double error) {
    if (++wrong_ == 1)
      FAIL_CHECK(std::string(c_.name) << ": " << std::string(of) << "[" << b << ", " << h << ", " << t << ", " << c
                                      << "]: found " << found << ", exact " << exact << ", may be off by " << error);
  }
  void check(const char* of, const Tensor& x, int64_t b, int64_t h, int64_t t, int64_t c, double exact, double error) {
    if (!is_within(x(b, h, t, c), exact, error, c_.type)) note(of, b, h, t, c, x(b, h, t, c), exact, error);
  }

  // exp in FP32 by the device's fast instruction: 2 units of the last place, of an argument that was rounded.
  static constexpr double exp_error = 0x1p-21;

  void compare_forward() {
    const double stored = rounding_of(c_.type);  // weights may be rounded to the type before they meet v
    for (int64_t b = 0; b < c_.batch; ++b)
      for (int64_t h = 0; h < c_.heads; ++h)
        for (int64_t t = 0; t < c_.q_time; ++t) {
          const int64_t n = keys(b, t), g = kv_head(h);
          std::vector<double> score;
          double most = -INFINITY, off = 0, total = 0, largest = 0;
          for (int64_t s = 0; s < n; ++s) {
            const Sum sum = dot(q_, b, h, t, k_, g, s);
            score.push_back(p_.scale * sum.exact);
            most = std::max(most, score.back());
            off = std::max(off, score_error(sum));
            largest = std::max(largest, std::fabs(score.back()));
          }
          for (double& w : score) total += w = std::exp(w - most);
          const double lse = most + std::log(total);
          // Each weight's relative error, by its score and the largest one; the total's is no larger.
          const double weight_error = 2 * (off + 2 * largest * half_ulp) + exp_error;
          const double lse_error =
              off + weight_error + static_cast<double>(n) * half_ulp + (std::fabs(lse) + largest) * 4 * half_ulp;
          const double found =
              static_cast<double>(logsumexp_[static_cast<std::size_t>((b * c_.heads + h) * c_.q_time + t)]);
          if (!is_within(found, lse, lse_error, DType::f32)) note("logsumexp", b, h, t, 0, found, lse, lse_error);
          for (int64_t c = 0; c < c_.head_size; ++c) {
            Sum sum;
            for (int64_t s = 0; s < n; ++s) sum.add(score[static_cast<std::size_t>(s)] / total * v_(b, g, s, c));
            check("out", o_, b, h, t, c, sum.exact,
                  sum.size * (2 * weight_error + stored + 2 * static_cast<double>(n + 4) * half_ulp));
          }
        }
  }

  // From the output and the logsumexp that the forward pass stored.
  void compare_backward() {
    const double stored = rounding_of(c_.type);
    const int64_t group = c_.heads / c_.kv_heads;
    for (int64_t b = 0; b < c_.batch; ++b)
      for (int64_t g = 0; g < c_.kv_heads; ++g) {
        const auto cells = static_cast<std::size_t>(c_.kv_time * c_.head_size);
        std::vector<double> dk(cells, 0), dk_error(cells, 0), dv(cells, 0), dv_error(cells, 0);
        for (int64_t h = g * group; h < (g + 1) * group; ++h)
          for (int64_t t = 0; t < c_.q_time; ++t) {
            std::vector<double> dq(static_cast<std::size_t>(c_.head_size), 0), dq_error(dq);
            const double lse =
                static_cast<double>(logsumexp_[static_cast<std::size_t>((b * c_.heads + h) * c_.q_time + t)]);
            const Sum delta = dot(do_, b, h, t, o_, h, t);
            const double sums = static_cast<double>(c_.head_size + 3) * half_ulp;
            const double many = static_cast<double>(c_.q_time * group + c_.kv_time + 4) * half_ulp;  // terms of a sum
            for (int64_t s = 0; s < keys(b, t); ++s) {
              const Sum score = dot(q_, b, h, t, k_, g, s), dweight = dot(do_, b, h, t, v_, g, s);
              const double x = p_.scale * score.exact, weight = std::exp(x - lse);
              const double weight_error =
                  score_error(score) + 4 * (std::fabs(x) + std::fabs(lse)) * half_ulp + exp_error;
              const double difference = dweight.exact - delta.exact;
              const double dscore = weight * difference * p_.scale;
              // The difference's own error does not shrink with it; the product is stored in 16 bits before the next
              // sums.
              const double dscore_error = weight * p_.scale * (sums * (dweight.size + delta.size)) +
                                          std::fabs(dscore) * (weight_error + stored + 3 * half_ulp);
              for (int64_t c = 0; c < c_.head_size; ++c) {
                const auto at = static_cast<std::size_t>(s * c_.head_size + c), column = static_cast<std::size_t>(c);
                const double d = do_(b, h, t, c), q = q_(b, h, t, c), k = k_(b, g, s, c);
                dv[at] += weight * d;
                dv_error[at] += weight * std::fabs(d) * (weight_error + stored + many);
                dk[at] += dscore * q;
                dk_error[at] += std::fabs(q) * (dscore_error + std::fabs(dscore) * many);
                dq[column] += dscore * k;
                dq_error[column] += std::fabs(k) * (dscore_error + std::fabs(dscore) * many);
              }
            }
            for (int64_t c = 0; c < c_.head_size; ++c)
              check("dq", dq_, b, h, t, c, dq[static_cast<std::size_t>(c)], dq_error[static_cast<std::size_t>(c)]);
          }
        for (int64_t s = 0; s < c_.kv_time; ++s)
          for (int64_t c = 0; c < c_.head_size; ++c) {
            const auto at = static_cast<std::size_t>(s * c_.head_size + c);
            check("dk", dk_, b, g, s, c, dk[at], dk_error[at]);
            check("dv", dv_, b, g, s, c, dv[at], dv_error[at]);
          }
      }
  }

  DeviceSession& session_;
  const Case& c_;
  std::mt19937_64 random_;
  AttentionProblem p_;
  std::vector<std::vector<unsigned char>> in_, gradients_;
  std::vector<unsigned char> out_, dout_;
  std::vector<float> logsumexp_;
  std::vector<int32_t> lengths_;
  Tensor q_, k_, v_, dq_, dk_, dv_, o_, do_;
  int wrong_ = 0;
};

TEST_CASE("dnn: attention and its gradient in every layout, against loops in double") {
  DeviceSession session(make_tested_libraries());
  if (session.dnn() == nullptr) {
    MESSAGE("this build has no cuDNN");
    return;
  }
  for (const Case& c : all_cases) CHECK_MESSAGE(Check(session, c).run(), "no plan: " << std::string(c.name));
}

}  // namespace
}  // namespace mpt::test
