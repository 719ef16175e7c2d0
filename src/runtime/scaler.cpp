#include "runtime/scaler.h"

#include <atomic>
#include <cmath>

#include "core/error.h"

namespace mpt {
namespace {

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

void require_power_of_two(const char* who, const char* what, double x) {
  MPT_CHECK_ARGUMENT(is_power_of_two(x), "%s: %s: found %.17g, expected a power of two from 2^-126 to 2^126", who, what,
                     x);
}

}  // namespace

bool is_power_of_two(double x) {
  if (!std::isfinite(x) || !(x > 0)) return false;
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5 && exponent >= -125 && exponent <= 127;
}

mpt_scaler_options Scaler::off_options() {
  mpt_scaler_options o{};
  o.mode = MPT_SCALER_OFF;
  o.initial_scale = 1;
  o.growth_factor = 2;
  o.backoff_factor = 0.5;
  o.growth_interval = 2000;
  o.hysteresis = 1;
  o.min_scale = 1;
  o.max_scale = 1;
  o.skip_limit = 100;
  o.skip_policy = MPT_SKIP_FAIL;
  return o;
}

Scaler::Scaler(const mpt_scaler_options& o, const char* who) : id_(next_id()) {
  MPT_CHECK_ARGUMENT(o.mode >= MPT_SCALER_OFF && o.mode <= MPT_SCALER_DYNAMIC,
                     "%s: mode: found %d, expected MPT_SCALER_OFF, MPT_SCALER_STATIC or MPT_SCALER_DYNAMIC", who,
                     o.mode);
  MPT_CHECK_ARGUMENT(o.skip_policy >= MPT_SKIP_CONTINUE && o.skip_policy <= MPT_SKIP_DEMOTE,
                     "%s: skip_policy: found %d, expected MPT_SKIP_CONTINUE, MPT_SKIP_FAIL or MPT_SKIP_DEMOTE", who,
                     o.skip_policy);
  MPT_CHECK_ARGUMENT(o.skip_limit >= 1, "%s: skip_limit: found %d, expected 1 or more", who, o.skip_limit);
  if (o.mode != MPT_SCALER_OFF) require_power_of_two(who, "initial_scale", o.initial_scale);
  if (o.mode == MPT_SCALER_DYNAMIC) {
    require_power_of_two(who, "growth_factor", o.growth_factor);
    require_power_of_two(who, "backoff_factor", o.backoff_factor);
    require_power_of_two(who, "min_scale", o.min_scale);
    require_power_of_two(who, "max_scale", o.max_scale);
    MPT_CHECK_ARGUMENT(o.growth_factor >= 2, "%s: growth_factor: found %g, expected 2 or more", who, o.growth_factor);
    MPT_CHECK_ARGUMENT(o.backoff_factor < 1, "%s: backoff_factor: found %g, expected less than 1", who,
                       o.backoff_factor);
    MPT_CHECK_ARGUMENT(o.min_scale <= o.initial_scale && o.initial_scale <= o.max_scale,
                       "%s: initial_scale: found %g, expected from min_scale %g to max_scale %g", who, o.initial_scale,
                       o.min_scale, o.max_scale);
    MPT_CHECK_ARGUMENT(o.growth_interval >= 1, "%s: growth_interval: found %d, expected 1 or more", who,
                       o.growth_interval);
    MPT_CHECK_ARGUMENT(o.hysteresis >= 1, "%s: hysteresis: found %d, expected 1 or more", who, o.hysteresis);
  }
  rules_.mode = o.mode;
  rules_.growth_factor = o.growth_factor;
  rules_.backoff_factor = o.backoff_factor;
  rules_.min_scale = o.min_scale;
  rules_.max_scale = o.max_scale;
  rules_.growth_interval = o.growth_interval;
  rules_.hysteresis = o.hysteresis;
  rules_.skip_limit = o.skip_limit;
  skip_policy_ = o.skip_policy;
  numbers_.scale = o.mode == MPT_SCALER_OFF ? 1 : o.initial_scale;
  numbers_.hysteresis_counter = o.hysteresis;
}

void Scaler::describe(mpt_scaler_state* out) const {
  const ScalerNumbers& n = numbers();
  out->growth_counter = n.growth_counter;
  out->scale = n.scale;
  out->hysteresis_counter = n.hysteresis_counter;
  out->skips_in_a_row = n.skips_in_a_row;
  out->applied = n.applied;
  out->skipped = n.skipped;
  out->epoch = n.epoch;
}

Scaler::Change Scaler::change(bool overflowed, bool applied) const {
  const ScalerNumbers next = scaler_after(rules_, numbers(), overflowed, applied);
  return {next, overflowed && skip_limit_reached(rules_, next)};
}

void Scaler::export_state(const std::string& prefix, Metadata* out) const {
  const ScalerNumbers& n = numbers();
  (*out)[prefix + "scale"] = metadata_text(n.scale);
  (*out)[prefix + "growth_counter"] = metadata_text(static_cast<int64_t>(n.growth_counter));
  (*out)[prefix + "hysteresis_counter"] = metadata_text(static_cast<int64_t>(n.hysteresis_counter));
  (*out)[prefix + "skips_in_a_row"] = metadata_text(static_cast<int64_t>(n.skips_in_a_row));
  (*out)[prefix + "skips_at_floor"] = metadata_text(static_cast<int64_t>(n.skips_at_floor));
  (*out)[prefix + "applied"] = metadata_text(n.applied);
  (*out)[prefix + "skipped"] = metadata_text(n.skipped);
  (*out)[prefix + "epoch"] = metadata_text(n.epoch);
}

ScalerNumbers Scaler::read_state(const std::string& prefix, const Metadata& from, const std::string& path) const {
  const auto counter = [&](const char* key) {
    const int64_t value = metadata_int64(from, prefix + key, path);
    if (value < 0 || value > INT32_MAX)
      fail(MPT_ERROR_CORRUPT, "%s: %s%s: found %lld, expected a counter", path.c_str(), prefix.c_str(), key,
           static_cast<long long>(value));
    return static_cast<int32_t>(value);
  };
  ScalerNumbers n;
  n.scale = metadata_double(from, prefix + "scale", path);
  if (!is_power_of_two(n.scale))
    fail(MPT_ERROR_CORRUPT, "%s: %sscale: found %.17g, expected a power of two", path.c_str(), prefix.c_str(), n.scale);
  n.growth_counter = counter("growth_counter");
  n.hysteresis_counter = counter("hysteresis_counter");
  n.skips_in_a_row = counter("skips_in_a_row");
  n.skips_at_floor = counter("skips_at_floor");
  n.applied = metadata_uint64(from, prefix + "applied", path);
  n.skipped = metadata_uint64(from, prefix + "skipped", path);
  n.epoch = metadata_uint64(from, prefix + "epoch", path);
  return n;
}

}  // namespace mpt
