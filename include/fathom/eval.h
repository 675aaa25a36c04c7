/* Metrics over pairs of texts.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_EVAL_H
#define FATHOM_EVAL_H

#include "fathom/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a text is cut before it is compared. */
typedef enum fm_cut {
    FM_CUT_DEFAULT, /* the metric's own: 13a for BLEU, word for ROUGE, none for the rest */
    FM_CUT_NONE,    /* at white space */
    FM_CUT_13A,     /* mteval-v13a, as sacrebleu */
    FM_CUT_INTL,    /* mteval-v14 international, as sacrebleu */
    FM_CUT_ZH,      /* sacrebleu's zh */
    FM_CUT_CHAR,    /* every character that is not a blank */
    FM_CUT_WORD,    /* runs of a-z and 0-9 of the lower-cased text, as rouge-score */
    FM_CUT_MIXED    /* as word, and each other letter or digit (Chinese) by itself */
} fm_cut;
FM_API const char *fm_cut_name(fm_cut c);
FM_API bool fm_cut_parse(fm_cut *out, const char *name);

typedef enum fm_bleu_smooth { FM_SMOOTH_EXP, FM_SMOOTH_FLOOR, FM_SMOOTH_ADD_K, FM_SMOOTH_NONE } fm_bleu_smooth;

typedef struct fm_score_options {
    size_t size; /* sizeof(fm_score_options) */
    fm_cut cut;
    bool lowercase;        /* before cutting */
    fm_bleu_smooth smooth; /* BLEU */
    double smooth_value;   /* floor 0.1, add-k 1; 0 = that default */
    bool effective_order;  /* BLEU: orders longer than the text do not count */
    bool normalize;        /* em, f1: lower case, no punctuation, no articles (SQuAD) */
} fm_score_options;

/* Rows to compare: hyp[i] against ref[r * n + i], r < n_refs. */
typedef struct fm_score_rows {
    size_t n, n_refs;
    const fm_text *hyp, *ref;
} fm_score_rows;

typedef struct fm_score_part {
    char name[64]; /* "precision_1", "macro_f1", "f1:label" ... */
    double value;
} fm_score_part;

typedef struct fm_score {
    double value;        /* the headline figure */
    char signature[160]; /* everything that another program needs to compute the same */
    fm_score_part *part; /* [n_parts] (fm_score_deinit) */
    size_t n_parts;
    char **label;       /* accuracy, entity, multilabel: [n_labels] sorted; else NULL */
    int64_t *confusion; /* accuracy: [n_labels,n_labels] rows: reference, columns: hypothesis */
    size_t n_labels;
} fm_score;

/* One metric by name: "bleu", "rouge", "em", "f1", "accuracy", "entity", "multilabel", "regression". Unknown names are
 * FM_ERR_ARGUMENT with the nearest.
 *
 * bleu: corpus BLEU-4 (Papineni et al. 2002), equal to sacrebleu's. rouge: mean over rows of rouge1, rouge2, rougeL,
 * rougeLsum, precision, recall and F each (Lin 2004), equal to rouge-score without stemming; value is rougeL's F.
 * em and f1: share of rows that equal a reference; overlap of tokens (Rajpurkar et al. 2016), the best reference
 * counts. accuracy: rows are labels; precision, recall and F1 of each, macro, micro, weighted, balanced accuracy,
 * Matthews' correlation, kappa, as scikit-learn with zero_division 0. entity: rows are tags of tokens (B-X I-X O),
 * as seqeval; value is micro F1. multilabel: rows are labels separated by commas; value is micro F1. regression: rows
 * are numbers; value is the root of the mean squared error. All shares are 0..1 but BLEU, 0..100. */
FM_API FM_MUST_CHECK fm_status fm_score_run(fm_score *out, const char *metric, const fm_score_rows *rows,
                                            const fm_score_options *opt);
FM_API void fm_score_deinit(fm_score *s);
/* Value of a part, NaN when there is none of that name. */
FM_API double fm_score_get(const fm_score *s, const char *name);
/* Names and one-line descriptions; NULL past the end. */
FM_API const char *fm_metric_name(int i, const char **help);

#ifdef __cplusplus
}
#endif
#endif
