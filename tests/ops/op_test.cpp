#include "ops/op_test.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>

#include "graph/op_def.h"
#include "ops/op.h"
#include "ops/run_node.h"
#include "ops/tolerance.h"

namespace mpt::test {

namespace {

std::vector<OpCase>& cases() {
  static std::vector<OpCase> all;
  return all;
}

uint64_t hash(const std::string& text) {  // FNV-1a
  uint64_t h = 14695981039346656037ull;
  for (unsigned char c : text) h = (h ^ c) * 1099511628211ull;
  return h;
}

StepVars step_vars() {
  StepVars vars{};
  vars.seed = 0x123456789abcdefull;
  vars.step = 7;
  vars.loss_scale = 8;
  vars.loss_weight = 0.5f;
  return vars;
}

Array random_contents(const Input& input, DType dtype, std::mt19937_64& random) {
  std::vector<double> values = input.values;
  const bool integer = !is_float(input.dtype);
  std::uniform_real_distribution<double> uniform(input.low, integer ? input.high + 1 : input.high);
  const auto too_near = [&](double x) {
    for (double kink : input.avoid) {
      if (std::fabs(x - kink) < 0.01) return true;
    }
    return false;
  };
  for (int64_t i = static_cast<int64_t>(values.size()); i < input.shape.elements(); ++i) {
    double x = uniform(random);
    while (too_near(x)) x = uniform(random);
    values.push_back(integer ? std::floor(x) : x);
  }
  return Array(input.shape, dtype, values);
}

// How narrow values are stored. mixed: each in 16 bits or FP32 by chance, as overrides of single ops make it.
struct Storage {
  const char* name;
  DType narrow;
  bool mixed;
};
constexpr Storage storages[] = {{"fp32", DType::f32, false},
                                {"fp16", DType::f16, false},
                                {"bf16", DType::bf16, false},
                                {"fp16 and fp32", DType::f16, true},
                                {"bf16 and fp32", DType::bf16, true}};

void assign_storage(Graph& graph, const Storage& storage, std::mt19937_64& random) {
  for (std::size_t v = 1; v < graph.values.size(); ++v) {
    Value& value = graph.values[v];
    if (!is_float(value.dtype)) continue;
    const bool wide = !value.narrow || (storage.mixed && random() % 2 == 0);
    value.dtype = storage.narrow == DType::f64 ? DType::f64 : wide ? DType::f32 : storage.narrow;
  }
  for (const Node& node : graph.nodes) {  // the same memory
    if (node.kind == OpKind::reshape) graph.value(node.outputs[0]).dtype = graph.value(node.inputs[0]).dtype;
  }
}

// The same graph with all floats in double, but for a fused norm's sum: the norm is of the sum as it is stored.
Graph in_double(const Graph& graph, const Node& node) {
  Graph wide = graph;
  for (std::size_t v = 1; v < wide.values.size(); ++v) {
    if (is_float(wide.values[v].dtype)) wide.values[v].dtype = DType::f64;
  }
  if (node.kind == OpKind::norm && node.outputs[3] != none) {
    wide.value(node.outputs[3]).dtype = graph.value(node.outputs[3]).dtype;
  }
  return wide;
}

std::vector<Array> contents_of(const std::vector<ValueId>& ids, const std::vector<Array>& arrays) {
  std::vector<Array> contents;
  for (ValueId id : ids) contents.push_back(id == none ? Array() : arrays[static_cast<std::size_t>(id)]);
  return contents;
}

// MPT_TEST_OPS=softmax,softmax_grad: nodes of other ops are computed on the CPU and not checked. For a backend in the
// making.
bool is_tested(const Node& node) {
  const char* listed = std::getenv("MPT_TEST_OPS");
  if (!listed || !*listed) return true;
  return ("," + std::string(listed) + ",").find("," + std::string(op_def(node.kind).name) + ",") != std::string::npos;
}

// Everything that is checked of one node in one storage.
class NodeCheck {
 public:
  NodeCheck(const std::string& case_name, const char* storage, const Graph& graph, const Node& node,
            const std::vector<Array>& inputs)
      : case_name_(case_name), storage_(storage), graph_(graph), node_(node), inputs_(inputs) {}

