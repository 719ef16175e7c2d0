// The device "emu": CUDA's libraries played on the host, so that the whole CUDA backend runs in tests on machines
// without a GPU. Kernels are compiled by the host's compiler against shim.h. Tests only; nothing of it is in an
// installed library.
#pragma once

#include "backend/cuda/backend.h"

namespace mpt::cuda {

struct EmulationOptions {
  // Fails the allocation of this number, counted from 1, as a full device does; 0: none.
  int64_t fail_allocation = 0;
  uint64_t memory_bytes = uint64_t{4} << 30;
  // "Asynchronous" work runs as late as the rules allow (the default), or at once.
  bool late = true;
  bool dnn = true;    // false: as on a machine without cuDNN
  uint64_t seed = 1;  // of the order in which threads and warps of a block run
};

Libraries make_emulation(const EmulationOptions& options = {});

}  // namespace mpt::cuda
