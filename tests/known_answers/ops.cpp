// Ops through the public interface, forward and gradients, against JAX in double: ops.py.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "end_to_end/session.h"
#include "io/safetensors.h"

using namespace mpt;

namespace {

// The inputs of a case by name. Those with the name of a layer's parameter are found by the layer.
struct Inputs {
  std::map<std::string, mpt_tensor> tensors;
  mpt_tensor operator[](const char* name) const { return tensors.at(name); }
};

using Build = std::function<mpt_tensor(mpt_model*, const Inputs&)>;
using Unary = mpt_tensor (*)(mpt_model*, mpt_tensor);
using Binary = mpt_tensor (*)(mpt_model*, mpt_tensor, mpt_tensor);
using Reduction = mpt_tensor (*)(mpt_model*, mpt_tensor, int32_t, const int32_t*, int32_t);
using PairLoss = mpt_tensor (*)(mpt_model*, mpt_tensor, mpt_tensor, const mpt_loss_options*);

Build unary(Unary op) {
  return [op](mpt_model* m, const Inputs& in) { return op(m, in["x"]); };
}

Build binary(Binary op) {
  return [op](mpt_model* m, const Inputs& in) { return op(m, in["a"], in["b"]); };
}

Build matmul(int transpose_a, int transpose_b) {
  return [=](mpt_model* m, const Inputs& in) { return mpt_matmul(m, in["a"], in["b"], transpose_a, transpose_b); };
}

Build linear(int64_t features, bool bias) {
  return [=](mpt_model* m, const Inputs& in) {
    mpt_linear_options options;
    mpt_linear_options_init(&options, sizeof options);
    options.bias = bias ? 1 : 0;
    return mpt_linear(m, "fc", in["x"], features, &options);
  };
}

Build along_axis(mpt_tensor (*op)(mpt_model*, mpt_tensor, int32_t), int32_t axis) {
  return [=](mpt_model* m, const Inputs& in) { return op(m, in["x"], axis); };
}

Build layer_norm(double epsilon, bool affine) {
  return [=](mpt_model* m, const Inputs& in) {
    mpt_norm_options options;
    mpt_norm_options_init(&options, sizeof options);
    options.epsilon = epsilon;
    options.scale = options.shift = affine ? 1 : 0;
    return mpt_layer_norm(m, "norm", in["x"], &options);
  };
}

Build attention(int32_t heads, const std::function<void(mpt_attention_options&, const Inputs&)>& tune) {
  return [=](mpt_model* m, const Inputs& in) {
    mpt_attention_options options;
    mpt_attention_options_init(&options, sizeof options);
    tune(options, in);
    return mpt_attention(m, in["q"], in["k"], in["v"], heads, &options);
  };
}

Build reduce(Reduction op, std::vector<int32_t> axes, bool keep) {
  return [=](mpt_model* m, const Inputs& in) {
    return op(m, in["x"], static_cast<int32_t>(axes.size()), axes.data(), keep ? 1 : 0);
  };
}

Build reshape(std::vector<int64_t> shape) {
  return [=](mpt_model* m, const Inputs& in) {
    return mpt_reshape(m, in["x"], static_cast<int32_t>(shape.size()), shape.data());
  };
}

Build transpose(std::vector<int32_t> axes) {
  return
      [=](mpt_model* m, const Inputs& in) { return mpt_transpose(m, in["x"], axes.empty() ? nullptr : axes.data()); };
}

Build cross_entropy(double smoothing, int32_t ignore, int32_t reduction) {
  return [=](mpt_model* m, const Inputs& in) {
    mpt_loss_options options;
    mpt_loss_options_init(&options, sizeof options);
    options.label_smoothing = smoothing;
    options.ignore_index = ignore;
    options.reduction = reduction;
    return mpt_cross_entropy(m, in["x"], in["labels"], &options);
  };
}

Build pair_loss(PairLoss op, int32_t reduction) {
  return [=](mpt_model* m, const Inputs& in) {
    mpt_loss_options options;
    mpt_loss_options_init(&options, sizeof options);
    options.reduction = reduction;
    return op(m, in["x"], in["target"], &options);
  };
}

const std::map<std::string, Build>& table() {
  static const std::map<std::string, Build> cases = {
      {"matmul", matmul(0, 0)},
      {"matmul transposed a", matmul(1, 0)},
      {"matmul transposed b", matmul(0, 1)},
      {"matmul both transposed", matmul(1, 1)},
      {"matmul batched", matmul(0, 0)},
      {"matmul broadcast", matmul(0, 0)},
      {"linear", linear(11, true)},
      {"linear without bias", linear(33, false)},
      {"add", binary(mpt_add)},
      {"sub", binary(mpt_sub)},
      {"mul", binary(mpt_mul)},
      {"div", binary(mpt_div)},
      {"scale", [](mpt_model* m, const Inputs& in) { return mpt_scale(m, in["x"], 1.5, -0.25); }},
      {"relu", unary(mpt_relu)},
      {"leaky relu", [](mpt_model* m, const Inputs& in) { return mpt_leaky_relu(m, in["x"], 0.1); }},
      {"gelu", unary(mpt_gelu)},
      {"gelu tanh", unary(mpt_gelu_tanh)},
      {"silu", unary(mpt_silu)},
      {"sigmoid", unary(mpt_sigmoid)},
      {"tanh", unary(mpt_tanh)},
      {"exp", unary(mpt_exp)},
      {"log", unary(mpt_log)},
      {"sqrt", unary(mpt_sqrt)},
      {"square", unary(mpt_square)},
      {"clamp", [](mpt_model* m, const Inputs& in) { return mpt_clamp(m, in["x"], -1.0, 0.5); }},
      {"stop gradient",
       [](mpt_model* m, const Inputs& in) { return mpt_mul(m, in["x"], mpt_stop_gradient(m, in["x"])); }},
      {"softmax", along_axis(mpt_softmax, -1)},
      {"softmax axis 0", along_axis(mpt_softmax, 0)},
      {"log softmax", along_axis(mpt_log_softmax, -1)},
      {"log softmax axis 1", along_axis(mpt_log_softmax, 1)},
      {"layer norm", layer_norm(1e-5, true)},
      {"layer norm plain", layer_norm(1e-3, false)},
      {"rms norm", [](mpt_model* m, const Inputs& in) { return mpt_rms_norm(m, "norm", in["x"], nullptr); }},
      {"attention", attention(3, [](mpt_attention_options&, const Inputs&) {})},
      {"attention causal", attention(2, [](mpt_attention_options& o, const Inputs&) { o.causal = 1; })},
      {"attention scaled", attention(2, [](mpt_attention_options& o, const Inputs&) { o.scale = 0.2; })},
      {"attention mask", attention(2, [](mpt_attention_options& o, const Inputs& in) { o.mask = in["mask"]; })},
      {"attention mask of all heads",
       attention(2, [](mpt_attention_options& o, const Inputs& in) { o.mask = in["mask"]; })},
      {"attention lengths",
       attention(2, [](mpt_attention_options& o, const Inputs& in) { o.key_lengths = in["lengths"]; })},
      {"attention grouped", attention(6,
                                      [](mpt_attention_options& o, const Inputs&) {
                                        o.causal = 1;
                                        o.kv_heads = 2;
                                      })},
      {"embedding",
       [](mpt_model* m, const Inputs& in) { return mpt_embedding(m, "table", in["indices"], 9, 12, nullptr); }},
      {"tied embedding",
       [](mpt_model* m, const Inputs& in) {
         const mpt_tensor h = mpt_tanh(m, mpt_embedding(m, "table", in["indices"], 9, 12, nullptr));
         return mpt_matmul(m, h, mpt_model_param(m, "table.weight"), 0, 1);
       }},
      {"reshape", reshape({6, -1})},
      {"transpose", transpose({2, 0, 1})},
      {"transpose reversed", transpose({})},
      {"slice", [](mpt_model* m, const Inputs& in) { return mpt_slice(m, in["x"], 1, 2, -1); }},
      {"concat",
       [](mpt_model* m, const Inputs& in) {
         const mpt_tensor parts[] = {in["a"], in["b"], in["c"]};
         return mpt_concat(m, 3, parts, 1);
       }},
      {"gather", [](mpt_model* m, const Inputs& in) { return mpt_gather(m, in["x"], in["indices"], 1); }},
      {"pad", [](mpt_model* m, const Inputs& in) { return mpt_pad(m, in["x"], 1, 2, 1, 0.5); }},
      {"sum", reduce(mpt_sum, {}, false)},
      {"sum axes", reduce(mpt_sum, {0, 2}, false)},
      {"sum axis kept", reduce(mpt_sum, {1}, true)},
      {"mean", reduce(mpt_mean, {}, false)},
      {"mean axis", reduce(mpt_mean, {-1}, false)},
      {"max axis", reduce(mpt_max, {1}, false)},
      {"max ties", reduce(mpt_max, {-1}, true)},
      {"cross-entropy", cross_entropy(0, -100, MPT_REDUCE_MEAN)},
      {"cross-entropy smoothed", cross_entropy(0.1, -100, MPT_REDUCE_MEAN)},
      {"cross-entropy ignoring", cross_entropy(0.1, 3, MPT_REDUCE_MEAN)},
      {"cross-entropy sum", cross_entropy(0, -100, MPT_REDUCE_SUM)},
      {"mse", pair_loss(mpt_mse_loss, MPT_REDUCE_MEAN)},
      {"mse sum", pair_loss(mpt_mse_loss, MPT_REDUCE_SUM)},
      {"l1", pair_loss(mpt_l1_loss, MPT_REDUCE_MEAN)},
      {"bce", pair_loss(mpt_bce_loss, MPT_REDUCE_MEAN)},
  };
  return cases;
}

// A tensor of the file in memory, described for the library.
struct Stored {
  std::vector<char> bytes;
  mpt_array array = {};

