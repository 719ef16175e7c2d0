#include "cuda/tested_libraries.h"

#include <cmath>

#include "backend/cuda/lib/device_cuda.h"
#include "core/error.h"

namespace mpt::test {

cuda::Libraries make_tested_libraries() {
  if (cuda::count_cuda_devices() == 0) fail(MPT_ERROR_UNSUPPORTED, "there is a CUDA driver, but no CUDA device");
  cuda::Libraries libraries;
  libraries.device = cuda::make_cuda_device(0);
  const cuda::CurrentDevice current(*libraries.device);
  libraries.blas = cuda::make_cublaslt();
  libraries.dnn = cuda::make_cudnn();
  return libraries;
}

double tested_tanh_error() { return std::ldexp(1.0, -11); }  // of the instruction tanh.approx.f32, as PTX documents it

}  // namespace mpt::test
