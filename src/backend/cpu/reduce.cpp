// Sum, mean and maximum over any axes. Sums are formed in FP32 in a fixed order by pieces, so that the error grows with
// the logarithm of their length and no thread count changes a bit.
#include "backend/cpu/reduce.h"

#include <algorithm>
#include <limits>

#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/rows.h"

namespace mpt::cpu {

void AxisWalk::append(int64_t axis_size, int64_t axis_stride) {
  size[rank] = axis_size;
  stride[rank++] = axis_stride;
  count *= axis_size;
}

int64_t AxisWalk::offset(int64_t position) const {
  int64_t offset = 0;
  for (int d = rank - 1; d >= 0 && position > 0; --d) {
    offset += position % size[d] * stride[d];
    position /= size[d];
  }
  return offset;
}

ReduceLayout::ReduceLayout(const Shape& x, const std::vector<int>& axes) {
  struct Axis {
    int64_t size;
    bool kept;
  };
  std::vector<Axis> merged;
  for (int d = 0; d < x.rank(); ++d) {
    if (x[d] == 1) continue;
    const bool kept = std::find(axes.begin(), axes.end(), d) == axes.end();
    if (!merged.empty() && merged.back().kept == kept)
      merged.back().size *= x[d];
    else
      merged.push_back({x[d], kept});
  }
  if (!merged.empty()) {
    run = merged.back().size;
    run_is_kept = merged.back().kept;
    merged.pop_back();
  }
  int64_t stride = run;
  std::vector<int64_t> strides(merged.size());
  for (std::size_t i = merged.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= merged[i].size;
  }
  for (std::size_t i = 0; i < merged.size(); ++i) (merged[i].kept ? kept : reduced).append(merged[i].size, strides[i]);
  reduced_elements = reduced.count * (run_is_kept ? 1 : run);
  outputs = kept.count * (run_is_kept ? run : 1);
}

namespace {

constexpr int64_t elements_per_task = 16384;

Combine combine_of(Reduction reduction) { return reduction == Reduction::max ? Combine::max : Combine::sum; }

int64_t pieces_of(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }

class ReduceKernel : public Kernel {
 public:
  ReduceKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        rows_(target.isa),
        x_type_(element_of(graph.value(node.inputs[0]).dtype)),
        y_type_(element_of(graph.value(node.outputs[0]).dtype)) {
    const auto& attrs = std::get<ReduceAttrs>(node.attrs);
    combine_ = combine_of(attrs.reduction);
    mean_ = attrs.reduction == Reduction::mean;
  }

 protected:
  // Rounds n results, which it may overwrite.
  void store(float* results, int64_t n, void* y, int64_t first, int64_t reduced_elements) const {
    if (mean_) {
      const auto divisor = static_cast<float>(reduced_elements);
      for (int64_t i = 0; i < n; ++i) results[i] /= divisor;
    }
    rows_.convert({Element::f32, results, 0}, n, {y_type_, y, first});
  }

  const Parallel& parallel_;
  Rows rows_;
  Element x_type_, y_type_;
  Combine combine_;
  bool mean_;
};

// The innermost axis is reduced. Each output is the sum of contiguous runs; long ones are cut into pieces whose sums go to
// scratch first.
class ReduceRuns : public ReduceKernel {
 public:
  ReduceRuns(const Graph& graph, const Node& node, const Target& target, const ReduceLayout& layout)
      : ReduceKernel(graph, node, target), layout_(layout) {
    // A piece is part of one run, or several whole ones.
    part_ = std::min(layout_.run, long_run);
    runs_ = std::max<int64_t>(1, long_run / std::max<int64_t>(layout_.run, 1));
    parts_ = pieces_of(layout_.run, part_);
    pieces_ = parts_ * pieces_of(layout_.reduced.count, runs_);
  }

  uint64_t scratch_bytes() const override {
    return pieces_ == 1 ? 0 : static_cast<uint64_t>(layout_.kept.count * pieces_) * sizeof(float);
  }
  const char* implementation() const override { return "reduce.runs"; }

  void run(const KernelArgs& args) const override {
    auto* sums = static_cast<float*>(args.scratch);
    const int64_t work = part_ * std::min(runs_, layout_.reduced.count);
    const int64_t grain = std::max<int64_t>(1, elements_per_task / work);
    if (pieces_ == 1) {
      reduce_outputs(grain, args.outputs[0], [&](int64_t output) { return piece(args.inputs[0], output, 0); });
      return;
    }
    parallel_.for_range(layout_.kept.count * pieces_, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sums[i] = piece(args.inputs[0], i / pieces_, i % pieces_);
    });
    reduce_outputs(std::max<int64_t>(1, elements_per_task / pieces_), args.outputs[0], [&](int64_t output) {
      return rows_.reduce(combine_, {Element::f32, sums, output * pieces_}, pieces_);
    });
  }

 private:
  static constexpr int64_t long_run = 65536;
  static constexpr int64_t together = 1024;  // runs whose sums are added at once

  // Stores f(output) for all outputs, many at once.
  template <typename F>
  void reduce_outputs(int64_t grain, void* y, F f) const {
    parallel_.for_range(layout_.kept.count, grain, [&](int64_t begin, int64_t end) {
      float results[row_block];
      while (begin < end) {
        const int64_t n = std::min(row_block, end - begin);
        for (int64_t i = 0; i < n; ++i) results[i] = f(begin + i);
        store(results, n, y, begin, layout_.reduced_elements);
        begin += n;
      }
    });
  }

