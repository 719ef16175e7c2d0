#define _POSIX_C_SOURCE 200809L
#include "training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "say.h"

#define TURN 10    /* steps of one run before the next has its turn */
#define SAMPLES 25 /* updates whose gradients are looked at */
#define GROWTH_INTERVAL \
  100 /* shorter than the default of 2,000, so that a run of a few hundred steps shows growth and back-off */
#define VALIDATION_WINDOWS 512

const struct method methods[METHODS] = {
    {"fp32", "FP32", MPT_PRECISION_FP32, true, MPT_SCALER_OFF},
    {"fp16", "FP16 mixed", MPT_PRECISION_FP16, true, MPT_SCALER_DYNAMIC},
    {"bf16", "BF16 mixed", MPT_PRECISION_BF16, true, MPT_SCALER_OFF},
    {"fp16-no-scaling", "FP16 without loss scaling", MPT_PRECISION_FP16, true, MPT_SCALER_OFF},
    {"fp16-no-master", "FP16 without master weights", MPT_PRECISION_FP16, false, MPT_SCALER_DYNAMIC},
};

const char *precision_name(mpt_precision precision) {
  if (precision == MPT_PRECISION_FP32) return "fp32";
  return precision == MPT_PRECISION_FP16 ? "fp16" : "bf16";
}

const char *scaling_name(const struct method *method) { return method->scaling == MPT_SCALER_OFF ? "off" : "dynamic"; }

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

static bool run_create(struct run *run, struct experiment *experiment, const struct method *method) {
  const struct recipe *recipe = experiment->recipe;
  run->method = method;
  run->steps = recipe->steps;
  run->first_val_loss = run->val_loss = NAN;
  run->loss = calloc((size_t)run->steps, sizeof *run->loss);
  run->scale = calloc((size_t)run->steps, sizeof *run->scale);
  run->ms = calloc((size_t)run->steps, sizeof *run->ms);
  if (!run->loss || !run->scale || !run->ms) return fail("out of memory for %d steps", run->steps);

  mpt_params_options params;
  TRY(mpt_params_options_init(&params, sizeof params));
  params.precision = method->precision;
  params.no_master = !method->master;
  TRY(mpt_params_create(&run->params, experiment->model, &params));

  mpt_schedule_options schedule;
  TRY(mpt_schedule_options_init(&schedule, sizeof schedule));
  schedule.kind = recipe->schedule;
  schedule.warmup_steps = recipe->warmup;
  schedule.total_steps = recipe->steps;
  schedule.final_factor = recipe->final_factor;
  mpt_optimizer_options optimizer;
  TRY(mpt_optimizer_options_init(&optimizer, sizeof optimizer));
  optimizer.learning_rate = recipe->learning_rate;
  optimizer.beta2 = 0.95;
  optimizer.weight_decay = 0;
  optimizer.clip_norm = recipe->clip_norm;
  optimizer.schedule = &schedule;
  optimizer.statistics_every = recipe->steps > SAMPLES ? recipe->steps / SAMPLES : 1;
  TRY(mpt_optimizer_create(&run->optimizer, run->params, &optimizer));

  mpt_scaler_options scaler;
  TRY(mpt_scaler_options_init(&scaler, sizeof scaler));
  scaler.mode = method->scaling;
  scaler.growth_interval = GROWTH_INTERVAL;
  scaler.skip_policy = MPT_SKIP_CONTINUE;
  if (method->scaling == MPT_SCALER_OFF) scaler.initial_scale = 1;
  TRY(mpt_scaler_create(&run->scaler, experiment->context, &scaler));
  TRY(mpt_trainer_create(&run->trainer, experiment->gpt.loss, run->params, run->optimizer, run->scaler, NULL));
  return true;
}

static void run_destroy(struct run *run) {
  mpt_trainer_destroy(run->trainer);
  mpt_scaler_destroy(run->scaler);
  mpt_optimizer_destroy(run->optimizer);
  mpt_params_destroy(run->params);
  free(run->loss);
  free(run->scale);
  free(run->ms);
}

bool experiment_create(struct experiment *out, const char *device, const struct recipe *recipe, uint64_t seed,
                       const struct split *text, const int *which, int count) {
  memset(out, 0, sizeof *out);
  out->device = device;
  out->recipe = recipe;
  out->seed = seed;
  out->text = *text;
  const size_t elements = (size_t)recipe->batch * (size_t)recipe->context;
  out->inputs = malloc(elements * sizeof *out->inputs);
  out->labels = malloc(elements * sizeof *out->labels);
  if (!out->inputs || !out->labels) return fail("out of memory for a batch of %d x %d", recipe->batch, recipe->context);

  mpt_context_options options;
  TRY(mpt_context_options_init(&options, sizeof options));
  options.seed = seed;
  options.device = device;
  TRY(mpt_context_create(&out->context, &options));
  TRY(mpt_model_create(&out->model, out->context));
  out->gpt = gpt_build(out->model, recipe);
  TRY(mpt_model_check(out->model));
  for (int i = 0; i < count; ++i) {
    out->count = i + 1;
    if (!run_create(&out->runs[i], out, &methods[which[i]])) return false;
  }
  return true;
}

