// The one function that libmpt_cuda.so exports.
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <string>

#include "backend/cuda/backend.h"
#include "backend/cuda/lib/device_cuda.h"
#include "backend/cuda_entry.h"
#include "core/error.h"

namespace mpt {
namespace {

std::unique_ptr<Backend> create(const BackendOptions& options, int device) {
  if (device == cuda_planning) return cuda::make_backend(cuda::make_planning());
  const int count = cuda::count_cuda_devices();
  if (count == 0) fail(MPT_ERROR_UNSUPPORTED, "there is a CUDA driver, but no CUDA device");
  if (device >= count)
    fail(MPT_ERROR_UNSUPPORTED, "there is no device 'cuda:%d': this machine has %d, from 'cuda:0' on", device, count);
  cuda::Libraries libraries;
  libraries.device = cuda::make_cuda_device(device);
  const cuda::CurrentDevice current(*libraries.device);
  libraries.blas = cuda::make_cublaslt();
  libraries.dnn = cuda::make_cudnn();
  return cuda::make_backend(std::move(libraries), device, options.stream);
}

const char* build_info() {
  static const std::string text = [] {
    const auto version = [](std::size_t number, std::size_t major) {
      return std::to_string(number / major) + "." + std::to_string(number % major / (major / 100));
    };
    return "CUDA " + version(CUDART_VERSION, 1000) + ", cuBLASLt " + version(cublasLtGetVersion(), 10000);
  }();
  return text.c_str();
}

}  // namespace
}  // namespace mpt

extern "C" __attribute__((visibility("default"))) const mpt::CudaEntry* mpt_cuda_entry() {
  static const mpt::CudaEntry entry{
      sizeof(mpt::CudaEntry), mpt::cuda_entry_version(), __VERSION__, mpt::cuda::count_cuda_devices, mpt::create,
      mpt::build_info};
  return &entry;
}
