/* What the machine can do and how fast Fathom is on it.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_MEASURE_H
#define FATHOM_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One line of `fathom doctor`. */
typedef struct fm_fact {
    const char *group; /* "cpu", "memory", "disk", "libraries", "measured", "advice" */
    const char *name;  /* "kernels" */
    const char *text;  /* "avx512" */
    double value;      /* the number in it, NaN when there is none */
    const char *unit;  /* "GFLOP/s", "" */
    bool slow;         /* something here will make runs slow; text says why */
} fm_fact;
typedef void (*fm_fact_fn)(void *user, const fm_fact *f);

/* Measures for about two seconds; `dir` is where the disk is tried (NULL = "."). */
FM_API FM_MUST_CHECK fm_status fm_doctor(const char *dir, fm_fact_fn fn, void *user);

/* One line of `fathom bench`: value, and its ratio to the limit measured in the same run. */
typedef struct fm_bench_line {
    const char *name; /* "matmul.bf16.2048x512x512" */
    double value;
    const char *unit;  /* "GFLOP/s" */
    double ratio;      /* value / limit; NaN when there is none */
    const char *limit; /* what the limit is, "" */
} fm_bench_line;
typedef void (*fm_bench_fn)(void *user, const fm_bench_line *l);

typedef struct fm_bench_options {
    char *shape;     /* train: "a", "b" or a preset name */
    char *dtype;     /* "bf16", "f32" or "all" */
    double seconds;  /* of each measurement */
    char *model;     /* decode, prefill, serve: a model folder; NULL = random weights of --shape */
    char *input;     /* tokenizer, data: a text file; NULL = bundled-like made-up text */
    char *tokenizer; /* tokenizer: a folder to encode with; NULL = one trained on the input */
    int64_t threads; /* 0 = all */
    int64_t vocab_size;
    int64_t rows;  /* eval: to answer; 0 = 500 */
    int64_t check; /* serve: mixes whose logits are compared with those alone, instead of speed; 0 = none */
    bool coverage; /* ops: print op x dtype x ISA instead */
} fm_bench_options;
FM_API const fm_option *fm_bench_option_table(void);
FM_API int fm_bench_count(void);
FM_API const char *fm_bench_name(int i);    /* "matmul" */
FM_API const char *fm_bench_summary(int i); /* one line */
FM_API FM_MUST_CHECK fm_status fm_bench_run(const char *name, const fm_bench_options *o, fm_bench_fn fn, void *user);
/* Table op x dtype x instruction set as text (fm_string_free). FM_ERR_STATE when a cell without a stated reason is
 * empty; the text is given too. */
FM_API FM_MUST_CHECK fm_status fm_bench_coverage(char **text);

#ifdef __cplusplus
}
#endif
#endif
