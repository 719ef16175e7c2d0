#include "passes/fusion_program.h"

#include <algorithm>

#include "passes/fusion.h"

namespace mpt {

BoundProgram bind_program(const Node& node) {
  if (node.kind == OpKind::elementwise)
    return {false, std::get<ElementwiseAttrs>(node.attrs).program, node.inputs, node.outputs};
  MPT_INVARIANT(node.kind == OpKind::matmul);
  BoundProgram bound{
      true, std::get<MatmulAttrs>(node.attrs).epilogue, {node.inputs.begin() + 2, node.inputs.end()}, node.outputs};
  if (bound.program.outputs.empty()) bound.program = Program{1, {}, {0}};
  return bound;
}

void store_program(Node& node, const BoundProgram& bound) {
  if (bound.has_sums) {
    std::get<MatmulAttrs>(node.attrs).epilogue = bound.program;
    node.inputs.resize(2);
  } else {
    std::get<ElementwiseAttrs>(node.attrs).program = bound.program;
    node.inputs.clear();
  }
  node.inputs.insert(node.inputs.end(), bound.inputs.begin(), bound.inputs.end());
  node.outputs = bound.outputs;
}

std::optional<BoundProgram> join_programs(const BoundProgram& first, const BoundProgram& second,
                                          const std::vector<char>& stored) {
  MPT_INVARIANT(!second.has_sums);
  BoundProgram joined;
  joined.has_sums = first.has_sums;
  joined.inputs = first.inputs;
  for (ValueId v : second.inputs) {
    const bool known = std::find(joined.inputs.begin(), joined.inputs.end(), v) != joined.inputs.end() ||
                       std::find(first.outputs.begin(), first.outputs.end(), v) != first.outputs.end();
    if (!known) joined.inputs.push_back(v);
  }
  const int sums = first.has_sums ? 1 : 0;
  const int inputs = sums + static_cast<int>(joined.inputs.size());
  const int first_steps = static_cast<int>(first.program.steps.size());
  const int registers = inputs + first_steps + static_cast<int>(second.program.steps.size());
  if (static_cast<int>(joined.inputs.size()) > max_program_inputs || registers > max_program_registers)
    return std::nullopt;

  const auto from_first = [&](int16_t r) {
    return static_cast<int16_t>(r < first.program.inputs ? r : r - first.program.inputs + inputs);
  };
  const auto from_second = [&](int16_t r) {
    if (r >= second.program.inputs) return static_cast<int16_t>(r - second.program.inputs + inputs + first_steps);
    const ValueId v = second.inputs[r];
    const auto made = std::find(first.outputs.begin(), first.outputs.end(), v);
    if (made != first.outputs.end()) return from_first(first.program.outputs[made - first.outputs.begin()]);
    const auto given = std::find(joined.inputs.begin(), joined.inputs.end(), v);
    return static_cast<int16_t>(sums + (given - joined.inputs.begin()));
  };
  joined.program.inputs = inputs;
  const auto append = [&](const std::vector<ElementwiseStep>& steps, auto map) {
    for (ElementwiseStep step : steps) {
      step.a = map(step.a);
      if (step.b >= 0) step.b = map(step.b);
      joined.program.steps.push_back(step);
    }
  };
  append(first.program.steps, from_first);
  append(second.program.steps, from_second);
  for (std::size_t i = 0; i < first.outputs.size(); ++i) {
    if (!stored[i]) continue;
    joined.program.outputs.push_back(from_first(first.program.outputs[i]));
    joined.outputs.push_back(first.outputs[i]);
  }
  for (std::size_t i = 0; i < second.outputs.size(); ++i) {
    joined.program.outputs.push_back(from_second(second.program.outputs[i]));
    joined.outputs.push_back(second.outputs[i]);
  }
  if (static_cast<int>(joined.outputs.size()) > max_program_outputs) return std::nullopt;
  return joined;
}

bool is_plain_sum(const Program& program) {
  std::vector<int> uses(static_cast<std::size_t>(program.inputs) + program.steps.size(), 0);
  for (const ElementwiseStep& step : program.steps) {
    if (step.op != Ewise::add) return false;
    ++uses[step.a];
    ++uses[step.b];
  }
  const bool last_is_stored = program.outputs.size() == 1 &&
                              program.outputs[0] == static_cast<int16_t>(uses.size()) - 1 && !program.steps.empty();
  uses.pop_back();
  return last_is_stored && std::all_of(uses.begin(), uses.end(), [](int n) { return n == 1; });
}

}  // namespace mpt
