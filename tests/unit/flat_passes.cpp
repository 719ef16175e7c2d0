// The CPU's flat passes: every instruction set gives the same bits; counts of the statistics are those of a plain
// recount.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu/flat_passes.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/isa/flat_kernels.h"
#include "kernels/numerics/float16.h"

using namespace mpt;
using namespace mpt::cpu;

namespace {

const int32_t all_kinds[] = {MPT_SGD, MPT_ADAM, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION};

OptimizerHyper hyper_of(int32_t kind) {
  OptimizerHyper h;
  h.kind = kind;
  h.beta1 = 0.9;
  h.beta2 = 0.99;
  h.epsilon = 1e-8f;
  h.momentum = 0.5f;
  h.nesterov = true;
  return h;
}

// One tensor of `count` elements with everything that an update touches; 16-bit numbers of any magnitude.
struct Tensor {
  Tensor(int64_t count, Element type, bool no_master) : type(type) {
    for (int64_t i = 0; i < count; ++i) {
      const double wave = std::sin(0.7 * static_cast<double>(i) + 1);
      const auto g = static_cast<float>(wave * std::pow(10.0, static_cast<double>(i % 23) / 2 - 8));
      const auto w = static_cast<float>(wave * 3);
      gradient.push_back(round(g));
      copy.push_back(round(w));
      if (!no_master) master.push_back(w);
      moment1.push_back(static_cast<float>(0.1 * wave));
      moment2.push_back(static_cast<float>(0.01 * wave * wave));
      average.push_back(w);
    }
  }
  uint16_t round(float x) const { return type == Element::f16 ? f32_to_f16(x) : f32_to_bf16(x); }
  float widen(uint16_t x) const { return type == Element::f16 ? f16_to_f32(x) : bf16_to_f32(x); }

  FlatPiece piece(int32_t kind) {
    FlatPiece p;
    p.count = static_cast<int64_t>(copy.size());
    p.master = master.empty() ? nullptr : master.data();
    p.copy = copy.data();
    p.gradient = gradient.data();
    p.moment1 = moment1.data();
    p.moment2 = moment2.data();
    p.average = average.data();
    p.copy_type = p.gradient_type = type;
    p.inverse_scale = 0.125f;
    p.clip_value = 100;
    p.clip_factor = 0.7f;
    p.rule = rule_constants(hyper_of(kind), 0.01, 0.5f, 0.1f, 3);
    p.kind = kind;
    p.nesterov = true;
    p.factor = 0.3f;
    p.average_decay = 0.9f;
    p.average_rest = 0.1f;
    return p;
  }
  std::string bytes() const {
    std::string all;
    const auto add = [&](const auto& v) {
      all.append(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(v[0]));
    };
    add(master);
    add(copy);
    add(moment1);
    add(moment2);
    add(average);
    return all;
  }

  Element type;
  std::vector<float> master, moment1, moment2, average;
  std::vector<uint16_t> copy, gradient;
};

std::vector<const FlatKernels*> levels() {
  std::vector<const FlatKernels*> found = {&portable::flat_kernels()};
#if defined(__x86_64__)
  if (detected_isa() >= Isa::avx2) found.push_back(&avx2::flat_kernels());
  if (detected_isa() >= Isa::avx512) found.push_back(&avx512::flat_kernels());
#endif
  return found;
}

}  // namespace

TEST_CASE("every instruction set gives the same bits") {
  for (const int32_t kind : all_kinds)
    for (const Element type : {Element::f16, Element::bf16})
      for (const bool no_master : {false, true})
        for (const int64_t count : {1, 15, 16, 33, 511, 512, 1000, 16384}) {
          std::string first;
          for (const FlatKernels* k : levels()) {
            Tensor t(count, type, no_master);
            int64_t non_finite = 0;
            const double squares = k->sum_of_squares(t.piece(kind), &non_finite);
            const FlatSums norms = k->lamb_norms(t.piece(kind), true);
            const int64_t overflows = k->update(t.piece(kind));
            std::vector<float> sums(static_cast<std::size_t>(count), 1.0f);
            k->accumulate(t.piece(kind), 0.3f, true, sums.data());
            std::string found = t.bytes();
            found.append(reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(float));
            for (const double x : {squares, norms.first, norms.second})
              found.append(reinterpret_cast<const char*>(&x), 8);
            found += std::to_string(overflows) + " " + std::to_string(non_finite);
            if (first.empty()) first = found;
            CHECK(found == first);
          }
        }
}

TEST_CASE("a preview is what the update then does, and changes nothing") {
  for (const int32_t kind : all_kinds) {
    if (kind == MPT_LAMB) continue;  // its update finds the moments moved already
    for (const FlatKernels* k : levels()) {
      Tensor t(500, Element::f16, false);
      const std::string before = t.bytes();
      const std::vector<float> start = t.master;
      float g[flat_block], w[flat_block], u[flat_block];
      k->preview(t.piece(kind), g, w, u);
      CHECK(t.bytes() == before);
      k->update(t.piece(kind));
      for (int i = 0; i < 500; ++i) {
        CHECK(w[i] == start[i]);
        CHECK(t.master[i] == start[i] + u[i]);
        CHECK(g[i] == t.widen(t.gradient[i]) * 0.125f);  // not clipped
      }
    }
  }
}

