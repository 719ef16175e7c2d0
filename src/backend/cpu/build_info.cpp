// What the CPU backend is made of, for mpt_build_info.
#include <string>

#include "backend/backend.h"
#include "backend/cpu/isa.h"

namespace mpt {

std::string cpu_build_info() { return cpu::name_of(cpu::detected_isa()); }

}  // namespace mpt
