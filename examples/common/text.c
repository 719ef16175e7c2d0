#define _POSIX_C_SOURCE 200809L
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

bool find_python_library(char *folder, size_t capacity) {
  FILE *pipe = popen("python3 -c \"import sysconfig; print(sysconfig.get_path('stdlib'))\" 2>/dev/null", "r");
  const bool read = pipe && fgets(folder, (int)capacity, pipe);
  if (pipe) pclose(pipe);
  if (!read)
    return fail(
        "no text: python3, whose standard library is the default text, is not on the PATH; give one by --text FILE");
  folder[strcspn(folder, "\n")] = '\0';
  return true;
}

bool text_append_file(struct text *text, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return fail("cannot read '%s': %s", path, strerror(errno));
  bool ok = true;
  size_t got = 0;
  do {
    const size_t block = 1 << 16;
    unsigned char *grown = realloc(text->bytes, text->size + block);
    if (!grown) {
      ok = fail("out of memory at '%s'", path);
      break;
    }
    text->bytes = grown;
    got = fread(text->bytes + text->size, 1, block, file);
    text->size += got;
  } while (got > 0);
  if (ferror(file)) ok = fail("cannot read '%s': %s", path, strerror(errno));
  fclose(file);
  return ok;
}

static bool is_python_file(const char *name) {
  const size_t length = strlen(name);
  return length > 3 && strcmp(name + length - 3, ".py") == 0;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool add_name(char ***names, size_t *count, const char *name) {
  char **grown = realloc(*names, (*count + 1) * sizeof **names);
  if (!grown) return false;
  *names = grown;
  grown[*count] = strdup(name);
  if (!grown[*count]) return false;
  ++*count;
  return true;
}

bool text_append_python_files(struct text *text, const char *folder) {
  DIR *directory = opendir(folder);
  if (!directory) return fail("cannot read the folder '%s': %s", folder, strerror(errno));
  char **names = NULL;
  size_t count = 0;
  bool ok = true;
  for (struct dirent *entry; ok && (entry = readdir(directory));) {
    if (is_python_file(entry->d_name) && !add_name(&names, &count, entry->d_name))
      ok = fail("out of memory at '%s'", folder);
  }
  closedir(directory);
  if (count > 0) qsort(names, count, sizeof *names, compare_names);
  for (size_t i = 0; i < count; ++i) {
    char path[4096];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    if (ok && length >= (int)sizeof path) ok = fail("the path of '%s' is too long", names[i]);
    ok = ok && text_append_file(text, path);
    free(names[i]);
  }
  free(names);
  return ok;
}

void text_free(struct text *text) {
  free(text->bytes);
  text->bytes = NULL;
  text->size = 0;
}

bool split_text(struct split *out, struct stretch text, int context, const char *name) {
  const size_t held_out = text.size / 10;
  const size_t least = (size_t)context + 1;
  if (held_out < least) {
    return fail(
        "%s has %zu bytes, expected at least %zu: a tenth of it is held out for validation and must hold a context of "
        "%d bytes and the byte after it",
        name, text.size, 10 * least, context);
  }
  out->training = (struct stretch){text.bytes, text.size - held_out};
  out->validation = (struct stretch){text.bytes + out->training.size, held_out};
  return true;
}

uint64_t mix(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t z = 0;
  const uint64_t words[3] = {a, b, c};
  for (int i = 0; i < 3; ++i) {
    z = (z ^ words[i]) + UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
  }
  return z;
}

static void copy_window(struct stretch text, size_t begin, int context, int32_t *inputs, int32_t *labels) {
  for (int i = 0; i < context; ++i) {
    inputs[i] = text.bytes[begin + (size_t)i];
    labels[i] = text.bytes[begin + (size_t)i + 1];
  }
}

void training_batch(struct stretch text, uint64_t seed, uint64_t step, int rows, int context, int32_t *inputs,
                    int32_t *labels) {
  const size_t starts = text.size - (size_t)context;
  for (int row = 0; row < rows; ++row) {
    const size_t begin = mix(seed, step, (uint64_t)row) % starts;
    copy_window(text, begin, context, inputs + (size_t)row * context, labels + (size_t)row * context);
  }
}

void validation_batch(struct stretch text, int count, int first, int rows, int context, int32_t *inputs,
                      int32_t *labels) {
  const size_t last = text.size - (size_t)context - 1;
  for (int row = 0; row < rows; ++row) {
    const size_t begin = count > 1 ? last * (size_t)(first + row) / (size_t)(count - 1) : 0;
    copy_window(text, begin, context, inputs + (size_t)row * context, labels + (size_t)row * context);
  }
}
