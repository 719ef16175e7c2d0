#include "cuda/tested_libraries.h"

#include <cmath>

#include "backend/cuda/emu/emulation.h"

namespace mpt::test {

cuda::Libraries make_tested_libraries() { return cuda::make_emulation(); }
double tested_tanh_error() { return std::ldexp(1.0, -21); }  // kernels/numerics/math.h

}  // namespace mpt::test
