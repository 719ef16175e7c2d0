/*
 * A program with a forward and a backward pass of its own that lets libmpt do the rest of mixed precision training: FP32 master
 * weights, their FP16 copies, loss scaling, the check for overflow, Adam.
 *
 * The network, 2 -> 64 -> 3 with ReLU, learns to tell the three arms of a spiral apart. Every step is
 *   1. mpt_scaler_begin: the factor to multiply the loss with;
 *   2. forward and backward, in plain loops, from the FP16 weights to FP16 gradients of factor * loss;
 *   3. mpt_optimizer_step: unscale, check, update the masters, round the FP16 copies, change the scale.
 */
#include <math.h>
#include <mpt.h>
#include <stdio.h>
#include <string.h>

enum { ARMS = 3, POINTS = 300, INPUTS = 2, HIDDEN = 64, STEPS = 400 };

#define TRY(call)                                        \
  do {                                                   \
    if ((call) != MPT_OK) {                              \
      fprintf(stderr, "%s\n", mpt_last_error_message()); \
      return 1;                                          \
    }                                                    \
  } while (0)

/* ---- FP16, as bits ---- */

static float half_to_float(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  float size;
  if (exponent == 31) {
    size = fraction ? NAN : INFINITY;
  } else {
    size = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
  }
  return half & 0x8000 ? -size : size;
}

/* To nearest, ties to even. What is too large becomes infinite: that is how the scaler learns of an overflow. */
static uint16_t float_to_half(float value) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0;
  const float size = fabsf(value);
  if (isnan(value)) return sign | 0x7e00;
  if (size >= 65520.0f) return sign | 0x7c00;
  int exponent;
  frexpf(size, &exponent);            /* size = [0.5, 1) * 2^exponent */
  if (exponent < -13) exponent = -13; /* subnormal numbers share the least normal number's spacing */
  const long units = lrintf(ldexpf(size, 11 - exponent)); /* in units in the last place, at most 2048 */
  /* A carry out of the fraction adds one to the exponent, as it should. */
  return (uint16_t)(sign | (((long)(exponent + 13) << 10) + units));
}

/* ---- data ---- */

struct points {
  float x[POINTS][INPUTS];
  int label[POINTS];
};

/* Three arms of a spiral; `turn` shifts the points along them, so that test points are not training points. */
static void make_points(struct points *points, float turn) {
  for (int i = 0; i < POINTS; ++i) {
    const int arm = i % ARMS;
    const float along = ((float)(i / ARMS) + turn) / (POINTS / ARMS), angle = 4 * along + 2.0944f * (float)arm;
    points->x[i][0] = along * cosf(angle);
    points->x[i][1] = along * sinf(angle);
    points->label[i] = arm;
  }
}

/* ---- the network: weights read from FP16 and sums of gradients ---- */

struct weights {
  float w1[HIDDEN][INPUTS], b1[HIDDEN], w2[ARMS][HIDDEN], b2[ARMS];
};

static void forward(const struct weights *net, const float x[INPUTS], float hidden[HIDDEN], float probability[ARMS]) {
  for (int h = 0; h < HIDDEN; ++h) {
    const float sum = net->b1[h] + net->w1[h][0] * x[0] + net->w1[h][1] * x[1];
    hidden[h] = sum > 0 ? sum : 0;
  }
  float total = 0;
  for (int k = 0; k < ARMS; ++k) {
    float logit = net->b2[k];
    for (int h = 0; h < HIDDEN; ++h) logit += net->w2[k][h] * hidden[h];
    total += probability[k] = expf(logit);
  }
  for (int k = 0; k < ARMS; ++k) probability[k] /= total;
}

/* Mean cross-entropy over all points, and the gradients of `scale` times it. */
static double backward(const struct weights *net, const struct points *points, float scale, struct weights *gradients) {
  double loss = 0;
  memset(gradients, 0, sizeof *gradients);
  for (int i = 0; i < POINTS; ++i) {
    const float *x = points->x[i];
    float hidden[HIDDEN], probability[ARMS], dlogit[ARMS];
    forward(net, x, hidden, probability);
    loss -= log(probability[points->label[i]]) / POINTS;
    for (int k = 0; k < ARMS; ++k) dlogit[k] = scale * (probability[k] - (float)(k == points->label[i])) / POINTS;
    for (int k = 0; k < ARMS; ++k) gradients->b2[k] += dlogit[k];
    for (int h = 0; h < HIDDEN; ++h) {
      float dhidden = 0;
      for (int k = 0; k < ARMS; ++k) {
        gradients->w2[k][h] += dlogit[k] * hidden[h];
        dhidden += dlogit[k] * net->w2[k][h];
      }
      if (hidden[h] == 0) continue; /* ReLU passes nothing back */
      gradients->b1[h] += dhidden;
      for (int j = 0; j < INPUTS; ++j) gradients->w1[h][j] += dhidden * x[j];
    }
  }
  return loss;
}