  Stored(const SafetensorsFile& file, const std::string& tensor) {
    const TensorEntry* entry = file.find(tensor);
    REQUIRE_MESSAGE(entry != nullptr, tensor);
    bytes.resize(entry->bytes());
    file.read(*entry, 0, bytes.data(), entry->bytes());
    array.data = bytes.data();
    array.dtype = entry->type == "F64"   ? MPT_FLOAT64
                  : entry->type == "F32" ? MPT_FLOAT32
                  : entry->type == "I32" ? MPT_INT32
                                         : MPT_UINT8;
    array.rank = static_cast<int32_t>(entry->sizes.size());
    for (int i = 0; i < array.rank; ++i) array.shape[i] = entry->sizes[static_cast<std::size_t>(i)];
  }
};

// The worst of the cases adds up 64 products; with the rounding of each and a few units in the last place of a
// function, errors stay below about 100 * 2^-24 = 6e-6 of what is summed, which the tensor's greatest element stands
// for.
void check_close(const Stored& expected, const std::vector<float>& found, const std::string& what) {
  const auto* values = reinterpret_cast<const double*>(expected.bytes.data());
  REQUIRE(expected.array.dtype == MPT_FLOAT64);
  REQUIRE(found.size() == expected.bytes.size() / sizeof(double));
  double greatest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) greatest = std::fmax(greatest, std::fabs(values[i]));
  for (std::size_t i = 0; i < found.size(); ++i)
    CHECK_MESSAGE(std::fabs(found[i] - values[i]) <= 1e-5 * greatest, what, " element ", i, ": found ", found[i],
                  ", expected ", values[i]);
}

