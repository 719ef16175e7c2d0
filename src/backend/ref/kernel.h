// What all kernels of the reference share: a node's tensors at prepare time and at run time.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/ref/tensor.h"

namespace mpt::ref {

// One launch: the node's tensors with their memory.
class Launch {
 public:
  Launch(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, const KernelArgs& args)
      : inputs_(inputs), outputs_(outputs), args_(args) {}

  Tensor input(int i) const;  // without data where there is none
  Tensor output(int i) const;
  double* scratch() const { return static_cast<double*>(args_.scratch); }
  const StepVars& vars() const { return *args_.vars; }

 private:
  const std::vector<Tensor>& inputs_;
  const std::vector<Tensor>& outputs_;
  const KernelArgs& args_;
};

using Function = std::function<void(const Launch&)>;

// A kernel that calls `function` with the node's tensors and `scratch` bytes.
std::unique_ptr<Kernel> make_kernel(const Graph& graph, const Node& node, Function function, uint64_t scratch = 0);

inline uint64_t doubles(int64_t count) { return static_cast<uint64_t>(count) * sizeof(double); }

// The sizes before, at and after an axis: element (o, a, i) lies at (o * size + a) * inner + i.
struct AxisView {
  int64_t outer = 1, size = 1, inner = 1;
  AxisView(const Shape& shape, int axis);
  AxisView(const Shape& shape, int first, int last);  // the axes first .. last - 1 as one
  int64_t at(int64_t o, int64_t a, int64_t i) const { return (o * size + a) * inner + i; }
};

}  // namespace mpt::ref
