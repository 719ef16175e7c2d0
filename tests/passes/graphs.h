// Small networks as graphs, and the pipeline of passes that the tests share.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "passes/fusion.h"
#include "passes/precision.h"

namespace mpt::test {

// Adds ops to a graph the way the model builder does.
class GraphBuilder {
 public:
  Graph graph;

  ValueId input(const std::string& name, const Shape& shape, DType dtype = DType::f32);
  ValueId parameter(const std::string& name, const Shape& shape, bool keep_fp32 = false);
  ValueId ewise(Ewise op, ValueId a, float p = 0, const std::string& name = "");
  ValueId ewise2(Ewise op, ValueId a, ValueId b, const std::string& name = "");
  ValueId dropout(ValueId x, float rate);
  ValueId matmul(ValueId a, ValueId b, bool transpose_a = false, bool transpose_b = false,
                 const std::string& name = "");
  ValueId linear(const std::string& name, ValueId x, int64_t out);  // weight [out, in] and bias
  ValueId layer_norm(const std::string& name, ValueId x);
  ValueId reshape(ValueId x, const Shape& shape);
  ValueId transpose(ValueId x, const std::vector<int>& axes);
  ValueId slice(ValueId x, int axis, int64_t begin, int64_t end);
  ValueId gather(ValueId x, ValueId indices);
  ValueId attention(ValueId q, ValueId k, ValueId v, int heads);
  ValueId cross_entropy(ValueId logits, ValueId labels);
  ValueId mean(ValueId x);  // of all elements

 private:
  uint32_t streams_ = 0;
};

// A graph with its loss; after training_graph() differentiated.
struct Network {
  Graph graph;
  ValueId loss = none;
};

struct GptSizes {
  int64_t batch = 2, length = 8, width = 16, heads = 2, layers = 2, vocabulary = 11;
  float dropout = 0.1f;
};
Network gpt(const GptSizes& sizes);
Network mlp(int64_t batch, const std::vector<int64_t>& widths, Ewise activation = Ewise::relu);

// Made of every kind of op that the passes treat specially, wired at random; the same for the same seed.
Network random_network(uint32_t seed, int nodes);

// Adds the backward pass and assigns precision.
Network training_graph(Network network, const PrecisionPolicy& policy);
// The same, fused and ordered; `kept` beside the loss.
Network compiled_graph(Network network, const PrecisionPolicy& policy, const FusionOptions& fusion = {});

int count_nodes(const Graph& graph, OpKind kind);
// Every input is made before it is read, every producer is right, outputs are made once.
bool is_well_formed(const Graph& graph);

}  // namespace mpt::test
