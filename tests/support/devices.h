// Backends that tests make by the name of their device.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace mpt::test {

// "emu": the CUDA backend over the emulation of its libraries; `seed` is of the order in which threads run. Throws UNSUPPORTED
// where this build has no such device.
std::unique_ptr<Backend> make_device_backend(const std::string& device, int seed);

}  // namespace mpt::test
