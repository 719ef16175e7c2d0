#include "io/metadata.h"

#include <bit>
#include <cmath>
#include <limits>

#include "unit/files.h"

using namespace mpt;
using namespace mpt::test;

namespace {

template <typename Number>
Metadata one(Number value) {
  return {{"key", metadata_text(value)}};
}

}  // namespace

TEST_CASE("metadata: 64-bit integers come back exactly") {
  for (int64_t value : {INT64_MIN, int64_t{-1}, int64_t{0}, (int64_t{1} << 53) + 1, INT64_MAX})
    CHECK(metadata_int64(one(value), "key", "f") == value);
  for (uint64_t value : {uint64_t{0}, (uint64_t{1} << 63) + 1, UINT64_MAX})
    CHECK(metadata_uint64(one(value), "key", "f") == value);
}

TEST_CASE("metadata: floats come back bit for bit") {
  // A stride that is odd and far from any power of two visits every exponent, subnormals, infinities and NaNs.
  for (uint64_t i = 0; i < 200'000; ++i) {
    const auto bits32 = static_cast<uint32_t>(i * 2654435761u);
    const uint64_t bits64 = i * 0x9E3779B97F4A7C15u;
    const auto value32 = std::bit_cast<float>(bits32);
    const auto value64 = std::bit_cast<double>(bits64);
    if (std::bit_cast<uint32_t>(metadata_float(one(value32), "key", "f")) != bits32) FAIL(bits32);
    if (std::bit_cast<uint64_t>(metadata_double(one(value64), "key", "f")) != bits64) FAIL(bits64);
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (float value : {0.0f, -0.0f, 0.1f, 65536.0f, 0x1p-149f, std::numeric_limits<float>::max(), infinity, -infinity})
    CHECK(std::bit_cast<uint32_t>(metadata_float(one(value), "key", "f")) == std::bit_cast<uint32_t>(value));
  for (uint32_t nan : {0x7FC00000u, 0xFFC00001u, 0x7F800001u})
    CHECK(std::bit_cast<uint32_t>(metadata_float(one(std::bit_cast<float>(nan)), "key", "f")) == nan);
}

TEST_CASE("metadata: numbers are readable") {
  CHECK(metadata_text(0.1f) == "0.1");
  CHECK(metadata_text(65536.0) == "65536");
  CHECK(metadata_text(std::bit_cast<float>(0x7FC00000u)) == "nan:7fc00000");
  CHECK(metadata_text(int64_t{-3}) == "-3");
}

TEST_CASE("metadata: what is not one whole number is corrupt, and the message says where and what") {
  for (const char* text : {"", " 1", "1 ", "1.5", "0x10", "+1", "9223372036854775808", "one"}) {
    const Failure failure = failure_of([&] { metadata_int64({{"step", text}}, "step", "a.st"); });
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says("file 'a.st': metadata 'step': found '" + std::string(text) + "', expected a signed 64-bit"));
  }
  CHECK(failure_of([] { metadata_uint64({{"k", "-1"}}, "k", "f"); }).status == MPT_ERROR_CORRUPT);
  for (const char* text : {"", "1,5", "nan:", "nan:3f800000", "nan:zz", "1e99999", "0.5x"})
    CHECK(failure_of([&] { metadata_float({{"k", text}}, "k", "f"); }).status == MPT_ERROR_CORRUPT);
  const Failure missing = failure_of([] { metadata_double({}, "scale", "a.st"); });
  CHECK(missing.status == MPT_ERROR_CORRUPT);
  CHECK(missing.says("found no metadata 'scale'"));
}
