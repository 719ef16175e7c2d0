#include "backend/cuda/strided_copy.h"

#include <algorithm>

namespace mpt::cuda {
namespace {

constexpr int64_t most_units = int64_t{1} << 31;  // in one launch, exclusive

struct UnitAxis {
  int64_t size, from, to;  // strides in units
};

// A copy in units that may be too large for one launch.
struct UnitCopy {
  const char* from;
  char* to;
  int64_t from_bytes, to_bytes;  // of a unit
  int64_t run;
  std::vector<UnitAxis> axes;
  StridedCopyArgs args;  // what does not depend on the sizes
};

void launch_units(const UnitCopy& copy, Stream stream) {
  int64_t units = copy.run;
  for (const UnitAxis& axis : copy.axes) units *= axis.size;
  if (units >= most_units) {
    // In two halves of the outermost axis, or of the run.
    UnitCopy first = copy, second = copy;
    const UnitAxis axis = copy.axes.empty() ? UnitAxis{copy.run, 1, 1} : copy.axes[0];
    int64_t& first_size = copy.axes.empty() ? first.run : first.axes[0].size;
    int64_t& second_size = copy.axes.empty() ? second.run : second.axes[0].size;
    first_size = axis.size / 2;
    second_size = axis.size - first_size;
    if (copy.from != nullptr) second.from += first_size * axis.from * copy.from_bytes;
    second.to += first_size * axis.to * copy.to_bytes;
    if (!copy.axes.empty()) {
      for (UnitCopy* half : {&first, &second})
        if (half->axes[0].size == 1) half->axes.erase(half->axes.begin());
    }
    launch_units(first, stream);
    launch_units(second, stream);
    return;
  }
  StridedCopyArgs args = copy.args;
  args.from = copy.from;
  args.to = copy.to;
  args.units = static_cast<uint32_t>(units);
  if (units == 0) return;
  args.run = Divider(static_cast<uint32_t>(copy.run));
  args.rank = static_cast<int32_t>(copy.axes.size());
  for (int d = 0; d < args.rank; ++d)
    args.axes[d] = {Divider(static_cast<uint32_t>(copy.axes[d].size)), copy.axes[d].from, copy.axes[d].to};
  strided_copy(args, stream);
}

bool is_multiple(const void* pointer, int64_t of) { return reinterpret_cast<uintptr_t>(pointer) % of == 0; }

}  // namespace

StridedCopy::StridedCopy(DType from, DType to, const Shape& shape, const Strides& from_strides,
                         const Strides& to_strides)
    : from_(from), to_(to), empty_(shape.elements() == 0) {
  MPT_INVARIANT(can_copy(from, to));
  if (empty_) return;
  // Axes that follow one another on both sides are one.
  for (int d = 0; d < shape.rank(); ++d) {
    const Axis axis{shape[d], from_strides[d], to_strides[d]};
    if (axis.size == 1) continue;
    Axis* last = axes_.empty() ? nullptr : &axes_.back();
    if (last != nullptr && last->from == axis.from * axis.size && last->to == axis.to * axis.size)
      *last = {last->size * axis.size, axis.from, axis.to};
    else
      axes_.push_back(axis);
  }
  const auto find = [&](int64_t Axis::*stride) {
    return std::find_if(axes_.begin(), axes_.end(), [&](const Axis& a) { return a.*stride == 1; });
  };
  const auto f = find(&Axis::from), t = find(&Axis::to);
  if (f != axes_.end() && f == t) {
    run_ = f->size;
    axes_.erase(f);
    return;
  }
  // A few elements a line are better off without tiles: neighbouring threads share the lines in the first-level cache.
  constexpr int64_t least = 8;
  if (f == axes_.end() || t == axes_.end() || f->size < least || t->size < least) return;
  tiled_ = true;
  row_ = *f;
  column_ = *t;
  axes_.erase(std::max(f, t));
  axes_.erase(std::min(f, t));
}

void StridedCopy::run(const void* from, void* to, Stream stream) const {
  if (empty_) return;
  tiled_ ? copy_tiles(from, to, stream) : copy_rows(from, to, stream);
}

void StridedCopy::copy_rows(const void* from, void* to, Stream stream) const {
  const auto from_size = static_cast<int64_t>(size_of(from_)), to_size = static_cast<int64_t>(size_of(to_));
  // Whether runs and strides are multiples of so many elements.
  const auto allows = [&](int64_t elements) {
    return run_ % elements == 0 && std::all_of(axes_.begin(), axes_.end(), [&](const Axis& axis) {
             return axis.from % elements == 0 && axis.to % elements == 0;
           });
  };
  UnitCopy copy{};
  copy.from = static_cast<const char*>(from);
  copy.to = static_cast<char*>(to);
  int64_t elements = 1;  // of a unit
  if (from_ != to_) {
    copy.args.convert = true;
    copy.args.from_type = element_of(from_);
    copy.args.to_type = element_of(to_);
    if (allows(vector_length) && is_multiple(from, 16) && is_multiple(to, 16)) elements = vector_length;
    copy.args.unit = static_cast<int32_t>(elements);
  } else {
    while (elements * from_size < 16 && allows(2 * elements) && is_multiple(from, 2 * elements * from_size) &&
           is_multiple(to, 2 * elements * from_size))
      elements *= 2;
    copy.args.unit = static_cast<int32_t>(elements * from_size);
  }
  copy.from_bytes = elements * from_size;
  copy.to_bytes = elements * to_size;
  copy.run = run_ / elements;
  for (const Axis& axis : axes_) copy.axes.push_back({axis.size, axis.from / elements, axis.to / elements});
  launch_units(copy, stream);
}

void StridedCopy::copy_tiles(const void* from, void* to, Stream stream) const {
  TransposeArgs args{};
  args.from = from;
  args.to = to;
  args.rows = row_.size;
  args.columns = column_.size;
  args.from_stride = column_.from;
  args.to_stride = row_.to;
  args.size = static_cast<int32_t>(size_of(from_));
  if (from_ != to_) {
    args.convert = true;
    args.from_type = element_of(from_);
    args.to_type = element_of(to_);
  }
  const auto even = [](const Axis& axis, bool from_too, bool to_too) {
    return (!from_too || axis.from % 2 == 0) && (!to_too || axis.to % 2 == 0);
  };
  args.pairs = !args.convert && args.size == 2 && row_.size % 2 == 0 && column_.size % 2 == 0 &&
               even(column_, true, false) && even(row_, false, true) && is_multiple(from, 4) && is_multiple(to, 4) &&
               std::all_of(axes_.begin(), axes_.end(), [&](const Axis& axis) { return even(axis, true, true); });
  int64_t count = 1;
  for (const Axis& axis : axes_) {
    args.axes[args.rank++] = {Divider(static_cast<uint32_t>(axis.size)), axis.from, axis.to};
    count *= axis.size;
  }
  constexpr int64_t side = 32;
  const int64_t tiles = count * ((row_.size + side - 1) / side) * ((column_.size + side - 1) / side);
  if (tiles >= most_units)
    fail(MPT_ERROR_UNSUPPORTED, "transpose: found %lld tiles of 32 x 32, expected fewer than 2^31",
         static_cast<long long>(tiles));
  args.count = static_cast<uint32_t>(count);
  transpose(args, stream);
}

void fill_rows(void* to, int64_t size, uint32_t value, int64_t rows, int64_t run, int64_t stride, Stream stream) {
  if (rows == 0 || run == 0) return;
  int64_t elements = 1;
  while (elements * size < 16 && run % (2 * elements) == 0 && (rows == 1 || stride % (2 * elements) == 0) &&
         is_multiple(to, 2 * elements * size))
    elements *= 2;
  UnitCopy copy{};
  copy.to = static_cast<char*>(to);
  copy.to_bytes = elements * size;
  copy.run = run / elements;
  if (rows > 1) copy.axes.push_back({rows, 0, stride / elements});
  copy.args.unit = static_cast<int32_t>(elements * size);
  if (size == 2) value = (value & 0xffffu) | value << 16;
  if (size == 1) value = (value & 0xffu) * 0x01010101u;
  for (uint32_t& word : copy.args.value.v) word = value;
  launch_units(copy, stream);
}

}  // namespace mpt::cuda
