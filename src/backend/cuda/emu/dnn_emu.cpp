// lib/dnn.h on the host: attention in plain loops, every pointer and extent checked against the allocations. It takes
// what cuDNN takes: FP16 or BF16, head sizes that are multiples of 8 up to 128, rows that begin at multiples of 16
// bytes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cuda/emu/engine.h"
#include "backend/cuda/emu/libraries.h"
#include "backend/cuda/emu/number.h"
#include "core/error.h"

namespace mpt::cuda::emu {
namespace {

using Layout = AttentionProblem::Layout;

class Attention {
 public:
  Attention(const AttentionProblem& problem, bool backward, uint64_t workspace)
      : p_(problem), backward_(backward), workspace_(workspace) {}

  bool is_supported() const {
    if (!is_16bit(p_.type) || p_.head_size % 8 != 0 || p_.head_size > 128 || p_.kv_heads < 1) return false;
    std::vector<Layout> layouts = {p_.q, p_.k, p_.v, p_.out};
    if (backward_) layouts.insert(layouts.end(), {p_.dq, p_.dk, p_.dv, p_.dout});
    for (const Layout& l : layouts)
      if (l.batch % 8 != 0 || l.head % 8 != 0 || l.time % 8 != 0) return false;
    return p_.batch > 0 && p_.q_time > 0 && p_.kv_time > 0 && p_.heads > 0 && p_.heads % p_.kv_heads == 0;
  }

  void run(Memory& memory, const AttentionOperands& o) const {
    check(memory, o.q, p_.q, p_.heads, p_.q_time, "q");
    check(memory, o.k, p_.k, p_.kv_heads, p_.kv_time, "k");
    check(memory, o.v, p_.v, p_.kv_heads, p_.kv_time, "v");
    check(memory, o.out, p_.out, p_.heads, p_.q_time, "out");
    if (o.logsumexp || backward_)
      memory.check_device(o.logsumexp, static_cast<uint64_t>(p_.batch * p_.heads * p_.q_time) * sizeof(float),
                          "attention: logsumexp");
    if (p_.lengths) {
      memory.check_device(o.lengths, static_cast<uint64_t>(p_.batch) * sizeof(int32_t), "attention: lengths");
      memory.check_device(o.query_lengths, static_cast<uint64_t>(p_.batch) * sizeof(int32_t),
                          "attention: query lengths");
      for (int64_t b = 0; b < p_.batch; ++b)
        if (o.lengths[b] < 1 || o.lengths[b] > p_.kv_time || o.query_lengths[b] != p_.q_time)
          fail(MPT_ERROR_DEVICE, "emu: attention: lengths out of range");
    }
    if (backward_) {
      check(memory, o.dout, p_.dout, p_.heads, p_.q_time, "dout");
      check(memory, o.dq, p_.dq, p_.heads, p_.q_time, "dq");
      check(memory, o.dk, p_.dk, p_.kv_heads, p_.kv_time, "dk");
      check(memory, o.dv, p_.dv, p_.kv_heads, p_.kv_time, "dv");
    }
    if (workspace_ > 0) {
      memory.check_device(o.workspace, workspace_, "attention: workspace");
      if (reinterpret_cast<uintptr_t>(o.workspace) % 256 != 0)
        fail(MPT_ERROR_DEVICE, "emu: attention: the workspace is not aligned to 256 bytes");
      std::memset(o.workspace, poison_byte, workspace_);
    }
    for (int64_t b = 0; b < p_.batch; ++b) {
      if (!backward_)
        for (int64_t h = 0; h < p_.heads; ++h) forward(o, b, h);
      else
        for (int64_t h = 0; h < p_.kv_heads; ++h) backward(o, b, h);
    }
  }

 private:
  void check(const Memory& memory, const void* at, const Layout& l, int64_t heads, int64_t time,
             const char* name) const {
    const std::string what = std::string("attention: ") + name;
    const int64_t last = (p_.batch - 1) * l.batch + (heads - 1) * l.head + (time - 1) * l.time + p_.head_size;
    memory.check_device(at, static_cast<uint64_t>(last) * size_of(p_.type), what.c_str());
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0)
      fail(MPT_ERROR_DEVICE, "emu: %s: %p is not aligned to 16 bytes", what.c_str(), at);
  }

  int64_t keys(const AttentionOperands& o, int64_t b, int64_t t) const {
    int64_t n = p_.kv_time;
    if (p_.causal) n = std::min(n, t + 1);
    if (p_.lengths) n = std::min(n, std::max<int64_t>(0, o.lengths[b]));
    return n;
  }
  static int64_t row(const Layout& l, int64_t b, int64_t h, int64_t t) { return b * l.batch + h * l.head + t * l.time; }
  double dot(const void* x, int64_t i, const void* y, int64_t j) const {
    double sum = 0;
    for (int64_t c = 0; c < p_.head_size; ++c)
      sum += static_cast<double>(load(x, p_.type, i + c)) * static_cast<double>(load(y, p_.type, j + c));
    return sum;
  }
  int64_t shared_head(int64_t h) const { return h / (p_.heads / p_.kv_heads); }

