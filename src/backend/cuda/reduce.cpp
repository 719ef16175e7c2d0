#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_reduce(Registry&) {}

}  // namespace mpt::cuda
