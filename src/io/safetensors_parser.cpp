// Parsing and checking of untrusted header text. The JSON library parses to events, not to a tree: duplicate keys stay
// visible and hostile nesting costs nothing.
#include <algorithm>
#include <cinttypes>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "io/message.h"
#include "io/safetensors.h"

namespace mpt {
namespace {

using Json = nlohmann::json;

// Every dtype of the format, with its width: sizes are checked for tensors that this library cannot use, too.
struct TypeWidth {
  const char* type;
  uint64_t bits;
};
constexpr TypeWidth type_widths[] = {
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
};

// Throws for everything that the place it is at does not allow; the subclass says what that is.
class StrictHandler : public nlohmann::json_sax<Json> {
 public:
  explicit StrictHandler(std::string where) : where_(std::move(where)) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_unsigned(number_unsigned_t) override { unexpected("a number"); }
  bool number_float(number_float_t, const string_t&) override { unexpected("a number that is not an integer"); }
  bool string(string_t&) override { unexpected("a string"); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool start_object(std::size_t) override { unexpected("an object"); }
  bool start_array(std::size_t) override { unexpected("an array"); }
  bool end_array() override { unexpected("the end of an array"); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    fail(MPT_ERROR_CORRUPT, "%s: found invalid JSON at byte %zu, expected a JSON object", where_.c_str(), position);
  }

 protected:
  virtual std::string place() const = 0;  // "tensor 'a'"
  virtual const char* expected() const = 0;
  [[noreturn]] void unexpected(const char* found) const {
    fail(MPT_ERROR_CORRUPT, "%s: %s: found %s, expected %s", where_.c_str(), place().c_str(), found, expected());
  }
  [[noreturn]] void duplicate(const std::string& key) const {
    fail(MPT_ERROR_CORRUPT, "%s: %s: found %s twice, expected it once", where_.c_str(), place().c_str(),
         in_quotes(key).c_str());
  }

 private:
  std::string where_;
};

void parse_events(std::string_view text, StrictHandler* handler) {
  Json::sax_parse(text.begin(), text.end(), handler);  // the handler throws, so there is no result to look at
}

class StringMapHandler : public StrictHandler {
 public:
  using StrictHandler::StrictHandler;
  Metadata take() { return std::move(map_); }

  bool start_object(std::size_t) override {
    if (open_) unexpected("an object");
    return open_ = true;
  }
  bool key(string_t& key) override {
    key_ = std::move(key);
    return true;
  }
  bool string(string_t& value) override {
    if (!open_) unexpected("a string");
    if (!map_.emplace(key_, std::move(value)).second) duplicate(key_);
    return true;
  }
  bool end_object() override { return true; }

 protected:
  std::string place() const override { return open_ ? "value of " + in_quotes(key_) : "value"; }
  const char* expected() const override { return open_ ? "a string" : "an object of strings"; }

 private:
  bool open_ = false;
  std::string key_;
  Metadata map_;
};

class HeaderHandler : public StrictHandler {
 public:
  using StrictHandler::StrictHandler;
  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (at_ == At::start)
      at_ = At::root;
    else if (at_ == At::root)
      at_ = name_ == "__metadata__" ? At::metadata : At::tensor;
    else
      unexpected("an object");
    if (at_ == At::tensor) {
      tensor_ = TensorEntry();
      field_.clear();
      has_type_ = has_shape_ = has_offsets_ = false;
    }
    return true;
  }