TEST_CASE("sums of squares are exact where double is, and non-finite numbers are found wherever they are") {
  for (const FlatKernels* k : levels())
    for (const int64_t at : {0, 7, 16, 511, 512, 699})
      for (const uint16_t bad : {uint16_t{0x7c00}, uint16_t{0xfc00}, uint16_t{0x7e01}, uint16_t{0xfe01}}) {
        Tensor t(700, Element::f16, false);
        for (uint16_t& g : t.gradient) g = f32_to_f16(2);
        FlatPiece p = t.piece(MPT_SGD);
        p.clip_factor = 1;
        int64_t found = -1;
        CHECK(k->sum_of_squares(p, &found) == 700 * 0.0625);
        CHECK(found == 0);
        CHECK(k->first_non_finite(p) == 700);
        t.gradient[at] = t.gradient[699] = bad;
        k->sum_of_squares(p, &found);
        CHECK(found == (at == 699 ? 1 : 2));
        CHECK(k->first_non_finite(p) == at);
      }
}

TEST_CASE("statistics count what a plain recount counts") {
  Parallel parallel(2);
  for (const int32_t kind : all_kinds) {
    Tensor t(40000, Element::f16, false);
    for (std::size_t i = 0; i < t.gradient.size(); i += 100) t.gradient[i] = 0;
    // Boundaries, times the scale of 8.
    const float edges[] = {8 * 0x1p-24f, 8 * 0x1p-25f, 8 * 0x1p-14f, 8 * 0x1p-15f, 8192, 0x1p-24f};
    for (std::size_t i = 0; i < 6; ++i) t.gradient[i] = f32_to_f16(edges[i]);
    FlatStore store;
    Segment s;
    s.count = 40000;
    s.master = t.master.data();
    s.copy16 = t.copy.data();
    s.gradient = t.gradient.data();
    s.copy_dtype = s.gradient_dtype = DType::f16;
    s.moment1 = t.moment1.data();
    s.moment2 = t.moment2.data();
    s.weight_decay = 1e-3f;
    store.segments.push_back(s);
    store.split();
    UpdateArgs args;
    args.hyper = hyper_of(kind);
    args.learning_rate = 1e-4;
    args.inverse_scale = 0.125f;
    args.step = 2;
    mpt_update_statistics found{};
    const std::string before = t.bytes();
    statistics(parallel, store, args, &found);
    CHECK(t.bytes() == before);

    const std::vector<float> start = t.master;
    UpdateResult result;
    update(parallel, store, args, &result);
    mpt_update_statistics expected{};
    uint64_t moved = 0;
    for (std::size_t i = 0; i < start.size(); ++i) {
      const double g = std::fabs(static_cast<double>(f16_to_f32(t.gradient[i])) / 8);
      expected.gradients_zero += g == 0;
      expected.gradients_below_2_24 += g > 0 && g < 0x1p-24;
      expected.gradients_rounding_to_zero += g > 0 && g <= 0x1p-25;
      expected.gradients_below_2_14 += g > 0 && g < 0x1p-14;
      expected.gradients_above_2_15 += g > 0x1p15;
      if (g > 0)
        ++expected.gradient_histogram[std::min(std::max(static_cast<int>(std::floor(std::log2(g))) + 48, 0), 63)];
      moved += t.master[i] != start[i];
    }
    CHECK(found.gradients == 40000);
    CHECK(found.gradients_zero == expected.gradients_zero);
    CHECK(found.gradients_below_2_24 == expected.gradients_below_2_24);
    CHECK(found.gradients_rounding_to_zero == expected.gradients_rounding_to_zero);
    CHECK(found.gradients_below_2_14 == expected.gradients_below_2_14);
    CHECK(found.gradients_above_2_15 == expected.gradients_above_2_15);
    CHECK(std::memcmp(found.gradient_histogram, expected.gradient_histogram, sizeof found.gradient_histogram) == 0);
    CHECK(found.updates >= moved);  // an update may be lost in the master, too
    CHECK(found.updates <= 40000);
    CHECK(found.updates_lost > 0);  // a rate of 1e-4 is small against the resolution of FP16
    CHECK(found.updates_lost <= found.updates);
  }
}

TEST_CASE("an update is lost where the weight in 16 bits would not move") {
  Parallel parallel(1);
  // SGD at rate 1 without decay: the update is -g. At 1, FP16 moves up by 2^-10 and ties at 2^-11 go to even.
  const struct {
    float gradient;
    bool lost;
  } cases[] = {{-0x1p-11f, true}, {-0x1.8p-11f, false}, {-0x1p-12f, true}, {0x1p-12f, true}, {0x1.8p-12f, false}};
  for (const auto& c : cases) {
    float master = 1, gradient = c.gradient;
    uint16_t copy = f32_to_f16(1);
    FlatStore store;
    Segment s;
    s.count = 1;
    s.master = &master;
    s.copy16 = &copy;
    s.gradient = &gradient;
    s.copy_dtype = DType::f16;
    store.segments.push_back(s);
    store.split();
    UpdateArgs args;
    args.hyper.kind = MPT_SGD;
    args.learning_rate = 1;
    mpt_update_statistics found{};
    statistics(parallel, store, args, &found);
    CHECK(found.updates == 1);
    CHECK(found.updates_lost == (c.lost ? 1 : 0));
  }
}
