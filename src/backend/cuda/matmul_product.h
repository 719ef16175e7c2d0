// The product of a matmul node, without its epilogue: its shape, and the ways to enqueue parts of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/registry.h"
#include "graph/graph.h"

namespace mpt::cuda {

// D = op(A) op(B) for each item of a batch. Row-major as all tensors are; lda and ldb are the lengths of rows in
// memory. Axes of the batch are merged where one stride leads through them, and an axis that only A has is more rows of
// one product.
struct ProductShape {
  struct Axis {
    int64_t size, stride_a, stride_b;
  };

  ProductShape(const Graph& graph, const Node& node);

  DType a, b;
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb;
  std::vector<Axis> axes;  // outermost first
  int64_t items = 1;
};

// Rows [row, row + rows) of items [item, item + items); all rows where items is not 1.
struct Part {
  int64_t item = 0, items = 1, row = 0, rows = 0;
};

// Parts whose results have room in `elements` numbers, of nearly equal sizes; at least a row each.
std::vector<Part> parts_of(const ProductShape& shape, int64_t elements);

// Enqueues parts of a product into dense memory `d`, rounded to the type that it was made for.
class Product {
 public:
  virtual ~Product() = default;
  virtual uint64_t workspace_bytes() const = 0;  // aligned to 256 bytes
  virtual void run(Stream stream, const Part& part, const void* a, const void* b, void* d, void* workspace) const = 0;
  virtual bool is_library() const = 0;
};

// By cuBLASLt; null where it doesn't take the types, the broadcast or a part's shape.
std::unique_ptr<Product> library_product(Blas& blas, const ProductShape& shape, DType d,
                                         const std::vector<Part>& parts);
// By kernels/matmul.h, which takes everything.
std::unique_ptr<Product> own_product(const ProductShape& shape, DType d);

// ---- the library's plans, also for products with a native epilogue

constexpr uint64_t most_workspace_bytes = uint64_t{32} << 20;

// Types and batch are the library's: it has kernels for them.
bool library_takes(const ProductShape& shape, DType d);
BlasProblem library_problem(const ProductShape& shape, DType d, int64_t items, int64_t rows);
// Of op(A)'s row `row` in item `item`, and of op(B)'s item.
const void* part_of_a(const ProductShape& shape, const Part& part, const void* a);
const void* part_of_b(const ProductShape& shape, const Part& part, const void* b);

// One problem's plan for addresses that are multiples of 16 bytes, as those of whole tensors and of most parts are, and
// another for any others.
class LibraryPlan {
 public:
  // False where the library has no algorithm. The problem's own alignment is not looked at.
  bool make(Blas& blas, BlasProblem problem);
  bool takes_any_address() const { return any_ != nullptr; }
  bool takes(const BlasOperands& operands) const;
  uint64_t workspace_bytes() const;
  void run(Stream stream, const BlasOperands& operands) const;

 private:
  bool is_aligned(const BlasOperands& operands) const;

  std::shared_ptr<Blas::Plan> aligned_, any_;  // any_ may be null
  uintptr_t alignment_ = 16;
};

}  // namespace mpt::cuda
