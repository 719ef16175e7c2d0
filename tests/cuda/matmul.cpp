// The parts of the CUDA backend's matrix multiply: products of our own and the library's, cut into parts; which
// epilogues go to the library. Whole nodes are in tests/ops/matmul.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "backend/cuda/backend.h"
#include "backend/cuda/matmul_epilogue.h"
#include "backend/cuda/matmul_product.h"
#include "cuda/emulated.h"
#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

Tensor random_tensor(DType type, Shape shape, unsigned seed) {
  Tensor tensor(type, shape);
  tensor.fill_normal(seed, 1);
  return tensor;
}

struct Product {
  Graph graph;
  Node node;

  ValueId add(DType type, const Shape& shape) {
    Value value;
    value.dtype = type;
    value.shape = shape;
    graph.values.push_back(value);
    return static_cast<ValueId>(graph.values.size()) - 1;
  }
  Product(DType a, const Shape& a_shape, DType b, const Shape& b_shape, DType d, const Shape& d_shape, bool ta, bool tb,
          Program epilogue = {}) {
    node.kind = OpKind::matmul;
    node.name = "product";
    node.attrs = MatmulAttrs{ta, tb, std::move(epilogue)};
    node.inputs = {add(a, a_shape), add(b, b_shape)};
    node.outputs = {add(d, d_shape)};
  }
};

// One batch of matrices, and the product of every part into memory of its own.
struct ProductCase {
  Shape a, b, d;
  bool ta, tb;
  DType type_a, type_b, type_d;

  void check(bool by_library, int64_t elements) const {
    Product p(type_a, a, type_b, b, type_d, d, ta, tb);
    const cuda::ProductShape shape(p.graph, p.node);
    Emulated emu;
    const std::vector<cuda::Part> parts = cuda::parts_of(shape, elements);
    const std::unique_ptr<cuda::Product> product =
        by_library ? cuda::library_product(emu.blas(), shape, type_d, parts) : cuda::own_product(shape, type_d);
    REQUIRE(product);
    const Tensor x = random_tensor(type_a, a, 1), y = random_tensor(type_b, b, 2);
    Tensor result(type_d, d);
    const auto device_copy = [&](const Tensor& t) {
      const auto* bytes = static_cast<const unsigned char*>(t.data());
      return emu.to_device(std::vector<unsigned char>(bytes, bytes + t.bytes()));
    };
    const unsigned char *device_x = device_copy(x), *device_y = device_copy(y);
    auto* workspace = emu.allocate<unsigned char>(static_cast<std::size_t>(product->workspace_bytes()) + 1);
    int64_t next = 0;
    for (const cuda::Part& part : parts) {
      const int64_t first = (part.item * shape.m + part.row) * shape.n, count = part.items * part.rows * shape.n;
      CHECK(first == next);
      CHECK((count <= elements || part.rows == 1));
      next = first + count;
      auto* out = emu.allocate<unsigned char>(static_cast<std::size_t>(count) * size_of(type_d));
      product->run(emu.stream(), part, device_x, device_y, out, workspace);
      const auto bytes = emu.to_host(out, static_cast<std::size_t>(count) * size_of(type_d));
      std::memcpy(static_cast<unsigned char*>(result.data()) + static_cast<std::size_t>(first) * size_of(type_d),
                  bytes.data(), bytes.size());
    }
    CHECK(next == result.count());
    compare(x, y, result);
  }

 private:
  // k products and sums of FP32, in any order: k units of the sum of magnitudes.
  void compare(const Tensor& x, const Tensor& y, const Tensor& result) const {
    const int64_t m = d[-2], n = d[-1], k = ta ? a[-2] : a[-1];
    const Shape batch(d.rank() - 2, d.begin());
    const Strides sa = broadcast_strides(Shape(a.rank() - 2, a.begin()), batch);
    const Strides sb = broadcast_strides(Shape(b.rank() - 2, b.begin()), batch);
    std::vector<double> exact, error;
    for (int64_t item = 0; item < batch.elements(); ++item) {
      int64_t rest = item, ia = 0, ib = 0;
      for (int axis = batch.rank() - 1; axis >= 0; --axis) {
        ia += rest % batch[axis] * sa[static_cast<std::size_t>(axis)];
        ib += rest % batch[axis] * sb[static_cast<std::size_t>(axis)];
        rest /= batch[axis];
      }
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0, magnitude = 0;
          for (int64_t l = 0; l < k; ++l) {
            const double term =
                x.get(ia * m * k + (ta ? l * m + i : i * k + l)) * y.get(ib * k * n + (tb ? j * k + l : l * n + j));
            sum += term;
            magnitude += std::fabs(term);
          }
          exact.push_back(sum);
          error.push_back(unit * static_cast<double>(k) * magnitude);
        }
      }
    }
    check_close(result, exact, error);
  }
};

