/* Inside of `fathom eval`. A task is one file (task_<name>.c) and one row of tasks.def; it belongs to one of three
 * kinds, each a file (kind_<name>.c) that makes rows of data into requests, and answers into figures. */
#ifndef FM_EVAL_TASK_H
#define FM_EVAL_TASK_H

#include "base/json.h"
#include "data/reader.h"
#include "eval/metric.h"
#include "eval/table.h"
#include "fathom/evaluate.h"
#include "fathom/template.h"
#include "model/model.h"

typedef enum fm_eval_style { FM_STYLE_AUTO, FM_STYLE_LETTERS, FM_STYLE_CLOZE } fm_eval_style;

struct fm_eval_config {
    char *model, *adapter, *compare, *compare_adapter, *dtype;
    int64_t threads, column;
    char *task, *split, *format;
    fm_strlist data, fewshot_data;
    int64_t num_fewshot;
    bool apply_chat_template;
    char *system;
    char *question, *answer, *prompt, *description, *target_delimiter, *fewshot_delimiter;
    fm_strlist choices, columns;
    int style;
    int64_t answer_base;
    char *text_column, *text_template;
    int text_unit;
    int64_t window, stride;
    int64_t max_samples, max_new_tokens, batch_tokens, samples;
    double temperature, repetition_penalty;
    fm_strlist stop, metrics;
    char *filter;
    int tokenize;
    bool normalize, lowercase;
    fm_strlist slice_by, terms;
    int64_t worst, bootstrap, seed;
    double confidence;
    char *rows_output;
    char *head, *pair_column;
};

/* A figure over rows: each row adds its numbers to sums, and `finish` makes the figure of them. */
typedef struct fm_measure {
    char name[40];
    int n_stats;                         /* numbers a row adds, at most FM_MAX_STATS */
    double (*finish)(const double *sum); /* NULL: sum[0] / sum[1] */
    bool lower_is_better;
    char definition[200];
} fm_measure;
#define FM_MAX_STATS    640 /* three for each of some 200 labels */
#define FM_MAX_MEASURES 24

/* One row to score. Texts live in the arena of the run. */
typedef struct fm_eval_row {
    const fm_rec *rec;
    const char *file, *subject; /* subject "" without */
    fm_sv question;             /* as it stands in the data: for lengths, terms and reports */
    fm_sv context;              /* what the model reads before its answer */
    fm_sv *choice;              /* mc: [n_choices] continuations, with their delimiter */
    fm_sv *choice_text;         /* mc: without it, what acc_norm counts */
    int32_t n_choices, gold;
    size_t choice_at; /* mc: the first of its choices among those of all rows */
    fm_sv target;     /* qa: the reference */
    fm_sv *ref;       /* qa: [n_refs] all of them */
    int32_t n_refs;
} fm_eval_row;

/* What one model made of the rows. */
typedef struct fm_eval_scores {
    double *stats; /* [n_rows,n_stats] */
    double *rank;  /* [n_rows] low = bad: order of the worst rows */
    fm_sv *output; /* [n_rows] what it said; ptr NULL: nothing to show */
    bool *cut;     /* [n_rows] generation: ended by max_new_tokens */
    int64_t *said; /* mc: [n_rows] choice */
    /* mc: log p of all choices, rows one after the other, in the arena; alone: without their question, or NULL */
    const double *choice_logprob, *choice_alone;
    int64_t tokens, saved, generated, n_truncated;
    int64_t max_new_tokens;         /* generation: in force */
    int64_t passes, pass_sequences; /* generation: of the engine; answers in them, all together */
    bool has_template;              /* the model brings a chat template */
    double seconds, load_seconds, first_token_ms, per_token_ms; /* the last two: generation, else NaN */
    fm_bump arena;
} fm_eval_scores;

typedef struct fm_eval fm_eval;
typedef struct fm_eval_kind {
    const char *name;
    const char *default_metrics;
    /* Rows of the data -> e->row. */
    fm_status (*prepare)(fm_eval *e);
    /* Declares e->measure. */
    fm_status (*measures)(fm_eval *e);
    /* Runs the model over e->row: fills the arrays of s, which are there. */
    fm_status (*score)(fm_eval *e, fm_model *m, fm_eval_scores *s);
} fm_eval_kind;

