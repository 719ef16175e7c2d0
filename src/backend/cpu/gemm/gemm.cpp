#include "backend/cpu/gemm/gemm.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace mpt::cpu {
namespace {

constexpr std::size_t alignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

GemmElement element_of(DType type) {
  switch (type) {
    case DType::f32: return GemmElement::f32;
    case DType::f16: return GemmElement::f16;
    case DType::bf16: return GemmElement::bf16;
    default: fail(MPT_ERROR_INTERNAL, "gemm: found operands of %s, expected float32, float16 or bfloat16", name_of(type));
  }
}

const char* type_name(GemmElement a, GemmElement b, bool native) {
  if (native) return "bf16";
  if (a != b) return "mixed";
  return a == GemmElement::f32 ? "f32" : a == GemmElement::f16 ? "f16" : "bf16 widened";
}

const std::byte* at(const void* base, int64_t element, DType type) {
  return static_cast<const std::byte*>(base) + element * static_cast<int64_t>(size_of(type));
}

}  // namespace

struct GemmPlan::Operands {
  const void* a;
  const void* b;
  const Epilogue* epilogue;
  std::byte* scratch;
};

std::unique_ptr<GemmPlan> GemmPlan::create(const GemmProblem& problem, Isa level, int threads) {
  return std::unique_ptr<GemmPlan>(new GemmPlan(problem, level, threads));
}

GemmPlan::GemmPlan(const GemmProblem& problem, Isa level, int threads) : problem_(problem) {
  GemmProblem& p = problem_;
  MPT_INVARIANT(p.batch > 0 && p.m > 0 && p.n > 0 && p.k > 0 && threads > 0);
  MPT_INVARIANT(p.lda >= (p.trans_a ? p.m : p.k) && p.ldb >= (p.trans_b ? p.k : p.n));
  MPT_INVARIANT(p.offsets_a.empty() || static_cast<int64_t>(p.offsets_a.size()) == p.batch);
  MPT_INVARIANT(p.offsets_b.empty() || static_cast<int64_t>(p.offsets_b.size()) == p.batch);

  const GemmElement a = element_of(p.a), b = element_of(p.b);
  const bool native = level >= Isa::avx512_bf16 && a == GemmElement::bf16 && b == GemmElement::bf16;
  kernel_ = MPT_CHOOSE_ISA(level, gemm_kernel)({a, p.trans_a}, {b, p.trans_b});
#if defined(__x86_64__)
  if (native) kernel_ = avx512::gemm_kernel_bf16(p.trans_a, p.trans_b);
#endif
  std::snprintf(name_, sizeof name_, "gemm.%s.%s", name_of(level), type_name(a, b, native));

  // A batch that shares B and whose A is one tall matrix is one product.
  const bool b_repeats = p.stride_b == 0 && p.offsets_b.empty();
  if (p.batch > 1 && b_repeats && !p.trans_a && p.offsets_a.empty() && p.stride_a == p.m * p.lda) {
    folded_m_ = p.m;
    p.m *= p.batch;
    p.batch = 1;
  }
  blocking_ = choose_blocking(p.batch, p.m, p.n, p.k, p.trans_a, p.trans_b, b_repeats, kernel_);

  const GemmBlocking& c = blocking_;
  const bool split = c.tiles_k > 1;
  // An odd number of cache lines, so that a tile's rows don't meet in one set of the cache.
  row_length_ = packed_columns(split ? p.n : c.tile_n, kernel_);
  const int64_t lanes_per_line = static_cast<int64_t>(alignment / sizeof(float));
  row_length_ = ((row_length_ + lanes_per_line - 1) / lanes_per_line | 1) * lanes_per_line;

  const auto lanes = [](int64_t count) { return aligned(static_cast<std::size_t>(count) * sizeof(float)); };
  const std::size_t slab = c.slab_n > 0 ? lanes(steps(p.k) * packed_columns(std::min(c.slab_n, p.n), kernel_)) : 0;
  const std::size_t partial = split ? lanes(p.batch * c.tiles_k * p.m * row_length_) : 0;
  const std::size_t panel = lanes(steps(c.chunk_k) * kernel_.rows) + gemm_pack_slack;
  const std::size_t own_b = c.slab_n > 0 ? 0 : lanes(steps(c.chunk_k) * packed_columns(c.tile_n, kernel_));
  const int64_t rows_kept = c.chunk_k < std::min(c.tile_k, p.k) ? c.tile_m : kernel_.rows;
  const std::size_t sums = split ? 0 : lanes(rows_kept * row_length_);
  partial_offset_ = slab;
  workers_offset_ = partial_offset_ + partial;
  own_b_offset_ = panel;
  sums_offset_ = own_b_offset_ + own_b;
  worker_bytes_ = std::max(sums_offset_ + sums, lanes(row_length_));
  scratch_bytes_ = workers_offset_ + worker_bytes_ * static_cast<std::size_t>(threads);
}

