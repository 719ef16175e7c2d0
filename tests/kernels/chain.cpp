// The chain executor against the scalar functions, element by element: at every instruction-set level the same bits.
#include "backend/cpu/chain.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "backend/cpu/kernels.h"
#include "kernels/numerics/philox.h"
#include "tests/kernels/kernel_case.h"

using namespace mpt;
using test::Tensor;

namespace {

const StepVars vars{0x123456789abcdef0, 41, 2, 1, 1024, 0.5f};

bool same(float a, float b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

// One chain with its tensors, whose memory begins `shift` elements behind an aligned address.
struct Case {
  Program program;
  Shape shape;
  bool has_sums = false;
  std::vector<Tensor> inputs = {};
  std::vector<DType> types = {};  // of the outputs
  std::vector<int> aliases = {};  // input whose memory the output takes; -1 for its own

  Graph graph() const {
    Graph graph;
    for (const Tensor& input : inputs) add(graph, input.type(), input.shape());
    for (DType type : types) add(graph, type, shape);
    return graph;
  }
  std::vector<ValueId> ids(int first, std::size_t count) const {
    std::vector<ValueId> ids;
    for (std::size_t i = 0; i < count; ++i) ids.push_back(first + static_cast<int>(i));
    return ids;
  }
  cpu::Chain chain(cpu::Isa level) const {
    const Graph g = graph();
    const std::vector<ValueId> in = ids(1, inputs.size()), out = ids(1 + static_cast<int>(inputs.size()), types.size());
    REQUIRE(cpu::Chain::supports(g, program, shape, in, out, has_sums));
    return {g, program, shape, in, out, has_sums, level};
  }
  float sum(int64_t i) const { return static_cast<float>(std::sin(static_cast<double>(i)) * 3); }

  // All registers of one element by the scalar functions; returns what output `o` stores.
  float expected(std::size_t o, int64_t element) const {
    std::vector<float> r;
    if (has_sums) r.push_back(sum(element));
    for (const Tensor& input : inputs) {
      const Strides strides = broadcast_strides(input.shape(), shape);
      int64_t rest = element, offset = 0;
      for (int d = shape.rank() - 1; d >= 0; --d) {
        offset += rest % shape[d] * strides[d];
        rest /= shape[d];
      }
      r.push_back(static_cast<float>(input.get(offset)));
    }
    for (const ElementwiseStep& s : program.steps) {
      const float b = s.op == Ewise::dropout   ? uniform_of_element(vars, s.stream_id, static_cast<uint64_t>(element))
                      : has_two_operands(s.op) ? r[s.b]
                                               : 0;
      r.push_back(apply(s.op, r[s.a], b, s.p, s.q));
    }
    const float value = r[program.outputs.empty() ? 0 : program.outputs[o]];
    return types[o] == DType::f16    ? f16_to_f32(f32_to_f16(value))
           : types[o] == DType::bf16 ? bf16_to_f32(f32_to_bf16(value))
                                     : value;
  }

  // Runs at every level in pieces that end at `cuts` and compares every element.
  void check(std::vector<int64_t> cuts = {}) const {
    const int64_t n = shape.elements();
    cuts.push_back(n);
    for (cpu::Isa level : test::levels()) {
      CAPTURE(cpu::name_of(level));
      const cpu::Chain runner = chain(level);
      std::vector<Tensor> own_inputs = inputs, outputs;
      std::vector<const void*> in;
      std::vector<void*> out;
      for (Tensor& input : own_inputs) in.push_back(input.data());
      for (std::size_t o = 0; o < types.size(); ++o) outputs.emplace_back(types[o], shape);
      for (std::size_t o = 0; o < types.size(); ++o) {
        const bool own = aliases.empty() || aliases[o] < 0;
        out.push_back(own ? outputs[o].data() : own_inputs[static_cast<std::size_t>(aliases[o])].data());
      }
      int64_t begin = 0;
      for (int64_t end : cuts) {
        std::vector<float> sums;
        for (int64_t i = begin; has_sums && i < end; ++i) sums.push_back(sum(i));
        runner.run(begin, end - begin, has_sums ? sums.data() : nullptr, in.data(), out.data(), &vars);
        begin = end;
      }
      for (std::size_t o = 0; o < types.size(); ++o) {
        CHECK(outputs[o].guards_hold());
        std::memcpy(outputs[o].data(), out[o], outputs[o].bytes());
        int64_t wrong = -1;
        for (int64_t i = 0; i < n && wrong < 0; ++i)
          if (!same(static_cast<float>(outputs[o].get(i)), expected(o, i))) wrong = i;
        CAPTURE(o);
        CHECK(wrong == -1);
      }
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        CHECK(own_inputs[i].guards_hold());
        if (aliases.empty()) CHECK(own_inputs[i].same_bits(inputs[i]));
      }
    }
  }

 private:
  static void add(Graph& graph, DType type, const Shape& shape) {
    Value value;
    value.dtype = type;
    value.shape = shape;
    graph.values.push_back(value);
  }
};

Tensor random_tensor(DType type, Shape shape, unsigned seed) {
  Tensor tensor(type, shape);
  tensor.fill_normal(seed, 2);
  return tensor;
}

// Random numbers of every size among the special ones.
Tensor wild_tensor(int64_t n, unsigned seed) {
  const float special[] = {
      0,  -0.0f, INFINITY,  -INFINITY, NAN, 0x1p-149f, -0x1p-149f, 0x1.fffffep127f, -0x1.fffffep127f, 1, -1,
      89, -104,  0x1p-126f, 15,        -15, 100,       -100};
  Tensor tensor(DType::f32, {n});
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 4);
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    tensor.set(i, i % 7 == 0 ? special[random() % std::size(special)] : i % 7 == 1 ? float_of(bits) : normal(random));
  }
  return tensor;
}

