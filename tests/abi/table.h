// What mpt.h declares, as tables that table.py writes from the header, so that no function and no member is forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mpt.h"

namespace abi {

enum class Kind {
  i32,
  u32,
  i64,
  u64,
  f64,
  enumeration,  // an int32_t type of the header's
  tensor,
  text,        // const char*
  handle,      // of an opaque type
  handle_out,  // where a create function writes it
  struct_in,
  struct_out,
  data_in,  // numbers or ids that are read, or texts
  data_out,
  function,
  data,  // a member that is an array
};

// One argument. Pointers come with the number of elements there.
struct Value {
  Value() = default;
  Value(int i) : integer(i) {}
  Value(int64_t i) : integer(i) {}
  Value(uint64_t i) : integer(static_cast<int64_t>(i)) {}
  Value(double d) : number(d) {}
  Value(std::nullptr_t) {}
  Value(const void* p, int n = 1) : pointer(p), count(n) {}

  int64_t integer = 0;
  double number = 0;
  const void* pointer = nullptr;
  int count = 0;
};

struct Result {
  int64_t integer;  // status, id or size
  const void* pointer;
};

struct Parameter {
  Kind kind;
  std::string type, name;
};

struct Function {
  std::string name, result;
  std::vector<Parameter> parameters;
  Result (*call)(const Value* arguments);
};

struct Member {
  Kind kind;
  std::string type, name;
  std::size_t offset, size;
};

struct Struct {
  std::string name;
  std::size_t size, first_size;  // now, and of the first version that had it (first_sizes.txt)
  std::vector<Member> members;
  mpt_status (*init)(void* s, uint64_t struct_size);  // null for one without struct_size
};

extern const std::vector<Function> functions;
extern const std::vector<Struct> structs;
extern const std::vector<std::string> handles;

const Function* find_function(const std::string& name);
const Struct* find_struct(const std::string& name);
// "mpt_model" of "const mpt_model*".
std::string pointed_type(const std::string& type);

}  // namespace abi
