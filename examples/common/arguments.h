/* The command line of compare_precisions. */
#ifndef EXAMPLES_ARGUMENTS_H
#define EXAMPLES_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "settings.h"

#define MAX_SETTINGS 32

struct arguments {
  bool help;
  const char *text;          /* NULL: the Python standard library */
  const char *pretrain_text; /* NULL: chosen to fit `text` */
  const char *out;
  const char *device;
  uint64_t seed;
  bool stage[STAGES];   /* which tables to make */
  bool method[METHODS]; /* which runs to make in each */
  const char *settings[MAX_SETTINGS];
  int setting_count;
};

bool parse_arguments(struct arguments *out, int argc, char **argv);
void print_help(void);

#endif
