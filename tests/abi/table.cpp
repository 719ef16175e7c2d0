#include "table.h"

namespace abi {

#include "header_table.inc"

const Function* find_function(const std::string& name) {
  for (const Function& function : functions)
    if (function.name == name) return &function;
  return nullptr;
}

const Struct* find_struct(const std::string& name) {
  for (const Struct& type : structs)
    if (type.name == name) return &type;
  return nullptr;
}

std::string pointed_type(const std::string& type) {
  const std::size_t begin = type.rfind("const ", 0) == 0 ? 6 : 0;
  return type.substr(begin, type.find('*') - begin);
}

}  // namespace abi
