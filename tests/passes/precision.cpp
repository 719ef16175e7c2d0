// The storage types that the precision pass gives, and the forms in which parameters are read.
#include <doctest/doctest.h>

#include "passes/autodiff.h"
#include "passes/graphs.h"

namespace mpt::test {
namespace {

Network linear_network(bool override_first) {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  b.graph.building_keep_fp32 = override_first;
  const ValueId h = b.linear("fc1", x, 5);
  b.graph.building_keep_fp32 = false;
  const ValueId y = b.linear("fc2", b.layer_norm("norm", h), 3);
  const ValueId labels = b.input("labels", Shape{4}, DType::i32);
  const ValueId loss = b.cross_entropy(y, labels);
  return {std::move(b.graph), loss};
}

DType dtype_of(const Graph& graph, const std::string& name) {
  const ValueId v = graph.find(name);
  REQUIRE_MESSAGE(v != none, name);
  return graph.value(v).dtype;
}

}  // namespace

TEST_CASE("fp16: activations and gradients in 16 bits, statistics, losses and norm weights in FP32") {
  for (mpt_precision precision : {MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
    const Network net = training_graph(linear_network(false), {precision});
    const DType narrow = storage_type(precision);
    CHECK(is_16bit(narrow));
    for (const char* name : {"x", "fc1", "fc1.add", "norm", "fc2", "fc1.weight", "fc1.bias", "fc1.weight.grad",
                             "fc2.bias.grad", "fc1.add.grad", "norm.grad"})
      CHECK_MESSAGE(dtype_of(net.graph, name) == narrow, name);
    for (const char* name :
         {"norm:1", "norm:2", "norm.weight", "norm.bias", "norm.weight.grad", "loss", "loss:1", "loss.grad"})
      CHECK_MESSAGE(dtype_of(net.graph, name) == DType::f32, name);
    CHECK(dtype_of(net.graph, "labels") == DType::i32);
    CHECK(net.graph.value(net.graph.find("fc1.weight")).form == ParamForm::copy);
    CHECK(net.graph.value(net.graph.find("norm.weight")).form == ParamForm::master);
  }
}

TEST_CASE("fp32: everything FP32, masters read") {
  const Network net = training_graph(linear_network(false), {MPT_PRECISION_FP32});
  for (std::size_t v = 1; v < net.graph.values.size(); ++v) {
    const Value& value = net.graph.values[v];
    if (is_float(value.dtype)) CHECK_MESSAGE(value.dtype == DType::f32, value.name);
    if (value.role == Role::parameter) CHECK(value.form == ParamForm::master);
  }
}

TEST_CASE("an op kept in FP32: its outputs, their gradients and the weights it reads") {
  const Network net = training_graph(linear_network(true), {MPT_PRECISION_FP16});
  for (const char* name : {"fc1", "fc1.add", "fc1.add.grad", "fc1.weight", "fc1.bias"})
    CHECK_MESSAGE(dtype_of(net.graph, name) == DType::f32, name);
  CHECK(net.graph.value(net.graph.find("fc1.weight")).form == ParamForm::master);
  // What it touches but does not write keeps its type.
  for (const char* name : {"x", "norm", "fc2", "fc2.weight", "fc1.weight.grad"})
    CHECK_MESSAGE(dtype_of(net.graph, name) == DType::f16, name);
}

TEST_CASE("a parameter that two ops read in different forms") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 5});
  const ValueId w = b.parameter("w", Shape{5, 5});
  const ValueId h = b.matmul(x, w, false, false, "first");
  b.graph.building_keep_fp32 = true;
  const ValueId y = b.matmul(h, w, false, false, "second");
  b.graph.building_keep_fp32 = false;
  const ValueId loss = b.mean(y);
  const Network net = training_graph({b.graph, loss}, {MPT_PRECISION_FP16});
  const Graph& graph = net.graph;
  for (const Node& node : graph.nodes) {
    if (node.name == "first") {
      CHECK(node.inputs[1] == w);
      CHECK(graph.value(w).dtype == DType::f16);
    }
    if (node.name == "second") {
      const Value& master = graph.value(node.inputs[1]);
      CHECK(node.inputs[1] != w);
      CHECK(master.dtype == DType::f32);
      CHECK(master.form == ParamForm::master);
      CHECK(master.slot == graph.value(w).slot);
    }
  }
}

TEST_CASE("gradients that are accumulated are FP32 all the way") {
  const Network net = training_graph(linear_network(false), {MPT_PRECISION_FP16, true});
  int accumulated = 0;
  for (const Node& node : net.graph.nodes) {
    if (node.kind != OpKind::accumulate) continue;
    ++accumulated;
    CHECK(net.graph.value(node.inputs[0]).dtype == DType::f32);
    CHECK(net.graph.value(node.outputs[0]).dtype == DType::f32);
  }
  CHECK(accumulated == 6);
}

TEST_CASE("the oracle: activations in double, parameters in FP32") {
  const Network net = training_graph(linear_network(false), {MPT_PRECISION_FP32, false, true});
  for (const char* name : {"x", "fc1", "norm:1", "loss", "norm.grad"})
    CHECK_MESSAGE(dtype_of(net.graph, name) == DType::f64, name);
  for (const char* name : {"fc1.weight", "fc1.weight.grad"})
    CHECK_MESSAGE(dtype_of(net.graph, name) == DType::f32, name);
}

TEST_CASE("a reshape has the type of its input") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  b.graph.building_keep_fp32 = true;
  const ValueId h = b.ewise(Ewise::relu, x);
  b.graph.building_keep_fp32 = false;
  const ValueId y = b.matmul(b.reshape(h, Shape{2, 2, 6}), b.reshape(b.parameter("w", Shape{30}), Shape{6, 5}));
  const ValueId loss = b.mean(b.ewise(Ewise::square, y));
  for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
    const Network net = training_graph({b.graph, loss}, {precision});
    for (const Node& node : net.graph.nodes) {
      if (node.kind == OpKind::reshape)
        CHECK(net.graph.value(node.inputs[0]).dtype == net.graph.value(node.outputs[0]).dtype);
    }
  }
}

TEST_CASE("an unknown precision is refused") { CHECK_THROWS_AS(storage_type(9), Error); }

}  // namespace mpt::test
