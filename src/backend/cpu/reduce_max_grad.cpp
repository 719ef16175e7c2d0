// The gradient of a maximum goes to the first of the equal elements, in the row-major order of the reduced axes; a NaN counts
// as the largest.
#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.h"
#include "backend/cpu/reduce.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/rows.h"

namespace mpt::cpu {
namespace {

// The largest number seen so far and where.
struct Best {
  float value;
  int64_t at;

  void see(float x, int64_t position) {
    if (x > value || (std::isnan(x) && !std::isnan(value))) *this = {x, position};
  }
};

class ReduceMaxGradKernel : public Kernel {
 public:
  ReduceMaxGradKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        rows_(target.isa),
        x_type_(element_of(graph.value(node.inputs[0]).dtype)),
        dy_type_(element_of(graph.value(node.inputs[2]).dtype)),
        dx_type_(element_of(graph.value(node.outputs[0]).dtype)),
        layout_(graph.shape(node.inputs[0]), std::get<ReduceAttrs>(node.attrs).axes) {}

  void run(const KernelArgs& args) const override {
    const Tensors t{{x_type_, args.inputs[0], 0}, {dy_type_, args.inputs[2], 0}, {dx_type_, args.outputs[0], 0}};
    if (layout_.run_is_kept) {
      const int64_t blocks = (layout_.run + row_block - 1) / row_block;
      parallel_.for_range(layout_.kept.count * blocks, 1,
                          [&](int64_t begin, int64_t) { columns(t, begin / blocks, begin % blocks * row_block); });
    } else {
      const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(layout_.reduced_elements, 1));
      parallel_.for_range(layout_.kept.count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t output = begin; output < end; ++output) runs(t, output);
      });
    }
  }
  const char* implementation() const override { return "reduce_max_grad"; }

 private:
  struct Tensors {
    RowIn x, dy;
    RowOut dx;
  };

  void read(RowIn from, int64_t first, int64_t n, float* to) const {
    from.first = first;
    rows_.convert(from, n, {Element::f32, to, 0});
  }
  void write(const float* from, int64_t n, RowOut to, int64_t first) const {
    to.first = first;
    rows_.convert({Element::f32, from, 0}, n, to);
  }

  void columns(const Tensors& t, int64_t output, int64_t column) const {
    const int64_t n = std::min(row_block, layout_.run - column), base = layout_.kept.offset(output) + column;
    float x[row_block], dy[row_block], dx[row_block];
    Best best[row_block];
    for (int64_t r = 0; r < layout_.reduced.count; ++r) {
      read(t.x, base + layout_.reduced.offset(r), n, x);
      for (int64_t c = 0; c < n; ++c) r == 0 ? void(best[c] = {x[c], 0}) : best[c].see(x[c], r);
    }
    read(t.dy, output * layout_.run + column, n, dy);
    for (int64_t r = 0; r < layout_.reduced.count; ++r) {
      for (int64_t c = 0; c < n; ++c) dx[c] = best[c].at == r ? dy[c] : 0.0f;
      write(dx, n, t.dx, base + layout_.reduced.offset(r));
    }
  }

  void runs(const Tensors& t, int64_t output) const {
    const int64_t base = layout_.kept.offset(output);
    float values[row_block], dy;
    Best best{};
    bool seen = false;
    each_block([&](int64_t offset, int64_t position, int64_t n) {
      read(t.x, base + offset, n, values);
      if (!seen) best = {values[0], 0};
      seen = true;
      for (int64_t i = 0; i < n; ++i) best.see(values[i], position + i);
    });
    read(t.dy, output, 1, &dy);
    each_block([&](int64_t offset, int64_t position, int64_t n) {
      std::fill_n(values, n, 0.0f);
      if (best.at >= position && best.at < position + n) values[best.at - position] = dy;
      write(values, n, t.dx, base + offset);
    });
  }

  // Calls f(offset, position among the reduced, elements) for all blocks of an output's runs.
  template <typename F>
  void each_block(F f) const {
    for (int64_t r = 0; r < layout_.reduced.count; ++r)
      for (int64_t done = 0; done < layout_.run; done += row_block)
        f(layout_.reduced.offset(r) + done, r * layout_.run + done, std::min(row_block, layout_.run - done));
  }

  const Parallel& parallel_;
  Rows rows_;
  Element x_type_, dy_type_, dx_type_;
  ReduceLayout layout_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.inputs[2]).dtype) &&
         is_element(graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ReduceMaxGradKernel>(graph, node, target);
}

}  // namespace

void register_reduce_max_grad(Registry& registry) {
  registry.add(OpKind::reduce_max_grad, {"reduce_max_grad", supports, prepare});
}

}  // namespace mpt::cpu
