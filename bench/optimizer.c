/* The update alone: optimizer adamw|sgd fp32|fp16|bf16 [options]: parameters, 10 million unless --parameters says, with gradients of one's own,
 * through unscale, check, norm, update and 16-bit copy. Beside each step runs a STREAM-like triad (McCalpin 1995) on
 * the same number of threads, so that the memory traffic of the update can be told as a share of what the machine
 * moves; on a GPU it is a copy within its memory. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/device.h"
#include "common/side.h"

#define TENSORS 10
#define COLUMNS 1000 /* of each; the number of rows follows from the number of parameters */
#define DEFAULT_PARAMETERS 1e7
#define TRIAD_ELEMENTS (1 << 23) /* three arrays of 64 MB: more than caches hold */
#define MAX_THREADS 256
#define WARM_STEPS 2

/* -------------------------------------------------------------------------------------------------------------
 * triad */

static double *triad_a, *triad_b, *triad_c;

struct part {
  size_t begin, end;
};

static void *triad_part(void *user) {
  const struct part *p = user;
  double *restrict a = triad_a;
  const double *restrict b = triad_b, *restrict c = triad_c;
  for (size_t i = p->begin; i < p->end; ++i) a[i] = b[i] + 3.0 * c[i];
  return NULL;
}

/* The first touch, on the thread that will use the part. */
static void *fill_part(void *user) {
  const struct part *p = user;
  for (size_t i = p->begin; i < p->end; ++i) triad_a[i] = 0, triad_b[i] = 1, triad_c[i] = (double)i;
  return NULL;
}

static void on_threads(void *(*function)(void *), int threads) {
  pthread_t ids[MAX_THREADS];
  struct part parts[MAX_THREADS];
  for (int t = 0; t < threads; ++t) {
    parts[t].begin = (size_t)TRIAD_ELEMENTS * (size_t)t / (size_t)threads;
    parts[t].end = (size_t)TRIAD_ELEMENTS * (size_t)(t + 1) / (size_t)threads;
    if (t > 0 && pthread_create(&ids[t], NULL, function, &parts[t]) != 0) abort();
  }
  function(&parts[0]);
  for (int t = 1; t < threads; ++t) pthread_join(ids[t], NULL);
}

static double triad(void *user, int index) {
  (void)index;
  on_threads(triad_part, *(const int *)user);
  return triad_a[TRIAD_ELEMENTS / 2];
}

/* ------------------------------------------------------------------------------------------------------------
 * update */

struct session {
  mpt_params *params;
  mpt_optimizer *optimizer;
  mpt_scaler *scaler;
  int threads;
  struct device *device; /* NULL: the CPU */
  struct side_results triad;
};

/* Returns the norm of the gradients in the place of a loss. */
static double update(void *user, int index) {
  struct session *s = user;
  (void)index;
  double scale;
  side_check(mpt_scaler_begin(s->scaler, s->params, &scale), "mpt_scaler_begin");
  mpt_step_result result;
  mpt_step_result_init(&result, sizeof result);
  side_check(mpt_optimizer_step(s->optimizer, s->scaler, &result), "mpt_optimizer_step");
  if (result.skipped) {
    fprintf(stderr, "optimizer: found a skipped step, expected finite gradients\n");
    exit(1);
  }
  return result.gradient_norm;
}

static uint32_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33);
}

static void fill_gradient(const mpt_array *gradient, size_t count, uint64_t *state) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t random = next_random(state);
    if (gradient->dtype == MPT_FLOAT32) {
      ((float *)gradient->data)[i] = (float)random / 1073741824.0f - 1.0f;
    } else {
      /* Any sign and fraction; exponents from 2^-5 to 2^-1. */
      const uint32_t bits = gradient->dtype == MPT_FLOAT16 ? (random & 0x83ffu) | ((10 + (random >> 16) % 5) << 10)
                                                           : (random & 0x807fu) | ((122 + (random >> 16) % 5) << 7);
      ((uint16_t *)gradient->data)[i] = (uint16_t)bits;
    }
  }
}

static void fill_gradients(mpt_params *params, int64_t rows, struct device *device) {
  const size_t count = (size_t)rows * COLUMNS;
  void *staging = device == NULL ? NULL : malloc(count * sizeof(float));
  if (device != NULL && staging == NULL) abort();
  uint64_t state = 1;
  for (int t = 0; t < mpt_params_count(params); ++t) {
    mpt_array gradient;
    side_check(mpt_params_tensor(params, mpt_params_name(params, t), MPT_PART_GRADIENT, &gradient),
               "mpt_params_tensor");
    void *there = gradient.data;
    if (device != NULL) gradient.data = staging;
    fill_gradient(&gradient, count, &state);
    if (device != NULL) device_copy_in(device, there, staging, count * mpt_dtype_size(gradient.dtype));
  }
  free(staging);
}

static mpt_params *make_params(mpt_context *context, mpt_precision precision, int64_t rows, struct device *device) {
  mpt_params_options options;
  mpt_params_options_init(&options, sizeof options);
  options.precision = precision;
  mpt_params *params;
  side_check(mpt_params_create_empty(&params, context, &options), "mpt_params_create_empty");
  mpt_param_options random;
  mpt_param_options_init(&random, sizeof random);
  random.initializer = MPT_INIT_UNIFORM;
  random.a = -1;
  random.b = 1;
  for (int t = 0; t < TENSORS; ++t) {
    char name[16];
    snprintf(name, sizeof name, "tensor%d", t);
    const int64_t shape[] = {rows, COLUMNS};
    side_check(mpt_params_register(params, name, 2, shape, &random), "mpt_params_register");
  }
  side_check(mpt_params_allocate(params), "mpt_params_allocate");
  fill_gradients(params, rows, device);
  return params;
}

