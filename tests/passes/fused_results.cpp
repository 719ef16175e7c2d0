// A fused graph computes what the unfused one does.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/numerics/float16.h"
#include "passes/graphs.h"
#include "passes/order.h"
#include "passes/run_graph.h"

namespace mpt::test {
namespace {

std::vector<FusionOptions> each_alone_and_all() {
  std::vector<FusionOptions> all(7, FusionOptions::none());
  all[0].transposes = all[1].elementwise = all[2].epilogues = all[3].residual_norm = true;
  all[4].packed_attention = all[5].norm_grad_add = true;
  all[6] = FusionOptions{};
  return all;
}

// Without the sum of gradients in a norm's backward node: the CPU forms it in one multiply-add, with one rounding less.
std::vector<FusionOptions> those_exact_in_fp32() {
  std::vector<FusionOptions> all = each_alone_and_all();
  for (FusionOptions& options : all) options.norm_grad_add = false;
  return all;
}

// Bitwise, but for the sign of zeros: the sum of padded gradients that packed attention replaces makes -0 + 0 = 0.
void check_equal(const Results& a, const Results& b, const Graph& graph) {
  REQUIRE(a.size() == b.size());
  for (const auto& entry : a) {
    CAPTURE(graph.value(entry.first).name);
    REQUIRE(b.count(entry.first) == 1);
    const bool equal = entry.second == b.at(entry.first);
    CHECK(equal);
  }
}

void check_fused_equals_plain(Backend& backend, const Network& network, const PrecisionPolicy& policy,
                              const std::vector<FusionOptions>& fusions) {
  const Network plain = training_graph(network, policy);
  const Results expected = run_graph(backend, plain.graph, {plain.loss});
  for (double x : expected.at(plain.loss)) CHECK(std::isfinite(x));
  int which = 0;
  for (const FusionOptions& options : fusions) {
    const int fusion = which++;
    CAPTURE(fusion);
    Network fused = plain;
    fuse(fused.graph, {fused.loss}, options);
    CHECK(is_well_formed(fused.graph));
    check_equal(expected, run_graph(backend, fused.graph, {fused.loss}), plain.graph);
    order_nodes(fused.graph, {fused.loss});
    check_equal(expected, run_graph(backend, fused.graph, {fused.loss}), plain.graph);
  }
}

}  // namespace

// Where nothing is rounded between nodes, fused and unfused do the same operations in the same order.
TEST_CASE("in double on the reference: the same bits, whatever is fused") {
  const PrecisionPolicy oracle{MPT_PRECISION_FP32, false, true};
  check_fused_equals_plain(ref_backend(), gpt({}), oracle, each_alone_and_all());
  check_fused_equals_plain(ref_backend(), mlp(4, {8, 8, 8, 3}, Ewise::gelu), oracle, each_alone_and_all());
  for (uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    check_fused_equals_plain(ref_backend(), random_network(seed, 5 + static_cast<int>(seed % 30)), oracle,
                             each_alone_and_all());
  }
}

TEST_CASE("in fp32 on the CPU: the same bits, whatever is fused") {
  const PrecisionPolicy policy{MPT_PRECISION_FP32};
  check_fused_equals_plain(cpu_backend(), gpt({}), policy, those_exact_in_fp32());
  check_fused_equals_plain(cpu_backend(), mlp(4, {8, 8, 8, 3}, Ewise::gelu), policy, those_exact_in_fp32());
  for (uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    check_fused_equals_plain(cpu_backend(), random_network(seed, 5 + static_cast<int>(seed % 30)), policy,
                             those_exact_in_fp32());
  }
}

TEST_CASE("in fp32 on the CPU: a gradient added in a norm's backward node has one rounding less") {
  GraphBuilder b;
  const ValueId x = b.parameter("x", Shape{16, 48});
  const ValueId y = b.ewise2(Ewise::add, x, b.layer_norm("norm", x));
  const ValueId loss = b.mean(b.ewise(Ewise::square, y));
  const Network plain = training_graph({b.graph, loss}, {MPT_PRECISION_FP32});
  const ValueId sum = plain.graph.find("x.grad");
  ValueId own = none;
  for (const Node& node : plain.graph.nodes) {
    if (node.kind == OpKind::norm_grad) own = node.outputs[0];
  }
  FusionOptions options = FusionOptions::none();
  options.norm_grad_add = true;
  Network fused = plain;
  fuse(fused.graph, {loss}, options);
  REQUIRE(fused.graph.nodes[fused.graph.value(sum).producer].kind == OpKind::norm_grad);

  const Results expected = run_graph(cpu_backend(), plain.graph, {loss, own});
  const std::vector<double> found = run_graph(cpu_backend(), fused.graph, {loss}).at(sum);
  const double half_ulp = std::ldexp(1.0, -24);
  for (std::size_t i = 0; i < found.size(); ++i) {
    // Plain: round(round(product) + add); fused: round(product + add).
    const double product = std::abs(expected.at(own)[i]), result = std::abs(expected.at(sum)[i]);
    CHECK(std::abs(found[i] - expected.at(sum)[i]) <= half_ulp * (1 + 2 * half_ulp) * (product + 2 * result));
  }
}

// From inputs that are the same numbers in both precisions, 16 bits give the FP32 result, rounded.
TEST_CASE("in 16 bits a fused chain is rounded once") {
  for (const auto& [precision, round] :
       {std::pair{MPT_PRECISION_FP16, +[](float x) { return f16_to_f32(f32_to_f16(x)); }},
        std::pair{MPT_PRECISION_BF16, +[](float x) { return bf16_to_f32(f32_to_bf16(x)); }}}) {
    GraphBuilder b;
    const ValueId x = b.input("x", Shape{8, 16}), bias = b.input("bias", Shape{16}), z = b.input("z", Shape{8, 16});
    ValueId h = b.ewise2(Ewise::add, x, bias);
    h = b.ewise(Ewise::gelu, h);
    h = b.ewise2(Ewise::mul, h, z);
    h = b.dropout(h, 0.5f);
    Graph wide = b.graph, narrow = b.graph;
    assign_precision(wide, {MPT_PRECISION_FP32});
    assign_precision(narrow, {precision});
    fuse(wide, {h});
    fuse(narrow, {h});
    CHECK(narrow.nodes.size() == 2);
    const std::vector<double> exact = run_graph(cpu_backend(), wide, {h}).at(h);
    const std::vector<double> rounded = run_graph(cpu_backend(), narrow, {h}).at(h);
    for (std::size_t i = 0; i < exact.size(); ++i) CHECK(rounded[i] == round(static_cast<float>(exact[i])));
  }
}

}  // namespace mpt::test