TEST_CASE("cuda matmul: our own product, any mixture of types") {
  const int64_t sizes[][3] = {{1, 1, 1},    {31, 33, 1},  {257, 1, 33}, {1, 257, 100},
                              {3, 70, 300}, {64, 64, 16}, {65, 63, 17}, {130, 129, 48}};
  const DType types[][3] = {{DType::f32, DType::f32, DType::f32},
                            {DType::f16, DType::f32, DType::f32},
                            {DType::f32, DType::bf16, DType::f16},
                            {DType::f16, DType::bf16, DType::bf16}};
  int turn = 0;
  for (const auto& [m, n, k] : sizes) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        const auto& t = types[turn++ % 4];
        const ProductCase c{
            ta ? Shape{k, m} : Shape{m, k}, tb ? Shape{n, k} : Shape{k, n}, {m, n}, ta, tb, t[0], t[1], t[2]};
        CAPTURE(c.d.text());
        CAPTURE(k);
        c.check(false, 1 << 20);
        c.check(false, 50);
      }
    }
  }
}

TEST_CASE("cuda matmul: batches, broadcast with and without one stride") {
  struct Batch {
    Shape a, b, d;
    bool ta, tb;
    bool library;
  };
  const Batch batches[] = {{{3, 5, 7}, {3, 7, 9}, {3, 5, 9}, false, false, true},
                           {{3, 5, 7}, {7, 9}, {3, 5, 9}, false, false, true},  // rows of one product
                           {{3, 7, 5}, {7, 9}, {3, 5, 9}, true, false, true},   // a stride of 0
                           {{5, 7}, {4, 9, 7}, {4, 5, 9}, false, true, true},
                           {{2, 3, 5, 7}, {2, 1, 7, 9}, {2, 3, 5, 9}, false, false, true},  // the inner axis is rows
                           {{2, 3, 7, 5}, {2, 1, 7, 9}, {2, 3, 5, 9}, true, false, false},
                           {{2, 1, 5, 7}, {3, 7, 2}, {2, 3, 5, 2}, false, false, false},
                           {{2, 1, 3, 1, 5, 7}, {1, 2, 1, 4, 7, 2}, {2, 2, 3, 4, 5, 2}, false, false, false},
                           {{20, 6, 8}, {20, 8, 4}, {20, 6, 4}, false, false, true}};
  for (const Batch& b : batches) {
    CAPTURE(b.a.text());
    CAPTURE(b.b.text());
    for (DType type : {DType::f32, DType::f16}) {
      const ProductCase c{b.a, b.b, b.d, b.ta, b.tb, type, type, DType::f32};
      for (int64_t elements : {1 << 20, 200, 20, 1}) {
        c.check(false, elements);
        if (b.library) c.check(true, elements);
      }
    }
    Product p(DType::f16, b.a, DType::f16, b.b, DType::f16, b.d, b.ta, b.tb);
    CHECK(cuda::library_takes(cuda::ProductShape(p.graph, p.node), DType::f16) == b.library);
  }
}

// ---- which implementation takes what

constexpr DType h = DType::f16, f = DType::f32;

struct Chosen {
  std::string name;
  bool scratch;
};

