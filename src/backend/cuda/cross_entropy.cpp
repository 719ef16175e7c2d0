#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_cross_entropy(Registry&) {}

}  // namespace mpt::cuda
