#include "backend/cpu/strided_copy.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels/numerics/float16.h"

namespace mpt::cpu {

StridedCopy::StridedCopy(DType from, DType to, const Shape& shape, const Strides& from_strides,
                         const Strides& to_strides, Isa isa)
    : from_(from), to_(to), rows_(isa) {
  MPT_INVARIANT(can_copy(from, to));
  count_ = shape.elements() == 0 ? 0 : 1;
  for (int d = 0; d < shape.rank() && count_ > 0; ++d) {
    const Axis axis{shape[d], from_strides[d], to_strides[d]};
    if (axis.size == 1) continue;
    Axis* last = rank_ > 0 ? &axes_[rank_ - 1] : nullptr;
    if (last != nullptr && last->from == axis.from * axis.size && last->to == axis.to * axis.size) {
      *last = {last->size * axis.size, axis.from, axis.to};
    } else {
      axes_[rank_++] = axis;
    }
  }
  const auto take = [&](int d) {
    const Axis axis = axes_[d];
    std::copy(axes_ + d + 1, axes_ + rank_, axes_ + d);
    --rank_;
    return axis;
  };
  const auto find = [&](int64_t Axis::*stride) {
    return static_cast<int>(std::find_if(axes_, axes_ + rank_, [&](const Axis& a) { return a.*stride == 1; }) - axes_);
  };
  const int f = find(&Axis::from), t = find(&Axis::to);
  if (f < rank_ && f == t) {
    run_ = take(f).size;
  } else if (f < rank_ && t < rank_) {
    tiled_ = true;
    row_ = take(f);
    column_ = take(t > f ? t - 1 : t);
  }
  for (int d = 0; d < rank_; ++d) count_ *= axes_[d].size;
}

class StridedCopy::Walk {
 public:
  Walk(const StridedCopy& copy, int64_t position) : copy_(copy) {
    for (int d = copy.rank_ - 1; d >= 0; --d) {
      index_[d] = position % copy.axes_[d].size;
      position /= copy.axes_[d].size;
      from += index_[d] * copy.axes_[d].from;
      to += index_[d] * copy.axes_[d].to;
    }
  }
  void next() {
    for (int d = copy_.rank_ - 1; d >= 0; --d) {
      const Axis& axis = copy_.axes_[d];
      from += axis.from;
      to += axis.to;
      if (++index_[d] < axis.size) return;
      index_[d] = 0;
      from -= axis.size * axis.from;
      to -= axis.size * axis.to;
    }
  }
  int64_t from = 0, to = 0;  // elements from the start

 private:
  const StridedCopy& copy_;
  int64_t index_[Shape::max_rank] = {};
};

void StridedCopy::run(const Parallel& parallel, const void* from, void* to) const {
  tiled_ ? copy_tiles(parallel, from, to) : copy_rows(parallel, from, to);
}

void StridedCopy::copy_rows(const Parallel& parallel, const void* from, void* to) const {
  constexpr int64_t piece = 16384;  // elements
  const auto copy = [&](int64_t from_first, int64_t to_first, int64_t n) {
    if (from_ != to_) return rows_.convert({element_of(from_), from, from_first}, n, {element_of(to_), to, to_first});
    const auto size = static_cast<int64_t>(size_of(from_));
    std::memcpy(static_cast<char*>(to) + to_first * size, static_cast<const char*>(from) + from_first * size,
                static_cast<std::size_t>(n * size));
  };
  if (count_ == 1) {
    parallel.for_range(run_, piece, [&](int64_t begin, int64_t end) { copy(begin, begin, end - begin); });
    return;
  }
  parallel.for_range(count_, std::max<int64_t>(1, piece / run_), [&](int64_t begin, int64_t end) {
    Walk walk(*this, begin);
    for (int64_t i = begin; i < end; ++i, walk.next()) copy(walk.from, walk.to, run_);
  });
}

namespace {

template <typename T>
struct Same {
  static T convert(T x) { return x; }
};
struct F16ToF32 {
  static float convert(uint16_t x) { return f16_to_f32(x); }
};
struct BF16ToF32 {
  static float convert(uint16_t x) { return bf16_to_f32(x); }
};
struct F32ToF16 {
  static uint16_t convert(float x) { return f32_to_f16(x); }
};
struct F32ToBF16 {
  static uint16_t convert(float x) { return f32_to_bf16(x); }
};
struct F16ToBF16 {
  static uint16_t convert(uint16_t x) { return f32_to_bf16(f16_to_f32(x)); }
};
struct BF16ToF16 {
  static uint16_t convert(uint16_t x) { return f32_to_f16(bf16_to_f32(x)); }
};

// A square of `side` elements that is transposed in registers; side 1: there is none.
template <typename From, typename To>
struct Square {
  static constexpr int64_t side = 1;
  static void transpose(const From*, int64_t, To*, int64_t) {}
};

#if defined(__SSE2__)
template <>
struct Square<uint16_t, uint16_t> {
  static constexpr int64_t side = 8;
  static void transpose(const uint16_t* from, int64_t from_stride, uint16_t* to, int64_t to_stride) {
    __m128i a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * from_stride));
    // Three rounds of interleaving row i with row i + 4.
    const auto interleave = [](const __m128i(&x)[8], __m128i(&y)[8]) {
      for (int i = 0; i < 4; ++i) {
        y[2 * i] = _mm_unpacklo_epi16(x[i], x[i + 4]);
        y[2 * i + 1] = _mm_unpackhi_epi16(x[i], x[i + 4]);
      }
    };
    interleave(a, b);
    interleave(b, a);
    interleave(a, b);
    for (int i = 0; i < 8; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * to_stride), b[i]);
  }
};

