/*
 * Trains one small GPT on real text in FP32, in mixed precision, and in FP16 with parts of the method taken away, and shows
 * side by side what each costs and what each reaches. compare_precisions --help tells the rest.
 */
#include <mpt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arguments.h"
#include "common/progress.h"
#include "common/report.h"
#include "common/sampling.h"
#include "common/say.h"
#include "common/tables.h"
#include "common/text.h"

/* The texts of the demo. */
struct library {
  struct text main, pretraining;
  char main_name[512], pretraining_name[512];
  /* What the second table's fine-tuning knows before, and what it is tuned on. */
  struct stretch known, tuned;
  char known_name[600], tuned_name[600];
};

struct demo {
  struct arguments arguments;
  struct library library;
  struct stage_settings settings[STAGES];
  struct experiment experiments[STAGES];
  struct report report;
  char sample[SAMPLE_BYTES + 1];
};

static bool load_main_text(struct library *library, const char *path, char *folder, size_t capacity) {
  folder[0] = '\0';
  if (path) {
    snprintf(library->main_name, sizeof library->main_name, "%s", path);
    return text_append_file(&library->main, path);
  }
  snprintf(library->main_name, sizeof library->main_name, "the Python standard library's modules");
  return find_python_library(folder, capacity) && text_append_python_files(&library->main, folder);
}

/* With no text to pre-train on, the first half of the main one is known and the second is tuned on. */
static void halve_main_text(struct library *library) {
  const size_t half = library->main.size / 2;
  library->known = (struct stretch){library->main.bytes, half};
  library->tuned = (struct stretch){library->main.bytes + half, library->main.size - half};
  snprintf(library->known_name, sizeof library->known_name, "the first half of %s", library->main_name);
  snprintf(library->tuned_name, sizeof library->tuned_name, "the second half of %s", library->main_name);
}

static bool load_texts(struct library *library, const struct arguments *arguments) {
  char folder[2048], topics[2100];
  if (!load_main_text(library, arguments->text, folder, sizeof folder)) return false;
  if (!arguments->stage[NO_MASTER]) return true;
  const char *path = arguments->pretrain_text;
  if (!path && folder[0] != '\0') {
    snprintf(topics, sizeof topics, "%s/pydoc_data/topics.py", folder);
    FILE *file = fopen(topics, "rb");
    if (file) {
      fclose(file);
      path = topics;
    }
  }
  if (!path) {
    halve_main_text(library);
    return true;
  }
  if (!text_append_file(&library->pretraining, path)) return false;
  library->known = (struct stretch){library->pretraining.bytes, library->pretraining.size};
  library->tuned = (struct stretch){library->main.bytes, library->main.size};
  snprintf(library->known_name, sizeof library->known_name, "%.500s",
           path == topics ? "the Python language reference" : path);
  snprintf(library->tuned_name, sizeof library->tuned_name, "%s", library->main_name);
  return true;
}

/* The settings of the tables to come, with what the command line changes. */
static bool choose_settings(struct demo *demo) {
  const struct arguments *arguments = &demo->arguments;
  memcpy(demo->settings, default_stages, sizeof demo->settings);
  int changed = COMPARISON;
  for (int i = STAGES - 1; i >= 0; --i) {
    if (arguments->stage[i]) changed = i;
  }
  struct recipe *recipe = &demo->settings[changed].recipe;
  for (int i = 0; i < arguments->setting_count; ++i) {
    if (!apply_setting(recipe, arguments->settings[i])) return false;
  }
  if (recipe->warmup >= recipe->steps) recipe->warmup = recipe->steps / 10;
  if (!check_recipe(recipe)) return false;
  for (int i = 0; i < STAGES; ++i) {
    struct stage_settings *stage = &demo->settings[i];
    int kept = 0;
    for (int k = 0; k < stage->count; ++k) {
      if (arguments->method[stage->which[k]]) stage->which[kept++] = stage->which[k];
    }
    stage->count = kept;
    if (arguments->stage[i] && kept == 0)
      return fail("--precision: none of these runs is one of --ablation %s", stage->name);
  }
  return true;
}

/* Trains a network in FP32 on the text that fine-tuning starts from, and hands its weights on. */
static bool pretrain(const struct demo *demo, struct experiment *experiment) {
  struct recipe recipe = *experiment->recipe;
  recipe.steps = recipe.pretrain_steps;
  recipe.learning_rate = recipe.pretrain_learning_rate;
  recipe.schedule = MPT_SCHEDULE_COSINE;
  recipe.final_factor = 0.1;
  recipe.warmup = recipe.steps > 10 ? 10 : 0;
  struct split text;
  if (!split_text(&text, demo->library.known, recipe.context, demo->library.known_name)) return false;
  const int which[] = {FP32};
  struct experiment before;
  struct progress progress;
  progress_begin(&progress, "training on the first text");
  bool ok = experiment_create(&before, experiment->device, &recipe, experiment->seed, &text, which, 1) &&
            experiment_train(&before, progress_step, &progress);
  progress_end(&progress);
  ok = ok && experiment_validate(&before) && experiment_set_weights(experiment, &before.runs[0]);
  if (ok) {
    printf("  Known before: %s (%d steps in FP32, validation loss %.4f).\n", demo->library.known_name, recipe.steps,
           before.runs[0].val_loss);
  }
  experiment_destroy(&before);
  return ok && experiment_validate(experiment);
}

