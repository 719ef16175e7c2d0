#include "backend/cpu/norm.h"

#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

struct Setup {
  int64_t rows, n;
  bool rms = false, weight = true, bias = true, residual = false, add = false;
  DType x = DType::f32, y = DType::f32;
  double mean = 0.5;
  // Inputs whose memory the outputs take: of y and sum, of dx.
  int y_alias = -1, sum_alias = -1, dx_alias = -1;
};

constexpr double epsilon = 1e-5;

void check_norm(const Setup& s) {
  const std::string x_name = name_of(s.x), y_name = name_of(s.y);
  CAPTURE(s.rows);
  CAPTURE(s.n);
  CAPTURE(s.rms);
  CAPTURE(s.weight);
  CAPTURE(s.bias);
  CAPTURE(s.residual);
  CAPTURE(s.mean);
  CAPTURE(x_name);
  CAPTURE(y_name);
  const Shape shape{s.rows, s.n}, rows{s.rows}, features{s.n};
  const Tensor x = Tensor(s.x, shape).fill_normal(1, 2, s.mean);
  const Tensor residual = Tensor(s.x, shape).fill_normal(2);
  const Tensor weight = Tensor(DType::f32, features).fill_normal(3, 0.5, 1);
  const Tensor bias = Tensor(DType::f32, features).fill_normal(4);
  Tensor sum = x;
  if (s.residual)
    sum.fill([&](int64_t i) { return static_cast<float>(x.get(i)) + static_cast<float>(residual.get(i)); });

  const auto count = static_cast<std::size_t>(x.count()), lines = static_cast<std::size_t>(s.rows);
  const double n = static_cast<double>(s.n);
  std::vector<double> y(count), y_error(count), mean(lines), mean_error(lines), rstd(lines), rstd_error(lines);
  for (int64_t r = 0; r < s.rows; ++r) {
    double total = 0, magnitude = 0, squares = 0;
    for (int64_t i = 0; i < s.n; ++i) total += sum.get(r * s.n + i);
    for (int64_t i = 0; i < s.n; ++i) magnitude += std::fabs(sum.get(r * s.n + i)) / n;
    mean[r] = s.rms ? 0 : total / n;
    for (int64_t i = 0; i < s.n; ++i) squares += std::pow(sum.get(r * s.n + i) - mean[r], 2);
    rstd[r] = 1 / std::sqrt(squares / n + epsilon);
    // A sum of n numbers and the division: (n + 1) u of the mean magnitude.
    mean_error[r] = s.rms ? 0 : (n + 1) * unit * magnitude;
    // The variance: relatively (n + 4) u from squares and sums; the mean's error counts squared, d^2, and the rounding of
    // x - mean is in the squares. sqrt halves it; epsilon, root and division add 4 u.
    const double variance = squares / n + epsilon;
    rstd_error[r] = rstd[r] * ((n + 12) * unit + mean_error[r] * mean_error[r] / variance);
    for (int64_t i = 0; i < s.n; ++i) {
      const auto e = static_cast<std::size_t>(r * s.n + i);
      const double w = s.weight ? weight.get(i) : 1, b = s.bias ? bias.get(i) : 0;
      const double xhat = (sum.get(static_cast<int64_t>(e)) - mean[r]) * rstd[r];
      y[e] = xhat * w + b;
      y_error[e] = std::fabs(w) * (std::fabs(xhat) * (rstd_error[r] / rstd[r] + 4 * unit) + mean_error[r] * rstd[r]) +
                   2 * unit * (std::fabs(y[e]) + std::fabs(b));
    }
  }
  KernelCase forward(OpKind::norm, NormAttrs{s.rms, epsilon});
  forward.input(x);
  if (s.weight)
    forward.input(weight);
  else
    forward.no_input();
  if (s.bias)
    forward.input(bias);
  else
    forward.no_input();
  if (s.residual)
    forward.input(residual);
  else
    forward.no_input();
  forward.output(s.y, shape, s.y_alias);
  if (s.rms)
    forward.no_output();
  else
    forward.output(DType::f32, rows);
  forward.output(DType::f32, rows);
  if (s.residual)
    forward.output(s.x, shape, s.sum_alias);
  else
    forward.no_output();
  forward.run_all(cpu::make_norm, [&](const std::vector<Tensor>& outputs) {
    check_close(outputs[0], y, y_error);
    if (!s.rms) check_close(outputs[1], mean, mean_error);
    check_close(outputs[2], rstd, rstd_error);
    if (s.residual) CHECK(outputs[3].same_bits(sum));
  });

  // The gradient, from statistics as they are stored.
  const Tensor mean_in = Tensor(DType::f32, rows).fill([&](int64_t r) { return mean[static_cast<std::size_t>(r)]; });
  const Tensor rstd_in = Tensor(DType::f32, rows).fill([&](int64_t r) { return rstd[static_cast<std::size_t>(r)]; });
  const Tensor dy = Tensor(s.y, shape).fill_normal(5), add = Tensor(s.x, shape).fill_normal(6);
  const auto columns = static_cast<std::size_t>(s.n);
  std::vector<double> dx(count), dx_error(count), dweight(columns), dweight_error(columns), dbias(columns),
      dbias_error(columns);
  for (int64_t r = 0; r < s.rows; ++r) {
    const double m = s.rms ? 0 : mean_in.get(r), rs = rstd_in.get(r);
    double sum_g = 0, sum_gx = 0, abs_g = 0, abs_gx = 0;
    const auto g_at = [&](int64_t i) { return dy.get(r * s.n + i) * (s.weight ? weight.get(i) : 1); };
    const auto xhat_at = [&](int64_t i) { return (sum.get(r * s.n + i) - m) * rs; };
    for (int64_t i = 0; i < s.n; ++i) {
      sum_g += s.rms ? 0 : g_at(i) / n;
      abs_g += s.rms ? 0 : std::fabs(g_at(i)) / n;
      sum_gx += g_at(i) * xhat_at(i) / n;
      abs_gx += std::fabs(g_at(i) * xhat_at(i)) / n;
      dweight[i] += dy.get(r * s.n + i) * xhat_at(i);
      dbias[i] += dy.get(r * s.n + i);
      // Each addend errs by 4 u, its addition to the sum by u of what all addends are together.
      dweight_error[i] += (4 + static_cast<double>(s.rows)) * unit * std::fabs(dy.get(r * s.n + i) * xhat_at(i));
      dbias_error[i] += static_cast<double>(s.rows) * unit * std::fabs(dy.get(r * s.n + i));
    }
    for (int64_t i = 0; i < s.n; ++i) {
      const auto e = static_cast<std::size_t>(r * s.n + i);
      const double extra = s.add ? add.get(static_cast<int64_t>(e)) : 0;
      dx[e] = rs * (g_at(i) - sum_g - xhat_at(i) * sum_gx) + extra;
      // Means err by (n + 4) u of their magnitudes, every operation by u of its result.
      dx_error[e] = rs * unit *
                        ((n + 4) * (abs_g + std::fabs(xhat_at(i)) * abs_gx) +
                         6 * (std::fabs(g_at(i)) + std::fabs(sum_g) + std::fabs(xhat_at(i) * sum_gx))) +
                    2 * unit * std::fabs(extra);
    }
  }
  KernelCase backward(OpKind::norm_grad, NormAttrs{s.rms, epsilon});
  backward.input(sum);
  if (s.weight)
    backward.input(weight);
  else
    backward.no_input();
  if (s.rms)
    backward.no_input();
  else
    backward.input(mean_in);
  backward.input(rstd_in);
  backward.input(dy);
  if (s.add)
    backward.input(add);
  else
    backward.no_input();
  backward.output(s.x, shape, s.dx_alias);
  if (s.weight)
    backward.output(DType::f32, features);
  else
    backward.no_output();
  if (s.bias)
    backward.output(DType::f32, features);
  else
    backward.no_output();
  backward.run_all(cpu::make_norm_grad, [&](const std::vector<Tensor>& outputs) {
    check_close(outputs[0], dx, dx_error);
    if (s.weight) check_close(outputs[1], dweight, dweight_error);
    if (s.bias) check_close(outputs[2], dbias, dbias_error);
  });
}

}  // namespace

