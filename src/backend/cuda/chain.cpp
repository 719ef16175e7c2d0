#include "backend/cuda/chain.h"

#include <algorithm>

#include "backend/cuda/registry.h"

namespace mpt::cuda {
namespace {

// Merged dimensions of an input that is broadcast to `shape`; none where one element serves all.
std::vector<ChainDimension> merged_dimensions(const Shape& from, const Shape& shape) {
  const Strides strides = broadcast_strides(from, shape);
  std::vector<ChainDimension> merged;
  for (int d = 0; d < shape.rank(); ++d) {
    const int64_t stride = strides[static_cast<std::size_t>(d)];
    if (shape[d] == 1) continue;
    if (!merged.empty() && merged.back().stride == stride * shape[d])
      merged.back() = {Divisor(merged.back().size.value * shape[d]), stride};
    else
      merged.push_back({Divisor(shape[d]), stride});
  }
  if (merged.size() == 1 && merged[0].stride == 0) merged.clear();
  return merged;
}

// How the input may be read where its memory is aligned to 16 bytes.
ChainReads reads_of(const ChainDimension* dimensions, int rank) {
  if (rank == 0) return ChainReads::one;
  const int inner = rank - 1;
  if (inner > 0 && dimensions[inner].size.value % vector_length != 0) return ChainReads::elements;
  if (dimensions[inner].stride == 0) return ChainReads::one;
  for (int d = 0; d < inner; ++d)
    if (dimensions[d].stride % vector_length != 0) return ChainReads::elements;
  return ChainReads::vectors;
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % sizeof(Words4) == 0; }

bool broadcasts_to(const Shape& from, const Shape& shape) {
  Shape both;
  return broadcast(from, shape, &both) && both == shape;
}

int input_count(const Program& program, bool has_sums) { return std::max(program.inputs, has_sums ? 1 : 0); }

// An empty epilogue stores the sums.
std::vector<int16_t> stored_registers(const Program& program) {
  return program.outputs.empty() ? std::vector<int16_t>{0} : program.outputs;
}

// Gives columns of shared memory to values.
class Columns {
 public:
  int16_t take(Element type) {
    if (type == Element::f32 && !free_.empty()) {
      const int16_t unit = free_.back();
      free_.pop_back();
      return unit;
    }
    const int16_t unit = static_cast<int16_t>(units_);
    units_ += type == Element::f32 ? 2 : 1;
    return unit;
  }
  void give_back(const ChainOperand& column) {
    if (column.type == Element::f32) free_.push_back(column.unit);
  }
  int32_t units() const { return units_; }

 private:
  std::vector<int16_t> free_;  // of FP32
  int32_t units_ = 0;
};

// The steps whose results are wanted, in their order, with registers that are copies replaced by what they copy.
// Registers 0 .. inputs - 1 are inputs. An input that is stored as it is becomes a step of its own, before the others.
struct Schedule {
  struct Step {
    Ewise op;
    int a, b;    // b = a where there is one operand
    int result;  // register; an input's for a step that only stores it
    float p, q;
    uint32_t stream_id;
  };

  Schedule(const Program& program, int inputs, const std::vector<int16_t>& stored) {
    const int count = static_cast<int>(program.steps.size());
    source.resize(static_cast<std::size_t>(inputs + count));
    for (int r = 0; r < inputs + count; ++r) source[r] = r;
    for (int s = 0; s < count; ++s)
      if (program.steps[s].op == Ewise::copy) source[inputs + s] = source[program.steps[s].a];

    std::vector<char> wanted(source.size(), 0);
    for (int16_t r : stored) wanted[source[r]] = 1;
    for (int r = 0; r < inputs; ++r)
      if (wanted[r]) steps.push_back({Ewise::copy, r, r, r, 0, 0, 0});
    for (int s = count - 1; s >= 0; --s) {
      const ElementwiseStep& step = program.steps[s];
      if (!wanted[inputs + s] || source[inputs + s] != inputs + s) continue;
      wanted[source[step.a]] = 1;
      if (has_two_operands(step.op)) wanted[source[step.b]] = 1;
    }
    for (int s = 0; s < count; ++s) {
      const ElementwiseStep& step = program.steps[s];
      if (!wanted[inputs + s] || source[inputs + s] != inputs + s) continue;
      const int a = source[step.a], b = has_two_operands(step.op) ? source[step.b] : a;
      steps.push_back({step.op, a, b, inputs + s, step.p, step.q, step.stream_id});
    }

    last_use.assign(source.size(), -1);
    for (int s = 0; s < static_cast<int>(steps.size()); ++s) last_use[steps[s].a] = last_use[steps[s].b] = s;
  }

