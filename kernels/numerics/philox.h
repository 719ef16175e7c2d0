// Random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). A number is a pure
// function of where it is used, so that every backend and any number of threads draw the same ones.
//
// One call gives the numbers of the four elements 4 g .. 4 g + 3 of a tensor (g = group, elements in row-major order):
//
//   counter[0]  g, bits 0 to 31
//   counter[1]  stream id: of the op, or of whatever else draws numbers
//   counter[2]  step (applied updates), bits 0 to 31
//   counter[3]  micro-step in bits 0 to 15, rank in bits 16 to 31
//   key[0]      seed, bits 0 to 31
//   key[1]      seed, bits 32 to 63, exclusive-or  step bits 32 to 63 * 0x9e3779b9  exclusive-or  g bits 32 to 63 * 0x85ebca6b
//
// The last two terms are 0 up to 2^32 steps and 2^34 elements; beyond, an odd factor keeps them apart from small seeds.
#pragma once

#include "kernels/numerics/qualifiers.h"
#include "kernels/numerics/step_vars.h"

namespace mpt {

struct Random4 {
  uint32_t v[4];
};

MPT_HD uint32_t multiply_high(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

MPT_HD Random4 philox4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = multiply_high(0xd2511f53u, c0), low0 = 0xd2511f53u * c0;
    const uint32_t high1 = multiply_high(0xcd9e8d57u, c2), low1 = 0xcd9e8d57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return Random4{{c0, c1, c2, c3}};
}

struct RandomCounter {
  uint32_t counter[4], key[2];
};
MPT_HD RandomCounter random_counter(uint64_t seed, uint64_t step, uint32_t micro_step, uint32_t rank,
                                    uint32_t stream_id, uint64_t group) {
  const uint32_t key1 = static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(step >> 32) * 0x9e3779b9u ^
                        static_cast<uint32_t>(group >> 32) * 0x85ebca6bu;
  return RandomCounter{
      {static_cast<uint32_t>(group), stream_id, static_cast<uint32_t>(step), (micro_step & 0xffffu) | rank << 16},
      {static_cast<uint32_t>(seed), key1}};
}

// The four random words of one group of elements.
MPT_HD Random4 random_bits(uint64_t seed, uint64_t step, uint32_t micro_step, uint32_t rank, uint32_t stream_id,
                           uint64_t group) {
  const RandomCounter c = random_counter(seed, step, micro_step, rank, stream_id, group);
  return philox4x32_10(c.counter[0], c.counter[1], c.counter[2], c.counter[3], c.key[0], c.key[1]);
}

// In [0, 1), a multiple of 2^-24.
MPT_HD float uniform(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f; }

// The number of one element; dropout keeps the element where it is not below the rate.
MPT_HD float uniform_of_element(const StepVars& vars, uint32_t stream_id, uint64_t element) {
  const Random4 random = random_bits(vars.seed, vars.step, vars.micro_step, vars.rank, stream_id, element / 4);
  return uniform(random.v[element % 4]);
}

}  // namespace mpt
