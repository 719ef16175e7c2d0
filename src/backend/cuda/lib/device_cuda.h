// The real libraries; each is made in the file of its name.
#pragma once

#include <memory>

#include "backend/cuda/lib/blas.h"
#include "backend/cuda/lib/device.h"
#include "backend/cuda/lib/dnn.h"

namespace mpt::cuda {

// Throws UNSUPPORTED with the sentence that tells why there is none to count: no driver, or one that is too old.
int count_cuda_devices();
std::unique_ptr<Device> make_cuda_device(int index);
std::unique_ptr<Blas> make_cublaslt();
// Null in a build without cuDNN.
std::unique_ptr<Dnn> make_cudnn();

}  // namespace mpt::cuda
