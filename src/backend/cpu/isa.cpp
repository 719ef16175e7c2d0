#include "backend/cpu/isa.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace mpt::cpu {
namespace {

constexpr Isa levels[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16};

#if defined(__x86_64__)
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 5)) != 0;
}
#endif

}  // namespace

const char* name_of(Isa level) {
  switch (level) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "unknown";
}

Isa detected_isa() {
#if defined(__x86_64__)
  // __builtin_cpu_supports also asks whether the operating system saves the wide registers.
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return Isa::portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return Isa::avx2;
  return has_avx512_bf16() ? Isa::avx512_bf16 : Isa::avx512;
#else
  return Isa::portable;
#endif
}

Isa limited_isa(Isa have, const char* wish) {
  if (wish == nullptr || *wish == '\0') return have;
  for (Isa level : levels)
    if (std::strcmp(wish, name_of(level)) == 0) return level < have ? level : have;
  fail(MPT_ERROR_INVALID_ARGUMENT, "MPT_CPU_ISA: found '%s', expected portable, avx2, avx512 or avx512_bf16", wish);
}

Isa isa() {
  static const Isa level = limited_isa(detected_isa(), std::getenv("MPT_CPU_ISA"));
  return level;
}

}  // namespace mpt::cpu
