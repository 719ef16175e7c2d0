// The caller's own ops on a device: their functions get device pointers and the step's stream, enqueue, and are called once for
// work that is recorded.
#include <doctest/doctest.h>

#include "backend/cuda/registry.h"
#include "cuda/emulated.h"

using namespace mpt;
using namespace mpt::test;

namespace {

constexpr int count = 100;

__global__ void sum_kernel(const float* a, const float* b, float* sum, float* scratch) {
  const int i = static_cast<int>(threadIdx.x);
  scratch[i] = a[i] + b[i];
  sum[i] = scratch[i];
}
__global__ void scale_kernel(const float* from, float by, float* to) { to[threadIdx.x] = by * from[threadIdx.x]; }

struct Calls {
  cuda::Stream stream = nullptr;  // expected
  int forward = 0, backward = 0;
  int32_t answer = 0;
};

bool is_as_promised(const mpt_array& array) {
  return array.device_type == MPT_DEVICE_CUDA && array.dtype == MPT_FLOAT32 && array.rank == 1 &&
         array.shape[0] == count;
}

// a + b
int32_t forward(void* user, const mpt_array* in, int32_t n_in, mpt_array* out, int32_t n_out, void* scratch,
                void* stream) {
  auto* calls = static_cast<Calls*>(user);
  ++calls->forward;
  if (calls->answer != 0) return calls->answer;
  if (n_in != 2 || n_out != 1 || stream != calls->stream) return 41;
  if (!is_as_promised(in[0]) || !is_as_promised(in[1]) || !is_as_promised(out[0])) return 42;
  cuda::launch(sum_kernel, 1, count, 0, stream, static_cast<const float*>(in[0].data),
               static_cast<const float*>(in[1].data), static_cast<float*>(out[0].data), static_cast<float*>(scratch));
  return 0;
}

// Of a alone: twice the gradient, so that it differs.
int32_t backward(void* user, const mpt_array* in, int32_t n_in, const mpt_array* out, const mpt_array* dout,
                 int32_t n_out, mpt_array* din, void*, void* stream) {
  auto* calls = static_cast<Calls*>(user);
  ++calls->backward;
  if (n_in != 2 || n_out != 1 || stream != calls->stream || din[1].data != nullptr) return 43;
  if (!is_as_promised(in[1]) || !is_as_promised(out[0]) || !is_as_promised(dout[0]) || !is_as_promised(din[0]))
    return 44;
  cuda::launch(scale_kernel, 1, count, 0, stream, static_cast<const float*>(dout[0].data), 2.0f,
               static_cast<float*>(din[0].data));
  return 0;
}

ValueId add_input(Graph& graph) {
  Value value;
  value.shape = Shape{count};
  value.role = Role::input;
  return graph.add_value(std::move(value));
}

CustomAttrs attrs_of(Calls* calls) {
  CustomAttrs attrs;
  attrs.forward = forward;
  attrs.backward = backward;
  attrs.user = calls;
  attrs.scratch_bytes = count * sizeof(float);
  attrs.fp32 = true;
  attrs.out_shapes = {Shape{count}};
  attrs.n_inputs = 2;
  attrs.n_outputs = 1;
  return attrs;
}

}  // namespace

TEST_CASE("custom ops enqueue on the step's stream, and once for recorded work") {
  Emulated emulated;
  const cuda::Target target{emulated.device(), emulated.blas(), nullptr, emulated.stream()};
  Calls calls{emulated.stream()};
  Graph graph;
  const ValueId a = add_input(graph), b = add_input(graph), dout = add_input(graph);
  const NodeId node = graph.add(OpKind::custom, "own", attrs_of(&calls), {a, b});
  CustomAttrs of_gradient = attrs_of(&calls);
  of_gradient.wanted = {true, false};
  const NodeId gradient = graph.add(OpKind::custom_grad, "own", of_gradient, {a, b, graph.node(node).outputs[0], dout});
  const auto op = cuda::registry().prepare("cuda", graph, graph.node(node), target);
  const auto op_gradient = cuda::registry().prepare("cuda", graph, graph.node(gradient), target);
  CHECK(op->scratch_bytes() == count * sizeof(float));

  std::vector<float> x(count), y(count), dz(count);
  for (int i = 0; i < count; ++i) {
    x[i] = static_cast<float>(i);
    y[i] = 0.5f * static_cast<float>(i % 7);
    dz[i] = static_cast<float>(i % 5);
  }
  float* const at[] = {emulated.to_device(x),  emulated.to_device(y),           emulated.allocate<float>(count),
                       emulated.to_device(dz), emulated.allocate<float>(count), emulated.allocate<float>(count)};
  const void* inputs[] = {at[0], at[1]};
  void* outputs[] = {at[2]};
  const void* gradient_inputs[] = {at[0], at[1], at[2], at[3]};
  void* gradient_outputs[] = {at[4], nullptr};
  emulated.device().begin_recording(emulated.stream());
  op->run({inputs, outputs, at[5], nullptr});
  op_gradient->run({gradient_inputs, gradient_outputs, at[5], nullptr});
  const auto recording = emulated.device().end_recording(emulated.stream());
  for (int run = 0; run < 3; ++run) recording->run(emulated.stream());
  const std::vector<float> z = emulated.to_host(at[2], count), dx = emulated.to_host(at[4], count);
  for (int i = 0; i < count; ++i) {
    CHECK(z[i] == x[i] + y[i]);
    CHECK(dx[i] == 2 * dz[i]);
  }
  CHECK(calls.forward == 1);
  CHECK(calls.backward == 1);

  calls.answer = 17;
  const std::string message = error_of([&] { op->run({inputs, outputs, at[5], nullptr}); });
  CHECK(message.find("'own'") != std::string::npos);
  CHECK(message.find("17") != std::string::npos);
}
