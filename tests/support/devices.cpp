#include "support/devices.h"

#include "core/error.h"

#if defined(MPT_HAVE_EMULATION)
#include "backend/cuda/emu/emulation.h"
#endif

namespace mpt::test {

std::unique_ptr<Backend> make_device_backend(const std::string& device, [[maybe_unused]] int seed) {
#if defined(MPT_HAVE_EMULATION)
  if (device == "emu") {
    cuda::EmulationOptions options;
    options.seed = static_cast<uint64_t>(seed);
    return cuda::make_backend(cuda::make_emulation(options));
  }
#endif
  fail(MPT_ERROR_UNSUPPORTED, "this build has no device '%s'", device.c_str());
}

}  // namespace mpt::test