Chosen chosen(const Program& program, const std::vector<std::pair<DType, Shape>>& inputs, std::vector<DType> outputs,
              int64_t n = 16, DType operands = h) {
  Product p(operands, {24, 40}, operands, {n, 40}, outputs[0], {24, n}, false, true, program);
  for (const auto& [type, shape] : inputs) p.node.inputs.push_back(p.add(type, shape));
  for (std::size_t o = 1; o < outputs.size(); ++o) p.node.outputs.push_back(p.add(outputs[o], {24, n}));
  const std::unique_ptr<Backend> backend = cuda::make_backend(cuda::make_emulation());
  const std::unique_ptr<Kernel> kernel = backend->prepare(p.graph, p.node);
  return {kernel->implementation(), kernel->scratch_bytes() > 0};
}

TEST_CASE("cuda matmul: epilogues that the library has go to it") {
  const std::pair<DType, Shape> row{h, {16}}, row32{f, {16}}, whole{h, {24, 16}}, column{h, {24, 1}};
  const Program bias{2, {{Ewise::add, 0, 1}}, {2}};
  CHECK(chosen({}, {}, {h}).name == "cublasLt");
  CHECK(chosen({1, {}, {0}}, {}, {f}).name == "cublasLt");
  CHECK(chosen(bias, {row}, {h}).name == "cublasLt.bias");
  CHECK(chosen({2, {{Ewise::add, 1, 0}}, {2}}, {row}, {h}).name == "cublasLt.bias");
  CHECK(chosen(bias, {row32}, {h}).name == "cublasLt+chain");  // of another type than the result
  CHECK(chosen(bias, {column}, {h}).name == "cublasLt+chain");
  CHECK(chosen(bias, {whole}, {h}).name == "cublasLt.residual");
  CHECK(chosen({3, {{Ewise::add, 0, 1}, {Ewise::add, 2, 3}}, {4}}, {row, whole}, {h}).name == "cublasLt.bias_residual");
  CHECK(chosen({2, {{Ewise::add, 0, 1}, {Ewise::relu, 2}}, {3}}, {row}, {h}).name == "cublasLt.relu");
  CHECK(chosen({2, {{Ewise::add, 0, 1}, {Ewise::relu, 2}}, {2, 3}}, {row}, {h, h}).name == "cublasLt+chain");
  const Program gelu{2, {{Ewise::add, 0, 1}, {Ewise::gelu_tanh, 2}}, {2, 3}};
  CHECK(chosen(gelu, {row}, {h, h}).name == "cublasLt.gelu_aux");
  CHECK(chosen(gelu, {{h, {20}}}, {h, h}, 20).name ==
        "cublasLt+chain");  // rows of the stored input are no multiple of 8
  CHECK(chosen(gelu, {row32}, {f, f}, 16, f).name == "cublasLt+chain");  // FP32 wants a precise GELU
  CHECK(chosen({2, {{Ewise::gelu_tanh_grad, 0, 1}}, {2}}, {whole}, {h}).name == "cublasLt.gelu_grad");
  CHECK(chosen({2, {{Ewise::gelu_tanh_grad, 1, 0}}, {2}}, {whole}, {h}).name == "cublasLt+chain");
  CHECK(chosen({2, {{Ewise::mul, 0, 1}}, {2}}, {whole}, {h}).name == "cublasLt+chain");
  CHECK(chosen({1, {{Ewise::scale, 0, -1, 2, 0}}, {1}}, {}, {h}).scratch);
}

TEST_CASE("cuda matmul: what only chooses commutes with rounding") {
  const auto commutes = [](const Program& program, DType d) {
    Product p(h, {24, 40}, h, {16, 40}, d, {24, 16}, false, true, program);
    p.node.inputs.push_back(p.add(h, {24, 16}));
    return cuda::commutes_with_rounding(p.graph, p.node);
  };
  CHECK(commutes({2, {{Ewise::relu_grad, 0, 1}}, {2}}, h));
  CHECK(!commutes({2, {{Ewise::relu_grad, 0, 1}}, {2}}, f));
  CHECK(!commutes({2, {{Ewise::relu_grad, 1, 0}}, {2}}, h));
  CHECK(!commutes({2, {{Ewise::relu, 0}}, {2}}, h));
  CHECK(!commutes({2, {{Ewise::relu_grad, 0, 1}, {Ewise::add, 2, 1}}, {3}}, h));
}

}  // namespace
}  // namespace mpt::test
