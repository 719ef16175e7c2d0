#include "backend/cuda/matmul_product.h"

#include <algorithm>
#include <map>

#include "kernels/matmul.h"

namespace mpt::cuda {

ProductShape::ProductShape(const Graph& graph, const Node& node) {
  const auto& attrs = std::get<MatmulAttrs>(node.attrs);
  const Value &x = graph.value(node.inputs[0]), &y = graph.value(node.inputs[1]);
  const Shape& c = graph.shape(node.outputs[0] != none ? node.outputs[0] : node.outputs.back());
  a = x.dtype, b = y.dtype;
  transpose_a = attrs.transpose_a, transpose_b = attrs.transpose_b;
  m = c[-2], n = c[-1];
  k = transpose_a ? x.shape[-2] : x.shape[-1];
  lda = x.shape[-1], ldb = y.shape[-1];

  const Shape batch(c.rank() - 2, c.begin());
  const Strides strides_a = broadcast_strides(Shape(x.shape.rank() - 2, x.shape.begin()), batch);
  const Strides strides_b = broadcast_strides(Shape(y.shape.rank() - 2, y.shape.begin()), batch);
  for (int d = 0; d < batch.rank(); ++d) {
    if (batch[d] == 1) continue;
    const auto at = static_cast<std::size_t>(d);
    const Axis axis{batch[d], strides_a[at] * m * k, strides_b[at] * k * n};
    Axis* outer = axes.empty() ? nullptr : &axes.back();
    if (outer != nullptr && outer->stride_a == axis.stride_a * axis.size &&
        outer->stride_b == axis.stride_b * axis.size)
      *outer = {outer->size * axis.size, axis.stride_a, axis.stride_b};
    else
      axes.push_back(axis);
  }
  if (!axes.empty() && !transpose_a && axes.back().stride_b == 0 && axes.back().stride_a == m * lda) {
    m *= axes.back().size;
    axes.pop_back();
  }
  for (const Axis& axis : axes) items *= axis.size;
}

std::vector<Part> parts_of(const ProductShape& shape, int64_t elements) {
  const auto up = [](int64_t x, int64_t to) { return (x + to - 1) / to * to; };
  std::vector<Part> parts;
  if (shape.m * shape.n <= elements) {
    int64_t items = std::min(shape.items, elements / (shape.m * shape.n));
    if (items >= 8) items = std::min(shape.items, items / 8 * 8);  // parts begin at vectors
    for (int64_t item = 0; item < shape.items; item += items)
      parts.push_back({item, std::min(items, shape.items - item), 0, shape.m});
    return parts;
  }
  const int64_t most = std::max<int64_t>(elements / shape.n, 1);
  const int64_t unit = most >= 128 ? 128 : most >= 8 ? 8 : 1;  // whole tiles, whole vectors
  const int64_t chunks = (shape.m + most / unit * unit - 1) / (most / unit * unit);
  const int64_t rows = up((shape.m + chunks - 1) / chunks, unit);
  for (int64_t item = 0; item < shape.items; ++item)
    for (int64_t row = 0; row < shape.m; row += rows) parts.push_back({item, 1, row, std::min(rows, shape.m - row)});
  return parts;
}

// ---- the library

bool library_takes(const ProductShape& shape, DType d) {
  return shape.a == shape.b && is_element(shape.a) && (d == shape.a || d == DType::f32) && shape.axes.size() <= 1 &&
         shape.k > 0;
}

// From row-major to column-major: memory that holds a row-major matrix holds its transposed in column-major order, with
// the same leading dimension. So what the library sees of A, B and D is A^T, B^T and D^T, and since
//
//   D = op(A) op(B)   is   D^T = op(B)^T op(A)^T,
//
// it is given B as its first operand and A as its second, each transposed exactly where the node says so; its rows are
// our columns. A bias with a number for each of our columns has one for each of its rows.
BlasProblem library_problem(const ProductShape& shape, DType d, int64_t items, int64_t rows) {
  BlasProblem p;
  p.m = shape.n;
  p.n = rows;
  p.k = shape.k;
  p.transpose_a = shape.transpose_b;
  p.transpose_b = shape.transpose_a;
  p.a = shape.b;
  p.b = shape.a;
  p.c = p.d = p.bias_dtype = d;
  p.lda = shape.ldb;
  p.ldb = shape.lda;
  p.ldc = p.ldd = shape.n;
  p.batch = items;
  if (items > 1) {
    p.stride_a = shape.axes[0].stride_b;
    p.stride_b = shape.axes[0].stride_a;
    p.stride_c = p.stride_d = rows * shape.n;
  }
  return p;
}

namespace {

const void* advanced(const void* pointer, int64_t elements, DType type) {
  return static_cast<const char*>(pointer) + elements * static_cast<int64_t>(size_of(type));
}
int64_t stride_a(const ProductShape& shape) { return shape.axes.empty() ? 0 : shape.axes[0].stride_a; }
int64_t stride_b(const ProductShape& shape) { return shape.axes.empty() ? 0 : shape.axes[0].stride_b; }

}  // namespace

const void* part_of_a(const ProductShape& shape, const Part& part, const void* a) {
  return advanced(a, part.item * stride_a(shape) + part.row * (shape.transpose_a ? 1 : shape.lda), shape.a);
}
const void* part_of_b(const ProductShape& shape, const Part& part, const void* b) {
  return advanced(b, part.item * stride_b(shape), shape.b);
}

bool LibraryPlan::make(Blas& blas, BlasProblem problem) {
  const auto reduce = [&](int64_t stride, DType type) {
    while (problem.batch > 1 && stride * static_cast<int64_t>(size_of(type)) % static_cast<int64_t>(alignment_) != 0)
      alignment_ /= 2;
  };
  reduce(problem.stride_a, problem.a);
  reduce(problem.stride_b, problem.b);
  reduce(problem.stride_c, problem.c);
  reduce(problem.stride_d, problem.d);
  reduce(problem.stride_aux, problem.d);
  problem.alignment = static_cast<int>(alignment_);
  aligned_ = blas.plan(problem, most_workspace_bytes);
  problem.alignment = static_cast<int>(std::min(size_of(problem.a), size_of(problem.d)));
  any_ = static_cast<int>(alignment_) == problem.alignment ? aligned_ : blas.plan(problem, most_workspace_bytes);
  return aligned_ != nullptr;
}

bool LibraryPlan::is_aligned(const BlasOperands& o) const {
  uintptr_t bits = 0;
  for (const void* pointer : {o.a, o.b, o.c, static_cast<const void*>(o.d), o.bias, static_cast<const void*>(o.aux)})
    bits |= reinterpret_cast<uintptr_t>(pointer);
  return bits % alignment_ == 0;
}

bool LibraryPlan::takes(const BlasOperands& o) const { return any_ != nullptr || is_aligned(o); }

uint64_t LibraryPlan::workspace_bytes() const {
  return std::max(aligned_->workspace_bytes(), any_ ? any_->workspace_bytes() : uint64_t{0});
}

void LibraryPlan::run(Stream stream, const BlasOperands& o) const { (is_aligned(o) ? aligned_ : any_)->run(stream, o); }

namespace {

class OwnProduct final : public Product {
 public:
  OwnProduct(const ProductShape& shape, DType d) : transpose_a_(shape.transpose_a), lda_(shape.lda) {
    args_.type_a = element_of(shape.a);
    args_.type_b = element_of(shape.b);
    args_.type_d = element_of(d);
    args_.n = shape.n;
    args_.k = shape.k;
    args_.row_a = shape.transpose_a ? 1 : shape.lda;
    args_.column_a = shape.transpose_a ? shape.lda : 1;
    args_.row_b = shape.transpose_b ? 1 : shape.ldb;
    args_.column_b = shape.transpose_b ? shape.ldb : 1;
    for (const ProductShape::Axis& axis : shape.axes) {
      args_.size[args_.axes] = Divisor(axis.size);
      args_.stride_a[args_.axes] = axis.stride_a;
      args_.stride_b[args_.axes] = axis.stride_b;
      ++args_.axes;
    }
  }