  std::vector<int> source;
  std::vector<Step> steps;
  std::vector<int> last_use;  // of each register, by index of the step; -1: none
};

std::size_t count_of(const std::vector<ValueId>& ids) {
  return ids.size() - static_cast<std::size_t>(std::count(ids.begin(), ids.end(), none));
}

}  // namespace

bool Chain::supports(const Graph& graph, const Program& program, const Shape& shape, const std::vector<ValueId>& inputs,
                     const std::vector<ValueId>& outputs, bool has_sums) {
  const auto is_float_value = [&](ValueId id) { return is_element(graph.value(id).dtype); };
  const bool inputs_fit = std::all_of(inputs.begin(), inputs.end(), [&](ValueId id) {
    return id != none && is_float_value(id) && broadcasts_to(graph.shape(id), shape);
  });
  const bool outputs_fit = std::all_of(outputs.begin(), outputs.end(), [&](ValueId id) {
    return id == none || (is_float_value(id) && graph.shape(id).elements() == shape.elements());
  });
  const std::vector<int16_t> stored = stored_registers(program);
  if (!inputs_fit || !outputs_fit || outputs.size() != stored.size()) return false;
  const int n_inputs = input_count(program, has_sums);
  std::size_t dimensions = has_sums ? 1 : 0;
  for (ValueId id : inputs) dimensions += merged_dimensions(graph.shape(id), shape).size();
  // An input that is stored as it is takes one step more.
  return n_inputs <= chain_max_inputs && dimensions <= chain_max_dimensions && count_of(outputs) <= chain_max_outputs &&
         program.steps.size() + count_of(outputs) <= chain_max_steps;
}

Chain::Chain(const Graph& graph, const Program& program, const Shape& shape, const std::vector<ValueId>& inputs,
             const std::vector<ValueId>& outputs, bool has_sums, Element sums)
    : has_sums_(has_sums) {
  const int first_input = has_sums ? 1 : 0, n_inputs = input_count(program, has_sums);
  MPT_INVARIANT(static_cast<int>(inputs.size()) == n_inputs - first_input);
  std::vector<int16_t> stored = stored_registers(program);
  MPT_INVARIANT(outputs.size() == stored.size());
  std::vector<int16_t> wanted;
  for (std::size_t o = 0; o < outputs.size(); ++o)
    if (outputs[o] != none) wanted.push_back(stored[o]);
  const Schedule schedule(program, n_inputs, wanted);

  Columns columns;
  std::vector<ChainOperand> where(schedule.source.size());
  int n_dimensions = 0;
  for (int r = 0; r < n_inputs; ++r) {
    if (schedule.last_use[r] < 0) continue;
    const bool is_sums = has_sums && r == 0;
    ChainInput input{};
    input.column.type = is_sums ? sums : element_of(graph.value(inputs[r - first_input]).dtype);
    input.column.unit = columns.take(input.column.type);
    input.relative = is_sums;
    const std::vector<ChainDimension> dimensions = is_sums
                                                       ? std::vector<ChainDimension>{{Divisor(shape.elements()), 1}}
                                                       : merged_dimensions(graph.shape(inputs[r - first_input]), shape);
    input.rank = static_cast<int8_t>(dimensions.size());
    input.outermost = static_cast<int8_t>(n_dimensions);
    for (const ChainDimension& d : dimensions) args_.dimensions[n_dimensions++] = d;
    input.reads = reads_of(dimensions.data(), input.rank);
    where[r] = input.column;
    tensor_of_input_.push_back(static_cast<std::size_t>(r));
    args_.inputs[args_.n_inputs++] = input;
  }

  const auto release = [&](int r, int step) {
    if (schedule.last_use[r] == step && where[r].unit != ChainOperand::in_registers) columns.give_back(where[r]);
  };
  int n_outputs = 0;
  const int n_steps = static_cast<int>(schedule.steps.size());
  for (int s = 0; s < n_steps; ++s) {
    const Schedule::Step& step = schedule.steps[s];
    const int previous = s > 0 ? schedule.steps[s - 1].result : -1;
    const auto operand = [&](int r) { return r == previous ? ChainOperand{} : where[r]; };
    ChainStep out{step.op, 0, 0, -1, operand(step.a), operand(step.b), step.p, step.q, step.stream_id};
    release(step.a, s);
    if (step.b != step.a) release(step.b, s);
    // The next step finds it in registers.
    const bool is_input = step.result < n_inputs;
    if (!is_input && schedule.last_use[step.result] > s + 1)
      out.save = (where[step.result] = {columns.take(Element::f32), Element::f32}).unit;
    out.first_output = static_cast<int8_t>(n_outputs);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      if (outputs[o] == none || schedule.source[stored[o]] != step.result) continue;
      args_.outputs[n_outputs++] = {nullptr, element_of(graph.value(outputs[o]).dtype), false};
      tensor_of_output_.push_back(o);
    }
    out.end_output = static_cast<int8_t>(n_outputs);
    args_.steps[args_.n_steps++] = out;
  }
  args_.units = columns.units();
}

void Chain::run(Stream stream, int64_t first, int64_t n, const void* sums, const void* const* inputs,
                void* const* outputs, const StepVars* vars) const {
  ChainArgs args = args_;
  args.first = first;
  args.count = n;
  args.vars = vars;
  for (int i = 0; i < args.n_inputs; ++i) {
    ChainInput& input = args.inputs[i];
    const std::size_t tensor = tensor_of_input_[static_cast<std::size_t>(i)];
    input.data = input.relative ? sums : inputs[tensor - (has_sums_ ? 1 : 0)];
    const bool aligned = is_aligned(input.data) && (!input.relative || first % vector_length == 0);
    if (input.reads == ChainReads::vectors && !aligned) input.reads = ChainReads::elements;
  }
  for (std::size_t o = 0; o < tensor_of_output_.size(); ++o) {
    args.outputs[o].data = outputs[tensor_of_output_[o]];
    args.outputs[o].vectors = is_aligned(args.outputs[o].data);
  }
  chain(args, stream);
}

}  // namespace mpt::cuda
