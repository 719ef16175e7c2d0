#include "backend/cpu/gemm/blocking.h"

#include <algorithm>
#include <initializer_list>

namespace mpt::cpu {
namespace {

// A model of the time a blocking takes, in cycles, from what the kernels were seen to do; it decides between a few sound
// choices, so its constants need not be exact.
constexpr double packing_cost = 0.5;    // per lane, transposing or not: the caches set the pace
constexpr double partial_sum_cost = 6;  // per vector of partial sums: written once, read once
constexpr double task_cost = 1500;
constexpr double round_cost = 8000;  // until all threads have begun and ended a round of tasks

constexpr int64_t chunk_steps = 256;        // an A panel of so many steps stays in the first-level cache
constexpr int64_t block_bytes = 384 << 10;  // B's block of one chunk stays in the second-level cache
constexpr int64_t slab_bytes = 2 << 20;
constexpr int64_t partial_sums_bytes = 2 << 20;

// Results must not depend on the number of threads, so the choice weighs all of these alike.
constexpr int64_t thread_counts[] = {1, 2, 3, 4, 8};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// The tile size at most `most` and a multiple of `unit` that cuts `extent` most evenly.
int64_t even_tile(int64_t extent, int64_t most, int64_t unit) {
  return round_up(divide_up(extent, divide_up(extent, most)), unit);
}

struct Shape3 {
  int64_t batch, m, n, k;
  bool a_in_place;
};

double estimate(const Shape3& s, const GemmBlocking& blocking, const GemmKernel& kernel) {
  const double lanes = kernel.columns / 2;
  const double steps = static_cast<double>(divide_up(s.k, kernel.k_unit));
  const int64_t rest = s.m % kernel.rows;
  // Few rows leave the multiply-add's latency in sight.
  const double rows = static_cast<double>(s.m - rest + (rest == 0 ? 0 : std::max<int64_t>(rest, 4)));
  const double columns = static_cast<double>(packed_columns(s.n, kernel));
  const bool shared = blocking.slab_n > 0;
  const double batch = static_cast<double>(s.batch), tiles_k = static_cast<double>(blocking.tiles_k);
  const double tasks = batch * static_cast<double>(blocking.tiles_m * blocking.tiles_n) * tiles_k;
  const double slabs = static_cast<double>(blocking.slabs);
  const double a_repeats = static_cast<double>(blocking.tiles_n) * slabs;

  double packing = s.a_in_place ? 0 : steps * static_cast<double>(s.m) * packing_cost * batch * a_repeats;
  if (!shared) packing += steps * columns * packing_cost * batch * static_cast<double>(blocking.tiles_m);
  const double work = batch * rows * columns * steps / lanes + packing + tasks * slabs * task_cost;
  double beside = slabs * round_cost;  // what is not in the tiles
  if (shared) beside += slabs * round_cost + steps * columns * packing_cost;
  if (blocking.tiles_k > 1) beside += round_cost + batch * tiles_k * rows * columns / lanes * partial_sum_cost;

  double time = 0;
  for (int64_t threads : thread_counts) {
    const double rounds = static_cast<double>(divide_up(static_cast<int64_t>(tasks), threads));
    time += static_cast<double>(threads) * rounds / tasks * work + beside;
  }
  return time;
}

}  // namespace

GemmBlocking choose_blocking(int64_t batch, int64_t m, int64_t n, int64_t k, bool b_repeats, bool a_in_place,
                             const GemmKernel& kernel) {
  const Shape3 shape{batch, m, n, k, a_in_place};
  const int64_t unit = kernel.k_unit;
  const int64_t steps = divide_up(k, unit);
  GemmBlocking best;
  double best_time = 0;
  const auto consider = [&](GemmBlocking blocking) {
    const double time = estimate(shape, blocking, kernel);
    if (best.tile_m == 0 || time < best_time) {
      best = blocking;
      best_time = time;
    }
  };

  for (const bool shared : {false, true}) {
    if (shared && !(b_repeats || batch == 1)) continue;
    int64_t slab_n = 0;
    if (shared) {
      const int64_t most = slab_bytes / (steps * 4) / kernel.columns * kernel.columns;
      if (most < 2 * kernel.columns && most < n) continue;
      slab_n = even_tile(n, std::max<int64_t>(most, kernel.columns), kernel.columns);
    }
    const int64_t extent_n = shared ? std::min(slab_n, n) : n;
    for (const int64_t panels_n : {1, 2, 3, 4, 6, 8, 12, 16}) {
      for (const int64_t panels_m : {1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 24, 30, 36}) {
        for (const int64_t tiles_k : {1, 2, 4, 8, 16}) {
          GemmBlocking blocking;
          blocking.slab_n = slab_n;
          blocking.slabs = shared ? divide_up(n, slab_n) : 1;
          blocking.tile_m = even_tile(m, panels_m * kernel.rows, kernel.rows);
          blocking.tile_n = even_tile(extent_n, panels_n * kernel.columns, kernel.columns);
          blocking.tile_k = round_up(divide_up(k, tiles_k), 16 * unit);
          blocking.chunk_k = even_tile(std::min(blocking.tile_k, k), chunk_steps * unit, 16 * unit);
          blocking.tiles_m = divide_up(m, blocking.tile_m);
          blocking.tiles_n = divide_up(extent_n, blocking.tile_n);
          blocking.tiles_k = divide_up(k, blocking.tile_k);
          if (blocking.tiles_k > 1) {
            if (shared || blocking.tile_k < 256) continue;
            if (blocking.tiles_k * batch * m * packed_columns(n, kernel) * 4 > partial_sums_bytes) continue;
          }
          if (blocking.chunk_k / unit * blocking.tile_n * 4 > block_bytes) continue;
          consider(blocking);
        }
      }
    }
  }
  return best;
}

// A tile's columns are long runs of B's rows, and a chunk few rows of it, as many as memory streams well at once; its sums
// stay in the first-level cache. Where columns are too few for the threads, k is cut, too.
GemmBlocking blocking_of_few_rows(int64_t batch, int64_t m, int64_t n, int64_t k, const GemmKernel& kernel) {
  constexpr int64_t tasks_wanted = 16;
  const int64_t unit = 8 * kernel.columns;
  GemmBlocking c;
  c.tile_m = round_up(m, kernel.rows), c.tiles_m = 1;
  c.tile_n =
      even_tile(n, std::clamp(round_up(divide_up(n * batch, tasks_wanted), unit), unit, 4096 / std::max<int64_t>(m, 4)),
                kernel.columns);
  c.tiles_n = divide_up(n, c.tile_n);
  c.chunk_k = 32;
  c.tile_k = k;
  if (batch * c.tiles_n < tasks_wanted / 2) {
    const int64_t parts = std::min(tasks_wanted / (batch * c.tiles_n), k / 512);
    if (parts > 1) c.tile_k = round_up(divide_up(k, parts), c.chunk_k);
  }
  c.tiles_k = divide_up(k, c.tile_k);
  return c;
}

}  // namespace mpt::cpu
