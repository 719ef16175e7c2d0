// Kernels that move elements, checked by what lands where: all storage types, conversions, extents around block sizes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cpu/kernels.h"
#include "core/error.h"
#include "tests/kernels/kernel_case.h"

using namespace mpt;
using test::Tensor;

namespace {

test::KernelCase::Prepare implementation(void (*add)(cpu::Registry&), OpKind kind) {
  cpu::Registry registry;
  add(registry);
  return registry.list(kind)[0].prepare;
}

// Small integers: the same in every type.
Tensor counted(DType type, const Shape& shape) {
  Tensor tensor(type, shape);
  tensor.fill([](int64_t i) { return static_cast<double>(i * 31 % 251); });
  return tensor;
}

std::vector<int64_t> position_of(const Shape& shape, int64_t element) {
  std::vector<int64_t> position(static_cast<std::size_t>(shape.rank()));
  for (int d = shape.rank() - 1; d >= 0; --d) {
    position[static_cast<std::size_t>(d)] = element % shape[d];
    element /= shape[d];
  }
  return position;
}
int64_t element_at(const Shape& shape, const std::vector<int64_t>& position) {
  int64_t element = 0;
  for (int d = 0; d < shape.rank(); ++d) element = element * shape[d] + position[static_cast<std::size_t>(d)];
  return element;
}

// Runs the node and compares y's elements with expected(position in y).
template <typename F>
void check(test::KernelCase& kernel, void (*add)(cpu::Registry&), OpKind kind, const Shape& y_shape, F expected) {
  kernel.run_all(implementation(add, kind), [&](const std::vector<Tensor>& results) {
    int64_t wrong = -1;
    for (int64_t i = 0; i < y_shape.elements() && wrong < 0; ++i)
      if (results[0].get(i) != expected(position_of(y_shape, i))) wrong = i;
    CAPTURE(y_shape.text());
    CHECK(wrong == -1);
  });
}

const std::pair<DType, DType> type_pairs[] = {
    {DType::f32, DType::f32},  {DType::f16, DType::f16}, {DType::u8, DType::u8},    {DType::i32, DType::i32},
    {DType::f16, DType::f32},  {DType::f32, DType::f16}, {DType::bf16, DType::f32}, {DType::f32, DType::bf16},
    {DType::bf16, DType::f16}, {DType::f16, DType::bf16}};

}  // namespace

