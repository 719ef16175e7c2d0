// Initial values of parameters. Random ones depend on the seed, the parameter's name and the element's position only,
// so the order in which parameters are made does not matter.
//
// The Philox counter is {element / 4, draw, hash of the name}: 64-bit FNV-1a, low word first; the key is the seed with
// its upper half inverted, which keeps these numbers apart from dropout's.
#include <cmath>

#include "core/error.h"
#include "kernels/numerics/philox.h"
#include "runtime/params.h"

namespace mpt {
namespace {

uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

class Source {
 public:
  Source(uint64_t seed, const std::string& name) : seed_(seed), name_(hash_of(name)) {}

  // Four words for the elements 4 group .. 4 group + 3. `draw` tells repeated draws for the same elements apart.
  Random4 bits(uint64_t group, uint32_t draw) const {
    const uint32_t high = static_cast<uint32_t>(group >> 32);
    return philox4x32_10(static_cast<uint32_t>(group), draw ^ high << 16, static_cast<uint32_t>(name_),
                         static_cast<uint32_t>(name_ >> 32), static_cast<uint32_t>(seed_),
                         ~static_cast<uint32_t>(seed_ >> 32));
  }

  // Uniform in (0, 1).
  double uniform(uint64_t element, uint32_t draw) const { return open_unit(bits(element / 4, draw).v[element % 4]); }

  // Standard normal, by Box and Muller from the words of an even and the odd element after it.
  double normal(uint64_t element, uint32_t draw) const {
    const Random4 words = bits(element / 4, draw);
    const uint64_t pair = element % 4 / 2 * 2;
    const double radius = std::sqrt(-2 * std::log(open_unit(words.v[pair])));
    const double angle = 2 * M_PI * open_unit(words.v[pair + 1]);
    return radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
  }

  // Standard normal within +-2, others redrawn.
  double truncated_normal(uint64_t element) const {
    for (uint32_t draw = 0; draw < 64; ++draw) {
      const double x = normal(element, draw);
      if (std::fabs(x) <= 2) return x;
    }
    return 0;  // once in 10^85
  }

 private:
  static double open_unit(uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }

  uint64_t seed_, name_;
};

// [low, high), also after rounding to FP32.
float uniform_between(double low, double high, double unit) {
  const float x = static_cast<float>(low + (high - low) * unit);
  const float top = static_cast<float>(high);
  return x < top || !(low < high) ? x : std::nextafter(top, static_cast<float>(low));
}

}  // namespace

void set_fans(const Shape& shape, InitializerInfo* initializer) {
  int64_t receptive = 1;
  for (int axis = 2; axis < shape.rank(); ++axis) receptive *= shape[axis];
  const int64_t out = shape.rank() > 0 ? shape[0] : 1;
  initializer->fan_out = out * receptive;
  initializer->fan_in = shape.rank() > 1 ? shape[1] * receptive : out;
}

void check_initializer(const InitializerInfo& initializer, const std::string& parameter) {
  const char* name = parameter.c_str();
  MPT_CHECK_ARGUMENT(initializer.kind >= MPT_INIT_DEFAULT && initializer.kind <= MPT_INIT_TRUNCATED_NORMAL,
                     "parameter '%s': initializer: found %d, expected MPT_INIT_DEFAULT to MPT_INIT_TRUNCATED_NORMAL",
                     name, initializer.kind);
  MPT_CHECK_ARGUMENT(std::isfinite(initializer.a) && std::isfinite(initializer.b),
                     "parameter '%s': initializer's a and b: found %g and %g, expected finite numbers", name,
                     initializer.a, initializer.b);
  const bool has_deviation = initializer.kind == MPT_INIT_NORMAL || initializer.kind == MPT_INIT_TRUNCATED_NORMAL;
  MPT_CHECK_ARGUMENT(!has_deviation || initializer.b >= 0,
                     "parameter '%s': standard deviation b: found %g, expected 0 or more", name, initializer.b);
  MPT_CHECK_ARGUMENT(initializer.kind != MPT_INIT_UNIFORM || initializer.a <= initializer.b,
                     "parameter '%s': uniform in [a, b): found a = %g above b = %g", name, initializer.a,
                     initializer.b);
}

void initial_values(const Parameter& parameter, uint64_t seed, int64_t begin, int64_t count, float* out) {
  const InitializerInfo& init = parameter.initializer;
  const Source source(seed, parameter.name);
  const auto fill = [&](auto&& value_of) {
    for (int64_t i = 0; i < count; ++i) out[i] = value_of(static_cast<uint64_t>(begin + i));
  };
  const auto fill_uniform = [&](double low, double high) {
    fill([&](uint64_t i) { return uniform_between(low, high, source.uniform(i, 0)); });
  };
  const auto fill_normal = [&](double mean, double deviation) {
    fill([&](uint64_t i) { return static_cast<float>(mean + deviation * source.normal(i, 0)); });
  };
  const double fan_in = static_cast<double>(init.fan_in > 0 ? init.fan_in : 1);
  const double fans = fan_in + static_cast<double>(init.fan_out > 0 ? init.fan_out : 1);
  switch (init.kind) {
    case MPT_INIT_CONSTANT:
      return fill([&](uint64_t) { return static_cast<float>(init.a); });
    case MPT_INIT_NORMAL:
      return fill_normal(init.a, init.b);
    case MPT_INIT_UNIFORM:
      return fill_uniform(init.a, init.b);
    case MPT_INIT_XAVIER_UNIFORM: {
      const double bound = std::fabs(init.a) * std::sqrt(6 / fans);
      return fill_uniform(-bound, bound);
    }
    case MPT_INIT_XAVIER_NORMAL:
      return fill_normal(0, init.a * std::sqrt(2 / fans));
    case MPT_INIT_KAIMING_UNIFORM: {
      const double bound = std::fabs(init.a) * std::sqrt(3 / fan_in);
      return fill_uniform(-bound, bound);
    }
    case MPT_INIT_KAIMING_NORMAL:
      return fill_normal(0, init.a / std::sqrt(fan_in));
    case MPT_INIT_TRUNCATED_NORMAL:
      return fill([&](uint64_t i) { return static_cast<float>(init.a + init.b * source.truncated_normal(i)); });
    default:
      return fill([](uint64_t) { return 0.0f; });
  }
}

}  // namespace mpt
