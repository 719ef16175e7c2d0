// The CPU's passes over a parameter store against the reference's in double: one update at a time, from the same state.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "backend/backend.h"
#include "kernels/numerics/float16.h"

using namespace mpt;

namespace {

const double unit = std::ldexp(1.0, -24);

// One tensor of a store, and a Segment that points into it.
struct Parameter {
  DType copy_dtype, gradient_dtype;
  std::vector<float> master, moment1, moment2, average, gradient32;
  std::vector<uint16_t> copy16, gradient16;

  Parameter(int64_t count, DType copy, DType gradient, std::mt19937& random)
      : copy_dtype(copy), gradient_dtype(gradient) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < count; ++i) {
      const float g = 64 * uniform(random);
      master.push_back(uniform(random));
      moment1.push_back(0.01f * uniform(random));
      moment2.push_back(0.001f + 0.01f * std::fabs(uniform(random)));
      average.push_back(uniform(random));
      gradient32.push_back(g);
      gradient16.push_back(gradient == DType::bf16 ? f32_to_bf16(g) : f32_to_f16(g));
      copy16.push_back(0);
    }
  }

  double gradient(std::size_t i) const {
    if (gradient_dtype == DType::f32) return gradient32[i];
    return gradient_dtype == DType::f16 ? f16_to_f32(gradient16[i]) : bf16_to_f32(gradient16[i]);
  }

  Segment segment() {
    Segment s;
    s.count = static_cast<int64_t>(master.size());
    s.master = master.data();
    s.copy16 = copy_dtype == DType::f32 ? nullptr : copy16.data();
    s.copy_dtype = copy_dtype;
    s.gradient = gradient_dtype == DType::f32 ? static_cast<void*>(gradient32.data()) : gradient16.data();
    s.gradient_dtype = gradient_dtype;
    s.moment1 = moment1.data();
    s.moment2 = moment2.data();
    s.average = average.data();
    s.learning_rate_factor = 0.5f;
    s.weight_decay = 0.03f;
    return s;
  }
};

using Parameters = std::vector<Parameter>;

Parameters make_parameters() {
  std::mt19937 random(17);
  Parameters parameters;
  parameters.emplace_back(1, DType::f32, DType::f32, random);
  parameters.emplace_back(33, DType::f16, DType::f16, random);
  parameters.emplace_back(257, DType::bf16, DType::bf16, random);
  parameters.emplace_back(2 * FlatStore::chunk + 5, DType::f16, DType::f32, random);  // three pieces
  return parameters;
}

FlatStore store_of(Parameters& parameters) {
  FlatStore store;
  for (Parameter& p : parameters) store.segments.push_back(p.segment());
  store.split();
  return store;
}

template <typename F>
void on(Backend& backend, F work) {
  backend.execute([](void* f) { (*static_cast<F*>(f))(); }, &work);
}

std::unique_ptr<Backend> cpu(int threads) {
  BackendOptions options;
  options.threads = threads;
  return make_cpu_backend(options);
}

UpdateArgs update_args(int32_t kind, uint64_t step) {
  UpdateArgs args;
  args.hyper.kind = kind;
  args.hyper.beta1 = 0.9;
  args.hyper.beta2 = 0.95;
  args.hyper.epsilon = 1e-6f;
  args.hyper.momentum = 0.9f;
  args.hyper.nesterov = step % 2 == 0;
  args.learning_rate = 0.01;
  args.step = step;
  args.inverse_scale = 1.0f / 64;
  args.clip_factor = 0.75f;
  args.clip_value = 0.9f;
  args.average_decay = 0.99f;
  return args;
}

// |found - exact| <= terms u magnitude, told by name and place.
void check_near(const char* what, std::size_t i, double found, double exact, double allowed) {
  if (std::fabs(found - exact) <= allowed) return;
  FAIL(std::string(what) << " " << i << ": found " << found << ", exact " << exact << ", may be off by " << allowed);
}

