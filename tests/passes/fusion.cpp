// What each fusion makes of a graph, as text.
#include <doctest/doctest.h>

#include "passes/autodiff.h"
#include "passes/graphs.h"
#include "passes/liveness.h"
#include "passes/memory_plan.h"
#include "passes/simplify.h"

namespace mpt::test {
namespace {

// The graph in fp16, fused; `kept` survives.
std::string fused_text(Graph graph, const std::vector<ValueId>& kept, const FusionOptions& options = {}) {
  assign_precision(graph, {MPT_PRECISION_FP16});
  fuse(graph, kept, options);
  CHECK(is_well_formed(graph));
  return graph.text();
}

}  // namespace

TEST_CASE("a chain becomes one node") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6}), y = b.input("y", Shape{6});
  const ValueId a = b.ewise(Ewise::relu, x, 0, "a");
  const ValueId c = b.ewise2(Ewise::mul, a, y, "c");
  const ValueId d = b.ewise2(Ewise::sub, c, a, "d");

  SUBCASE("intermediates stay in registers, inputs are broadcast") {
    CHECK(fused_text(b.graph, {d}) ==
          "f a+c+d: %5 float16[4, 6] = elementwise(%1:x, %2:y) r2=relu(r0) r3=mul(r2,r1) r4=sub(r3,r2) -> r4\n");
  }
  SUBCASE("what is kept is stored besides") {
    CHECK(fused_text(b.graph, {d, c}) ==
          "f a+c+d: %4 float16[4, 6], %5 float16[4, 6] = elementwise(%1:x, %2:y)"
          " r2=relu(r0) r3=mul(r2,r1) r4=sub(r3,r2) -> r3 r4\n");
  }
  SUBCASE("unless it is switched off") {
    FusionOptions options;
    options.elementwise = false;
    CHECK(fused_text(b.graph, {d}, options) ==
          "f a: %3 float16[4, 6] = elementwise(%1:x) r1=relu(r0) -> r1\n"
          "f c: %4 float16[4, 6] = elementwise(%3, %2:y) r2=mul(r0,r1) -> r2\n"
          "f d: %5 float16[4, 6] = elementwise(%4, %3) r2=sub(r0,r1) -> r2\n");
  }
}

TEST_CASE("nodes of different shapes don't form a chain") {
  GraphBuilder b;
  const ValueId row = b.ewise(Ewise::exp, b.input("row", Shape{6}), 0, "exp");
  const ValueId sum = b.ewise2(Ewise::add, b.input("x", Shape{4, 6}), row, "sum");
  CHECK(fused_text(b.graph, {sum}) ==
        "f exp: %2 float16[6] = elementwise(%1:row) r1=exp(r0) -> r1\n"
        "f sum: %4 float16[4, 6] = elementwise(%3:x, %2) r2=add(r0,r1) -> r2\n");
}

TEST_CASE("a chain that is too long is cut, and nothing is lost") {
  GraphBuilder b;
  ValueId x = b.input("x", Shape{4, 6});
  for (int i = 0; i < 60; ++i) x = b.ewise(Ewise::scale, x, 1.5f);
  assign_precision(b.graph, {MPT_PRECISION_FP16});
  fuse(b.graph, {x});
  std::size_t steps = 0;
  for (std::size_t n = 1; n < b.graph.nodes.size(); ++n) {
    const Program& program = std::get<ElementwiseAttrs>(b.graph.nodes[n].attrs).program;
    CHECK(program.inputs + static_cast<int>(program.steps.size()) <= max_program_registers);
    steps += program.steps.size();
  }
  CHECK(steps == 60);
  CHECK(b.graph.nodes.size() - 1 == 3);
}

TEST_CASE("bias, activation, dropout and residual are done while the product is in registers") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  const ValueId h = b.linear("fc", x, 6);
  const ValueId g = b.ewise(Ewise::gelu, h, 0, "gelu");
  const ValueId y = b.ewise2(Ewise::add, b.dropout(g, 0.5f), x, "sum");

  SUBCASE("inference: nothing else is stored") {
    CHECK(fused_text(b.graph, {y}) ==
          "f fc+fc.add+gelu+elementwise_4+sum: %8 float16[4, 6] = matmul(%1:x, %2:fc.weight, %3:fc.bias, %1:x) "
          "transpose_b"
          " r3=add(r0,r1) r4=gelu(r3) r5=dropout(r4) r6=add(r5,r2) -> r6\n");
  }
  SUBCASE("the pre-activation is stored where the backward pass reads it") {
    CHECK(fused_text(b.graph, {y, h}) ==
          "f fc+fc.add+gelu+elementwise_4+sum: %5 float16[4, 6], %8 float16[4, 6] ="
          " matmul(%1:x, %2:fc.weight, %3:fc.bias, %1:x) transpose_b"
          " r3=add(r0,r1) r4=gelu(r3) r5=dropout(r4) r6=add(r5,r2) -> r3 r6\n");
  }
}

