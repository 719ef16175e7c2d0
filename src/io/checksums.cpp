#include "io/checksums.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "core/error.h"
#include "io/crc32c.h"
#include "io/message.h"

namespace mpt {
namespace {

// Strings end with a zero byte in the checksum, so that moving a character from one to the next is seen.
uint32_t add(const std::string& text, uint32_t crc) { return crc32c(text.c_str(), text.size() + 1, crc); }

}  // namespace

bool is_reserved_key(const std::string& key) {
  return key == format_version_key || key == checksums_key || key == header_checksum_key;
}

std::string checksum_text(uint32_t crc) {
  char text[24];
  std::snprintf(text, sizeof text, "crc32c:%08" PRIx32, crc);
  return text;
}

std::string header_checksum(const SafetensorsHeader& header) {
  uint32_t crc = 0;
  for (const auto& [key, value] : header.metadata)
    if (key != header_checksum_key) crc = add(value, add(key, crc));
  std::vector<const TensorEntry*> by_name;
  for (const TensorEntry& tensor : header.tensors) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(),
            [](const TensorEntry* a, const TensorEntry* b) { return a->name < b->name; });
  for (const TensorEntry* tensor : by_name) {
    crc = add(tensor->type, add(tensor->name, crc));
    for (int64_t size : tensor->sizes) crc = add(std::to_string(size), crc);
    crc = add("", crc);
  }
  return checksum_text(crc);
}

Metadata read_checksums(const SafetensorsFile& file) {
  const Metadata& metadata = file.metadata();
  if (!metadata.count(format_version_key) && !metadata.count(checksums_key) && !metadata.count(header_checksum_key))
    return {};
  const uint64_t version = metadata_uint64(metadata, format_version_key, file.path());
  if (version != format_version)
    fail(MPT_ERROR_UNSUPPORTED, "file %s: found checkpoint format version %" PRIu64 ", expected %" PRIu64,
         quoted_path(file.path()).c_str(), version, format_version);

  const std::string shown = "file " + quoted_path(file.path());
  const std::string& found = metadata_string(metadata, header_checksum_key, file.path());
  const std::string expected = header_checksum(file.header());
  if (found != expected)
    fail(MPT_ERROR_CORRUPT, "%s: found header checksum %s, expected %s: the header was changed", shown.c_str(),
         in_quotes(found, 32).c_str(), in_quotes(expected).c_str());

  Metadata checksums = parse_string_map(metadata_string(metadata, checksums_key, file.path()),
                                        std::string("metadata '") + checksums_key + "'", file.path());
  for (const TensorEntry& tensor : file.tensors())
    if (!checksums.count(tensor.name))
      fail(MPT_ERROR_CORRUPT, "%s: tensor %s: found no checksum, expected one", shown.c_str(),
           in_quotes(tensor.name).c_str());
  for (const auto& [name, checksum] : checksums)
    if (!file.find(name))
      fail(MPT_ERROR_CORRUPT, "%s: found a checksum of tensor %s, expected the tensor as well", shown.c_str(),
           in_quotes(name).c_str());
  return checksums;
}

}  // namespace mpt
