#include "backend/cpu/softmax.h"

#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

struct Setup {
  Shape shape;
  int axis;
  bool log;
  DType in, out;
  bool in_place = false;
};

// f(elements of one line along the axis, their indices)
template <typename F>
void for_lines(const Shape& shape, int axis, F f) {
  int64_t inner = 1, outer = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  std::vector<int64_t> at(static_cast<std::size_t>(shape[axis]));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t c = 0; c < inner; ++c) {
      for (int64_t i = 0; i < shape[axis]; ++i) at[static_cast<std::size_t>(i)] = (o * shape[axis] + i) * inner + c;
      f(at);
    }
}

void check_softmax(const Setup& s) {
  const std::string shape_text = s.shape.text(), in_name = name_of(s.in), out_name = name_of(s.out);
  CAPTURE(shape_text);
  CAPTURE(s.axis);
  CAPTURE(s.log);
  CAPTURE(in_name);
  CAPTURE(out_name);
  const Tensor x = Tensor(s.in, s.shape).fill_normal(1, 3);
  const auto count = static_cast<std::size_t>(x.count());
  const double n = static_cast<double>(s.shape[s.axis]);
  std::vector<double> y(count), y_error(count), dx(count), dx_error(count);
  for_lines(s.shape, s.axis, [&](const std::vector<int64_t>& at) {
    double top = -INFINITY, sum = 0;
    for (int64_t i : at) top = std::max(top, x.get(i));
    for (int64_t i : at) sum += std::exp(x.get(i) - top);
    for (int64_t i : at) {
      // x - top is rounded once (relative, and exp makes that an error of |x - top| u); exp errs by 2 u, the sum by n u, the
      // reciprocal and the product by u each.
      const double below = top - x.get(i);
      const double relative = (2 * below + n + 8) * unit;
      y[i] = s.log ? -below - std::log(sum) : std::exp(-below) / sum;
      y_error[i] = s.log ? (2 * below + n + 8 + 4 * std::log(sum)) * unit : y[i] * relative + 0x1p-149;
    }
  });
  KernelCase forward(OpKind::softmax, SoftmaxAttrs{s.axis, s.log});
  forward.input(x);
  forward.output(s.out, s.shape, s.in_place ? 0 : -1);
  forward.run_all(cpu::make_softmax, [&](const std::vector<Tensor>& outputs) { check_close(outputs[0], y, y_error); });

  const Tensor stored = Tensor(s.out, s.shape).fill([&](int64_t i) { return y[i]; });
  const Tensor dy = Tensor(s.in, s.shape).fill_normal(2);
  for_lines(s.shape, s.axis, [&](const std::vector<int64_t>& at) {
    double sum = 0, magnitude = 0;
    for (int64_t i : at) {
      sum += (s.log ? 1 : stored.get(i)) * dy.get(i);
      magnitude += std::fabs((s.log ? 1 : stored.get(i)) * dy.get(i));
    }
    for (int64_t i : at) {
      const double p = s.log ? std::exp(stored.get(i)) : stored.get(i);
      dx[i] = s.log ? dy.get(i) - p * sum : p * (dy.get(i) - sum);
      // The sum errs by n u of its magnitude; exp (of an exact number) by 2 u; three operations more.
      dx_error[i] = (p * magnitude * (n + 6) + 3 * (p * std::fabs(dy.get(i)) + std::fabs(dx[i]))) * unit + 0x1p-149;
    }
  });
  for (int alias : {-1, 0, 1}) {
    if (alias >= 0 && (!s.in_place || size_of(s.in) != size_of(s.out))) continue;
    KernelCase backward(OpKind::softmax_grad, SoftmaxAttrs{s.axis, s.log});
    backward.input(stored);
    backward.input(dy);
    backward.output(s.in, s.shape, alias);
    backward.run_all(cpu::make_softmax_grad,
                     [&](const std::vector<Tensor>& outputs) { check_close(outputs[0], dx, dx_error); });
  }
}

}  // namespace

TEST_CASE("softmax: rows") {
  for (bool log : {false, true})
    for (DType type : float_types) {
      for (int64_t n : {1, 3, 63, 64, 65, 200, 1025}) check_softmax({{7, n}, 1, log, type, type});
      check_softmax({{2, 5000}, 1, log, type, type});  // more than is kept between passes
      check_softmax({{300, 130}, 1, log, type, type, true});
      check_softmax({{2, 4500}, 1, log, type, type, true});
    }
}

TEST_CASE("softmax: columns") {
  for (bool log : {false, true})
    for (DType type : float_types) {
      check_softmax({{3, 17, 5}, 1, log, type, type});
      check_softmax({{40, 130}, 0, log, type, type, true});
      check_softmax({{2, 33, 8, 9}, 1, log, type, type});
    }
}

TEST_CASE("softmax: storage types that differ") {
  for (DType in : float_types)
    for (DType out : float_types) {
      check_softmax({{5, 90}, 1, false, in, out, size_of(in) == size_of(out)});
      check_softmax({{5, 9, 70}, 1, true, in, out});
    }
}

TEST_CASE("softmax: large, infinite and undefined inputs") {
  Tensor x = Tensor(DType::f32, {4, 70}).fill([](int64_t i) { return i % 70 == 5 ? 3e38 : -3e38; });
  for (int64_t i = 0; i < 70; ++i) x.set(70 + i, i < 35 ? 1 : -INFINITY);
  x.set(2 * 70 + 66, NAN);
  x.set(3 * 70 + 3, INFINITY);
  KernelCase forward(OpKind::softmax, SoftmaxAttrs{1, false});
  forward.input(x);
  forward.output(DType::f32, {4, 70});
  forward.run_all(cpu::make_softmax, [&](const std::vector<Tensor>& outputs) {
    for (int64_t i = 0; i < 70; ++i) {
      CHECK(outputs[0].get(i) == (i == 5 ? 1 : 0));
      CHECK(outputs[0].get(70 + i) == (i < 35 ? static_cast<double>(1 / 35.0f) : 0));
      CHECK(std::isnan(outputs[0].get(140 + i)));
    }
    CHECK(std::isnan(outputs[0].get(213)));
  });
}

}  // namespace mpt::test
