#include "graph/dims.h"

#include "core/error.h"

namespace mpt {
namespace {

// -1 is reshape's "the rest", so ids start at -2.
constexpr int64_t first_id = -2;
int64_t id_of(std::size_t index) { return first_id - static_cast<int64_t>(index); }

}  // namespace

int64_t Dims::named(const std::string& name) {
  const auto found = ids_.find(name);
  if (found != ids_.end()) return found->second;
  entries_.push_back({name, true});
  return ids_[name] = id_of(entries_.size() - 1);
}

int64_t Dims::derived(const std::string& description) {
  const std::string key = "(" + description + ")";  // no named dimension may look like this
  const auto found = ids_.find(key);
  if (found != ids_.end()) return found->second;
  entries_.push_back({key, false});
  return ids_[key] = id_of(entries_.size() - 1);
}

const std::string& Dims::name(int64_t id) const {
  const int64_t index = first_id - id;
  MPT_INVARIANT(index >= 0 && index < static_cast<int64_t>(entries_.size()));
  return entries_[index].name;
}

bool Dims::is_named(int64_t id) const {
  const int64_t index = first_id - id;
  return index >= 0 && index < static_cast<int64_t>(entries_.size()) && entries_[index].named;
}

bool Dims::is_valid(int64_t id) const {
  return id <= first_id && first_id - id < static_cast<int64_t>(entries_.size());
}

std::vector<std::string> Dims::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_)
    if (entry.named) names.push_back(entry.name);
  return names;
}

}  // namespace mpt
