// Pieces of error messages about files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mpt {

// 'text' in quotes, fit for a one-line message: control characters and quotes escaped, cut to `limit` bytes.
std::string in_quotes(std::string_view text, std::size_t limit = 100);

// The path in quotes. A long one keeps its end, which tells files apart.
std::string quoted_path(const std::string& path);

// "[2, 3]" for sizes as a file gives them: any number of them, unlike Shape.
std::string sizes_text(const std::vector<int64_t>& sizes);

// Throws MPT_ERROR_IO: "cannot <action> '<path>': <what errno says>".
[[noreturn]] void fail_io(const char* action, const std::string& path, int error_number);

}  // namespace mpt
