// Name patterns as in file names: * is any text, ? any one character.
#pragma once

#include <string_view>

namespace mpt {

// The whole name must fit. UTF-8: ? stands for one character, however many bytes it has.
bool matches_pattern(std::string_view pattern, std::string_view name);

}  // namespace mpt
