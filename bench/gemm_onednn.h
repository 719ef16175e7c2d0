// The products of bench/gemm.cpp by oneDNN: as one native call, and as tiles multiplied by primitives made for one thread,
// which our own threads run. Both read and write plain row-major matrices.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "backend/cpu/parallel.h"

namespace mpt::bench {

struct ProductShape {
  int64_t batch, m, n, k;
  bool trans_a, trans_b;
};

class OnednnProduct {
 public:
  using Type = dnnl::memory::data_type;
  OnednnProduct(const ProductShape &shape, Type type) : s_(shape), type_(type) {
    const std::size_t size = dnnl::memory::data_type_size(type);
    // Zero bytes multiply as fast as any.
    a_.resize(static_cast<std::size_t>(s_.batch * s_.m * s_.k) * size);
    b_.resize(static_cast<std::size_t>(s_.batch * s_.n * s_.k) * size);
    c_.resize(static_cast<std::size_t>(s_.batch * s_.m * s_.n) * size);
  }

 protected:
  using Dims = dnnl::memory::dims;
  using Desc = dnnl::memory::desc;

  // A part of the product, with the strides of the whole; c may be a matrix of FP32 sums of its own.
  dnnl::matmul::primitive_desc describe(int64_t batch, int64_t m, int64_t n, int64_t k, bool partial) const {
    const Dims strides_a = s_.trans_a ? Dims{s_.m * s_.k, 1, s_.m} : Dims{s_.m * s_.k, s_.k, 1};
    const Dims strides_b = s_.trans_b ? Dims{s_.n * s_.k, 1, s_.k} : Dims{s_.n * s_.k, s_.n, 1};
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return {engine_,
            Desc({batch, m, k}, type_, strides_a),
            Desc({batch, k, n}, type_, strides_b),
            Desc({batch, m, n}, partial ? Type::f32 : type_, Dims{s_.m * s_.n, s_.n, 1}),
            attributes,
            true};
  }
  int64_t element_bytes() const { return static_cast<int64_t>(dnnl::memory::data_type_size(type_)); }

  ProductShape s_;
  Type type_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::vector<std::byte> a_, b_, c_;
};

// One call, threads by OpenMP.
class OnednnNative : public OnednnProduct {
 public:
  OnednnNative(const ProductShape &shape, Type type, int threads) : OnednnProduct(shape, type), threads_(threads) {
    omp_set_num_threads(threads);
    const auto desc = describe(s_.batch, s_.m, s_.n, s_.k, false);
    if (!desc) return;
    product_ = dnnl::matmul(desc);
    scratch_ = dnnl::memory(desc.scratchpad_desc(), engine_);
    memory_[0] = dnnl::memory(desc.src_desc(), engine_, a_.data());
    memory_[1] = dnnl::memory(desc.weights_desc(), engine_, b_.data());
    memory_[2] = dnnl::memory(desc.dst_desc(), engine_, c_.data());
  }
  // False where this machine has no implementation of the type.
  explicit operator bool() const { return static_cast<bool>(product_); }

  void run() {
    omp_set_num_threads(threads_);
    product_.execute(stream_, {{DNNL_ARG_SRC, memory_[0]},
                               {DNNL_ARG_WEIGHTS, memory_[1]},
                               {DNNL_ARG_DST, memory_[2]},
                               {DNNL_ARG_SCRATCHPAD, scratch_}});
    stream_.wait();
  }

 private:
  int threads_;
  dnnl::stream stream_{engine_};
  dnnl::memory memory_[3], scratch_;
  dnnl::matmul product_;
};

// How a product is cut into tiles: depends on the problem alone. parts: of k, whose sums are added in order.
struct Tiling {
  int64_t items, m, n, parts;
};

// The tilings that are worth trying for a shape; the benchmark keeps the fastest.
inline std::vector<Tiling> tilings(const ProductShape &s) {
  std::vector<Tiling> list;
  for (const int64_t items : {1, 4, 64}) {
    for (const int64_t m : {64, 256, 1024}) {
      for (const int64_t n : {64, 256, 1024}) {
        for (const int64_t parts : {1, 4}) {
          const Tiling t{std::min(items, s.batch), std::min(m, s.m), std::min(n, s.n), parts};
          const int64_t tasks = (s.batch + t.items - 1) / t.items * ((s.m + t.m - 1) / t.m) * ((s.n + t.n - 1) / t.n);
          if (tasks * parts < 4 || (tasks > 256 && t.items < std::min<int64_t>(64, s.batch))) continue;
          if (parts > 1 && (tasks > 8 || s.k < 1024 || s.batch > 1)) continue;
          const auto same = [&](const Tiling &o) {
            return std::tie(o.items, o.m, o.n, o.parts) == std::tie(t.items, t.m, t.n, t.parts);
          };
          if (std::none_of(list.begin(), list.end(), same)) list.push_back(t);
        }
      }
    }
  }
  return list;
}

class OnednnTiles : public OnednnProduct {
 public:
  OnednnTiles(const ProductShape &shape, Type type, const Tiling &tiling, int threads)
      : OnednnProduct(shape, type), t_(tiling) {
    omp_set_num_threads(1);
    if (t_.parts > 1) sums_.resize(static_cast<std::size_t>(t_.parts * s_.m * s_.n));
    int64_t scratch = 0;
    for_each_tile([&](const Tile &tile) {
      auto &made = products_[std::tuple(tile.batch, tile.m, tile.n, tile.k)];
      if (!made.product) {
        const auto desc = describe(tile.batch, tile.m, tile.n, tile.k, t_.parts > 1);
        if (!desc) return;
        made = {dnnl::matmul(desc), desc.src_desc(), desc.weights_desc(), desc.dst_desc(), desc.scratchpad_desc()};
        scratch = std::max(scratch, static_cast<int64_t>(desc.scratchpad_desc().get_size()));
      }
      tiles_.push_back(tile);
      made_.push_back(&made);
    });
    for (int i = 0; i < threads; ++i) scratch_.emplace_back(static_cast<std::size_t>(scratch) + 64);
  }
  explicit operator bool() const { return !tiles_.empty(); }

