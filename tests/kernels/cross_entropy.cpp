#include "backend/cpu/cross_entropy.h"

#include "backend/cpu/pair_loss.h"
#include "tests/kernels/kernel_case.h"

namespace mpt::test {
namespace {

struct Setup {
  int64_t rows, classes;
  bool mean = true;
  double smoothing = 0;
  DType logits = DType::f32, dlogits = DType::f32;
  bool in_place = false, ignore_all = false;
  double spread = 3;
};

constexpr int32_t ignored = -100;

void check_cross_entropy(const Setup& s) {
  const std::string logits_name = name_of(s.logits), dlogits_name = name_of(s.dlogits);
  CAPTURE(s.rows);
  CAPTURE(s.classes);
  CAPTURE(s.mean);
  CAPTURE(s.smoothing);
  CAPTURE(logits_name);
  CAPTURE(dlogits_name);
  const Tensor x = Tensor(s.logits, {s.rows, s.classes}).fill_normal(1, s.spread);
  const Tensor labels = Tensor(DType::i32, {s.rows}).fill([&](int64_t r) {
    return s.ignore_all || r % 5 == 3 ? ignored : (r * 7 + 1) % s.classes;
  });
  const double n = static_cast<double>(s.classes);
  const auto lines = static_cast<std::size_t>(s.rows);
  std::vector<double> lse(lines), lse_error(lines);
  double loss = 0, loss_error = 0, counted = 0;
  for (int64_t r = 0; r < s.rows; ++r) {
    double top = -INFINITY, sum = 0, total = 0, magnitude = 0, relative = 0;
    for (int64_t c = 0; c < s.classes; ++c) top = std::max(top, x.get(r * s.classes + c));
    for (int64_t c = 0; c < s.classes; ++c) {
      const double v = x.get(r * s.classes + c), power = std::exp(v - top);
      sum += power;
      total += v;
      magnitude = std::max(magnitude, std::fabs(v));
      relative += power * 2 * (top - v);  // v minus the maximum (so far, then once more) is rounded before exp
    }
    lse[r] = top + std::log(sum);
    // The sum errs relatively by that, exp (2 u) and n u of additions; then log and an addition.
    lse_error[r] = (relative / sum + n + 6 + 2 * std::log(sum) + 2 * std::fabs(lse[r])) * unit;
    const auto label = static_cast<int64_t>(labels.get(r));
    if (label == ignored) continue;
    counted += 1;
    const double here =
        (1 - s.smoothing) * (lse[r] - x.get(r * s.classes + label)) + s.smoothing * (lse[r] - total / n);
    loss += here;
    loss_error += lse_error[r] + 6 * unit * (std::fabs(here) + magnitude) + s.smoothing * (n + 2) * unit * magnitude;
  }
  const double weight = !s.mean ? 1 : counted == 0 ? 0 : 1 / counted;

  KernelCase forward(OpKind::cross_entropy, CrossEntropyAttrs{s.mean, s.smoothing, ignored});
  forward.input(x);
  forward.input(labels);
  forward.output(DType::f32, {});
  forward.output(DType::f32, {s.rows});
  forward.output(DType::f32, {});
  forward.run_all(cpu::make_cross_entropy, [&](const std::vector<Tensor>& outputs) {
    check_close(outputs[0], {loss * weight}, loss_error * weight);
    check_close(outputs[1], lse, lse_error);
    CHECK(outputs[2].get(0) == static_cast<float>(weight));
  });

  const Tensor lse_in = Tensor(DType::f32, {s.rows}).fill([&](int64_t r) { return lse[static_cast<std::size_t>(r)]; });
  const Tensor weight_in = Tensor(DType::f32, {}).fill([&](int64_t) { return weight; });
  const Tensor dloss = Tensor(DType::f32, {}).fill([&](int64_t) { return 1024; });
  std::vector<double> dx(static_cast<std::size_t>(x.count())), dx_error(dx.size());
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t c = 0; c < s.classes; ++c) {
      const auto label = static_cast<int64_t>(labels.get(r));
      if (label == ignored) continue;
      const auto e = static_cast<std::size_t>(r * s.classes + c);
      const double above = x.get(r * s.classes + c) - lse_in.get(r), p = std::exp(above);
      const double target = (c == label ? 1 - s.smoothing : 0) + s.smoothing / n, factor = 1024 * weight_in.get(0);
      dx[e] = factor * (p - target);
      // The difference that goes into exp is rounded, exp errs by 2 u; the parts of the target, two subtractions, two products;
      // exp may be subnormal.
      dx_error[e] = factor * (unit * (p * (std::fabs(above) + 2) + 6 * (p + target)) + 0x1p-149);
    }
  KernelCase backward(OpKind::cross_entropy_grad, CrossEntropyAttrs{s.mean, s.smoothing, ignored});
  backward.input(x);
  backward.input(labels);
  backward.input(lse_in);
  backward.input(weight_in);
  backward.input(dloss);
  backward.output(s.dlogits, x.shape(), s.in_place ? 0 : -1);
  backward.run_all(cpu::make_cross_entropy_grad,
                   [&](const std::vector<Tensor>& outputs) { check_close(outputs[0], dx, dx_error); });
}

double exact_loss(PairLoss loss, double x, double t) {
  if (loss == PairLoss::mse) return (x - t) * (x - t);
  if (loss == PairLoss::l1) return std::fabs(x - t);
  return std::max(x, 0.0) - x * t + std::log1p(std::exp(-std::fabs(x)));
}

double exact_by_x(PairLoss loss, double x, double t) {
  if (loss == PairLoss::mse) return 2 * (x - t);
  if (loss == PairLoss::l1) return x > t ? 1 : x < t ? -1 : 0;
  return 1 / (1 + std::exp(-x)) - t;
}

void check_pair_loss(PairLoss loss, bool mean, DType type, DType target_type, int64_t count, int wanted,
                     bool in_place) {
  const std::string type_name = name_of(type), target_name = name_of(target_type);
  CAPTURE(static_cast<int>(loss));
  CAPTURE(mean);
  CAPTURE(type_name);
  CAPTURE(target_name);
  CAPTURE(count);
  CAPTURE(wanted);
  const Tensor x = Tensor(type, {count}).fill_normal(1, 3);
  const Tensor target = Tensor(target_type, {count}).fill([&](int64_t i) {
    return i % 11 == 0 && loss != PairLoss::bce ? x.get(i) : static_cast<double>(i % 17) / 16;
  });
  const double n = static_cast<double>(count), share = mean ? 1 / n : 1;
  double sum = 0, error = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double a = x.get(i), t = target.get(i), here = exact_loss(loss, a, t);
    sum += here;
    // Operations of an element (log1p 2 u, exp 2 u), and a chain of at most 1024 / 64 + 6 + 64 additions in a block.
    error += unit * ((4 + 86) * here + 8 * (std::fabs(a) + std::fabs(a * t)));
  }
  KernelCase forward(OpKind::pair_loss, PairLossAttrs{loss, mean});
  forward.input(x);
  forward.input(target);
  forward.output(DType::f32, {});
  forward.run_all(cpu::make_pair_loss,
                  [&](const std::vector<Tensor>& outputs) { check_close(outputs[0], {sum * share}, error * share); });

