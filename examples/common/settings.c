#include "settings.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

const struct stage_settings default_stages[STAGES] = {
    {"comparison",
     "the same network in five ways",
     -1,
     {FP32, FP16, BF16, FP16_NO_SCALING, FP16_NO_MASTER},
     5,
     {.layers = 3,
      .width = 128,
      .heads = 4,
      .context = 64,
      .embedding_std = 0.02,
      .batch = 32,
      .steps = 400,
      .learning_rate = 3e-3,
      .final_factor = 0.1,
      .schedule = MPT_SCHEDULE_COSINE,
      .warmup = 20,
      .clip_norm = 1}},
    {"no-scaling",
     "training from scratch with many tokens a step: gradients lost without loss scaling",
     FP16_NO_SCALING,
     {FP32, FP16, FP16_NO_SCALING},
     3,
     {.layers = 4,
      .width = 64,
      .heads = 4,
      .context = 64,
      .embedding_std = 1,
      .batch = 128,
      .steps = 100,
      .learning_rate = 3e-3,
      .final_factor = 0.1,
      .schedule = MPT_SCHEDULE_COSINE,
      .warmup = 10,
      .clip_norm = 1}},
    {"no-master",
     "fine-tuning at a small learning rate: updates lost without master weights",
     FP16_NO_MASTER,
     {FP32, FP16, FP16_NO_MASTER},
     3,
     {.layers = 2,
      .width = 128,
      .heads = 4,
      .context = 64,
      .embedding_std = 1,
      .batch = 32,
      .steps = 150,
      .learning_rate = 2e-5,
      .final_factor = 0,
      .schedule = MPT_SCHEDULE_LINEAR,
      .warmup = 10,
      .clip_norm = 1,
      .pretrain_steps = 400,
      .pretrain_learning_rate = 3e-3}},
};

enum kind { WHOLE, BIG, REAL };
static const struct {
  const char *key;
  enum kind kind;
  size_t offset;
  double least, most;
} fields[] = {
    {"layers", WHOLE, offsetof(struct recipe, layers), 1, 100},
    {"width", WHOLE, offsetof(struct recipe, width), 1, 1 << 14},
    {"heads", WHOLE, offsetof(struct recipe, heads), 1, 1 << 10},
    {"context", WHOLE, offsetof(struct recipe, context), 1, 1 << 14},
    {"embedding_std", REAL, offsetof(struct recipe, embedding_std), 0, 1e3},
    {"batch", WHOLE, offsetof(struct recipe, batch), 1, 1 << 16},
    {"steps", WHOLE, offsetof(struct recipe, steps), 1, 1e8},
    {"lr", REAL, offsetof(struct recipe, learning_rate), 0, 1e3},
    {"final", REAL, offsetof(struct recipe, final_factor), 0, 1},
    {"warmup", WHOLE, offsetof(struct recipe, warmup), 0, 1e8},
    {"clip", REAL, offsetof(struct recipe, clip_norm), 0, 1e6},
    {"pretrain_steps", WHOLE, offsetof(struct recipe, pretrain_steps), 0, 1e8},
    {"pretrain_lr", REAL, offsetof(struct recipe, pretrain_learning_rate), 0, 1e3},
    {"training_bytes", BIG, offsetof(struct recipe, training_bytes), 0, 1e12},
};
#define FIELDS (sizeof fields / sizeof *fields)

static double get(const struct recipe *recipe, size_t i) {
  const char *at = (const char *)recipe + fields[i].offset;
  if (fields[i].kind == WHOLE) return *(const int *)at;
  return fields[i].kind == BIG ? (double)*(const int64_t *)at : *(const double *)at;
}

static void set(struct recipe *recipe, size_t i, double value) {
  char *at = (char *)recipe + fields[i].offset;
  if (fields[i].kind == WHOLE) {
    *(int *)at = (int)value;
  } else if (fields[i].kind == BIG) {
    *(int64_t *)at = (int64_t)value;
  } else {
    *(double *)at = value;
  }
}

static bool apply_schedule(struct recipe *recipe, const char *value) {
  if (strcmp(value, "cosine") == 0) {
    recipe->schedule = MPT_SCHEDULE_COSINE;
  } else if (strcmp(value, "linear") == 0) {
    recipe->schedule = MPT_SCHEDULE_LINEAR;
  } else if (strcmp(value, "constant") == 0) {
    recipe->schedule = MPT_SCHEDULE_CONSTANT;
  } else {
    return fail("--set schedule=%s: expected cosine, linear or constant", value);
  }
  return true;
}

bool apply_setting(struct recipe *recipe, const char *setting) {
  const char *equals = strchr(setting, '=');
  if (!equals) return fail("--set %s: expected KEY=VALUE", setting);
  const size_t length = (size_t)(equals - setting);
  if (length == strlen("schedule") && strncmp(setting, "schedule", length) == 0)
    return apply_schedule(recipe, equals + 1);
  for (size_t i = 0; i < FIELDS; ++i) {
    if (strlen(fields[i].key) != length || strncmp(setting, fields[i].key, length) != 0) continue;
    char *end;
    const double value = strtod(equals + 1, &end);
    const bool fits = end != equals + 1 && *end == '\0' && value >= fields[i].least && value <= fields[i].most &&
                      (fields[i].kind == REAL || value == floor(value));
    if (!fits) {
      return fail("--set %s: expected a%s number from %g to %g", setting, fields[i].kind == REAL ? "" : " whole",
                  fields[i].least, fields[i].most);
    }
    set(recipe, i, value);
    return true;
  }
  char keys[512];
  size_t used = 0;
  for (size_t i = 0; i < FIELDS; ++i) used += (size_t)snprintf(keys + used, sizeof keys - used, "%s, ", fields[i].key);
  return fail("--set %s: there is no such key; the keys are %sschedule", setting, keys);
}

bool check_recipe(const struct recipe *recipe) {
  if (recipe->width % recipe->heads != 0) {
    return fail("width is %d, expected a multiple of the %d heads", recipe->width, recipe->heads);
  }
  return true;
}

static const char *schedule_name(const struct recipe *recipe) {
  if (recipe->schedule == MPT_SCHEDULE_CONSTANT) return "constant";
  return recipe->schedule == MPT_SCHEDULE_COSINE ? "cosine" : "linear";
}

void print_recipe_json(FILE *file, const struct recipe *recipe) {
  fputc('{', file);
  for (size_t i = 0; i < FIELDS; ++i) fprintf(file, "\"%s\": %.10g, ", fields[i].key, get(recipe, i));
  fprintf(file, "\"schedule\": \"%s\"}", schedule_name(recipe));
}

void print_recipe_line(FILE *file, const struct recipe *recipe) {
  for (size_t i = 0; i < FIELDS; ++i) {
    const bool unused = fields[i].offset >= offsetof(struct recipe, pretrain_steps) && get(recipe, i) == 0;
    if (!unused) fprintf(file, "%s=%.10g ", fields[i].key, get(recipe, i));
  }
  fprintf(file, "schedule=%s\n", schedule_name(recipe));
}
