#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_custom(Registry&) {}

}  // namespace mpt::cuda
