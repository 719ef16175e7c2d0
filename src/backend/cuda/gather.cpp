// Picks by index along one axis, and the sum of gradients that flow back to what was picked.
#include "kernels/gather.h"

#include <limits>

#include "backend/cuda/kernels.h"
#include "backend/cuda/strided_copy.h"
#include "kernels/gather_grad.h"

namespace mpt::cuda {
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

bool is_multiple(const void* pointer, int64_t of) { return reinterpret_cast<uintptr_t>(pointer) % of == 0; }

// Positions and rows are 31-bit numbers in the kernels.
bool fits(const Graph& graph, const Node& node) {
  const Extents e(std::get<GatherAttrs>(node.attrs), graph.shape(node.inputs[1]));
  constexpr int64_t most = std::numeric_limits<int32_t>::max() - 1;
  return e.count <= most && e.picks <= most && e.inner <= most;
}

class GatherKernel : public Kernel {
 public:
  GatherKernel(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        extents_(std::get<GatherAttrs>(node.attrs), graph.shape(node.inputs[1])),
        x_type_(graph.value(node.inputs[0]).dtype),
        y_type_(graph.value(node.outputs[0]).dtype) {}

  void run(const KernelArgs& args) const override {
    GatherArgs g{};
    g.x = args.inputs[0];
    g.indices = static_cast<const int32_t*>(args.inputs[1]);
    g.y = args.outputs[0];
    g.outer = extents_.outer;
    g.count = extents_.count;
    g.picks = extents_.picks;
    int64_t elements = 1;  // of a unit
    if (x_type_ != y_type_) {
      g.convert = true;
      g.x_type = element_of(x_type_);
      g.y_type = element_of(y_type_);
      if (extents_.inner % vector_length == 0 && is_multiple(g.x, 16) && is_multiple(g.y, 16)) elements = vector_length;
      g.unit = static_cast<int32_t>(elements);
    } else {
      const auto size = static_cast<int64_t>(size_of(x_type_));
      while (elements * size < 16 && extents_.inner % (2 * elements) == 0 && is_multiple(g.x, 2 * elements * size) &&
             is_multiple(g.y, 2 * elements * size))
        elements *= 2;
      g.unit = static_cast<int32_t>(elements * size);
    }
    g.row = extents_.inner / elements;
    gather(g, stream_);
  }
  const char* implementation() const override { return "gather"; }

 private:
  Stream stream_;
  Extents extents_;
  DType x_type_, y_type_;
};

bool supports_gather(const Graph& graph, const Node& node, const Target&) {
  return can_copy(graph.value(node.inputs[0]).dtype, graph.value(node.outputs[0]).dtype) &&
         graph.value(node.inputs[1]).dtype == DType::i32 && fits(graph, node);
}

std::unique_ptr<Kernel> prepare_gather(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<GatherKernel>(graph, node, target);
}

// Sorts the picks by index, keeping their order, so that each row of dx adds its contributions in one order.
class GatherGradKernel : public Kernel {
 public:
  GatherGradKernel(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        extents_(std::get<GatherAttrs>(node.attrs), graph.shape(node.inputs[1])),
        dy_type_(element_of(graph.value(node.inputs[0]).dtype)),
        dx_type_(element_of(graph.value(node.outputs[0]).dtype)) {
    const auto reserve = [&](int64_t count, uint64_t size) {
      const uint64_t at = bytes_;
      bytes_ += (static_cast<uint64_t>(count) * size + 63) / 64 * 64;
      return at;
    };
    for (int i = 0; i < 2; ++i) {
      keys_[i] = reserve(extents_.picks, sizeof(uint32_t));
      order_[i] = reserve(extents_.picks, sizeof(uint32_t));
    }
    counters_ = reserve(int64_t{sort_digits} * sort_tiles(extents_.picks), sizeof(uint32_t));
    starts_ = reserve(extents_.count + 1, sizeof(int32_t));
    partials_ = reserve(gather_partial_rows(extents_.picks) * extents_.outer * extents_.inner, sizeof(float));
  }

  uint64_t scratch_bytes() const override { return bytes_; }

  void run(const KernelArgs& args) const override {
    auto* scratch = static_cast<char*>(args.scratch);
    IndexSort sort{};
    sort.indices = static_cast<const int32_t*>(args.inputs[1]);
    sort.n = static_cast<int32_t>(extents_.picks);
    sort.count = static_cast<int32_t>(extents_.count);
    for (int i = 0; i < 2; ++i) {
      sort.keys[i] = reinterpret_cast<uint32_t*>(scratch + keys_[i]);
      sort.order[i] = reinterpret_cast<uint32_t*>(scratch + order_[i]);
    }
    sort.counters = reinterpret_cast<uint32_t*>(scratch + counters_);
    sort.starts = reinterpret_cast<int32_t*>(scratch + starts_);

    GatherGradArgs g{};
    g.sorted = sort_indices(sort, stream_);
    g.dy = args.inputs[0];
    g.dx = args.outputs[0];
    g.outer = extents_.outer;
    g.count = extents_.count;
    g.picks = extents_.picks;
    g.inner = extents_.inner;
    g.dy_type = dy_type_;
    g.dx_type = dx_type_;
    g.vector = extents_.inner % vector_length == 0 && is_multiple(g.dy, 16) && is_multiple(g.dx, 16);
    g.partials = reinterpret_cast<float*>(scratch + partials_);
    gather_grad(g, stream_);
  }
  const char* implementation() const override { return "gather_grad"; }

 private:
  Stream stream_;
  Extents extents_;
  Element dy_type_, dx_type_;
  uint64_t bytes_ = 0, keys_[2], order_[2], counters_, starts_, partials_;  // scratch
};

bool supports_gather_grad(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.outputs[0]).dtype) &&
         graph.value(node.inputs[1]).dtype == DType::i32 && fits(graph, node);
}

std::unique_ptr<Kernel> prepare_gather_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<GatherGradKernel>(graph, node, target);
}

}  // namespace

void register_gather(Registry& registry) {
  registry.add(OpKind::gather, {"gather", supports_gather, prepare_gather});
  registry.add(OpKind::gather_grad, {"gather_grad", supports_gather_grad, prepare_gather_grad});
}

}  // namespace mpt::cuda
