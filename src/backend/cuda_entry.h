// What libmpt_cuda.so exports: one function, mpt_cuda_entry, that returns this table. Both libraries are of one build; `abi`
// tells when they are not.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace mpt {

// Instead of a device's index: a backend that plans and runs nothing, and needs no driver.
constexpr int cuda_planning = -1;

struct CudaEntry {
  uint32_t struct_size;
  const char* version;  // MPT_VERSION_* of its build
  const char* compiler;
  // Both throw Error: UNSUPPORTED with the sentence that tells why there is no such device.
  int (*count)();
  std::unique_ptr<Backend> (*create)(const BackendOptions& options, int device);
  const char* (*build_info)();
};

using CudaEntryFunction = const CudaEntry*();

// "0.1.0", what both sides must agree on besides the struct's size.
const char* cuda_entry_version();

// Loads libmpt_cuda.so, once, and makes a backend for the device. Throws UNSUPPORTED, telling what is missing.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, int device);
int count_cuda_devices();
// "CUDA 13.0, cuBLASLt 13.1, cuDNN 9.19" if the library was loaded, else "".
std::string cuda_build_info();

}  // namespace mpt
