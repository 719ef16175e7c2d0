// Declares a function in the namespace of every instruction-set level that this machine's architecture has builds for;
// MPT_CHOOSE_ISA (backend/cpu/isa.h) picks one.
#pragma once

#if defined(__x86_64__)
#define MPT_AT_EACH_LEVEL(...)   \
  namespace mpt::cpu::portable { \
  __VA_ARGS__                    \
  }                              \
  namespace mpt::cpu::avx2 {     \
  __VA_ARGS__                    \
  }                              \
  namespace mpt::cpu::avx512 {   \
  __VA_ARGS__                    \
  }
#else
#define MPT_AT_EACH_LEVEL(...)   \
  namespace mpt::cpu::portable { \
  __VA_ARGS__                    \
  }
#endif
