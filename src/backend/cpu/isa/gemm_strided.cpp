// The multiply of FP32 lanes with operands read where they are, for every type of B.
#include "backend/cpu/isa/gemm_strided.h"
#include "backend/cpu/isa/gemm_kernels.h"

namespace mpt::cpu::MPT_ISA {

GemmMultiplyStrided gemm_multiply_rows() { return multiply_strided<StridedF32<ElementF32, AlongK>>; }

GemmMultiplyStrided gemm_multiply_across(GemmElement b) {
  switch (b) {
    case GemmElement::f16:
      return multiply_strided<StridedF32<ElementF16, AcrossRows>>;
    case GemmElement::bf16:
      return multiply_strided<StridedF32<ElementBF16, AcrossRows>>;
    default:
      return multiply_strided<StridedF32<ElementF32, AcrossRows>>;
  }
}

}  // namespace mpt::cpu::MPT_ISA
