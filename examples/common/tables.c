#include "tables.h"

#include <math.h>
#include <stdio.h>

/* Runs whose validation losses differ by less count as equal: other seeds differ more. */
#define HARM 0.01

const struct run *find_run(const struct experiment *experiment, int method) {
  for (int i = 0; i < experiment->count; ++i) {
    if (experiment->runs[i].method == &methods[method]) return &experiment->runs[i];
  }
  return NULL;
}

static void print_share(double share, int width) {
  if (isnan(share)) {
    printf("  %*s", width, "-");
  } else {
    printf("  %*.1f %%", width - 2, 100 * share);
  }
}

void print_table(const struct experiment *experiment) {
  printf("  %-28s %9s %9s %13s %10s %8s %15s %13s\n", "run", "val. loss", "ms/step", "activations", "in all", "skipped",
         "grads < 2^-24", "updates lost");
  for (int i = 0; i < experiment->count; ++i) {
    const struct run *run = &experiment->runs[i];
    printf("  %-28s %9.4f %9.1f %10.2f MB %7.2f MB %8llu", run->method->title, run->val_loss, median_ms(run),
           1e-6 * (double)run->memory.activations, 1e-6 * (double)run->memory.total, (unsigned long long)run->skipped);
    print_share(underflow_share(run), 14);
    print_share(lost_update_share(run), 12);
    printf("\n");
  }
}

/* Relative distance of a run's validation loss from FP32's; NaN where one of them is missing. */
static double distance(const struct experiment *experiment, int method) {
  const struct run *run = find_run(experiment, method), *fp32 = find_run(experiment, FP32);
  return run && fp32 ? run->val_loss / fp32->val_loss - 1 : NAN;
}

static void print_harm(const char *what, double by) {
  if (isnan(by)) {
    printf("  %s: the loss is no longer a number.\n", what);
  } else if (by > HARM) {
    printf("  %s: the loss ends %.1f %% above FP32's. The missing part is missed here.\n", what, 100 * by);
  } else {
    printf("  %s: no harm in this run (%+.2f %% from FP32's loss).\n", what, 100 * by);
  }
}

void print_comparison(const struct experiment *experiment) {
  if (!find_run(experiment, FP32)) return;
  static const int mixed[] = {FP16, BF16};
  for (int i = 0; i < 2; ++i) {
    if (!find_run(experiment, mixed[i])) continue;
    const double by = distance(experiment, mixed[i]);
    printf("  %s: %+.2f %% from FP32's validation loss, %s 1 %%.\n", methods[mixed[i]].title, 100 * by,
           fabs(by) <= 0.01 ? "within" : "NOT within");
  }
  for (int method = FP16_NO_SCALING; method <= FP16_NO_MASTER; ++method) {
    if (find_run(experiment, method)) print_harm(methods[method].title, distance(experiment, method));
  }
  const struct run *unscaled = find_run(experiment, FP16_NO_SCALING);
  if (unscaled) {
    printf(
        "  (Without loss scaling, gradients too small for FP16 are zeros when they are counted: FP32's share tells how "
        "many.)\n");
  }
}

void print_verdict(const struct stage_settings *stage, const struct experiment *experiment) {
  if (stage->ablated < 0 || !find_run(experiment, FP32)) return;
  if (find_run(experiment, FP16)) {
    printf("  %s: %+.2f %% from FP32's validation loss.\n", methods[FP16].title, 100 * distance(experiment, FP16));
  }
  if (find_run(experiment, stage->ablated))
    print_harm(methods[stage->ablated].title, distance(experiment, stage->ablated));
}
