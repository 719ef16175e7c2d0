#define _DEFAULT_SOURCE
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define EVERY 0.2 /* seconds between two pictures */

double now_seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void progress_begin(struct progress *progress, const char *title) {
  progress->title = title;
  progress->terminal = isatty(STDOUT_FILENO);
  progress->began = progress->shown = now_seconds();
}

static int terminal_columns(void) {
  struct winsize size;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void progress_step(void *user, const struct run *runs, int count, int steps_done, int steps_in_all) {
  struct progress *progress = user;
  const double now = now_seconds();
  if (!progress->terminal || (now - progress->shown < EVERY && steps_done < steps_in_all)) return;
  progress->shown = now;
  const int left = (int)((now - progress->began) / steps_done * (steps_in_all - steps_done) + 0.5);
  char line[512];
  size_t used = (size_t)snprintf(line, sizeof line, "%s: %d %%, %d:%02d left", progress->title,
                                 (int)(100.0 * steps_done / steps_in_all), left / 60, left % 60);
  for (int i = 0; i < count && used < sizeof line; ++i) {
    if (runs[i].done == 0) continue;
    const int last = runs[i].done - 1;
    used += (size_t)snprintf(line + used, sizeof line - used, " | %s %.3f", runs[i].method->name, runs[i].loss[last]);
    if (used < sizeof line && runs[i].method->scaling != MPT_SCALER_OFF) {
      used += (size_t)snprintf(line + used, sizeof line - used, " scale 2^%d", (int)log2(runs[i].scale[last]));
    }
  }
  printf("\r\033[K%.*s", terminal_columns() - 1, line);
  fflush(stdout);
}

void progress_end(struct progress *progress) {
  if (progress->terminal) printf("\r\033[K");
  fflush(stdout);
}
