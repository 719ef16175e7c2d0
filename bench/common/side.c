#define _POSIX_C_SOURCE 200809L
#include "side.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void usage(const char *program) {
  fprintf(stderr,
          "usage: %s WORKLOAD fp32|fp16|bf16 [--threads N] [--device D] [--text FILE] [--export FOLDER] "
          "[--batch N] [--parameters N]\n",
          program);
  exit(2);
}

struct side_options side_options_of(int argc, char **argv) {
  struct side_options o = {0};
  o.device = "cpu";
  if (argc < 3) usage(argv[0]);
  o.workload = argv[1];
  o.precision_name = argv[2];
  if (strcmp(argv[2], "fp32") == 0)
    o.precision = MPT_PRECISION_FP32;
  else if (strcmp(argv[2], "fp16") == 0)
    o.precision = MPT_PRECISION_FP16;
  else if (strcmp(argv[2], "bf16") == 0)
    o.precision = MPT_PRECISION_BF16;
  else
    usage(argv[0]);
  for (int i = 3; i < argc; i += 2) {
    if (i + 1 >= argc) usage(argv[0]);
    if (strcmp(argv[i], "--threads") == 0)
      o.threads = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--device") == 0)
      o.device = argv[i + 1];
    else if (strcmp(argv[i], "--text") == 0)
      o.text = argv[i + 1];
    else if (strcmp(argv[i], "--export") == 0)
      o.export_to = argv[i + 1];
    else if (strcmp(argv[i], "--batch") == 0)
      o.batch = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--parameters") == 0)
      o.parameters = atof(argv[i + 1]);
    else
      usage(argv[0]);
  }
  return o;
}

void side_check(mpt_status status, const char *what) {
  if (status == MPT_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, mpt_status_name(status), mpt_last_error_message());
  exit(1);
}

double side_milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

void side_resident(uint64_t *now, uint64_t *peak) {
  unsigned long long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file != NULL) {
    if (fscanf(file, "%llu %llu", &size, &resident) != 2) resident = 0;
    fclose(file);
  }
  *now = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  *peak = (uint64_t)usage.ru_maxrss * 1024u;
}

void side_run(struct side_results *results, side_step step, void *state, int count) {
  if (results->steps + count > results->capacity) {
    results->capacity = 2 * (results->steps + count);
    const size_t bytes = (size_t)results->capacity * sizeof(double);
    results->ms = realloc(results->ms, bytes);
    results->loss = realloc(results->loss, bytes);
    if (results->ms == NULL || results->loss == NULL) abort();
  }
  for (int i = 0; i < count; ++i) {
    if (results->before != NULL) results->before(state, results->steps);
    const double begin = side_milliseconds();
    results->loss[results->steps] = step(state, results->steps);
    results->ms[results->steps] = side_milliseconds() - begin;
    ++results->steps;
  }
}

static void print_number(double value) {
  if (isfinite(value))
    printf("%.9g", value);
  else
    printf("null");
}

static void print_list(const char *name, const double *values, int count) {
  printf("\"%s\": [", name);
  for (int i = 0; i < count; ++i) {
    if (i > 0) printf(", ");
    print_number(values[i]);
  }
  printf("]");
}

void side_converse(struct side_results *results, side_step step, void *state) {
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL && strcmp(line, "end\n") != 0) {
    int count = 0;
    if (sscanf(line, "run %d", &count) != 1 || count < 1) {
      fprintf(stderr, "found the command %s, expected run N or end\n", line);
      exit(2);
    }
    const int first = results->steps;
    side_run(results, step, state, count);
    printf("{");
    print_list("ms", results->ms + first, count);
    printf(", ");
    print_list("loss", results->loss + first, count);
    printf("}\n");
    fflush(stdout);
  }
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

void side_print_results(const struct side_options *options, const struct side_results *results, int warm, int batch,
                        double items) {
  printf("{\"workload\": \"%s\", \"device\": \"%s\", \"precision\": \"%s\", \"threads\": %d, \"batch\": %d",
         options->workload, options->device, options->precision_name, options->threads, batch);
  const int count = results->steps - warm;
  if (count > 0) {
    double *sorted = malloc((size_t)count * sizeof(double));
    if (sorted == NULL) abort();
    memcpy(sorted, results->ms + warm, (size_t)count * sizeof(double));
    qsort(sorted, (size_t)count, sizeof(double), compare);
    const double median = 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
    printf(", \"ms_median\": %.6g, \"ms_min\": %.6g, \"ms_max\": %.6g, \"per_s\": %.6g", median, sorted[0],
           sorted[count - 1], items * 1e3 / median);
    free(sorted);
  }
  printf(", \"loss_first\": ");
  print_number(results->steps > 0 ? results->loss[0] : NAN);
  printf(", \"loss_last\": ");
  print_number(results->steps > 0 ? results->loss[results->steps - 1] : NAN);
  printf(", \"steps\": %d, \"peer\": null, \"ratio\": null", results->steps);
}

void side_print_bytes(const mpt_memory_report *report) {
#define CLASS(name) printf("\"" #name "\": %llu, ", (unsigned long long)report->name)
  printf("\"bytes\": {");
  CLASS(master);
  CLASS(copy16);
  CLASS(gradients);
  CLASS(optimizer);
  CLASS(activations);
  CLASS(scratch);
  CLASS(library);
  CLASS(fp32_activations);
  CLASS(fp32_scratch);
  CLASS(fp32_total);
  printf("\"total\": %llu}", (unsigned long long)report->total);
#undef CLASS
}
