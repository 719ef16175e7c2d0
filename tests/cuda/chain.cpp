// The CUDA chain against the scalar functions, element by element: the same bits, whatever the launch.
#include "backend/cuda/chain.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "cuda/emulated.h"
#include "kernels/numerics/philox.h"
#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

const StepVars vars{0x123456789abcdef0, 41, 2, 1, 1024, 0.5f};

bool same(float a, float b) { return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b)); }

// A tensor in device memory that begins `shift` elements behind an aligned address.
struct OnDevice {
  OnDevice(Emulated& emu, const Tensor& tensor, int shift) {
    const std::size_t before = static_cast<std::size_t>(shift) * size_of(tensor.type());
    std::vector<unsigned char> bytes(before + tensor.bytes(), 0x5a);
    std::memcpy(bytes.data() + before, tensor.data(), tensor.bytes());
    data = emu.to_device(bytes) + before;
  }
  void* data;
};

// One chain with its tensors.
struct Case {
  Program program;
  Shape shape;
  bool has_sums = false;
  std::vector<Tensor> inputs = {};
  std::vector<DType> types = {};  // of the outputs
  std::vector<int> aliases = {};  // input whose memory the output takes; -1 for its own
  int shift = 0;                  // of all tensors
  DType sums_type = DType::f32;

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
  std::vector<ValueId> input_ids() const { return ids(1, inputs.size()); }
  std::vector<ValueId> output_ids() const { return ids(1 + static_cast<int>(inputs.size()), types.size()); }
  float sum(int64_t i) const {
    const float x = static_cast<float>(std::sin(static_cast<double>(i)) * 3);
    return sums_type == DType::f16 ? f16_to_f32(f32_to_f16(x)) : x;
  }

  // All registers of one element by the scalar functions; returns what output `o` stores.
  float expected(std::size_t o, int64_t element) const {
    std::vector<float> r;
    if (has_sums) r.push_back(sum(element));
    for (const Tensor& input : inputs) {
      const Strides strides = broadcast_strides(input.shape(), shape);
      int64_t rest = element, offset = 0;
      for (int d = shape.rank() - 1; d >= 0; --d) {
        offset += rest % shape[d] * strides[static_cast<std::size_t>(d)];
        rest /= shape[d];
      }
      r.push_back(static_cast<float>(input.get(offset)));
    }
    const auto at = [&](int16_t i) { return r[static_cast<std::size_t>(i)]; };
    for (const ElementwiseStep& s : program.steps) {
      const float b = s.op == Ewise::dropout   ? uniform_of_element(vars, s.stream_id, static_cast<uint64_t>(element))
                      : has_two_operands(s.op) ? at(s.b)
                                               : 0;
      r.push_back(apply(s.op, at(s.a), b, s.p, s.q));
    }
    const float value = program.outputs.empty() ? r[0] : at(program.outputs[o]);
    return types[o] == DType::f16    ? f16_to_f32(f32_to_f16(value))
           : types[o] == DType::bf16 ? bf16_to_f32(f32_to_bf16(value))
                                     : value;
  }

