#include "io/crc32c.h"

#include <doctest/doctest.h>

#include <string>

using mpt::crc32c;

TEST_CASE("crc32c: the known answers of RFC 3720, B.4") {
  CHECK(crc32c("123456789", 9) == 0xE3069283);  // the check value of the CRC catalogue
  CHECK(crc32c(std::string(32, '\0').data(), 32) == 0x8A9136AA);
  CHECK(crc32c(std::string(32, '\xFF').data(), 32) == 0x62A8AB43);
  std::string rising(32, '\0');
  for (int i = 0; i < 32; ++i) rising[static_cast<std::size_t>(i)] = static_cast<char>(i);
  CHECK(crc32c(rising.data(), 32) == 0x46DD794E);
  CHECK(crc32c(nullptr, 0) == 0);
}

TEST_CASE("crc32c: pieces give the checksum of the whole, at any alignment") {
  std::string text;
  for (int i = 0; i < 61; ++i) text += static_cast<char>(i * 37 + 11);
  const uint32_t whole = crc32c(text.data(), text.size());
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    CHECK(crc32c(text.data() + cut, text.size() - cut, crc32c(text.data(), cut)) == whole);
}

TEST_CASE("crc32c: every single-bit change is seen") {
  std::string text = "sixteen bytes +3...";
  const uint32_t before = crc32c(text.data(), text.size());
  for (char& c : text)
    for (int bit = 0; bit < 8; ++bit) {
      c = static_cast<char>(c ^ (1 << bit));
      CHECK(crc32c(text.data(), text.size()) != before);
      c = static_cast<char>(c ^ (1 << bit));
    }
}
