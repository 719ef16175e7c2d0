// The checksums that libmpt adds to the metadata of the safetensors files it writes (docs/checkpoint-format.md).
#pragma once

#include <cstdint>
#include <string>

#include "io/metadata.h"
#include "io/safetensors.h"

namespace mpt {

constexpr uint64_t format_version = 1;  // the newest this library writes and reads
constexpr const char* format_version_key = "mpt.format_version";
constexpr const char* checksums_key = "mpt.checksums";
constexpr const char* header_checksum_key = "mpt.header_checksum";

bool is_reserved_key(const std::string& key);

std::string checksum_text(uint32_t crc);  // "crc32c:0123abcd"

// Of the meaning of the header, not of its bytes: other tools may write the same header with other spaces and order.
std::string header_checksum(const SafetensorsHeader& header);

// The tensors' checksums by name, found whole and unchanged; nothing for a file of another program. Throws
// MPT_ERROR_CORRUPT where they are incomplete or the header was changed, MPT_ERROR_UNSUPPORTED for a newer version.
Metadata read_checksums(const SafetensorsFile& file);

}  // namespace mpt
