#include "backend/cpu/gemm/gemm.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace mpt::cpu {
namespace {

constexpr std::size_t alignment = 64;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

GemmElement element_of(DType type) {
  switch (type) {
    case DType::f32:
      return GemmElement::f32;
    case DType::f16:
      return GemmElement::f16;
    case DType::bf16:
      return GemmElement::bf16;
    default:
      fail(MPT_ERROR_INTERNAL, "gemm: found operands of %s, expected float32, float16 or bfloat16", name_of(type));
  }
}

const char* type_name(GemmElement a, GemmElement b, bool native) {
  if (native) return "bf16";
  if (a != b) return "mixed";
  return a == GemmElement::f32 ? "f32" : a == GemmElement::f16 ? "f16" : "bf16_widened";
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

// One A panel times the B block of a tile.
struct GemmPlan::PanelWork {
  int64_t batch, row, rows, column, columns, steps;
  const float* a;
  const float* b;
  float* sums;
  bool add;       // to the sums of earlier chunks
  bool complete;  // they are, afterwards
};

// Brings runs of memory at equal distances into the second-level cache, a few lines at a time.
class GemmPlan::Prefetch {
 public:
  Prefetch() = default;
  // The work is spread over `calls` calls of some().
  Prefetch(const std::byte* first, int64_t runs, int64_t distance, int64_t bytes, int64_t calls)
      : first_(first), runs_(runs), distance_(distance), bytes_(bytes) {
    const int64_t lines = runs * ((bytes + line - 1) / line);
    lines_per_call_ = (lines + calls - 1) / calls;
  }
  void some() {
    for (int64_t i = 0; i < lines_per_call_ && run_ < runs_; ++i) {
      __builtin_prefetch(first_ + run_ * distance_ + offset_, 0, 2);
      offset_ += line;
      if (offset_ >= bytes_) offset_ = 0, ++run_;
    }
  }

 private:
  static constexpr int64_t line = 64;
  const std::byte* first_ = nullptr;
  int64_t runs_ = 0, distance_ = 0, bytes_ = 0, lines_per_call_ = 0, run_ = 0, offset_ = 0;
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
  std::snprintf(name_, sizeof name_, "gemm.%s.%s", name_of(native ? level : std::min(level, Isa::avx512)),
                type_name(a, b, native));

  // A batch that shares B and whose A is one tall matrix is one product.
  const bool b_repeats = p.stride_b == 0 && p.offsets_b.empty();
  if (p.batch > 1 && b_repeats && !p.trans_a && p.offsets_a.empty() && p.stride_a == p.m * p.lda) {
    folded_m_ = p.m;
    p.m *= p.batch;
    p.batch = 1;
  }
  blocking_ = choose_blocking(p.batch, p.m, p.n, p.k, b_repeats, kernel_);

  const GemmBlocking& c = blocking_;
  const bool split = c.tiles_k > 1;
  // An odd number of cache lines, so that a tile's rows don't meet in one set of the cache.
  row_length_ = packed_columns(split ? p.n : c.tile_n, kernel_);
  const int64_t lanes_per_line = static_cast<int64_t>(alignment / sizeof(float));
  row_length_ = ((row_length_ + lanes_per_line - 1) / lanes_per_line | 1) * lanes_per_line;

  const auto lanes = [](int64_t count) { return aligned(static_cast<std::size_t>(count) * sizeof(float)); };
  const std::size_t slab = c.slab_n > 0 ? lanes(steps(p.k) * packed_columns(std::min(c.slab_n, p.n), kernel_)) : 0;
  const std::size_t partial = split ? lanes(p.batch * c.tiles_k * p.m * row_length_) : 0;
  // Stored rows of a transposed A are read in long runs; else one panel, which then stays in the first-level cache.
  rows_packed_ = p.trans_a ? std::min<int64_t>(c.tile_m, 8 * kernel_.rows) : kernel_.rows;
  const std::size_t panel = lanes(steps(c.chunk_k) * (rows_packed_ / kernel_.rows) * kernel_.row_lanes);
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

void GemmPlan::run(const Parallel& parallel, const void* a, const void* b, const Epilogue& epilogue,
                   void* scratch) const {
  const Operands operands{a, b, &epilogue, static_cast<std::byte*>(scratch)};
  const GemmBlocking& c = blocking_;
  const int64_t chunks = divide_up(problem_.k, c.chunk_k);
  for (int64_t slab = 0; slab < c.slabs; ++slab) {
    if (c.slab_n > 0) {
      parallel.run(c.tiles_n * chunks, [&](int64_t task, int) { pack_slab(operands, slab, task); });
    }
    parallel.run(problem_.batch * c.tiles_m * c.tiles_n * c.tiles_k,
                 [&](int64_t task, int worker) { multiply_tile(operands, slab, task, worker); });
  }
  if (c.tiles_k > 1) {
    parallel.run(problem_.batch * problem_.m,
                 [&](int64_t task, int worker) { add_partial_sums(operands, task, worker); });
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
  kernel_.pack_b(at(operands.b, p.trans_b ? column * p.ldb + k_begin : k_begin * p.ldb + column, p.b), p.ldb, n, k,
                 packed);
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
  const bool split = c.tiles_k > 1;
  float* sums = split ? reinterpret_cast<float*>(operands.scratch + partial_offset_) +
                            ((batch * c.tiles_k + part) * p.m + row_begin) * row_length_ + column
                      : reinterpret_cast<float*>(own + sums_offset_);
  const bool one_chunk = k_end - k_tile <= c.chunk_k;
  const int64_t a_item = p.offsets_a.empty() ? batch * p.stride_a : p.offsets_a[batch];
  const int64_t b_item = p.offsets_b.empty() ? batch * p.stride_b : p.offsets_b[batch];
  const int64_t size_a = static_cast<int64_t>(size_of(p.a)), size_b = static_cast<int64_t>(size_of(p.b));
  const auto a_at = [&](int64_t row, int64_t k) {
    return at(operands.a, a_item + (p.trans_a ? k * p.lda + row : row * p.lda + k), p.a);
  };
  const auto b_at = [&](int64_t k) {
    return at(operands.b, b_item + (p.trans_b ? column * p.ldb + k : k * p.ldb + column), p.b);
  };

  for (int64_t k_begin = k_tile; k_begin < k_end; k_begin += c.chunk_k) {
    const int64_t k = std::min(c.chunk_k, k_end - k_begin);
    PanelWork work{};
    work.batch = batch, work.column = column, work.columns = n, work.steps = steps(k);
    work.add = k_begin > k_tile, work.complete = k_begin + k == k_end && !split;
    if (c.slab_n > 0) {
      work.b = reinterpret_cast<const float*>(operands.scratch) + tile * c.tile_n * steps(p.k) +
               steps(k_begin) * packed_columns(n, kernel_);
    } else {
      kernel_.pack_b(b_at(k_begin), p.ldb, n, k, own + own_b_offset_);
      work.b = reinterpret_cast<const float*>(own + own_b_offset_);
    }
    const int64_t k_next = std::min(c.chunk_k, k_end - k_begin - k);
    Prefetch next_b;
    if (c.slab_n == 0 && k_next > 0) {
      const int64_t calls = divide_up(row_end - row_begin, kernel_.rows) * divide_up(n, kernel_.columns);
      next_b =
          Prefetch(b_at(k_begin + k), p.trans_b ? n : k_next, p.ldb * size_b, (p.trans_b ? k_next : n) * size_b, calls);
    }
    for (int64_t block = row_begin; block < row_end; block += rows_packed_) {
      const int64_t block_end = std::min(row_end, block + rows_packed_);
      kernel_.pack_a(a_at(block, k_begin), p.lda, block_end - block, k, own);
      Prefetch next_a;
      const bool last_block = block_end == row_end;
      if (!last_block || k_next > 0) {
        const int64_t row = last_block ? row_begin : block_end, k_from = last_block ? k_begin + k : k_begin;
        const int64_t rows = std::min(rows_packed_, row_end - row), k_there = last_block ? k_next : k;
        const int64_t calls = divide_up(block_end - block, kernel_.rows) * divide_up(n, kernel_.columns);
        next_a = Prefetch(a_at(row, k_from), p.trans_a ? k_there : rows, p.lda * size_a,
                          (p.trans_a ? rows : k_there) * size_a, calls);
      }
      work.a = reinterpret_cast<const float*>(own);
      for (work.row = block; work.row < block_end; work.row += kernel_.rows) {
        work.rows = std::min<int64_t>(kernel_.rows, row_end - work.row);
        work.sums = sums + (one_chunk && !split ? 0 : (work.row - row_begin) * row_length_);
        multiply_panel(*operands.epilogue, work, next_a, next_b);
        work.a += work.steps * kernel_.row_lanes;
      }
    }
  }
}

void GemmPlan::multiply_panel(const Epilogue& epilogue, const PanelWork& work, Prefetch& next_a,
                              Prefetch& next_b) const {
  for (int64_t j = 0; j < work.columns; j += kernel_.columns) {
    const int64_t columns = std::min<int64_t>(kernel_.columns, work.columns - j);
    if (work.complete && epilogue.prefetch != nullptr) {
      for (int64_t i = 0; i < work.rows; ++i) {
        int64_t batch = work.batch, row = work.row + i;
        locate(&batch, &row);
        epilogue.prefetch(epilogue.self, batch, row, work.column + j, columns);
      }
    }
    next_a.some();
    next_b.some();
    kernel_.multiply(work.rows, columns, work.steps, work.a, work.b + j * work.steps, work.sums + j, row_length_,
                     work.add);
  }
  if (!work.complete) return;
  for (int64_t i = 0; i < work.rows; ++i) {
    int64_t batch = work.batch, row = work.row + i;
    locate(&batch, &row);
    epilogue.finish(epilogue.self, batch, row, work.column, work.columns, work.sums + i * row_length_);
  }
}

// The sums of one row over the tiles of k, added in order.
void GemmPlan::add_partial_sums(const Operands& operands, int64_t task, int worker) const {
  const GemmProblem& p = problem_;
  int64_t batch = task / p.m, row = task % p.m;
  const int64_t distance = p.m * row_length_;
  const float* first = reinterpret_cast<const float*>(operands.scratch + partial_offset_) +
                       batch * blocking_.tiles_k * distance + row * row_length_;
  auto* sums =
      reinterpret_cast<float*>(operands.scratch + workers_offset_ + static_cast<std::size_t>(worker) * worker_bytes_);
  std::copy(first, first + p.n, sums);
  for (int64_t part = 1; part < blocking_.tiles_k; ++part) {
    const float* addend = first + part * distance;
    for (int64_t i = 0; i < p.n; ++i) sums[i] += addend[i];
  }
  locate(&batch, &row);
  operands.epilogue->finish(operands.epilogue->self, batch, row, 0, p.n, sums);
}

// From the matrix multiplied to the batch item and its row.
void GemmPlan::locate(int64_t* batch, int64_t* row) const {
  if (folded_m_ == 0) return;
  *batch = *row / folded_m_;
  *row %= folded_m_;
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

void StoreEpilogue::prefetch(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  const std::byte* p = s.c_ + (batch * s.stride_c_ + row * s.ldc_ + column) * s.element_bytes_;
  for (int64_t offset = 0; offset < n * s.element_bytes_; offset += 64) __builtin_prefetch(p + offset, 1, 3);
}

}  // namespace mpt::cpu
