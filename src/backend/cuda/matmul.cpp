// Matrix multiply with a fused element-wise epilogue, batched, either side transposed or broadcast. In this order:
//
//   cublasLt        with the library's own epilogue where the program has one
//   cublasLt+chain  the product in FP32 into scratch memory, a part at a time that stays in cache, and a chain on it:
//                   the epilogue works on unrounded sums and rounds once
//   tiled(+chain)   the same with a multiplication of our own, for what the library doesn't take
#include <algorithm>

#include "backend/cuda/chain.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul_epilogue.h"
#include "backend/cuda/matmul_product.h"
#include "backend/cuda/registry.h"

namespace mpt::cuda {
namespace {

constexpr uint64_t workspace_alignment = 256;

// Scratch is aligned to less than the library's workspace must be: `sums` bytes, then the workspace.
class Room {
 public:
  Room() = default;
  Room(uint64_t sums, uint64_t workspace)
      : sums_((sums + workspace_alignment - 1) / workspace_alignment * workspace_alignment), workspace_(workspace) {}

  uint64_t bytes() const { return sums_ + workspace_ == 0 ? 0 : sums_ + workspace_ + workspace_alignment; }
  void* sums(void* scratch) const {
    const auto at = reinterpret_cast<uintptr_t>(scratch);
    return reinterpret_cast<void*>((at + workspace_alignment - 1) / workspace_alignment * workspace_alignment);
  }
  void* workspace(void* scratch) const { return static_cast<char*>(sums(scratch)) + sums_; }

 private:
  uint64_t sums_ = 0, workspace_ = 0;
};

// ---- products whose epilogue is a chain, or that have none

// Bytes of sums between product and chain: half of the second-level cache, so that they needn't leave it.
uint64_t sums_bytes(const Target& target) {
  const uint64_t half = target.device.properties().cache_bytes / 2;
  return std::clamp(half, uint64_t{4} << 20, uint64_t{32} << 20);
}

std::vector<ValueId> epilogue_inputs(const Node& node) { return {node.inputs.begin() + 2, node.inputs.end()}; }

class ChainMatmul final : public Kernel {
 public:
  static constexpr const char* names[2] = {"tiled+chain", "cublasLt+chain"};

  ChainMatmul(const Graph& graph, const Node& node, const Target& target, bool by_library)
      : stream_(target.stream),
        shape_(graph, node),
        sums_type_(type_of_sums(graph, node)),
        chain_(graph, std::get<MatmulAttrs>(node.attrs).epilogue, graph.shape(node.outputs[0]), epilogue_inputs(node),
               node.outputs, true, element_of(sums_type_)) {
    const auto size = static_cast<int64_t>(size_of(sums_type_));
    parts_ = parts_of(shape_, static_cast<int64_t>(sums_bytes(target)) / size);
    product_ = by_library ? library_product(target.blas, shape_, sums_type_, parts_) : own_product(shape_, sums_type_);
    if (!product_) return;
    int64_t most = 0;
    for (const Part& part : parts_) most = std::max(most, part.items * part.rows * shape_.n);
    room_ = Room(static_cast<uint64_t>(most * size), product_->workspace_bytes());
  }
  bool is_made() const { return product_ != nullptr; }

  static bool supports(const Graph& graph, const Node& node) {
    return is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.inputs[1]).dtype) &&
           node.outputs[0] != none &&
           Chain::supports(graph, std::get<MatmulAttrs>(node.attrs).epilogue, graph.shape(node.outputs[0]),
                           epilogue_inputs(node), node.outputs, true);
  }

  uint64_t scratch_bytes() const override { return room_.bytes(); }
  void run(const KernelArgs& args) const override {
    void* const sums = room_.sums(args.scratch);
    for (const Part& part : parts_) {
      product_->run(stream_, part, args.inputs[0], args.inputs[1], sums, room_.workspace(args.scratch));
      const int64_t first = (part.item * shape_.m + part.row) * shape_.n;
      chain_.run(stream_, first, part.items * part.rows * shape_.n, sums, args.inputs + 2, args.outputs, args.vars);
    }
  }
  const char* implementation() const override { return names[product_->is_library()]; }

 private:
  // A 16-bit product is half the traffic, where that gives the same results.
  static DType type_of_sums(const Graph& graph, const Node& node) {
    const DType a = graph.value(node.inputs[0]).dtype, d = graph.value(node.outputs[0]).dtype;
    return a == d && commutes_with_rounding(graph, node) ? d : DType::f32;
  }

  Stream stream_;
  ProductShape shape_;
  DType sums_type_;
  Chain chain_;
  std::vector<Part> parts_;
  std::unique_ptr<Product> product_;
  Room room_;
};

// ---- the library's own epilogues

class NativeMatmul final : public Kernel {
 public:
  NativeMatmul(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream), shape_(graph, node) {
    const std::optional<NativeEpilogue> epilogue = native_epilogue(graph, node);
    if (!epilogue) return;
    epilogue_ = *epilogue;
    // One row: the library's order of sums and the chain's must not depend on who shares memory.
    if (overlaps(graph, node, epilogue_.bias)) return;
    const DType d = graph.value(node.outputs[static_cast<std::size_t>(epilogue_.output)]).dtype;
    if (!library_takes(shape_, d)) return;
    is_made_ = plan_.make(target.blas, problem(d));
    if (!is_made_) return;
    const bool may_overlap = overlaps(graph, node, epilogue_.aux_input);
    if (may_overlap || !plan_.takes_any_address()) {
      chained_ = std::make_unique<ChainMatmul>(graph, node, target, true);
      if (!chained_->is_made()) chained_ = std::make_unique<ChainMatmul>(graph, node, target, false);
    }
    room_ = Room(0, plan_.workspace_bytes());
  }
  bool is_made() const { return is_made_; }

