// The CUDA backend over whatever implements its libraries.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/lib/blas.h"
#include "backend/cuda/lib/device.h"
#include "backend/cuda/lib/dnn.h"

namespace mpt::cuda {

struct Libraries {
  std::unique_ptr<Device> device;
  std::unique_ptr<Blas> blas;
  std::unique_ptr<Dnn> dnn;  // may be null
};

// For plans without a device: the workspaces of cuBLASLt count as the most they may be, and attention is the library's own.
Libraries make_planning();

// index: of the device, as users count. stream: the caller's; null: an own one.
std::unique_ptr<Backend> make_backend(Libraries libraries, int index = 0, Stream stream = nullptr);

}  // namespace mpt::cuda
