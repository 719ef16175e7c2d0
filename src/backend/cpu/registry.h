// The CPU backend's lists of implementations. Each file <op>.cpp adds its own (kernels.h).
#pragma once

#include "backend/cpu/isa.h"
#include "backend/cpu/parallel.h"
#include "backend/implementations.h"

namespace mpt::cpu {

// What kernels run on. It outlives them: they may keep the reference to the threads.
struct Target {
  const Parallel& parallel;
  Isa isa;
};

class Registry : public Implementations<Target> {};

// All implementations of this build.
const Registry& registry();

// By the first implementation that supports the node. Throws UNSUPPORTED, naming op and tensors.
std::unique_ptr<Kernel> prepare_kernel(const Graph& graph, const Node& node, const Target& target);

}  // namespace mpt::cpu
