#include "io/safetensors.h"

#include <bit>
#include <cinttypes>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/message.h"

namespace mpt {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian; bytes are copied as they are");

std::string json_string(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(MPT_ERROR_INVALID_ARGUMENT, "a name or text to save: found bytes that are not UTF-8 in %s, expected UTF-8",
         in_quotes(text).c_str());
  }
}

}  // namespace

const char* safetensors_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
  }
  fail(MPT_ERROR_INTERNAL, "safetensors: found dtype %d, expected a known one", static_cast<int>(dtype));
}

std::optional<DType> dtype_of(std::string_view type) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8})
    if (type == safetensors_type(dtype)) return dtype;
  return std::nullopt;
}

std::string format_string_map(const Metadata& map) {
  std::string out = "{";
  for (const auto& [key, value] : map) {
    if (out.size() > 1) out += ',';
    out += json_string(key) + ":" + json_string(value);
  }
  return out + "}";
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  std::string out = "{";
  if (!header.metadata.empty()) out += "\"__metadata__\":" + format_string_map(header.metadata);
  for (const TensorEntry& tensor : header.tensors) {
    if (out.size() > 1) out += ',';
    out += json_string(tensor.name) + ":{\"dtype\":\"" + tensor.type + "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.sizes.size(); ++i) out += (i ? "," : "") + std::to_string(tensor.sizes[i]);
    out += "],\"data_offsets\":[" + std::to_string(tensor.begin) + "," + std::to_string(tensor.end) + "]}";
  }
  out += '}';
  while (out.size() % safetensors_alignment != 0) out += ' ';
  if (out.size() > safetensors_max_header_bytes)
    fail(MPT_ERROR_INVALID_ARGUMENT,
         "safetensors: names and metadata take a header of %zu bytes, expected at most %" PRIu64, out.size(),
         safetensors_max_header_bytes);
  return out;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  constexpr uint64_t min_header_bytes = 2;  // "{}"
  const std::string shown = quoted_path(path);
  if (file_.size() < safetensors_length_bytes + min_header_bytes)
    fail(MPT_ERROR_CORRUPT, "file %s: found %" PRIu64 " bytes, expected a safetensors file of at least %" PRIu64,
         shown.c_str(), file_.size(), safetensors_length_bytes + min_header_bytes);
  uint64_t header_bytes = 0;
  file_.read(0, &header_bytes, sizeof header_bytes);
  const uint64_t rest = file_.size() - safetensors_length_bytes;
  if (header_bytes < min_header_bytes || header_bytes > safetensors_max_header_bytes)
    fail(MPT_ERROR_CORRUPT,
         "file %s: is not a safetensors file: found a header length of %" PRIu64 ", expected %" PRIu64 " to %" PRIu64,
         shown.c_str(), header_bytes, min_header_bytes, safetensors_max_header_bytes);
  if (header_bytes > rest)
    fail(MPT_ERROR_CORRUPT,
         "file %s: is truncated or not a safetensors file: found %" PRIu64
         " bytes after the header length, expected a header of %" PRIu64,
         shown.c_str(), rest, header_bytes);
  std::string text(header_bytes, '\0');
  file_.read(safetensors_length_bytes, text.data(), text.size());
  header_ = parse_safetensors_header(text, rest - header_bytes, path);
  data_start_ = safetensors_length_bytes + header_bytes;
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

void SafetensorsFile::read(const TensorEntry& tensor, uint64_t offset, void* to, std::size_t bytes) const {
  MPT_INVARIANT(offset <= tensor.bytes() && bytes <= tensor.bytes() - offset);
  file_.read(data_start_ + tensor.begin + offset, to, bytes);
}

}  // namespace mpt
