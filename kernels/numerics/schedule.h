// Learning-rate schedules: a factor as a function of the count of applied updates. docs/formulas.md has the formulas.
#pragma once

#include "kernels/numerics/optimizers.h"
#include "mpt.h"

namespace mpt {

struct ScheduleRule {
  int32_t kind = MPT_SCHEDULE_CONSTANT;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
  double final_factor = 0;
  int64_t step_size = 1000;
  double gamma = 0.1;
  double power = 1;
  const double* table = nullptr;
  int64_t table_length = 0;
};

// cos(pi x) for x in [0, 1], by Taylor series on an eighth of the circle: the same bits everywhere, error below 1e-15.
MPT_HD double cosine_of_half_turns(double x) {
  const bool second = x > 0.5;
  const double y = second ? 1 - x : x;  // cos(pi x) = -cos(pi (1 - x))
  const bool by_sine = y > 0.25;
  const double angle = (by_sine ? 0.5 - y : y) * 3.14159265358979323846;  // cos(pi y) = sin(pi (1/2 - y))
  const double square = angle * angle;
  double sum = 0;
  const int first = by_sine ? 17 : 16;  // the last term: below (pi/4)^18 / 18! = 2e-18
  for (int n = first; n >= 2; n -= 2) sum = (1 + sum) * (-square / (static_cast<double>(n) * (n - 1)));
  const double cosine = (1 + sum) * (by_sine ? angle : 1);
  return second ? -cosine : cosine;
}

// The factor of the update that follows `step` applied ones.
MPT_HD double schedule_factor(const ScheduleRule& rule, int64_t step) {
  if (rule.kind == MPT_SCHEDULE_TABLE) return rule.table[step < rule.table_length ? step : rule.table_length - 1];
  if (step < rule.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(rule.warmup_steps);
  const int64_t since = step - rule.warmup_steps;
  const int64_t length = rule.total_steps - rule.warmup_steps;
  const double progress = since < length ? static_cast<double>(since) / static_cast<double>(length) : 1;
  switch (rule.kind) {
    case MPT_SCHEDULE_LINEAR:
      return 1 + (rule.final_factor - 1) * progress;
    case MPT_SCHEDULE_COSINE:
      return rule.final_factor + (1 - rule.final_factor) * 0.5 * (1 + cosine_of_half_turns(progress));
    case MPT_SCHEDULE_STEP:
      return integer_power(rule.gamma, static_cast<uint64_t>(since / rule.step_size));
    case MPT_SCHEDULE_INVERSE_SQRT: {
      const int64_t w = rule.warmup_steps > 1 ? rule.warmup_steps : 1;
      return square_root_f64(static_cast<double>(w) / static_cast<double>(step > w ? step : w));
    }
    case MPT_SCHEDULE_POLYNOMIAL:
      return rule.final_factor + (1 - rule.final_factor) * __builtin_pow(1 - progress, rule.power);
    default:
      return 1;
  }
}

}  // namespace mpt
