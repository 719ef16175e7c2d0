// Backends that tests make by the name of their device. Every test program knows one more than the library: "emu",
// the CUDA backend over the emulation of its libraries, where the build has it; "emu:3" is another order in which
// threads run, and "emu-without-cudnn" is a machine that lacks it.
#pragma once

#include <string>

namespace mpt::test {

// The device that MPT_TEST_DEVICE names, "cpu" without it.
std::string tested_device();

// Whether the host can read and write that device's memory.
bool host_reads_tested_device();

}  // namespace mpt::test
