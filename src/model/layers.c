/* Layers in turn, recomputed, or in place. */
#include "model/layers.h"

fm_tensor *fm_layer_in_place(fm_ctx *c, fm_checkpoint_fn fn, void *args, fm_tensor *const *in, fm_tensor *h) {
    fm_ctx_mark_t mark = fm_ctx_mark(c);
    fm_tensor *out = NULL;
    if (fn(c, args, in, &out) != FM_OK || !out) {
        return NULL;
    }
    fm_axpby_args copy = {.n = fm_numel(h), .alpha = 1, .beta = 0, .x = fm_data(c, out), .y = fm_data(c, h)};
    fm_status s = fm_run(c, FM_K_axpby, h->dtype, &copy);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    fm_touch(h);
    fm_ctx_release(c, mark);
    return h;
}

fm_tensor *fm_layers_run(fm_ctx *c, const fm_model *m, const fm_layer_run *r, fm_tensor *h) {
    for (int32_t l = 0; l < m->cfg.n_layers && h; l++) {
        fm_tensor *out = NULL;
        *r->layer = l;
        if (!fm_tape_on(c)) {
            h = fm_layer_in_place(c, r->fn, r->args, &h, h);
            continue;
        }
        fm_status s = m->checkpoint_layers
                          ? fm_checkpoint(fm_at(c, __FILE__, __LINE__), r->fn, r->args, r->args_size, 1, &h, 1, &out)
                          : r->fn(c, r->args, &h, &out);
        h = s == FM_OK ? out : NULL;
    }
    return h;
}
