// From the engine's dtypes to the storage types of the vector loops.
#pragma once

#include "backend/cpu/isa/element.h"
#include "core/dtype.h"

namespace mpt::cpu {

// Float types that kernels compute with; FP64 is the reference backend's.
constexpr bool is_element(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

constexpr Element element_of(DType t) {
  return t == DType::f16 ? Element::f16 : t == DType::bf16 ? Element::bf16 : Element::f32;
}

}  // namespace mpt::cpu
