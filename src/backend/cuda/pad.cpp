// Constant elements at both ends of one axis.
#include "backend/cuda/kernels.h"
#include "backend/cuda/strided_copy.h"
#include "kernels/numerics/float16.h"

namespace mpt::cuda {
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
      : stream_(target.stream), copy_(make(graph, node)) {
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
    fill_rows(y, size_, value_, rows_, before_, row_, stream_);
    fill_rows(y + (before_ + own_) * size_, size_, value_, rows_, row_ - before_ - own_, row_, stream_);
    copy_.run(args.inputs[0], y + before_ * size_, stream_);
  }
  const char* implementation() const override { return "pad"; }

 private:
  static StridedCopy make(const Graph& graph, const Node& node) {
    const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.outputs[0]);
    return {x.dtype, y.dtype, x.shape, strides_of(x.shape), strides_of(y.shape)};
  }

  Stream stream_;
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

}  // namespace mpt::cuda
