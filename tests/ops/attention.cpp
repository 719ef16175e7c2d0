// TEST_CASEs: attention, causal or not, with masks, key lengths, shared key heads and packed projections.
#include <doctest/doctest.h>

#include <cmath>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

struct Sizes {
  int64_t batch, queries, keys, size;
  int heads, kv_heads;
};

std::string text_of(const Sizes& s) {
  return "B" + std::to_string(s.batch) + " T" + std::to_string(s.queries) + " S" + std::to_string(s.keys) + " D" +
         std::to_string(s.size) + " H" + std::to_string(s.heads) +
         (s.kv_heads == s.heads ? "" : "/" + std::to_string(s.kv_heads));
}

AttentionAttrs attrs_of(const Sizes& s, bool causal, bool packed) {
  return {s.heads, s.kv_heads, causal, packed, 1 / std::sqrt(static_cast<double>(s.size))};
}

std::vector<Input> projections(const Sizes& s) {
  return {{{s.batch, s.queries, s.heads * s.size}},
          {{s.batch, s.keys, s.kv_heads * s.size}},
          {{s.batch, s.keys, s.kv_heads * s.size}}};
}

// `extra`: what the input after the projections is.
enum class Extra { nothing, mask, lengths };

Build attention(const AttentionAttrs& attrs, Extra extra = Extra::nothing) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    std::vector<ValueId> inputs =
        attrs.packed ? std::vector<ValueId>{in[0], none, none} : std::vector<ValueId>{in[0], in[1], in[2]};
    inputs.push_back(extra == Extra::mask ? in.back() : none);
    inputs.push_back(extra == Extra::lengths ? in.back() : none);
    const NodeId id = graph.add(OpKind::attention, "heads", attrs, inputs);
    return std::vector<ValueId>{graph.node(id).outputs[0]};
  };
}

std::vector<OpCase> table_cases() {
  std::vector<OpCase> cases;
  const Sizes equal[] = {{1, 1, 1, 1, 1, 1},      {1, 2, 2, 3, 1, 1},    {2, 5, 5, 4, 2, 2},
                         {2, 31, 31, 8, 3, 3},    {1, 33, 33, 16, 4, 2}, {3, 7, 7, 5, 4, 1},
                         {1, 129, 129, 32, 2, 2}, {2, 67, 67, 33, 2, 1}, {1, 140, 140, 64, 1, 1}};
  for (const Sizes& s : equal) {
    for (const bool causal : {false, true}) {
      const std::string kind = causal ? "causal " : "";
      cases.push_back({kind + text_of(s), projections(s), attention(attrs_of(s, causal, false))});
      const Shape packed{s.batch, s.queries, (s.heads + 2 * s.kv_heads) * s.size};
      cases.push_back({kind + "packed " + text_of(s), {{packed}}, attention(attrs_of(s, causal, true))});
    }
  }
  const Sizes cross[] = {
      {2, 3, 7, 4, 2, 2}, {1, 31, 2, 8, 2, 1}, {2, 1, 257, 16, 2, 2}, {1, 131, 5, 8, 1, 1}, {1, 3, 300, 8, 2, 2}};
  for (const Sizes& s : cross) cases.push_back({text_of(s), projections(s), attention(attrs_of(s, false, false))});

  const auto with = [](std::vector<Input> inputs, Input more) {
    more.differentiate = false;
    inputs.push_back(more);
    return inputs;
  };
  const auto mask = [](const Shape& shape) { return Input{.shape = shape, .low = 0, .high = 1, .dtype = DType::u8}; };
  for (const Sizes& s : {Sizes{2, 5, 7, 4, 3, 3}, Sizes{3, 33, 35, 8, 4, 2}, Sizes{1, 130, 131, 16, 2, 1}}) {
    const Shape masks[] = {{s.queries, s.keys}, {s.batch, s.queries, s.keys}, {s.batch, s.heads, s.queries, s.keys}};
    for (const Shape& shape : masks) {
      cases.push_back({"mask " + text(shape) + " " + text_of(s), with(projections(s), mask(shape)),
                       attention(attrs_of(s, false, false), Extra::mask)});
    }
    // Lengths from none at all to all keys.
    std::vector<double> lengths;
    for (int64_t b = 0; b < s.batch; ++b)
      lengths.push_back(static_cast<double>(b == 0 ? s.keys - 1 : b == 1 ? 0 : s.keys));
    const Input input{.shape = {s.batch}, .dtype = DType::i32, .values = lengths};
    cases.push_back(
        {"lengths " + text_of(s), with(projections(s), input), attention(attrs_of(s, false, false), Extra::lengths)});
  }
  const Sizes s{2, 9, 9, 4, 2, 2};
  cases.push_back({"causal mask " + text_of(s), with(projections(s), mask({9, 9})),
                   attention(attrs_of(s, true, false), Extra::mask)});
  cases.push_back({"causal lengths " + text_of(s),
                   with(projections(s), {.shape = {2}, .dtype = DType::i32, .values = {4, 9}}),
                   attention(attrs_of(s, true, false), Extra::lengths)});
  cases.push_back(
      {"nothing seen " + text_of(s),
       with(projections(s),
            {.shape = {9, 9}, .low = 0, .high = 0, .dtype = DType::u8, .values = std::vector<double>(81, 0.0)}),
       attention(attrs_of(s, false, false), Extra::mask)});
  // Scores far apart: the running maximum changes from block to block of keys.
  const Sizes wide{1, 5, 300, 8, 1, 1};
  std::vector<Input> inputs = projections(wide);
  inputs[0].low = -8;
  inputs[0].high = 8;
  inputs[1].low = -8;
  inputs[1].high = 8;
  cases.push_back({"scores far apart " + text_of(wide), inputs, attention(attrs_of(wide, false, false))});
  // All scores about -100.
  inputs[0].low = 4;
  inputs[1].high = -4;
  cases.push_back({"scores far below zero " + text_of(wide), inputs, attention(attrs_of(wide, false, false))});
  return cases;
}
const OpTable table(__FILE__, __LINE__, "attention", table_cases());

TEST_CASE("attention: sizes that don't fit are refused with their shapes") {
  std::string message = shape_error_of({{{2, 5, 8}}, {{2, 7, 8}}, {{2, 6, 8}}}, attention({2, 2, false, false, 1}));
  for (const char* part : {"heads", "[2, 5, 8]", "[2, 7, 8]", "[2, 6, 8]"})
    CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{2, 5, 8}}, {{2, 7, 8}}, {{2, 7, 8}}}, attention({2, 2, true, false, 1}));
  for (const char* part : {"heads", "[2, 5, 8]", "[2, 7, 8]"}) CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{2, 5, 9}}, {{2, 7, 8}}, {{2, 7, 8}}}, attention({2, 2, false, false, 1}));
  for (const char* part : {"heads", "[2, 5, 9]"}) CHECK(message.find(part) != std::string::npos);
  message = shape_error_of({{{2, 5, 8}}, {{2, 7, 8}}, {{2, 7, 8}}, {.shape = {5, 6}, .dtype = DType::u8}},
                           attention({2, 2, false, false, 1}, Extra::mask));
  for (const char* part : {"heads", "[2, 5, 8]", "[5, 6]"}) CHECK(message.find(part) != std::string::npos);
}

}  // namespace
}  // namespace mpt::test
