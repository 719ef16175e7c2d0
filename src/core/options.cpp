#include "core/options.h"

namespace mpt {

void check_struct_size(const char* type, const void* user, uint32_t size, uint64_t first, uint64_t known) {
  MPT_CHECK_ARGUMENT(size >= first && size <= (1u << 16),
                     "%s: struct_size is %u, expected at least %llu: call %s_init first", type, size,
                     static_cast<unsigned long long>(first), type);
  const auto* bytes = static_cast<const unsigned char*>(user);
  for (uint64_t i = known; i < size; ++i)
    MPT_CHECK_ARGUMENT(bytes[i] == 0,
                       "%s: struct_size is %u and byte %llu is set, but this library knows only %llu bytes", type, size,
                       static_cast<unsigned long long>(i), static_cast<unsigned long long>(known));
}

}  // namespace mpt
