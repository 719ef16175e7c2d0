// Instruction-set levels of the CPU backend: what this machine has, or less where MPT_CPU_ISA asks for less.
#pragma once

namespace mpt::cpu {

enum class Isa { portable, avx2, avx512, avx512_bf16 };

const char* name_of(Isa level);

// The highest level the machine and its operating system support.
Isa detected_isa();

// The level kernels are chosen by: detected_isa(), or the lower level that the environment variable
// MPT_CPU_ISA=portable|avx2|avx512|avx512_bf16 names. Fails with INVALID_ARGUMENT on any other value; a level the
// machine lacks gives the highest one it has. Read once.
Isa isa();

// isa() of a machine that has `have` where the variable says `wish` (null or empty: nothing).
Isa limited_isa(Isa have, const char* wish);

// Chooses among the builds of a function from src/backend/cpu/isa/ by a level.
#if defined(__x86_64__)
#define MPT_CHOOSE_ISA(level, function)                               \
  ((level) >= ::mpt::cpu::Isa::avx512 ? &::mpt::cpu::avx512::function \
   : (level) == ::mpt::cpu::Isa::avx2 ? &::mpt::cpu::avx2::function   \
                                      : &::mpt::cpu::portable::function)
#else
#define MPT_CHOOSE_ISA(level, function) (&::mpt::cpu::portable::function)
#endif

}  // namespace mpt::cpu