  void forward(const AttentionOperands& o, int64_t b, int64_t h) const {
    const int64_t g = shared_head(h);
    std::vector<double> weight(static_cast<std::size_t>(p_.kv_time)), sum(static_cast<std::size_t>(p_.head_size));
    for (int64_t t = 0; t < p_.q_time; ++t) {
      const int64_t n = keys(o, b, t);
      double most = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t s = 0; s < n; ++s) {
        double& w = weight[static_cast<std::size_t>(s)];
        w = p_.scale * dot(o.q, row(p_.q, b, h, t), o.k, row(p_.k, b, g, s));
        if (w > most || std::isnan(w)) most = w;
      }
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t s = 0; s < n; ++s) {
        const double w = std::exp(weight[static_cast<std::size_t>(s)] - most);
        total += w;
        for (std::size_t c = 0; c < sum.size(); ++c)
          sum[c] += w * static_cast<double>(load(o.v, p_.type, row(p_.v, b, g, s) + static_cast<int64_t>(c)));
      }
      for (std::size_t c = 0; c < sum.size(); ++c)
        store(o.out, p_.type, row(p_.out, b, h, t) + static_cast<int64_t>(c),
              n > 0 ? static_cast<float>(sum[c] / total) : 0.0f);
      if (o.logsumexp)
        o.logsumexp[(b * p_.heads + h) * p_.q_time + t] =
            n > 0 ? static_cast<float>(most + std::log(total)) : -std::numeric_limits<float>::infinity();
    }
  }

  // All query heads that share a key head, so that its sums stay in one place.
  void backward(const AttentionOperands& o, int64_t b, int64_t g) const {
    const std::size_t size = static_cast<std::size_t>(p_.head_size), times = static_cast<std::size_t>(p_.kv_time);
    std::vector<double> dk(times * size, 0.0), dv(times * size, 0.0), dq(size);
    const int64_t group = p_.heads / p_.kv_heads;
    for (int64_t h = g * group; h < (g + 1) * group; ++h)
      for (int64_t t = 0; t < p_.q_time; ++t) {
        const int64_t n = keys(o, b, t), q_row = row(p_.q, b, h, t), dout_row = row(p_.dout, b, h, t);
        const double logsum = static_cast<double>(o.logsumexp[(b * p_.heads + h) * p_.q_time + t]);
        const double delta = dot(o.dout, dout_row, o.out, row(p_.out, b, h, t));
        std::fill(dq.begin(), dq.end(), 0.0);
        for (int64_t s = 0; s < n; ++s) {
          const int64_t k_row = row(p_.k, b, g, s);
          const double weight = std::exp(p_.scale * dot(o.q, q_row, o.k, k_row) - logsum);
          const double dweight = dot(o.dout, dout_row, o.v, row(p_.v, b, g, s));
          const double dscore = weight * (dweight - delta) * p_.scale;
          for (std::size_t c = 0; c < size; ++c) {
            const int64_t i = static_cast<int64_t>(c);
            const std::size_t at = static_cast<std::size_t>(s) * size + c;
            dv[at] += weight * static_cast<double>(load(o.dout, p_.type, dout_row + i));
            dk[at] += dscore * static_cast<double>(load(o.q, p_.type, q_row + i));
            dq[c] += dscore * static_cast<double>(load(o.k, p_.type, k_row + i));
          }
        }
        for (std::size_t c = 0; c < size; ++c)
          store(o.dq, p_.type, row(p_.dq, b, h, t) + static_cast<int64_t>(c), static_cast<float>(dq[c]));
      }
    for (std::size_t s = 0; s < times; ++s)
      for (std::size_t c = 0; c < size; ++c) {
        const int64_t time = static_cast<int64_t>(s), i = static_cast<int64_t>(c);
        store(o.dk, p_.type, row(p_.dk, b, g, time) + i, static_cast<float>(dk[s * size + c]));
        store(o.dv, p_.type, row(p_.dv, b, g, time) + i, static_cast<float>(dv[s * size + c]));
      }
  }

  AttentionProblem p_;
  bool backward_;
  uint64_t workspace_;
};

class EmulatedPlan : public Dnn::Plan {
 public:
  EmulatedPlan(const Attention& attention, uint64_t workspace) : attention_(attention), workspace_(workspace) {}
  uint64_t workspace_bytes() const override { return workspace_; }
  void run(Stream stream, const AttentionOperands& operands) const override {
    enqueue(stream, "attention",
            [attention = attention_, operands](Memory& memory) { attention.run(memory, operands); });
  }

 private:
  Attention attention_;
  uint64_t workspace_;
};

class EmulatedDnn : public Dnn {
 public:
  std::unique_ptr<Plan> attention(const AttentionProblem& problem) override { return plan(problem, false, 0); }
  std::unique_ptr<Plan> attention_grad(const AttentionProblem& problem) override {
    // As much as a sum of dq in FP32 and a number for each row take.
    return plan(problem, true,
                static_cast<uint64_t>(problem.batch * problem.heads * problem.q_time * (problem.head_size + 1)) * 4);
  }

 private:
  static std::unique_ptr<Plan> plan(const AttentionProblem& problem, bool backward, uint64_t workspace) {
    const Attention attention(problem, backward, workspace);
    if (!attention.is_supported()) return nullptr;
    return std::make_unique<EmulatedPlan>(attention, workspace);
  }
};

}  // namespace

std::unique_ptr<Dnn> make_dnn() { return std::make_unique<EmulatedDnn>(); }

}  // namespace mpt::cuda::emu
