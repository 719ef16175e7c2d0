/* One line on a terminal that tells how far training is; nothing where stdout is no terminal. */
#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

#include <stdbool.h>

#include "training.h"

struct progress {
  const char *title;
  bool terminal;
  double began, shown; /* seconds */
};

void progress_begin(struct progress *progress, const char *title);
/* A step_function; `user` is the struct progress. */
void progress_step(void *user, const struct run *runs, int count, int steps_done, int steps_in_all);
/* Clears the line. */
void progress_end(struct progress *progress);

/* Seconds since some fixed moment. */
double now_seconds(void);

#endif