  std::vector<Array> run() {
    StepVars vars = step_vars();
    NodeRun first = check_launch(vars, nullptr);
    if (node_.kind != OpKind::accumulate) return std::move(first.outputs);
    vars.micro_step = 1;  // adds to what the first micro-step wrote
    const Array before = first.outputs[0];
    return std::move(check_launch(vars, &before).outputs);
  }

 private:
  NodeRun check_launch(const StepVars& vars, const Array* initial) {
    if (!is_tested(node_)) {
      NodeRun run = run_node(cpu_backend(1), graph_, node_, inputs_, vars, 0xff, {}, initial);
      return run;
    }
    NodeRun first = run_node(tested_backend(1), graph_, node_, inputs_, vars, 0xff, {}, initial);
    note(first.complaint);
    compare_with_reference(first, vars, initial);
    // Another poison: what depends on memory that nobody wrote changes.
    const bool on_cpu = tested_device() == "cpu";
    same_bits(first, run_node(tested_backend(on_cpu ? 1 : 2), graph_, node_, inputs_, vars, 0x3c, {}, initial),
              "run to run");
    if (on_cpu) {
      for (int threads : {2, 3}) {
        const std::string what = "1 and " + std::to_string(threads) + " threads";
        same_bits(first, run_node(cpu_backend(threads), graph_, node_, inputs_, vars, 0xff, {}, initial), what);
      }
    }
    for (const Sharing& sharing : allowed_sharing(graph_, node_)) {
      std::string what = "in place";
      for (std::size_t y = 0; y < sharing.size(); ++y) {
        if (sharing[y] >= 0) what += ", output " + std::to_string(y) + " over input " + std::to_string(sharing[y]);
      }
      same_bits(first, run_node(tested_backend(2), graph_, node_, inputs_, vars, 0xff, sharing), what);
    }
    return first;
  }

  void compare_with_reference(const NodeRun& run, const StepVars& vars, const Array* initial) {
    const Graph wide = in_double(graph_, node_);
    std::vector<Array> inputs;
    std::vector<Values> input_values;
    for (const Array& a : inputs_) {
      inputs.push_back(is_float(a.dtype) && !a.bytes.empty() ? a.converted(DType::f64) : a);
      input_values.push_back(a.values());
    }
    Array wide_initial;
    if (initial) wide_initial = initial->converted(DType::f64);
    const NodeRun oracle =
        run_node(ref_backend(), wide, node_, inputs, vars, 0xff, {}, initial ? &wide_initial : nullptr);
    note(oracle.complaint);
    std::vector<Values> exact;
    for (const Array& a : oracle.outputs) exact.push_back(a.values());
    const std::vector<Values> error = arithmetic_error(graph_, node_, input_values, exact, vars);
    for (std::size_t y = 0; y < exact.size(); ++y) {
      if (node_.outputs[y] == none) continue;
      const Values found = run.outputs[y].values();
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (is_within(found[i], exact[y][i], error[y][i], run.outputs[y].dtype)) continue;
        char message[256];
        std::snprintf(message, sizeof message,
                      "output %zu element %zu: found %.9g, exact %.9g, off by %.3g, arithmetic may %.3g", y, i,
                      found[i], exact[y][i], found[i] - exact[y][i], error[y][i]);
        note(message);
        break;
      }
    }
  }

  void same_bits(const NodeRun& a, const NodeRun& b, const std::string& what) {
    note(b.complaint.empty() ? "" : what + ": " + b.complaint);
    for (std::size_t y = 0; y < a.outputs.size(); ++y) {
      if (a.outputs[y].bytes != b.outputs[y].bytes) note(what + ": output " + std::to_string(y) + " has other bits");
    }
  }

  void note(const std::string& message) {
    if (message.empty()) return;
    std::string operands;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (node_.inputs[i] != none) operands += " " + inputs_[i].shape.text() + " " + name_of(inputs_[i].dtype);
    }
    FAIL_CHECK("on " << tested_device() << ", in " << std::string(storage_) << ", "
                     << std::string(op_def(node_.kind).name) << " '" << node_.name << "' of" << operands << ": "
                     << message << "\n  alone: test_ops --test-case=\"" << case_name_ << "\"");
  }

  const std::string& case_name_;
  const char* storage_;
  const Graph& graph_;
  const Node& node_;
  const std::vector<Array>& inputs_;
};