TEST_CASE("of two products that are added, the later one takes the sum") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  const ValueId first = b.matmul(x, b.parameter("v", Shape{6, 6}), false, false, "first");
  const ValueId second = b.matmul(x, b.parameter("w", Shape{6, 6}), false, false, "second");
  const ValueId sum = b.ewise2(Ewise::add, first, second, "sum");
  CHECK(fused_text(b.graph, {sum}) ==
        "f first: %3 float16[4, 6] = matmul(%1:x, %2:v)\n"
        "f second+sum: %6 float16[4, 6] = matmul(%1:x, %4:w, %3) r2=add(r1,r0) -> r2\n");
}

TEST_CASE("transposes of the last two axes become flags of the matmul") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{2, 4, 6}), w = b.parameter("w", Shape{4, 5});
  const ValueId y = b.matmul(b.transpose(x, {0, 2, 1}), b.transpose(b.transpose(w, {1, 0}), {1, 0}), false, false, "y");
  CHECK(fused_text(b.graph, {y}) == "f y: %6 float16[2, 6, 5] = matmul(%1:x, %2:w) transpose_a\n");

  SUBCASE("not other axes") {
    const ValueId t = b.transpose(x, {1, 0, 2});
    const ValueId z = b.matmul(t, b.parameter("v", Shape{6, 6}), false, false, "z");
    CHECK(fused_text(b.graph, {z}) ==
          "f transpose_5: %7 float16[4, 2, 6] = transpose(%1:x)\n"
          "f z: %9 float16[4, 2, 6] = matmul(%7, %8:v)\n");
  }
  SUBCASE("not those that the user keeps") {
    const ValueId t = b.transpose(x, {0, 2, 1});
    const ValueId z = b.matmul(t, w, false, false, "z");
    CHECK(fused_text(b.graph, {z, t}) ==
          "f transpose_5: %7 float16[2, 6, 4] = transpose(%1:x)\n"
          "f z: %8 float16[2, 6, 5] = matmul(%7, %2:w)\n");
  }
}

TEST_CASE("a residual sum before a norm is the norm's") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  const ValueId s = b.ewise2(Ewise::add, x, b.input("f", Shape{4, 6}), "sum");
  const ValueId y = b.layer_norm("norm", s);
  CHECK(fused_text(b.graph, {y, s}) ==
        "f sum+norm: %6 float16[4, 6], %7 float32[4], %8 float32[4], %3 float16[4, 6] ="
        " norm(%1:x, %4:norm.weight, %5:norm.bias, %2:f)\n");
}

TEST_CASE("a gradient that is added to that of a norm is the norm's backward node's") {
  GraphBuilder b;
  const ValueId x = b.linear("fc", b.input("x", Shape{4, 6}), 6);
  const ValueId y = b.ewise2(Ewise::add, x, b.layer_norm("norm", x));
  const ValueId loss = b.mean(b.ewise(Ewise::square, y));
  differentiate(b.graph, loss, {});
  assign_precision(b.graph, {MPT_PRECISION_FP16});
  fuse(b.graph, {loss});
  int found = 0;
  for (const Node& node : b.graph.nodes) {
    if (node.kind != OpKind::norm_grad) continue;
    ++found;
    REQUIRE(node.inputs.size() == 6);
    CHECK(node.inputs[5] != none);
    CHECK(b.graph.value(node.outputs[0]).primal == x);
  }
  CHECK(found == 1);
}

TEST_CASE("attention over slices of one projection reads the projection") {
  GptSizes sizes;
  sizes.layers = 1;
  const auto kinds = [](const Graph& graph) {
    return std::vector<int>{count_nodes(graph, OpKind::slice), count_nodes(graph, OpKind::pad)};
  };
  const Network plain = training_graph(gpt(sizes), {MPT_PRECISION_FP16});
  CHECK(kinds(plain.graph) == std::vector<int>{3, 3});
  Graph packed = plain.graph;
  fuse(packed, {plain.loss});
  CHECK(kinds(packed) == std::vector<int>{0, 0});
  for (const Node& node : packed.nodes) {
    if (node.kind != OpKind::attention && node.kind != OpKind::attention_grad) continue;
    CHECK(std::get<AttentionAttrs>(node.attrs).packed);
    CHECK(packed.shape(node.inputs[0])[-1] == 3 * sizes.width);
    CHECK(node.inputs[1] == none);
  }

  SUBCASE("not where a slice has another reader") {
    ValueId slice = none;
    for (const Node& node : plain.graph.nodes) {
      if (node.kind == OpKind::slice) slice = node.outputs[0];
    }
    Graph graph = plain.graph;
    fuse(graph, {plain.loss, slice});
    CHECK(kinds(graph) == std::vector<int>{3, 3});
  }
}

