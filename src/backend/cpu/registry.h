// The CPU backend's lists of implementations: for each kind of node an ordered table, fastest first; the first that supports
// a node takes it. Each file <op>.cpp adds its own (kernels.h).
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/parallel.h"
#include "graph/graph.h"

namespace mpt::cpu {

// What kernels run on. It outlives them: they may keep the reference to the threads.
struct Target {
  const Parallel& parallel;
  Isa isa;
};

struct Implementation {
  const char* name;
  bool (*supports)(const Graph& graph, const Node& node, const Target& target);
  std::unique_ptr<Kernel> (*prepare)(const Graph& graph, const Node& node, const Target& target);
};

class Registry {
 public:
  // Appends to the list of `kind`.
  void add(OpKind kind, const Implementation& implementation) {
    lists_[static_cast<int>(kind)].push_back(implementation);
  }
  const std::vector<Implementation>& list(OpKind kind) const { return lists_[static_cast<int>(kind)]; }

 private:
  std::array<std::vector<Implementation>, static_cast<int>(OpKind::count_)> lists_;
};

// All implementations of this build.
const Registry& registry();

// By the first implementation that supports the node. Throws UNSUPPORTED, naming op and tensors.
std::unique_ptr<Kernel> prepare_kernel(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