void GemmPlan::run(const Parallel& parallel, const void* a, const void* b, const Epilogue& epilogue, void* scratch) const {
  const Operands operands{a, b, &epilogue, static_cast<std::byte*>(scratch)};
  const GemmBlocking& c = blocking_;
  const int64_t chunks = (problem_.k + c.chunk_k - 1) / c.chunk_k;
  for (int64_t slab = 0; slab < c.slabs; ++slab) {
    if (c.slab_n > 0) {
      parallel.run(c.tiles_n * chunks, [&](int64_t task, int) { pack_slab(operands, slab, task); });
    }
    parallel.run(problem_.batch * c.tiles_m * c.tiles_n * c.tiles_k,
                 [&](int64_t task, int worker) { multiply_tile(operands, slab, task, worker); });
  }
  if (c.tiles_k > 1) {
    parallel.run(problem_.batch * problem_.m, [&](int64_t task, int worker) { add_partial_sums(operands, task, worker); });
  }
}

// One block of a slab: a tile's columns over one chunk of k. A tile's blocks lie one after the other.
void GemmPlan::pack_slab(const Operands& operands, int64_t slab, int64_t task) const {
  const GemmBlocking& c = blocking_;
  const GemmProblem& p = problem_;
  const int64_t tile = task % c.tiles_n, k_begin = task / c.tiles_n * c.chunk_k;
  const int64_t slab_end = std::min(p.n, (slab + 1) * c.slab_n);
  const int64_t column = slab * c.slab_n + tile * c.tile_n;
  const int64_t n = std::min(c.tile_n, slab_end - column);
  if (n <= 0) return;
  const int64_t k = std::min(c.chunk_k, p.k - k_begin);
  auto* packed = reinterpret_cast<float*>(operands.scratch) + tile * c.tile_n * steps(p.k) +
                 steps(k_begin) * packed_columns(n, kernel_);
  kernel_.pack_b(at(operands.b, p.trans_b ? column * p.ldb + k_begin : k_begin * p.ldb + column, p.b), p.ldb, n, k, packed);
}