ElementwiseStep step(Ewise op, int a, int b = -1, float p = 0, float q = 0, uint32_t stream = 0) {
  return {op, static_cast<int16_t>(a), static_cast<int16_t>(b), p, q, stream};
}

// y0 = gelu(dropout(x + b)) * r, y1 = relu(x + b)
Program typical_program() {
  return {3,
          {step(Ewise::add, 0, 1), step(Ewise::dropout, 3, -1, 0.25f, 0, 9), step(Ewise::gelu, 4),
           step(Ewise::mul, 5, 2), step(Ewise::relu, 3)},
          {6, 7}};
}

}  // namespace

TEST_CASE("chain: every function gives the scalar function's bits") {
  for (int op = 0; op < static_cast<int>(Ewise::count_); ++op) {
    CAPTURE(op);
    const int64_t n = 4099;
    Case c{{2, {step(static_cast<Ewise>(op), 0, 1, 0.25f, 2, 77)}, {2}}, {n}};
    c.inputs = {wild_tensor(n, 1), wild_tensor(n, 2)};
    c.types = {DType::f32};
    c.check();
  }
}

TEST_CASE("chain: storage types of inputs and outputs, lengths around the vector width") {
  const DType all[] = {DType::f32, DType::f16, DType::bf16};
  for (int64_t n : {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 1023, 1024, 1025, 2500}) {
    CAPTURE(n);
    for (DType type : all) {
      const DType other = type == DType::f16 ? DType::bf16 : DType::f16;
      Case c{typical_program(), {n}};
      c.inputs = {random_tensor(type, {n}, 3), random_tensor(other, {n}, 4), random_tensor(DType::f32, {n}, 5)};
      c.types = {other, type};
      c.check();
      c.check({n / 3, n / 2});
    }
  }
}

TEST_CASE("chain: half and bfloat16 outputs round any float as the scalar conversion does") {
  for (DType type : {DType::f16, DType::bf16}) {
    Case c{{1, {}, {0}}, {60000}};
    Tensor x = wild_tensor(60000, 8);
    // Ties and their neighbours.
    for (int64_t i = 0; i < 30000; ++i)
      x.set(i, float_of((bits_of(static_cast<float>(x.get(i))) & 0xffffe000u) + 0x1000u + static_cast<uint32_t>(i % 3) -
                        1));
    c.inputs = {x};
    c.types = {type};
    c.check();
  }
}

