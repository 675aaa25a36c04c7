/* Affine map of columns: what MobileBERT has in the place of norms (NoNorm; Sun et al. 2020). */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_vector(n, 1, "w", fm_last(x), 0));
    FM_TRY(fm_in_vector(n, 2, "b", fm_last(x), 0));
    n->keeps_in[0] = fm_wants(n, 1);
    n->keeps_in[1] = fm_wants(n, 0);
    n->keeps_in[2] = false;
    n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .b = fm_data(c, n->in[2]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_affine_fwd, x->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_norm_bwd_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .x = fm_data(c, x),
        .w = fm_data(c, n->in[1]),
        .dy = fm_dout(c, n, 0),
    };
    if (fm_wants(n, 0)) {
        FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    }
    if (fm_wants(n, 1)) {
        FM_TRY(fm_dweight_add(c, n, 1, &a.dw));
    }
    if (fm_wants(n, 2)) {
        FM_TRY(fm_dweight_add(c, n, 2, &a.db));
    }
    return fm_op_run(c, FM_K_affine_bwd, x->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_affine(c, in[0], in[1], in[2]);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_affine(c, in[0], in[1], NULL);
    return run(c, in, n_rows, out) && out[1] ? 2 : 0;
}
/* With w = 1 it is a product with the identity and a bias. */
#define EYE_D 11
static int decomposed_ones(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double eye[EYE_D * EYE_D];
    for (int i = 0; i < EYE_D; i++) {
        eye[i * (EYE_D + 1)] = 1;
    }
    out[0] = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){EYE_D, EYE_D}, eye), in[1]);
    return out[0] ? 1 : 0;
}
static int run_ones(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_affine(c, in[0], NULL, in[1]);
    return out[0] ? 1 : 0;
}

#define X(T, D)                                                                                                        \
    { .name = "x", .n_dims = 2, .dim = {T, D}, .rows = true }
#define W(D)                                                                                                           \
    { .name = "w", .n_dims = 1, .dim = {D}, .weight = true }
#define B(D)                                                                                                           \
    { .name = "b", .n_dims = 1, .dim = {D}, .weight = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 3, .in = {X(5, 7), W(7), B(7)}, .run = run, .row_invariant = true},
    {.name = "no bias", .n_in = 2, .in = {X(6, 33), W(33)}, .run = run, .row_invariant = true},
    {.name = "bias alone",
     .n_in = 2,
     .in = {X(7, EYE_D), B(EYE_D)},
     .run = run_ones,
     .decomposed = decomposed_ones,
     .row_invariant = true},
    {.name = "twice", .n_in = 3, .in = {X(4, 12), W(12), B(12)}, .run = run_twice},
    {.name = "large", .n_in = 3, .in = {X(131, 770), W(770), B(770)}, .run = run, .row_invariant = true},
};
#undef X
#undef W
#undef B

const fm_op fm_op_affine = {
    .name = "affine",
    .formula = "y = x * w + b, w and b by column",
    .onnx = "Mul, Add",
    .kernels = {FM_K_affine_fwd, FM_K_affine_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 2,
    .tol_bwd = 6,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_affine_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b) {
    return fm_apply(c, &fm_op_affine, 1, 3, (fm_tensor *[]){x, w, b}, NULL, 0, NULL);
}
