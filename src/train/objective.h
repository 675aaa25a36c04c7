/* Training objectives: what a step's samples are and how they become a loss. The loop knows samples, trained tokens and
 * loss tensors; everything else (other models, callbacks, batches of another kind) is the objective's state. An
 * objective is one file that ends in a descriptor, and one row of objectives.def. */
#ifndef FM_TRAIN_OBJECTIVE_H
#define FM_TRAIN_OBJECTIVE_H

#include "data/shards.h"
#include "model/model.h"

/* What a run gives its objective. */
typedef struct fm_objective_env {
    const fm_model *model;
    int32_t seq_len, vocab; /* vocab: of the data; ids of made-up samples stay below */
    double label_smoothing, z_loss;
    double mlm_probability;        /* 0 = 0.15 */
    uint64_t seed;                 /* of the objective's own random numbers */
    const fm_tokenizer *tokenizer; /* while open() runs, when needs_tokenizer; NULL in plans */
} fm_objective_env;

typedef struct fm_objective {
    const char *name, *summary;
    bool needs_tokenizer;
    FM_MUST_CHECK fm_status (*open)(void **state, const fm_objective_env *env);
    void (*close)(void *state);
    /* Takes the samples of one optimizer step, n in all, from the sampler, or made-up ones when it is NULL (planning,
     * calibration). They stay until the next call, so that a step can be run again with other micro-batches. */
    FM_MUST_CHECK fm_status (*load)(void *state, fm_sampler *s, int64_t n);
    /* Trained tokens of samples [begin, end): the loss of a step is the sum over them divided by their number. */
    int64_t (*n_trained)(const void *state, int64_t begin, int64_t end);
    /* First token in the dataset of a sample, to name the rows of a bad step. */
    int64_t (*row)(const void *state, int64_t sample);
    /* Loss of samples [begin, end): scale * sum over trained tokens, one element in the accumulation type; it is the
     * root of the backward pass when the tape is on. *token_loss [tokens], in order, is for evaluation. */
    fm_tensor *(*loss)(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss);
} fm_objective;

const fm_objective *fm_objective_find(const char *name); /* NULL when unknown */
void fm_objective_names(fm_str *out);

/* Samples that are packed windows of token ids: the state most objectives share. */
typedef struct fm_windows {
    fm_objective_env env;
    int64_t n, cap;
    int32_t *ids, *pos, *targets; /* [n, seq_len] */
    int32_t *ends;                /* [n, seq_len] segment ends counted from the sample's begin */
    int32_t *n_ends;              /* [n] */
    int64_t *first, *n_trained;   /* [n] */
    int32_t *offsets;             /* [n * seq_len + 1] of the micro-batch in work */
} fm_windows;
/* FM_ERR_CONFIG for a model that does not predict the next token. */
FM_MUST_CHECK fm_status fm_windows_open(void **state, const fm_objective_env *env);
void fm_windows_close(void *state);
FM_MUST_CHECK fm_status fm_windows_load(void *state, fm_sampler *s, int64_t n);
int64_t fm_windows_n_trained(const void *state, int64_t begin, int64_t end);
int64_t fm_windows_row(const void *state, int64_t sample);
fm_batch fm_windows_batch(fm_windows *w, int64_t begin, int64_t end);

#endif
