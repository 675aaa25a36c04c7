/* Optimizers: state vectors beside the parameters and one pass over each parameter per step. An optimizer is one file
 * that ends in a descriptor, and one row of optimizers.def. */
#ifndef FM_TRAIN_OPTIMIZER_H
#define FM_TRAIN_OPTIMIZER_H

#include "backend/backend.h"
#include "base/str.h"
#include "tensor/param.h"

#define FM_MAX_OPT_STATES 4

typedef struct fm_optim_options {
    double beta1, beta2, epsilon, momentum, weight_decay, l1, l2;
    double muon_momentum;
    bool nesterov;
} fm_optim_options;

/* One parameter's update. decay, l1 and l2 are 0 for norms and biases. */
typedef struct fm_optim_update {
    const fm_optim_options *o;
    fm_param *p;
    void *state[FM_MAX_OPT_STATES]; /* see shape_of; NULL when p has none */
    uint16_t *w_bf16;               /* copy written in the same pass, or NULL */
    double lr, grad_scale, decay, l1, l2;
    int64_t t; /* updates so far with this one, from 1 */
} fm_optim_update;

/* Type and shape of a state; n_dims 0 = there is none. */
typedef struct fm_optim_shape {
    fm_dtype dtype;
    int n_dims;
    int64_t dim[FM_MAX_DIMS];
} fm_optim_shape;

typedef struct fm_optimizer {
    const char *name;
    const char *const *aliases;                /* NULL-terminated, or NULL */
    const char *state_name[FM_MAX_OPT_STATES]; /* as in checkpoints: "exp_avg"; NULL ends */
    /* States that these options need, at most as many as have names. */
    int (*n_states)(const fm_optim_options *o);
    /* State k of parameter p; NULL = the parameter's shape in the gradient's type, for all of them. */
    fm_optim_shape (*shape_of)(const fm_param *p, int k);
    /* Scratch memory of one update of p beyond what kernels take; NULL = none. */
    int64_t (*scratch_bytes)(const fm_param *p);
    fm_status (*update)(const fm_backend *b, const fm_exec *x, const fm_optim_update *u);
} fm_optimizer;

const fm_optimizer *fm_optimizer_find(const char *name); /* NULL when unknown */
void fm_optimizer_names(fm_str *out);

/* The shape of the parameter in the gradient's type, for optimizers that have it in some cases. */
fm_optim_shape fm_optim_shape_like(const fm_param *p);
fm_optim_shape fm_optim_state_shape(const fm_optimizer *type, const fm_param *p, int k);

/* An optimizer at work on a store. */
typedef struct fm_optim {
    const fm_optimizer *type;
    fm_optim_options o;
    fm_params *ps;
    int n_states;
    void *block; /* all states, FM_MEM_OPTIMIZER */
    size_t bytes;
    bool on_disk; /* block is fm_disk_memory: each state leaves memory after its update */
    int64_t t;    /* updates done */
} fm_optim;
FM_MUST_CHECK fm_status fm_optim_init(fm_optim *s, const fm_optimizer *type, const fm_optim_options *o, fm_params *ps);
/* The same with the states in a file at path. */
FM_MUST_CHECK fm_status fm_optim_init_on_disk(fm_optim *s, const fm_optimizer *type, const fm_optim_options *o,
                                              fm_params *ps, const char *path);
/* Moves the states of an optimizer at work there; nothing changes when it fails. */
FM_MUST_CHECK fm_status fm_optim_to_disk(fm_optim *s, const char *path);
void fm_optim_deinit(fm_optim *s);
/* Scratch that the largest single update takes. */
int64_t fm_optim_scratch_bytes(const fm_optimizer *type, const fm_params *ps);
int64_t fm_optim_bytes(const fm_optimizer *type, const fm_optim_options *o, const fm_params *ps);
/* State k of parameter p, or NULL when it has none. */
void *fm_optim_state(const fm_optim *s, const fm_param *p, int k);
/* Updates every parameter that has a gradient and marks it changed; bf16 copies are written in the same pass. */
FM_MUST_CHECK fm_status fm_optim_step(fm_optim *s, const fm_backend *b, const fm_exec *x, double lr, double grad_scale);

/* Norm of all gradients, scaled by `scale` (before clipping). *bad is the first parameter with a value that is not
 * finite, or NULL. per_param, when not NULL, gets the sum of squares of each parameter (of untied, with gradient). */
FM_MUST_CHECK fm_status fm_grad_norm(const fm_params *ps, const fm_backend *b, const fm_exec *x, double *norm,
                                     fm_param **bad, double *per_param);

#endif