TEST_CASE("transpose: every order of axes") {
  for (const Shape& shape : {Shape{4, 3, 2, 5}, Shape{1, 17, 1, 33}, Shape{2, 130, 3, 20}}) {
    std::vector<int> axes(4);
    std::iota(axes.begin(), axes.end(), 0);
    do {
      for (const auto& [from, to] : type_pairs) {
        if (from != to && axes[0] > 1) continue;
        Shape y_shape;
        for (int axis : axes) y_shape.push_back(shape[axis]);
        const Tensor x = counted(from, shape);
        test::KernelCase kernel(OpKind::transpose, TransposeAttrs{axes});
        kernel.input(x);
        kernel.output(to, y_shape);
        check(kernel, cpu::register_transpose, OpKind::transpose, y_shape, [&](const std::vector<int64_t>& at) {
          std::vector<int64_t> source(4);
          for (std::size_t d = 0; d < 4; ++d) source[static_cast<std::size_t>(axes[d])] = at[d];
          return x.get(element_at(shape, source));
        });
      }
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
}

TEST_CASE("transpose: matrices around the tile's size") {
  for (int64_t m : {1, 2, 15, 16, 17, 127, 128, 129, 300})
    for (int64_t n : {1, 3, 31, 33, 128, 257})
      for (DType type : {DType::f16, DType::f32}) {
        const Tensor x = counted(type, {m, n});
        test::KernelCase kernel(OpKind::transpose, TransposeAttrs{{1, 0}});
        kernel.input(x);
        kernel.output(type, {n, m});
        check(kernel, cpu::register_transpose, OpKind::transpose, {n, m},
              [&](const std::vector<int64_t>& at) { return x.get(at[1] * n + at[0]); });
      }
}

TEST_CASE("slice, pad and concat along every axis") {
  const Shape shape{3, 5, 40};
  for (const auto& [from, to] : type_pairs)
    for (int axis = 0; axis < 3; ++axis) {
      CAPTURE(axis);
      const Tensor x = counted(from, shape);
      const auto along = static_cast<std::size_t>(axis);
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, shape[axis]}, {1, 2}, {1, shape[axis]}, {2, 2}}) {
        Shape y_shape = shape;
        y_shape[axis] = end - begin;
        test::KernelCase kernel(OpKind::slice, SliceAttrs{axis, begin, end});
        kernel.input(x);
        kernel.output(to, y_shape);
        check(kernel, cpu::register_slice, OpKind::slice, y_shape, [&, first = begin](std::vector<int64_t> at) {
          at[along] += first;
          return x.get(element_at(shape, at));
        });
      }
      for (const auto& [before, after] : {std::pair<int64_t, int64_t>{0, 0}, {2, 0}, {0, 3}, {1, 2}}) {
        Shape y_shape = shape;
        y_shape[axis] += before + after;
        test::KernelCase kernel(OpKind::pad, PadAttrs{axis, before, after, 9});
        kernel.input(x);
        kernel.output(to, y_shape);
        check(kernel, cpu::register_pad, OpKind::pad, y_shape, [&, first = before](std::vector<int64_t> at) {
          at[along] -= first;
          return at[along] < 0 || at[along] >= shape[axis] ? 9.0 : x.get(element_at(shape, at));
        });
      }
      Shape other = shape, both = shape;
      other[axis] = 2;
      both[axis] += 2;
      const Tensor z = counted(from, other);
      test::KernelCase kernel(OpKind::concat, AxisAttrs{axis});
      kernel.input(x);
      kernel.input(z);
      kernel.output(to, both);
      check(kernel, cpu::register_concat, OpKind::concat, both, [&](std::vector<int64_t> at) {
        if (at[along] < shape[axis]) return x.get(element_at(shape, at));
        at[along] -= shape[axis];
        return z.get(element_at(other, at));
      });
    }
}

TEST_CASE("reshape: a copy of the elements") {
  const Tensor x = counted(DType::f16, {300, 70});
  test::KernelCase kernel(OpKind::reshape, ReshapeAttrs{{70, 300}, -1});
  kernel.input(x);
  kernel.output(DType::f16, {70, 300});
  check(kernel, cpu::register_reshape, OpKind::reshape, {21000},
        [&](const std::vector<int64_t>& at) { return x.get(at[0]); });
  test::KernelCase in_place(OpKind::reshape, ReshapeAttrs{{70, 300}, -1});
  in_place.input(x);
  in_place.output(DType::f16, {70, 300}, 0);
  check(in_place, cpu::register_reshape, OpKind::reshape, {21000},
        [&](const std::vector<int64_t>& at) { return x.get(at[0]); });
}

TEST_CASE("gather: rows along any axis; an index outside gives zeros and reads nothing") {
  const Shape shape{3, 6, 50};
  for (int axis = 0; axis < 3; ++axis)
    for (const auto& [from, to] : type_pairs) {
      const Tensor x = counted(from, shape);
      Tensor indices(DType::i32, {2, 4});
      const double wanted[] = {1, 0, 2, 1, -1, 50, -2147483648.0, 2147483647.0};
      indices.fill([&](int64_t i) { return wanted[i]; });
      Shape y_shape(axis, shape.begin());
      y_shape.push_back(2);
      y_shape.push_back(4);
      for (int d = axis + 1; d < 3; ++d) y_shape.push_back(shape[d]);
      test::KernelCase kernel(OpKind::gather, GatherAttrs{axis, shape});
      kernel.input(x);
      kernel.input(indices);
      kernel.output(to, y_shape);
      check(kernel, cpu::register_gather, OpKind::gather, y_shape, [&](const std::vector<int64_t>& at) {
        const auto a = static_cast<std::size_t>(axis);
        const double index = wanted[at[a] * 4 + at[a + 1]];
        if (index < 0 || index >= static_cast<double>(shape[axis])) return 0.0;
        std::vector<int64_t> source = at;
        source.erase(source.begin() + axis);
        source[a] = static_cast<int64_t>(index);
        return x.get(element_at(shape, source));
      });
    }
}

