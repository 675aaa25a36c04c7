/* A training run: what it holds and the parts its files share.
 *   run.c       the loop over steps: logging, evaluation, checkpoints, stopping
 *   setup.c     model, data, plan, memory
 *   rundata.c   datasets: packed ones, or raw files packed first
 *   step.c      one optimizer step, guard, recovery from lack of memory
 *   evaluate.c  validation loss
 *   checkpoint.c, state.c   checkpoint folders and what is in them
 *   balance.c   load of experts
 *   profile.c   where the time went */
#ifndef FM_TRAIN_RUN_H
#define FM_TRAIN_RUN_H

#include "train/config.h"
#include "train/ema.h"
#include "train/guard.h"
#include "train/layer_norms.h"
#include "train/loss_scale.h"
#include "train/plan.h"

/* Everything a checkpoint keeps besides weights and optimizer vectors. */
typedef struct fm_run_state {
    int64_t step;         /* optimizer steps done, skipped ones counted */
    int64_t updates;      /* steps that changed the weights: the t of AdamW */
    int64_t n_tokens;     /* trained */
    int64_t samples_done; /* over all epochs */
    int64_t rollbacks;    /* each halves the rate */
    fm_cursor cursor;     /* next sample */
    fm_guard guard;
    fm_loss_scale loss_scale; /* of fp16; 1 without */
    double best_metric;
    int64_t best_step;      /* -1: none yet */
    int64_t bad_evals;      /* in a row without gain */
    int64_t evaluated_step; /* step of the last evaluation, -1: none */
    double eval_loss, eval_bits_per_byte;
    double last_loss; /* mean of the last log window */
    /* The open log window. */
    double log_loss_sum;
    int64_t log_tokens, log_steps;
    double elapsed_s; /* of training, earlier parts of the run included */
} fm_run_state;

typedef enum fm_phase {
    FM_PHASE_DATA,
    FM_PHASE_FORWARD,
    FM_PHASE_BACKWARD,
    FM_PHASE_OPTIMIZER,
    FM_PHASE_EVAL,
    FM_PHASE_SAVE,
    FM_PHASE_COUNT
} fm_phase;

typedef struct fm_trainer {
    const fm_train_config *cfg;
    fm_train_choice choice;
    const fm_train_sink *sinks;
    void *sink_state[8];
    bool sink_on[8];
    int n_sinks;

    fm_pool *pool;
    const fm_backend *backend;
    fm_ctx *ctx;
    fm_model *model;
    fm_params *params;            /* that are trained: the model's, or its adapter's */
    bool from_scratch, base_read; /* base_read: the frozen weights under an adapter are in memory */
    fm_dataset *data, *eval_data;
    fm_sampler sampler, eval_sampler;
    int32_t seq_len;
    char tokenizer[4096];             /* "" when there is none */
    void *objective, *eval_objective; /* states */
    fm_optim_options optim_options;
    fm_optim optim;
    fm_ema ema;                     /* decay 0: none */
    struct fm_continual *continual; /* earlier rows (continual.h), or NULL */
    int64_t more_arena, more_grads; /* what it needs of the context */
    fm_layer_norms layers;
    double learning_rate;           /* peak */
    int64_t n_steps, total_samples; /* of the whole run; total_samples INT64_MAX with max_steps */
    fm_plan_input plan_input;
    fm_mem_plan plan;
    double ceiling; /* measured best matrix rate, operations/s; 0 = not measured */

    fm_run_state st;
    int64_t resumed_step; /* 0 for a new run */
    char resumed_from[4096];
    double start_s, save_s; /* when this part of the run began; of the last checkpoint */
    int64_t start_tokens;
    int64_t whole_steps; /* n_steps, or of the run that this is a trial of */
    double phase_s[FM_PHASE_COUNT];
    int64_t saved_step; /* newest checkpoint of this part, -1: none */
    char *yaml;         /* the configuration as text */

    /* Of the last step. */
    double loss, grad_norm, lr;
    double max_violation; /* of expert load, NaN without experts */
    bool skipped;
    char skipped_rows[512]; /* where the rows of a skipped step stand */
} fm_trainer;

/* setup.c. Everything up to the first step, the state of a checkpoint included. */
FM_MUST_CHECK fm_status fm_trainer_setup(fm_trainer *r);
void fm_trainer_deinit(fm_trainer *r);
/* The context for the current plan; frees the one before. */
FM_MUST_CHECK fm_status fm_trainer_make_ctx(fm_trainer *r);
/* The model described (no memory) and what a plan is made from; used by fm_train_plan too. */
FM_MUST_CHECK fm_status fm_trainer_describe(fm_trainer *r, int32_t data_vocab);
/* Where states of the optimizer go that leave memory; its folder is made. */
FM_MUST_CHECK fm_status fm_trainer_states_path(const fm_trainer *r, char *buf, size_t cap);
FM_MUST_CHECK fm_status fm_trainer_alloc(fm_trainer *r); /* weights, copies, gradients, optimizer */

