// Schedules and name patterns at their edges; tests/known_answers/optimizers.cpp compares whole curves with optax.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "runtime/pattern.h"
#include "runtime/schedule.h"

using namespace mpt;

namespace {

mpt_schedule_options options(int32_t kind) {
  mpt_schedule_options o{};
  o.kind = kind;
  o.total_steps = 10;
  o.step_size = 3;
  o.gamma = 0.5;
  o.power = 1;
  return o;
}

bool refused(const mpt_schedule_options& o) {
  try {
    Schedule schedule(o, "test");
  } catch (const Error& e) {
    return e.status() == MPT_ERROR_INVALID_ARGUMENT;
  }
  return false;
}

}  // namespace

TEST_CASE("a schedule stays at its final factor") {
  for (const int32_t kind : {MPT_SCHEDULE_LINEAR, MPT_SCHEDULE_COSINE, MPT_SCHEDULE_POLYNOMIAL}) {
    mpt_schedule_options o = options(kind);
    o.final_factor = 0.25;
    const Schedule schedule(o, "test");
    CHECK(schedule.factor(0) == 1);
    CHECK(schedule.factor(10) == doctest::Approx(0.25).epsilon(1e-15));
    CHECK(schedule.factor(1u << 30) == schedule.factor(10));
  }
}

TEST_CASE("the warm-up begins at 1/n, ends at 1 and is counted in total_steps") {
  mpt_schedule_options o = options(MPT_SCHEDULE_LINEAR);
  o.warmup_steps = 4;
  const Schedule schedule(o, "test");
  CHECK(schedule.factor(0) == 0.25);
  CHECK(schedule.factor(3) == 1);
  CHECK(schedule.factor(4) == 1);
  CHECK(schedule.factor(7) == 0.5);
  CHECK(schedule.factor(10) == 0);
}

TEST_CASE("the cosine is accurate on the whole half circle") {
  for (int i = 0; i <= 1000; ++i) {
    const double x = i / 1000.0;
    CHECK(std::fabs(cosine_of_half_turns(x) - std::cos(M_PI * x)) < 1e-15);
  }
}

TEST_CASE("a schedule keeps its own table and can be copied") {
  Schedule copy;
  {
    double table[] = {1, 0.5, 0.125};
    mpt_schedule_options o = options(MPT_SCHEDULE_TABLE);
    o.table = table;
    o.table_length = 3;
    const Schedule schedule(o, "test");
    copy = schedule;
    table[1] = 7;
  }
  CHECK(copy.factor(1) == 0.5);
  CHECK(copy.factor(99) == 0.125);
}

TEST_CASE("numbers that make no schedule are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(refused(options(-1)));
  CHECK(refused(options(MPT_SCHEDULE_TABLE + 1)));
  CHECK(refused(options(MPT_SCHEDULE_TABLE)));  // without a table
  mpt_schedule_options o = options(MPT_SCHEDULE_LINEAR);
  o.total_steps = 0;
  CHECK(refused(o));
  o.total_steps = o.warmup_steps = 5;
  CHECK(refused(o));
  o = options(MPT_SCHEDULE_COSINE);
  o.final_factor = nan;
  CHECK(refused(o));
  o = options(MPT_SCHEDULE_STEP);
  o.step_size = 0;
  CHECK(refused(o));
  o = options(MPT_SCHEDULE_STEP);
  o.gamma = nan;
  CHECK(refused(o));
  o = options(MPT_SCHEDULE_POLYNOMIAL);
  o.power = -1;
  CHECK(refused(o));
  o = options(MPT_SCHEDULE_CONSTANT);
  o.warmup_steps = -1;
  CHECK(refused(o));
  const double table[] = {1, nan};
  o = options(MPT_SCHEDULE_TABLE);
  o.table = table;
  o.table_length = 2;
  CHECK(refused(o));
}

TEST_CASE("patterns: * is any text, ? one character") {
  CHECK(matches_pattern("*", ""));
  CHECK(matches_pattern("*.bias", "fc1.bias"));
  CHECK_FALSE(matches_pattern("*.bias", "fc1.bias2"));
  CHECK(matches_pattern("h?.*.weight", "h3.mlp.fc.weight"));
  CHECK_FALSE(matches_pattern("h?.*.weight", "h12.mlp.weight"));
  CHECK(matches_pattern("*a*b*c", "xaybzabc"));
  CHECK_FALSE(matches_pattern("*a*b*c", "xaybzab"));
  CHECK(matches_pattern("?", "\xc3\xa4"));  // one character of two bytes
  CHECK_FALSE(matches_pattern("", "a"));
  CHECK(matches_pattern("", ""));
}