TEST_CASE("norm: sizes and storage types") {
  for (DType x : float_types)
    for (DType y : float_types) {
      for (int64_t n : {2, 63, 64, 65, 300}) check_norm({.rows = 5, .n = n, .x = x, .y = y});
      check_norm({.rows = 1, .n = 2500, .x = x, .y = y});
      check_norm({.rows = 1100, .n = 24, .x = x, .y = y});
      check_norm({.rows = 40, .n = 1030, .rms = true, .bias = false, .x = x, .y = y});
    }
}

TEST_CASE("norm: with and without weight, bias, residual and added gradient") {
  for (DType type : float_types)
    for (int i = 0; i < 32; ++i) {
      const bool rms = (i & 16) != 0;
      check_norm({.rows = 19,
                  .n = 70,
                  .rms = rms,
                  .weight = (i & 1) != 0,
                  .bias = (i & 2) != 0,
                  .residual = (i & 4) != 0,
                  .add = (i & 8) != 0,
                  .x = type,
                  .y = type});
    }
}

TEST_CASE("norm: in place") {
  for (DType type : float_types) {
    check_norm({.rows = 30, .n = 1100, .x = type, .y = type, .y_alias = 0});
    check_norm({.rows = 30, .n = 1100, .residual = true, .x = type, .y = type, .y_alias = 0, .sum_alias = 3});
    check_norm({.rows = 30, .n = 1100, .residual = true, .x = type, .y = type, .y_alias = 3, .sum_alias = 0});
    for (int alias : {0, 4, 5}) {
      check_norm({.rows = 30, .n = 1100, .add = true, .x = type, .y = type, .dx_alias = alias});
    }
  }
}

TEST_CASE("norm: a mean far from zero costs no accuracy of the variance") {
  // E[x^2] - E[x]^2 in FP32 would be wrong in the first digit here.
  check_norm({.rows = 3, .n = 512, .mean = 4096});
}

TEST_CASE("norm: gradients that nobody wants") {
  for (int wanted = 1; wanted < 8; ++wanted) {
    KernelCase all(OpKind::norm_grad, NormAttrs{}), some(OpKind::norm_grad, NormAttrs{});
    for (KernelCase* c : {&all, &some}) {
      c->input(Tensor(DType::f32, {40, 33}).fill_normal(1));
      c->input(Tensor(DType::f32, {33}).fill_normal(2));
      c->input(Tensor(DType::f32, {40}).fill_normal(3));
      c->input(Tensor(DType::f32, {40}).fill_normal(4));
      c->input(Tensor(DType::f32, {40, 33}).fill_normal(5));
      for (int i = 0; i < 3; ++i) {
        if (c == &all || (wanted >> i & 1) != 0)
          c->output(DType::f32, i == 0 ? Shape{40, 33} : Shape{33});
        else
          c->no_output();
      }
    }
    for (cpu::Isa level : levels()) {
      const auto a = all.run(cpu::make_norm_grad, level, 1), b = some.run(cpu::make_norm_grad, level, 2);
      for (std::size_t i = 0; i < 3; ++i)
        if ((wanted >> i & 1) != 0) CHECK(a[i].same_bits(b[i]));
    }
  }
}

}  // namespace mpt::test