TEST_CASE("gather_grad: contributions in the order of the picks, in FP32, rounded once") {
  struct Extent {
    Shape x;
    int axis;
    int64_t picks;
  };
  for (const Extent& e :
       {Extent{{7, 600}, 0, 100}, Extent{{300, 8}, 0, 50}, Extent{{2, 9, 5}, 1, 40}, Extent{{4, 11}, 1, 30}})
    for (DType type : {DType::f32, DType::f16, DType::bf16}) {
      Tensor indices(DType::i32, {e.picks});
      indices.fill([&](int64_t i) {
        return i == 3 ? -1.0 : i == 5 ? static_cast<double>(e.x[e.axis]) : static_cast<double>(i * i % e.x[e.axis]);
      });
      Shape dy_shape = e.x;
      dy_shape[e.axis] = e.picks;
      Tensor dy(type, dy_shape);
      dy.fill_normal(17);
      for (DType to : {type, DType::f32}) {
        Tensor expected(to, e.x);
        std::vector<float> sums(static_cast<std::size_t>(e.x.elements()), 0.0f);
        std::vector<bool> any(sums.size(), false);
        for (int64_t i = 0; i < dy_shape.elements(); ++i) {  // the axis of picks runs in order for each element
          std::vector<int64_t> at = position_of(dy_shape, i);
          const double index = indices.get(at[static_cast<std::size_t>(e.axis)]);
          if (index < 0 || index >= static_cast<double>(e.x[e.axis])) continue;
          at[static_cast<std::size_t>(e.axis)] = static_cast<int64_t>(index);
          const auto target = static_cast<std::size_t>(element_at(e.x, at));
          sums[target] = any[target] ? sums[target] + static_cast<float>(dy.get(i)) : static_cast<float>(dy.get(i));
          any[target] = true;
        }
        expected.fill([&](int64_t i) { return sums[static_cast<std::size_t>(i)]; });
        test::KernelCase kernel(OpKind::gather_grad, GatherAttrs{e.axis, e.x});
        kernel.input(dy);
        kernel.input(indices);
        kernel.output(to, e.x);
        kernel.run_all(implementation(cpu::register_gather, OpKind::gather_grad),
                       [&](const std::vector<Tensor>& results) { CHECK(results[0].same_bits(expected)); });
      }
    }
}

