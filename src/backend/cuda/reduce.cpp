// Sum, mean and maximum over any axes.
#include "backend/cuda/reduce.h"

#include <algorithm>
#include <limits>

#include "backend/cuda/kernels.h"
#include "backend/cuda/row_kernels.h"

namespace mpt::cuda {

ReduceShape reduce_shape(const Shape& x, const std::vector<int>& axes) {
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
  ReduceShape s{};
  s.kept.count = s.reduced.count = s.run = 1;
  s.run_is_kept = true;
  if (!merged.empty()) {
    s.run = merged.back().size;
    s.run_is_kept = merged.back().kept;
    merged.pop_back();
  }
  std::vector<int64_t> strides(merged.size());
  int64_t stride = s.run;
  for (std::size_t i = merged.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= merged[i].size;
  }
  for (std::size_t i = 0; i < merged.size(); ++i) {
    AxisWalk& walk = merged[i].kept ? s.kept : s.reduced;
    walk.size[walk.rank] = merged[i].size;
    walk.stride[walk.rank++] = strides[i];
    walk.count *= merged[i].size;
  }
  s.outputs = s.kept.count * (s.run_is_kept ? s.run : 1);
  return s;
}

namespace {

class Reduce final : public Kernel {
 public:
  Reduce(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        shape_(reduce_shape(graph.shape(node.inputs[0]), std::get<ReduceAttrs>(node.attrs).axes)) {
    const auto& attrs = std::get<ReduceAttrs>(node.attrs);
    args_.x_type = element_of(graph, node.inputs, 0);
    args_.y_type = element_of(graph, node.outputs, 0);
    args_.max = attrs.reduction == Reduction::max;
    const int64_t terms = shape_.reduced.count * (shape_.run_is_kept ? 1 : shape_.run);
    args_.divisor = attrs.reduction == Reduction::mean ? static_cast<float>(terms) : 1.0f;
  }
  const char* implementation() const override { return shape_.run_is_kept ? "reduce.columns" : "reduce.runs"; }
  uint64_t scratch_bytes() const override { return reduce_scratch(shape_); }

  void run(const KernelArgs& args) const override {
    ReduceArgs a = args_;
    a.x = args.inputs[0];
    a.y = args.outputs[0];
    a.scratch = args.scratch;
    reduce(shape_, a, stream_);
  }

 private:
  Stream stream_;
  ReduceShape shape_;
  ReduceArgs args_{};
};

// Sums of nothing are 0, means are not numbers, maxima are less than any number.
class ReduceNothing final : public Kernel {
 public:
  ReduceNothing(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        y_type_(element_of(graph, node.outputs, 0)),
        outputs_(graph.shape(node.outputs[0]).elements()) {
    switch (std::get<ReduceAttrs>(node.attrs).reduction) {
      case Reduction::sum:
        break;
      case Reduction::mean:
        value_ = std::numeric_limits<float>::quiet_NaN();
        break;
      case Reduction::max:
        value_ = -std::numeric_limits<float>::infinity();
        break;
    }
  }
  const char* implementation() const override { return "reduce.nothing"; }
  void run(const KernelArgs& args) const override {
    reduce_nothing(args.outputs[0], y_type_, outputs_, value_, stream_);
  }

 private:
  Stream stream_;
  Element y_type_;
  int64_t outputs_;
  float value_ = 0;
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  if (graph.shape(node.inputs[0]).elements() == 0) return std::make_unique<ReduceNothing>(graph, node, target);
  return std::make_unique<Reduce>(graph, node, target);
}

}  // namespace

void register_reduce(Registry& registry) { registry.add(OpKind::reduce, {"reduce", supports, prepare}); }

}  // namespace mpt::cuda
