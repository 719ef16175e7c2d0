// Reductions against sums in double: any axes, all storage types, any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.h"
#include "tests/kernels/kernel_case.h"

using namespace mpt;
using test::Tensor;

namespace {

test::KernelCase::Prepare implementation(void (*add)(cpu::Registry&), OpKind kind) {
  cpu::Registry registry;
  add(registry);
  return registry.list(kind)[0].prepare;
}

Shape reduced(const Shape& x, const std::vector<int>& axes) {
  Shape y;
  for (int d = 0; d < x.rank(); ++d)
    if (std::find(axes.begin(), axes.end(), d) == axes.end()) y.push_back(x[d]);
  return y;
}

// Calls f(element of x, element of y) in row-major order of x.
template <typename F>
void each(const Shape& x, const std::vector<int>& axes, F f) {
  for (int64_t i = 0; i < x.elements(); ++i) {
    int64_t rest = i, y = 0, step = 1;
    for (int d = x.rank() - 1; d >= 0; --d) {
      if (std::find(axes.begin(), axes.end(), d) == axes.end()) {
        y += rest % x[d] * step;
        step *= x[d];
      }
      rest /= x[d];
    }
    f(i, y);
  }
}

// A sum of n numbers passes through at most this many additions each: 16 in a column of 1024 elements, then binary trees of
// logarithmic depth; or 16 rows of a group and 8 groups of a band of 128 rows, for each factor 128 of n. Short inner axes
// add at most 128 parts of a band, or 64 groups of 1024 runs, one after another.
double additions(int64_t n) { return 160 + 3 * std::log2(static_cast<double>(n) + 1); }

void check_reduce(const Shape& shape, const std::vector<int>& axes, Reduction reduction, DType x_type, DType y_type) {
  CAPTURE(shape.text());
  CAPTURE(axes.size());
  CAPTURE(static_cast<int>(reduction));
  ReduceAttrs attrs{reduction, axes, false};
  test::KernelCase kernel(OpKind::reduce, attrs);
  Tensor x(x_type, shape);
  x.fill_normal(5, 1, 0.5);
  kernel.input(x);
  const Shape y_shape = reduced(shape, axes);
  kernel.output(y_type, y_shape);
  const auto outputs = static_cast<std::size_t>(y_shape.elements());
  std::vector<double> sum(outputs), size(outputs), largest(outputs, -INFINITY);
  each(shape, axes, [&](int64_t i, int64_t o) {
    const auto at = static_cast<std::size_t>(o);
    sum[at] += x.get(i);
    size[at] += std::fabs(x.get(i));
    largest[at] = std::max(largest[at], x.get(i));
  });
  const int64_t n = shape.elements() / y_shape.elements();
  std::vector<Tensor> first;
  kernel.run_all(implementation(cpu::register_reduce, OpKind::reduce), [&](const std::vector<Tensor>& results) {
    if (first.empty()) first = results;
    CHECK(results[0].same_bits(first[0]));  // the order is that of every level
    for (std::size_t o = 0; o < outputs; ++o) {
      const double found = results[0].get(static_cast<int64_t>(o));
      const double divisor = reduction == Reduction::mean ? static_cast<double>(n) : 1;
      const double expected = reduction == Reduction::max ? largest[o] : sum[o] / divisor;
      const double error = reduction == Reduction::max ? 0 : (additions(n) + 1) * 0x1p-24 * size[o] / divisor;
      if (!test::close(found, expected, y_type, error)) {
        CAPTURE(o);
        CHECK(found == expected);
        return;
      }
    }
  });
}

}  // namespace

TEST_CASE("reduce: axes of every kind") {
  const std::vector<std::pair<Shape, std::vector<int>>> cases = {
      {{7, 33}, {0}},
      {{7, 33}, {1}},
      {{7, 33}, {0, 1}},
      {{5, 6, 7}, {1}},
      {{5, 6, 7}, {0, 2}},
      {{5, 6, 7}, {0, 1}},
      {{5, 6, 7}, {1, 2}},
      {{3, 4, 5, 6}, {1, 3}},
      {{3, 4, 5, 6}, {0, 2}},
      {{3, 1, 5, 1}, {1, 2}},
      {{3, 1, 5, 1}, {1}},
      {{1, 1}, {0}},
      {{300, 3}, {0}},
      {{3, 300}, {1}},
      {{2, 2, 2, 2, 2}, {0, 2, 4}},
      {{257, 600}, {0}},
      {{129, 2, 5}, {0, 1}},
      {{1, 1000}, {1}},
      {{1000, 1}, {1}},
      {{40, 2, 30, 2}, {0, 2}},
      {{3, 1025}, {1}},
      {{9}, {0}},
      {{64, 2, 70}, {0, 2}},
      {{2, 3, 4}, {}},
  };
  for (const auto& [shape, axes] : cases)
    for (Reduction reduction : {Reduction::sum, Reduction::mean, Reduction::max})
      for (DType type : {DType::f32, DType::f16, DType::bf16}) {
        check_reduce(shape, axes, reduction, type, type);
        check_reduce(shape, axes, reduction, type, DType::f32);
      }
}

