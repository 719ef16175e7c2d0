// A backend's lists of implementations: for each kind of node an ordered table, fastest first; the first that supports a
// node takes it. Target is what that backend's kernels run on.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/error.h"
#include "graph/graph.h"
#include "graph/op_def.h"

namespace mpt {

template <typename Target>
class Implementations {
 public:
  struct Entry {
    const char* name;
    bool (*supports)(const Graph& graph, const Node& node, const Target& target);
    std::unique_ptr<Kernel> (*prepare)(const Graph& graph, const Node& node, const Target& target);
  };

  // Appends to the list of `kind`.
  void add(OpKind kind, const Entry& entry) { lists_[static_cast<std::size_t>(kind)].push_back(entry); }
  const std::vector<Entry>& list(OpKind kind) const { return lists_[static_cast<std::size_t>(kind)]; }

  // By the first that supports the node. Throws UNSUPPORTED, naming backend, op and tensors.
  std::unique_ptr<Kernel> prepare(const char* backend, const Graph& graph, const Node& node,
                                  const Target& target) const {
    for (const Entry& entry : list(node.kind))
      if (entry.supports(graph, node, target)) return entry.prepare(graph, node, target);
    std::string tensors;
    for (ValueId id : node.inputs) {
      if (!tensors.empty()) tensors += ", ";
      tensors += id == none ? "none" : name_of(graph.value(id).dtype) + graph.shape(id).text();
    }
    fail(MPT_ERROR_UNSUPPORTED, "%s: no implementation of '%s' (%s) for (%s)", backend, node.name.c_str(),
         op_def(node.kind).name, tensors.c_str());
  }

 private:
  std::array<std::vector<Entry>, static_cast<std::size_t>(OpKind::count_)> lists_;
};

}  // namespace mpt
