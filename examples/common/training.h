/* Training runs of one network: same seed, data order and settings, each with a method of its own. */
#ifndef EXAMPLES_TRAINING_H
#define EXAMPLES_TRAINING_H

#include <mpt.h>
#include <stdbool.h>
#include <stdint.h>

#include "gpt.h"
#include "text.h"

/* A precision with all or not all parts of the paper's method. */
struct method {
  const char *name;
  const char *title;
  mpt_precision precision;
  bool master;     /* FP32 master weights */
  int32_t scaling; /* MPT_SCALER_DYNAMIC or MPT_SCALER_OFF */
};

enum { FP32, FP16, BF16, FP16_NO_SCALING, FP16_NO_MASTER, METHODS };
extern const struct method methods[METHODS];
const char *precision_name(mpt_precision precision);
/* "dynamic" or "off". */
const char *scaling_name(const struct method *method);

/* Sums of mpt_update_statistics over the sampled updates. */
struct gradient_totals {
  uint64_t gradients, zero, below_2_24, rounding_to_zero;
  uint64_t updates, updates_lost;
  uint64_t histogram[MPT_HISTOGRAM_BINS];
};

struct run {
  const struct method *method;
  mpt_params *params;
  mpt_optimizer *optimizer;
  mpt_scaler *scaler;
  mpt_trainer *trainer;
  int steps;     /* planned */
  int done;      /* made so far, skipped ones included */
  double *loss;  /* of each step */
  double *scale; /* of each step */
  double *ms;    /* of each step */
  uint64_t skipped;
  struct gradient_totals totals;
  mpt_memory_report memory;
  double first_val_loss; /* before training; NaN if it was not measured */
  double val_loss;
};

/* Called after every step of any run; `user` is the caller's. */
typedef void (*step_function)(void *user, const struct run *runs, int count, int steps_done, int steps_in_all);

/* A network with the runs that train it. */
struct experiment {
  const char *device;
  const struct recipe *recipe;
  uint64_t seed;
  struct split text;
  mpt_context *context;
  mpt_model *model;
  struct gpt gpt;
  struct run runs[METHODS];
  int count;
  int32_t *inputs, *labels; /* a batch */
};

/* Makes context, model and a run for each method; `which` holds `count` indices into `methods`. An experiment that could not be
 * made is destroyed by experiment_destroy like any other. */
bool experiment_create(struct experiment *out, const char *device, const struct recipe *recipe, uint64_t seed,
                       const struct split *text, const int *which, int count);
void experiment_destroy(struct experiment *experiment);

/* Gives all runs the weights of a run of another experiment with the same network. */
bool experiment_set_weights(struct experiment *experiment, const struct run *source);

/* Trains all runs by turns of a few steps, so that a machine that is busy for a while slows all of them alike. */
bool experiment_train(struct experiment *experiment, step_function progress, void *user);

/* Mean loss over windows spread evenly over the held-out text, of every run: into first_val_loss before training, else into
 * val_loss. */
bool experiment_validate(struct experiment *experiment);

/* Median time of a step in milliseconds. */
double median_ms(const struct run *run);
/* Share of weight gradients, zeros aside, that are below 2^-24 before scaling; NaN if none was seen. */
double underflow_share(const struct run *run);
/* Share of updates, zeros aside, that vanish when they are added to a 16-bit weight; NaN if none was seen. */
double lost_update_share(const struct run *run);

#endif
