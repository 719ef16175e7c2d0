// Memory faults in the emulated devices' ranges of addresses: of a kernel they are the launch's error; of the host,
// which has no business there, they end the program as any fault does, after a line that says what was touched.
#pragma once

#include <string>

namespace mpt::cuda::emu {

class Memory;

void watch(const Memory& memory);
void forget(const Memory& memory);
std::string describe_address(const void* address);

}  // namespace mpt::cuda::emu
