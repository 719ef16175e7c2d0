#include "io/metadata.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <string_view>
#include <type_traits>

#include "core/error.h"
#include "io/message.h"

namespace mpt {
namespace {

constexpr std::string_view nan_prefix = "nan:";

template <typename Float>
using BitsOf = std::conditional_t<sizeof(Float) == 4, uint32_t, uint64_t>;

template <typename Number>
std::string decimal(Number value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

template <typename Float>
std::string float_text(Float value) {
  if (!std::isnan(value)) return decimal(value);
  char digits[2 * sizeof(Float)];
  const auto end = std::to_chars(digits, digits + sizeof digits, std::bit_cast<BitsOf<Float>>(value), 16).ptr;
  return std::string(nan_prefix) + std::string(digits, end);
}

bool whole(const std::from_chars_result& result, std::string_view text) {
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

template <typename Number>
bool parse(std::string_view text, Number* value) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (text.substr(0, nan_prefix.size()) == nan_prefix) {
      text.remove_prefix(nan_prefix.size());
      BitsOf<Number> bits = 0;
      if (!whole(std::from_chars(text.data(), text.data() + text.size(), bits, 16), text)) return false;
      *value = std::bit_cast<Number>(bits);
      return std::isnan(*value);
    }
  }
  return whole(std::from_chars(text.data(), text.data() + text.size(), *value), text);
}

template <typename Number>
Number read_number(const Metadata& metadata, const std::string& key, const std::string& path, const char* expected) {
  const std::string& text = metadata_string(metadata, key, path);
  Number value = 0;
  if (!parse(text, &value))
    fail(MPT_ERROR_CORRUPT, "file %s: metadata %s: found %s, expected %s", quoted_path(path).c_str(),
         in_quotes(key).c_str(), in_quotes(text).c_str(), expected);
  return value;
}

}  // namespace

std::string metadata_text(int64_t value) { return decimal(value); }
std::string metadata_text(uint64_t value) { return decimal(value); }
std::string metadata_text(float value) { return float_text(value); }
std::string metadata_text(double value) { return float_text(value); }

const std::string& metadata_string(const Metadata& metadata, const std::string& key, const std::string& path) {
  const auto entry = metadata.find(key);
  if (entry == metadata.end())
    fail(MPT_ERROR_CORRUPT, "file %s: found no metadata %s, expected one", quoted_path(path).c_str(),
         in_quotes(key).c_str());
  return entry->second;
}

int64_t metadata_int64(const Metadata& metadata, const std::string& key, const std::string& path) {
  return read_number<int64_t>(metadata, key, path, "a signed 64-bit integer");
}

uint64_t metadata_uint64(const Metadata& metadata, const std::string& key, const std::string& path) {
  return read_number<uint64_t>(metadata, key, path, "an unsigned 64-bit integer");
}

float metadata_float(const Metadata& metadata, const std::string& key, const std::string& path) {
  return read_number<float>(metadata, key, path, "a 32-bit float");
}

double metadata_double(const Metadata& metadata, const std::string& key, const std::string& path) {
  return read_number<double>(metadata, key, path, "a 64-bit float");
}

}  // namespace mpt
