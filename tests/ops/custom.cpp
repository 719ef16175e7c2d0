// TEST_CASEs: the caller's own ops.
#include <doctest/doctest.h>

#include <cstring>

#include "graph/op_def.h"
#include "ops/op_test.h"
#include "ops/run_node.h"

namespace mpt::test {
namespace {

int64_t count(const mpt_array& array) {
  int64_t n = 1;
  for (int i = 0; i < array.rank; ++i) n *= array.shape[i];
  return n;
}

double load(const mpt_array& array, int64_t i) {
  Array one(Shape{1}, static_cast<DType>(array.dtype));
  std::memcpy(one.bytes.data(), static_cast<const char*>(array.data) + i * static_cast<int64_t>(one.bytes.size()),
              one.bytes.size());
  return one.values()[0];
}

void store(const mpt_array& array, int64_t i, double x) {
  const Array one(Shape{1}, static_cast<DType>(array.dtype), {x});
  std::memcpy(static_cast<char*>(array.data) + i * static_cast<int64_t>(one.bytes.size()), one.bytes.data(),
              one.bytes.size());
}

// outputs: a b and a + 2 b. The scratch is filled to its end, so that a guard tells if it is too small.
int32_t forward(void* user, const mpt_array* in, int32_t n_in, mpt_array* out, int32_t n_out, void* scratch,
                void* stream) {
  if (n_in != 2 || n_out != 2 || stream || (user && *static_cast<int*>(user) != 0)) return 41;
  std::memset(scratch, 7, 1000);
  for (int64_t i = 0; i < count(in[0]); ++i) {
    const double a = load(in[0], i), b = load(in[1], i);
    store(out[0], i, a * b);
    store(out[1], i, a + 2 * b);
  }
  return 0;
}

int32_t backward(void*, const mpt_array* in, int32_t n_in, const mpt_array* out, const mpt_array* dout, int32_t n_out,
                 mpt_array* din, void* scratch, void*) {
  if (n_in != 2 || n_out != 2 || !out[0].data || !out[1].data) return 42;
  std::memset(scratch, 7, 1000);
  for (int64_t i = 0; i < count(in[0]); ++i) {
    const double g0 = dout[0].data ? load(dout[0], i) : 0, g1 = dout[1].data ? load(dout[1], i) : 0;
    if (din[0].data) store(din[0], i, g0 * load(in[1], i) + g1);
    if (din[1].data) store(din[1], i, g0 * load(in[0], i) + 2 * g1);
  }
  return 0;
}

CustomAttrs attrs_of(const Shape& shape, bool fp32 = false, void* user = nullptr) {
  CustomAttrs attrs;
  attrs.forward = forward;
  attrs.backward = backward;
  attrs.user = user;
  attrs.scratch_bytes = 1000;
  attrs.fp32 = fp32;
  attrs.out_shapes = {shape, shape};
  attrs.n_inputs = attrs.n_outputs = 2;
  return attrs;
}

Build custom(const CustomAttrs& attrs, bool both = true) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    const NodeId id = graph.add(OpKind::custom, "own", attrs, in);
    std::vector<ValueId> outputs = graph.node(id).outputs;
    if (!both) outputs.pop_back();
    return outputs;
  };
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{31, 3}, Shape{257}}) {
    cases.push_back({text(shape), {{shape}, {shape}}, custom(attrs_of(shape))});
    cases.push_back({"in FP32 " + text(shape), {{shape}, {shape}}, custom(attrs_of(shape, true))});
    cases.push_back({"one gradient arrives " + text(shape), {{shape}, {shape}}, custom(attrs_of(shape), false)});
    cases.push_back({"one gradient wanted " + text(shape),
                     {{.shape = shape, .differentiate = false}, {shape}},
                     custom(attrs_of(shape))});
  }
  return cases;
}
const OpTable table(__FILE__, __LINE__, "custom", table_cases());

TEST_CASE("custom: a function that fails is told with op and number") {
  int fails = 1;
  Graph graph;
  const std::vector<ValueId> in = add_inputs(graph, {{{3}}, {{3}}});
  custom(attrs_of({3}, false, &fails))(graph, in);
  const Array x(Shape{3}, DType::f32, {1, 2, 3});
  for (Backend* backend : {&cpu_backend(2), &ref_backend()}) {
    try {
      run_node(*backend, graph, graph.node(1), {x, x}, StepVars{}, 0xff);
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(error.status() == MPT_ERROR_INVALID_STATE);
      CHECK(std::string(error.what()).find("own") != std::string::npos);
      CHECK(std::string(error.what()).find("41") != std::string::npos);
    }
  }
}

}  // namespace
}  // namespace mpt::test
