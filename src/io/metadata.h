// The string-to-string map of a safetensors file, and numbers in it that come back bit for bit.
//
// Integers are decimal. Floats are the shortest decimal that reads back as the same value ("0.1", "65536", "-0",
// "1e-45", "inf"), independent of the locale; a NaN keeps its bits: "nan:7fc00000", "nan:7ff8000000000000".
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace mpt {

using Metadata = std::map<std::string, std::string>;

std::string metadata_text(int64_t value);
std::string metadata_text(uint64_t value);
std::string metadata_text(float value);
std::string metadata_text(double value);

// Readers throw MPT_ERROR_CORRUPT where the key is missing or its text is not one number of the type, whole.
// `path` is for the message.
const std::string& metadata_string(const Metadata& metadata, const std::string& key, const std::string& path);
int64_t metadata_int64(const Metadata& metadata, const std::string& key, const std::string& path);
uint64_t metadata_uint64(const Metadata& metadata, const std::string& key, const std::string& path);
float metadata_float(const Metadata& metadata, const std::string& key, const std::string& path);
double metadata_double(const Metadata& metadata, const std::string& key, const std::string& path);

}  // namespace mpt
