/* What the measured programs share: arguments, a clock, and the conversation with run.py.
 *
 * A program prints one JSON object when it is ready, then answers commands from its standard input, a line each:
 *   run N   does N steps and prints {"ms": [...], "loss": [...]}, one number a step
 *   end     prints one JSON object with the results of all steps and exits
 * so that several programs can be measured by turns while the others sleep. */
#ifndef BENCH_SIDE_H
#define BENCH_SIDE_H

#include <mpt.h>
#include <stdint.h>

struct side_options {
  const char *workload;
  const char *precision_name;
  mpt_precision precision;
  const char *device;
  int threads;
  const char *text;      /* file with the text to train on, or NULL */
  const char *export_to; /* folder that gets the initial weights and the batches, or NULL */
  int batch;             /* examples a step; 0: the workload's own */
  double parameters;     /* of the optimizer's update; 0: its own number */
};

/* Reads WORKLOAD PRECISION [--threads N] [--device D] [--text FILE] [--export FOLDER] [--batch N]
 * [--parameters N]; a mistake ends the program with a message. */
struct side_options side_options_of(int argc, char **argv);

/* Exits with the library's message unless `status` is MPT_OK. */
void side_check(mpt_status status, const char *what);

double side_milliseconds(void);

/* Memory of this process that is resident now, and the most that ever was; bytes. */
void side_resident(uint64_t *now, uint64_t *peak);

/* One step; returns its loss. */
typedef double (*side_step)(void *state, int index);

struct side_results {
  int steps;
  double *ms, *loss;
  int capacity;
  side_step before; /* called before each step, outside its time; NULL: nothing */
};

/* Does `count` steps and keeps their times and losses. */
void side_run(struct side_results *results, side_step step, void *state, int count);

/* Answers commands until `end` or the end of the input. */
void side_converse(struct side_results *results, side_step step, void *state);

/* Prints the members that every result has: workload, device, precision, threads, batch, times and losses; the object
 * stays open. Steps before `warm` are not counted in the times. `items` are the examples of one step. */
void side_print_results(const struct side_options *options, const struct side_results *results, int warm, int batch,
                        double items);

/* Prints the member "bytes", an object with the bytes of each class. */
void side_print_bytes(const mpt_memory_report *report);

#endif