void check_nodes(const OpCase& op_case) {
  const CaseGraph built = build_graph(op_case);
  for (const Storage& storage : storages) {
    std::mt19937_64 random(hash(op_case.name));
    Graph graph = built.graph;
    assign_storage(graph, storage, random);
    std::vector<Array> arrays(graph.values.size());
    for (std::size_t i = 0; i < built.inputs.size(); ++i) {
      const ValueId id = built.input_values[i];
      arrays[static_cast<std::size_t>(id)] = random_contents(built.inputs[i], graph.value(id).dtype, random);
    }
    for (std::size_t n = 1; n < graph.nodes.size(); ++n) {
      const Node& node = graph.nodes[n];
      const std::vector<Array> inputs = contents_of(node.inputs, arrays);
      std::vector<Array> outputs = NodeCheck(op_case.name, storage.name, graph, node, inputs).run();
      for (std::size_t y = 0; y < outputs.size(); ++y) {
        if (node.outputs[y] != none) arrays[static_cast<std::size_t>(node.outputs[y])] = std::move(outputs[y]);
      }
    }
  }
}

// Runs the whole graph on the reference, all floats in double.
void run_in_double(const Graph& graph, std::vector<Array>& arrays, bool backward) {
  for (std::size_t n = 1; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.backward && !backward) continue;
    NodeRun run = run_node(ref_backend(), graph, node, contents_of(node.inputs, arrays), step_vars(), 0xff);
    for (std::size_t y = 0; y < run.outputs.size(); ++y) {
      if (node.outputs[y] != none) arrays[static_cast<std::size_t>(node.outputs[y])] = std::move(run.outputs[y]);
    }
  }
}

// Central differences of step h = 2^-17: the truncation error is h^2 / 6 |f'''| = 1e-11 |f'''|, where the tables'
// functions have |f'''| up to a thousand; the rounding error is that of the loss, 2^-53 times its terms' magnitude
// times the sums' length, over h. Both stay below 1e-7 of the loss's and the gradient's sizes.
void check_finite_differences(const OpCase& op_case) {
  CaseGraph built = build_graph(op_case);
  int64_t elements = 0;
  for (std::size_t v = 1; v < built.graph.values.size(); ++v) elements += built.graph.values[v].shape.elements();
  if (elements > 40000) return;  // the small shapes of the table show the rule
  std::mt19937_64 random(hash(op_case.name));
  assign_storage(built.graph, {"double", DType::f64, false}, random);
  std::vector<Array> arrays(built.graph.values.size());
  for (std::size_t i = 0; i < built.inputs.size(); ++i) {
    const ValueId id = built.input_values[i];
    arrays[static_cast<std::size_t>(id)] = random_contents(built.inputs[i], built.graph.value(id).dtype, random);
  }
  run_in_double(built.graph, arrays, true);
  const double h = std::ldexp(1.0, -17), seed = step_vars().loss_scale * step_vars().loss_weight;
  const auto loss_at = [&](ValueId id, const Array& contents) {
    std::vector<Array> moved = arrays;
    moved[static_cast<std::size_t>(id)] = contents;
    run_in_double(built.graph, moved, false);
    return moved[static_cast<std::size_t>(built.loss)].values()[0];
  };
  for (std::size_t i = 0; i < op_case.inputs.size(); ++i) {
    const Input& input = built.inputs[i];
    if (!is_float(input.dtype) || !input.differentiate) continue;
    const ValueId id = built.input_values[i];
    const ValueId gradient = built.gradients.gradient_of[static_cast<std::size_t>(id)];
    const Values x = arrays[static_cast<std::size_t>(id)].values();
    const Values g = gradient == none ? Values(x.size(), 0.0) : arrays[static_cast<std::size_t>(gradient)].values();
    const std::size_t samples = std::min<std::size_t>(x.size(), 8);
    for (std::size_t s = 0; s < samples; ++s) {
      const std::size_t e = x.size() <= 8 ? s : random() % x.size();
      Values up = x, down = x;
      up[e] += h;
      down[e] -= h;
      const double above = loss_at(id, Array(input.shape, DType::f64, up));
      const double below = loss_at(id, Array(input.shape, DType::f64, down));
      const double difference = seed * (above - below) / (up[e] - down[e]);
      if (std::fabs(g[e] - difference) <= 1e-7 * (1 + std::fabs(g[e]) + seed * std::fabs(above))) continue;
      FAIL_CHECK("gradient of input " << i << " element " << e << ": " << g[e] << ", finite differences give "
                                      << difference << "\n  alone: test_ops --test-case=\"" << op_case.name << "\"");
    }
  }
}

