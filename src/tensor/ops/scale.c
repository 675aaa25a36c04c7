/* Multiplication by a number. */
#include "tensor/ops_util.h"

typedef struct attr {
    double alpha;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    n->keeps_in[0] = n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_axpby_args a = {
        .n = fm_numel(n->in[0]),
        .alpha = ((const attr *)n->attr)->alpha,
        .x = fm_data(c, n->in[0]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_axpby, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    bool acc;
    fm_axpby_args a = {.n = fm_numel(n->in[0]), .alpha = ((const attr *)n->attr)->alpha, .x = fm_dout(c, n, 0)};
    FM_TRY(fm_dmove(c, n, 0, 0, &a.y, &acc));
    a.beta = acc ? 1 : 0;
    return fm_op_run(c, FM_K_axpby, n->in[0]->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_scale(c, in[0], -0.37);
    return out[0] ? 1 : 0;
}
static int run_three(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_scale(c, in[0], 3);
    out[1] = fm_scale(c, in[0], 0);
    return out[0] && out[1] ? 2 : 0;
}
static int decomposed_three(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add(c, fm_add(c, in[0], in[0]), in[0]);
    out[1] = fm_add(c, in[0], fm_scale(c, in[0], -1));
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .row_invariant = true},
    {.name = "twice", IN(5, 9), .run = run_three, .decomposed = decomposed_three},
    {.name = "large", IN(67, 515), .run = run, .row_invariant = true},
};

const fm_op fm_op_scale = {
    .name = "scale",
    .formula = "y = alpha x",
    .onnx = "Mul",
    .kernels = {FM_K_axpby, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 2,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_scale_(fm_ctx *c, fm_tensor *x, double alpha) {
    attr a = {.alpha = alpha};
    return fm_apply(c, &fm_op_scale, 1, 1, &x, &a, sizeof a, NULL);
}