template <>
struct Square<uint32_t, uint32_t> {
  static constexpr int64_t side = 4;
  static void transpose(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
    __m128i a[4], b[4];
    for (int i = 0; i < 4; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * from_stride));
    const auto interleave = [](const __m128i(&x)[4], __m128i(&y)[4]) {
      for (int i = 0; i < 2; ++i) {
        y[2 * i] = _mm_unpacklo_epi32(x[i], x[i + 2]);
        y[2 * i + 1] = _mm_unpackhi_epi32(x[i], x[i + 2]);
      }
    };
    interleave(a, b);
    interleave(b, a);
    for (int i = 0; i < 4; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * to_stride), a[i]);
  }
};
#endif

// A matrix whose rows are contiguous in `from` and columns in `to`; small blocks keep both sides' lines in cache.
template <typename From, typename To, typename Convert>
void transpose_tile(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows, int64_t columns) {
  constexpr int64_t block = 16;
  using Registers = Square<From, To>;
  constexpr bool by_squares = Registers::side > 1 && std::is_same_v<Convert, Same<From>>;
  const auto* source = static_cast<const From*>(from);
  auto* target = static_cast<To*>(to);
  for (int64_t r = 0; r < rows; r += block) {
    const int64_t r_end = std::min(r + block, rows);
    for (int64_t c = 0; c < columns; c += block) {
      const int64_t c_end = std::min(c + block, columns);
      if (by_squares && r_end - r == block && c_end - c == block) {
        for (int64_t i = c; i < c_end; i += Registers::side)
          for (int64_t j = r; j < r_end; j += Registers::side)
            Registers::transpose(source + j * from_stride + i, from_stride, target + i * to_stride + j, to_stride);
        continue;
      }
      for (int64_t i = c; i < c_end; ++i)
        for (int64_t j = r; j < r_end; ++j) target[i * to_stride + j] = Convert::convert(source[j * from_stride + i]);
    }
  }
}

using TransposeTile = void (*)(const void*, int64_t, void*, int64_t, int64_t, int64_t);

TransposeTile transposer(DType from, DType to) {
  if (from == to) {
    switch (size_of(from)) {
      case 1:
        return transpose_tile<uint8_t, uint8_t, Same<uint8_t>>;
      case 2:
        return transpose_tile<uint16_t, uint16_t, Same<uint16_t>>;
      case 4:
        return transpose_tile<uint32_t, uint32_t, Same<uint32_t>>;
      default:
        return transpose_tile<uint64_t, uint64_t, Same<uint64_t>>;
    }
  }
  if (to == DType::f32)
    return from == DType::f16 ? transpose_tile<uint16_t, float, F16ToF32> : transpose_tile<uint16_t, float, BF16ToF32>;
  if (from == DType::f32)
    return to == DType::f16 ? transpose_tile<float, uint16_t, F32ToF16> : transpose_tile<float, uint16_t, F32ToBF16>;
  return to == DType::bf16 ? transpose_tile<uint16_t, uint16_t, F16ToBF16>
                           : transpose_tile<uint16_t, uint16_t, BF16ToF16>;
}

}  // namespace

void StridedCopy::copy_tiles(const Parallel& parallel, const void* from, void* to) const {
  // row_ is contiguous in `from`: its index runs along the source's row. column_ is contiguous in `to`.
  constexpr int64_t tile = 128;
  const TransposeTile transpose = transposer(from_, to_);
  const auto from_size = static_cast<int64_t>(size_of(from_)), to_size = static_cast<int64_t>(size_of(to_));
  const int64_t across = (row_.size + tile - 1) / tile, down = (column_.size + tile - 1) / tile;
  const int64_t tiles = count_ * down * across;
  const int64_t elements = std::min(tile, row_.size) * std::min(tile, column_.size);
  parallel.for_range(tiles, std::max<int64_t>(1, 16384 / elements), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Walk walk(*this, i / (down * across));
      const int64_t c = i / across % down * tile, r = i % across * tile;
      transpose(static_cast<const char*>(from) + (walk.from + r + c * column_.from) * from_size, column_.from,
                static_cast<char*>(to) + (walk.to + c + r * row_.to) * to_size, row_.to,
                std::min(tile, column_.size - c), std::min(tile, row_.size - r));
    }
  });
}

}  // namespace mpt::cpu
