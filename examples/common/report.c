#define _POSIX_C_SOURCE 200809L
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "say.h"

#define PATH_BYTES 4096

static bool path_in(char path[PATH_BYTES], const char *folder, const char *file) {
  if (snprintf(path, PATH_BYTES, "%s/%s", folder, file) < PATH_BYTES) return true;
  return fail("--out: the path is longer than %d bytes", PATH_BYTES);
}

bool report_prepare(const char *folder) {
  char path[PATH_BYTES];
  if (!path_in(path, folder, "report.json.part")) return false;
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
      return fail("cannot make the folder '%s': %s", path, strerror(errno));
    *slash = '/';
  }
  FILE *file = fopen(path, "w");
  if (!file) return fail("cannot write into the folder '%s': %s", folder, strerror(errno));
  fclose(file);
  remove(path);
  return true;
}

static void put_string(FILE *file, const char *text) {
  fputc('"', file);
  for (const unsigned char *at = (const unsigned char *)text; *at; ++at) {
    if (*at == '"' || *at == '\\') {
      fprintf(file, "\\%c", *at);
    } else if (*at < 0x20) {
      fprintf(file, "\\u%04x", *at);
    } else {
      fputc(*at, file);
    }
  }
  fputc('"', file);
}

static void put_number(FILE *file, double value) {
  if (isfinite(value)) {
    fprintf(file, "%.9g", value);
  } else {
    fputs("null", file);
  }
}

static void put_numbers(FILE *file, const double *values, int count) {
  fputc('[', file);
  for (int i = 0; i < count; ++i) {
    if (i > 0) fputs(", ", file);
    put_number(file, values[i]);
  }
  fputc(']', file);
}

static void put_bytes(FILE *file, const mpt_memory_report *memory) {
  fprintf(file,
          "{\"master\": %llu, \"copy16\": %llu, \"gradients\": %llu, \"optimizer\": %llu, \"activations\": %llu, "
          "\"scratch\": %llu, \"total\": %llu}",
          (unsigned long long)memory->master, (unsigned long long)memory->copy16, (unsigned long long)memory->gradients,
          (unsigned long long)memory->optimizer, (unsigned long long)memory->activations,
          (unsigned long long)memory->scratch, (unsigned long long)memory->total);
}

static void put_run(FILE *file, const struct run *run, uint64_t seed) {
  const struct gradient_totals *totals = &run->totals;
  fprintf(file, "{\"name\": \"%s\", \"title\": \"%s\", \"precision\": \"%s\", \"master\": %s, \"scaling\": \"%s\", ",
          run->method->name, run->method->title, precision_name(run->method->precision),
          run->method->master ? "true" : "false", scaling_name(run->method));
  fprintf(file, "\"seed\": %llu, \"steps\": %d,\n     \"loss\": ", (unsigned long long)seed, run->steps);
  put_numbers(file, run->loss, run->done);
  fputs(",\n     \"first_val_loss\": ", file);
  put_number(file, run->first_val_loss);
  fputs(", \"val_loss\": ", file);
  put_number(file, run->val_loss);
  fputs(", \"ms_per_step\": ", file);
  put_number(file, median_ms(run));
  fputs(", \"bytes\": ", file);
  put_bytes(file, &run->memory);
  fprintf(file, ",\n     \"skipped\": %llu, \"underflow_share\": ", (unsigned long long)run->skipped);
  put_number(file, underflow_share(run));
  fputs(", \"lost_update_share\": ", file);
  put_number(file, lost_update_share(run));
  fputs(",\n     \"scale\": ", file);
  put_numbers(file, run->scale, run->done);
  fprintf(file,
          ",\n     \"gradients\": {\"seen\": %llu, \"zero\": %llu, \"below_2_24\": %llu, \"rounding_to_zero\": %llu, ",
          (unsigned long long)totals->gradients, (unsigned long long)totals->zero,
          (unsigned long long)totals->below_2_24, (unsigned long long)totals->rounding_to_zero);
  fputs("\"lowest_exponent\": -48, \"histogram\": [", file);
  for (int i = 0; i < MPT_HISTOGRAM_BINS; ++i)
    fprintf(file, "%s%llu", i ? ", " : "", (unsigned long long)totals->histogram[i]);
  fputs("]}}", file);
}

