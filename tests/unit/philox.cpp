// Random numbers: the published vectors of Philox4x32-10, and that no part of a position is lost.
#include "kernels/numerics/philox.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <set>

using namespace mpt;

TEST_CASE("philox: known answers of the authors' Random123") {
  struct Vector {
    uint32_t counter[4], key[2], answer[4];
  };
  const Vector vectors[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Vector& v : vectors) {
    const Random4 r = philox4x32_10(v.counter[0], v.counter[1], v.counter[2], v.counter[3], v.key[0], v.key[1]);
    for (int i = 0; i < 4; ++i) CHECK(r.v[i] == v.answer[i]);
  }
}

TEST_CASE("philox: the written layout of counter and key") {
  const RandomCounter c = random_counter(0x1122334455667788, 0x99, 0x12, 0x34, 0xabcd, 0x77);
  CHECK(c.counter[0] == 0x77);
  CHECK(c.counter[1] == 0xabcd);
  CHECK(c.counter[2] == 0x99);
  CHECK(c.counter[3] == 0x00340012);
  CHECK(c.key[0] == 0x55667788);
  CHECK(c.key[1] == 0x11223344);
}

TEST_CASE("philox: positions that differ anywhere draw different numbers") {
  std::set<std::array<uint32_t, 4>> seen;
  const auto draw = [&](uint64_t seed, uint64_t step, uint32_t micro_step, uint32_t rank, uint32_t stream,
                        uint64_t group) {
    const Random4 r = random_bits(seed, step, micro_step, rank, stream, group);
    CHECK(seen.insert({r.v[0], r.v[1], r.v[2], r.v[3]}).second);
  };
  draw(0, 0, 0, 0, 0, 0);
  for (int bit = 0; bit < 64; ++bit) draw(uint64_t{1} << bit, 0, 0, 0, 0, 0);
  for (int bit = 0; bit < 56; ++bit) draw(0, uint64_t{1} << bit, 0, 0, 0, 0);
  for (int bit = 0; bit < 46; ++bit) draw(0, 0, 0, 0, 0, uint64_t{1} << bit);
  for (int bit = 0; bit < 32; ++bit) draw(0, 0, 0, 0, 1u << bit, 0);
  for (int bit = 0; bit < 16; ++bit) {
    draw(0, 0, 1u << bit, 0, 0, 0);
    draw(0, 0, 0, 1u << bit, 0, 0);
  }
}

TEST_CASE("philox: uniform numbers lie in [0, 1) and are spread evenly") {
  CHECK(uniform(0) == 0);
  CHECK(uniform(0xffffffff) == 1 - 0x1p-24f);
  const StepVars vars{7, 3, 0, 0, 1, 1};
  constexpr int n = 1 << 16, bins = 16;
  int counts[bins] = {};
  double sum = 0;
  for (int i = 0; i < n; ++i) {
    const float u = uniform_of_element(vars, 5, static_cast<uint64_t>(i));
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    sum += u;
    ++counts[static_cast<int>(u * bins)];
  }
  // Six standard deviations: of a mean of n uniform numbers 1 / sqrt(12 n), of a bin's count sqrt(n p (1 - p)).
  CHECK(std::fabs(sum / n - 0.5) < 6 / std::sqrt(12.0 * n));
  const double p = 1.0 / bins;
  for (int count : counts) CHECK(std::fabs(count - n * p) < 6 * std::sqrt(n * p * (1 - p)));
}
