// Picks by index along one axis, and the sum of gradients that flow back to what was picked.
#include <algorithm>
#include <cstring>

#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/strided_copy.h"

namespace mpt::cpu {
namespace {

// x is [outer, count, inner], what is picked [outer, picks, inner].
struct Extents {
  Extents(const GatherAttrs& attrs, const Shape& indices) : picks(indices.elements()) {
    for (int d = 0; d < attrs.x_shape.rank(); ++d) {
      int64_t& part = d < attrs.axis ? outer : d == attrs.axis ? count : inner;
      part *= attrs.x_shape[d];
    }
  }
  int64_t outer = 1, count = 1, inner = 1, picks;
};

constexpr int64_t elements_per_task = 16384;

class GatherKernel : public Kernel {
 public:
  GatherKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        rows_(target.isa),
        extents_(std::get<GatherAttrs>(node.attrs), graph.shape(node.inputs[1])),
        x_type_(graph.value(node.inputs[0]).dtype),
        y_type_(graph.value(node.outputs[0]).dtype) {}

  void run(const KernelArgs& args) const override {
    const auto* x = static_cast<const char*>(args.inputs[0]);
    const auto* indices = static_cast<const int32_t*>(args.inputs[1]);
    auto* y = static_cast<char*>(args.outputs[0]);
    const int64_t inner = extents_.inner, picks = extents_.picks, count = extents_.count;
    const auto size = static_cast<int64_t>(size_of(y_type_));
    const int64_t grain = std::max<int64_t>(1, elements_per_task / std::max<int64_t>(inner, 1));
    parallel_.for_range(extents_.outer * picks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t index = indices[row % picks], first = (row / picks * count + index) * inner;
        char* to = y + row * inner * size;
        if (index < 0 || index >= count) {
          std::memset(to, 0, static_cast<std::size_t>(inner * size));
        } else if (x_type_ == y_type_) {
          std::memcpy(to, x + first * size, static_cast<std::size_t>(inner * size));
        } else {
          rows_.convert({element_of(x_type_), x, first}, inner, {element_of(y_type_), y, row * inner});
        }
      }
    });
  }
  const char* implementation() const override { return "gather"; }

 private:
  const Parallel& parallel_;
  Rows rows_;
  Extents extents_;
  DType x_type_, y_type_;
};

bool supports_gather(const Graph& graph, const Node& node, const Target&) {
  return can_copy(graph.value(node.inputs[0]).dtype, graph.value(node.outputs[0]).dtype) &&
         graph.value(node.inputs[1]).dtype == DType::i32;
}

std::unique_ptr<Kernel> prepare_gather(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<GatherKernel>(graph, node, target);
}

// Sorts the picks by index, keeping their order (a counting sort), so that each row of dx is the work of one task, which
// adds its contributions in FP32 in the order of the picks and rounds once.
class GatherGradKernel : public Kernel {
 public:
  GatherGradKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        rows_(target.isa),
        extents_(std::get<GatherAttrs>(node.attrs), graph.shape(node.inputs[1])),
        dy_type_(element_of(graph.value(node.inputs[0]).dtype)),
        dx_type_(element_of(graph.value(node.outputs[0]).dtype)) {}

  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>(extents_.count + 1 + extents_.picks) * sizeof(int64_t);
  }

  void run(const KernelArgs& args) const override {
    auto* starts = static_cast<int64_t*>(args.scratch);
    int64_t* order = starts + extents_.count + 1;
    sort(static_cast<const int32_t*>(args.inputs[1]), starts, order);

    const int64_t inner = extents_.inner, count = extents_.count, size = dx_type_ == Element::f32 ? 4 : 2;
    auto* dx = static_cast<char*>(args.outputs[0]);
    const int64_t grain = std::max<int64_t>(1, elements_per_task / std::max<int64_t>(inner, 1));
    parallel_.for_range(extents_.outer * count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t *from = order + starts[row % count], *to = order + starts[row % count + 1];
        if (from == to) {
          std::memset(dx + row * inner * size, 0, static_cast<std::size_t>(inner * size));
        } else {
          add_picks(args.inputs[0], row / count * extents_.picks, from, to, args.outputs[0], row * inner);
        }
      }
    });
  }
  const char* implementation() const override { return "gather_grad"; }

 private:
  // The picks of index i become order[starts[i]] .. order[starts[i + 1] - 1]. Indices outside pick nothing.
  void sort(const int32_t* indices, int64_t* starts, int64_t* order) const {
    const int64_t count = extents_.count;
    const auto inside = [&](int32_t index) { return index >= 0 && index < count; };
    std::fill_n(starts, count + 1, 0);
    for (int64_t k = 0; k < extents_.picks; ++k)
      if (inside(indices[k])) ++starts[indices[k] + 1];
    for (int64_t i = 0; i < count; ++i) starts[i + 1] += starts[i];
    // Placing moves each start to its end, which is the next one's start: moved back below.
    for (int64_t k = 0; k < extents_.picks; ++k)
      if (inside(indices[k])) order[starts[indices[k]]++] = k;
    std::copy_backward(starts, starts + count, starts + count + 1);
    starts[0] = 0;
  }

  void add_picks(const void* dy, int64_t first_pick, const int64_t* from, const int64_t* to, void* dx,
                 int64_t first) const {
    alignas(64) float sums[row_block];
    for (int64_t done = 0; done < extents_.inner; done += row_block) {
      const int64_t n = std::min(row_block, extents_.inner - done);
      for (const int64_t* pick = from; pick < to; ++pick)
        rows_.combine(Combine::sum, {dy_type_, dy, (first_pick + *pick) * extents_.inner + done}, n, pick == from,
                      sums);
      rows_.convert({Element::f32, sums, 0}, n, {dx_type_, dx, first + done});
    }
  }

  const Parallel& parallel_;
  Rows rows_;
  Extents extents_;
  Element dy_type_, dx_type_;
};

bool supports_gather_grad(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.outputs[0]).dtype) &&
         graph.value(node.inputs[1]).dtype == DType::i32;
}

std::unique_ptr<Kernel> prepare_gather_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<GatherGradKernel>(graph, node, target);
}

}  // namespace

void register_gather(Registry& registry) {
  registry.add(OpKind::gather, {"gather", supports_gather, prepare_gather});
  registry.add(OpKind::gather_grad, {"gather_grad", supports_gather_grad, prepare_gather_grad});
}

}  // namespace mpt::cpu
