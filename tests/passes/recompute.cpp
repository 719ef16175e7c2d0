// Budgets are met, at a cost that is told, with the same bits.
#include <doctest/doctest.h>

#include "passes/graphs.h"
#include "passes/memory_plan.h"
#include "passes/recompute.h"
#include "passes/run_graph.h"

namespace mpt::test {
namespace {

GptSizes medium_gpt() {
  GptSizes sizes;
  sizes.batch = 4;
  sizes.length = 32;
  sizes.width = 32;
  sizes.layers = 4;
  return sizes;
}

uint64_t planned(const Network& net) { return plan_memory(net.graph, {}, {net.loss}).activation_bytes; }

int count_recomputed(const Graph& graph) {
  int count = 0;
  for (const Node& node : graph.nodes) count += node.recomputed && node.kind != OpKind::reshape;
  return count;
}

}  // namespace

TEST_CASE("the planned peak is within the budget, and less memory costs more arithmetic") {
  const Network net = compiled_graph(gpt(medium_gpt()), {MPT_PRECISION_FP16});
  const uint64_t whole = planned(net);
  double last_flops = 0;
  for (double share : {0.95, 0.8, 0.6, 0.4}) {
    CAPTURE(share);
    const auto budget = static_cast<uint64_t>(share * static_cast<double>(whole));
    Network small = net;
    const RecomputeReport report = recompute(small.graph, {net.loss}, budget);
    CHECK(is_well_formed(small.graph));
    CHECK(report.activation_bytes <= budget);
    CHECK(report.activation_bytes == planned(small));
    CHECK_NOTHROW(check_plan(small.graph, plan_memory(small.graph, {}, {net.loss}), {}, {net.loss}));
    CHECK(count_recomputed(small.graph) > 0);
    CHECK_FALSE(report.values.empty());
    CHECK(report.extra_flops >= last_flops);
    last_flops = report.extra_flops;
  }
}

TEST_CASE("no budget, or one that is kept anyway, changes nothing") {
  const Network net = compiled_graph(gpt(medium_gpt()), {MPT_PRECISION_FP16});
  const std::string text = net.graph.text();
  for (uint64_t budget : {uint64_t{0}, planned(net)}) {
    Network same = net;
    const RecomputeReport report = recompute(same.graph, {net.loss}, budget);
    CHECK(same.graph.text() == text);
    CHECK(report.extra_flops == 0);
    CHECK(report.values.empty());
    CHECK(report.activation_bytes == planned(net));
  }
}

TEST_CASE("a budget that cannot be met is OUT_OF_MEMORY, says what can, and leaves the graph alone") {
  Network net = compiled_graph(gpt(medium_gpt()), {MPT_PRECISION_FP16});
  const std::string text = net.graph.text();
  uint64_t least = 0;
  try {
    recompute(net.graph, {net.loss}, 1000);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.status() == MPT_ERROR_OUT_OF_MEMORY);
    const std::string message = e.what();
    MESSAGE(message);
    CHECK(message.find("found 1000 bytes") != std::string::npos);
    const std::string before = "at least ";
    least = std::stoull(message.substr(message.find(before) + before.size()));
  }
  CHECK(net.graph.text() == text);
  CHECK(least < planned(net) / 2);
  CHECK_NOTHROW(recompute(net.graph, {net.loss}, least));  // what it says is true
}

TEST_CASE("cheap values go first: an activation before a product") {
  // Not fused, gelu's input is stored: to form its result again takes a few operations per element.
  Network net = training_graph(mlp(256, {64, 64, 64, 64}, Ewise::gelu), {MPT_PRECISION_FP16});
  const uint64_t budget = planned(net) - 1;
  const RecomputeReport report = recompute(net.graph, {net.loss}, budget);
  CHECK(report.activation_bytes <= budget);
  CHECK(count_recomputed(net.graph) > 0);
  for (const Node& node : net.graph.nodes) {
    if (node.recomputed) CHECK(node.kind != OpKind::matmul);
  }
}

TEST_CASE("kept values and a user's own functions are not run twice") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{64, 64});
  CustomAttrs attrs;
  attrs.forward = [](auto...) -> int32_t { return 0; };
  attrs.backward = [](auto...) -> int32_t { return 0; };
  attrs.out_shapes = {Shape{64, 64}};
  attrs.n_inputs = attrs.n_outputs = 1;
  ValueId h = b.linear("fc", x, 64);
  for (int i = 0; i < 4; ++i) {
    h = b.ewise(Ewise::gelu, b.graph.apply(OpKind::custom, "own" + std::to_string(i), attrs, {h}));
  }
  const ValueId loss = b.mean(b.ewise(Ewise::square, h));
  Network net = training_graph({b.graph, loss}, {MPT_PRECISION_FP32});
  const uint64_t whole = planned(net);
  try {
    recompute(net.graph, {net.loss}, whole / 2);
  } catch (const Error&) {
    recompute(net.graph, {net.loss}, whole - 16384);
  }
  for (const Node& node : net.graph.nodes) {
    if (node.recomputed) CHECK(node.kind != OpKind::custom);
  }
}

TEST_CASE("results are the same bits with and without recomputation") {
  const auto check = [](Backend& backend, const Network& net) {
    const Results expected = run_graph(backend, net.graph, {net.loss});
    CHECK(expected.size() > 3);
    const uint64_t whole = planned(net);
    int met = 0;
    for (double share : {0.9, 0.7, 0.5, 0.35}) {
      CAPTURE(share);
      Network small = net;
      try {
        recompute(small.graph, {net.loss}, static_cast<uint64_t>(share * static_cast<double>(whole)));
      } catch (const Error&) {
        continue;  // out of reach
      }
      ++met;
      CHECK(run_graph(backend, small.graph, {net.loss}) == expected);
    }
    return met;
  };
  for (Backend* backend : {&ref_backend(), &cpu_backend()}) {
    CAPTURE(backend->name());
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
      CAPTURE(precision);
      GptSizes sizes;
      sizes.layers = 4;
      CHECK(check(*backend, compiled_graph(gpt(sizes), {precision})) >= 2);
      CHECK(check(*backend, training_graph(gpt(sizes), {precision})) >= 2);
      int met = 0;
      for (uint32_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        met += check(*backend, compiled_graph(random_network(seed, 20), {precision}));
      }
      CHECK(met > 10);
    }
  }
}

}  // namespace mpt::test