  const double factor = 512 * share;
  std::vector<double> dx, dt, dx_error, dt_error;
  for (int64_t i = 0; i < count; ++i) {
    const double a = x.get(i), t = target.get(i);
    dx.push_back(factor * exact_by_x(loss, a, t));
    dt.push_back(loss == PairLoss::bce ? -factor * a : -dx.back());
    dx_error.push_back(factor * unit *
                       (4 * std::fabs(exact_by_x(loss, a, t)) + (loss == PairLoss::bce ? 6 * (1 + t) : 0)));
    dt_error.push_back(loss == PairLoss::bce ? 2 * unit * std::fabs(dt.back()) : dx_error.back());
  }
  KernelCase backward(OpKind::pair_loss_grad, PairLossAttrs{loss, mean});
  backward.input(x);
  backward.input(target);
  backward.input(Tensor(DType::f32, {}).fill([](int64_t) { return 512; }));
  if ((wanted & 1) != 0)
    backward.output(type, {count}, in_place ? 0 : -1);
  else
    backward.no_output();
  if ((wanted & 2) != 0)
    backward.output(target_type, {count}, in_place ? 1 : -1);
  else
    backward.no_output();
  backward.run_all(cpu::make_pair_loss_grad, [&](const std::vector<Tensor>& outputs) {
    if ((wanted & 1) != 0) check_close(outputs[0], dx, dx_error);
    if ((wanted & 2) != 0) check_close(outputs[1], dt, dt_error);
  });
}

}  // namespace