namespace {

// Runs a node on plain pointers with the given step variables.
void run_node(void (*add)(cpu::Registry&), OpKind kind, Attrs attrs, const std::vector<Value>& inputs,
              const std::vector<Value>& outputs, const std::vector<const void*>& in, const std::vector<void*>& out,
              const StepVars& vars) {
  Graph graph;
  Node node;
  node.kind = kind;
  node.name = "case";
  node.attrs = std::move(attrs);
  const auto add_value = [&](const Value& value) {
    graph.values.push_back(value);
    return static_cast<ValueId>(graph.values.size()) - 1;
  };
  for (const Value& value : inputs) node.inputs.push_back(value.dtype == DType::i64 ? none : add_value(value));
  for (const Value& value : outputs) node.outputs.push_back(value.dtype == DType::i64 ? none : add_value(value));
  const cpu::Parallel parallel(1);
  const auto kernel = implementation(add, kind)(graph, node, {parallel, cpu::detected_isa()});
  std::vector<double> scratch(kernel->scratch_bytes() / sizeof(double) + 16);
  auto at = (reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64;
  kernel->run({in.data(), out.data(), reinterpret_cast<void*>(at), &vars});
}

Value value_of(DType type, const Shape& shape) {
  Value value;
  value.dtype = type;
  value.shape = shape;
  return value;
}
const Value missing = value_of(DType::i64, {});  // stands for none

}  // namespace

TEST_CASE("loss_seed: weight times loss scale times the share of a micro-step") {
  StepVars vars{};
  vars.loss_scale = 131072;  // more than FP16 holds
  vars.loss_weight = 0.25f;
  float seed = 0;
  run_node(cpu::register_seed, OpKind::loss_seed, SeedAttrs{0.75}, {}, {value_of(DType::f32, {})}, {}, {&seed}, vars);
  CHECK(seed == 0.75f * 131072 * 0.25f);
}

TEST_CASE("accumulate: writes at the first micro-step, adds at the others") {
  const int64_t n = 20001;
  std::vector<uint16_t> x(n);
  std::vector<float> sums(n, NAN);
  for (int64_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = f32_to_f16(static_cast<float>(i % 100) * 0.25f);
  StepVars vars{};
  for (vars.micro_step = 0; vars.micro_step < 3; ++vars.micro_step) {
    run_node(cpu::register_accumulate, OpKind::accumulate, NoAttrs{}, {value_of(DType::f16, {n})},
             {value_of(DType::f32, {n})}, {x.data()}, {sums.data()}, vars);
    for (int64_t i = 0; i < n; ++i)
      REQUIRE(sums[static_cast<std::size_t>(i)] ==
              static_cast<float>(i % 100) * 0.25f * static_cast<float>(vars.micro_step + 1));
  }
}

namespace {

int32_t forward(void* user, const mpt_array* inputs, int32_t n_inputs, mpt_array* outputs, int32_t n_outputs,
                void* scratch, void*) {
  if (n_inputs != 1 || n_outputs != 2 || inputs[0].rank != 2 || inputs[0].shape[1] != 3 ||
      inputs[0].dtype != MPT_FLOAT32)
    return 1;
  if (outputs[0].dtype != MPT_FLOAT16 || outputs[1].rank != 0 || scratch == nullptr) return 2;
  *static_cast<double*>(scratch) = 1;  // may be written
  for (int i = 0; i < 6; ++i)
    static_cast<uint16_t*>(outputs[0].data)[i] = f32_to_f16(2 * static_cast<const float*>(inputs[0].data)[i]);
  *static_cast<float*>(outputs[1].data) = 5;
  return *static_cast<int32_t*>(user);
}

int32_t backward(void* user, const mpt_array* inputs, int32_t n_inputs, const mpt_array* outputs,
                 const mpt_array* output_gradients, int32_t n_outputs, mpt_array* input_gradients, void*, void*) {
  if (n_inputs != 2 || n_outputs != 1 || inputs[1].data == nullptr || outputs[0].data == nullptr) return 3;
  if (output_gradients[0].shape[0] != 4 || input_gradients[1].data != nullptr) return 4;
  for (int i = 0; i < 4; ++i)
    static_cast<float*>(input_gradients[0].data)[i] = 3 * static_cast<const float*>(output_gradients[0].data)[i];
  return *static_cast<int32_t*>(user);
}

}  // namespace

TEST_CASE("custom: the caller's functions see all tensors, and their failure is told") {
  int32_t answer = 0;
  CustomAttrs attrs;
  attrs.forward = forward;
  attrs.backward = backward;
  attrs.user = &answer;
  attrs.scratch_bytes = 24;
  attrs.n_inputs = 1;
  attrs.n_outputs = 2;
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  std::vector<uint16_t> y(6);
  float z = 0;
  const auto run = [&] {
    run_node(cpu::register_custom, OpKind::custom, attrs, {value_of(DType::f32, {2, 3})},
             {value_of(DType::f16, {2, 3}), value_of(DType::f32, {})}, {x.data()}, {y.data(), &z}, {});
  };
  run();
  CHECK(f16_to_f32(y[5]) == 12);
  CHECK(z == 5);
  answer = 42;
  try {
    run();
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.status() == MPT_ERROR_INVALID_STATE);
    CHECK(std::string(error.what()) == "custom op 'case': its forward function returned 42, expected 0");
  }
  answer = 0;
  attrs.n_inputs = 2;
  attrs.n_outputs = 1;
  const Value four = value_of(DType::f32, {4});
  const std::vector<float> dy = {1, 2, 3, 4};
  std::vector<float> dx(4);
  run_node(cpu::register_custom, OpKind::custom_grad, attrs, {four, four, four, four}, {four, missing},
           {dy.data(), dy.data(), dy.data(), dy.data()}, {dx.data(), nullptr}, {});
  CHECK(dx[3] == 12);
}
