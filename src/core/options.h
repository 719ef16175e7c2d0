// Option, state and result structs of the C API: every size that a client was compiled with is read and written as that client
// knows it. The first member is always uint32_t struct_size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/error.h"

namespace mpt {

// Throws if a client's struct of `size` bytes cannot be one of this type: below the first version's size, or longer than known
// with anything but zeros behind.
void check_struct_size(const char* type, const void* user, uint32_t size, uint64_t first, uint64_t known);

// A complete copy of the user's options: `defaults` where user is NULL; members that the client does not know stay as before.
template <class Options>
Options read_options(const char* type, const Options* user, const Options& defaults,
                     uint64_t first_version = sizeof(Options)) {
  if (!user) return defaults;
  uint32_t size;
  std::memcpy(&size, user, sizeof size);
  check_struct_size(type, user, size, first_version, sizeof(Options));
  Options out{};  // zero: "as before" for members that were added later
  std::memcpy(static_cast<void*>(&out), user, std::min<uint64_t>(size, sizeof(Options)));
  out.struct_size = sizeof(Options);
  return out;
}

// Writes `value` into the client's struct, no more than its size. For results and reports, which the client initialised.
template <class Struct>
void write_struct(const char* type, Struct* user, Struct value, uint64_t first_version = sizeof(Struct)) {
  uint32_t size;
  std::memcpy(&size, user, sizeof size);
  MPT_CHECK_ARGUMENT(size >= first_version,
                     "%s: struct_size is %u, expected at least %llu: call its init function first", type, size,
                     static_cast<unsigned long long>(first_version));
  value.struct_size = size;
  std::memcpy(static_cast<void*>(user), &value, std::min<uint64_t>(size, sizeof(Struct)));
}

// The init functions: the defaults, no more than `size` bytes of them.
template <class Struct>
void init_struct(const char* type, Struct* user, uint64_t size, Struct defaults,
                 uint64_t first_version = sizeof(Struct)) {
  MPT_CHECK_ARGUMENT(user, "%s: the pointer is NULL", type);
  MPT_CHECK_ARGUMENT(size >= first_version && size <= (1u << 16), "%s: struct_size is %llu, expected at least %llu",
                     type, static_cast<unsigned long long>(size), static_cast<unsigned long long>(first_version));
  std::memset(static_cast<void*>(user), 0, size);
  defaults.struct_size = static_cast<uint32_t>(size);
  std::memcpy(static_cast<void*>(user), &defaults, std::min<uint64_t>(size, sizeof(Struct)));
}

}  // namespace mpt