TEST_CASE("cross-entropy: sizes, storage types, reductions and smoothing") {
  for (DType type : float_types) {
    for (int64_t classes : {1, 2, 10, 64, 257, 3000})
      for (double smoothing : {0.0, 0.1}) {
        check_cross_entropy({.rows = 13, .classes = classes, .smoothing = smoothing, .logits = type, .dlogits = type});
        check_cross_entropy({.rows = 7,
                             .classes = classes,
                             .mean = false,
                             .smoothing = smoothing,
                             .logits = type,
                             .dlogits = DType::f32});
      }
    check_cross_entropy({.rows = 300, .classes = 256, .logits = type, .dlogits = type, .in_place = true});
    check_cross_entropy(
        {.rows = 3, .classes = 2100, .smoothing = 0.2, .logits = type, .dlogits = type, .in_place = true});
    check_cross_entropy({.rows = 9, .classes = 2100, .logits = type, .dlogits = type, .spread = 1000});
  }
}

TEST_CASE("cross-entropy: all rows ignored") {
  for (bool mean : {false, true}) check_cross_entropy({.rows = 6, .classes = 30, .mean = mean, .ignore_all = true});
}

TEST_CASE("cross-entropy: a label that is no class reads nothing outside and gives NaN") {
  for (int32_t label : {-1, 30, INT32_MAX, INT32_MIN}) {
    CAPTURE(label);
    const Tensor x = Tensor(DType::f32, {2, 30}).fill_normal(1);
    const Tensor labels = Tensor(DType::i32, {2}).fill([&](int64_t r) { return r == 0 ? label : 3; });
    KernelCase forward(OpKind::cross_entropy, CrossEntropyAttrs{});
    forward.input(x);
    forward.input(labels);
    forward.output(DType::f32, {});
    forward.output(DType::f32, {2});
    forward.output(DType::f32, {});
    std::vector<Tensor> stored;
    forward.run_all(cpu::make_cross_entropy, [&](const std::vector<Tensor>& outputs) {
      CHECK(std::isnan(outputs[0].get(0)));
      stored = outputs;
    });
    KernelCase backward(OpKind::cross_entropy_grad, CrossEntropyAttrs{});
    backward.input(x);
    backward.input(labels);
    backward.input(stored[1]);
    backward.input(stored[2]);
    backward.input(Tensor(DType::f32, {}).fill([](int64_t) { return 1; }));
    backward.output(DType::f32, {2, 30});
    backward.run_all(cpu::make_cross_entropy_grad, [&](const std::vector<Tensor>& outputs) {
      CHECK(std::isnan(outputs[0].get(0)));
      CHECK(std::isfinite(outputs[0].get(30)));
    });
  }
}

TEST_CASE("cross-entropy: logits of minus infinity") {
  // The first block holds nothing else; class 1500 is what is left beside the label.
  const Tensor x = Tensor(DType::f32, {1, 2048}).fill([](int64_t i) { return i == 1200 || i == 1500 ? 2 : -INFINITY; });
  KernelCase forward(OpKind::cross_entropy, CrossEntropyAttrs{});
  forward.input(x);
  forward.input(Tensor(DType::i32, {1}).fill([](int64_t) { return 1200; }));
  forward.output(DType::f32, {});
  forward.output(DType::f32, {1});
  forward.output(DType::f32, {});
  forward.run_all(cpu::make_cross_entropy, [&](const std::vector<Tensor>& outputs) {
    check_close(outputs[0], {std::log(2.0)}, 4 * unit);
    check_close(outputs[1], {2 + std::log(2.0)}, 4 * unit);
  });
}

TEST_CASE("pair losses: storage types, reductions, wanted gradients, in place") {
  for (PairLoss loss : {PairLoss::mse, PairLoss::l1, PairLoss::bce})
    for (DType type : float_types) {
      for (int64_t count : {1, 63, 1000, 40000}) check_pair_loss(loss, true, type, type, count, 3, false);
      check_pair_loss(loss, false, type, DType::f32, 200, 3, false);
      check_pair_loss(loss, true, DType::f32, type, 200, 3, false);
      for (int wanted : {1, 2}) check_pair_loss(loss, true, type, type, 2100, wanted, true);
    }
}

}  // namespace mpt::test