void GemmPlan::multiply_tile(const Operands& operands, int64_t slab, int64_t task, int worker) const {
  const GemmBlocking& c = blocking_;
  const GemmProblem& p = problem_;
  const int64_t part = task % c.tiles_k;
  task /= c.tiles_k;
  const int64_t row_begin = task % c.tiles_m * c.tile_m;
  task /= c.tiles_m;
  const int64_t tile = task % c.tiles_n, batch = task / c.tiles_n;

  const int64_t column_end = c.slab_n > 0 ? std::min(p.n, (slab + 1) * c.slab_n) : p.n;
  const int64_t column = slab * c.slab_n + tile * c.tile_n;
  const int64_t n = std::min(c.tile_n, column_end - column);
  if (n <= 0) return;
  const int64_t row_end = std::min(p.m, row_begin + c.tile_m);
  const int64_t k_tile = part * c.tile_k, k_end = std::min(p.k, k_tile + c.tile_k);

  std::byte* own = operands.scratch + workers_offset_ + static_cast<std::size_t>(worker) * worker_bytes_;
  std::byte* panel = own;
  const bool split = c.tiles_k > 1;
  float* sums = split ? reinterpret_cast<float*>(operands.scratch + partial_offset_) +
                            ((batch * c.tiles_k + part) * p.m + row_begin) * row_length_ + column
                      : reinterpret_cast<float*>(own + sums_offset_);
  const bool one_chunk = k_end - k_tile <= c.chunk_k;
  const int64_t a_item = p.offsets_a.empty() ? batch * p.stride_a : p.offsets_a[batch];
  const int64_t b_item = p.offsets_b.empty() ? batch * p.stride_b : p.offsets_b[batch];

  for (int64_t k_begin = k_tile; k_begin < k_end; k_begin += c.chunk_k) {
    const int64_t k = std::min(c.chunk_k, k_end - k_begin);
    const bool last = k_begin + k == k_end;
    const void* b_block;
    if (c.slab_n > 0) {
      b_block = reinterpret_cast<const float*>(operands.scratch) + tile * c.tile_n * steps(p.k) +
                steps(k_begin) * packed_columns(n, kernel_);
    } else {
      const int64_t element = b_item + (p.trans_b ? column * p.ldb + k_begin : k_begin * p.ldb + column);
      kernel_.pack_b(at(operands.b, element, p.b), p.ldb, n, k, own + own_b_offset_);
      b_block = own + own_b_offset_;
    }
    for (int64_t row = row_begin; row < row_end; row += kernel_.rows) {
      const int64_t m = std::min<int64_t>(kernel_.rows, row_end - row);
      const int64_t element = a_item + (p.trans_a ? k_begin * p.lda + row : row * p.lda + k_begin);
      kernel_.pack_a(at(operands.a, element, p.a), p.lda, m, k, panel);
      float* rows = sums + (one_chunk && !split ? 0 : (row - row_begin) * row_length_);
      kernel_.multiply(m, n, steps(k), panel, b_block, rows, row_length_, k_begin > k_tile);
      if (last && !split) {
        for (int64_t i = 0; i < m; ++i) finish(*operands.epilogue, batch, row + i, column, n, rows + i * row_length_);
      }
    }
  }
}

// The sums of one row over the tiles of k, added in order.
void GemmPlan::add_partial_sums(const Operands& operands, int64_t task, int worker) const {
  const GemmProblem& p = problem_;
  const int64_t batch = task / p.m, row = task % p.m, distance = p.m * row_length_;
  const float* first = reinterpret_cast<const float*>(operands.scratch + partial_offset_) +
                       batch * blocking_.tiles_k * distance + row * row_length_;
  auto* sums = reinterpret_cast<float*>(operands.scratch + workers_offset_ + static_cast<std::size_t>(worker) * worker_bytes_);
  std::copy(first, first + p.n, sums);
  for (int64_t part = 1; part < blocking_.tiles_k; ++part) {
    const float* addend = first + part * distance;
    for (int64_t i = 0; i < p.n; ++i) sums[i] += addend[i];
  }
  finish(*operands.epilogue, batch, row, 0, p.n, sums);
}

void GemmPlan::finish(const Epilogue& epilogue, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums) const {
  if (folded_m_ > 0) {
    batch = row / folded_m_;
    row %= folded_m_;
  }
  epilogue.finish(epilogue.self, batch, row, column, n, sums);
}

StoreEpilogue::StoreEpilogue(void* c, DType type, int64_t ldc, int64_t stride_c, bool add, Isa level)
    : c_(static_cast<std::byte*>(c)),
      element_bytes_(static_cast<int64_t>(size_of(type))),
      ldc_(ldc),
      stride_c_(stride_c),
      add_(add),
      store_(MPT_CHOOSE_ISA(level, gemm_store)(element_of(type))) {}

void StoreEpilogue::finish(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  s.store_(sums, n, s.c_ + (batch * s.stride_c_ + row * s.ldc_ + column) * s.element_bytes_, s.add_);
}

}  // namespace mpt::cpu
