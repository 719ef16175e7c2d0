// The scalar functions of kernels/numerics give the same bits in kernels as in the CPU backend's loops for its
// instruction set.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "backend/backend.h"
#include "cuda/emulated.h"
#include "kernels/element.h"
#include "kernels/launch.h"
#include "kernels/numerics/elementwise.h"

namespace mpt::test {
namespace {

using namespace mpt::cuda;

__global__ void apply_to_all(void* y, Element y_type, const float* a, const float* b, Ewise op, float p, float q,
                             int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) store_element(y, y_type, i, apply(op, a[i], b[i], p, q));
}

constexpr int64_t n = 1 << 14;

// Every exponent, special numbers, and many of ordinary size.
std::vector<float> numbers(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto bits = static_cast<uint32_t>(random());
    x[i] = i % 2 == 0 ? float_of(bits) : static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-28f;
  }
  const float special[] = {0.0f,  -0.0f,    INFINITY, -INFINITY, NAN,       1.0f,
                           -1.0f, 65504.0f, 65520.0f, 0x1p-24f,  0x1p-149f, 0.25f};
  for (std::size_t i = 0; i < std::size(special); ++i)
    for (std::size_t j = 0; j < std::size(special); ++j) x[i * std::size(special) + j] = special[seed % 2 ? i : j];
  return x;
}

std::vector<unsigned char> on_cpu(Ewise op, DType type, float p, float q, const std::vector<float>& a,
                                  const std::vector<float>& b) {
  Graph graph;
  for (DType t : {DType::f32, DType::f32, type}) {
    Value value;
    value.dtype = t;
    value.shape = {n};
    graph.values.push_back(value);
  }
  const bool two = has_two_operands(op);
  Node node;
  node.kind = OpKind::elementwise;
  node.name = "function";
  const auto two_registers = static_cast<int16_t>(two ? 1 : -1);
  node.attrs = ElementwiseAttrs{
      Program{two ? 2 : 1, {{op, 0, two_registers, p, q, 0}}, {static_cast<int16_t>(two ? 2 : 1)}}, {n}};
  node.inputs = two ? std::vector<ValueId>{1, 2} : std::vector<ValueId>{1};
  node.outputs = {3};
  BackendOptions options;
  options.threads = 1;
  const std::unique_ptr<Backend> backend = make_cpu_backend(options);
  const std::unique_ptr<Kernel> kernel = backend->prepare(graph, node);
  std::vector<unsigned char> y(n * size_of(type));
  struct Call {
    const Kernel& kernel;
    const void* inputs[2];
    void* outputs[1];
    StepVars vars;
  } call{*kernel, {a.data(), b.data()}, {y.data()}, {}};
  backend->execute(
      [](void* pointer) {
        auto* c = static_cast<Call*>(pointer);
        c->kernel.run({c->inputs, c->outputs, nullptr, &c->vars});
      },
      &call);
  return y;
}

bool is_nan(const unsigned char* at, DType type) {
  uint32_t bits = 0;
  std::memcpy(&bits, at, size_of(type));
  return type == DType::f32   ? (bits & 0x7fffffffu) > 0x7f800000u
         : type == DType::f16 ? (bits & 0x7fffu) > 0x7c00u
                              : (bits & 0x7fffu) > 0x7f80u;
}

TEST_CASE("numerics: every element-wise function has the CPU's bits, in every storage type") {
  Emulated emu;
  const std::vector<float> a = numbers(1), b = numbers(2);
  const float *a_device = emu.to_device(a), *b_device = emu.to_device(b);
  unsigned char* y_device = emu.allocate<unsigned char>(n * sizeof(float));
  const float p = 0.25f, q = 1.75f;
  for (int e = 0; e < static_cast<int>(Ewise::count_); ++e) {
    const Ewise op = static_cast<Ewise>(e);
    if (op == Ewise::dropout) continue;  // its second operand is a random number: the op tables have it
    for (const auto& [type, element] :
         {std::pair{DType::f32, Element::f32}, {DType::f16, Element::f16}, {DType::bf16, Element::bf16}}) {
      launch(apply_to_all, dim3(blocks_for(n, 256)), dim3(256), 0, emu.stream(), y_device, element, a_device, b_device,
             op, p, q, n);
      const std::vector<unsigned char> found = emu.to_host(y_device, n * size_of(type));
      const std::vector<unsigned char> expected = on_cpu(op, type, p, q, a, b);
      const std::size_t size = size_of(type);
      int64_t differ = 0;
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        const unsigned char *f = &found[i * size], *x = &expected[i * size];
        if (is_nan(f, type) && is_nan(x, type)) continue;  // which NaN is nobody's promise
        if (std::memcmp(f, x, size) != 0 && ++differ == 1)
          FAIL_CHECK(std::string(name_of(op))
                     << " of " << a[i] << ", " << b[i] << " in " << std::string(mpt::name_of(type)));
      }
      CHECK(differ == 0);
    }
  }
}

}  // namespace
}  // namespace mpt::test
