/* Training objectives: what a step's samples are and how they become a loss. The loop knows samples, trained tokens and
 * loss tensors; everything else (other models, callbacks, batches of another kind) is the objective's state. An
 * objective is one file that ends in a descriptor, and one row of objectives.def. */
#ifndef FM_TRAIN_OBJECTIVE_H
#define FM_TRAIN_OBJECTIVE_H

#include "data/shards.h"
#include "fathom/option.h"
#include "model/model.h"

/* What a run gives its objective. */
typedef struct fm_objective_env {
    const fm_model *model;
    const fm_dataset *data;  /* NULL in plans */
    const fm_dataset *train; /* that the run learns from, also while `data` is evaluated */
    int32_t seq_len, vocab;  /* vocab: of the data; ids of made-up samples stay below */
    int32_t max_segments;    /* of a window of examples; made-up windows have as many. 0 = 1 */
    bool balance_labels;     /* each label counts by the inverse of its share */
    double label_smoothing, z_loss;
    double mlm_probability;         /* 0 = 0.15 */
    uint64_t seed;                  /* of the objective's own random numbers */
    const fm_json *dataset;         /* dataset.json, in plans too when there is data; or NULL */
    const fm_strlist *task_weights; /* of several tasks */
    const fm_tokenizer *tokenizer;  /* while open() runs, when needs_tokenizer; NULL in plans */
} fm_objective_env;

/* A figure of an evaluation besides the loss. */
#define FM_MAX_METRICS 128
typedef struct fm_metric_value {
    const char *name; /* "eval_accuracy" */
    double value;
} fm_metric_value;

typedef struct fm_objective {
    const char *name, *summary;
    bool needs_tokenizer;
    double rate;          /* default learning rate from given weights, 0 = that of any stage */
    const char *examples; /* its data: task of data/example_tasks.def, or NULL for windows of text */
    /* Sets what the model must be to learn a dataset of examples (its head); NULL: nothing. `dataset` is dataset.json.
     */
    FM_MUST_CHECK fm_status (*configure)(fm_model_config *mc, const fm_json *dataset);
    bool several;               /* learns the tasks of the key tasks; its metrics carry their names */
    const char *const *metrics; /* names that `metrics_of` gives, NULL-terminated; or NULL */
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
    /* NULL, or evaluation of its own in the place of `loss`: adds the loss of samples [begin, end) to *sum and counts
     * for the metrics, which metrics_of gives and begins anew. A metric named "eval_loss" replaces the mean. */
    FM_MUST_CHECK fm_status (*evaluate)(void *state, fm_ctx *c, int64_t begin, int64_t end, double *sum);
    /* `loss` leaves `scale` out and is no root that refuses another upstream gradient than 1. */
    bool scales_itself;
    int (*metrics_of)(void *state, fm_metric_value out[FM_MAX_METRICS]);
} fm_objective;

const fm_objective *fm_objective_find(const char *name); /* NULL when unknown */
void fm_objective_names(fm_str *out);

/* Weights of the n labels of a dataset, "balanced": n / (labels * count of the label), 1 on average (as scikit-learn's
 * class_weight). The label is values[column] of the examples whose values[0] is `task` (-1: all). fm_free. */
FM_MUST_CHECK fm_status fm_label_weights(float **out, const fm_dataset *d, int32_t n, int task, int32_t column);

/* Samples that are packed windows of token ids: the state most objectives share. */
typedef struct fm_windows {
    fm_objective_env env;
    int64_t n, cap;
    int32_t *ids, *pos, *targets; /* [n, seq_len] */
    int32_t *ends;                /* [n, seq_len] segment ends counted from the sample's begin */
    int32_t *n_ends;              /* [n] */
    int64_t *first, *n_trained;   /* [n] */
    int32_t *offsets;             /* [n * seq_len + 1] of the micro-batch in work */
    /* Of examples: */
    int16_t *mark;      /* [n, seq_len] */
    int64_t *document;  /* [n, seq_len] of a window's segments, -1 = padding */
    float *weight;      /* [n, seq_len] of the targets, NULL when all are 1 */
    float *mark_weight; /* [n_mark_weights] */
    int32_t n_mark_weights;
} fm_windows;
/* Any model. With marks that have weights ("mark_weights" of the dataset) only targets with a weight are trained. */
FM_MUST_CHECK fm_status fm_windows_new(fm_windows **out, const fm_objective_env *env);
/* FM_ERR_CONFIG for a model that does not predict the next token. */
FM_MUST_CHECK fm_status fm_windows_open(void **state, const fm_objective_env *env);
void fm_windows_close(void *state);
FM_MUST_CHECK fm_status fm_windows_load(void *state, fm_sampler *s, int64_t n);
int64_t fm_windows_n_trained(const void *state, int64_t begin, int64_t end);
int64_t fm_windows_row(const void *state, int64_t sample);
fm_batch fm_windows_batch(fm_windows *w, int64_t begin, int64_t end);

#endif