TEST_CASE("reduce: long sums in pieces") {
  for (Reduction reduction : {Reduction::sum, Reduction::max}) {
    check_reduce({200000}, {0}, reduction, DType::f16, DType::f32);
    check_reduce({2, 140000}, {1}, reduction, DType::f32, DType::f32);
    check_reduce({20000, 7}, {0}, reduction, DType::bf16, DType::f32);       // two passes of bands
    check_reduce({40000, 2, 3}, {0, 2}, reduction, DType::f32, DType::f32);  // runs of three
    check_reduce({1100, 2, 130}, {0, 2}, reduction, DType::f32, DType::f32);
    check_reduce({3, 300, 2, 300}, {1}, reduction, DType::f16, DType::f16);
  }
}

TEST_CASE("reduce: ones are counted exactly where a plain running sum stops at 2^24") {
  // 2^24 + 2^10 ones: every partial sum is an integer below 2^24, or the final one, which is even.
  const int64_t n = (int64_t{1} << 24) + 1024;
  test::KernelCase kernel(OpKind::reduce, ReduceAttrs{Reduction::sum, {0}, false});
  Tensor x(DType::bf16, {n});
  x.fill([](int64_t) { return 1.0; });
  kernel.input(x);
  kernel.output(DType::f32, {});
  const auto results = kernel.run(implementation(cpu::register_reduce, OpKind::reduce), cpu::detected_isa(), 2);
  CHECK(results[0].get(0) == static_cast<double>(n));
}

TEST_CASE("reduce: a NaN is the largest number, and spoils its sum alone") {
  for (const auto& axes : {std::vector<int>{0}, std::vector<int>{1}})
    for (Reduction reduction : {Reduction::sum, Reduction::max}) {
      test::KernelCase kernel(OpKind::reduce, ReduceAttrs{reduction, axes, false});
      Tensor x(DType::f16, {20, 20});
      x.fill_normal(1);
      x.set(5 * 20 + 7, NAN);
      x.set(9 * 20 + 3, INFINITY);
      kernel.input(x);
      kernel.output(DType::f32, {20});
      kernel.run_all(implementation(cpu::register_reduce, OpKind::reduce), [&](const std::vector<Tensor>& results) {
        for (int64_t i = 0; i < 20; ++i) {
          CHECK(std::isnan(results[0].get(i)) == (i == (axes[0] == 0 ? 7 : 5)));
          CHECK(std::isinf(results[0].get(i)) == (i == (axes[0] == 0 ? 3 : 9)));
        }
      });
    }
}

TEST_CASE("reduce_max_grad: the first of equal elements receives the gradient") {
  const std::vector<std::pair<Shape, std::vector<int>>> cases = {
      {{7, 33}, {0}},         {{7, 33}, {1}}, {{5, 6, 7}, {1}}, {{5, 6, 7}, {0, 2}},
      {{3, 4, 5, 6}, {0, 2}}, {{1500}, {0}},  {{9, 700}, {0}},
  };
  for (const auto& [shape, axes] : cases)
    for (DType type : {DType::f32, DType::f16}) {
      CAPTURE(shape.text());
      Tensor x(type, shape);
      x.fill([](int64_t i) { return static_cast<double>(i * 7919 % 5); });  // many equal ones
      const Shape y_shape = reduced(shape, axes);
      Tensor y(type, y_shape), dy(type, y_shape);
      dy.fill_normal(3);
      test::KernelCase kernel(OpKind::reduce_max_grad, ReduceAttrs{Reduction::max, axes, false});
      kernel.input(x);
      kernel.input(y);
      kernel.input(dy);
      kernel.output(DType::f32, shape);
      const auto outputs = static_cast<std::size_t>(y_shape.elements());
      std::vector<int64_t> winner(outputs, -1);
      each(shape, axes, [&](int64_t i, int64_t o) {
        int64_t& best = winner[static_cast<std::size_t>(o)];
        if (best < 0 || x.get(i) > x.get(best)) best = i;
      });
      kernel.run_all(implementation(cpu::register_reduce_max_grad, OpKind::reduce_max_grad),
                     [&](const std::vector<Tensor>& results) {
                       int wrong = 0;
                       each(shape, axes, [&](int64_t i, int64_t o) {
                         wrong += results[0].get(i) != (winner[static_cast<std::size_t>(o)] == i ? dy.get(o) : 0);
                       });
                       CHECK(wrong == 0);
                     });
    }
}
