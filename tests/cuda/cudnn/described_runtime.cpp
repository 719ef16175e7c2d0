// The CUDA runtime that cuDNN's frontend sees in this test: it has the described device, and nothing can be done with it.
#include <cuda_runtime_api.h>

#include <cstring>

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(static_cast<void*>(properties), 0, sizeof *properties);
  properties->major = 9;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "there is no device"; }
cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t) { return cudaErrorNoDevice; }
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) { return cudaErrorNoDevice; }
cudaError_t cudaDeviceSynchronize() { return cudaErrorNoDevice; }
cudaError_t cudaEventCreate(cudaEvent_t*) { return cudaErrorNoDevice; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaErrorNoDevice; }
cudaError_t cudaEventElapsedTime(float*, cudaEvent_t, cudaEvent_t) { return cudaErrorNoDevice; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaErrorNoDevice; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaErrorNoDevice; }
}
