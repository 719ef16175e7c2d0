/* The networks of the workloads and their batches. */
#ifndef BENCH_NETWORKS_H
#define BENCH_NETWORKS_H

#include <mpt.h>
#include <stdint.h>

/* A workload's network, with inputs "x" and "y", and the batches that it trains on by turns. */
struct workload {
  int context, width, layers, heads, vocabulary; /* of a GPT */
  int batch;                                     /* examples a step */
  mpt_dtype x_dtype;                             /* of x; y is int32 */
  int x_rank, y_rank;
  int64_t x_shape[2], y_shape[2];
  int batches;
  void *x; /* all batches, one after another */
  int32_t *y;
  mpt_tensor (*build)(mpt_model *model, const struct workload *workload); /* returns the loss */
};

/* The network and its shapes alone, without batches; `batch` 0 is the workload's own. Exits with a message where the name is
 * unknown. */
struct workload workload_network(const char *name, int batch);
/* With batches. Exits with a message where the name is unknown or the text cannot be read. */
struct workload workload_of(const char *name, int batch, const char *text);

int64_t workload_x_elements(const struct workload *workload); /* of one batch */
int64_t workload_y_elements(const struct workload *workload);

#endif
