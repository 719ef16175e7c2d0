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
  all[4].norm_grad_add = all[5].packed_attention = true;
  all[6] = FusionOptions{};
  return all;
}

// Bitwise, but for the sign of zeros: the sum of padded gradients that packed attention replaces makes -0 + 0 = 0.
void check_equal(const Results& a, const Results& b, const Graph& graph) {
  REQUIRE(a.size() == b.size());
  for (const auto& [id, values] : a) {
    CAPTURE(graph.value(id).name);
    REQUIRE(b.count(id) == 1);
    const bool equal = values == b.at(id);
    CHECK(equal);
  }
}

void check_fused_equals_plain(Backend& backend, const Network& network, const PrecisionPolicy& policy) {
  const Network plain = training_graph(network, policy);
  const Results expected = run_graph(backend, plain.graph, {plain.loss});
  for (double x : expected.at(plain.loss)) CHECK(std::isfinite(x));
  int which = 0;
  for (const FusionOptions& options : each_alone_and_all()) {
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
  check_fused_equals_plain(ref_backend(), gpt({}), oracle);
  check_fused_equals_plain(ref_backend(), mlp(4, {8, 8, 8, 3}, Ewise::gelu), oracle);
  for (uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    check_fused_equals_plain(ref_backend(), random_network(seed, 5 + static_cast<int>(seed % 30)), oracle);
  }
}

TEST_CASE("in fp32 on the CPU: the same bits, whatever is fused") {
  const PrecisionPolicy policy{MPT_PRECISION_FP32};
  check_fused_equals_plain(cpu_backend(), gpt({}), policy);
  check_fused_equals_plain(cpu_backend(), mlp(4, {8, 8, 8, 3}, Ewise::gelu), policy);
  for (uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    check_fused_equals_plain(cpu_backend(), random_network(seed, 5 + static_cast<int>(seed % 30)), policy);
  }
}

// From inputs that are the same numbers in both precisions, 16 bits give the FP32 result, rounded.
TEST_CASE("in 16 bits a fused chain is rounded once") {
  for (const auto& [precision, round] : {std::pair{MPT_PRECISION_FP16, +[](float x) { return f16_to_f32(f32_to_f16(x)); }},
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
