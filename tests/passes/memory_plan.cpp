// Lifetimes, offsets and the checker of plans; the order of the backward pass.
#include <doctest/doctest.h>

#include <random>

#include "passes/autodiff.h"
#include "passes/graphs.h"
#include "passes/memory_plan.h"
#include "passes/order.h"
#include "passes/run_graph.h"

namespace mpt::test {
namespace {

std::vector<uint64_t> random_scratch(const Graph& graph, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint64_t> scratch(graph.nodes.size(), 0);
  for (std::size_t n = 1; n < scratch.size(); ++n) {
    if (random() % 3 == 0) scratch[n] = random() % 5000;
  }
  return scratch;
}

}  // namespace

TEST_CASE("plans of random graphs are valid, and near the lower bound") {
  double worst = 1;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const PrecisionPolicy policy{seed % 2 ? MPT_PRECISION_FP16 : MPT_PRECISION_FP32};
    Network net = training_graph(random_network(seed, 5 + static_cast<int>(seed % 50)), policy);
    if (seed % 4 >= 2) fuse(net.graph, {net.loss});
    std::vector<ValueId> kept = {net.loss};
    for (ValueId v = 1; v < static_cast<ValueId>(net.graph.values.size()); v += 13) {
      if (net.graph.value(v).producer != none) kept.push_back(v);
    }
    const std::vector<uint64_t> scratch = random_scratch(net.graph, seed);
    const MemoryPlan plan = plan_memory(net.graph, scratch, kept);
    CHECK_NOTHROW(check_plan(net.graph, plan, scratch, kept));
    CHECK(plan.arena_bytes == plan.activation_bytes + plan.scratch_bytes);
    CHECK(plan.arena_bytes >= plan.lower_bound);
    worst = std::max(worst, static_cast<double>(plan.arena_bytes) / static_cast<double>(plan.lower_bound));

    order_nodes(net.graph, kept);
    CHECK(is_well_formed(net.graph));
    const MemoryPlan ordered = plan_memory(net.graph, {}, kept);
    CHECK_NOTHROW(check_plan(net.graph, ordered, {}, kept));
    CHECK(ordered.activation_bytes <= plan_memory(net.graph, {}, kept, {false}).activation_bytes);
  }
  MESSAGE("worst plan of a random graph: " << worst << " of the lower bound");
  CHECK(worst < 1.25);
}

TEST_CASE("offsets of random buffers don't overlap, and are near the lower bound") {
  double sum = 0;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::vector<Buffer> buffers;
    uint64_t bound = 0;
    for (int i = 0; i < 200; ++i) {
      const int32_t first = static_cast<int32_t>(random() % 100);
      buffers.push_back({aligned(1 + random() % 10000), first, first + static_cast<int32_t>(random() % 12)});
    }
    for (int32_t t = 0; t < 112; ++t) {
      uint64_t live = 0;
      for (const Buffer& b : buffers) live += b.first <= t && t <= b.last ? b.bytes : 0;
      bound = std::max(bound, live);
    }
    std::vector<uint64_t> offsets;
    const uint64_t arena = assign_offsets(buffers, &offsets);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      CHECK(offsets[i] % workspace_alignment == 0);
      CHECK(offsets[i] + buffers[i].bytes <= arena);
      int overlaps = 0;
      for (std::size_t j = 0; j < i; ++j) {
        const bool in_time = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
        const bool in_space = offsets[i] < offsets[j] + buffers[j].bytes && offsets[j] < offsets[i] + buffers[i].bytes;
        if (in_time && in_space) ++overlaps;
      }
      CHECK(overlaps == 0);
    }
    CHECK(arena >= bound);
    sum += static_cast<double>(arena) / static_cast<double>(bound);
  }
  MESSAGE("random buffers: " << sum / 50 << " of the lower bound on average");
  CHECK(sum / 50 < 1.15);
}

TEST_CASE("a reshape is a view, and an op that may writes over what dies") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{8, 8});
  const ValueId a = b.ewise(Ewise::exp, x), r = b.reshape(a, Shape{64}), c = b.ewise(Ewise::sqrt, r);
  const ValueId s = b.ewise2(Ewise::add, c, b.input("bias", Shape{1}));
  const MemoryPlan plan = plan_memory(b.graph, {}, {s});
  CHECK(plan.offset[a] == plan.offset[x]);
  CHECK(plan.offset[r] == plan.offset[a]);
  CHECK(plan.offset[c] == plan.offset[a]);
  CHECK(plan.storage[s] == x);
  CHECK(plan.activation_bytes == 256 + 64);
  CHECK(plan_memory(b.graph, {}, {s}, {false}).activation_bytes > plan.activation_bytes);
}

TEST_CASE("nothing is written over a value that the user keeps or that is read later") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{8, 8});
  const ValueId a = b.ewise(Ewise::exp, x), c = b.ewise(Ewise::sqrt, a), d = b.ewise2(Ewise::add, a, c);
  const MemoryPlan later = plan_memory(b.graph, {}, {d});
  CHECK(later.offset[c] != later.offset[a]);
  const MemoryPlan kept = plan_memory(b.graph, {}, {a, c, d, x});
  CHECK(kept.activation_bytes == 4 * 256);
}

