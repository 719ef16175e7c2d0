// Storage types of float tensors, as the code under isa/ sees them.
#pragma once

#include <cstdint>

namespace mpt::cpu {

enum class Element : int32_t { f32, f16, bf16 };

}  // namespace mpt::cpu