typedef struct fm_eval_task {
    const char *name, *help;
    const fm_eval_kind *kind;
    /* Defaults of keys that were not given; NULL = the kind's own. */
    const char *question, *choices, *answer, *columns, *prompt, *description, *target_delimiter, *fewshot_delimiter,
        *split, *fewshot_split, *filter, *metrics, *stop;
    fm_eval_style style;
    int64_t num_fewshot, max_new_tokens;
    bool no_header;
    /* The subject of a file, from its name, as the description calls it; NULL: underscores become blanks. */
    const char *(*subject)(const char *stem);
} fm_eval_task;

struct fm_eval {
    const fm_eval_config *cfg;
    const fm_eval_task *task;
    fm_eval_table table, shots;
    char frozen[33]; /* hash of the frozen test set that is scored (data/frozen.h), or "" */
    fm_bump arena;
    fm_model *model;   /* while rows are prepared and measures declared */
    fm_template *chat; /* of the model that is asked, or NULL: plain prompts */
    bool wants_bare;   /* mc: the likelihood of choices without their question too */
    fm_eval_row *row;
    size_t n_rows, cap_rows;
    fm_measure measure[FM_MAX_MEASURES];
    int n_measures, n_stats; /* of all measures together */
};

/* The value of a key: as given, else the task's default, else `fallback`. */
const char *fm_eval_pick(const char *given, const char *of_task, const char *fallback);
/* The names in force: a list key, else the task's "a,b,c". Copies into the arena. */
FM_MUST_CHECK fm_status fm_eval_pick_list(fm_eval *e, fm_sv **out, size_t *n, const fm_strlist *given,
                                          const char *of_task);
/* Adds a measure; its numbers of a row begin at *at of the row's stats. */
FM_MUST_CHECK fm_status fm_eval_measure(fm_eval *e, const fm_measure *m, int *at);
double fm_measure_value(const fm_measure *m, const double *sum);
FM_MUST_CHECK fm_status fm_eval_add_row(fm_eval *e, fm_eval_row **out);

/* ---- prompts (prompt.c) -------------------------------------------------------------------------- */

/* Fills a template such as "Question: {question}\nAnswer:" from a row's columns. */
FM_MUST_CHECK fm_status fm_eval_fill(fm_eval *e, fm_sv *out, const char *text, const fm_eval_entry *row);
/* One row made into question and right answer: what few-shot examples and requests are made of. */
typedef struct fm_eval_turn {
    fm_sv text, target;
} fm_eval_turn;
typedef fm_status (*fm_eval_turn_fn)(fm_eval *e, fm_eval_turn *out, const fm_eval_entry *row);
/* Between a prompt and an answer. */
const char *fm_eval_delimiter(const fm_eval *e);
/* description + examples + text, or the same as a chat: system message, turns, generation prompt. */
FM_MUST_CHECK fm_status fm_eval_context(fm_eval *e, fm_sv *out, const fm_eval_entry *row, fm_sv text,
                                        fm_eval_turn_fn turn);

/* What stands for "no question": nothing, or a chat's empty turn. */
FM_MUST_CHECK fm_status fm_eval_bare_context(fm_eval *e, fm_sv *out);

/* Ids of contexts and continuations, cut where lm-evaluation-harness cuts: blanks at the end of the context move to the
 * continuation, and the continuation's ids are those of both together behind the context's own. */
typedef struct fm_eval_encoder {
    const fm_tokenizer *tok;
    int32_t prefix[8]; /* special tokens that begin every text */
    int32_t n_prefix;
    int32_t start; /* stands for an empty context: begin token, else end token; -1 = none */
    int64_t limit; /* tokens the model can attend to */
} fm_eval_encoder;
/* A chat's text has its begin token written out: none is added. */
FM_MUST_CHECK fm_status fm_eval_encoder_init(fm_eval_encoder *x, fm_model *m, bool chat);
/* Appends; *n_context is how many of the ids are context. */
FM_MUST_CHECK fm_status fm_eval_encode_pair(const fm_eval_encoder *x, fm_sv context, fm_sv cont, fm_tokens *ctx_ids,
                                            fm_tokens *cont_ids);

