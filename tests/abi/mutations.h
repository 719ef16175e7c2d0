// What can be wrong with one argument of a valid call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "calls.h"

namespace abi {

enum class Expect {
  refused,   // INVALID_ARGUMENT, with a message
  unusual,   // fine, or a failure with a message: huge sizes, files that are not there
  accepted,  // documented as allowed
};

struct Mutation {
  std::string what;
  Value value;
  Expect expect;
  std::shared_ptr<void> memory;  // of the value, of its exact size: AddressSanitizer sees a read beyond
};

// All that is tried in place of argument `index`.
std::vector<Mutation> mutations_of(const World& world, const Function& function, const std::vector<Value>& arguments,
                                   std::size_t index);

}  // namespace abi
