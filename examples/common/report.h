/* report.json: everything that a demo has measured. */
#ifndef EXAMPLES_REPORT_H
#define EXAMPLES_REPORT_H

#include <stdbool.h>

#include "settings.h"
#include "training.h"

struct report {
  const char *folder;
  const char *text; /* what was trained on */
  uint64_t text_bytes;
  const struct stage_settings *stages[STAGES]; /* those that are done */
  const struct experiment *experiments[STAGES];
  int count;
  const char *sample; /* text that the trained model wrote; may be NULL */
  const char *sample_run;
};

/* Makes the folder where it is missing and sees whether files can be made in it. */
bool report_prepare(const char *folder);

/* Writes FOLDER/report.json beside and renames it, so that it is always whole. */
bool report_write(const struct report *report);

#endif
