// A session with the emulated device.
#pragma once

#include "backend/cuda/emu/emulation.h"
#include "cuda/device_session.h"

namespace mpt::test {

class Emulated : public DeviceSession {
 public:
  explicit Emulated(const cuda::EmulationOptions& options = {}) : DeviceSession(cuda::make_emulation(options)) {}
};

inline bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace mpt::test
