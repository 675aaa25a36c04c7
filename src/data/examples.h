/* Examples: rows that carry what is to be learned from them (answers, labels), as packed shards with marks or values.
 *
 * A task is one file that ends in a descriptor, and one row of example_tasks.def. It makes a row into tokens, a mark
 * for each and numbers; reading rows, holding out, long rows, rejects, shards and reuse are the same for all. */
#ifndef FM_DATA_EXAMPLES_H
#define FM_DATA_EXAMPLES_H

#include "base/json.h"
#include "base/str.h"
#include "data/columns.h"
#include "data/pack.h"
#include "data/rec.h"

typedef enum fm_train_on { FM_TRAIN_ON_ANSWERS, FM_TRAIN_ON_LAST, FM_TRAIN_ON_ALL } fm_train_on;
typedef enum fm_problem_type { FM_PROBLEM_TYPE_AUTO, FM_PROBLEM_TYPE_SINGLE, FM_PROBLEM_TYPE_MULTI } fm_problem_type;

/* Of a part, beside its shards: f32 of each example. */
#define FM_DIFFICULTY_FILE "difficulty.f32"

typedef struct fm_examples_options {
    const char *task; /* row of example_tasks.def */
    fm_strlist input; /* borrowed */
    const char *format;
    const char *tokenizer; /* folder or file */
    const char *output;    /* folder; train, val and tokenizer inside */
    const fm_columns *columns;
    const char *template_; /* name or file of a chat template; NULL = the tokenizer's */
    int train_on;          /* fm_train_on */
    int problem;           /* fm_problem_type */
    const fm_json *labels; /* array of names in the order of the ids, or NULL: found in the rows. Several tasks: an
                              object with the array of each */
    /* Of several tasks: */
    const fm_strlist *tasks;       /* data/tasks.h; borrowed */
    const char *task_column;       /* NULL = "task" */
    const char *const *input_task; /* [input.n] task of all rows of an entry, NULL = by column; or NULL */
    const char *difficulty;        /* column whose numbers go to FM_DIFFICULTY_FILE, or NULL */
    int64_t cutoff_len;
    int long_rows; /* fm_long_rows; SPLIT is refused */
    double val_size;
    int threads;
} fm_examples_options;

/* One row on its way. */
typedef struct fm_example {
    int32_t *ids;
    int16_t *marks; /* what a mark means is the task's */
    size_t n, cap_ids, cap_marks;
    float *values; /* [n_values] */
    size_t cap_values;
    int64_t n_bytes;    /* of text that is learned, for bits per byte */
    const char *reason; /* NULL, or why the row is set aside (static text) */
    bool whole;         /* its values are what is learned: no token needs a mark */
    bool may_cut;       /* a long row keeps its meaning when its end is cut */
    size_t keep_at_end; /* tokens at the end that a cut keeps */
} fm_example;
FM_MUST_CHECK fm_status fm_example_add(fm_example *e, const int32_t *ids, size_t n, int16_t mark);

typedef struct fm_example_task {
    const char *name, *summary;
    bool marks;      /* examples have marks; 0 is "not trained" */
    bool needs_scan; /* `scan` sees every row once before the first `make` */
    FM_MUST_CHECK fm_status (*open)(void **state, const fm_examples_options *o, const fm_tokenizer *t);
    void (*close)(void *state);
    /* row->source is the entry of `input` that it came from. */
    FM_MUST_CHECK fm_status (*scan)(void *state, const fm_rec *row);
    FM_MUST_CHECK fm_status (*ready)(void *state, uint32_t *n_values); /* after the scan */
    FM_MUST_CHECK fm_status (*make)(void *state, fm_example *e, const fm_rec *row);
    /* Members of dataset.json that a reader of the examples needs. */
    FM_MUST_CHECK fm_status (*describe)(const void *state, fm_json *o);
} fm_example_task;
const fm_example_task *fm_example_task_find(const char *name); /* NULL when unknown */

typedef struct fm_examples_report {
    int64_t n_rows, n_bad, n_long, longest; /* longest: tokens */
    int64_t n_examples, n_eval_examples, n_tokens, n_trained;
    bool reused; /* the output was there already, made from the same rows and settings */
} fm_examples_report;

/* Makes the dataset, or finds it made. FM_ERR_DATA (nothing written) when rows are too long and long_rows is REFUSE,
 * and when no example or no trained token is left. */
FM_MUST_CHECK fm_status fm_examples_make(fm_examples_report *r, const fm_examples_options *o);

#endif