void run_current_case() {
  const std::string name = doctest::getContextOptions()->currentTest->m_name;
  for (const OpCase& op_case : cases()) {
    if (op_case.name != name) continue;
    check_nodes(op_case);
    if (op_case.backward && op_case.finite_differences && tested_device() == "cpu") check_finite_differences(op_case);
  }
}

}  // namespace

OpTable::OpTable(const char* file, int line, const char* op, std::vector<OpCase> table) {
  static std::deque<std::string> names;  // doctest keeps pointers
  for (OpCase& op_case : table) {
    op_case.name = std::string(op) + " " + op_case.name;
    names.push_back(op_case.name);
    cases().push_back(std::move(op_case));
    doctest::detail::regTest(doctest::detail::TestCase(run_current_case, file, static_cast<unsigned>(line),
                                                       doctest_detail_test_suite_ns::getCurrentTestSuite()) *
                             names.back().c_str());
  }
}

const std::vector<OpCase>& all_cases() { return cases(); }

std::vector<ValueId> add_inputs(Graph& graph, const std::vector<Input>& inputs) {
  std::vector<ValueId> ids;
  for (const Input& input : inputs) {
    Value value;
    value.name = "input_" + std::to_string(graph.inputs.size());
    value.shape = input.shape;
    value.dtype = input.dtype;
    value.narrow = input.narrow && is_float(input.dtype);
    value.role = Role::input;
    value.slot = static_cast<int32_t>(graph.inputs.size());
    const ValueId id = graph.add_value(std::move(value));
    graph.inputs.push_back({id, input.dtype, {}, {}, 0});
    ids.push_back(id);
  }
  return ids;
}

CaseGraph build_graph(const OpCase& op_case) {
  CaseGraph built;
  Graph& graph = built.graph;
  built.inputs = op_case.inputs;
  built.input_values = add_inputs(graph, built.inputs);
  const std::vector<ValueId> inputs = built.input_values;
  built.outputs = op_case.build(graph, inputs);
  if (!op_case.backward) return built;
  for (ValueId output : built.outputs) {
    Input weight{graph.shape(output), -1, 1};
    weight.narrow = graph.value(output).narrow;
    weight.differentiate = false;
    built.inputs.push_back(weight);
    built.input_values.push_back(add_inputs(graph, {weight})[0]);
    ValueId term = ewise2(graph, Ewise::mul, output, built.input_values.back());
    ReduceAttrs sum{Reduction::sum, {}, false};
    for (int axis = 0; axis < weight.shape.rank(); ++axis) sum.axes.push_back(axis);
    if (!sum.axes.empty()) term = graph.apply(OpKind::reduce, "", sum, {term});
    built.loss = built.loss == none ? term : ewise2(graph, Ewise::add, built.loss, term);
  }
  DifferentiateOptions options;
  for (std::size_t i = 0; i < op_case.inputs.size(); ++i) {
    if (is_float(op_case.inputs[i].dtype) && op_case.inputs[i].differentiate) options.inputs.push_back(inputs[i]);
  }
  built.gradients = differentiate(graph, built.loss, options);
  return built;
}

std::string shape_error_of(const std::vector<Input>& inputs, const Build& build) {
  Graph graph;
  const std::vector<ValueId> ids = add_inputs(graph, inputs);
  const std::size_t values = graph.values.size(), nodes = graph.nodes.size();
  try {
    build(graph, ids);
  } catch (const Error& error) {
    CHECK(error.status() == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(graph.values.size() == values);
    CHECK(graph.nodes.size() == nodes);
    return error.what();
  }
  FAIL_CHECK("no error");
  return {};
}

Build unary(Ewise op, float p, float q) {
  return
      [=](Graph& graph, const std::vector<ValueId>& in) { return std::vector<ValueId>{ewise(graph, op, in[0], p, q)}; };
}

Build binary(Ewise op) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{ewise2(graph, op, in[0], in[1])};
  };
}

std::string text(const Shape& shape) {
  std::string s;
  for (int64_t size : shape) s += (s.empty() ? "" : "x") + std::to_string(size);
  return s.empty() ? "scalar" : s;
}

}  // namespace mpt::test