  uint64_t scratch_bytes() const override {
    return std::max(room_.bytes(), chained_ ? chained_->scratch_bytes() : uint64_t{0});
  }
  void run(const KernelArgs& args) const override {
    const auto input = [&](int i) { return i >= 0 ? args.inputs[i] : nullptr; };
    BlasOperands o;
    o.a = args.inputs[1];
    o.b = args.inputs[0];
    o.d = args.outputs[epilogue_.output];
    o.c = epilogue_.residual >= 0 ? args.inputs[epilogue_.residual] : o.d;
    o.bias = input(epilogue_.bias);
    o.aux =
        epilogue_.aux_output >= 0 ? args.outputs[epilogue_.aux_output] : const_cast<void*>(input(epilogue_.aux_input));
    o.workspace = room_.workspace(args.scratch);
    // The library promises in-place work for C alone.
    const bool in_place = o.d == o.bias || o.d == o.aux || (o.aux != nullptr && o.aux == o.bias);
    if (chained_ && (in_place || !plan_.takes(o))) return chained_->run(args);
    plan_.run(stream_, o);
  }
  const char* implementation() const override { return name_of(epilogue_); }

 private:
  // May the plan give an output that input's memory?
  bool overlaps(const Graph& graph, const Node& node, int input) const {
    return input >= 0 && graph.shape(node.inputs[static_cast<std::size_t>(input)]) ==
                             graph.shape(node.outputs[static_cast<std::size_t>(epilogue_.output)]);
  }

  BlasProblem problem(DType d) const {
    BlasProblem p = library_problem(shape_, d, shape_.items, shape_.m);
    p.epilogue = epilogue_.kind;
    p.add_c = epilogue_.residual >= 0;
    p.bias = epilogue_.bias >= 0;
    if (epilogue_.aux_input >= 0 || epilogue_.aux_output >= 0) {
      p.ldaux = shape_.n;
      p.stride_aux = p.stride_d;
    }
    return p;
  }

  Stream stream_;
  ProductShape shape_;
  NativeEpilogue epilogue_;
  LibraryPlan plan_;
  bool is_made_ = false;
  std::unique_ptr<ChainMatmul> chained_;
  Room room_;
};

// ---- a product of our own, stored as it is

class TiledMatmul final : public Kernel {
 public:
  TiledMatmul(const Graph& graph, const Node& node, const Target& target)
      : stream_(target.stream),
        shape_(graph, node),
        product_(own_product(shape_, graph.value(node.outputs[0]).dtype)) {}

  void run(const KernelArgs& args) const override {
    product_->run(stream_, {0, shape_.items, 0, shape_.m}, args.inputs[0], args.inputs[1], args.outputs[0], nullptr);
  }
  const char* implementation() const override { return "tiled"; }

 private:
  Stream stream_;
  ProductShape shape_;
  std::unique_ptr<Product> product_;
};

// ---- the list. Whether the library takes a problem is found by asking it; its answers are cached.

bool stores_sums_alone(const Graph& graph, const Node& node) {
  const Program& program = std::get<MatmulAttrs>(node.attrs).epilogue;
  return program.steps.empty() && node.outputs.size() == 1 && node.inputs.size() == 2 &&
         is_element(graph.value(node.inputs[0]).dtype) && is_element(graph.value(node.inputs[1]).dtype) &&
         is_element(graph.value(node.outputs[0]).dtype);
}

std::unique_ptr<Kernel> prepare_native(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<NativeMatmul>(graph, node, target);
}
bool supports_native(const Graph& graph, const Node& node, const Target& target) {
  return ChainMatmul::supports(graph, node) && NativeMatmul(graph, node, target).is_made();
}

template <bool by_library>
std::unique_ptr<Kernel> prepare_chain(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<ChainMatmul>(graph, node, target, by_library);
}
bool supports_chain(const Graph& graph, const Node& node, const Target& target) {
  return ChainMatmul::supports(graph, node) && ChainMatmul(graph, node, target, true).is_made();
}

std::unique_ptr<Kernel> prepare_tiled(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<TiledMatmul>(graph, node, target);
}

}  // namespace

void register_matmul(Registry& registry) {
  registry.add(OpKind::matmul, {"cublasLt", supports_native, prepare_native});
  registry.add(OpKind::matmul, {"cublasLt+chain", supports_chain, prepare_chain<true>});
  registry.add(
      OpKind::matmul,
      {"tiled", [](const Graph& graph, const Node& node, const Target&) { return stores_sums_alone(graph, node); },
       prepare_tiled});
  registry.add(OpKind::matmul,
               {"tiled+chain",
                [](const Graph& graph, const Node& node, const Target&) { return ChainMatmul::supports(graph, node); },
                prepare_chain<false>});
}

}  // namespace mpt::cuda
