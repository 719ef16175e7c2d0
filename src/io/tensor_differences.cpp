#include "io/tensor_differences.h"

#include <algorithm>
#include <unordered_set>

#include "io/convert.h"
#include "io/message.h"

namespace mpt {
namespace {

constexpr std::size_t max_shown = 8;

std::string shown(const std::string& name) { return in_quotes(name); }
std::string shown(const TensorDifferences::Mismatch& m) {
  return in_quotes(m.name) + " is " + m.found + ", expected " + m.expected;
}

template <typename Item>
void append_list(const char* kind, const std::vector<Item>& items, std::string* out) {
  if (items.empty()) return;
  if (!out->empty()) *out += "; ";
  *out += std::to_string(items.size()) + " " + kind + ": ";
  for (std::size_t i = 0; i < std::min(items.size(), max_shown); ++i) *out += (i ? ", " : "") + shown(items[i]);
  if (items.size() > max_shown) *out += " and " + std::to_string(items.size() - max_shown) + " more";
}

}  // namespace

std::string TensorDifferences::text() const {
  std::string out;
  append_list("missing", missing, &out);
  append_list("unexpected", unexpected, &out);
  append_list("misshapen", misshapen, &out);
  append_list("of another dtype", mistyped, &out);
  return out;
}

TensorDifferences compare_tensors(const SafetensorsFile& file, const std::vector<TensorExpectation>& expected,
                                  std::string_view ignored_prefix) {
  TensorDifferences out;
  std::unordered_set<std::string_view> wanted;
  for (const TensorExpectation& want : expected) {
    wanted.insert(want.name);
    const TensorEntry* found = file.find(want.name);
    if (!found) {
      out.missing.push_back(want.name);
      continue;
    }
    if (!std::equal(found->sizes.begin(), found->sizes.end(), want.shape.begin(), want.shape.end()))
      out.misshapen.push_back({want.name, sizes_text(found->sizes), want.shape.text()});
    const std::optional<DType> type = dtype_of(found->type);
    if (!type || !is_convertible(*type, want.dtype))
      out.mistyped.push_back({want.name, found->type, safetensors_type(want.dtype)});
  }
  for (const TensorEntry& tensor : file.tensors()) {
    const bool ignored =
        !ignored_prefix.empty() && std::string_view(tensor.name).substr(0, ignored_prefix.size()) == ignored_prefix;
    if (!ignored && !wanted.count(tensor.name)) out.unexpected.push_back(tensor.name);
  }
  return out;
}

}  // namespace mpt
