/* Messages of the example programs. */
#ifndef EXAMPLES_SAY_H
#define EXAMPLES_SAY_H

#include <mpt.h>
#include <stdbool.h>

/* Prints "PROGRAM: message" to stderr. Returns false, so that a function can end with `return fail(...)`. */
bool fail(const char *format, ...);

/* Name that fail() puts before its messages. */
void set_program_name(const char *name);

/* Ends a function that returns bool with the library's message when a call into the library fails. */
#define TRY(call)                                                      \
  do {                                                                 \
    if ((call) != MPT_OK) return fail("%s", mpt_last_error_message()); \
  } while (0)

#endif