/* The state of the objective over a dataset. */
FM_MUST_CHECK fm_status fm_trainer_open_objective(fm_trainer *r, void **state, const fm_dataset *data, int32_t seq_len);

/* rundata.c */
FM_MUST_CHECK fm_status fm_trainer_open_data(fm_trainer *r);
/* Another dataset of the stage, packed into OUTPUT/cache/NAME where it is raw, with the labels of the run's own. */
FM_MUST_CHECK fm_status fm_trainer_open_more(fm_trainer *r, fm_dataset **out, const fm_strlist *list, const char *name);

/* step.c: samples [done, done+n) of the epoch order; takes r->st one step on. FM_ERR_CANCELLED leaves the state as
 * before. */
FM_MUST_CHECK fm_status fm_trainer_step(fm_trainer *r);
/* After FM_ERR_NO_MEMORY: a context for a smaller plan of the same effective batch, or the same failure when there is
 * none. */
FM_MUST_CHECK fm_status fm_trainer_recover(fm_trainer *r);

/* evaluate.c */
typedef struct fm_eval_result {
    double loss, perplexity, bits_per_byte;
    fm_metric_value metric[FM_MAX_METRICS]; /* of the stage */
    int n_metrics;
} fm_eval_result;
FM_MUST_CHECK fm_status fm_trainer_evaluate(fm_trainer *r, fm_eval_result *out);

/* checkpoint.c */
FM_MUST_CHECK fm_status fm_trainer_save(fm_trainer *r);
/* Weights, optimizer and guard of the newest good checkpoint of this run; step, data position and counts stay. *done
 * false when there is none. */
FM_MUST_CHECK fm_status fm_trainer_roll_back(fm_trainer *r, bool *done);
/* The newest good checkpoint under output_dir, or the one named; *found false when there is none. */
FM_MUST_CHECK fm_status fm_trainer_find_checkpoint(const fm_trainer *r, char *dir, size_t cap, bool *found);
FM_MUST_CHECK fm_status fm_trainer_load(fm_trainer *r, const char *dir); /* weights, optimizer, state */
FM_MUST_CHECK fm_status fm_trainer_load_weights(fm_trainer *r,
                                                const char *dir); /* weights alone, exact masters when there */
FM_MUST_CHECK fm_status fm_checkpoint_verify(const char *dir);    /* sizes and hashes */
/* Writes the model as it is into output_dir. */
FM_MUST_CHECK fm_status fm_trainer_save_final(fm_trainer *r);
/* Removes what a killed run left of checkpoints that it was writing. */
void fm_trainer_remove_partial(const fm_trainer *r);
FM_MUST_CHECK fm_status fm_trainer_list_checkpoints(const char *dir, int64_t **steps,
                                                    size_t *n); /* ascending; fm_free */

/* state.c: trainer_state.json. */
FM_MUST_CHECK fm_status fm_state_write(const fm_trainer *r, const char *path);
/* The plan kept in a checkpoint, before memory is taken: micro_batch, recompute, threads. */
typedef struct fm_kept_plan {
    int64_t micro_batch, step_samples, eval_batch, threads;
    bool recompute;
    char precision[16], kernels[64], data_hash[40];
    int64_t seq_len, seed;
    bool shuffle;
    char order[256]; /* of the data: keys of the curriculum, "" = none */
} fm_kept_plan;
/* The keys of the curriculum as one text; "" = none. */
void fm_state_order(char *out, size_t cap, const fm_train_config *c);
FM_MUST_CHECK fm_status fm_state_read(const char *path, fm_run_state *st, fm_kept_plan *plan);

/* balance.c. Loads are cleared before the passes of a step. */
void fm_trainer_clear_load(const fm_trainer *r);
/* (largest load - mean) / mean of an expert, mean over layers; NaN for a dense model. */
double fm_trainer_max_violation(const fm_trainer *r);
void fm_trainer_update_bias(fm_trainer *r); /* after an accepted step */

/* advice.c: what the run's numbers say, as messages. */
void fm_trainer_report_advice(const fm_trainer *r);

/* profile.c */
void fm_trainer_report_profile(const fm_trainer *r);
/* Adds the time since *mark to a phase and moves the mark. */
void fm_trainer_charge(fm_trainer *r, fm_phase phase, double *mark);

#endif
