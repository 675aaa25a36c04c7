/* Heads: what stands on the hidden states of a trunk. A kind is a row of heads.def; a model has one main head, which
 * its architecture names ("...ForSequenceClassification"), and may have more, by name (several tasks on one trunk). */
#ifndef FM_MODEL_HEADS_H
#define FM_MODEL_HEADS_H

#include "base/json.h"
#include "nn/nn.h"

#define FM_MAX_HEADS     16
#define FM_MAX_HEAD_NAME 48
#define FM_MAX_LABELS    65536

/* Where a head reads, and so what a row of its scores is. */
typedef enum fm_head_kind {
    FM_HEAD_LM,   /* every token, [n,vocab] */
    FM_HEAD_NONE, /* hidden states alone */
    FM_HEAD_TEXT, /* one token stands for the text (first of an encoder, last of a decoder), [n_segments,labels] */
    FM_HEAD_TOKEN /* every token, [n_tokens,labels] */
} fm_head_kind;

/* What the scores mean, and so which loss they get. */
typedef enum fm_problem {
    FM_PROBLEM_SINGLE,    /* one label holds: cross-entropy */
    FM_PROBLEM_MULTI,     /* each label may hold: binary cross-entropy */
    FM_PROBLEM_SPAN,      /* where an answer begins and ends: cross-entropy over the tokens of the text, twice */
    FM_PROBLEM_REGRESSION /* numbers: squared error; one number is a reward (text) or a value (token) */
} fm_problem;

typedef struct fm_head_config {
    char name[FM_MAX_HEAD_NAME]; /* "" for the main head */
    fm_head_kind kind;
    fm_problem problem;
    int32_t n_labels;
} fm_head_config;

typedef struct fm_model fm_model;
struct fm_model_config;
struct fm_family;

/* A head with its weights; those it does not have are NULL. In this order: dense, activation, norm, product. */
typedef struct fm_head {
    const fm_head_config *cfg;
    fm_param *dense_w, *dense_b; /* [D,D] [D]: pooler, or transform of a masked language model */
    fm_act dense_act;
    fm_param *norm_w, *norm_b; /* [D] */
    double norm_eps;
    fm_param *w, *b;  /* [C,K] [C] */
    fm_param *side_w; /* [C,D-K]: second part of a factored product (MobileBERT), or NULL */
} fm_head;

/* Architecture names are a stem and an end that says the head: "Llama" + "ForSequenceClassification". Finds the family
 * and kind of an architecture that no family lists. False when there is none. */
bool fm_head_of_architecture(const struct fm_family **family, fm_head_kind *kind, const char *architecture);
/* The architecture that a model of this family with this head is saved as. */
FM_MUST_CHECK fm_status fm_head_architecture(char *out, size_t cap, const struct fm_family *f, const fm_head_config *h);

/* "classification", "reward" ...: rows of heads.def. */
typedef struct fm_head_row {
    const char *name;
    fm_head_kind kind;
    fm_problem problem;
    int32_t n_labels; /* fixed, or 0 */
    const char *help;
} fm_head_row;
const fm_head_row *fm_head_row_find(const char *name); /* NULL when unknown */
const fm_head_row *fm_head_row_of(const fm_head_config *h);
void fm_head_row_names(fm_str *out);

/* config.json: num_labels, id2label, problem_type of the main head, fathom_heads for the others. cfg->head.kind is
 * set. Labels: id2label of the model's json is where they live. */
FM_MUST_CHECK fm_status fm_heads_parse(struct fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_heads_write(const struct fm_model_config *cfg, fm_json *json);
FM_MUST_CHECK fm_status fm_head_check(const fm_head_config *h);

/* Adds the parameters of all heads of m->cfg. */
FM_MUST_CHECK fm_status fm_heads_build(fm_model *m);
int fm_head_find(const fm_model *m, const char *name); /* -1 when unknown; NULL or "" is the main one */

/* Loss of the ends of answers: scores [n_tokens,2], b->values [n_segments,2] the places of the first and last token
 * inside the segment, NaN = no answer asked for. Mean of both cross-entropies over the segment's tokens, summed and
 * scaled as o says. *row_loss [2 * answers]. */
fm_tensor *fm_span_loss(fm_ctx *c, fm_tensor *scores, const fm_batch *b, const fm_loss_options *o,
                        fm_tensor **row_loss);
/* Scores of a head in the accumulation type, or (FM_HEAD_NONE) the pooled text [n_segments,D]; see fm_head_kind for
 * the rows. */
fm_tensor *fm_head_scores(fm_ctx *c, const fm_model *m, int head, fm_tensor *hidden, const fm_batch *b);
/* Dense layer, activation and norm of a head, where it has them. */
fm_tensor *fm_head_transform(fm_ctx *c, const fm_head *h, fm_tensor *x);
/* Language model logits of rows x, in the accumulation type. */
fm_tensor *fm_head_logits(fm_ctx *c, const fm_model *m, fm_tensor *x);
/* x w^T + b into the accumulation type; with the tape off not rounded in between. */
fm_tensor *fm_product_wide(fm_ctx *c, fm_tensor *x, fm_param *w, fm_param *b);

#endif
