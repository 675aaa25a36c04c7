/* A step of a data pipeline: one file that defines `const fm_step_def fm_step_<symbol>`, and one row in steps.def. Its
 * option table makes the flags, the YAML keys, the help and the docs.
 *
 * Two kinds:
 *   row-wise    `row` alone. Rows pass in constant memory; several threads run it at once, each on batches of its own;
 *               the order of rows is kept by the frame. What it does may depend on the row, the options and the seed
 *               only, so the output has the same bytes for any number of threads.
 *   whole-set   has `observe` or `resolve`. The frame passes all rows twice: first `row` (in parallel; may prepare
 *               something in rec->aux), then `observe` in the order of the input while the rows go to a file; then
 * `resolve` once; then `apply` on each row (in parallel, in any order) and `tail` once after the last. `memory` says
 * what it keeps for a row.
 *
 * A row is taken out with fm_step_drop(reason) and never otherwise: reasons are counted and the rows go to the rejects
 * file when one is asked for. Changes are counted with fm_step_count. Reasons and names of counts are few, constant
 * words; what is special about one row goes into `detail`.
 *
 * A status other than FM_OK ends the run: for faults of the machine or the configuration, never for bad rows. */
#ifndef FM_DATA_STEP_H
#define FM_DATA_STEP_H

#include "data/rec.h"
#include "fathom/option.h"

typedef struct fm_step_def fm_step_def;

/* One use of a step in a run. */
typedef struct fm_step {
    const fm_step_def *def;
    void *opt;     /* struct of the option table, filled */
    void *state;   /* the step's own, made by open; read-only while rows pass, but for observe and resolve */
    uint64_t seed; /* of the run, mixed with the step's place in it */
    int32_t index; /* in the pipeline, from 0 */
    const struct fm_step_env *env;
} fm_step;

/* What a step may ask of the run. */
typedef struct fm_step_env {
    const char *const *source;      /* [n_sources] input files */
    const char *const *source_name; /* their names in the pipeline file ("web"), or NULL each */
    int32_t n_sources;
    const char *work_dir; /* folder for files of the step's own while it runs; removed at the end */
    const char *output;   /* path the run writes to; steps that leave a report put it beside */
    int n_threads;
} fm_step_env;

/* What a call about one row gets. */
typedef struct fm_step_ctx {
    fm_step *step;
    fm_bump *arena; /* lives as long as the batch: what cells point to comes from here */
    void *local;    /* this thread's own (local_bytes), or NULL */
    int thread;
    fm_str tmp[2];     /* scratch; cleared by whoever uses it */
    fm_tallies counts; /* of this batch */
    fm_recs *emitted;  /* rows that fm_step_emit adds */
    fm_rec *at;        /* the row being processed */
} fm_step_ctx;

struct fm_step_def {
    const char *name;     /* "filter-length" */
    const char *help;     /* one line */
    const char *about;    /* paragraphs for --help, or NULL */
    const char *examples; /* one command a line */
    const fm_option *options;
    size_t options_bytes;          /* of the struct behind the table */
    const char *memory;            /* whole-set: bound in words ("16 bytes a row"); NULL for row-wise */
    fm_status (*open)(fm_step *s); /* checks options, makes state; may be NULL */
    void (*close)(fm_step *s);     /* also after a failed open */
    fm_status (*row)(fm_step_ctx *c, fm_rec *r);
    fm_status (*observe)(fm_step_ctx *c, fm_rec *r); /* may set r->note, which comes back in apply */
    fm_status (*resolve)(fm_step *s);
    fm_status (*apply)(fm_step_ctx *c, fm_rec *r);    /* r->ordinal, r->note are set */
    fm_status (*tail)(fm_step_ctx *c);                /* fm_step_emit adds rows at the end */
    size_t local_bytes;                               /* of what each thread has for itself, zeroed; 0 = nothing */
    fm_status (*local_init)(fm_step *s, void *local); /* or NULL; local_free follows even when it fails */
    void (*local_free)(void *local);                  /* what is in it; the block itself is the frame's */
    fm_status (*report)(fm_step *s, fm_str *json); /* appends a JSON object for the manifest (after resolve), or NULL */
};

/* Rows of steps.def. */
const fm_step_def *fm_step_at(size_t i); /* NULL behind the last */
const fm_step_def *fm_step_find(const char *name);
FM_MUST_CHECK fm_status fm_step_unknown(const char *name, const char *where); /* FM_ERR_CONFIG with the nearest name */

/* Takes the row out. reason: a constant word or phrase; detail: NULL, or more about this row (copied). */
FM_MUST_CHECK fm_status fm_step_drop(fm_step_ctx *c, fm_rec *r, const char *reason, const char *detail);
FM_MUST_CHECK fm_status fm_step_count(fm_step_ctx *c, const char *name, int64_t n);
/* A new row behind the current one, a copy of `like` (or empty); later steps see it, this one does not. */
FM_MUST_CHECK fm_status fm_step_emit(fm_step_ctx *c, fm_rec **out, const fm_rec *like);

/* The text column: *cell is NULL, and the row dropped with the reason, when it is missing or no text ("missing column",
 * "not text"). */
FM_MUST_CHECK fm_status fm_step_text(fm_step_ctx *c, fm_rec *r, const char *column, fm_cell **cell);

/* Option row for the column a step works on: `char *column` of struct T. */
#define FM_STEP_COLUMN(T)                                                                                              \
    { "column", FM_OPT_STR, offsetof(T, column), "text", 0, 0, NULL, NULL, "NAME", "column the step works on" }
#define FM_STEP_OPTIONS_END                                                                                            \
    { NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL }

#endif
