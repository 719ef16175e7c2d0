#include "ops/run_node.h"

#include <tbb/global_control.h>

#include <algorithm>
#include <map>

#include "graph/op_def.h"

namespace mpt::test {

namespace {

struct Call {
  const Kernel* kernel;
  KernelArgs args;
};

void run(void* pointer) {
  const auto* call = static_cast<const Call*>(pointer);
  call->kernel->run(call->args);
}

bool uses_once(const Node& node, int input) {
  return std::count(node.inputs.begin(), node.inputs.end(), node.inputs[static_cast<std::size_t>(input)]) == 1;
}

}  // namespace

NodeRun run_node(Backend& backend, const Graph& graph, const Node& node, const std::vector<Array>& inputs,
                 const StepVars& vars, unsigned char poison, const Sharing& sharing, const Array* initial) {
  const std::unique_ptr<Kernel> kernel = backend.prepare(graph, node);
  std::vector<GuardedBuffer> in, out;
  std::vector<const void*> in_pointers;
  std::vector<void*> out_pointers;
  std::vector<bool> overwritten(inputs.size(), false);
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    in.emplace_back(inputs[i]);
    in_pointers.push_back(node.inputs[i] == none ? nullptr : in.back().data());
  }
  NodeRun result;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    Array array;
    if (node.outputs[i] != none) array = Array(graph.shape(node.outputs[i]), graph.value(node.outputs[i]).dtype);
    out.emplace_back(array.bytes.size(), poison);
    if (initial) out.back() = GuardedBuffer(*initial);
    const int shared = i < sharing.size() ? sharing[i] : -1;
    out_pointers.push_back(node.outputs[i] == none ? nullptr
                           : shared >= 0           ? in[static_cast<std::size_t>(shared)].data()
                                                   : out.back().data());
    if (shared >= 0) overwritten[static_cast<std::size_t>(shared)] = true;
    result.outputs.push_back(std::move(array));
  }
  const GuardedBuffer scratch(kernel->scratch_bytes(), poison);
  Call call{kernel.get(), {in_pointers.data(), out_pointers.data(), scratch.data(), &vars}};
  backend.execute(run, &call);
  backend.synchronize();

  if (!scratch.intact()) result.complaint += "wrote beside its scratch; ";
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!in[i].intact()) result.complaint += "wrote beside input " + std::to_string(i) + "; ";
    if (!overwritten[i] && !in[i].holds(inputs[i])) result.complaint += "changed input " + std::to_string(i) + "; ";
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].intact()) result.complaint += "wrote beside output " + std::to_string(i) + "; ";
    const int shared = i < sharing.size() ? sharing[i] : -1;
    (shared >= 0 ? in[static_cast<std::size_t>(shared)] : out[i]).copy_out(&result.outputs[i]);
  }
  return result;
}

std::vector<Sharing> allowed_sharing(const Graph& graph, const Node& node) {
  const OpDef& def = op_def(node.kind);
  std::vector<Sharing> all;
  if (!def.in_place) return all;
  const auto fits = [&](int input, int output) {
    const ValueId x = node.inputs[static_cast<std::size_t>(input)], y = node.outputs[static_cast<std::size_t>(output)];
    return x != none && y != none && graph.shape(x) == graph.shape(y) &&
           size_of(graph.value(x).dtype) == size_of(graph.value(y).dtype) && uses_once(node, input) &&
           def.in_place(graph, node, input, output);
  };
  const int inputs = static_cast<int>(node.inputs.size()), outputs = static_cast<int>(node.outputs.size());
  for (int y = 0; y < outputs; ++y) {
    for (int x = 0; x < inputs; ++x) {
      if (!fits(x, y)) continue;
      Sharing one(static_cast<std::size_t>(outputs), -1);
      one[static_cast<std::size_t>(y)] = x;
      all.push_back(one);
      for (int y2 = y + 1; y2 < outputs; ++y2) {
        for (int x2 = 0; x2 < inputs; ++x2) {
          if (x2 == x || !fits(x2, y2)) continue;
          Sharing two = one;
          two[static_cast<std::size_t>(y2)] = x2;
          all.push_back(two);
        }
      }
    }
  }
  return all;
}

Backend& cpu_backend(int threads) {
  // Three threads on any machine.
  static const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 3);
  static std::map<int, std::unique_ptr<Backend>> made;
  std::unique_ptr<Backend>& backend = made[threads];
  if (!backend) {
    BackendOptions options;
    options.threads = threads;
    backend = make_cpu_backend(options);
  }
  return *backend;
}

Backend& ref_backend() {
  static const std::unique_ptr<Backend> backend = make_ref_backend({});
  return *backend;
}

}  // namespace mpt::test
