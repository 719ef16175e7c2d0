#include "support/devices.h"

#include <cstdlib>

#include "runtime/devices.h"

#if defined(MPT_HAVE_EMULATION)
#include "backend/cuda/emu/emulation.h"
#endif

namespace mpt::test {

#if defined(MPT_HAVE_EMULATION)
namespace {

std::unique_ptr<Backend> emulated(const BackendOptions& backend, int index, bool dnn) {
  cuda::EmulationOptions options;
  options.seed = static_cast<uint64_t>(index) + 1;
  options.dnn = dnn;
  return cuda::make_backend(cuda::make_emulation(options), index, backend.stream);
}

const bool registered = [] {
  register_device("emu", [](const BackendOptions& o, int index) { return emulated(o, index, true); });
  register_device("emu-without-cudnn", [](const BackendOptions& o, int index) { return emulated(o, index, false); });
  return true;
}();

}  // namespace
#endif

std::string tested_device() {
  const char* name = std::getenv("MPT_TEST_DEVICE");
  return name && *name ? name : "cpu";
}

bool host_reads_tested_device() {
  const std::string device = tested_device();
  return device.rfind("emu", 0) != 0 && device.rfind("cuda", 0) != 0;
}

}  // namespace mpt::test
