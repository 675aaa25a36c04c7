/* Inside of the registry of runs. */
#ifndef FM_TRACK_REGISTRY_H
#define FM_TRACK_REGISTRY_H

#include "base/json.h"
#include "fathom/runs.h"
#include "io/sql.h"

struct fm_registry {
    fm_sql *db;
    char *path;
};

/* A new run; strings may be NULL. config is YAML or JSON text, environment is filled in here. */
typedef struct fm_run_start {
    const char *name, *kind, *config, *output_dir;
    int64_t started_ms;
} fm_run_start;
FM_MUST_CHECK fm_status fm_run_begin(fm_registry *r, const fm_run_start *s, int64_t *id);
FM_MUST_CHECK fm_status fm_run_end(fm_registry *r, int64_t id, const char *status);
/* Newest run of that kind that writes to a folder, 0 when there is none. */
FM_MUST_CHECK fm_status fm_run_find_output(fm_registry *r, const char *kind, const char *output_dir, int64_t *id);
/* What a run read (role "data", "model" ...) or, with made, what it wrote. hash NULL: of the file, or of the weights
 * and configuration in a folder; a path that is not there is noted without. */
FM_MUST_CHECK fm_status fm_run_file(fm_registry *r, int64_t id, bool made, const char *role, const char *path,
                                    const char *hash);
FM_MUST_CHECK fm_status fm_run_point(fm_registry *r, int64_t id, const char *series, int64_t step, double value);
/* A result; low and high NaN without an interval. */
FM_MUST_CHECK fm_status fm_run_figure(fm_registry *r, int64_t id, const char *name, double value, double low,
                                      double high, const char *definition);
FM_MUST_CHECK fm_status fm_run_report(fm_registry *r, int64_t id, const char *json);
/* The run as JSON, owned by the caller. points: at most so many of each series, 0 = all. */
FM_MUST_CHECK fm_status fm_registry_load(fm_json **out, fm_registry *r, const char *which);
FM_MUST_CHECK fm_status fm_run_resolve(fm_registry *r, const char *which, int64_t *id);
/* XXH3 of a file; of a folder the hash of the names and hashes of its weights, config and tokenizer. "" when there is
 * nothing to hash. */
FM_MUST_CHECK fm_status fm_path_hash(char out[33], const char *path);

/* Runs side by side (html_compare.c). compared: as fm_registry_compare gives it. */
#define FM_MOST_COMPARED 32
FM_MUST_CHECK fm_status fm_compare_html(fm_str *out, fm_json *const *run, int n, const fm_json *compared);
/* Page of a run (html.c). */
FM_MUST_CHECK fm_status fm_run_html(fm_str *out, const fm_json *run);

#endif
