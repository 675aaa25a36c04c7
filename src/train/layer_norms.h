/* Gradient norm of each layer: which part of the model a large gradient comes from. */
#ifndef FM_TRAIN_LAYER_NORMS_H
#define FM_TRAIN_LAYER_NORMS_H

#include "tensor/param.h"

typedef struct fm_layer_norms {
    int n_params, n_layers; /* groups: layers 0 .. n_layers-1, then all parameters outside layers */
    int *group;             /* [n_params] */
    double *sum;            /* [n_params] sums of squares, as fm_grad_norm fills them */
    double *norm;           /* [n_layers + 1] */
} fm_layer_norms;

/* The layer that a parameter belongs to, by the number after "layers.", "layer." or ".h." in its name; -1: none. */
int fm_layer_of(const char *name);
/* Groups by the number after ".layers." in the parameter's name. */
FM_MUST_CHECK fm_status fm_layer_norms_init(fm_layer_norms *l, const fm_params *ps);
void fm_layer_norms_deinit(fm_layer_norms *l);
void fm_layer_norms_update(fm_layer_norms *l); /* norm from sum */

#endif
