#include "runtime/pattern.h"

namespace mpt {
namespace {

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the character at the front of a text that is not empty.
std::size_t character_bytes(std::string_view text) {
  std::size_t n = 1;
  while (n < text.size() && continues_character(text[n])) ++n;
  return n;
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view name) {
  // After a star: where to go back to when what follows does not fit. Only the last star need be tried again.
  bool starred = false;
  std::string_view pattern_after_star, name_after_star;
  while (true) {
    if (!pattern.empty() && pattern.front() == '*') {
      pattern.remove_prefix(1);
      starred = true;
      pattern_after_star = pattern;
      name_after_star = name;
    } else if (name.empty()) {
      return pattern.empty();
    } else if (!pattern.empty() && pattern.front() == '?') {
      pattern.remove_prefix(1);
      name.remove_prefix(character_bytes(name));
    } else if (!pattern.empty() && pattern.front() == name.front()) {
      pattern.remove_prefix(1);
      name.remove_prefix(1);
    } else if (starred && !name_after_star.empty()) {
      name_after_star.remove_prefix(1);
      pattern = pattern_after_star;
      name = name_after_star;
    } else {
      return false;
    }
  }
}

}  // namespace mpt