void run_case(const SafetensorsFile& file, const std::string& name, const Build& build) {
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_trainer* trainer = nullptr;
  MPT_OKAY(mpt_context_create(&context, nullptr));
  MPT_OKAY(mpt_model_create(&model, context));

  Inputs inputs;
  std::vector<Stored> fed;
  std::map<std::string, Stored> trained;
  std::vector<std::string> fed_names;
  std::istringstream names(file.metadata().at(name));
  for (std::string input; std::getline(names, input, ',');) {
    Stored stored(file, name + "/in/" + input);
    if (stored.array.dtype == MPT_FLOAT32) {
      inputs.tensors[input] = mpt_param(model, input.c_str(), stored.array.rank, stored.array.shape, nullptr);
      trained.emplace(input, std::move(stored));
    } else {
      inputs.tensors[input] =
          mpt_input(model, input.c_str(), stored.array.dtype, stored.array.rank, stored.array.shape);
      fed.push_back(std::move(stored));
      fed_names.push_back(input);
    }
  }
  const mpt_tensor out = mpt_model_set_name(model, build(model, inputs), "out");
  const Stored weights(file, name + "/weights");
  const mpt_tensor loss = mpt_sum(model, mpt_mul(model, out, mpt_constant(model, &weights.array)), 0, nullptr, 0);
  MPT_OKAY(mpt_model_check(model));
  MPT_OKAY(mpt_params_create(&params, model, nullptr));
  for (const auto& [input, stored] : trained) MPT_OKAY(mpt_params_set(params, input.c_str(), &stored.array));
  MPT_OKAY(mpt_optimizer_create(&optimizer, params, nullptr));
  MPT_OKAY(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr));
  MPT_OKAY(mpt_trainer_keep(trainer, "out"));
  std::vector<mpt_array> arrays;
  for (std::size_t i = 0; i < fed.size(); ++i) {
    arrays.push_back(fed[i].array);
    arrays.back().name = fed_names[i].c_str();
  }
  MPT_OKAY(mpt_trainer_backward(trainer, arrays.data(), static_cast<int32_t>(arrays.size()), nullptr));

  const Stored expected(file, name + "/out");
  std::vector<float> found(expected.bytes.size() / sizeof(double));
  mpt_array array = expected.array;
  array.name = "out";
  array.data = found.data();
  array.dtype = MPT_FLOAT32;
  MPT_OKAY(mpt_trainer_fetch(trainer, &array));
  check_close(expected, found, name + ": output");
  for (const auto& [input, stored] : trained) {
    const Stored gradient(file, name + "/gradient/" + input);
    found.assign(gradient.bytes.size() / sizeof(double), 0.0f);
    array = stored.array;
    array.data = found.data();
    MPT_OKAY(mpt_params_get(params, input.c_str(), MPT_PART_GRADIENT, &array));
    check_close(gradient, found, name + ": gradient of " + input);
  }
  mpt_trainer_destroy(trainer);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
}

}  // namespace

TEST_CASE("ops and their gradients are JAX's") {
  const char* folder = std::getenv("MPT_KNOWN_ANSWERS");
  const std::string path = std::string(folder != nullptr ? folder : ".") + "/ops.safetensors";
  if (!std::ifstream(path)) {
    MESSAGE("SKIPPED: there is no ", path, ": it takes a Python with jax and optax");
    return;
  }
  const SafetensorsFile file(path);
  std::set<std::string> answered;
  std::istringstream names(file.metadata().at("cases"));
  for (std::string name; std::getline(names, name, ',');) {
    INFO(name);
    const auto found = table().find(name);
    REQUIRE(found != table().end());
    run_case(file, name, found->second);
    answered.insert(name);
  }
  CHECK(answered.size() == table().size());  // no case without an answer
}