static void put_runs(FILE *file, const struct experiment *experiment) {
  fputs("[", file);
  for (int i = 0; i < experiment->count; ++i) {
    fputs(i ? ",\n    " : "\n    ", file);
    put_run(file, &experiment->runs[i], experiment->seed);
  }
  fputs("]", file);
}

static void processor_name(char *out, size_t capacity) {
  snprintf(out, capacity, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[512];
  while (file && fgets(line, sizeof line, file)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || !colon) continue;
    snprintf(out, capacity, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    break;
  }
  if (file) fclose(file);
}

static void put_machine(FILE *file, const struct experiment *experiment) {
  char processor[256];
  struct utsname system;
  processor_name(processor, sizeof processor);
  const bool known = uname(&system) >= 0;
  fputs("{\"processor\": ", file);
  put_string(file, processor);
  fputs(", \"device\": ", file);
  put_string(file, experiment->device);
  fprintf(file, ", \"cores\": %ld, \"threads\": %d, \"system\": ", sysconf(_SC_NPROCESSORS_ONLN),
          (int)mpt_context_threads(experiment->context));
  put_string(file, known ? system.sysname : "unknown");
  fputs(", \"release\": ", file);
  put_string(file, known ? system.release : "unknown");
  fputs("}", file);
}

static void put_report(FILE *file, const struct report *report) {
  const bool compared = report->count > 0 && report->stages[0]->ablated < 0;
  fputs("{\"runs\": ", file);
  if (compared) {
    put_runs(file, report->experiments[0]);
    fputs(",\n \"setting\": ", file);
    print_recipe_json(file, report->experiments[0]->recipe);
  } else {
    fputs("[]", file);
  }
  fputs(",\n \"ablations\": [", file);
  for (int i = compared ? 1 : 0; i < report->count; ++i) {
    fprintf(file, "%s{\"name\": \"%s\", \"title\": \"%s\", \"setting\": ", i > (compared ? 1 : 0) ? ",\n  " : "\n  ",
            report->stages[i]->name, report->stages[i]->title);
    print_recipe_json(file, report->experiments[i]->recipe);
    fputs(",\n   \"runs\": ", file);
    put_runs(file, report->experiments[i]);
    fputs("}", file);
  }
  fputs("],\n \"text\": {\"name\": ", file);
  put_string(file, report->text);
  fprintf(file, ", \"bytes\": %llu}", (unsigned long long)report->text_bytes);
  if (report->sample) {
    fprintf(file, ",\n \"sample\": {\"run\": \"%s\", \"text\": ", report->sample_run);
    put_string(file, report->sample);
    fputs("}", file);
  }
  fputs(",\n \"machine\": ", file);
  put_machine(file, report->experiments[0]);
  fputs(",\n \"versions\": {\"mpt\": ", file);
  put_string(file, mpt_version());
  fputs(", \"build\": ", file);
  put_string(file, mpt_build_info());
  fputs("}}\n", file);
}

bool report_write(const struct report *report) {
  char part[PATH_BYTES], path[PATH_BYTES];
  if (!path_in(part, report->folder, "report.json.part") || !path_in(path, report->folder, "report.json")) return false;
  FILE *file = fopen(part, "w");
  if (!file) return fail("cannot write '%s': %s", part, strerror(errno));
  put_report(file, report);
  const bool written = fflush(file) == 0 && !ferror(file) && fsync(fileno(file)) == 0;
  const int error = errno;
  if (fclose(file) == 0 && written && rename(part, path) == 0) return true;
  remove(part);
  return fail("cannot write '%s': %s", path, strerror(error ? error : errno));
}
