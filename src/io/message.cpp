#include "io/message.h"

#include <cstdio>
#include <system_error>

#include "core/error.h"

namespace mpt {
namespace {

constexpr std::size_t max_path_bytes = 300;

bool is_utf8_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string in_quotes(std::string_view text, std::size_t limit) {
  std::size_t length = text.size();
  if (length > limit) {
    length = limit;
    while (length > 0 && is_utf8_continuation(text[length])) --length;  // never half a character
  }
  std::string out = "'";
  for (char c : text.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\'' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", byte);
      out += escape;
    } else {
      out += c;
    }
  }
  if (length < text.size()) out += "...";
  return out + "'";
}

std::string quoted_path(const std::string& path) {
  if (path.size() <= max_path_bytes) return in_quotes(path, max_path_bytes);
  std::size_t start = path.size() - max_path_bytes;
  while (start < path.size() && is_utf8_continuation(path[start])) ++start;
  return in_quotes("..." + path.substr(start), max_path_bytes + 3);
}

std::string sizes_text(const std::vector<int64_t>& sizes) {
  constexpr std::size_t max_shown = 16;
  std::string out = "[";
  for (std::size_t i = 0; i < sizes.size() && i < max_shown; ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(sizes[i]);
  }
  if (sizes.size() > max_shown) out += ", ... " + std::to_string(sizes.size()) + " sizes";
  return out + "]";
}

void fail_io(const char* action, const std::string& path, int error_number) {
  fail(MPT_ERROR_IO, "cannot %s %s: %s", action, quoted_path(path).c_str(),
       std::generic_category().message(error_number).c_str());
}

}  // namespace mpt
