#include "networks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MLP_BATCH 256
#define MLP_INPUTS 1024
#define MLP_HIDDEN 4096
#define MLP_CLASSES 10

#define GPT_BATCH 16
#define GPT_BATCHES 64
/* GPT-2 small (Radford et al. 2019), its vocabulary filled up to a multiple of 128. */
#define GPT2_BATCH 32
#define GPT2_BATCHES 4

static uint32_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33);
}

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  if (memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(1);
  }
  return memory;
}

static mpt_tensor build_mlp(mpt_model *model, const struct workload *workload) {
  const mpt_tensor x = mpt_input(model, "x", workload->x_dtype, workload->x_rank, workload->x_shape);
  const mpt_tensor y = mpt_input(model, "y", MPT_INT32, workload->y_rank, workload->y_shape);
  mpt_tensor h = mpt_relu(model, mpt_linear(model, "fc1", x, MLP_HIDDEN, NULL));
  h = mpt_relu(model, mpt_linear(model, "fc2", h, MLP_HIDDEN, NULL));
  return mpt_cross_entropy(model, mpt_linear(model, "fc3", h, MLP_CLASSES, NULL), y, NULL);
}

static mpt_tensor block(mpt_model *model, const struct workload *workload, int index, mpt_tensor x,
                        const mpt_linear_options *linear) {
  mpt_attention_options attention;
  mpt_attention_options_init(&attention, sizeof attention);
  attention.causal = 1;
  char name[32];
#define NAME(part) (snprintf(name, sizeof name, "block%d." part, index), name)
  mpt_tensor h = mpt_layer_norm(model, NAME("norm1"), x, NULL);
  x = mpt_add(model, x, mpt_multi_head_attention(model, NAME("attn"), h, workload->heads, &attention, linear));
  h = mpt_layer_norm(model, NAME("norm2"), x, NULL);
  h = mpt_gelu_tanh(model, mpt_linear(model, NAME("fc1"), h, 4 * workload->width, linear));
  return mpt_add(model, x, mpt_linear(model, NAME("fc2"), h, workload->width, linear));
#undef NAME
}

static mpt_tensor build_gpt(mpt_model *model, const struct workload *workload) {
  const mpt_tensor x = mpt_input(model, "x", workload->x_dtype, workload->x_rank, workload->x_shape);
  const mpt_tensor y = mpt_input(model, "y", MPT_INT32, workload->y_rank, workload->y_shape);
  mpt_linear_options linear;
  mpt_linear_options_init(&linear, sizeof linear);
  linear.weight_initializer = MPT_INIT_NORMAL;
  linear.weight_b = 0.02;
  linear.bias_initializer = MPT_INIT_ZEROS;
  mpt_embedding_options embedding;
  mpt_embedding_options_init(&embedding, sizeof embedding);
  embedding.b = 0.02;
  mpt_param_options position;
  mpt_param_options_init(&position, sizeof position);
  position.initializer = MPT_INIT_NORMAL;
  position.b = 0.02;
  const int64_t position_shape[] = {workload->context, workload->width};

  mpt_tensor h = mpt_embedding(model, "byte", x, workload->vocabulary, workload->width, &embedding);
  h = mpt_add(model, h, mpt_param(model, "position.weight", 2, position_shape, &position));
  for (int i = 0; i < workload->layers; ++i) h = block(model, workload, i, h, &linear);
  h = mpt_layer_norm(model, "norm", h, NULL);
  linear.bias = 0;
  return mpt_cross_entropy(model, mpt_linear(model, "head", h, workload->vocabulary, &linear), y, NULL);
}