/* Bytes that must move for each parameter: the gradient is read twice (norm and check, then update); master and
 * moments are read and written; the copy is written. */
static double bytes_per_parameter(int adamw, mpt_precision precision) {
  const double gradient = precision == MPT_PRECISION_FP32 ? 4 : 2, copy = precision == MPT_PRECISION_FP32 ? 0 : 2;
  return 2 * gradient + 8 + (adamw ? 16 : 8) + copy;
}

static double triad_before(void *user, int index) {
  struct session *s = user;
  (void)index;
  if (s->device != NULL)
    side_run(&s->triad, device_copy_step, s->device, 1);
  else
    side_run(&s->triad, triad, &s->threads, 1);
  return 0;
}

/* The least time: what the machine does where nothing else disturbs it. */
static double least(const struct side_results *results, int from) {
  double ms = results->ms[from];
  for (int i = from + 1; i < results->steps; ++i) ms = fmin(ms, results->ms[i]);
  return ms;
}

int main(int argc, char **argv) {
  struct side_options options = side_options_of(argc, argv);
  const int adamw = strcmp(options.workload, "adamw") == 0;
  if (!adamw && strcmp(options.workload, "sgd") != 0) {
    fprintf(stderr, "found the optimizer %s, expected adamw or sgd\n", options.workload);
    return 2;
  }
  mpt_context_options context_options;
  mpt_context_options_init(&context_options, sizeof context_options);
  context_options.threads = options.threads;
  context_options.device = options.device;
  mpt_context *context;
  side_check(mpt_context_create(&context, &context_options), "mpt_context_create");
  struct session s = {0};
  s.threads = options.threads = mpt_context_threads(context);
  if (s.threads > MAX_THREADS) {
    fprintf(stderr, "found %d threads, expected at most %d\n", s.threads, MAX_THREADS);
    return 2;
  }
  const double wanted = options.parameters > 0 ? options.parameters : DEFAULT_PARAMETERS;
  const int64_t rows = (int64_t)(wanted / (TENSORS * COLUMNS));
  const double parameters = (double)rows * TENSORS * COLUMNS;
  if (rows < 1) {
    fprintf(stderr, "optimizer: found --parameters %g, expected at least %d\n", wanted, TENSORS * COLUMNS);
    return 2;
  }
  if (strncmp(options.device, "cuda", 4) == 0) s.device = device_open(options.device);
  triad_a = malloc(TRIAD_ELEMENTS * sizeof(double));
  triad_b = malloc(TRIAD_ELEMENTS * sizeof(double));
  triad_c = malloc(TRIAD_ELEMENTS * sizeof(double));
  if (triad_a == NULL || triad_b == NULL || triad_c == NULL) abort();
  on_threads(fill_part, s.threads);

  s.params = make_params(context, options.precision, rows, s.device);
  mpt_optimizer_options optimizer_options;
  mpt_optimizer_options_init_kind(&optimizer_options, sizeof optimizer_options, adamw ? MPT_ADAMW : MPT_SGD);
  optimizer_options.learning_rate = 1e-3;
  optimizer_options.weight_decay = 0.01;
  if (!adamw) optimizer_options.momentum = 0.9;
  side_check(mpt_optimizer_create(&s.optimizer, s.params, &optimizer_options), "mpt_optimizer_create");
  mpt_scaler_options scaler_options;
  mpt_scaler_options_init(&scaler_options, sizeof scaler_options);
  if (options.precision != MPT_PRECISION_FP16) scaler_options.mode = MPT_SCALER_OFF;
  side_check(mpt_scaler_create(&s.scaler, context, &scaler_options), "mpt_scaler_create");

  struct side_results results = {.before = triad_before};
  side_run(&results, update, &s, WARM_STEPS);
  printf("{\"ready\": true, \"name\": \"libmpt %s\", \"ms\": %.6g}\n", mpt_version(), results.ms[WARM_STEPS - 1]);
  fflush(stdout);
  side_converse(&results, update, &s);

  const int from = results.steps > WARM_STEPS ? WARM_STEPS : 0;
  const double bytes = bytes_per_parameter(adamw, options.precision);
  const double update_rate = bytes * parameters / least(&results, from) * 1e-6;
  const double moved = s.device != NULL ? DEVICE_COPY_MOVES : 24.0 * TRIAD_ELEMENTS;
  const double triad_rate = moved / least(&s.triad, from) * 1e-6;
  const char *yardstick = s.device != NULL ? "copy" : "triad";
  side_print_results(&options, &results, WARM_STEPS, 1, parameters);
  printf(
      ", \"parameters\": %.0f, \"bytes_per_parameter\": %g, \"gb_per_s\": %.4g, \"%s_gb_per_s\": %.4g, "
      "\"share_of_%s\": %.4g}\n",
      parameters, bytes, update_rate, yardstick, triad_rate, yardstick, update_rate / triad_rate);
  if (s.device != NULL) device_close(s.device);

  mpt_scaler_destroy(s.scaler);
  mpt_optimizer_destroy(s.optimizer);
  mpt_params_destroy(s.params);
  mpt_context_destroy(context);
  return 0;
}
