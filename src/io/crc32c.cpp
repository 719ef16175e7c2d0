#include "io/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

namespace mpt {
namespace {

static_assert(std::endian::native == std::endian::little, "the slices below are read as little-endian words");

// "Slicing by 8" (Kounavis and Berry, 2005): table[k][b] is the effect of byte b that is followed by k zero bytes, so
// eight bytes are eight independent look-ups. Several times as fast as one byte after the other.
constexpr int slices = 8;
using Tables = std::array<std::array<uint32_t, 256>, slices>;

constexpr Tables make_tables() {
  constexpr uint32_t reflected_polynomial = 0x82F63B78;
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? reflected_polynomial : 0);
    tables[0][byte] = crc;
  }
  for (int k = 1; k < slices; ++k)
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xFF];
    }
  return tables;
}

constexpr Tables tables = make_tables();

}  // namespace

uint32_t crc32c(const void* data, std::size_t bytes, uint32_t before) noexcept {
  const auto* p = static_cast<const unsigned char*>(data);
  uint32_t crc = ~before;
  for (; bytes >= slices; bytes -= slices, p += slices) {
    uint32_t low, high;
    std::memcpy(&low, p, sizeof low);
    std::memcpy(&high, p + sizeof low, sizeof high);
    low ^= crc;
    crc = tables[7][low & 0xFF] ^ tables[6][low >> 8 & 0xFF] ^ tables[5][low >> 16 & 0xFF] ^ tables[4][low >> 24] ^
          tables[3][high & 0xFF] ^ tables[2][high >> 8 & 0xFF] ^ tables[1][high >> 16 & 0xFF] ^ tables[0][high >> 24];
  }
  for (; bytes > 0; --bytes, ++p) crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xFF];
  return ~crc;
}

}  // namespace mpt
