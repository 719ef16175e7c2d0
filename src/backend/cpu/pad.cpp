// Constant elements at both ends of one axis.
#include <algorithm>
#include <cstring>

#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"
#include "backend/cpu/strided_copy.h"
#include "kernels/numerics/float16.h"

namespace mpt::cpu {
namespace {

// The value's bits in the low bytes.
uint32_t bits_in(DType type, double value) {
  switch (type) {
    case DType::f16:
      return f32_to_f16(static_cast<float>(value));
    case DType::bf16:
      return f32_to_bf16(static_cast<float>(value));
    case DType::i32:
      return static_cast<uint32_t>(static_cast<int32_t>(value));
    case DType::u8:
      return static_cast<uint8_t>(value);
    default:
      return bits_of(static_cast<float>(value));
  }
}

class PadKernel : public Kernel {
 public:
  PadKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel), copy_(make(graph, node, target.isa)) {
    const auto& attrs = std::get<PadAttrs>(node.attrs);
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    const int64_t inner = strides_of(y.shape)[attrs.axis];
    row_ = y.shape[attrs.axis] * inner;
    rows_ = row_ == 0 ? 0 : y.shape.elements() / row_;
    before_ = attrs.before * inner;
    own_ = x.shape[attrs.axis] * inner;
    size_ = static_cast<int64_t>(size_of(y.dtype));
    value_ = bits_in(y.dtype, attrs.value);
  }

  void run(const KernelArgs& args) const override {
    auto* y = static_cast<char*>(args.outputs[0]);
    parallel_.for_range(rows_, std::max<int64_t>(1, 16384 / std::max<int64_t>(row_, 1)),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t r = begin; r < end; ++r) {
                            fill(y, r * row_, before_);
                            fill(y, r * row_ + before_ + own_, row_ - before_ - own_);
                          }
                        });
    copy_.run(parallel_, args.inputs[0], y + before_ * size_);
  }
  const char* implementation() const override { return "pad"; }

 private:
  static StridedCopy make(const Graph& graph, const Node& node, Isa isa) {
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    return {x.dtype, y.dtype, x.shape, strides_of(x.shape), strides_of(y.shape), isa};
  }
  void fill(char* y, int64_t first, int64_t n) const {
    char* to = y + first * size_;
    if (size_ == 4)
      std::fill_n(reinterpret_cast<uint32_t*>(to), n, value_);
    else if (size_ == 2)
      std::fill_n(reinterpret_cast<uint16_t*>(to), n, static_cast<uint16_t>(value_));
    else
      std::memset(to, static_cast<int>(value_), static_cast<std::size_t>(n));
  }

  const Parallel& parallel_;
  StridedCopy copy_;
  int64_t rows_, row_;    // of the output: everything from the axis on
  int64_t before_, own_;  // elements of a row
  int64_t size_;
  uint32_t value_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  const DType y = graph.value(node.outputs[0]).dtype;
  return can_copy(graph.value(node.inputs[0]).dtype, y) && size_of(y) <= 4;
}

std::unique_ptr<Kernel> prepare(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<PadKernel>(graph, node, target);
}

}  // namespace

void register_pad(Registry& registry) { registry.add(OpKind::pad, {"pad", supports, prepare}); }

}  // namespace mpt::cpu
