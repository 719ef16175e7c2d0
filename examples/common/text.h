/* Texts to train on, as bytes. */
#ifndef EXAMPLES_TEXT_H
#define EXAMPLES_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
  unsigned char *bytes;
  size_t size;
};

/* A stretch of a text, which owns nothing. */
struct stretch {
  const unsigned char *bytes;
  size_t size;
};

/* Training part and held-out last tenth. */
struct split {
  struct stretch training, validation;
};

/* Folder of the Python standard library that `python3` on the PATH uses. */
bool find_python_library(char *folder, size_t capacity);

/* Whole contents of a file, added to the end of `text`. */
bool text_append_file(struct text *text, const char *path);

/* All .py files directly in a folder, in the order of their names. */
bool text_append_python_files(struct text *text, const char *folder);

void text_free(struct text *text);

/* Splits a text; `name` is for the message when a part is shorter than a context and the byte that follows it. */
bool split_text(struct split *out, struct stretch text, int context, const char *name);

/* One batch: `rows` windows of `context` bytes and the bytes that follow each. Which windows depends on seed and step alone,
 * so that every run sees the same data in the same order. */
void training_batch(struct stretch text, uint64_t seed, uint64_t step, int rows, int context, int32_t *inputs,
                    int32_t *labels);

/* Windows first .. first + rows of `count`, spread evenly over a text. */
void validation_batch(struct stretch text, int count, int first, int rows, int context, int32_t *inputs,
                      int32_t *labels);

/* A well mixed 64-bit number of three; splitmix64 (Steele, Lea and Flood 2014). */
uint64_t mix(uint64_t a, uint64_t b, uint64_t c);

#endif