TEST_CASE("chain: inputs are broadcast as in NumPy") {
  const Shape shape{3, 5, 2, 19};
  const std::vector<Shape> shapes = {
      {},           {1},           {19},         {2, 19},      {5, 2, 19},   {3, 5, 2, 19},
      {3, 1, 1, 1}, {3, 5, 1, 1},  {5, 1, 1},    {2, 1},       {3, 1, 2, 1}, {1, 5, 1, 19},
      {5, 1, 19},   {3, 1, 1, 19}, {3, 5, 2, 1}, {1, 1, 1, 1}, {3, 1, 2, 19}};
  for (const Shape& own : shapes) {
    CAPTURE(own.text());
    for (DType type : {DType::f32, DType::f16}) {
      Case c{{2, {step(Ewise::add, 0, 1)}, {2}}, shape};
      c.inputs = {random_tensor(DType::bf16, shape, 6), random_tensor(type, own, 7)};
      c.types = {DType::f32};
      c.check();
      c.check({1, 20, 57, 300});
    }
  }
}

TEST_CASE("chain: a shape that no input has") {
  Case c{{2, {step(Ewise::mul, 0, 1)}, {2}}, {33, 40}};
  c.inputs = {random_tensor(DType::f32, {33, 1}, 1), random_tensor(DType::f32, {40}, 2)};
  c.types = {DType::f16};
  c.check();
}

TEST_CASE("chain: epilogue of sums, with bias and residual, cut anywhere") {
  Case c{typical_program(), {21, 100}, true};
  c.inputs = {random_tensor(DType::f16, {100}, 1), random_tensor(DType::f16, {21, 100}, 2)};
  c.types = {DType::f16, DType::f32};
  c.check();
  c.check({3, 100, 148, 164, 900, 901});

  Case plain{{}, {300}, true};  // an empty program stores the sums
  plain.types = {DType::bf16};
  plain.check({100});
}

TEST_CASE("chain: an output may take the memory of an input") {
  for (int alias : {0, 1, 2}) {
    Case c{typical_program(), {2500}};
    c.inputs = {random_tensor(DType::f32, {2500}, 1), random_tensor(DType::f32, {2500}, 2),
                random_tensor(DType::f32, {2500}, 3)};
    c.types = {DType::f32, DType::f32};
    c.aliases = {alias, -1};
    c.check();
    c.aliases = {-1, alias};
    c.check();
  }
  // Input 1 is stored after output 0 has taken its memory.
  Case c{{2, {step(Ewise::add, 0, 1)}, {2, 1}}, {2500}};
  c.inputs = {random_tensor(DType::f32, {2500}, 1), random_tensor(DType::f32, {2500}, 2)};
  c.types = {DType::f32, DType::f32};
  c.aliases = {1, -1};
  c.check();
  // 16-bit types of different kinds.
  Case mixed{{1, {step(Ewise::square, 0)}, {1}}, {999}};
  mixed.inputs = {random_tensor(DType::f16, {999}, 4)};
  mixed.types = {DType::bf16};
  mixed.aliases = {0};
  mixed.check();
}

TEST_CASE("chain: tensors at addresses that are aligned to nothing") {
  const int64_t n = 1000;
  Case c{{2, {step(Ewise::add, 0, 1)}, {2}}, {n}};
  c.inputs = {random_tensor(DType::f32, {n}, 1), random_tensor(DType::f16, {n}, 2)};
  c.types = {DType::f32};
  for (cpu::Isa level : test::levels()) {
    const cpu::Chain chain = c.chain(level);
    std::vector<unsigned char> x(4 * n + 64), h(2 * n + 64), y(4 * n + 64);
    std::memcpy(x.data() + 4, c.inputs[0].data(), 4 * n);
    std::memcpy(h.data() + 2, c.inputs[1].data(), 2 * n);
    const void* in[] = {x.data() + 4, h.data() + 2};
    void* out[] = {y.data() + 12};
    chain.run(0, n, nullptr, in, out, &vars);
    for (int64_t i = 0; i < n; ++i) {
      float value = 0;
      std::memcpy(&value, y.data() + 12 + 4 * i, 4);
      REQUIRE(same(value, c.expected(0, i)));
    }
  }
}

