// Matrix multiply by cuBLASLt.
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/cuda/lib/blas.h"
#include "backend/cuda/lib/device_cuda.h"
#include "core/error.h"

namespace mpt::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? MPT_ERROR_DEVICE_OUT_OF_MEMORY : MPT_ERROR_DEVICE, "cuBLASLt: %s: %s",
       what, cublasLtGetStatusString(status));
}

cudaDataType_t native(DType type) {
  switch (type) {
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

template <typename T>
void set(cublasLtMatmulDescOpaque_t& description, cublasLtMatmulDescAttributes_t attribute, T value) {
  check(cublasLtMatmulDescSetAttribute(&description, attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}
template <typename T>
void set(cublasLtMatrixLayoutOpaque_t& layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
  check(cublasLtMatrixLayoutSetAttribute(&layout, attribute, &value, sizeof value), "cublasLtMatrixLayoutSetAttribute");
}
template <typename T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

bool is_bias_gradient(BlasEpilogue epilogue) {
  return epilogue == BlasEpilogue::bias_gradient_a || epilogue == BlasEpilogue::bias_gradient_b;
}
bool has_aux(BlasEpilogue epilogue) {
  return epilogue == BlasEpilogue::gelu_tanh_aux || epilogue == BlasEpilogue::gelu_tanh_grad;
}

// Nothing where the library has no such combination.
std::optional<cublasLtEpilogue_t> native_epilogue(const BlasProblem& p) {
  switch (p.epilogue) {
    case BlasEpilogue::none:
      return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case BlasEpilogue::relu:
      return p.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case BlasEpilogue::gelu_tanh:
      return p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case BlasEpilogue::gelu_tanh_aux:
      return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case BlasEpilogue::gelu_tanh_grad:
      if (!p.bias) return CUBLASLT_EPILOGUE_DGELU;
      break;
    case BlasEpilogue::bias_gradient_a:
      if (!p.bias) return CUBLASLT_EPILOGUE_BGRADA;
      break;
    case BlasEpilogue::bias_gradient_b:
      if (!p.bias) return CUBLASLT_EPILOGUE_BGRADB;
      break;
  }
  return std::nullopt;
}

// The problem in the library's descriptors, which are plain memory: copies are descriptors too.
struct Descriptors {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c, d;

  Descriptors(const BlasProblem& p, cublasLtEpilogue_t epilogue) {
    // FP32 products and sums; FP32 operands are not rounded to TF32.
    check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    set<int32_t>(operation, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set<int32_t>(operation, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set<uint32_t>(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(epilogue));
    if (p.bias) set<int32_t>(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, native(p.bias_dtype));
    if (is_bias_gradient(p.epilogue))
      set<int32_t>(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, native(p.bias_out_dtype));
    if (has_aux(p.epilogue)) {
      set<int32_t>(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, native(p.d));
      set<int64_t>(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldaux);
      if (p.batch > 1) set<int64_t>(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, p.stride_aux);
    }
    make(&a, p.a, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.lda, p.batch, p.stride_a);
    make(&b, p.b, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.ldb, p.batch, p.stride_b);
    make(&d, p.d, p.m, p.n, p.ldd, p.batch, p.stride_d);
    c = d;  // where beta is 0 it is not read
    if (p.add_c) make(&c, p.c, p.m, p.n, p.ldc, p.batch, p.stride_c);
  }

  // Set before each launch, and before the choice, which sees their alignment.
  void set_pointers(const BlasProblem& p, const void* bias, void* aux) {
    if (p.bias || is_bias_gradient(p.epilogue)) set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (has_aux(p.epilogue)) set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
  }

 private:
  static void make(cublasLtMatrixLayoutOpaque_t* layout, DType type, int64_t rows, int64_t columns, int64_t ld,
                   int64_t batch, int64_t stride) {
    check(
        cublasLtMatrixLayoutInit(layout, native(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld),
        "cublasLtMatrixLayoutInit");
    if (batch == 1) return;
    set<int32_t>(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
    set<int64_t>(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
};

struct Algorithm {
  cublasLtMatmulAlgo_t algorithm;
  uint64_t workspace_bytes;
};

// Split sums are added in FP32, in a workspace and in a fixed order. The other schemes round partial sums to D's type.
constexpr uint32_t allowed_reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

bool has_allowed_reduction(const cublasLtMatmulAlgo_t& algorithm) {
  uint32_t scheme = 0;
  std::size_t written = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                                     &scheme, sizeof scheme, &written);
  return status == CUBLAS_STATUS_SUCCESS && (scheme & ~allowed_reductions) == 0;
}

class CublasLtPlan final : public Blas::Plan {
 public:
  CublasLtPlan(cublasLtHandle_t handle, const BlasProblem& problem, const Descriptors& descriptors,
               const Algorithm& algorithm)
      : handle_(handle), problem_(problem), descriptors_(descriptors), algorithm_(algorithm) {}

  uint64_t workspace_bytes() const override { return algorithm_.workspace_bytes; }

  void run(Stream stream, const BlasOperands& o) const override {
    Descriptors own = descriptors_;  // several threads may run one plan
    own.set_pointers(problem_, problem_.bias ? o.bias : o.bias_out, o.aux);
    const float alpha = 1, beta = problem_.add_c ? 1.0f : 0.0f;
    check(cublasLtMatmul(handle_, &own.operation, &alpha, o.a, &own.a, o.b, &own.b, &beta, problem_.add_c ? o.c : o.d,
                         &own.c, o.d, &own.d, &algorithm_.algorithm, o.workspace, algorithm_.workspace_bytes,
                         static_cast<cudaStream_t>(stream)),
          "cublasLtMatmul");
  }

 private:
  cublasLtHandle_t handle_;
  BlasProblem problem_;
  Descriptors descriptors_;
  Algorithm algorithm_;
};

class CublasLt final : public Blas {
 public:
  CublasLt() { check(cublasLtCreate(&handle_), "cublasLtCreate"); }
  ~CublasLt() override { cublasLtDestroy(handle_); }

  std::unique_ptr<Plan> plan(const BlasProblem& problem, uint64_t most_workspace_bytes) override {
    const std::optional<cublasLtEpilogue_t> epilogue = native_epilogue(problem);
    if (!epilogue || problem.batch > INT32_MAX) return nullptr;
    const Descriptors descriptors(problem, *epilogue);
    const std::lock_guard lock(mutex_);
    const auto [entry, is_new] = chosen_.try_emplace(key(problem, most_workspace_bytes));
    if (is_new) {
      try {
        entry->second = choose(problem, descriptors, most_workspace_bytes);
      } catch (...) {
        chosen_.erase(entry);
        throw;
      }
    }
    if (!entry->second) return nullptr;
    return std::make_unique<CublasLtPlan>(handle_, problem, descriptors, *entry->second);
  }

 private:
  using Key = std::vector<int64_t>;

  static Key key(const BlasProblem& p, uint64_t workspace) {
    return {p.m,
            p.n,
            p.k,
            p.transpose_a,
            p.transpose_b,
            static_cast<int64_t>(p.a),
            static_cast<int64_t>(p.b),
            static_cast<int64_t>(p.c),
            static_cast<int64_t>(p.d),
            p.lda,
            p.ldb,
            p.ldc,
            p.ldd,
            p.batch,
            p.stride_a,
            p.stride_b,
            p.stride_c,
            p.stride_d,
            p.add_c,
            p.bias,
            static_cast<int64_t>(p.bias_dtype),
            static_cast<int64_t>(p.epilogue),
            p.ldaux,
            p.stride_aux,
            static_cast<int64_t>(p.bias_out_dtype),
            p.alignment,
            static_cast<int64_t>(workspace)};
  }

  // The library's favourites in their order; the first that fits. To choose by time instead, run the candidates here.
  std::optional<Algorithm> choose(const BlasProblem& problem, Descriptors descriptors, uint64_t most_workspace_bytes) {
    const std::vector<cublasLtMatmulHeuristicResult_t> candidates = ask(problem, descriptors, most_workspace_bytes);
    for (const cublasLtMatmulHeuristicResult_t& c : candidates) {
      if (c.state != CUBLAS_STATUS_SUCCESS || c.workspaceSize > most_workspace_bytes) continue;
      if (has_allowed_reduction(c.algo)) return Algorithm{c.algo, c.workspaceSize};
    }
    return std::nullopt;
  }

  std::vector<cublasLtMatmulHeuristicResult_t> ask(const BlasProblem& problem, Descriptors& descriptors,
                                                   uint64_t most_workspace_bytes) {
    // Of these two the library looks at the alignment alone: an address that has it and no more.
    auto* const aligned = reinterpret_cast<void*>(static_cast<uintptr_t>(problem.alignment));
    descriptors.set_pointers(problem, aligned, aligned);

    cublasLtMatmulPreferenceOpaque_t preference;
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    set<uint64_t>(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace_bytes);
    set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, allowed_reductions);
    set<uint64_t>(preference, CUBLASLT_MATMUL_PREF_IMPL_MASK,
                  ~(CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32 | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set<uint32_t>(preference, attribute, static_cast<uint32_t>(problem.alignment));

    constexpr int most_candidates = 8;
    std::vector<cublasLtMatmulHeuristicResult_t> candidates(most_candidates);
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, &descriptors.operation, &descriptors.a, &descriptors.b, &descriptors.c,
                                       &descriptors.d, &preference, most_candidates, candidates.data(), &found);
    switch (status) {
      case CUBLAS_STATUS_NOT_SUPPORTED:  // no algorithm
      case CUBLAS_STATUS_INVALID_VALUE:  // an epilogue or types that don't go together
      case CUBLAS_STATUS_ARCH_MISMATCH:
        found = 0;
        break;
      default:
        check(status, "cublasLtMatmulAlgoGetHeuristic");
    }
    candidates.resize(static_cast<std::size_t>(found));
    return candidates;
  }

  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<Key, std::optional<Algorithm>> chosen_;
};

}  // namespace

std::unique_ptr<Blas> make_cublaslt() { return std::make_unique<CublasLt>(); }

}  // namespace mpt::cuda
