#include "arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

void print_help(void) {
  puts(
      "usage: compare_precisions [OPTIONS]\n"
      "\n"
      "Trains a small byte-level GPT on real text in FP32, in mixed precision (FP16 and BF16), and in FP16 with one "
      "part of\n"
      "the method taken away, and shows what each costs and what each reaches. Then, in a second table, two settings "
      "in which\n"
      "the missing part is missed. Writes OUT/report.json, from which report.py draws report.html and report.png.\n"
      "\n"
      "  --text FILE           text to train on (default: the source of the Python standard library's modules)\n"
      "  --pretrain-text FILE  text that the network knows before it is fine-tuned in the second table\n"
      "                        (default: the Python language reference; with --text, the first half of FILE)\n"
      "  --steps N             training steps of each run (of the table that --ablation names, else of the first)\n"
      "  --seed N              of the weights and of the order of the data (default 0)\n"
      "  --precision LIST      runs to make: fp32,fp16,bf16,fp16-no-scaling,fp16-no-master (default: all); without\n"
      "                        --ablation the second table is left out then\n"
      "  --ablation NAME       one part of the second table alone: no-scaling or no-master; none: only the first "
      "table\n"
      "  --set KEY=VALUE       another setting (width, layers, lr, ...; a wrong KEY shows all) of the table that "
      "--ablation\n"
      "                        names, else of the first; may be repeated\n"
      "  --device NAME         where the runs are trained: cpu, or cuda:0 on an NVIDIA GPU (default: cpu)\n"
      "  --out DIR             where the report goes (default: build/demo)\n"
      "  --help                this text");
}

static bool parse_list(struct arguments *out, const char *list) {
  memset(out->method, 0, sizeof out->method);
  for (const char *at = list;;) {
    const size_t length = strcspn(at, ",");
    int found = -1;
    for (int i = 0; i < METHODS; ++i) {
      if (strlen(methods[i].name) == length && strncmp(methods[i].name, at, length) == 0) found = i;
    }
    if (found < 0) {
      return fail("--precision: found '%.*s', expected fp32, fp16, bf16, fp16-no-scaling or fp16-no-master",
                  (int)length, at);
    }
    out->method[found] = true;
    if (at[length] == '\0') return true;
    at += length + 1;
  }
}

static bool parse_whole(const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *out) {
  char *end;
  const unsigned long long value = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < least || value > most) {
    return fail("%s: found '%s', expected a whole number from %llu to %llu", option, text, (unsigned long long)least,
                (unsigned long long)most);
  }
  *out = value;
  return true;
}

static bool parse_ablation(struct arguments *out, const char *name) {
  memset(out->stage, 0, sizeof out->stage);
  if (strcmp(name, "none") == 0) {
    out->stage[COMPARISON] = true;
    return true;
  }
  for (int i = COMPARISON + 1; i < STAGES; ++i) {
    if (strcmp(name, default_stages[i].name) == 0) {
      out->stage[i] = true;
      return true;
    }
  }
  return fail("--ablation: found '%s', expected no-scaling, no-master or none", name);
}

/* Adds a --set argument; --steps N is --set steps=N. */
static bool add_setting(struct arguments *out, const char *setting) {
  if (out->setting_count == MAX_SETTINGS) return fail("--set: found more than %d settings", MAX_SETTINGS);
  out->settings[out->setting_count++] = setting;
  return true;
}

static bool set_steps(struct arguments *out, const char *text) {
  static char setting[64];
  uint64_t steps;
  if (!parse_whole("--steps", text, 1, 100000000, &steps)) return false;
  snprintf(setting, sizeof setting, "steps=%llu", (unsigned long long)steps);
  return add_setting(out, setting);
}

bool parse_arguments(struct arguments *out, int argc, char **argv) {
  memset(out, 0, sizeof *out);
  out->out = "build/demo";
  out->device = "cpu";
  for (int i = 0; i < METHODS; ++i) out->method[i] = true;
  bool listed = false;
  const char *ablation = NULL;
  for (int i = 1; i < argc; ++i) {
    const char *option = argv[i];
    if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
      out->help = true;
      return true;
    }
    static const char *const known[] = {"--text",     "--pretrain-text", "--steps", "--seed",  "--precision",
                                        "--ablation", "--set",           "--out",   "--device"};
    bool found = false;
    for (size_t k = 0; k < sizeof known / sizeof *known; ++k) found = found || strcmp(option, known[k]) == 0;
    if (!found) return fail("found '%s', which is no option; --help lists them", option);
    if (i + 1 == argc) return fail("%s: expected a value after it; --help tells which", option);
    const char *value = argv[++i];
    bool ok = true;
    if (strcmp(option, "--text") == 0) out->text = value;
    if (strcmp(option, "--pretrain-text") == 0) out->pretrain_text = value;
    if (strcmp(option, "--out") == 0) out->out = value;
    if (strcmp(option, "--device") == 0) out->device = value;
    if (strcmp(option, "--steps") == 0) ok = set_steps(out, value);
    if (strcmp(option, "--seed") == 0) ok = parse_whole(option, value, 0, UINT64_MAX, &out->seed);
    if (strcmp(option, "--precision") == 0) ok = listed = parse_list(out, value);
    if (strcmp(option, "--ablation") == 0) ablation = value;
    if (strcmp(option, "--set") == 0) ok = add_setting(out, value);
    if (!ok) return false;
  }
  if (ablation) return parse_ablation(out, ablation);
  out->stage[COMPARISON] = true;
  out->stage[NO_SCALING] = out->stage[NO_MASTER] = !listed;
  return true;
}
