#include "passes/run_graph.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "passes/memory_plan.h"
#include "runtime/host_array.h"

namespace mpt::test {

namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(uint64_t bytes) {
  Memory memory(std::aligned_alloc(64, aligned(bytes ? bytes : 1)));
  std::memset(memory.get(), 0xff, aligned(bytes ? bytes : 1));  // NaN in every float type
  return memory;
}

uint64_t bytes_of(const Value& v) { return static_cast<uint64_t>(v.shape.elements()) * size_of(v.dtype); }

// A number in [-1, 1) from a name and a position; a multiple of 1/64, so that it is the same in every float type.
double made_up(const std::string& name, int64_t index) {
  uint64_t h = 1469598103934665603u + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15u;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  h ^= h >> 29;
  h *= 0xbf58476d1ce4e5b9u;
  return static_cast<double>(h >> 57) / 64 - 1;
}

void fill(void* memory, const Value& v) {
  for (int64_t i = 0; i < v.shape.elements(); ++i) {
    const double x = made_up(v.name, i);
    if (v.dtype == DType::i32)
      static_cast<int32_t*>(memory)[i] = static_cast<int32_t>((x + 1) * 1.5);  // 0, 1 or 2
    else
      store_element(memory, i, v.dtype, x);
  }
}

using Kernels = std::vector<std::unique_ptr<Kernel>>;  // by node; null for views

Kernels prepare(Backend& backend, const Graph& graph) {
  Kernels kernels(graph.nodes.size());
  for (std::size_t n = 1; n < graph.nodes.size(); ++n) {
    if (graph.nodes[n].kind != OpKind::reshape) kernels[n] = backend.prepare(graph, graph.nodes[n]);
  }
  return kernels;
}

std::vector<uint64_t> scratch_of(const Kernels& kernels) {
  std::vector<uint64_t> scratch(kernels.size(), 0);
  for (std::size_t n = 1; n < kernels.size(); ++n) {
    if (kernels[n]) scratch[n] = kernels[n]->scratch_bytes();
  }
  return scratch;
}

struct Step {
  const Graph* graph;
  const MemoryPlan* plan;
  const Kernels* kernels;
  const std::vector<void*>* pointers;
  char* workspace;
};

void run_step(void* argument) {
  const auto& step = *static_cast<const Step*>(argument);
  StepVars vars{};
  vars.seed = 7;
  vars.step = 3;
  vars.loss_scale = 1024;
  vars.loss_weight = 1;
  for (std::size_t n = 1; n < step.graph->nodes.size(); ++n) {
    if (!(*step.kernels)[n]) continue;
    const Node& node = step.graph->nodes[n];
    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    for (ValueId v : node.inputs) inputs.push_back((*step.pointers)[v]);
    for (ValueId v : node.outputs) outputs.push_back((*step.pointers)[v]);
    (*step.kernels)[n]->run({inputs.data(), outputs.data(), step.workspace + step.plan->scratch_offset[n], &vars});
  }
}

std::vector<double> read(const void* memory, const Value& v) {
  std::vector<double> values;
  for (int64_t i = 0; i < v.shape.elements(); ++i) values.push_back(load_element(memory, i, v.dtype));
  return values;
}

}  // namespace

Results run_graph(Backend& backend, const Graph& graph, const std::vector<ValueId>& kept) {
  const Kernels kernels = prepare(backend, graph);
  const std::vector<uint64_t> scratch = scratch_of(kernels);
  const MemoryPlan plan = plan_memory(graph, scratch, kept);
  check_plan(graph, plan, scratch, kept);

  const Memory workspace = allocate(plan.arena_bytes);
  std::vector<Memory> outside(graph.values.size());
  std::vector<void*> pointers(graph.values.size(), nullptr);
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (plan.offset[v] != MemoryPlan::outside) {
      pointers[v] = static_cast<char*>(workspace.get()) + plan.offset[v];
    } else if (value.role == Role::parameter || value.role == Role::param_gradient) {
      outside[v] = allocate(bytes_of(value));
      pointers[v] = outside[v].get();
    }
    if (value.role == Role::parameter || (value.role == Role::input && pointers[v])) fill(pointers[v], value);
  }
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    if (!pointers[v]) pointers[v] = pointers[plan.storage[v]];
  }
  Step step{&graph, &plan, &kernels, &pointers, static_cast<char*>(workspace.get())};
  backend.execute(run_step, &step);
  backend.synchronize();

  Results results;
  for (ValueId v : kept) results[v] = read(pointers[v], graph.value(v));
  for (ValueId v = 1; v < static_cast<ValueId>(graph.values.size()); ++v) {
    if (graph.value(v).role == Role::param_gradient && graph.value(v).producer != none)
      results[v] = read(pointers[v], graph.value(v));
  }
  return results;
}

std::vector<uint64_t> scratch_of(Backend& backend, const Graph& graph) { return scratch_of(prepare(backend, graph)); }

Backend& cpu_backend() {
  static const std::unique_ptr<Backend> backend = [] {
    BackendOptions options;
    options.threads = 2;
    return make_cpu_backend(options);
  }();
  return *backend;
}

Backend& ref_backend() {
  static const std::unique_ptr<Backend> backend = make_ref_backend({});
  return *backend;
}

}  // namespace mpt::test
