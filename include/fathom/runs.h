/* The local registry of runs: what was run, with which configuration, code and data, and what came out.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_RUNS_H
#define FATHOM_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One SQLite file. Many processes may write at the same time. */
typedef struct fm_registry fm_registry;

/* path NULL: $FATHOM_REGISTRY, else runs.db in $XDG_DATA_HOME/fathom or ~/.local/share/fathom. FATHOM_REGISTRY=none
 * turns it off: *out is NULL with FM_OK, and every call below does nothing with it. Without `create` a registry that is
 * not there is *out NULL too. FM_ERR_UNSUPPORTED without libsqlite3; FM_ERR_FORMAT for a file of a later version. */
FM_API FM_MUST_CHECK fm_status fm_registry_open(fm_registry **out, const char *path, bool create);
FM_API void fm_registry_close(fm_registry *r);
FM_API const char *fm_registry_path(const fm_registry *r);

/* A finished `fathom eval`: report is its JSON (fathom/evaluate.h). *id (or NULL) gets the number of the run. */
FM_API FM_MUST_CHECK fm_status fm_registry_add_eval(fm_registry *r, const char *report, int64_t started_ms,
                                                    int64_t *id);

typedef struct fm_run_filter {
    const char *kind;   /* "train", "eval", "run"; NULL = all */
    const char *status; /* "running", "done", "failed", "interrupted" */
    const char *tag;
    const char *input; /* path or hash of data, model or tokenizer that the run read, or of a file it made */
    int64_t limit;     /* newest first; 0 = all */
    const char *name;  /* a part of the name */
    const char *since; /* "2026-11-02", "2026-11-02T15:30" (UTC), or an age: "12h", "7d" */
    const char *sort;  /* a figure, "seconds" or "name", smallest first; "-acc": largest first; NULL: newest first */
    /* Runs whose data has a row, and runs that went on from their models: called for every file that runs read as
     * data and that is still what it was. NULL: not asked for. */
    fm_status (*has_row)(void *user, const char *path, bool *has);
    void *user;
    int64_t *n_unknown; /* files that are gone or have changed; or NULL */
} fm_run_filter;
/* JSON (fm_string_free): [{id, name, kind, status, started, seconds, output_dir, figures: {NAME: VALUE}, tags: []}] */
FM_API FM_MUST_CHECK fm_status fm_registry_list(char **json, fm_registry *r, const fm_run_filter *f);
/* One run with everything: config, code, environment, inputs, artefacts, figures, series, report. `which` is a number,
 * a tag, or a name (the newest of that name). */
FM_API FM_MUST_CHECK fm_status fm_registry_show(char **json, fm_registry *r, const char *which);
/* {runs: [...], config: [{key, values: [...]}] that differ, figures: [{name, values: [...]}]} */
FM_API FM_MUST_CHECK fm_status fm_registry_compare(char **json, fm_registry *r, const char *const *which, int n);
/* The same as a page with curves over each other (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_registry_compare_html(char **html, fm_registry *r, const char *const *which, int n);
/* What list, show and compare gave, as text for people (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_registry_text(char **out, const char *json);
/* {kind, output_dir, findings: [...]}: what a run's own numbers said at its end. */
FM_API FM_MUST_CHECK fm_status fm_registry_advice(char **json, fm_registry *r, const char *which);
/* The folder that a training run wrote (fm_string_free); NULL for other runs. */
FM_API FM_MUST_CHECK fm_status fm_registry_output(char **dir, fm_registry *r, const char *which);
/* Writes the configuration of an evaluation with the changes that its findings propose for it as YAML. Training runs
 * have their checkpoint for that: fm_train_advice_apply. */
FM_API FM_MUST_CHECK fm_status fm_registry_advice_apply(fm_registry *r, const char *which, const char *path);
/* A page that needs nothing else: no scripts, no network. Releases with fm_string_free. */
FM_API FM_MUST_CHECK fm_status fm_registry_html(char **html, fm_registry *r, const char *which);
/* Forgets the run; its files stay. */
FM_API FM_MUST_CHECK fm_status fm_registry_remove(fm_registry *r, const char *which);
/* Adds a tag (tag begins with '-': takes it away). A tag that names something once, such as "production", moves. */
FM_API FM_MUST_CHECK fm_status fm_registry_tag(fm_registry *r, const char *which, const char *tag);

#ifdef __cplusplus
}
#endif
#endif
