/* What the demo prints on stdout about runs that are done. */
#ifndef EXAMPLES_TABLES_H
#define EXAMPLES_TABLES_H

#include "settings.h"
#include "training.h"

/* A line per run. */
void print_table(const struct experiment *experiment);

/* How far the mixed runs end from FP32, and what the first table's ablations did in this run. */
void print_comparison(const struct experiment *experiment);

/* What taking away the part that this stage is about did in this run. */
void print_verdict(const struct stage_settings *stage, const struct experiment *experiment);

/* The run of a method, or NULL. */
const struct run *find_run(const struct experiment *experiment, int method);

#endif
