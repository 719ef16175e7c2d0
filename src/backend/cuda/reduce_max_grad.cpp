#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_reduce_max_grad(Registry&) {}

}  // namespace mpt::cuda