static double accuracy(const struct weights *net, const struct points *points) {
  int right = 0;
  for (int i = 0; i < POINTS; ++i) {
    float hidden[HIDDEN], p[ARMS];
    forward(net, points->x[i], hidden, p);
    const int best = p[0] > p[1] ? (p[0] > p[2] ? 0 : 2) : (p[1] > p[2] ? 1 : 2);
    right += best == points->label[i];
  }
  return (double)right / POINTS;
}

/* ---- what libmpt holds: a tensor for each part of struct weights ---- */

struct tensor {
  const char *name;
  int32_t rank;
  int64_t shape[2];
  double std;    /* of its initial values */
  size_t offset; /* of its part of struct weights */
  uint16_t *copy, *gradient;
};

static size_t elements(const struct tensor *tensor) {
  return (size_t)(tensor->rank == 2 ? tensor->shape[0] * tensor->shape[1] : tensor->shape[0]);
}

static void read_weights(const struct tensor *tensors, int count, struct weights *net) {
  for (int t = 0; t < count; ++t) {
    float *to = (float *)((char *)net + tensors[t].offset);
    for (size_t i = 0; i < elements(&tensors[t]); ++i) to[i] = half_to_float(tensors[t].copy[i]);
  }
}

static void write_gradients(const struct tensor *tensors, int count, const struct weights *gradients) {
  for (int t = 0; t < count; ++t) {
    const float *from = (const float *)((const char *)gradients + tensors[t].offset);
    for (size_t i = 0; i < elements(&tensors[t]); ++i) tensors[t].gradient[i] = float_to_half(from[i]);
  }
}

int main(void) {
  static struct points training, test;
  static struct weights net, gradients;
  make_points(&training, 0.5f);
  make_points(&test, 1.0f);
  struct tensor tensors[] = {
      {"fc1.weight", 2, {HIDDEN, INPUTS}, 1.0, offsetof(struct weights, w1), NULL, NULL},
      {"fc1.bias", 1, {HIDDEN}, 0.5, offsetof(struct weights, b1), NULL, NULL},
      {"fc2.weight", 2, {ARMS, HIDDEN}, 0.1, offsetof(struct weights, w2), NULL, NULL},
      {"fc2.bias", 1, {ARMS}, 0.1, offsetof(struct weights, b2), NULL, NULL},
  };
  const int count = sizeof tensors / sizeof *tensors;

  mpt_context *context;
  mpt_params *params;
  mpt_optimizer *optimizer;
  mpt_scaler *scaler;
  TRY(mpt_context_create(&context, NULL));
  mpt_params_options params_options;
  TRY(mpt_params_options_init(&params_options, sizeof params_options));
  params_options.precision = MPT_PRECISION_FP16;
  TRY(mpt_params_create_empty(&params, context, &params_options));
  for (int t = 0; t < count; ++t) {
    mpt_param_options options;
    TRY(mpt_param_options_init(&options, sizeof options));
    options.initializer = MPT_INIT_NORMAL;
    options.b = tensors[t].std;
    TRY(mpt_params_register(params, tensors[t].name, tensors[t].rank, tensors[t].shape, &options));
  }
  TRY(mpt_params_allocate(params));
  for (int t = 0; t < count; ++t) { /* where copies and gradients lie; both are MPT_FLOAT16 */
    mpt_array part;
    TRY(mpt_params_tensor(params, tensors[t].name, MPT_PART_COPY16, &part));
    tensors[t].copy = part.data;
    TRY(mpt_params_tensor(params, tensors[t].name, MPT_PART_GRADIENT, &part));
    tensors[t].gradient = part.data;
  }
  mpt_optimizer_options adam;
  TRY(mpt_optimizer_options_init_kind(&adam, sizeof adam, MPT_ADAM));
  adam.learning_rate = 0.02;
  TRY(mpt_optimizer_create(&optimizer, params, &adam));
  mpt_scaler_options scaling;
  TRY(mpt_scaler_options_init(&scaling, sizeof scaling));
  scaling.growth_interval = 50; /* often, so that a short run shows the scale change */
  TRY(mpt_scaler_create(&scaler, context, &scaling));

  printf("%6s %8s %10s %8s %16s\n", "step", "loss", "scale", "skipped", "test accuracy");
  for (int step = 1; step <= STEPS; ++step) {
    double scale;
    TRY(mpt_scaler_begin(scaler, params, &scale));
    read_weights(tensors, count, &net);
    const double loss = backward(&net, &training, (float)scale, &gradients);
    write_gradients(tensors, count, &gradients);
    mpt_step_result result;
    TRY(mpt_step_result_init(&result, sizeof result));
    TRY(mpt_optimizer_step(optimizer, scaler, &result));
    if (step == 1 || step % 50 == 0) {
      printf("%6d %8.4f %10g %8llu %14.1f %%\n", step, loss, result.scale, (unsigned long long)result.skipped_steps,
             100 * accuracy(&net, &test));
    }
  }
  read_weights(tensors, count, &net);
  const double reached = accuracy(&net, &test);

  mpt_scaler_destroy(scaler);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_context_destroy(context);
  if (reached < 0.95) {
    fprintf(stderr, "own_gradients: the network tells %.1f %% of the test points, expected at least 95 %%\n",
            100 * reached);
    return 1;
  }
  return 0;
}
