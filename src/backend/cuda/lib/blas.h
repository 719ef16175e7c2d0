// Matrix multiply with an epilogue, with the meaning of layouts and leading dimensions that cuBLASLt documents:
//
//   D = epilogue(op(A) op(B) + beta C + bias)
//
// All matrices are column-major: element (row, column) of A lies at row + column * lda. op(A) is m x k, op(B) is k x n,
// C and D are m x n. Products and sums are FP32 (no TF32); D is rounded once. bias has m elements, one for each row of
// D. A row-major matrix is the transposed of a column-major one with the same leading dimension.
#pragma once

#include <cstdint>
#include <memory>

#include "core/dtype.h"
#include "kernels/launch.h"

namespace mpt::cuda {

enum class BlasEpilogue : uint8_t {
  none,
  relu,
  gelu_tanh,        // d = gelu_tanh(x)
  gelu_tanh_aux,    // the same, and x is stored in aux, in D's type
  gelu_tanh_grad,   // d = x * gelu_tanh'(aux)
  bias_gradient_a,  // d = x; bias_out [m] = the sum of op(A) over k, FP32 or D's type
  bias_gradient_b   // d = x; bias_out [n] = the sum of op(B) over k
};

struct BlasProblem {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32, d = DType::f32;  // c: of C where beta is 1
  int64_t lda = 0, ldb = 0, ldc = 0, ldd = 0;
  int64_t batch = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0, stride_d = 0;  // elements between the batch's matrices
  bool add_c = false;                                              // beta is 1, else 0
  bool bias = false;
  DType bias_dtype = DType::f32;
  BlasEpilogue epilogue = BlasEpilogue::none;
  int64_t ldaux = 0, stride_aux = 0;
  DType bias_out_dtype = DType::f32;
  // The address of every matrix, each of a batch's too, and of bias and aux is a multiple of this many bytes. Leading
  // dimensions need not be.
  int alignment = 16;
};

struct BlasOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* c = nullptr;
  void* d = nullptr;
  const void* bias = nullptr;
  void* aux = nullptr;  // read by gelu_tanh_grad
  void* bias_out = nullptr;
  void* workspace = nullptr;  // aligned to 256 bytes
};

class Blas {
 public:
  // A multiplication whose algorithm is chosen. run() enqueues and allocates nothing; the same bits every time.
  class Plan {
   public:
    virtual ~Plan() = default;
    virtual uint64_t workspace_bytes() const = 0;
    virtual void run(Stream stream, const BlasOperands& operands) const = 0;
  };

  virtual ~Blas() = default;
  // Null where the library has no algorithm for it.
  virtual std::unique_ptr<Plan> plan(const BlasProblem& problem, uint64_t most_workspace_bytes) = 0;
};

}  // namespace mpt::cuda
