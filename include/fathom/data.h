/* Data: check rows, pack token shards.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_DATA_H
#define FATHOM_DATA_H

#include "fathom/option.h"
#include "fathom/status.h"
#include "fathom/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How rows become text. */
typedef struct fm_rows_config {
    fm_strlist input;    /* files, folders, globs, "-" */
    int format;          /* FM_OPT_ENUM auto|txt|jsonl|csv|tsv */
    char *text_column;   /* default "text" */
    char *text_template; /* "{question} {answer}"; overrides text_column */
    int txt_unit;        /* file|paragraph|line */
} fm_rows_config;

typedef struct fm_check_config fm_check_config;
typedef struct fm_pack_config fm_pack_config;
FM_API const fm_option *fm_check_options(void);
FM_API const fm_option *fm_pack_options(void);
FM_API FM_MUST_CHECK fm_status fm_check_config_new(fm_check_config **out);
FM_API FM_MUST_CHECK fm_status fm_pack_config_new(fm_pack_config **out);
FM_API void fm_check_config_free(fm_check_config *c);
FM_API void fm_pack_config_free(fm_pack_config *c);

/* One bad row. */
typedef struct fm_bad_row {
    const char *file;
    int64_t line;
    const char *reason;
} fm_bad_row;
typedef void (*fm_bad_row_fn)(void *user, const fm_bad_row *row);

typedef struct fm_check_report {
    size_t size;
    int64_t n_files, n_rows, n_bad, n_empty, n_bytes, n_chars;
    int64_t n_tokens, n_cut, n_cut_tokens; /* with a tokenizer: rows longer than cutoff_len */
    int64_t n_loss_tokens;
    int64_t longest_tokens, longest_line;
    int64_t n_classes, most_rows, least_rows; /* of the class column; n_classes 0: there is none */
    char most_class[64], least_class[64];
} fm_check_report;
FM_API FM_MUST_CHECK fm_status fm_data_check(fm_check_report *out, const fm_check_config *c, fm_bad_row_fn fn,
                                             void *user);

/* A row as training would see it: tokens and which of them carry loss. Until the call returns. */
typedef struct fm_shown_token {
    const char *text; /* its bytes, which may be a part of a character */
    size_t len;
    int32_t id;
    bool trained, cut; /* cut: behind cutoff_len */
} fm_shown_token;
typedef struct fm_shown_row {
    const char *file;
    int64_t line;
    const fm_shown_token *token; /* [n] */
    size_t n;
} fm_shown_row;
typedef void (*fm_shown_row_fn)(void *user, const fm_shown_row *row);
/* True when rows are to be read as questions and answers (template is set). */
FM_API bool fm_check_config_is_chat(const fm_check_config *c);
/* As fm_data_check for rows of stage sft; n_loss_tokens are those of answers. The first `show` rows go to `shown`. */
FM_API FM_MUST_CHECK fm_status fm_data_check_chat(fm_check_report *out, const fm_check_config *c, fm_bad_row_fn fn,
                                                  fm_shown_row_fn shown, void *user);

/* A test set drawn from rows and frozen (docs/data.md). */
typedef struct fm_freeze_options {
    size_t size;
    const char *const *input; /* [n_input] files, folders, globs */
    size_t n_input;
    const char *format;   /* NULL = by name and content */
    const char *output;   /* test set, JSONL; must not exist. OUTPUT.frozen.json is written beside it */
    const char *rest;     /* the other rows without those that ask the same, or NULL */
    const char *topic;    /* column whose values get their shares, or NULL */
    const char *question; /* column of what a row asks, NULL = the usual ones */
    int64_t rows;         /* to draw, 0 = all */
    uint64_t seed;
    const char *const *against; /* [n_against] files of rows that were learned already: what they ask is not drawn */
    size_t n_against;
} fm_freeze_options;
typedef struct fm_freeze_report {
    size_t size;
    int64_t n_rows, n_test, n_rest, n_duplicates;
    char hash[33];   /* of the test set */
    int64_t n_known; /* rows that ask what rows of `against` ask */
} fm_freeze_report;
FM_API FM_MUST_CHECK fm_status fm_data_freeze(fm_freeze_report *out, const fm_freeze_options *o);