  uint64_t workspace_bytes() const override { return 0; }
  void run(Stream stream, const Part& part, const void* a, const void* b, void* d, void*) const override {
    MatmulArgs args = args_;
    const int64_t row = part.row * (transpose_a_ ? 1 : lda_);
    args.a = static_cast<const char*>(a) + row * size_of_element(args.type_a);
    args.b = b;
    args.d = d;
    args.m = part.rows;
    args.first_item = part.item;
    args.items = part.items;
    matmul(args, stream);
  }
  bool is_library() const override { return false; }

 private:
  MatmulArgs args_{};
  bool transpose_a_;
  int64_t lda_;
};

class LibraryProduct final : public Product {
 public:
  LibraryProduct(const ProductShape& shape, DType d) : shape_(shape), own_(shape, d) {}

  bool make(Blas& blas, DType d, const std::vector<Part>& parts) {
    for (const Part& part : parts) {
      if (plans_.count({part.items, part.rows}) != 0) continue;
      LibraryPlan& plan = plans_[{part.items, part.rows}];
      if (!plan.make(blas, library_problem(shape_, d, part.items, part.rows))) return false;
      workspace_ = std::max(workspace_, plan.workspace_bytes());
    }
    return true;
  }

  uint64_t workspace_bytes() const override { return workspace_; }
  void run(Stream stream, const Part& part, const void* a, const void* b, void* d, void* workspace) const override {
    BlasOperands o;
    o.a = part_of_b(shape_, part, b);
    o.b = part_of_a(shape_, part, a);
    o.c = d;
    o.d = d;
    o.workspace = workspace;
    const LibraryPlan& plan = plans_.at({part.items, part.rows});
    if (plan.takes(o))
      plan.run(stream, o);
    else
      own_.run(stream, part, a, b, d, nullptr);
  }
  bool is_library() const override { return true; }

 private:
  ProductShape shape_;
  OwnProduct own_;                                            // for addresses that the library doesn't take
  std::map<std::pair<int64_t, int64_t>, LibraryPlan> plans_;  // by items and rows
  uint64_t workspace_ = 0;
};

}  // namespace

std::unique_ptr<Product> library_product(Blas& blas, const ProductShape& shape, DType d,
                                         const std::vector<Part>& parts) {
  if (!library_takes(shape, d)) return nullptr;
  auto product = std::make_unique<LibraryProduct>(shape, d);
  return product->make(blas, d, parts) ? std::move(product) : nullptr;
}

std::unique_ptr<Product> own_product(const ProductShape& shape, DType d) {
  return std::make_unique<OwnProduct>(shape, d);
}

}  // namespace mpt::cuda
