#include "backend/cpu/gemm/gemm.h"

#include <algorithm>
#include <cstdio>

#include "backend/cpu/gemm/parts.h"
#include "core/error.h"

namespace mpt::cpu {
namespace {

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

}  // namespace

// One A panel times the B block of a tile.
struct GemmPlan::PanelWork {
  int64_t batch, row, rows, column, columns, steps;
  const void* a;
  const void* b;
  float* sums;
  int64_t distance;  // of their rows
  bool add;          // to the sums of earlier chunks
  bool complete;     // they are, afterwards
  bool in_place;     // they are the result
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

  // A batch that shares B and whose A is one tall matrix is one product.
  const bool b_repeats = p.stride_b == 0 && p.offsets_b.empty();
  if (p.batch > 1 && b_repeats && !p.trans_a && p.offsets_a.empty() && p.stride_a == p.m * p.lda) {
    folded_m_ = p.m;
    p.m *= p.batch;
    p.batch = 1;
  }
  // One row or column without gaps may as well lie along k.
  if (p.m == 1 && p.trans_a && p.lda == 1) p.trans_a = false, p.lda = p.k;
  if (p.n == 1 && !p.trans_b && p.ldb == 1) p.trans_b = true, p.ldb = p.k;

  const bool has_pairs = level >= Isa::avx512_bf16 && a == GemmElement::bf16 && b == GemmElement::bf16;
  const Way way = choose_way(p, has_pairs);
  const bool native = has_pairs && (way == Way::blocked || way == Way::items);
  kernel_ = MPT_CHOOSE_ISA(level, gemm_kernel)({a, p.trans_a}, {b, p.trans_b});
#if defined(__x86_64__)
  if (native) kernel_ = avx512::gemm_kernel_bf16(p.trans_a, p.trans_b);
#endif
  dot_ = p.m > p.n ? MPT_CHOOSE_ISA(level, gemm_dot)(a, b) : MPT_CHOOSE_ISA(level, gemm_dot)(b, a);
  std::snprintf(name_, sizeof name_, "gemm.%s.%s", name_of(native ? level : std::min(level, Isa::avx512)),
                type_name(a, b, native));
  way_ = way;
  // As even as possible.
  panel_rows_ = divide_up(p.m, divide_up(p.m, kernel_.rows));
  switch (way) {
    case Way::blocked:
    case Way::few_rows:
      prepare_blocked(b_repeats, threads);
      break;
    case Way::items:
      prepare_items(threads);
      break;
    case Way::dots:
      prepare_dots(threads);
      break;
  }
}

GemmPlan::Way GemmPlan::choose_way(const GemmProblem& p, bool has_pairs) {
  // Up to so many rows or columns it takes longer to pack the other operand than to multiply it. Pairs multiply twice as fast,
  // but only packed.
  const int64_t few = has_pairs ? 4 : 16;
  const int64_t size = p.m * p.k + p.k * p.n + p.m * p.n;
  if (!p.trans_a && p.trans_b && p.k >= 64 && std::min(p.m, p.n) <= few && std::max(p.m, p.n) >= 16) return Way::dots;
  if (p.batch >= 8 && size <= gemm_item_elements) return Way::items;
  if (p.m <= few && !p.trans_b && p.n >= 256) return Way::few_rows;
  return Way::blocked;
}

void GemmPlan::prepare_blocked(bool b_repeats, int threads) {
  const GemmProblem& p = problem_;
  // Pairs have to be whole to be read where they are.
  const bool lanes_along_k = kernel_.multiply_rows != nullptr && p.k % kernel_.k_unit == 0;
  if (way_ == Way::few_rows) {
    b_in_place_ = true;
    a_in_place_ = p.a == DType::f32 && p.b == DType::f32;
    blocking_ = blocking_of_few_rows(p.batch, p.m, p.n, p.k, kernel_);
  } else {
    // With few columns packing A does not pay; with more, packed rows that don't meet in one set of the cache are faster.
    a_in_place_ = lanes_along_k && p.n <= 4 * kernel_.columns;
    blocking_ = choose_blocking(p.batch, p.m, p.n, p.k, b_repeats, a_in_place_, kernel_);
  }

  const GemmBlocking& c = blocking_;
  const bool split = c.tiles_k > 1;
  // An odd number of cache lines, so that a tile's rows don't meet in one set of the cache.
  row_length_ = packed_columns(split ? p.n : c.tile_n, kernel_);
  const int64_t lanes_per_line = static_cast<int64_t>(gemm_alignment / sizeof(float));
  row_length_ = ((row_length_ + lanes_per_line - 1) / lanes_per_line | 1) * lanes_per_line;

  const std::size_t slab =
      c.slab_n > 0 ? lanes_bytes(steps(p.k) * packed_columns(std::min(c.slab_n, p.n), kernel_)) : 0;
  const std::size_t partial = split ? lanes_bytes(p.batch * c.tiles_k * p.m * row_length_) : 0;
  // Stored rows of a transposed A are read in long runs; else one panel, which then stays in the first-level cache.
  rows_packed_ =
      p.trans_a && !a_in_place_ ? std::min<int64_t>(c.tile_m, 128 / kernel_.rows * kernel_.rows) : kernel_.rows;
  const std::size_t panel =
      a_in_place_ ? 0 : lanes_bytes(steps(c.chunk_k) * (rows_packed_ / kernel_.rows) * kernel_.row_lanes);
  const std::size_t own_b =
      c.slab_n > 0 || b_in_place_ ? 0 : lanes_bytes(steps(c.chunk_k) * packed_columns(c.tile_n, kernel_));
  const int64_t rows_kept = c.chunk_k < std::min(c.tile_k, p.k) ? c.tile_m : kernel_.rows;
  const std::size_t sums = split ? 0 : lanes_bytes(rows_kept * row_length_);
  partial_offset_ = slab;
  workers_offset_ = partial_offset_ + partial;
  own_b_offset_ = panel;
  sums_offset_ = own_b_offset_ + own_b;
  worker_bytes_ = std::max(sums_offset_ + sums, lanes_bytes(row_length_));
  scratch_bytes_ = workers_offset_ + worker_bytes_ * static_cast<std::size_t>(threads);
}

void GemmPlan::run(const Parallel& parallel, const void* a, const void* b, const Epilogue& epilogue,
                   void* scratch) const {
  const Operands operands{a, b, &epilogue, static_cast<std::byte*>(scratch)};
  if (way_ == Way::items) {
    parallel.run(divide_up(problem_.batch, group_), [&](int64_t task, int worker) {
      const int64_t end = std::min(problem_.batch, (task + 1) * group_);
      for (int64_t item = task * group_; item < end; ++item) multiply_item(operands, item, worker);
    });
    return;
  }
  if (way_ == Way::dots) {
    parallel.run(problem_.batch * divide_up(std::max(problem_.m, problem_.n), group_),
                 [&](int64_t task, int worker) { multiply_dots(operands, task, worker); });
    return;
  }
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
  int64_t distance = row_length_;
  bool in_place = false;
  // Whole lanes are written, and beyond the tile's columns there is no room for more.
  if (one_chunk && !split && folded_m_ == 0 && n % (kernel_.columns / 2) == 0 &&
      operands.epilogue->destination != nullptr) {
    const Epilogue& epilogue = *operands.epilogue;
    if (float* result = epilogue.destination(epilogue.self, batch, row_begin, column, &distance); result != nullptr)
      sums = result, in_place = true;
  }
  const std::byte *a_first = a_item(operands.a, batch), *b_first = b_item(operands.b, batch);
  const int64_t size_a = static_cast<int64_t>(size_of(p.a)), size_b = static_cast<int64_t>(size_of(p.b));
  const auto a_at = [&](int64_t row, int64_t k) {
    return at(a_first, p.trans_a ? k * p.lda + row : row * p.lda + k, p.a);
  };
  const auto b_at = [&](int64_t k) { return at(b_first, p.trans_b ? column * p.ldb + k : k * p.ldb + column, p.b); };

  for (int64_t k_begin = k_tile; k_begin < k_end; k_begin += c.chunk_k) {
    const int64_t k = std::min(c.chunk_k, k_end - k_begin);
    PanelWork work{};
    work.batch = batch, work.column = column, work.columns = n, work.steps = steps(k);
    work.distance = distance, work.in_place = in_place;
    work.add = k_begin > k_tile, work.complete = k_begin + k == k_end && !split;
    if (b_in_place_) {
      work.b = b_at(k_begin);
    } else if (c.slab_n > 0) {
      work.b = reinterpret_cast<const float*>(operands.scratch) + tile * c.tile_n * steps(p.k) +
               steps(k_begin) * packed_columns(n, kernel_);
    } else {
      kernel_.pack_b(b_at(k_begin), p.ldb, n, k, own + own_b_offset_);
      work.b = reinterpret_cast<const float*>(own + own_b_offset_);
    }
    const int64_t k_next = std::min(c.chunk_k, k_end - k_begin - k);
    Prefetch next_b;
    if (c.slab_n == 0 && k_next > 0 && !b_in_place_) {
      const int64_t calls = divide_up(row_end - row_begin, kernel_.rows) * divide_up(n, kernel_.columns);
      next_b =
          Prefetch(b_at(k_begin + k), p.trans_b ? n : k_next, p.ldb * size_b, (p.trans_b ? k_next : n) * size_b, calls);
    }
    for (int64_t block = row_begin; block < row_end; block += rows_packed_) {
      const int64_t block_end = std::min(row_end, block + rows_packed_);
      if (!a_in_place_) kernel_.pack_a(a_at(block, k_begin), p.lda, block_end - block, k, own);
      Prefetch next_a;
      const bool last_block = block_end == row_end;
      if (!b_in_place_ && (!last_block || k_next > 0)) {
        const int64_t row = last_block ? row_begin : block_end, k_from = last_block ? k_begin + k : k_begin;
        const int64_t rows = std::min(rows_packed_, row_end - row), k_there = last_block ? k_next : k;
        const int64_t calls = divide_up(block_end - block, kernel_.rows) * divide_up(n, kernel_.columns);
        next_a = Prefetch(a_at(row, k_from), p.trans_a ? k_there : rows, p.lda * size_a,
                          (p.trans_a ? rows : k_there) * size_a, calls);
      }
      const auto* panel = reinterpret_cast<const float*>(own);
      for (work.row = block; work.row < block_end; work.row += kernel_.rows) {
        work.a = a_in_place_ ? static_cast<const void*>(a_at(work.row, k_begin)) : panel;
        work.rows = std::min<int64_t>(kernel_.rows, row_end - work.row);
        work.sums = sums + (one_chunk && !split && !in_place ? 0 : (work.row - row_begin) * distance);
        multiply_panel(*operands.epilogue, work, next_a, next_b);
        if (!a_in_place_) panel += work.steps * kernel_.row_lanes;
      }
    }
  }
}

void GemmPlan::multiply_panel(const Epilogue& epilogue, const PanelWork& work, Prefetch& next_a,
                              Prefetch& next_b) const {
  const bool rows_along_k = a_in_place_ && !problem_.trans_a;
  const GemmMultiplyStrided strided = rows_along_k ? kernel_.multiply_rows : kernel_.multiply_across;
  const int64_t a_stride = !a_in_place_ ? kernel_.row_lanes * static_cast<int64_t>(sizeof(float))
                                        : problem_.lda * static_cast<int64_t>(size_of(problem_.a));
  const auto* packed_b = static_cast<const float*>(work.b);
  if (b_in_place_) {
    strided(work.rows, work.columns, work.steps, work.a, a_stride, work.b, problem_.ldb, work.sums, work.distance,
            work.add);
  }
  for (int64_t j = 0; j < work.columns && !b_in_place_; j += kernel_.columns) {
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
    const float* block = packed_b + j * work.steps;
    if (a_in_place_) {
      const int64_t width = packed_columns(columns, kernel_);
      strided(work.rows, width, work.steps, work.a, a_stride, block, width, work.sums + j, work.distance, work.add);
    } else {
      kernel_.multiply(work.rows, columns, work.steps, work.a, block, work.sums + j, work.distance, work.add);
    }
  }
  if (!work.complete || work.in_place) return;
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

const std::byte* GemmPlan::a_item(const void* a, int64_t batch) const {
  const GemmProblem& p = problem_;
  return at(a, p.offsets_a.empty() ? batch * p.stride_a : p.offsets_a[static_cast<std::size_t>(batch)], p.a);
}

const std::byte* GemmPlan::b_item(const void* b, int64_t batch) const {
  const GemmProblem& p = problem_;
  return at(b, p.offsets_b.empty() ? batch * p.stride_b : p.offsets_b[static_cast<std::size_t>(batch)], p.b);
}

// From the matrix multiplied to the batch item and its row.
void GemmPlan::locate(int64_t* batch, int64_t* row) const {
  if (folded_m_ == 0) return;
  *batch = *row / folded_m_;
  *row %= folded_m_;
}

StoreEpilogue::StoreEpilogue(void* c, DType type, int64_t ldc, int64_t stride_c, bool add, Isa level)
    : c_(static_cast<std::byte*>(c)),
      type_(type),
      element_bytes_(static_cast<int64_t>(size_of(type))),
      ldc_(ldc),
      stride_c_(stride_c),
      add_(add),
      store_(MPT_CHOOSE_ISA(level, gemm_store)(element_of(type))) {}

void StoreEpilogue::finish(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  s.store_(sums, n, s.c_ + (batch * s.stride_c_ + row * s.ldc_ + column) * s.element_bytes_, s.add_);
}

void StoreEpilogue::finish_rows(const void* self, int64_t batch, int64_t row, int64_t rows, int64_t n, float* sums) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  const bool dense = s.ldc_ == n;
  for (int64_t i = 0; i < (dense ? 1 : rows); ++i) finish(self, batch, row + i, 0, dense ? rows * n : n, sums + i * n);
}

float* StoreEpilogue::destination(const void* self, int64_t batch, int64_t row, int64_t column, int64_t* distance) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  if (s.type_ != DType::f32 || s.add_) return nullptr;
  *distance = s.ldc_;
  return reinterpret_cast<float*>(s.c_) + batch * s.stride_c_ + row * s.ldc_ + column;
}

void StoreEpilogue::prefetch(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n) {
  const auto& s = *static_cast<const StoreEpilogue*>(self);
  const std::byte* p = s.c_ + (batch * s.stride_c_ + row * s.ldc_ + column) * s.element_bytes_;
  for (int64_t offset = 0; offset < n * s.element_bytes_; offset += 64) __builtin_prefetch(p + offset, 1, 3);
}

}  // namespace mpt::cpu