TEST_CASE("chain: copies, unread steps and unread inputs") {
  Case c{{3, {step(Ewise::copy, 1), step(Ewise::copy, 3), step(Ewise::exp, 0), step(Ewise::add, 4, 3)}, {4, 6, 6}},
         {130}};
  c.inputs = {random_tensor(DType::f32, {130}, 1), random_tensor(DType::f16, {130}, 2),
              random_tensor(DType::f32, {130}, 3)};
  c.types = {DType::f16, DType::f32, DType::bf16};
  c.check();
}

TEST_CASE("chain: more registers than a first-level cache holds in long blocks") {
  Case c{{20, {}, {}}, {700}};
  for (int i = 0; i < 20; ++i)
    c.inputs.push_back(random_tensor(i % 2 ? DType::f16 : DType::f32, {700}, static_cast<unsigned>(i)));
  for (int i = 0; i < 90; ++i) c.program.steps.push_back(step(Ewise::scale, i % 20, -1, static_cast<float>(i), 1));
  // All 90 are still wanted when the sums are formed.
  for (int i = 0; i < 89; ++i) c.program.steps.push_back(step(Ewise::add, 20 + i, i == 0 ? 109 : 109 + i));
  c.program.outputs = {static_cast<int16_t>(20 + 90 + 88)};
  c.types = {DType::f32};
  c.check();
}

TEST_CASE("chain: dropout draws the same numbers at any place of a huge tensor") {
  // Around element 2^34, where the group's number passes 2^32. The tensor is only addressed, not there.
  const int64_t first = (int64_t{1} << 34) - 37, n = 100;
  Graph graph;
  for (const Shape& shape : {Shape{}, Shape{int64_t{1} << 35}}) {
    Value value;
    value.shape = shape;
    graph.values.push_back(value);
  }
  const Program program{1, {step(Ewise::dropout, 0, -1, 0.5f, 0, 3)}, {1}};
  for (cpu::Isa level : test::levels()) {
    const cpu::Chain chain(graph, program, graph.shape(2), {1}, {2}, false, level);
    const float one = 1;
    std::vector<float> y(n);
    const void* in[] = {&one};
    void* out[] = {reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(y.data()) - static_cast<uintptr_t>(first) * 4)};
    chain.run(first, n, nullptr, in, out, &vars);
    for (int64_t i = 0; i < n; ++i)
      REQUIRE(y[static_cast<std::size_t>(i)] ==
              (uniform_of_element(vars, 3, static_cast<uint64_t>(first + i)) < 0.5f ? 0.0f : 2.0f));
  }
}

TEST_CASE("elementwise kernel: any number of threads") {
  cpu::Registry registry;
  register_elementwise(registry);
  const auto prepare = registry.list(OpKind::elementwise)[0].prepare;
  const Shape shape{40, 1000};
  test::KernelCase kernel(OpKind::elementwise, ElementwiseAttrs{typical_program(), shape});
  kernel.input(random_tensor(DType::f16, shape, 1));
  kernel.input(random_tensor(DType::f16, {1000}, 2));
  kernel.input(random_tensor(DType::f32, shape, 3));
  kernel.output(DType::f16, shape);
  kernel.output(DType::f32, shape, 2);
  std::vector<Tensor> first;
  kernel.run_all(prepare, [&](const std::vector<Tensor>& outputs) {
    if (first.empty()) first = outputs;
    for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(outputs[i].same_bits(first[i]));  // at every level too
  });
}
