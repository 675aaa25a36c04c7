/* Recipes: the stages of a model's life in one file, done once and redone when what they depend on changes.
 * docs/recipes.md describes the file.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_RECIPE_H
#define FATHOM_RECIPE_H

#include <stdbool.h>
#include <stddef.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_recipe fm_recipe;

/* overrides [n]: "name=value" for output_dir and the entries of vars. Checks the whole file: every ${name} is known and
 * of an earlier stage. */
FM_API FM_MUST_CHECK fm_status fm_recipe_open(fm_recipe **out, const char *path, const char *const *overrides, int n);
FM_API void fm_recipe_free(fm_recipe *r);
FM_API const char *fm_recipe_output_dir(const fm_recipe *r);

/* Stage i as it stands in the file; *words is the command ("tokenizer train"), keys [n] the options it is given. NULL
 * past the last. Owned by r. */
FM_API const char *fm_recipe_stage(const fm_recipe *r, int i, const char **words, const char *const **keys, int *n);

typedef enum fm_stage_state {
    FM_STAGE_KEPT,   /* finished before, and nothing that it depends on has changed */
    FM_STAGE_STARTS, /* or would start, in a dry run */
    FM_STAGE_MAYBE,  /* dry run: depends on what an earlier stage will give */
    FM_STAGE_DONE,
    FM_STAGE_FAILED,
    FM_STAGE_LEFT_OUT /* not asked for */
} fm_stage_state;
typedef struct fm_stage_event {
    const char *name, *command, *output;
    int index, n_stages;
    fm_stage_state state;
    const char *why; /* of STARTS and MAYBE */
    double seconds;  /* of DONE and FAILED; of KEPT what it took when it ran */
    int exit_code;   /* of FAILED */
} fm_stage_event;
typedef void (*fm_stage_fn)(void *user, const fm_stage_event *e);

/* Runs the program with argv (ended by NULL, without its own name); standard output goes to stdout_path unless that is
 * NULL. *exit_code 0 = done. A status is for programs that could not be run at all. */
typedef fm_status (*fm_recipe_exec_fn)(void *user, char *const *argv, const char *stdout_path, int *exit_code);

typedef struct fm_recipe_options {
    size_t size; /* sizeof(fm_recipe_options) */
    bool dry_run;
    const char *from;        /* this stage and all after it are done again; or NULL */
    const char *const *only; /* [n_only] only these, and again; the others are neither looked at nor run */
    int n_only;
    fm_stage_fn on_stage; /* or NULL */
    fm_recipe_exec_fn exec;
    void *user; /* of both */
} fm_recipe_options;

/* Stages in order; stops at the first that fails (FM_ERR_STATE naming it; *exit_code, or NULL, gets its code). The same
 * call again goes on there. */
FM_API FM_MUST_CHECK fm_status fm_recipe_run(fm_recipe *r, const fm_recipe_options *o, int *exit_code);

#ifdef __cplusplus
}
#endif
#endif