TEST_CASE("an output of another element size or through a broadcast is not written over its input") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{1, 8}), y = b.input("y", Shape{8, 8});
  const ValueId s = b.ewise2(Ewise::add, x, y);
  b.graph.value(y).dtype = DType::f16;
  const MemoryPlan plan = plan_memory(b.graph, {}, {s});
  CHECK(plan.storage[s] == s);
}

TEST_CASE("gradients and parameters live outside the workspace") {
  const Network net = compiled_graph(mlp(4, {8, 8, 3}), {MPT_PRECISION_FP16});
  const MemoryPlan plan = plan_memory(net.graph, {}, {net.loss});
  for (std::size_t v = 1; v < net.graph.values.size(); ++v) {
    const Role role = net.graph.values[v].role;
    if (role == Role::parameter || role == Role::param_gradient) CHECK(plan.offset[v] == MemoryPlan::outside);
  }
}

TEST_CASE("the checker sees what is wrong") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{8, 8});
  const ValueId a = b.matmul(x, x), c = b.matmul(a, x), d = b.matmul(c, a);
  const std::vector<uint64_t> scratch = {0, 100, 100, 100};
  const std::vector<ValueId> kept = {d};
  const MemoryPlan good = plan_memory(b.graph, scratch, kept);
  CHECK_NOTHROW(check_plan(b.graph, good, scratch, kept));
  const auto broken = [&](auto change) {
    MemoryPlan plan = good;
    change(plan);
    CHECK_THROWS_AS(check_plan(b.graph, plan, scratch, kept), Error);
  };
  broken([&](MemoryPlan& p) { p.offset[c] = p.offset[a]; });          // a is read after c is written
  broken([&](MemoryPlan& p) { p.offset[a] = p.offset[x]; });          // over an input of a matmul
  broken([&](MemoryPlan& p) { p.offset[a] += 4; });                   // alignment
  broken([&](MemoryPlan& p) { p.offset[a] = p.arena_bytes; });        // outside
  broken([&](MemoryPlan& p) { p.offset[d] = MemoryPlan::outside; });  // an activation has no other home
  broken([&](MemoryPlan& p) { p.scratch_offset[2] = p.offset[x]; });  // scratch over an input
  broken([&](MemoryPlan& p) { p.scratch_offset[1] = p.arena_bytes; });
}

TEST_CASE("a weight gradient is formed as soon as it frees something") {
  // Unordered, dX of each layer comes before dW, and the layer's input stays for it.
  const Network plain = training_graph(mlp(512, {64, 64, 64, 64}, Ewise::gelu), {MPT_PRECISION_FP16});
  Network ordered = plain;
  order_nodes(ordered.graph, {ordered.loss});
  CHECK(is_well_formed(ordered.graph));
  CHECK(plan_memory(ordered.graph, {}, {plain.loss}).activation_bytes <
        plan_memory(plain.graph, {}, {plain.loss}).activation_bytes);
  for (std::size_t n = 1; n < ordered.graph.nodes.size(); ++n) {  // the forward pass is as it was
    if (!plain.graph.nodes[n].backward) CHECK(ordered.graph.nodes[n].name == plain.graph.nodes[n].name);
  }
}

TEST_CASE("16-bit training of a GPT takes at most 0.52 of FP32's activations and scratch where activations dominate") {
  GptSizes sizes;
  sizes.batch = 16;
  sizes.length = 128;
  sizes.width = 256;
  sizes.heads = 4;
  sizes.layers = 4;
  sizes.vocabulary = 256;
  std::vector<MemoryPlan> plans;
  for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16}) {
    const Network net = compiled_graph(gpt(sizes), {precision});
    const std::vector<uint64_t> scratch = scratch_of(cpu_backend(), net.graph);
    plans.push_back(plan_memory(net.graph, scratch, {net.loss}));
    const MemoryPlan& plan = plans.back();
    check_plan(net.graph, plan, scratch, {net.loss});
    CHECK(static_cast<double>(plan.arena_bytes) <= 1.02 * static_cast<double>(plan.lower_bound));
    MESSAGE("activations " << plan.activation_bytes << ", scratch " << plan.scratch_bytes << " bytes");
  }
  for (int i : {1, 2}) {
    CHECK(static_cast<double>(plans[i].activation_bytes) <= 0.52 * static_cast<double>(plans[0].activation_bytes));
    CHECK(static_cast<double>(plans[i].arena_bytes) <= 0.52 * static_cast<double>(plans[0].arena_bytes));
  }
}

TEST_CASE("sizes that no machine has") {
  GptSizes sizes;
  sizes.batch = 4096;
  sizes.length = 4096;
  sizes.width = 16384;
  sizes.heads = 128;
  sizes.layers = 8;
  sizes.vocabulary = 50304;
  const Network net = compiled_graph(gpt(sizes), {MPT_PRECISION_FP16});
  const MemoryPlan plan = plan_memory(net.graph, {}, {net.loss});
  CHECK_NOTHROW(check_plan(net.graph, plan, {}, {net.loss}));
  CHECK(plan.activation_bytes > uint64_t{1} << 45);
  CHECK(static_cast<double>(plan.arena_bytes) <= 1.02 * static_cast<double>(plan.lower_bound));
}

}  // namespace mpt::test
