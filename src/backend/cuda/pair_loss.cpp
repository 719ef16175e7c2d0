#include "backend/cuda/kernels.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {

void register_pair_loss(Registry&) {}

}  // namespace mpt::cuda
