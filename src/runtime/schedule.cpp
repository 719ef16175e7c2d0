#include "runtime/schedule.h"

#include <cmath>

#include "core/error.h"

namespace mpt {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

}  // namespace

Schedule::Schedule(const mpt_schedule_options& options, const char* who) {
  const int32_t kind = options.kind;
  MPT_CHECK_ARGUMENT(kind >= MPT_SCHEDULE_CONSTANT && kind <= MPT_SCHEDULE_TABLE,
                     "%s: schedule kind: found %d, expected MPT_SCHEDULE_CONSTANT to MPT_SCHEDULE_TABLE", who, kind);
  MPT_CHECK_ARGUMENT(options.warmup_steps >= 0, "%s: warmup_steps: found %lld, expected 0 or more", who,
                     wide(options.warmup_steps));
  const bool ends = kind == MPT_SCHEDULE_LINEAR || kind == MPT_SCHEDULE_COSINE || kind == MPT_SCHEDULE_POLYNOMIAL;
  if (ends) {
    MPT_CHECK_ARGUMENT(options.total_steps >= 1 && options.total_steps > options.warmup_steps,
                       "%s: total_steps: found %lld, expected at least 1 and more than the %lld warmup_steps in it",
                       who, wide(options.total_steps), wide(options.warmup_steps));
    MPT_CHECK_ARGUMENT(std::isfinite(options.final_factor) && options.final_factor >= 0,
                       "%s: final_factor: found %g, expected a finite number of 0 or more", who, options.final_factor);
  }
  if (kind == MPT_SCHEDULE_STEP) {
    MPT_CHECK_ARGUMENT(options.step_size >= 1, "%s: step_size: found %lld, expected 1 or more", who,
                       wide(options.step_size));
    MPT_CHECK_ARGUMENT(std::isfinite(options.gamma) && options.gamma >= 0,
                       "%s: gamma: found %g, expected a finite number of 0 or more", who, options.gamma);
  }
  if (kind == MPT_SCHEDULE_POLYNOMIAL)
    MPT_CHECK_ARGUMENT(std::isfinite(options.power) && options.power > 0,
                       "%s: power: found %g, expected a finite number above 0", who, options.power);
  if (kind == MPT_SCHEDULE_TABLE) {
    MPT_CHECK_ARGUMENT(options.table != nullptr && options.table_length >= 1,
                       "%s: table: found %s with table_length %lld, expected at least one number", who,
                       options.table != nullptr ? "a table" : "NULL", wide(options.table_length));
    MPT_CHECK_ARGUMENT(options.warmup_steps == 0,
                       "%s: warmup_steps: found %lld, expected 0: a table holds its own warm-up", who,
                       wide(options.warmup_steps));
    table_.assign(options.table, options.table + options.table_length);
    for (std::size_t i = 0; i < table_.size(); ++i)
      MPT_CHECK_ARGUMENT(std::isfinite(table_[i]) && table_[i] >= 0,
                         "%s: table[%zu]: found %g, expected a finite number of 0 or more", who, i, table_[i]);
  }
  rule_.kind = kind;
  rule_.warmup_steps = options.warmup_steps;
  rule_.total_steps = options.total_steps;
  rule_.final_factor = options.final_factor;
  rule_.step_size = options.step_size;
  rule_.gamma = options.gamma;
  rule_.power = options.power;
  rule_.table_length = static_cast<int64_t>(table_.size());
}

double Schedule::factor(uint64_t step) const { return schedule_factor(rule(), static_cast<int64_t>(step)); }

}  // namespace mpt
