// TEST_CASEs: reshape, transpose, slice, concat and pad move elements and change none.
#include <doctest/doctest.h>

#include <algorithm>

#include "graph/op_def.h"
#include "ops/op_test.h"

namespace mpt::test {
namespace {

Build apply(OpKind kind, Attrs attrs) {
  return [=](Graph& graph, const std::vector<ValueId>& in) {
    return std::vector<ValueId>{graph.apply(kind, "moved", attrs, in)};
  };
}

std::vector<OpCase> reshapes() {
  const std::pair<Shape, Shape> pairs[] = {{{6}, {2, 3}}, {{2, 3, 5}, {30}}, {{33, 31}, {31, 33}},
                                           {{1}, {}},     {{}, {1, 1}},      {{4, 9}, {2, 2, 3, 3}}};
  std::vector<OpCase> cases;
  for (const auto& [from, to] : pairs) {
    cases.push_back({text(from) + " to " + text(to), {{from}}, apply(OpKind::reshape, ReshapeAttrs{to, -1})});
  }
  return cases;
}
const OpTable reshape_table(__FILE__, __LINE__, "reshape", reshapes());

std::vector<OpCase> transposes() {
  std::vector<OpCase> cases;
  for (const Shape& shape :
       {Shape{5}, Shape{33, 31}, Shape{1, 257}, Shape{257, 130}, Shape{2, 3, 5}, Shape{3, 17, 33}, Shape{2, 3, 5, 7}}) {
    std::vector<int> axes;
    for (int i = 0; i < shape.rank(); ++i) axes.push_back(i);
    do {
      std::string order;
      for (int axis : axes) order += std::to_string(axis);
      cases.push_back({text(shape) + " to " + order, {{shape}}, apply(OpKind::transpose, TransposeAttrs{axes})});
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
  // Sizes that devices move in wider units, on one side or both.
  for (const auto& [shape, axes] : std::vector<std::pair<Shape, std::vector<int>>>{{{66, 130}, {1, 0}},
                                                                                   {{64, 128}, {1, 0}},
                                                                                   {{2, 34, 6, 16}, {0, 2, 1, 3}},
                                                                                   {{2, 34, 6, 16}, {3, 0, 2, 1}},
                                                                                   {{3, 70, 10}, {0, 2, 1}},
                                                                                   {{100, 4}, {1, 0}}}) {
    std::string order;
    for (int axis : axes) order += std::to_string(axis);
    cases.push_back(
        {text(shape) + " of even sizes to " + order, {{shape}}, apply(OpKind::transpose, TransposeAttrs{axes})});
  }
  cases.push_back({"of eight axes",
                   {{{2, 1, 3, 2, 1, 2, 3, 2}}},
                   apply(OpKind::transpose, TransposeAttrs{{7, 2, 5, 0, 1, 6, 3, 4}})});
  return cases;
}
const OpTable transpose_table(__FILE__, __LINE__, "transpose", transposes());

std::vector<OpCase> slices() {
  struct Slice {
    Shape x;
    int axis;
    int64_t begin, end;
  };
  const Slice list[] = {{{7}, 0, 2, 5},          {{33, 31}, 0, 0, 1},  {{33, 31}, 1, 30, 31},  {{33, 31}, 1, 3, 20},
                        {{33, 31}, 0, 0, 33},    {{2, 5, 7}, 1, 1, 4}, {{2, 5, 7}, 2, -3, -1}, {{3, 257}, 1, 128, 257},
                        {{3, 5, 7, 2}, 2, 1, 6}, {{5, 96}, 1, 16, 80}, {{5, 96}, 1, 4, 92},    {{40, 48}, 0, 7, 33}};
  std::vector<OpCase> cases;
  for (const Slice& s : list) {
    cases.push_back({text(s.x) + " axis " + std::to_string(s.axis) + " from " + std::to_string(s.begin) + " to " +
                         std::to_string(s.end),
                     {{s.x}},
                     apply(OpKind::slice, SliceAttrs{s.axis, s.begin, s.end})});
  }
  return cases;
}
const OpTable slice_table(__FILE__, __LINE__, "slice", slices());

std::vector<OpCase> concats() {
  std::vector<OpCase> cases;
  const auto add = [&](std::vector<Shape> shapes, int axis) {
    std::vector<Input> inputs;
    std::string name;
    for (const Shape& shape : shapes) {
      inputs.push_back({shape});
      name += text(shape) + " ";
    }
    cases.push_back({name + "axis " + std::to_string(axis), inputs, apply(OpKind::concat, AxisAttrs{axis})});
  };
  add({{3}}, 0);
  add({{3}, {1}, {31}}, 0);
  add({{2, 5}, {3, 5}}, 0);
  add({{33, 1}, {33, 31}, {33, 2}}, 1);
  add({{2, 3, 7}, {2, 1, 7}, {2, 65, 7}}, 1);
  add({{2, 3, 5}, {2, 3, 257}}, -1);
  add({{1, 2}, {1, 2}, {1, 2}, {1, 2}, {1, 2}}, 0);
  add({{9, 16}, {9, 32}, {9, 8}}, 1);
  return cases;
}
const OpTable concat_table(__FILE__, __LINE__, "concat", concats());

std::vector<OpCase> pads() {
  struct Pad {
    Shape x;
    int axis;
    int64_t before, after;
    double value;
  };
  const Pad list[] = {{{5}, 0, 2, 3, 0},        {{33, 31}, 0, 1, 0, 1.5},   {{33, 31}, 1, 0, 7, -0.1},
                      {{2, 3, 5}, 1, 4, 4, 0},  {{2, 3, 5}, -1, 1, 130, 2}, {{1}, 0, 0, 0, 3},
                      {{7, 257}, 1, 31, 33, 0}, {{7, 64}, 1, 16, 32, -1},   {{6, 5, 8}, 1, 2, 1, 0.5}};
  std::vector<OpCase> cases;
  for (const Pad& p : list) {
    cases.push_back({text(p.x) + " axis " + std::to_string(p.axis) + " by " + std::to_string(p.before) + " and " +
                         std::to_string(p.after),
                     {{p.x}},
                     apply(OpKind::pad, PadAttrs{p.axis, p.before, p.after, p.value})});
  }
  return cases;
}
const OpTable pad_table(__FILE__, __LINE__, "pad", pads());

TEST_CASE("shape ops: what doesn't fit is refused with op and shapes") {
  const auto expect = [](const std::string& message, std::vector<const char*> parts) {
    for (const char* part : parts) CHECK_MESSAGE(message.find(part) != std::string::npos, message, " lacks ", part);
  };
  expect(shape_error_of({{{6}}}, apply(OpKind::reshape, ReshapeAttrs{{4}, -1})), {"moved", "[6]", "[4]"});
  expect(shape_error_of({{{2, 3}}}, apply(OpKind::transpose, TransposeAttrs{{0, 0}})), {"moved", "[2, 3]"});
  expect(shape_error_of({{{2, 3}}}, apply(OpKind::slice, SliceAttrs{1, 2, 4})), {"moved", "[2, 3]", "4"});
  expect(shape_error_of({{{2, 3}}, {{4, 5}}}, apply(OpKind::concat, AxisAttrs{0})), {"moved", "[2, 3]", "[4, 5]"});
  expect(shape_error_of({{{2, 3}}}, apply(OpKind::pad, PadAttrs{0, -1, 0, 0})), {"moved", "[2, 3]", "-1"});
}

}  // namespace
}  // namespace mpt::test
