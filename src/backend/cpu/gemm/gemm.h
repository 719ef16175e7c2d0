// C = A B for operands of FP32, FP16 or BF16 in any order, with products and sums in FP32 and one rounding at the end, which
// is the caller's: complete sums are handed to an epilogue while they are in cache.
//
// 16-bit operands are widened block by block while they are packed, or, both BF16 on a machine that multiplies them, never.
// Blocks and the order of sums depend on the problem and the instruction set alone: any number of threads gives the same
// bits. run() allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cpu/gemm/blocking.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/isa/gemm_kernels.h"
#include "backend/cpu/parallel.h"
#include "core/dtype.h"

namespace mpt::cpu {

// batch independent products. A is m x k (transposed: stored as k x m), B is k x n (transposed: stored as n x k); lda and ldb
// are the distances between stored rows, stride_a and stride_b between batch items (0: the same one for all), all in elements.
struct GemmProblem {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  DType a = DType::f32, b = DType::f32;
  bool trans_a = false, trans_b = false;
  int64_t lda = 0, ldb = 0;
  int64_t stride_a = 0, stride_b = 0;
  // Where batch items don't lie at equal distances: the offset of each, in elements, instead of a stride.
  std::vector<int64_t> offsets_a, offsets_b;
};

// Takes `n` consecutive complete sums of row `row` of batch item `batch`, from column `column`; may overwrite them. Called
// exactly once for every element, on any thread of the run.
struct Epilogue {
  void (*finish)(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums);
  const void* self;
  // May be null. Says that finish is soon called with these numbers: prefetch what it will write and read.
  void (*prefetch)(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n) = nullptr;
  // May be null. As finish for `rows` whole rows, whose sums lie one after the other.
  void (*finish_rows)(const void* self, int64_t batch, int64_t row, int64_t rows, int64_t n, float* sums) = nullptr;
  // May be null, and may return null. Where sums from this one on are the result as they are: they are written there, rows
  // *distance apart, and not finished.
  float* (*destination)(const void* self, int64_t batch, int64_t row, int64_t column, int64_t* distance) = nullptr;
};

class GemmPlan {
 public:
  // threads is the Parallel's that will run the plan: it sizes the scratch and changes nothing else.
  static std::unique_ptr<GemmPlan> create(const GemmProblem& problem, Isa level, int threads);

  std::size_t scratch_bytes() const { return scratch_bytes_; }
  // scratch is aligned to 64 bytes. Operands and scratch do not overlap. Reentrant.
  void run(const Parallel& parallel, const void* a, const void* b, const Epilogue& epilogue, void* scratch) const;
  // What multiplies, for a plan's dump: "gemm.avx512.f32", "gemm.avx512_bf16.bf16".
  const char* name() const { return name_; }

 private:
  struct Operands;
  struct PanelWork;
  class Prefetch;

  // How the product is computed. blocked: tiles of packed panels, A where it is if possible. few_rows: the same with B where
  // it is. items: whole small batch items. dots: few rows or columns, both operands along k.
  enum class Way { blocked, few_rows, items, dots };

  GemmPlan(const GemmProblem& problem, Isa level, int threads);

  static Way choose_way(const GemmProblem& problem, bool has_pairs);
  void prepare_blocked(bool b_repeats, int threads);
  void prepare_items(int threads);
  void prepare_dots(int threads);

  void multiply_item(const Operands& operands, int64_t item, int worker) const;
  void multiply_dots(const Operands& operands, int64_t task, int worker) const;
  void finish_rows(const Epilogue& epilogue, int64_t batch, int64_t row, int64_t rows, float* sums) const;
  const std::byte* a_item(const void* a, int64_t batch) const;
  const std::byte* b_item(const void* b, int64_t batch) const;

  void pack_slab(const Operands& operands, int64_t slab, int64_t chunk) const;
  void multiply_tile(const Operands& operands, int64_t slab, int64_t task, int worker) const;
  void add_partial_sums(const Operands& operands, int64_t task, int worker) const;
  void multiply_panel(const Epilogue& epilogue, const PanelWork& work, Prefetch& next_a, Prefetch& next_b) const;
  void locate(int64_t* batch, int64_t* row) const;
  int64_t steps(int64_t k) const { return (k + kernel_.k_unit - 1) / kernel_.k_unit; }

  GemmProblem problem_;
  int64_t folded_m_ = 0;  // rows of one batch item where the whole batch is multiplied as one matrix, else 0
  Way way_ = Way::blocked;
  GemmKernel kernel_;
  bool a_in_place_ = false, b_in_place_ = false;
  GemmDot dot_ = nullptr;
  int64_t group_ = 1;  // batch items, or rows of the long operand, of one task
  GemmBlocking blocking_;
  char name_[48];
  // Scratch: B's slab, partial sums, then for each thread a few A panels, B's block and a tile's sums.
  std::size_t partial_offset_ = 0, workers_offset_ = 0, worker_bytes_ = 0, scratch_bytes_ = 0;
  std::size_t own_b_offset_ = 0, sums_offset_ = 0;
  int64_t rows_packed_ = 0;  // of A at a time
  int64_t panel_rows_ = 0;   // of A in one register tile
  int64_t row_length_ = 0;   // distance of rows in sums and in partial sums
};

// Stores sums in a row-major matrix, rounded once to its type; add: with what is there added in FP32 before rounding.
class StoreEpilogue {
 public:
  StoreEpilogue(void* c, DType type, int64_t ldc, int64_t stride_c, bool add, Isa level);
  Epilogue epilogue() const { return {finish, this, prefetch, finish_rows, destination}; }

 private:
  static void prefetch(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n);
  static void finish(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums);
  static void finish_rows(const void* self, int64_t batch, int64_t row, int64_t rows, int64_t n, float* sums);
  static float* destination(const void* self, int64_t batch, int64_t row, int64_t column, int64_t* distance);

  std::byte* c_;
  DType type_;
  int64_t element_bytes_, ldc_, stride_c_;
  bool add_;
  GemmStore store_;
};

}  // namespace mpt::cpu
