#include "say.h"

#include <stdarg.h>
#include <stdio.h>

static const char *program_name = "example";

void set_program_name(const char *name) { program_name = name; }

bool fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  fprintf(stderr, "%s: ", program_name);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return false;
}