TEST_CASE("a block of a GPT, forward and backward") {
  GptSizes sizes;
  sizes.layers = 1;
  const Network net = compiled_graph(gpt(sizes), {MPT_PRECISION_FP16});
  // Forward: embedding, position, 2 norms, 4 products, attention; final norm, head, loss. Backward: 10 products, 3
  // norms, ...
  int forward = 0, backward = 0, chains = 0;
  for (std::size_t n = 1; n < net.graph.nodes.size(); ++n) {
    const Node& node = net.graph.nodes[n];
    if (node.kind == OpKind::reshape) continue;
    ++(node.backward ? backward : forward);
    if (node.kind == OpKind::elementwise) ++chains;
  }
  CHECK(forward == 12);
  CHECK(backward == 25);
  CHECK(chains == 3);  // the position's sum and the two dropouts of gradients, which have two readers each
}

TEST_CASE("nodes from which nothing follows, copies and equal nodes go") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  b.ewise(Ewise::exp, x, 0, "unused");
  const ValueId c = b.ewise(Ewise::copy, x, 0, "copy");
  const ValueId r = b.reshape(b.reshape(c, Shape{2, 12}), Shape{24});
  const ValueId s = b.reshape(x, Shape{24});
  const ValueId d1 = b.dropout(r, 0.5f), d2 = b.dropout(s, 0.5f);  // two streams: not equal
  const ValueId t1 = b.ewise(Ewise::tanh, r), t2 = b.ewise(Ewise::tanh, s);
  const ValueId equal = b.ewise2(Ewise::add, t1, t2), different = b.ewise2(Ewise::add, d1, d2);
  const ValueId sum = b.ewise2(Ewise::add, equal, different);
  simplify(b.graph, {sum});
  CHECK(is_well_formed(b.graph));
  CHECK(b.graph.text() ==
        "f reshape_4: %5 float32[24] = reshape(%1:x)\n"
        "f elementwise_6: %7 float32[24] = elementwise(%5) r1=dropout(r0) -> r1\n"
        "f elementwise_7: %8 float32[24] = elementwise(%5) r1=dropout(r0) -> r1\n"
        "f elementwise_8: %9 float32[24] = elementwise(%5) r1=tanh(r0) -> r1\n"
        "f elementwise_10: %11 float32[24] = elementwise(%9, %9) r2=add(r0,r1) -> r2\n"
        "f elementwise_11: %12 float32[24] = elementwise(%7, %8) r2=add(r0,r1) -> r2\n"
        "f elementwise_12: %13 float32[24] = elementwise(%11, %12) r2=add(r0,r1) -> r2\n");
}

TEST_CASE("a copy that converts or that the user keeps stays") {
  GraphBuilder b;
  const ValueId x = b.input("x", Shape{4, 6});
  b.graph.building_keep_fp32 = true;
  const ValueId wide = b.ewise(Ewise::copy, x, 0, "wide");
  b.graph.building_keep_fp32 = false;
  const ValueId kept = b.ewise(Ewise::copy, x, 0, "kept");
  const ValueId y = b.ewise2(Ewise::add, wide, kept, "y");
  assign_precision(b.graph, {MPT_PRECISION_FP16});
  simplify(b.graph, {kept, y});
  CHECK(b.graph.text() ==
        "f wide: %2 float32[4, 6] = elementwise(%1:x) r1=copy(r0) -> r1 keep_fp32\n"
        "f kept: %3 float16[4, 6] = elementwise(%1:x) r1=copy(r0) -> r1\n"
        "f y: %4 float16[4, 6] = elementwise(%2, %1:x) r2=add(r0,r1) -> r2\n");
}

TEST_CASE("fusion never takes more memory") {
  const auto peak = [](const Network& net) {
    return peak_live_bytes(net.graph, find_lifetimes(net.graph, {net.loss}), {});
  };
  const auto check = [&](const Network& network) {
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16}) {
      Network net = training_graph(network, {precision});
      const uint64_t before = peak(net);
      fuse(net.graph, {net.loss});
      CHECK(is_well_formed(net.graph));
      CHECK(peak(net) <= before);
    }
  };
  check(gpt({}));
  check(mlp(64, {32, 100, 100, 10}));
  for (uint32_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    check(random_network(seed, 5 + static_cast<int>(seed % 40)));
  }
}

}  // namespace mpt::test