  void run(const cpu::Parallel &parallel) {
    parallel.run(static_cast<int64_t>(tiles_.size()), [&](int64_t task, int worker) {
      omp_set_num_threads(1);  // of this thread: OpenMP starts none
      const Tile &tile = tiles_[static_cast<std::size_t>(task)];
      const Made &made = *made_[static_cast<std::size_t>(task)];
      const auto memory = [&](const Desc &desc, void *p) { return dnnl::memory(desc, engine_, p); };
      dnnl::stream stream(engine_);
      std::byte *c = t_.parts > 1 ? reinterpret_cast<std::byte *>(sums_.data()) + tile.c * 4
                                  : c_.data() + tile.c * element_bytes();
      made.product.execute(
          stream, {{DNNL_ARG_SRC, memory(made.a, a_.data() + tile.a * element_bytes())},
                   {DNNL_ARG_WEIGHTS, memory(made.b, b_.data() + tile.b * element_bytes())},
                   {DNNL_ARG_DST, memory(made.c, c)},
                   {DNNL_ARG_SCRATCHPAD, memory(made.scratch, scratch_[static_cast<std::size_t>(worker)].data())}});
      stream.wait();
    });
    if (t_.parts > 1) parallel.run(s_.m, [&](int64_t row, int) { add_parts(row); });
  }

 private:
  struct Tile {
    int64_t batch, m, n, k, a, b, c;  // extents, and first elements
  };
  struct Made {
    dnnl::matmul product;
    Desc a, b, c, scratch;
  };

  template <typename F>
  void for_each_tile(F &&f) const {
    const int64_t part_k = (s_.k + t_.parts - 1) / t_.parts;
    for (int64_t item = 0; item < s_.batch; item += t_.items)
      for (int64_t row = 0; row < s_.m; row += t_.m)
        for (int64_t column = 0; column < s_.n; column += t_.n)
          for (int64_t part = 0, k = 0; k < s_.k; ++part, k += part_k)
            f(Tile{std::min(t_.items, s_.batch - item), std::min(t_.m, s_.m - row), std::min(t_.n, s_.n - column),
                   std::min(part_k, s_.k - k), item * s_.m * s_.k + (s_.trans_a ? k * s_.m + row : row * s_.k + k),
                   item * s_.n * s_.k + (s_.trans_b ? column * s_.k + k : k * s_.n + column),
                   (item + part) * s_.m * s_.n + row * s_.n + column});
  }

  void add_parts(int64_t row) {
    float *sums = sums_.data() + row * s_.n;
    for (int64_t part = 1; part < t_.parts; ++part)
      for (int64_t i = 0; i < s_.n; ++i) sums[i] += sums[part * s_.m * s_.n + i];
    if (type_ == Type::f32) {
      std::memcpy(c_.data() + row * s_.n * 4, sums, static_cast<std::size_t>(s_.n) * 4);
    } else {  // the rounding's cost, not its value: everything is zero here
      auto *c = reinterpret_cast<uint16_t *>(c_.data()) + row * s_.n;
      for (int64_t i = 0; i < s_.n; ++i) {
        uint32_t bits;
        std::memcpy(&bits, &sums[i], 4);
        c[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
      }
    }
  }

  Tiling t_;
  std::vector<Tile> tiles_;
  std::vector<const Made *> made_;
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, Made> products_;
  std::vector<std::vector<std::byte>> scratch_;
  std::vector<float> sums_;
};

}  // namespace mpt::bench
