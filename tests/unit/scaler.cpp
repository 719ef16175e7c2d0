// The loss scaler's automaton.
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>

#include "core/error.h"
#include "runtime/scaler.h"

using namespace mpt;

namespace {

mpt_scaler_options defaults() {
  mpt_scaler_options o{};
  o.mode = MPT_SCALER_DYNAMIC;
  o.initial_scale = 65536;
  o.growth_factor = 2;
  o.backoff_factor = 0.5;
  o.growth_interval = 2000;
  o.hysteresis = 1;
  o.min_scale = 1;
  o.max_scale = 16777216;
  o.skip_limit = 100;
  o.skip_policy = MPT_SKIP_FAIL;
  return o;
}

bool update(Scaler& s, bool overflowed) {
  const Scaler::Change change = s.change(overflowed, !overflowed);
  s.commit(change);
  return change.limit_reached;
}

bool refused(const mpt_scaler_options& o) {
  try {
    Scaler scaler(o);
  } catch (const Error& e) {
    return e.status() == MPT_ERROR_INVALID_ARGUMENT;
  }
  return false;
}

}  // namespace

TEST_CASE("the scale grows after growth_interval applied updates in a row and halves on overflow") {
  mpt_scaler_options o = defaults();
  o.growth_interval = 3;
  Scaler s(o);
  for (int i = 0; i < 2; ++i) update(s, false);
  CHECK(s.scale() == 65536);
  update(s, true);  // the count begins anew
  CHECK(s.scale() == 32768);
  for (int i = 0; i < 2; ++i) update(s, false);
  CHECK(s.scale() == 32768);
  update(s, false);
  CHECK(s.scale() == 65536);
  CHECK(s.numbers().applied == 5);
  CHECK(s.numbers().skipped == 1);
  CHECK(s.epoch() == 6);
}

TEST_CASE("the scale stays between floor and cap, and never becomes infinite or zero") {
  mpt_scaler_options o = defaults();
  o.growth_interval = 1;
  o.growth_factor = 16;
  Scaler s(o);
  for (int i = 0; i < 1000; ++i) update(s, false);
  CHECK(s.scale() == 16777216);
  o.backoff_factor = 0x1p-7;
  o.min_scale = 8;  // 65536, 512, then 4 would be below
  Scaler down(o);
  for (int i = 0; i < 1000; ++i) update(down, true);
  CHECK(down.scale() == 8);
}

TEST_CASE("hysteresis: the h-th skip in a row backs off, growth refills it") {
  mpt_scaler_options o = defaults();
  o.hysteresis = 3;
  o.growth_interval = 2;
  Scaler s(o);
  update(s, true);
  update(s, true);
  CHECK(s.scale() == 65536);
  update(s, false);  // the row ends
  update(s, true);
  update(s, true);
  CHECK(s.scale() == 65536);
  update(s, true);
  CHECK(s.scale() == 32768);
  update(s, true);  // spent: every further skip backs off
  CHECK(s.scale() == 16384);
  update(s, false);
  update(s, true);
  CHECK(s.scale() == 8192);
  update(s, false);
  update(s, false);  // growth
  CHECK(s.scale() == 16384);
  update(s, true);
  update(s, true);
  CHECK(s.scale() == 16384);
}

TEST_CASE("the skip limit counts skips in a row at the floor only") {
  mpt_scaler_options o = defaults();
  o.initial_scale = 4;
  o.skip_limit = 3;
  Scaler s(o);
  CHECK_FALSE(update(s, true));  // 4 -> 2
  CHECK_FALSE(update(s, true));  // 2 -> 1
  CHECK_FALSE(update(s, true));
  CHECK_FALSE(update(s, true));
  CHECK(update(s, true));  // stuck without a word is what this is against
  update(s, false);
  CHECK_FALSE(update(s, true));
}

TEST_CASE("off and static scales never change, and their skips count towards the limit") {
  for (const int32_t mode : {MPT_SCALER_OFF, MPT_SCALER_STATIC}) {
    mpt_scaler_options o = defaults();
    o.mode = mode;
    o.skip_limit = 2;
    o.growth_interval = 1;
    Scaler s(o);
    const double scale = mode == MPT_SCALER_OFF ? 1 : 65536;
    CHECK(s.scale() == scale);
    CHECK_FALSE(update(s, true));
    CHECK(update(s, true));
    update(s, false);
    CHECK(s.scale() == scale);
    CHECK(s.numbers().skipped == 2);
  }
}

TEST_CASE("an update dropped for another objective's overflow neither raises nor lowers the scale") {
  mpt_scaler_options o = defaults();
  o.growth_interval = 2;
  Scaler s(o);
  update(s, false);
  s.commit(s.change(false, false));
  CHECK(s.scale() == 65536);
  CHECK(s.numbers().growth_counter == 1);
  CHECK(s.numbers().skipped == 1);
  update(s, false);
  CHECK(s.scale() == 131072);
}

TEST_CASE("change() alone changes nothing") {
  Scaler s(defaults());
  s.change(true, false);
  CHECK(s.scale() == 65536);
  CHECK(s.epoch() == 0);
}

TEST_CASE("numbers that make no scaler are refused") {
  CHECK_FALSE(refused(defaults()));
  const auto with = [](double mpt_scaler_options::*member, double value) {
    mpt_scaler_options o = defaults();
    o.*member = value;
    return o;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const auto member :
       {&mpt_scaler_options::initial_scale, &mpt_scaler_options::growth_factor, &mpt_scaler_options::backoff_factor,
        &mpt_scaler_options::min_scale, &mpt_scaler_options::max_scale})
    for (const double bad : {nan, inf, 0.0, -2.0, 3.0, 0.7, 1e300}) CHECK(refused(with(member, bad)));
  CHECK(refused(with(&mpt_scaler_options::growth_factor, 1)));
  CHECK(refused(with(&mpt_scaler_options::backoff_factor, 1)));
  CHECK(refused(with(&mpt_scaler_options::initial_scale, 0x1p25)));  // above the cap
  for (const auto member : {&mpt_scaler_options::growth_interval, &mpt_scaler_options::hysteresis,
                            &mpt_scaler_options::skip_limit, &mpt_scaler_options::mode}) {
    mpt_scaler_options o = defaults();
    o.*member = 0;
    CHECK(refused(o));
  }
  mpt_scaler_options o = defaults();
  o.skip_policy = 3;
  CHECK(refused(o));
}

TEST_CASE("the state comes back from a checkpoint exactly") {
  mpt_scaler_options o = defaults();
  o.initial_scale = 2;
  o.hysteresis = 2;
  Scaler s(o), other(o);
  for (const bool overflowed : {false, true, true, true, false, true, false}) update(s, overflowed);
  Metadata saved;
  s.export_state("scaler.", &saved);
  other.set_state(other.read_state("scaler.", saved, "file"));
  Metadata again;
  other.export_state("scaler.", &again);
  CHECK(saved == again);
  for (const bool overflowed : {true, true, false}) {
    update(s, overflowed);
    update(other, overflowed);
    CHECK(s.scale() == other.scale());
    CHECK(s.numbers().skips_at_floor == other.numbers().skips_at_floor);
  }
  saved["scaler.scale"] = "3";
  CHECK_THROWS_AS(other.read_state("scaler.", saved, "file"), Error);
  saved.erase("scaler.scale");
  CHECK_THROWS_AS(other.read_state("scaler.", saved, "file"), Error);
}
