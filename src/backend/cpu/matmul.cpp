// Matrix multiply with a fused element-wise epilogue, batched, either side transposed or broadcast: one plan of gemm/.
#include "backend/backend.h"
#include "backend/cpu/chain.h"
#include "backend/cpu/element.h"
#include "backend/cpu/gemm/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/registry.h"

namespace mpt::cpu {
namespace {

// Where an operand's matrix lies for each item of the broadcast batch: by a stride where the distances are equal.
void place_batch(const Shape& operand, const Shape& batch, int64_t* stride, std::vector<int64_t>* offsets) {
  const int64_t matrix = operand[-1] * operand[-2], items = batch.elements();
  const Strides strides = broadcast_strides(Shape(operand.rank() - 2, operand.begin()), batch);
  for (int64_t item = 0; item < items; ++item) {
    int64_t rest = item, offset = 0;
    for (int axis = batch.rank() - 1; axis >= 0; --axis) {
      offset += rest % batch[axis] * strides[static_cast<std::size_t>(axis)] * matrix;
      rest /= batch[axis];
    }
    offsets->push_back(offset);
  }
  *stride = items > 1 ? (*offsets)[1] : 0;
  for (int64_t item = 0; item < items; ++item)
    if ((*offsets)[static_cast<std::size_t>(item)] != item * *stride) return;
  offsets->clear();
}

GemmProblem problem_of(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<MatmulAttrs>(node.attrs);
  const Value &a = graph.value(node.inputs[0]), &b = graph.value(node.inputs[1]);
  const Shape& c = graph.shape(node.outputs[0]);
  GemmProblem p;
  const Shape batch(c.rank() - 2, c.begin());
  p.batch = batch.elements();
  p.m = c[-2], p.n = c[-1];
  p.k = attrs.transpose_a ? a.shape[-2] : a.shape[-1];
  p.a = a.dtype, p.b = b.dtype;
  p.trans_a = attrs.transpose_a, p.trans_b = attrs.transpose_b;
  p.lda = a.shape[-1], p.ldb = b.shape[-1];
  place_batch(a.shape, batch, &p.stride_a, &p.offsets_a);
  place_batch(b.shape, batch, &p.stride_b, &p.offsets_b);
  return p;
}

// The part of both kernels: the plan.
class MatmulKernel : public Kernel {
 public:
  MatmulKernel(const Graph& graph, const Node& node, const Target& target)
      : parallel_(target.parallel),
        problem_(problem_of(graph, node)),
        plan_(GemmPlan::create(problem_, target.isa, target.parallel.threads())) {}
  uint64_t scratch_bytes() const override { return plan_->scratch_bytes(); }
  const char* implementation() const override { return plan_->name(); }

 protected:
  const GemmProblem& problem() const { return problem_; }
  void run_plan(const KernelArgs& args, const Epilogue& epilogue) const {
    plan_->run(parallel_, args.inputs[0], args.inputs[1], epilogue, args.scratch);
  }

 private:
  const Parallel& parallel_;
  GemmProblem problem_;
  std::unique_ptr<GemmPlan> plan_;
};

class PlainMatmul final : public MatmulKernel {
 public:
  PlainMatmul(const Graph& graph, const Node& node, const Target& target)
      : MatmulKernel(graph, node, target), isa_(target.isa), type_(graph.value(node.outputs[0]).dtype) {}

  void run(const KernelArgs& args) const override {
    const GemmProblem& p = problem();
    const StoreEpilogue store(args.outputs[0], type_, p.n, p.m * p.n, false, isa_);
    run_plan(args, store.epilogue());
  }

 private:
  Isa isa_;
  DType type_;
};

class FusedMatmul final : public MatmulKernel {
 public:
  FusedMatmul(const Graph& graph, const Node& node, const Target& target)
      : MatmulKernel(graph, node, target),
        chain_(graph, std::get<MatmulAttrs>(node.attrs).epilogue, graph.shape(node.outputs[0]),
               {node.inputs.begin() + 2, node.inputs.end()}, node.outputs, true, target.isa) {
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == none) continue;
      streams_.push_back({i, true, static_cast<int64_t>(size_of(graph.value(node.outputs[i]).dtype))});
    }
    for (std::size_t i = 2; i < node.inputs.size(); ++i) {
      if (graph.shape(node.inputs[i]) != graph.shape(node.outputs[0])) continue;
      streams_.push_back({i, false, static_cast<int64_t>(size_of(graph.value(node.inputs[i]).dtype))});
    }
  }

  void run(const KernelArgs& args) const override {
    const Call call{this, &args};
    run_plan(args, {finish, &call, prefetch, finish_rows});
  }

 private:
  struct Call {
    const FusedMatmul* kernel;
    const KernelArgs* args;
  };
  // A tensor of the result's shape that the epilogue goes through.
  struct Stream {
    std::size_t index;
    bool output;
    int64_t element_bytes;
  };

  int64_t position(int64_t batch, int64_t row, int64_t column) const {
    return (batch * problem().m + row) * problem().n + column;
  }

  static void finish(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n, float* sums) {
    const Call& call = *static_cast<const Call*>(self);
    call.kernel->chain_.run(call.kernel->position(batch, row, column), n, sums, call.args->inputs + 2,
                            call.args->outputs, call.args->vars);
  }

  static void finish_rows(const void* self, int64_t batch, int64_t row, int64_t rows, int64_t n, float* sums) {
    finish(self, batch, row, 0, rows * n, sums);  // the result's rows lie one after the other
  }

  static void prefetch(const void* self, int64_t batch, int64_t row, int64_t column, int64_t n) {
    const Call& call = *static_cast<const Call*>(self);
    const int64_t first = call.kernel->position(batch, row, column);
    for (const Stream& stream : call.kernel->streams_) {
      const void* base = stream.output ? call.args->outputs[stream.index] : call.args->inputs[stream.index];
      const auto* p = static_cast<const std::byte*>(base) + first * stream.element_bytes;
      for (int64_t offset = 0; offset < n * stream.element_bytes; offset += 64) __builtin_prefetch(p + offset, 1, 3);
    }
  }

  Chain chain_;
  std::vector<Stream> streams_;
};

bool supports(const Graph& graph, const Node& node, const Target&) {
  if (!is_element(graph.value(node.inputs[0]).dtype) || !is_element(graph.value(node.inputs[1]).dtype)) return false;
  const Program& epilogue = std::get<MatmulAttrs>(node.attrs).epilogue;
  if (epilogue.outputs.empty()) return node.inputs.size() == 2 && is_element(graph.value(node.outputs[0]).dtype);
  return Chain::supports(graph, epilogue, graph.shape(node.outputs[0]), {node.inputs.begin() + 2, node.inputs.end()},
                         node.outputs, true);
}

std::unique_ptr<Kernel> prepare_gemm(const Graph& graph, const Node& node, const Target& target) {
  if (std::get<MatmulAttrs>(node.attrs).epilogue.outputs.empty())
    return std::make_unique<PlainMatmul>(graph, node, target);
  return std::make_unique<FusedMatmul>(graph, node, target);
}

}  // namespace

void register_matmul(Registry& registry) { registry.add(OpKind::matmul, {"gemm", supports, prepare_gemm}); }

}  // namespace mpt::cpu
