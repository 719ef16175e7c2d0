#include "backend/cpu/chain.h"

#include <algorithm>

#include "backend/cpu/element.h"
#include "core/error.h"

namespace mpt::cpu {
namespace {

// Merged dimensions of an input that is broadcast to `shape`.
void merge_dimensions(const Shape& from, const Shape& shape, ChainInput* input) {
  const Strides strides = broadcast_strides(from, shape);
  int rank = 0;
  for (int d = 0; d < shape.rank(); ++d) {
    if (shape[d] == 1) continue;
    if (rank > 0 && input->stride[rank - 1] == strides[d] * shape[d]) {
      input->size[rank - 1] *= shape[d];
      input->stride[rank - 1] = strides[d];
    } else {
      input->size[rank] = shape[d];
      input->stride[rank] = strides[d];
      ++rank;
    }
  }
  if (rank == 1 && input->stride[0] == 0) rank = 0;
  input->rank = rank;
}

bool broadcasts_to(const Shape& from, const Shape& shape) {
  Shape both;
  return broadcast(from, shape, &both) && both == shape;
}

int register_count(const Program& program, bool has_sums) {
  return std::max(program.inputs, has_sums ? 1 : 0) + static_cast<int>(program.steps.size());
}

// An empty epilogue stores the sums.
std::vector<int16_t> stored_registers(const Program& program) {
  return program.outputs.empty() ? std::vector<int16_t>{0} : program.outputs;
}

// Gives slots to values and takes them back after their last use.
class Slots {
 public:
  int32_t take() {
    if (free_.empty()) return count_++;
    const int32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(int32_t slot) { free_.push_back(slot); }
  int32_t count() const { return count_; }

 private:
  std::vector<int32_t> free_;
  int32_t count_ = 0;
};

// For each register the register it is a copy of (itself mostly), and the last step that reads it: -1 for none, the number
// of steps where it is stored.
struct Liveness {
  Liveness(const Program& program, int inputs, const std::vector<int16_t>& stored) {
    const int steps = static_cast<int>(program.steps.size());
    source.resize(inputs + steps);
    last_use.assign(inputs + steps, -1);
    for (int r = 0; r < inputs + steps; ++r) source[r] = static_cast<int16_t>(r);
    for (int s = 0; s < steps; ++s)
      if (program.steps[s].op == Ewise::copy) source[inputs + s] = source[program.steps[s].a];
    for (int16_t r : stored) last_use[source[r]] = steps;
    for (int s = steps - 1; s >= 0; --s) {
      const ElementwiseStep& step = program.steps[s];
      if (last_use[inputs + s] < 0) continue;  // nobody reads it
      use(step.a, s);
      if (has_two_operands(step.op)) use(step.b, s);
    }
  }
  void use(int r, int step) { last_use[source[r]] = std::max(last_use[source[r]], step); }

  std::vector<int16_t> source;
  std::vector<int> last_use;
};

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
  return inputs_fit && outputs_fit && register_count(program, has_sums) <= chain_max_slots &&
         outputs.size() == stored_registers(program).size();
}

Chain::Chain(const Graph& graph, const Program& program, const Shape& shape, const std::vector<ValueId>& inputs,
             const std::vector<ValueId>& outputs, bool has_sums, Isa isa)
    : run_(MPT_CHOOSE_ISA(isa, run_chain)) {
  const int first_input = has_sums ? 1 : 0;
  const int n_inputs = std::max(program.inputs, first_input), n_steps = static_cast<int>(program.steps.size());
  MPT_INVARIANT(static_cast<int>(inputs.size()) == n_inputs - first_input);
  const std::vector<int16_t> stored = stored_registers(program);
  MPT_INVARIANT(outputs.size() == stored.size());

  const Liveness live(program, n_inputs, stored);
  std::vector<ChainOperand> where(n_inputs + n_steps);
  Slots slots;
  const auto release = [&](int r, int step) {
    const int source = live.source[r];
    if (where[source].place == ChainPlace::slot && live.last_use[source] == step) slots.give_back(where[source].index);
  };

  if (has_sums) where[0] = {ChainPlace::sums, 0};
  for (int r = first_input; r < n_inputs; ++r) {
    if (live.last_use[r] < 0) continue;
    const Value& value = graph.value(inputs[r - first_input]);
    ChainInput input{};
    input.tensor = r - first_input;
    input.type = element_of(value.dtype);
    merge_dimensions(value.shape, shape, &input);
    // One that is stored could be overwritten by another output before that.
    const bool direct = input.type == Element::f32 && input.rank == 1 && live.last_use[r] < n_steps;
    input.slot = direct ? -1 : slots.take();
    where[r] = direct ? ChainOperand{ChainPlace::direct, static_cast<int16_t>(input.tensor)}
                      : ChainOperand{ChainPlace::slot, static_cast<int16_t>(input.slot)};
    inputs_.push_back(input);
  }
  for (int s = 0; s < n_steps; ++s) {
    const ElementwiseStep& step = program.steps[s];
    const int result = n_inputs + s;
    if (live.source[result] != result || live.last_use[result] < 0) continue;
    const int a = live.source[step.a], b = has_two_operands(step.op) ? live.source[step.b] : a;
    release(a, s);
    if (b != a) release(b, s);
    const int32_t slot = slots.take();
    where[result] = {ChainPlace::slot, static_cast<int16_t>(slot)};
    steps_.push_back({step.op, where[a], where[b], slot, step.p, step.q, step.stream_id});
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == none) continue;
    outputs_.push_back(
        {static_cast<int32_t>(i), element_of(graph.value(outputs[i]).dtype), where[live.source[stored[i]]]});
  }

  slots_ = slots.count();
  MPT_INVARIANT(slots_ <= chain_max_slots);
  // Blocks stay in a first-level cache of 32 KiB with the tensors' own lines.
  constexpr int32_t cache_floats = 6144;
  block_ = std::clamp(cache_floats / std::max(slots_, 1) / chain_min_block * chain_min_block, chain_min_block,
                      chain_max_block);
}

ChainProgram Chain::program() const {
  return {inputs_.data(),
          steps_.data(),
          outputs_.data(),
          static_cast<int32_t>(inputs_.size()),
          static_cast<int32_t>(steps_.size()),
          static_cast<int32_t>(outputs_.size()),
          slots_,
          block_};
}

}  // namespace mpt::cpu
