// Sizes that are known only later. A negative size in a shape is the id of an entry here: a dimension the user named, or one
// that shape inference derived from named ones and that only actual sizes will tell.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace mpt {

class Dims {
 public:
  int64_t named(const std::string& name);           // the same name gives the same id
  int64_t derived(const std::string& description);  // likewise by description: equal expressions are equal sizes
  const std::string& name(int64_t id) const;
  bool is_named(int64_t id) const;
  bool is_valid(int64_t id) const;
  std::vector<std::string> names() const;  // of named dimensions, in order of creation

 private:
  struct Entry {
    std::string name;
    bool named;
  };
  std::vector<Entry> entries_;
  std::map<std::string, int64_t> ids_;
};

}  // namespace mpt
