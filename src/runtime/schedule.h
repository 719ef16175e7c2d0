// A learning-rate schedule: kernels/numerics/schedule.h behind checked options and with a table of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/numerics/schedule.h"

namespace mpt {

class Schedule {
 public:
  Schedule() = default;  // constant
  // Throws INVALID_ARGUMENT for unknown kinds and numbers that make no schedule; `who` begins the message. Copies the
  // table.
  Schedule(const mpt_schedule_options& options, const char* who);

  // The factor after `step` applied updates.
  double factor(uint64_t step) const;
  // Its table is this object's.
  ScheduleRule rule() const {
    ScheduleRule rule = rule_;
    rule.table = table_.data();
    return rule;
  }

 private:
  ScheduleRule rule_;
  std::vector<double> table_;
};

}  // namespace mpt
