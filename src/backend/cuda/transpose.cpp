#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_transpose(Registry&) {}

}  // namespace mpt::cuda
