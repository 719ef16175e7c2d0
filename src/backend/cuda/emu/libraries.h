// The parts of the emulation, each in a file of its own.
#pragma once

#include "backend/cuda/emu/emulation.h"

namespace mpt::cuda::emu {

std::unique_ptr<Device> make_device(const EmulationOptions& options);
std::unique_ptr<Blas> make_blas();
std::unique_ptr<Dnn> make_dnn();

}  // namespace mpt::cuda::emu
