// The safetensors file format (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a
// JSON header {"name": {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {string: string}}, the tensors' bytes.
// This file knows the format alone; checksums and conversions are checkpoint.h's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "io/input_file.h"
#include "io/metadata.h"

namespace mpt {

constexpr uint64_t safetensors_max_header_bytes = 100'000'000;  // the format's own limit
constexpr std::size_t safetensors_length_bytes = 8;             // the header's length, before the header
constexpr std::size_t safetensors_alignment = 8;                // of the data's start

struct TensorEntry {
  std::string name;
  std::string type;            // as the file spells it, e.g. "F32"
  std::vector<int64_t> sizes;  // of any rank: more than Shape can hold
  uint64_t begin = 0;          // in bytes from the start of the data
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in the order of their data
  Metadata metadata;
};

// How the format spells a dtype, and back: nothing for types that the format has and this library has not.
const char* safetensors_type(DType dtype);
std::optional<DType> dtype_of(std::string_view type);

// Parses and checks the JSON text of a header before `data_bytes` bytes of data: known dtypes, sizes that match, data
// without overlap, hole or rest, no duplicate names. Throws MPT_ERROR_CORRUPT; `path` is for messages.
SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes, const std::string& path);

// The JSON text, padded with spaces so that the data starts aligned. Throws MPT_ERROR_INVALID_ARGUMENT on names or
// metadata that are not UTF-8, and on a header beyond the format's limit.
std::string format_safetensors_header(const SafetensorsHeader& header);

// A JSON object of strings as text, and back (for structured metadata). `what` is for messages.
std::string format_string_map(const Metadata& map);
Metadata parse_string_map(std::string_view text, const std::string& what, const std::string& path);

// A file opened for reading: only the header is read, the data on request.
class SafetensorsFile {
 public:
  // Throws MPT_ERROR_IO where the system fails, MPT_ERROR_CORRUPT where the content is not a complete safetensors file.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const SafetensorsHeader& header() const { return header_; }
  const std::vector<TensorEntry>& tensors() const { return header_.tensors; }
  const Metadata& metadata() const { return header_.metadata; }
  const TensorEntry* find(const std::string& name) const;  // null where there is none

  // `bytes` of the tensor's data from byte `offset` of it on, as they are in the file.
  void read(const TensorEntry& tensor, uint64_t offset, void* to, std::size_t bytes) const;

 private:
  InputFile file_;
  uint64_t data_start_ = 0;
  SafetensorsHeader header_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace mpt