/* Makes one table: trains its runs, prints what came out, and adds it to the report. */
static bool make_stage(struct demo *demo, int index) {
  const struct stage_settings *stage = &demo->settings[index];
  const struct recipe *recipe = &stage->recipe;
  const bool tuning = recipe->pretrain_steps > 0 && index == NO_MASTER;
  const struct library *library = &demo->library;
  const struct stretch whole = {library->main.bytes, library->main.size};
  struct split text;
  if (!split_text(&text, tuning ? library->tuned : whole, recipe->context,
                  tuning ? library->tuned_name : library->main_name)) {
    return false;
  }
  const size_t wanted = (size_t)recipe->training_bytes;
  if (wanted > (size_t)recipe->context && wanted < text.training.size) { /* those next to the held-out part */
    text.training.bytes += text.training.size - wanted;
    text.training.size = wanted;
  }

  printf("\n%s%s\n  ", index == COMPARISON ? "Table 1: " : "Table 2: ", stage->title);
  print_recipe_line(stdout, recipe);
  fflush(stdout);
  const double began = now_seconds();
  struct experiment *experiment = &demo->experiments[index];
  if (!experiment_create(experiment, demo->arguments.device, recipe, demo->arguments.seed, &text, stage->which,
                         stage->count)) {
    return false;
  }
  if (tuning && !pretrain(demo, experiment)) return false;
  struct progress progress;
  progress_begin(&progress, "training");
  const bool trained = experiment_train(experiment, progress_step, &progress);
  progress_end(&progress);
  if (!trained || !experiment_validate(experiment)) return false;

  if (tuning)
    printf("  Validation loss on %s before fine-tuning: %.4f.\n", library->tuned_name,
           experiment->runs[0].first_val_loss);
  print_table(experiment);
  if (index == COMPARISON) {
    print_comparison(experiment);
  } else {
    print_verdict(stage, experiment);
  }
  printf("  (%.0f s)\n", now_seconds() - began);
  fflush(stdout);
  struct report *report = &demo->report;
  report->stages[report->count] = stage;
  report->experiments[report->count++] = experiment;
  return true;
}

static bool show_sample(struct demo *demo) {
  const struct experiment *experiment = &demo->experiments[COMPARISON];
  const struct run *run = find_run(experiment, FP16);
  if (!run) run = &experiment->runs[0];
  if (!write_sample(experiment, run, demo->sample)) return false;
  printf("\nText that the network of the run '%s' writes:\n\n", run->method->title);
  for (char *line = demo->sample; line;) {
    const size_t length = strcspn(line, "\n");
    printf("  | %.*s\n", (int)length, line);
    line = line[length] == '\n' ? line + length + 1 : NULL;
  }
  demo->report.sample = demo->sample;
  demo->report.sample_run = run->method->name;
  return true;
}

static bool run_demo(struct demo *demo) {
  const struct arguments *arguments = &demo->arguments;
  struct report *report = &demo->report;
  if (!choose_settings(demo) || !report_prepare(arguments->out) || !load_texts(&demo->library, arguments)) return false;
  report->folder = arguments->out;
  report->text = demo->library.main_name;
  report->text_bytes = demo->library.main.size;
  printf("libmpt %s (%s)\nText: %s, %.1f MB, the last tenth held out.\n", mpt_version(), mpt_build_info(), report->text,
         1e-6 * (double)report->text_bytes);
  for (int i = 0; i < STAGES; ++i) {
    if (!arguments->stage[i]) continue;
    if (!make_stage(demo, i) || (i == COMPARISON && !show_sample(demo)) || !report_write(report)) return false;
  }
  printf("\nEverything measured is in %s/report.json.\n", arguments->out);
  return true;
}

int main(int argc, char **argv) {
  static struct demo demo;
  set_program_name("compare_precisions");
  if (!parse_arguments(&demo.arguments, argc, argv)) return 1;
  if (demo.arguments.help) {
    print_help();
    return 0;
  }
  const bool ok = run_demo(&demo);
  for (int i = 0; i < STAGES; ++i) experiment_destroy(&demo.experiments[i]);
  text_free(&demo.library.main);
  text_free(&demo.library.pretraining);
  return ok ? 0 : 1;
}
