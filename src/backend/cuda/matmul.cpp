#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_matmul(Registry&) {}

}  // namespace mpt::cuda