  // Runs in pieces that end at `cuts` and compares every element. The emulation finds accesses beyond the tensors.
  void check(std::vector<int64_t> cuts = {}) const {
    const int64_t n = shape.elements();
    cuts.push_back(n);
    const Graph g = graph();
    REQUIRE(cuda::Chain::supports(g, program, shape, input_ids(), output_ids(), has_sums));
    const cuda::Chain chain(g, program, shape, input_ids(), output_ids(), has_sums,
                            sums_type == DType::f16 ? cuda::Element::f16 : cuda::Element::f32);
    Emulated emu;
    std::vector<Tensor> outputs;
    std::vector<const void*> in;
    std::vector<void*> own_inputs, out;
    for (const Tensor& input : inputs) own_inputs.push_back(OnDevice(emu, input, shift).data);
    in.assign(own_inputs.begin(), own_inputs.end());
    for (std::size_t o = 0; o < types.size(); ++o) {
      outputs.emplace_back(types[o], shape);
      const bool own = aliases.empty() || aliases[o] < 0;
      out.push_back(own ? OnDevice(emu, outputs[o], shift).data : own_inputs[static_cast<std::size_t>(aliases[o])]);
    }
    const StepVars* device_vars = emu.to_device(std::vector<StepVars>{vars});
    int64_t begin = 0;
    for (int64_t end : cuts) {
      if (end == begin) continue;
      void* sums = nullptr;
      if (has_sums) {
        Tensor tensor(sums_type, {end - begin});
        for (int64_t i = begin; i < end; ++i) tensor.set(i - begin, static_cast<double>(sum(i)));
        sums = OnDevice(emu, tensor, shift).data;
      }
      chain.run(emu.stream(), begin, end - begin, sums, in.data(), out.data(), device_vars);
      begin = end;
    }
    emu.synchronize();
    for (std::size_t o = 0; o < types.size(); ++o) {
      const auto* from = static_cast<const unsigned char*>(out[o]);
      const std::vector<unsigned char> bytes = emu.to_host(from, outputs[o].bytes());
      std::memcpy(outputs[o].data(), bytes.data(), bytes.size());
      int64_t wrong = -1;
      for (int64_t i = 0; i < n && wrong < 0; ++i)
        if (!same(static_cast<float>(outputs[o].get(i)), expected(o, i))) wrong = i;
      CAPTURE(o);
      CHECK(wrong == -1);
    }
    for (std::size_t i = 0; aliases.empty() && i < inputs.size(); ++i) {
      const auto* from = static_cast<const unsigned char*>(in[i]);
      const std::vector<unsigned char> bytes = emu.to_host(from, inputs[i].bytes());
      CHECK(std::memcmp(bytes.data(), inputs[i].data(), bytes.size()) == 0);
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
    tensor.set(i, static_cast<double>(i % 7 == 0   ? special[random() % std::size(special)]
                                      : i % 7 == 1 ? float_of(bits)
                                                   : normal(random)));
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

TEST_CASE("cuda chain: every function gives the scalar function's bits") {
  for (int op = 0; op < static_cast<int>(Ewise::count_); ++op) {
    CAPTURE(op);
    const int64_t n = 2051;
    Case c{{2, {step(static_cast<Ewise>(op), 0, 1, 0.25f, 2, 77)}, {2}}, {n}};
    c.inputs = {wild_tensor(n, 1), wild_tensor(n, 2)};
    c.types = {DType::f32};
    c.check();
  }
}

TEST_CASE("cuda chain: storage types, lengths around vectors and blocks, addresses that are aligned to nothing") {
  const DType all[] = {DType::f32, DType::f16, DType::bf16};
  for (int64_t n : {1, 7, 8, 9, 31, 33, 257, 2047, 2049}) {
    CAPTURE(n);
    for (DType type : all) {
      const DType other = type == DType::f16 ? DType::bf16 : DType::f16;
      Case c{typical_program(), {n}};
      c.inputs = {random_tensor(type, {n}, 3), random_tensor(other, {n}, 4), random_tensor(DType::f32, {n}, 5)};
      c.types = {other, type};
      for (int shift : {0, 1, 4}) {
        c.shift = shift;
        c.check();
      }
      c.check({n / 3, n / 2});
    }
  }
}

TEST_CASE("cuda chain: inputs are broadcast as in NumPy") {
  for (const Shape& shape : {Shape{3, 5, 2, 19}, Shape{3, 5, 2, 24}}) {
    const int64_t inner = shape[-1];
    const std::vector<Shape> shapes = {
        {},           {1},          {inner},         {2, inner},   {5, 2, inner},    {3, 5, 2, inner}, {3, 1, 1, 1},
        {3, 5, 1, 1}, {5, 1, 1},    {2, 1},          {3, 1, 2, 1}, {1, 5, 1, inner}, {5, 1, inner},    {3, 1, 1, inner},
        {3, 5, 2, 1}, {1, 1, 1, 1}, {3, 1, 2, inner}};
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
  // Eight dimensions, none of which can be merged.
  Case c{{2, {step(Ewise::mul, 0, 1)}, {2}}, {2, 3, 2, 3, 2, 3, 2, 5}};
  c.inputs = {random_tensor(DType::f32, {2, 1, 2, 1, 2, 1, 2, 1}, 1),
              random_tensor(DType::f16, {1, 3, 1, 3, 1, 3, 1, 5}, 2)};
  c.types = {DType::f16};
  c.check();
}

TEST_CASE("cuda chain: epilogue of sums, with bias and residual, cut anywhere") {
  for (const int64_t columns : {100, 104}) {
    Case c{typical_program(), {21, columns}, true};
    c.inputs = {random_tensor(DType::f16, {columns}, 1), random_tensor(DType::f16, {21, columns}, 2)};
    c.types = {DType::f16, DType::f32};
    c.check();
    c.check({3, 100, 148, 164, 900, 901});
    c.check({columns * 8, columns * 16});
  }
  Case plain{{}, {300}, true};  // an empty program stores the sums
  plain.types = {DType::bf16};
  plain.check({100});
  Case narrow{{2, {step(Ewise::relu_grad, 0, 1)}, {2}}, {33, 31}, true};
  narrow.inputs = {random_tensor(DType::f16, {33, 31}, 2)};
  narrow.types = {DType::f16};
  narrow.sums_type = DType::f16;
  narrow.check({31 * 16});
}

TEST_CASE("cuda chain: an output may take the memory of an input") {
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

TEST_CASE("cuda chain: copies, unread steps and unread inputs") {
  Case c{{3, {step(Ewise::copy, 1), step(Ewise::copy, 3), step(Ewise::exp, 0), step(Ewise::add, 4, 3)}, {4, 6, 6}},
         {130}};
  c.inputs = {random_tensor(DType::f32, {130}, 1), random_tensor(DType::f16, {130}, 2),
              random_tensor(DType::f32, {130}, 3)};
  c.types = {DType::f16, DType::f32, DType::bf16};
  c.check();
}

TEST_CASE("cuda chain: as many registers and tensors as fusion makes") {
  Case c{{8, {}, {}}, {700}};
  for (int i = 0; i < 8; ++i)
    c.inputs.push_back(random_tensor(i % 2 ? DType::f16 : DType::f32, {700}, static_cast<unsigned>(i)));
  // All eight are still wanted when the sums are formed.
  for (int i = 0; i < 8; ++i) c.program.steps.push_back(step(Ewise::scale, i, -1, static_cast<float>(i), 1));
  for (int i = 0; i < 7; ++i) c.program.steps.push_back(step(Ewise::add, i == 0 ? 8 : 15 + i, 9 + i));
  for (int i = 0; i < 8; ++i) c.program.steps.push_back(step(Ewise::sub, i == 0 ? 22 : 22 + i, 15 - i));
  c.program.outputs = {30, 22, 15, 8};
  c.types = {DType::f32, DType::f16, DType::f32, DType::bf16};
  c.check();
  c.aliases = {0, 1, 2, 3};
  c.check();
}

TEST_CASE("cuda chain: dropout draws the same numbers at any place of a huge tensor") {
  // Around element 2^34, where the group's number passes 2^32. The tensor is only addressed, not there.
  const int64_t first = (int64_t{1} << 34) - 37, n = 100;
  Graph graph;
  for (const Shape& shape : {Shape{}, Shape{int64_t{1} << 35}}) {
    Value value;
    value.shape = shape;
    graph.values.push_back(value);
  }
  const Program program{1, {step(Ewise::dropout, 0, -1, 0.5f, 0, 3)}, {1}};
  const cuda::Chain chain(graph, program, graph.shape(2), {1}, {2});
  Emulated emu;
  const float* one = emu.to_device(std::vector<float>{1});
  float* y = emu.allocate<float>(static_cast<std::size_t>(n));
  const StepVars* device_vars = emu.to_device(std::vector<StepVars>{vars});
  const void* in[] = {one};
  void* out[] = {reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(y) - static_cast<uintptr_t>(first) * 4)};
  chain.run(emu.stream(), first, n, nullptr, in, out, device_vars);
  const std::vector<float> result = emu.to_host(y, static_cast<std::size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    REQUIRE(result[static_cast<std::size_t>(i)] ==
            (uniform_of_element(vars, 3, static_cast<uint64_t>(first + i)) < 0.5f ? 0.0f : 2.0f));
}

}  // namespace
}  // namespace mpt::test
