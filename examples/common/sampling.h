/* Lets a trained byte-level GPT write. */
#ifndef EXAMPLES_SAMPLING_H
#define EXAMPLES_SAMPLING_H

#include <stdbool.h>

#include "training.h"

#define SAMPLE_BYTES 400

/* Continues the first context of the held-out text by SAMPLE_BYTES bytes drawn from the network at a temperature of 0.7.
 * `out` receives them, ended by NUL; bytes that are neither printable ASCII nor line ends become '?'. */
bool write_sample(const struct experiment *experiment, const struct run *run, char out[SAMPLE_BYTES + 1]);

#endif