void experiment_destroy(struct experiment *experiment) {
  for (int i = 0; i < experiment->count; ++i) run_destroy(&experiment->runs[i]);
  mpt_model_destroy(experiment->model);
  mpt_context_destroy(experiment->context);
  free(experiment->inputs);
  free(experiment->labels);
  memset(experiment, 0, sizeof *experiment);
}

bool experiment_set_weights(struct experiment *experiment, const struct run *source) {
  for (int i = 0; i < mpt_params_count(source->params); ++i) {
    const char *name = mpt_params_name(source->params, i);
    mpt_array master;
    TRY(mpt_params_tensor(source->params, name, MPT_PART_MASTER, &master));
    for (int k = 0; k < experiment->count; ++k) TRY(mpt_params_set(experiment->runs[k].params, name, &master));
  }
  return true;
}

/* Describes the experiment's batch buffers with `rows` rows. */
static void describe_batch(const struct experiment *experiment, int rows, mpt_array batch[2]) {
  const mpt_array both = {.dtype = MPT_INT32, .rank = 2, .shape = {rows, experiment->recipe->context}};
  batch[0] = batch[1] = both;
  batch[0].name = "bytes";
  batch[0].data = experiment->inputs;
  batch[1].name = "next";
  batch[1].data = experiment->labels;
}

static bool add_statistics(struct run *run, const mpt_step_result *result) {
  mpt_update_statistics sample;
  TRY(mpt_update_statistics_init(&sample, sizeof sample));
  TRY(mpt_optimizer_statistics(run->optimizer, &sample));
  if (result->skipped || sample.update != result->applied_steps) return true; /* this update was no sample */
  struct gradient_totals *totals = &run->totals;
  totals->gradients += sample.gradients;
  totals->zero += sample.gradients_zero;
  totals->below_2_24 += sample.gradients_below_2_24;
  totals->rounding_to_zero += sample.gradients_rounding_to_zero;
  totals->updates += sample.updates;
  totals->updates_lost += sample.updates_lost;
  for (int i = 0; i < MPT_HISTOGRAM_BINS; ++i) totals->histogram[i] += sample.gradient_histogram[i];
  return true;
}

static bool step(struct experiment *experiment, struct run *run) {
  const struct recipe *recipe = experiment->recipe;
  training_batch(experiment->text.training, experiment->seed, (uint64_t)run->done, recipe->batch, recipe->context,
                 experiment->inputs, experiment->labels);
  mpt_array batch[2];
  describe_batch(experiment, recipe->batch, batch);
  mpt_step_result result;
  TRY(mpt_step_result_init(&result, sizeof result));
  const double begin = now_ms();
  TRY(mpt_trainer_step(run->trainer, batch, 2, &result));
  run->ms[run->done] = now_ms() - begin;
  run->loss[run->done] = result.loss;
  run->scale[run->done] = result.scale;
  run->skipped = result.skipped_steps;
  ++run->done;
  return add_statistics(run, &result);
}

bool experiment_train(struct experiment *experiment, step_function progress, void *user) {
  const int steps = experiment->recipe->steps;
  int done = 0;
  for (int first = 0; first < steps; first += TURN) {
    for (int k = 0; k < experiment->count; ++k) {
      for (int i = first; i < steps && i < first + TURN; ++i) {
        if (!step(experiment, &experiment->runs[k])) return false;
        if (progress) progress(user, experiment->runs, experiment->count, ++done, steps * experiment->count);
      }
    }
  }
  for (int k = 0; k < experiment->count; ++k) {
    TRY(mpt_memory_report_init(&experiment->runs[k].memory, sizeof experiment->runs[k].memory));
    TRY(mpt_trainer_memory(experiment->runs[k].trainer, &experiment->runs[k].memory));
  }
  return true;
}

bool experiment_validate(struct experiment *experiment) {
  const struct recipe *recipe = experiment->recipe;
  for (int k = 0; k < experiment->count; ++k) {
    struct run *run = &experiment->runs[k];
    double sum = 0;
    for (int first = 0; first < VALIDATION_WINDOWS; first += recipe->batch) {
      const int left = VALIDATION_WINDOWS - first, rows = left < recipe->batch ? left : recipe->batch;
      validation_batch(experiment->text.validation, VALIDATION_WINDOWS, first, rows, recipe->context,
                       experiment->inputs, experiment->labels);
      mpt_array batch[2];
      describe_batch(experiment, rows, batch);
      double loss;
      TRY(mpt_trainer_evaluate(run->trainer, batch, 2, 0, &loss));
      sum += loss * rows;
    }
    *(run->done ? &run->val_loss : &run->first_val_loss) = sum / VALIDATION_WINDOWS;
  }
  return true;
}

static int compare_numbers(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median_ms(const struct run *run) {
  double *sorted = malloc((size_t)run->done * sizeof *sorted);
  if (!sorted) return NAN;
  memcpy(sorted, run->ms, (size_t)run->done * sizeof *sorted);
  qsort(sorted, (size_t)run->done, sizeof *sorted, compare_numbers);
  const double median = sorted[run->done / 2];
  free(sorted);
  return median;
}

double underflow_share(const struct run *run) {
  const uint64_t seen = run->totals.gradients - run->totals.zero;
  return seen ? (double)run->totals.below_2_24 / (double)seen : NAN;
}

double lost_update_share(const struct run *run) {
  return run->totals.updates ? (double)run->totals.updates_lost / (double)run->totals.updates : NAN;
}
