// What the tests ask of cuDNN on machines without a device.
#pragma once

#include <string>

#include "backend/cuda/lib/dnn.h"

namespace mpt::cuda {

// A device that is not there: its properties as cuDNN serialises them, and its compute capability, 90 for 9.0.
struct DescribedDevice {
  std::string properties;
  int capability = 0;
};

// The version of the cuDNN that is found, 91900 for 9.19.0; 0: there is none.
int cudnn_version();
// Why cuDNN refuses the problem on such a device; empty: it has plans that it supports.
std::string cudnn_refusal(const AttentionProblem& problem, bool backward, const DescribedDevice& device);

}  // namespace mpt::cuda
