/* Runs the layers of a trunk one after another; for the files of src/model only. */
#ifndef FM_MODEL_LAYERS_H
#define FM_MODEL_LAYERS_H

#include "model/model.h"

/* A layer is a function of one tensor [T,D] to one of the same shape: fn(c, args, &h, &out). args_size bytes of args
 * are copied into the tape when layers are recomputed; `layer` points into args and is set before each call. */
typedef struct fm_layer_run {
    fm_checkpoint_fn fn;
    void *args;
    size_t args_size;
    int32_t *layer;
} fm_layer_run;

/* fn(c, args, in, &out) and its result copied over h, of the same shape; its temporaries are dropped. Tape off. */
fm_tensor *fm_layer_in_place(fm_ctx *c, fm_checkpoint_fn fn, void *args, fm_tensor *const *in, fm_tensor *h);

/* Tape on: in turn, or with m->checkpoint_layers recomputed in backward, so that [T,D] is all that stays of a layer.
 * Tape off: each result is copied over its input and the layer's temporaries are dropped. */
fm_tensor *fm_layers_run(fm_ctx *c, const fm_model *m, const fm_layer_run *r, fm_tensor *h);

#endif
