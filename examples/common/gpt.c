#include "gpt.h"

#include <math.h>
#include <stdio.h>

/* A weight that a layer of the same name will use: this is how a layer's weight gets an initialiser of its own. */
static void declare_weight(mpt_model *model, const char *name, int64_t rows, int64_t columns, double std) {
  mpt_param_options options;
  mpt_param_options_init(&options, sizeof options);
  options.initializer = MPT_INIT_NORMAL;
  options.b = std;
  const int64_t shape[] = {rows, columns};
  mpt_param(model, name, 2, shape, &options);
}

static mpt_tensor block(mpt_model *model, int index, mpt_tensor x, const struct recipe *recipe) {
  const int64_t width = recipe->width;
  const double residual_std = 0.02 / sqrt(2.0 * recipe->layers);
  mpt_linear_options linear;
  mpt_linear_options_init(&linear, sizeof linear);
  linear.weight_initializer = MPT_INIT_NORMAL;
  linear.weight_b = 0.02;
  linear.bias_initializer = MPT_INIT_ZEROS;
  mpt_attention_options attention;
  mpt_attention_options_init(&attention, sizeof attention);
  attention.causal = 1;

  char name[64];
#define NAME(part) (snprintf(name, sizeof name, "block%d." part, index), name)
  declare_weight(model, NAME("attn.out_proj.weight"), width, width, residual_std);
  declare_weight(model, NAME("fc2.weight"), width, 4 * width, residual_std);
  mpt_tensor h = mpt_layer_norm(model, NAME("norm1"), x, NULL);
  x = mpt_add(model, x, mpt_multi_head_attention(model, NAME("attn"), h, recipe->heads, &attention, &linear));
  h = mpt_layer_norm(model, NAME("norm2"), x, NULL);
  h = mpt_gelu_tanh(model, mpt_linear(model, NAME("fc1"), h, 4 * width, &linear));
  return mpt_add(model, x, mpt_linear(model, NAME("fc2"), h, width, &linear));
#undef NAME
}

struct gpt gpt_build(mpt_model *model, const struct recipe *recipe) {
  const int64_t batch = mpt_model_dim(model, "batch");
  const int64_t shape[] = {batch, recipe->context};
  const mpt_tensor bytes = mpt_input(model, "bytes", MPT_INT32, 2, shape);
  const mpt_tensor next = mpt_input(model, "next", MPT_INT32, 2, shape);

  mpt_embedding_options embedding;
  mpt_embedding_options_init(&embedding, sizeof embedding);
  embedding.b = recipe->embedding_std;
  declare_weight(model, "position.weight", recipe->context, recipe->width, recipe->embedding_std);
  mpt_tensor x = mpt_embedding(model, "byte", bytes, BYTE_VALUES, recipe->width, &embedding);
  x = mpt_add(model, x, mpt_model_param(model, "position.weight"));
  for (int i = 0; i < recipe->layers; ++i) x = block(model, i, x, recipe);
  x = mpt_layer_norm(model, "norm", x, NULL);

  mpt_linear_options head;
  mpt_linear_options_init(&head, sizeof head);
  head.bias = 0;
  head.weight_initializer = MPT_INIT_NORMAL;
  head.weight_b = 0.02;
  struct gpt gpt;
  gpt.logits = mpt_model_set_name(model, mpt_linear(model, "head", x, BYTE_VALUES, &head), "logits");
  gpt.loss = mpt_cross_entropy(model, gpt.logits, next, NULL);
  return gpt;
}
