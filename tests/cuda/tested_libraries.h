// What the contract tests run against: the emulation in test_cuda, the device's own libraries in test_cuda_device.
#pragma once

#include "backend/cuda/backend.h"

namespace mpt::test {

cuda::Libraries make_tested_libraries();
// The relative error of the tanh that the libraries use in their epilogues.
double tested_tanh_error();

}  // namespace mpt::test
