// CRC-32C (Castagnoli polynomial, as in iSCSI, RFC 3720 appendix B.4): finds every burst of errors up to 32 bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpt {

// The checksum of `bytes` at `data`, or of a longer text read in pieces: pass the checksum of the pieces before.
uint32_t crc32c(const void* data, std::size_t bytes, uint32_t before = 0) noexcept;

}  // namespace mpt