// Bounds: every moment is a sum of at most three products (6 roundings with those of the gradient and the constants).
// The weight is w + u, where u goes through at most 24 roundings; `reach` is u with every term's magnitude: what the
// terms' errors scale with where they cancel.
void compare(const Parameters& before, const Parameters& found, const Parameters& exact, const UpdateArgs& args) {
  const OptimizerHyper& h = args.hyper;
  for (std::size_t n = 0; n < before.size(); ++n) {
    const double rate = args.learning_rate * 0.5, decay = 0.03f;
    std::vector<uint16_t> rounded;
    for (float w : found[n].master) {
      rounded.push_back(before[n].copy_dtype == DType::f16    ? f32_to_f16(w)
                        : before[n].copy_dtype == DType::bf16 ? f32_to_bf16(w)
                                                              : 0);
    }
    CHECK(found[n].copy16 == rounded);
    double weights = 0, directions = 0;
    for (std::size_t i = 0; i < before[n].master.size(); ++i) {
      weights += std::fabs(before[n].master[i]) * std::fabs(before[n].master[i]);
      const double moved = (exact[n].master[i] - before[n].master[i]) / rate;
      directions += moved * moved;
    }
    for (std::size_t i = 0; i < before[n].master.size(); ++i) {
      const double w = std::fabs(before[n].master[i]), m = std::fabs(before[n].moment1[i]);
      const double g = std::min(std::fabs(before[n].gradient(i)) / 64, 0.9) * 0.75 + decay * w;
      double m_magnitude = 0, reach = 0;
      switch (h.kind) {
        case MPT_SGD:
          m_magnitude = h.momentum * m + g;
          reach = h.momentum * m_magnitude + g;
          break;
        case MPT_ADAM:
        case MPT_ADAMW:
        case MPT_LAMB: {
          m_magnitude = h.beta1 * m + (1 - h.beta1) * g;
          const double t = static_cast<double>(args.step);
          const double v = exact[n].moment2[i] / (1 - std::pow(h.beta2, t));
          reach = m_magnitude / (1 - std::pow(h.beta1, t)) / (std::sqrt(v) + h.epsilon) + decay * w;
          // The trust ratio: the norm of the weights over that of the directions, which the update shows multiplied by
          // it.
          if (h.kind == MPT_LAMB && directions > 0) {
            double plain = 0;
            for (std::size_t j = 0; j < before[n].master.size(); ++j) {
              const double mj = exact[n].moment1[j] / (1 - std::pow(h.beta1, t));
              const double vj = exact[n].moment2[j] / (1 - std::pow(h.beta2, t));
              const double d = mj / (std::sqrt(vj) + h.epsilon) + decay * before[n].master[j];
              plain += d * d;
              if (before[n].master.size() > 1000 && j > 1000) break;  // an estimate is enough for a magnitude
            }
            const double share =
                before[n].master.size() > 1000 ? static_cast<double>(before[n].master.size()) / 1001 : 1;
            reach *= 2 * std::sqrt(weights / (plain * share));
          }
          break;
        }
        case MPT_ADAGRAD:
          reach = g / (std::sqrt(exact[n].moment2[i]) + h.epsilon);
          break;
        case MPT_NOVOGRAD:
          m_magnitude = h.beta1 * m + g / (std::sqrt(exact[n].moment2[0]) + h.epsilon) + decay * w;
          reach = m_magnitude;
          break;
        case MPT_LION:
          m_magnitude = h.beta2 * m + (1 - h.beta2) * g;
          reach = 1 + decay * w;
          break;
        default:
          break;
      }
      if (h.kind != MPT_ADAGRAD)
        check_near("moment 1 of element", i, found[n].moment1[i], exact[n].moment1[i], 6 * unit * m_magnitude);
      if (i == 0 || h.kind != MPT_NOVOGRAD) {
        check_near("moment 2 of element", i, found[n].moment2[i], exact[n].moment2[i], 12 * unit * exact[n].moment2[i]);
      }
      const double allowed = unit * (24 * rate * reach + 2 * (w + rate * reach));
      check_near("weight", i, found[n].master[i], exact[n].master[i], allowed);
      check_near("average", i, found[n].average[i], exact[n].average[i],
                 allowed + 4 * unit * (std::fabs(before[n].average[i]) + w));
    }
  }
}

