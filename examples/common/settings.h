/* What the comparison and the two ablations train, and how --set changes it. */
#ifndef EXAMPLES_SETTINGS_H
#define EXAMPLES_SETTINGS_H

#include <stdbool.h>
#include <stdio.h>

#include "gpt.h"
#include "training.h"

/* A table of the demo: one recipe, trained by several methods. */
struct stage_settings {
  const char *name;  /* as --ablation takes it */
  const char *title; /* what the table shows */
  int ablated;       /* method whose harm it is to show; -1: none */
  int which[METHODS];
  int count;
  struct recipe recipe;
};

enum { COMPARISON, NO_SCALING, NO_MASTER, STAGES };
extern const struct stage_settings default_stages[STAGES];

/* Applies "key=value"; a sentence tells what is wrong with it. */
bool apply_setting(struct recipe *recipe, const char *setting);

/* Refuses settings that no network can have; the library checks the rest. */
bool check_recipe(const struct recipe *recipe);

/* All settings as a JSON object, or as one line "key=value key=value". */
void print_recipe_json(FILE *file, const struct recipe *recipe);
void print_recipe_line(FILE *file, const struct recipe *recipe);

#endif
