// The CUDA backend's lists of implementations. Each file <op>.cpp adds its own (kernels.h); the kernels themselves are in
// the folder kernels/ at the top.
#pragma once

#include "backend/cuda/lib/blas.h"
#include "backend/cuda/lib/device.h"
#include "backend/cuda/lib/dnn.h"
#include "backend/implementations.h"
#include "kernels/element.h"

namespace mpt::cuda {

// What kernels run on. It outlives them: they may keep a reference. Everything is enqueued on `stream`.
struct Target {
  Device& device;
  Blas& blas;
  Dnn* dnn;  // null: there is no cuDNN
  Stream stream;
};

class Registry : public Implementations<Target> {};

// All implementations of this build.
const Registry& registry();

// ---- for the implementations

inline bool is_element(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }
inline Element element_of(DType type) {
  return type == DType::f32 ? Element::f32 : type == DType::f16 ? Element::f16 : Element::bf16;
}
// Of input or output i of a node; f32 where it is none.
inline Element element_of(const Graph& graph, const std::vector<ValueId>& ids, std::size_t i) {
  return i < ids.size() && ids[i] != none ? element_of(graph.value(ids[i]).dtype) : Element::f32;
}
inline bool has(const std::vector<ValueId>& ids, std::size_t i) { return i < ids.size() && ids[i] != none; }
// All floating-point tensors of the node are FP32, FP16 or BF16.
bool has_element_types(const Graph& graph, const Node& node);

}  // namespace mpt::cuda
