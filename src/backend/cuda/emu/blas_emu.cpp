// lib/blas.h on the host: plain loops over column-major matrices, every pointer and extent checked against the
// allocations.
//
// It takes what cuBLASLt takes for FP32 computation: A and B of one type; C and D of one type, A's or FP32; a bias of
// D's type; the input of gelu_tanh that is kept (aux) with a leading dimension that is a multiple of 8, at addresses
// that are multiples of 16 bytes; gradients of a bias for single matrices alone.
#include <cstring>
#include <vector>

#include "backend/cuda/emu/engine.h"
#include "backend/cuda/emu/libraries.h"
#include "backend/cuda/emu/number.h"
#include "core/error.h"
#include "kernels/numerics/elementwise.h"

namespace mpt::cuda::emu {
namespace {

struct Matrix {
  DType type;
  int64_t rows, columns, ld, stride;
};

bool uses_aux(BlasEpilogue e) { return e == BlasEpilogue::gelu_tanh_aux || e == BlasEpilogue::gelu_tanh_grad; }
bool uses_bias_out(BlasEpilogue e) { return e == BlasEpilogue::bias_gradient_a || e == BlasEpilogue::bias_gradient_b; }

class Multiplication {
 public:
  explicit Multiplication(const BlasProblem& problem, uint64_t workspace)
      : p_(problem),
        workspace_(workspace),
        a_{p_.a, p_.transpose_a ? p_.k : p_.m, p_.transpose_a ? p_.m : p_.k, p_.lda, p_.stride_a},
        b_{p_.b, p_.transpose_b ? p_.n : p_.k, p_.transpose_b ? p_.k : p_.n, p_.ldb, p_.stride_b},
        c_{p_.c, p_.m, p_.n, p_.ldc, p_.stride_c},
        d_{p_.d, p_.m, p_.n, p_.ldd, p_.stride_d},
        aux_{p_.d, p_.m, p_.n, p_.ldaux, p_.stride_aux} {}

  bool is_supported() const {
    const auto is_element = [](DType t) { return t == DType::f32 || is_16bit(t); };
    if (!is_element(p_.a) || p_.a != p_.b || (p_.d != p_.a && p_.d != DType::f32)) return false;
    if (p_.add_c && p_.c != p_.d) return false;
    if (p_.bias && p_.bias_dtype != p_.d) return false;
    if (uses_aux(p_.epilogue) && (p_.ldaux % 8 != 0 || p_.alignment % 16 != 0)) return false;
    if (uses_bias_out(p_.epilogue) && (p_.batch != 1 || p_.bias_out_dtype != p_.d || p_.bias)) return false;
    return p_.m > 0 && p_.n > 0 && p_.k > 0 && p_.batch > 0;
  }
  // What the caller got wrong whatever the library takes.
  void check_problem() const {
    check_shape(a_, "A");
    check_shape(b_, "B");
    if (p_.add_c) check_shape(c_, "C");
    check_shape(d_, "D");
    if (uses_aux(p_.epilogue)) check_shape(aux_, "aux");
    const int64_t matrix = (d_.columns - 1) * d_.ld + d_.rows;
    if (p_.batch > 1 && d_.stride < matrix && d_.stride > -matrix)
      fail(MPT_ERROR_DEVICE, "emu: blas: the matrices D of a batch overlap: stride %lld, expected at least %lld",
           static_cast<long long>(d_.stride), static_cast<long long>(matrix));
  }

  void run(Memory& memory, const BlasOperands& o) const {
    check_matrix(memory, o.a, a_, "A");
    check_matrix(memory, o.b, b_, "B");
    if (p_.add_c) check_matrix(memory, o.c, c_, "C");
    check_matrix(memory, o.d, d_, "D");
    if (overlaps(o.a, a_, o.d) || overlaps(o.b, b_, o.d)) fail(MPT_ERROR_DEVICE, "emu: blas: D overlaps A or B");
    if (p_.add_c && overlaps(o.c, c_, o.d) && (o.c != o.d || c_.ld != d_.ld || c_.stride != d_.stride))
      fail(MPT_ERROR_DEVICE, "emu: blas: D overlaps C and is not the same");
    if (p_.bias) memory.check_device(o.bias, static_cast<uint64_t>(p_.m) * size_of(p_.bias_dtype), "blas: bias");
    if (uses_aux(p_.epilogue)) check_matrix(memory, o.aux, aux_, "aux");
    const int64_t sums = p_.epilogue == BlasEpilogue::bias_gradient_a ? p_.m : p_.n;
    if (uses_bias_out(p_.epilogue))
      memory.check_device(o.bias_out, static_cast<uint64_t>(sums) * size_of(p_.bias_out_dtype), "blas: bias_out");
    if (workspace_ > 0) {
      memory.check_device(o.workspace, workspace_, "blas: workspace");
      if (reinterpret_cast<uintptr_t>(o.workspace) % 256 != 0)
        fail(MPT_ERROR_DEVICE, "emu: blas: the workspace is not aligned to 256 bytes");
      std::memset(o.workspace, poison_byte, workspace_);
    }
    for (int64_t i = 0; i < p_.batch; ++i) multiply(o, i);
    if (uses_bias_out(p_.epilogue)) sum(o, sums);
  }