  bool key(string_t& key) override {
    if (at_ == At::root) {
      name_ = std::move(key);
      if (!names_.insert(name_).second) duplicate(name_);
    } else {
      field_ = std::move(key);
      if (at_ == At::tensor && field_ != "dtype" && field_ != "shape" && field_ != "data_offsets")
        unexpected(("the field " + in_quotes(field_)).c_str());
    }
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::metadata) {
      if (!header_.metadata.emplace(field_, std::move(value)).second) duplicate(field_);
    } else if (at_ == At::tensor && field_ == "dtype") {
      once(&has_type_);
      tensor_.type = std::move(value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (at_ == At::tensor && field_ == "shape") {
      once(&has_shape_);
      at_ = At::shape;
    } else if (at_ == At::tensor && field_ == "data_offsets") {
      once(&has_offsets_);
      offsets_ = 0;
      at_ = At::offsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::shape && value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      tensor_.sizes.push_back(static_cast<int64_t>(value));
    else if (at_ == At::offsets && offsets_ < 2)
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
    else
      unexpected(std::to_string(value).c_str());
    return true;
  }

  bool end_array() override {
    if (at_ == At::offsets && offsets_ != 2) unexpected("the end of the array");
    at_ = At::tensor;
    return true;
  }

  bool end_object() override {
    if (at_ == At::tensor) {
      if (!has_type_ || !has_shape_ || !has_offsets_) {
        field_ = !has_type_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets";
        unexpected("no such field");
      }
      tensor_.name = name_;
      header_.tensors.push_back(std::move(tensor_));
    }
    at_ = At::root;
    return true;
  }

 protected:
  std::string place() const override {
    switch (at_) {
      case At::start:
        return "header";
      case At::root:
        return "entry " + in_quotes(name_);
      case At::metadata:
        return "metadata " + in_quotes(field_);
      default:
        return "tensor " + in_quotes(name_) + (field_.empty() ? "" : ", field " + in_quotes(field_));
    }
  }
  const char* expected() const override {
    switch (at_) {
      case At::metadata:
        return "a string";
      case At::shape:
        return "sizes from 0 to 2^63 - 1";
      case At::offsets:
        return "two offsets into the data";
      case At::tensor:
        if (field_ == "dtype") return "a string";
        if (field_ == "shape") return "an array of sizes";
        if (field_ == "data_offsets") return "an array of two offsets";
        return "dtype, shape and data_offsets alone";
      default:
        return "an object";
    }
  }

 private:
  enum class At { start, root, metadata, tensor, shape, offsets };

  void once(bool* seen) {
    if (*seen) duplicate(field_);
    *seen = true;
  }

  At at_ = At::start;
  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  std::string name_;   // the key at the root that is being read
  std::string field_;  // the key within it
  TensorEntry tensor_;
  bool has_type_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
};

// Bytes that dtype and shape ask for.
uint64_t expected_bytes(const TensorEntry& tensor, const std::string& where) {
  const auto width = std::find_if(std::begin(type_widths), std::end(type_widths),
                                  [&](const TypeWidth& w) { return tensor.type == w.type; });
  if (width == std::end(type_widths))
    fail(MPT_ERROR_CORRUPT, "%s: found dtype %s, expected one of the safetensors format's, such as F32", where.c_str(),
         in_quotes(tensor.type, 32).c_str());
  uint64_t bits = width->bits;
  for (int64_t size : tensor.sizes)
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits))
      fail(MPT_ERROR_CORRUPT, "%s: found shape %s, expected a product of the sizes below 2^64 bits", where.c_str(),
           sizes_text(tensor.sizes).c_str());
  if (bits % 8 != 0)
    fail(MPT_ERROR_CORRUPT, "%s: found %" PRIu64 " bits for %s %s, expected whole bytes", where.c_str(), bits,
         tensor.type.c_str(), sizes_text(tensor.sizes).c_str());
  return bits / 8;
}

void check_tensor(const TensorEntry& tensor, uint64_t data_bytes, const std::string& where) {
  if (tensor.begin > tensor.end)
    fail(MPT_ERROR_CORRUPT,
         "%s: found data offsets %" PRIu64 " to %" PRIu64 ", expected the first not above the second", where.c_str(),
         tensor.begin, tensor.end);
  const uint64_t expected = expected_bytes(tensor, where);
  if (tensor.bytes() != expected)
    fail(MPT_ERROR_CORRUPT, "%s: found %" PRIu64 " bytes of data, expected %" PRIu64 " for %s %s", where.c_str(),
         tensor.bytes(), expected, tensor.type.c_str(), sizes_text(tensor.sizes).c_str());
  if (tensor.end > data_bytes)
    fail(MPT_ERROR_CORRUPT,
         "%s: found %" PRIu64 " bytes of data in the file, expected at least %" PRIu64 ": it is truncated",
         where.c_str(), data_bytes, tensor.end);
}

}  // namespace

Metadata parse_string_map(std::string_view text, const std::string& what, const std::string& path) {
  StringMapHandler handler("file " + quoted_path(path) + ": " + what);
  parse_events(text, &handler);
  return handler.take();
}

SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes, const std::string& path) {
  const std::string file = "file " + quoted_path(path);
  if (text.empty() || text[0] != '{')
    fail(MPT_ERROR_CORRUPT, "%s: is not a safetensors file: found a header that starts with %s, expected '{'",
         file.c_str(), text.empty() ? "nothing" : in_quotes(text.substr(0, 1)).c_str());
  HeaderHandler handler(file);
  parse_events(text, &handler);
  SafetensorsHeader header = handler.take();

  const auto where = [&](const TensorEntry& tensor) { return file + ": tensor " + in_quotes(tensor.name); };
  for (const TensorEntry& tensor : header.tensors) check_tensor(tensor, data_bytes, where(tensor));
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t position = 0;
  for (const TensorEntry& tensor : header.tensors) {
    if (tensor.begin != position)
      fail(MPT_ERROR_CORRUPT,
           "%s: found its data at byte %" PRIu64 ", expected %" PRIu64 ", right after the tensor before it",
           where(tensor).c_str(), tensor.begin, position);
    position = tensor.end;
  }
  if (position != data_bytes)
    fail(MPT_ERROR_CORRUPT, "%s: found %" PRIu64 " bytes of data, expected %" PRIu64 " for its tensors", file.c_str(),
         data_bytes, position);
  return header;
}

}  // namespace mpt