TEST_CASE("every optimizer's update is the reference's, whatever the number of threads") {
  const std::unique_ptr<Backend> ref = make_ref_backend({}), one = cpu(1), three = cpu(3);
  for (const int32_t kind : {MPT_SGD, MPT_ADAM, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION}) {
    Parameters state = make_parameters();
    for (uint64_t step = 1; step <= 3; ++step) {
      const UpdateArgs args = update_args(kind, step);
      Parameters exact = state, found = state, again = state;
      UpdateResult exact_result, result, again_result;
      on(*ref, [&] { ref->update(store_of(exact), args, &exact_result); });
      on(*one, [&] { one->update(store_of(found), args, &result); });
      on(*three, [&] { three->update(store_of(again), args, &again_result); });
      INFO("optimizer " << kind << " step " << step);
      compare(state, found, exact, args);
      for (std::size_t n = 0; n < state.size(); ++n) {
        CHECK(found[n].master == again[n].master);
        CHECK(found[n].moment1 == again[n].moment1);
        CHECK(found[n].moment2 == again[n].moment2);
        CHECK(found[n].average == again[n].average);
        CHECK(found[n].copy16 == again[n].copy16);
      }
      CHECK(result.overflows_16bit == exact_result.overflows_16bit);
      state = found;
    }
  }
}

TEST_CASE("check, rounding and accumulation are the reference's") {
  const std::unique_ptr<Backend> ref = make_ref_backend({}), device = cpu(2);
  Parameters a = make_parameters(), b = a;
  a[3].gradient32[70] = b[3].gradient32[70] = INFINITY;
  a[1].gradient16[5] = b[1].gradient16[5] = 0x7e00;  // NaN
  a[2].master[7] = b[2].master[7] = 3.4e38f;
  CheckResult exact, found;
  const CheckArgs args{1.0 / 64, 0.5};
  on(*ref, [&] { ref->check_gradients(store_of(a), args, &exact); });
  on(*device, [&] { device->check_gradients(store_of(b), args, &found); });
  CHECK(found.non_finite == exact.non_finite);
  CHECK(found.non_finite == 2);
  CHECK(found.first_segment == exact.first_segment);
  CHECK(found.first_element == exact.first_element);
  a[3].gradient32[70] = b[3].gradient32[70] = 1;
  a[1].gradient16[5] = b[1].gradient16[5] = 0;
  exact = found = {};
  on(*ref, [&] { ref->check_gradients(store_of(a), args, &exact); });
  on(*device, [&] { device->check_gradients(store_of(b), args, &found); });
  CHECK(found.non_finite == 0);
  // Sums of 33,000 squares in double, each square exact.
  CHECK(std::fabs(found.sum_of_squares - exact.sum_of_squares) <= 33100 * std::ldexp(exact.sum_of_squares, -53));

  on(*ref, [&] { ref->round_copies(store_of(a)); });
  on(*device, [&] { device->round_copies(store_of(b)); });
  for (std::size_t n = 0; n < a.size(); ++n) CHECK(a[n].copy16 == b[n].copy16);

  std::vector<std::vector<float>> exact_sums, sums;
  for (const Parameter& p : a) exact_sums.emplace_back(p.master.size());
  sums = exact_sums;
  for (const bool first : {true, false}) {
    std::vector<float*> exact_pointers, pointers;
    for (std::size_t n = 0; n < a.size(); ++n) {
      exact_pointers.push_back(exact_sums[n].data());
      pointers.push_back(sums[n].data());
    }
    on(*ref, [&] { ref->accumulate_gradients(store_of(a), exact_pointers.data(), 0.375f, first); });
    on(*device, [&] { device->accumulate_gradients(store_of(b), pointers.data(), 0.375f, first); });
  }
  for (std::size_t n = 0; n < a.size(); ++n) {
    for (std::size_t i = 0; i < sums[n].size(); ++i) {
      check_near("sum", i, sums[n][i], exact_sums[n][i], 4 * unit * std::fabs(exact_sums[n][i]));
    }
  }
}

}  // namespace
