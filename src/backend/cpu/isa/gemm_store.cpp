// Stores complete sums, rounded once to the type of the result.
#include "backend/cpu/isa/gemm_kernels.h"
#include "backend/cpu/isa/gemm_simd.h"

namespace mpt::cpu::MPT_ISA {
namespace {

// n numbers from sums, plus what is at c where `add` says so, rounded to c's type.
template <typename Type>
void store_row(const float* sums, int64_t n, void* c, bool add) {
  auto* out = static_cast<typename Type::Stored*>(c);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    Vec v = load(sums + i);
    if (add) v = v + Type::read(out + i);
    Type::write(out + i, v);
  }
  if (i < n) {
    typename Type::Stored rest[lanes] = {};
    const auto bytes = static_cast<std::size_t>(n - i) * sizeof *out;
    std::memcpy(rest, out + i, bytes);
    Vec v = load(sums + i, static_cast<int>(n - i));
    if (add) v = v + Type::read(rest);
    Type::write(rest, v);
    std::memcpy(out + i, rest, bytes);
  }
}

struct StoreF32 {
  using Stored = float;
  MPT_INLINE Vec read(const float* p) { return load(p); }
  MPT_INLINE void write(float* p, Vec v) { store(p, v); }
};
struct StoreF16 {
  using Stored = uint16_t;
  MPT_INLINE Vec read(const uint16_t* p) { return widen_f16(load_halves(p)); }
  MPT_INLINE void write(uint16_t* p, Vec v) { store_halves(p, narrow_f16(v)); }
};
struct StoreBF16 {
  using Stored = uint16_t;
  MPT_INLINE Vec read(const uint16_t* p) { return widen_bf16(load_halves(p)); }
  MPT_INLINE void write(uint16_t* p, Vec v) { store_halves(p, narrow_bf16(v)); }
};

}  // namespace

GemmStore gemm_store(GemmElement type) {
  switch (type) {
    case GemmElement::f16:
      return store_row<StoreF16>;
    case GemmElement::bf16:
      return store_row<StoreBF16>;
    default:
      return store_row<StoreF32>;
  }
}

}  // namespace mpt::cpu::MPT_ISA
