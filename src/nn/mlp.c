/* Gated feed-forward layer (Shazeer 2020). */
#include "nn/nn.h"

fm_tensor *fm_gated_mlp_forward(fm_ctx *c, const fm_gated_mlp *m, fm_tensor *x) {
    fm_tensor *gate = fm_linear(c, x, fm_leaf(c, m->gate_w), fm_leaf_or_null(c, m->gate_b));
    fm_tensor *up = fm_linear(c, x, fm_leaf(c, m->up_w), fm_leaf_or_null(c, m->up_b));
    return fm_linear(c, fm_glu(c, gate, up, m->act), fm_leaf(c, m->down_w), fm_leaf_or_null(c, m->down_b));
}