/* ---- generation (generate.c) --------------------------------------------------------------------- */

typedef struct fm_eval_request {
    const int32_t *ids;
    int32_t n_ids;
} fm_eval_request;
#define FM_EVAL_SAMPLES 256
typedef struct fm_eval_generation {
    int64_t max_new_tokens;
    const fm_sv *stop; /* [n_stop] the text ends before the first of these */
    size_t n_stop;
    int64_t samples;           /* 0 to FM_EVAL_SAMPLES, besides the greedy answer; the best by agreement counts */
    double temperature;        /* of samples */
    double repetition_penalty; /* of all; 0 or 1 = none */
    uint64_t seed;
    fm_cut cut; /* agreement compares these tokens */
} fm_eval_generation;
/* Which of answer[n] agrees best with the others; the first of equals. */
FM_MUST_CHECK fm_status fm_eval_consensus(size_t *best, const fm_text *answer, size_t n, fm_cut cut);
/* Answers, many at a time: s->output[n], texts in s->arena; s->generated and the times are filled in. */
FM_MUST_CHECK fm_status fm_eval_generate(fm_model *m, const fm_eval_request *req, size_t n, const fm_eval_generation *o,
                                         fm_eval_scores *s);

/* ---- filters of answers (filter.c) --------------------------------------------------------------- */

typedef struct fm_eval_filter {
    const char *name, *help;
    fm_sv (*apply)(fm_sv text); /* a view into text or a constant */
} fm_eval_filter;
const fm_eval_filter *fm_eval_filter_at(size_t i); /* NULL past the end */
FM_MUST_CHECK fm_status fm_eval_filter_find(const fm_eval_filter **out, fm_sv name);
/* GSM8K's exact match: case, "," and "$", everything up to the last "#### ", and a period at the end do not count. */
FM_MUST_CHECK fm_status fm_eval_gsm8k_clean(fm_bump *a, fm_sv *out, fm_sv text);

/* ---- report (report.c) --------------------------------------------------------------------------- */

FM_MUST_CHECK fm_status fm_eval_report(fm_json **out, fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other);
struct fm_interval;
/* Adds "findings" (base/finding.h) to a report that has its figures, groups and slices. measure: the one that counts,
 * -1 for none. (findings.c) */
FM_MUST_CHECK fm_status fm_eval_findings(fm_json *report, const fm_eval *e, int measure, const struct fm_interval *v,
                                         const fm_eval_scores *s, const fm_eval_scores *other);
FM_MUST_CHECK fm_status fm_eval_write_rows(const fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other);
/* Slices of the rows: calls fn for each part with the rows in it. */
typedef fm_status (*fm_slice_fn)(void *arg, const char *by, const char *value, const size_t *row, size_t n);
FM_MUST_CHECK fm_status fm_eval_slices(fm_eval *e, fm_slice_fn fn, void *arg);

/* ---- bootstrap (bootstrap.c) --------------------------------------------------------------------- */

typedef struct fm_interval {
    double value, low, high, stderr_; /* stderr_: of a mean, else NaN */
    double difference, diff_low, diff_high, p;
} fm_interval;
/* Figure of measure m over row[0..n) (NULL: all n rows), its percentile interval over `times` resamples, and with
 * `other` the paired difference value - other's, its interval and twice the share of resamples on the other side of 0.
 */
FM_MUST_CHECK fm_status fm_bootstrap(fm_interval *out, const fm_measure *m, const double *stats, const double *other,
                                     int n_stats, int at, const size_t *row, size_t n, int64_t times, double confidence,
                                     uint64_t seed);

extern const fm_eval_kind fm_eval_kind_ppl, fm_eval_kind_mc, fm_eval_kind_qa, fm_eval_kind_head;
const fm_eval_task *fm_eval_task_at(size_t i); /* NULL past the end */

#endif
