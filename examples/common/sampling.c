#include "sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

#define TEMPERATURE 0.7

static int draw(const float *logits, double uniform) {
  double greatest = logits[0], sum = 0, weights[BYTE_VALUES];
  for (int i = 1; i < BYTE_VALUES; ++i) greatest = fmax(greatest, logits[i]);
  for (int i = 0; i < BYTE_VALUES; ++i) sum += weights[i] = exp((logits[i] - greatest) / TEMPERATURE);
  double rest = uniform * sum;
  for (int i = 0; i < BYTE_VALUES; ++i) {
    rest -= weights[i];
    if (rest < 0) return i;
  }
  return BYTE_VALUES - 1;
}

static bool sample(const struct experiment *experiment, const struct run *run, int32_t *window, float *logits,
                   char *out) {
  const int context = experiment->recipe->context;
  const mpt_array input = {.name = "bytes", .data = window, .dtype = MPT_INT32, .rank = 2, .shape = {1, context}};
  const mpt_array output = {
      .name = "logits", .data = logits, .dtype = MPT_FLOAT32, .rank = 3, .shape = {1, context, BYTE_VALUES}};
  for (int i = 0; i < context; ++i) window[i] = experiment->text.validation.bytes[i];
  for (int i = 0; i < SAMPLE_BYTES; ++i) {
    TRY(mpt_trainer_predict(run->trainer, &input, 1, &output, 1));
    const double uniform = (double)(mix(experiment->seed, 1, (uint64_t)i) >> 11) * 0x1p-53;
    const int byte = draw(logits + (size_t)(context - 1) * BYTE_VALUES, uniform);
    memmove(window, window + 1, (size_t)(context - 1) * sizeof *window);
    window[context - 1] = byte;
    out[i] = byte == '\n' || (byte >= ' ' && byte <= '~') ? (char)byte : '?';
  }
  out[SAMPLE_BYTES] = '\0';
  return true;
}

bool write_sample(const struct experiment *experiment, const struct run *run, char out[SAMPLE_BYTES + 1]) {
  const size_t context = (size_t)experiment->recipe->context;
  int32_t *window = malloc(context * sizeof *window);
  float *logits = malloc(context * BYTE_VALUES * sizeof *logits);
  const bool ok = window && logits ? sample(experiment, run, window, logits, out) : fail("out of memory for a sample");
  free(window);
  free(logits);
  return ok;
}