/* Whether a row of the file (any input format) has this text in one of its columns, or as the first turn of its
 * conversation, whatever its case, blanks and punctuation. */
FM_API FM_MUST_CHECK fm_status fm_data_has_row(bool *has, const char *path, const char *text);

typedef struct fm_pack_report {
    size_t size;
    int64_t n_files, n_rows, n_bad, n_documents, n_tokens, n_bytes, n_shards, n_cut, n_split, n_dropped, n_eval_tokens,
        n_eval_bytes;
    double seconds, tokens_per_s, mb_per_s;
} fm_pack_report;
/* Resumable: finished input files are skipped when the folder holds an unfinished run of the same settings. */
FM_API FM_MUST_CHECK fm_status fm_data_pack(fm_pack_report *out, const fm_pack_config *c, fm_bad_row_fn fn, void *user);

/* ---- steps and pipelines ---- */

typedef struct fm_data_step_info {
    size_t size;
    const char *name, *help, *about, *examples;
    const char *memory; /* of steps that need the whole set: what they keep; else NULL */
} fm_data_step_info;
/* The i-th step; false behind the last. */
FM_API bool fm_data_step_at(fm_data_step_info *out, size_t i);
typedef struct fm_data_format_info {
    size_t size;
    const char *name, *suffixes, *help;
} fm_data_format_info;
/* The i-th input format. */
FM_API bool fm_data_format_at(fm_data_format_info *out, size_t i);

typedef struct fm_data_job fm_data_job;
/* A job of one step (NULL: none, rows pass as they are); its table has the options of the job and of the step. */
FM_API FM_MUST_CHECK fm_status fm_data_job_step(fm_data_job **out, const char *step);
/* A pipeline file: keys of the job, `input`, and the list `steps`. */
FM_API FM_MUST_CHECK fm_status fm_data_job_load(fm_data_job **out, const char *path);
FM_API void fm_data_job_free(fm_data_job *j);
FM_API const fm_option *fm_data_job_options(const fm_data_job *j);
FM_API void *fm_data_job_object(fm_data_job *j);

typedef struct fm_data_report {
    size_t size;
    int64_t n_files, n_rows, n_bad, n_out, n_broken_files, n_bytes;
    double seconds;
} fm_data_report;
/* Runs a job once. The manifest's JSON (fm_string_free; may be NULL when not wanted) has counts by step and reason. An
 * interrupted run of row-wise steps over files goes on where it stopped when it is started again. */
FM_API FM_MUST_CHECK fm_status fm_data_run(fm_data_report *out, char **manifest_json, fm_data_job *job);

/* A manifest as lines for people: rows in and out of each step, and why rows went (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_data_manifest_text(char **out, const char *manifest_json);

/* ---- what a dataset holds, and what changed ---- */

typedef struct fm_stats_config fm_stats_config;
FM_API const fm_option *fm_stats_options(void);
FM_API FM_MUST_CHECK fm_status fm_stats_config_new(fm_stats_config **out);
FM_API void fm_stats_config_free(fm_stats_config *c);
/* *json (fm_string_free): {files, rows, bad, text: {column, rows, bytes, characters, min, mean, median, p90, p99, max,
 * histogram: [{from, to, rows}]}, scripts: [{script, rows, letters, share}], duplicates: {by, rows, share}, columns:
 * [{name, type, missing, distinct, exact, min, max, mean}], classes: {column, values: [{value, rows}], without, ratio,
 * unbalanced}}; median and the p's are within 1%. */
