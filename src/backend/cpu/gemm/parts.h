// What the files of a GemmPlan share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/gemm/gemm.h"

namespace mpt::cpu {

constexpr std::size_t gemm_alignment = 64;

// A batch item of so many elements, operands and result, is computed as a whole: it stays in the first-level cache.
constexpr int64_t gemm_item_elements = 4 << 10;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline std::size_t aligned(std::size_t bytes) { return (bytes + gemm_alignment - 1) / gemm_alignment * gemm_alignment; }
// Scratch for so many lanes.
inline std::size_t lanes_bytes(int64_t count) { return aligned(static_cast<std::size_t>(count) * sizeof(float)); }

inline const std::byte* at(const void* base, int64_t element, DType type) {
  return static_cast<const std::byte*>(base) + element * static_cast<int64_t>(size_of(type));
}

struct GemmPlan::Operands {
  const void* a;
  const void* b;
  const Epilogue* epilogue;
  std::byte* scratch;
};

}  // namespace mpt::cpu
