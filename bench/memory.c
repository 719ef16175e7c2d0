/* Memory of a training workload, planned and not allocated: memory mlp|gpt fp32|fp16|bf16 [--batch N] [--threads N]
 * [--device D]. Prints one JSON object. */
#include <stdio.h>

#include "common/networks.h"
#include "common/side.h"

int main(int argc, char **argv) {
  const struct side_options options = side_options_of(argc, argv);
  char device[64];
  snprintf(device, sizeof device, "null:%s", options.device);
  mpt_context_options context_options;
  mpt_context_options_init(&context_options, sizeof context_options);
  context_options.threads = options.threads;
  context_options.device = device;
  mpt_context *context;
  side_check(mpt_context_create(&context, &context_options), "mpt_context_create");
  const struct workload workload = workload_network(options.workload, options.batch);
  mpt_model *model;
  side_check(mpt_model_create(&model, context), "mpt_model_create");
  const mpt_tensor loss = workload.build(model, &workload);
  mpt_params_options params_options;
  mpt_params_options_init(&params_options, sizeof params_options);
  params_options.precision = options.precision;
  mpt_params *params;
  side_check(mpt_params_create(&params, model, &params_options), "mpt_params_create");
  mpt_optimizer *optimizer; /* AdamW */
  side_check(mpt_optimizer_create(&optimizer, params, NULL), "mpt_optimizer_create");
  mpt_plan_options plan_options;
  mpt_plan_options_init(&plan_options, sizeof plan_options);
  plan_options.optimizer = optimizer;
  mpt_plan *plan;
  side_check(mpt_plan_create(&plan, params, 1, &loss, 0, NULL, NULL, &plan_options), "mpt_plan_create");
  mpt_memory_report report;
  mpt_memory_report_init(&report, sizeof report);
  side_check(mpt_plan_memory(plan, &report), "mpt_plan_memory");
  printf("{\"workload\": \"%s\", \"device\": \"%s\", \"precision\": \"%s\", \"threads\": %d, \"batch\": %d, ",
         options.workload, options.device, options.precision_name, mpt_context_threads(context), workload.batch);
  side_print_bytes(&report);
  printf("}\n");
  mpt_plan_destroy(plan);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
  return 0;
}