FM_API FM_MUST_CHECK fm_status fm_data_stats(char **json, const fm_stats_config *c);
/* The same as lines for people (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_data_stats_text(char **out, const char *json);

typedef struct fm_diff_config {
    char *format, *key; /* key: column that names a row, or NULL: rows are compared as a whole */
    int64_t show;       /* examples of each kind of difference */
    int64_t memory;     /* for sorting */
} fm_diff_config;
FM_API const fm_option *fm_diff_options(void);
/* What changed from dataset a to b, each a file or folder; manifests are read where they are. *json (fm_string_free):
 * {a, b: {path, rows, bad, columns}, rows: {same, added, removed, changed}, columns: {added, removed}, changed_columns:
 * [{name, rows}], looked_at, examples: {...}, manifests: {...}}. */
FM_API FM_MUST_CHECK fm_status fm_data_diff(char **json, const char *a, const char *b, const fm_diff_config *c);
FM_API FM_MUST_CHECK fm_status fm_data_diff_text(char **out, const char *json);

/* ---- erasure ---- */

typedef struct fm_erase_config {
    char *column;       /* rows whose cell here is the subject, as text */
    bool anywhere;      /* also rows that name the subject in any text */
    char *subject_file; /* holds the subject, on one line; "-": stdin */
    char *subject;      /* or the subject itself */
    char *key_file;     /* of the hash that the manifest keeps */
    fm_strlist search;  /* folders where datasets and shards made from this one are looked for */
    bool dry_run;
} fm_erase_config;
FM_API const fm_option *fm_erase_options(void);
/* Rewrites the files of a dataset without the rows of one subject. *json (fm_string_free): {dataset, subject: keyed
 * hash, rows, unreadable, files: [{file, rows}], sources: [files it was made from], derived: [{path, kind, erased}]}.
 */
FM_API FM_MUST_CHECK fm_status fm_data_erase(char **json, const char *dataset, const fm_erase_config *c);
FM_API FM_MUST_CHECK fm_status fm_data_erase_text(char **out, const char *json);

/* Tokenizer training over the same kinds of input. */
typedef struct fm_tokenizer_train_config fm_tokenizer_train_config;
FM_API const fm_option *fm_tokenizer_train_options(void);
FM_API FM_MUST_CHECK fm_status fm_tokenizer_train_config_new(fm_tokenizer_train_config **out);
FM_API void fm_tokenizer_train_config_free(fm_tokenizer_train_config *c);

#define FM_TOKENIZER_REPORT_MAX 16
typedef struct fm_tokenizer_train_result {
    size_t size;
    fm_bpe_train_info info;
    int64_t n_rows, n_bad;
    int32_t vocab_size;
    /* The size report on held-out rows (option `report`). */
    int n_report;
    fm_tokenizer_report_row report[FM_TOKENIZER_REPORT_MAX];
} fm_tokenizer_train_result;
/* Trains on the input and writes tokenizer.json and tokenizer_config.json to the output folder. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_train_run(fm_tokenizer_train_result *out,
                                                      const fm_tokenizer_train_config *c, fm_bad_row_fn fn, void *user);

/* ---- n-gram language models ---- */

typedef struct fm_ngram_config fm_ngram_config;
FM_API const fm_option *fm_ngram_options(void);
FM_API FM_MUST_CHECK fm_status fm_ngram_config_new(fm_ngram_config **out);
FM_API void fm_ngram_config_free(fm_ngram_config *c);

typedef struct fm_ngram_result_order {
    int64_t n_seen, n_kept; /* different n-grams; after pruning */
    double discount[3];     /* of n-grams seen once, twice, more often */
    bool guessed;           /* too little text to compute the discounts */
} fm_ngram_result_order;
typedef struct fm_ngram_result {
    size_t size;
    int64_t n_rows, n_bad, n_lines, n_units, n_bytes; /* n_bytes: of the file */
    int order;
    fm_ngram_result_order at[8];
    int64_t n_held;            /* rows held out */
    double perplexity, median; /* of those rows together; of the median row (0 with fewer than 100) */
    double seconds;
} fm_ngram_result;
/* Trains a model with modified Kneser-Ney smoothing and writes it. */
FM_API FM_MUST_CHECK fm_status fm_ngram_run(fm_ngram_result *out, const fm_ngram_config *c, fm_bad_row_fn fn,
                                            void *user);

#ifdef __cplusplus
}
#endif
#endif
