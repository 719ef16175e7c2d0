// Element conversion between the float types that weights are stored in.
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace mpt {

// Equal types, or any two of FP32, FP16 and BF16.
bool is_convertible(DType from, DType to);

// Widening is exact; narrowing rounds once, to nearest even, and overflows to infinity. Any alignment; no overlap.
void convert_elements(DType from, const void* source, DType to, void* target, std::size_t count);

}  // namespace mpt
