/* One training workload in one precision: training mlp|gpt|gpt2-124m fp32|fp16|bf16 [options]; common/side.h tells what it
 * prints. */
#include <stdio.h>
#include <string.h>

#include "common/networks.h"
#include "common/side.h"

#define WARM_STEPS 2 /* the first of them compiles */

struct session {
  struct workload workload;
  mpt_trainer *trainer;
};

static double train(void *user, int index) {
  struct session *s = user;
  const struct workload *w = &s->workload;
  const int64_t which = index % w->batches;
  mpt_array batch[2] = {{.name = "x", .dtype = w->x_dtype, .rank = w->x_rank},
                        {.name = "y", .dtype = MPT_INT32, .rank = w->y_rank}};
  batch[0].data = (char *)w->x + which * workload_x_elements(w) * (int64_t)mpt_dtype_size(w->x_dtype);
  batch[1].data = w->y + which * workload_y_elements(w);
  memcpy(batch[0].shape, w->x_shape, sizeof w->x_shape);
  memcpy(batch[1].shape, w->y_shape, sizeof w->y_shape);
  mpt_step_result result;
  mpt_step_result_init(&result, sizeof result);
  side_check(mpt_trainer_step(s->trainer, batch, 2, &result), "mpt_trainer_step");
  return result.loss;
}

/* The peer starts from the same weights and sees the same batches. */
static void export_to(const char *folder, mpt_params *params, const struct workload *w) {
  char path[4096];
  snprintf(path, sizeof path, "%s/weights.safetensors", folder);
  side_check(mpt_params_save(params, path, MPT_FLOAT32), "mpt_params_save");
  snprintf(path, sizeof path, "%s/batches.bin", folder);
  FILE *file = fopen(path, "wb");
  const size_t x = (size_t)(w->batches * workload_x_elements(w)), y = (size_t)(w->batches * workload_y_elements(w));
  if (file == NULL || fwrite(w->x, mpt_dtype_size(w->x_dtype), x, file) != x ||
      fwrite(w->y, sizeof *w->y, y, file) != y || fclose(file) != 0)
    side_check(MPT_ERROR_IO, path);
}

/* Milliseconds that compiling the training step takes. */
static double compile_time(mpt_params *params, mpt_optimizer *optimizer, mpt_tensor loss) {
  mpt_plan_options options;
  mpt_plan_options_init(&options, sizeof options);
  options.optimizer = optimizer;
  mpt_plan *plan;
  const double begin = side_milliseconds();
  side_check(mpt_plan_create(&plan, params, 1, &loss, 0, NULL, NULL, &options), "mpt_plan_create");
  const double end = side_milliseconds();
  mpt_plan_destroy(plan);
  return end - begin;
}

static void print_bytes(mpt_trainer *trainer) {
  mpt_memory_report m;
  mpt_memory_report_init(&m, sizeof m);
  side_check(mpt_trainer_memory(trainer, &m), "mpt_trainer_memory");
  printf(", ");
  side_print_bytes(&m);
  printf(", \"flops\": %llu", (unsigned long long)m.flops);
}

int main(int argc, char **argv) {
  const double start = side_milliseconds();
  struct side_options options = side_options_of(argc, argv);
  mpt_context_options context_options;
  mpt_context_options_init(&context_options, sizeof context_options);
  context_options.threads = options.threads;
  context_options.seed = 1;
  context_options.device = options.device;
  mpt_context *context;
  side_check(mpt_context_create(&context, &context_options), "mpt_context_create");
  options.threads = mpt_context_threads(context);
  const double start_ms = side_milliseconds() - start;
  if (strcmp(options.workload, "start") == 0) { /* how long a program takes that only loads the library */
    mpt_context_destroy(context);
    return 0;
  }

  struct session s = {.workload = workload_of(options.workload, options.batch, options.text)};
  uint64_t resident_before, resident_now, resident_peak;
  side_resident(&resident_before, &resident_peak);
  mpt_model *model;
  side_check(mpt_model_create(&model, context), "mpt_model_create");
  const mpt_tensor loss = s.workload.build(model, &s.workload);
  mpt_params_options params_options;
  mpt_params_options_init(&params_options, sizeof params_options);
  params_options.precision = options.precision;
  mpt_params *params;
  side_check(mpt_params_create(&params, model, &params_options), "mpt_params_create");
  if (options.export_to != NULL) export_to(options.export_to, params, &s.workload);
  mpt_optimizer_options optimizer_options;
  mpt_optimizer_options_init(&optimizer_options, sizeof optimizer_options);
  optimizer_options.learning_rate = 3e-4;
  mpt_optimizer *optimizer;
  side_check(mpt_optimizer_create(&optimizer, params, &optimizer_options), "mpt_optimizer_create");
  const double compile_ms = compile_time(params, optimizer, loss);
  side_check(mpt_trainer_create(&s.trainer, loss, params, optimizer, NULL, NULL), "mpt_trainer_create");

  struct side_results results = {0};
  side_run(&results, train, &s, WARM_STEPS);
  printf("{\"ready\": true, \"name\": \"libmpt %s\", \"ms\": %.6g}\n", mpt_version(), results.ms[WARM_STEPS - 1]);
  fflush(stdout);
  side_converse(&results, train, &s);

  side_resident(&resident_now, &resident_peak);
  side_print_results(&options, &results, WARM_STEPS, s.workload.batch, s.workload.batch);
  print_bytes(s.trainer);
  printf(", \"resident_bytes\": %llu, \"ms_context\": %.4g, \"ms_compile\": %.4g, \"ms_first\": %.6g}\n",
         (unsigned long long)(resident_peak - resident_before), start_ms, compile_ms, results.ms[0]);

  mpt_trainer_destroy(s.trainer);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
  return 0;
}
