#include "backend/cuda/emu/emulation.h"

#include "backend/cuda/emu/libraries.h"

namespace mpt::cuda {

Libraries make_emulation(const EmulationOptions& options) {
  return {emu::make_device(options), emu::make_blas(), options.dnn ? emu::make_dnn() : nullptr};
}

}  // namespace mpt::cuda