  float piece(const void* x, int64_t output, int64_t number) const {
    const int64_t base = layout_.kept.offset(output);
    const int64_t first_run = number / parts_ * runs_, last_run = std::min(first_run + runs_, layout_.reduced.count);
    const int64_t skip = number % parts_ * part_, n = std::min(part_, layout_.run - skip);
    float total = 0;
    for (int64_t r = first_run; r < last_run;) {
      float sums[together];
      const int64_t count = std::min(together, last_run - r);
      for (int64_t i = 0; i < count; ++i, ++r)
        sums[i] = rows_.reduce(combine_, {x_type_, x, base + layout_.reduced.offset(r) + skip}, n);
      const float sum = count == 1 ? sums[0] : rows_.reduce(combine_, {Element::f32, sums, 0}, count);
      const float both[] = {total, sum};
      total = r <= first_run + together ? sum : rows_.reduce(combine_, {Element::f32, both, 0}, 2);
    }
    return total;
  }

  ReduceLayout layout_;
  int64_t part_, runs_, parts_, pieces_;
};

// The innermost axis is kept: rows are added to each other, in bands of which each makes one row; the bands' rows are added
// in the same way until one is left.
class ReduceColumns : public ReduceKernel {
 public:
  ReduceColumns(const Graph& graph, const Node& node, const Target& target, const ReduceLayout& layout)
      : ReduceKernel(graph, node, target), layout_(layout) {
    int64_t rows = layout_.reduced.count;
    for (int i = 0; rows > band; ++i) {
      rows = pieces_of(rows, band);
      if (i < 2) buffer_[i] = layout_.kept.count * rows * layout_.run;
    }
  }

  uint64_t scratch_bytes() const override { return static_cast<uint64_t>(buffer_[0] + buffer_[1]) * sizeof(float); }
  const char* implementation() const override { return "reduce.columns"; }

  void run(const KernelArgs& args) const override {
    float* buffers[] = {static_cast<float*>(args.scratch), static_cast<float*>(args.scratch) + buffer_[0]};
    AxisWalk rows = layout_.reduced, kept = layout_.kept;
    RowIn from{x_type_, args.inputs[0], 0};
    for (int pass = 0;; ++pass) {
      const int64_t bands = std::max<int64_t>(1, pieces_of(rows.count, band));
      float* to = bands > 1 ? buffers[pass % 2] : nullptr;
      add_bands(from, kept, rows, bands, to, args.outputs[0]);
      if (bands == 1) return;
      from = {Element::f32, to, 0};
      kept = {};
      kept.append(layout_.kept.count, bands * layout_.run);
      rows = {};
      rows.append(bands, layout_.run);
    }
  }

 private:
  static constexpr int64_t band = 128;  // rows

  void add_bands(const RowIn& from, const AxisWalk& kept, const AxisWalk& rows, int64_t bands, float* to,
                 void* y) const {
    const int64_t blocks = pieces_of(layout_.run, row_block);
    const int64_t work = std::min(band, std::max<int64_t>(rows.count, 1)) * std::min(row_block, layout_.run);
    const int64_t grain = std::max<int64_t>(1, elements_per_task / work);
    parallel_.for_range(kept.count * bands * blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = i % blocks * row_block, n = std::min(row_block, layout_.run - column);
        const int64_t number = i / blocks, output = number / bands, first = number % bands * band;
        alignas(64) float sums[row_block];
        add_rows({from.type, from.data, kept.offset(output) + column}, rows, first, std::min(first + band, rows.count),
                 n, sums);
        if (to == nullptr)
          store(sums, n, y, output * layout_.run + column, layout_.reduced_elements);
        else
          std::copy_n(sums, n, to + number * layout_.run + column);
      }
    });
  }

  // Rows [first, last) of the walk, in runs along its innermost axis, which lie at equal distances.
  void add_rows(RowIn from, const AxisWalk& rows, int64_t first, int64_t last, int64_t n, float* sums) const {
    const int64_t base = from.first;
    const int64_t inner = rows.rank > 0 ? rows.size[rows.rank - 1] : 1,
                  stride = rows.rank > 0 ? rows.stride[rows.rank - 1] : 0;
    alignas(64) float part[row_block];
    for (int64_t r = first; r < last;) {
      const int64_t count = std::min(inner - r % inner, last - r);
      from.first = base + rows.offset(r);
      rows_.reduce_columns(combine_, from, stride, count, n, r == first ? sums : part);
      if (r > first) rows_.combine(combine_, {Element::f32, part, 0}, n, false, sums);
      r += count;
    }
  }

  ReduceLayout layout_;
  int64_t buffer_[2] = {};  // floats
};

// Nothing to reduce: sums are 0, means are not numbers, maxima are less than any number.
class ReduceNothing : public ReduceKernel {
 public:
  ReduceNothing(const Graph& graph, const Node& node, const Target& target, int64_t outputs)
      : ReduceKernel(graph, node, target), outputs_(outputs) {}
  const char* implementation() const override { return "reduce.nothing"; }
  void run(const KernelArgs& args) const override {
    for (int64_t i = 0; i < outputs_; ++i) {
      float value = combine_ == Combine::max ? -std::numeric_limits<float>::infinity() : 0.0f;
      store(&value, 1, args.outputs[0], i, 0);
    }
  }

 private:
  int64_t outputs_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  const Shape& x = graph.shape(node.inputs[0]);
  if (x.elements() == 0)
    return std::make_unique<ReduceNothing>(graph, node, target, graph.shape(node.outputs[0]).elements());
  const ReduceLayout layout(x, std::get<ReduceAttrs>(node.attrs).axes);
  if (layout.run_is_kept) return std::make_unique<ReduceColumns>(graph, node, target, layout);
  return std::make_unique<ReduceRuns>(graph, node, target, layout);
}

}  // namespace

void register_reduce(Registry& registry) { registry.add(OpKind::reduce, {"reduce", supports, prepare}); }

}  // namespace mpt::cpu