 private:
  static void check_shape(const Matrix& x, const char* name) {
    if (x.ld < x.rows)
      fail(MPT_ERROR_DEVICE, "emu: blas: %s: leading dimension %lld, expected at least its %lld rows", name,
           static_cast<long long>(x.ld), static_cast<long long>(x.rows));
  }
  uint64_t bytes(const Matrix& x) const {
    return static_cast<uint64_t>((p_.batch - 1) * x.stride + (x.columns - 1) * x.ld + x.rows) * size_of(x.type);
  }
  void check_matrix(const Memory& memory, const void* at, const Matrix& x, const char* name) const {
    const std::string what = std::string("blas: ") + name;
    memory.check_device(at, bytes(x), what.c_str());
    const uint64_t alignment = static_cast<uint64_t>(p_.alignment);
    if (reinterpret_cast<uintptr_t>(at) % alignment != 0 ||
        (p_.batch > 1 && static_cast<uint64_t>(x.stride) * size_of(x.type) % alignment != 0))
      fail(MPT_ERROR_DEVICE, "emu: %s: pointer %p, stride %lld: promised an alignment of %d bytes", what.c_str(), at,
           static_cast<long long>(x.stride), p_.alignment);
  }
  bool overlaps(const void* at, const Matrix& x, const void* d) const {
    const auto *begin = static_cast<const char*>(at), *d_begin = static_cast<const char*>(d);
    return begin < d_begin + bytes(d_) && d_begin < begin + bytes(x);
  }

  float a_at(const void* a, int64_t row, int64_t k) const {
    return load(a, p_.a, p_.transpose_a ? k + row * p_.lda : row + k * p_.lda);
  }
  float b_at(const void* b, int64_t k, int64_t column) const {
    return load(b, p_.b, p_.transpose_b ? column + k * p_.ldb : k + column * p_.ldb);
  }

  // Sums in double, rounded to FP32, the type in which the device adds.
  void multiply(const BlasOperands& o, int64_t i) const {
    const void* a = element(o.a, p_.a, i * p_.stride_a);
    const void* b = element(o.b, p_.b, i * p_.stride_b);
    const std::size_t m = static_cast<std::size_t>(p_.m), k = static_cast<std::size_t>(p_.k);
    std::vector<float> wide_a(m * k);  // [k][m]
    for (int64_t q = 0; q < p_.k; ++q)
      for (int64_t r = 0; r < p_.m; ++r)
        wide_a[static_cast<std::size_t>(q) * m + static_cast<std::size_t>(r)] = a_at(a, r, q);
    std::vector<double> column(m);
    for (int64_t j = 0; j < p_.n; ++j) {
      std::fill(column.begin(), column.end(), 0.0);
      for (int64_t q = 0; q < p_.k; ++q) {
        const double factor = static_cast<double>(b_at(b, q, j));
        const float* from = &wide_a[static_cast<std::size_t>(q) * m];
        for (std::size_t r = 0; r < m; ++r) column[r] += static_cast<double>(from[r]) * factor;
      }
      for (int64_t r = 0; r < p_.m; ++r) finish(o, i, r, j, static_cast<float>(column[static_cast<std::size_t>(r)]));
    }
  }

  void finish(const BlasOperands& o, int64_t i, int64_t row, int64_t column, float x) const {
    if (p_.add_c) x += load(o.c, p_.c, i * p_.stride_c + row + column * p_.ldc);
    if (p_.bias) x += load(o.bias, p_.bias_dtype, row);
    const int64_t aux = i * p_.stride_aux + row + column * p_.ldaux;
    switch (p_.epilogue) {
      case BlasEpilogue::none:
      case BlasEpilogue::bias_gradient_a:
      case BlasEpilogue::bias_gradient_b:
        break;
      case BlasEpilogue::relu:
        x = scalar::relu(x);
        break;
      case BlasEpilogue::gelu_tanh_aux:
        store(o.aux, p_.d, aux, x);
        [[fallthrough]];
      case BlasEpilogue::gelu_tanh:
        x = scalar::gelu_tanh(x);
        break;
      case BlasEpilogue::gelu_tanh_grad:
        x = scalar::gelu_tanh_grad(x, load(o.aux, p_.d, aux));
        break;
    }
    store(o.d, p_.d, i * p_.stride_d + row + column * p_.ldd, x);
  }

  void sum(const BlasOperands& o, int64_t sums) const {
    for (int64_t s = 0; s < sums; ++s) {
      double total = 0;
      for (int64_t q = 0; q < p_.k; ++q)
        total += static_cast<double>(p_.epilogue == BlasEpilogue::bias_gradient_a ? a_at(o.a, s, q) : b_at(o.b, q, s));
      store(o.bias_out, p_.bias_out_dtype, s, static_cast<float>(total));
    }
  }

  BlasProblem p_;
  uint64_t workspace_;
  Matrix a_, b_, c_, d_, aux_;
};

class EmulatedPlan : public Blas::Plan {
 public:
  EmulatedPlan(const Multiplication& multiplication, uint64_t workspace)
      : multiplication_(multiplication), workspace_(workspace) {}
  uint64_t workspace_bytes() const override { return workspace_; }
  void run(Stream stream, const BlasOperands& operands) const override {
    enqueue(stream, "matrix multiply",
            [multiplication = multiplication_, operands](Memory& memory) { multiplication.run(memory, operands); });
  }

 private:
  Multiplication multiplication_;
  uint64_t workspace_;
};

class EmulatedBlas : public Blas {
 public:
  std::unique_ptr<Plan> plan(const BlasProblem& problem, uint64_t most_workspace_bytes) override {
    // Some of what it may have, as a split sum would use.
    const uint64_t wanted = problem.k > problem.m && problem.k > problem.n ? 4096 : 0;
    const uint64_t workspace = wanted < most_workspace_bytes ? wanted : most_workspace_bytes;
    const Multiplication multiplication(problem, workspace);
    if (!multiplication.is_supported()) return nullptr;
    multiplication.check_problem();
    return std::make_unique<EmulatedPlan>(multiplication, workspace);
  }
};

}  // namespace

std::unique_ptr<Blas> make_blas() { return std::make_unique<EmulatedBlas>(); }

}  // namespace mpt::cuda::emu