static unsigned char *read_text(const char *path, int context, long *size) {
  FILE *file = path == NULL ? NULL : fopen(path, "rb");
  if (file == NULL) {
    fprintf(stderr, "gpt: found no readable text file %s, expected one by --text FILE\n", path == NULL ? "" : path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  *size = ftell(file);
  rewind(file);
  if (*size <= context) {
    fprintf(stderr, "gpt: found a text of %ld bytes, expected more than %d\n", *size, context);
    exit(1);
  }
  unsigned char *text = allocate((size_t)*size);
  if (fread(text, 1, (size_t)*size, file) != (size_t)*size) {
    fprintf(stderr, "gpt: cannot read %s\n", path);
    exit(1);
  }
  fclose(file);
  return text;
}

static struct workload mlp(int batch) {
  struct workload w = {0};
  w.batch = batch > 0 ? batch : MLP_BATCH;
  w.x_dtype = MPT_FLOAT32;
  w.x_rank = 2;
  w.x_shape[0] = w.y_shape[0] = w.batch;
  w.x_shape[1] = MLP_INPUTS;
  w.y_rank = 1;
  w.batches = 8;
  w.build = build_mlp;
  return w;
}

static void fill_mlp(struct workload *w) {
  const int64_t inputs = w->batches * workload_x_elements(w), labels = w->batches * workload_y_elements(w);
  float *x = allocate((size_t)inputs * sizeof(float));
  w->y = allocate((size_t)labels * sizeof(int32_t));
  uint64_t state = 1;
  /* Uniform with variance 1. */
  for (int64_t i = 0; i < inputs; ++i) x[i] = ((float)next_random(&state) / 1073741824.0f - 1.0f) * 1.7320508f;
  for (int64_t i = 0; i < labels; ++i) w->y[i] = (int32_t)(next_random(&state) % MLP_CLASSES);
  w->x = x;
}

static struct workload gpt_of(int batch, int batches, int context, int width, int layers, int heads, int vocabulary) {
  struct workload w = {0};
  w.context = context;
  w.width = width;
  w.layers = layers;
  w.heads = heads;
  w.vocabulary = vocabulary;
  w.batch = batch;
  w.x_dtype = MPT_INT32;
  w.x_rank = w.y_rank = 2;
  w.x_shape[0] = w.y_shape[0] = batch;
  w.x_shape[1] = w.y_shape[1] = context;
  w.batches = batches;
  w.build = build_gpt;
  return w;
}

/* Windows of a text of bytes, and what follows each byte. */
static void fill_from_text(struct workload *w, const char *path) {
  long size = 0;
  unsigned char *text = read_text(path, w->context, &size);
  const size_t elements = (size_t)(w->batches * workload_x_elements(w)), context = (size_t)w->context;
  int32_t *x = allocate(elements * sizeof(int32_t));
  w->y = allocate(elements * sizeof(int32_t));
  uint64_t state = 1;
  for (size_t row = 0; row < elements / context; ++row) {
    const long begin = (long)(next_random(&state) % (uint32_t)(size - w->context));
    for (size_t i = 0; i < context; ++i) {
      x[row * context + i] = text[begin + (long)i];
      w->y[row * context + i] = text[begin + (long)i + 1];
    }
  }
  free(text);
  w->x = x;
}

/* Uniform over the vocabulary; each row's labels are its tokens, one place on. */
static void fill_with_tokens(struct workload *w) {
  const size_t elements = (size_t)(w->batches * workload_x_elements(w)), context = (size_t)w->context;
  int32_t *x = allocate(elements * sizeof(int32_t));
  w->y = allocate(elements * sizeof(int32_t));
  uint64_t state = 1;
  for (size_t row = 0; row < elements; row += context) {
    int32_t token = (int32_t)(next_random(&state) % (uint32_t)w->vocabulary);
    for (size_t i = row; i < row + context; ++i) {
      x[i] = token;
      w->y[i] = token = (int32_t)(next_random(&state) % (uint32_t)w->vocabulary);
    }
  }
  w->x = x;
}

struct workload workload_network(const char *name, int batch) {
  if (strcmp(name, "mlp") == 0) return mlp(batch);
  if (strcmp(name, "gpt") == 0) return gpt_of(batch > 0 ? batch : GPT_BATCH, GPT_BATCHES, 128, 256, 4, 4, 256);
  if (strcmp(name, "gpt2-124m") == 0)
    return gpt_of(batch > 0 ? batch : GPT2_BATCH, GPT2_BATCHES, 1024, 768, 12, 12, 50304);
  fprintf(stderr, "found the workload %s, expected mlp, gpt or gpt2-124m\n", name);
  exit(2);
}

struct workload workload_of(const char *name, int batch, const char *text) {
  struct workload w = workload_network(name, batch);
  if (w.build == build_mlp)
    fill_mlp(&w);
  else if (w.vocabulary == 256)
    fill_from_text(&w, text);
  else
    fill_with_tokens(&w);
  return w;
}

int64_t workload_x_elements(const struct workload *w) {
  return w->x_rank == 2 ? w->x_shape[0] * w->x_shape[1] : w->x_shape[0];
}
int64_t workload_y_elements(const struct workload *w) {
  return w->y_rank == 2 ? w->y_shape[0] * w->y_shape[1] : w->y_shape[0];
}
