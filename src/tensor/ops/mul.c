/* Product of two tensors of one shape, element by element. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *a = n->in[0];
    FM_TRY(fm_in_check(n, 0, "a", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_like(n, 1, "b", 0));
    n->keeps_in[0] = fm_wants(n, 1);
    n->keeps_in[1] = fm_wants(n, 0);
    n->keeps_out[0] = false;
    return fm_make_out(c, n, a->dtype, a->n_dims, a->dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_binary_args a = {
        .n = fm_numel(n->in[0]),
        .a = fm_data(c, n->in[0]),
        .b = fm_data(c, n->in[1]),
        .y = fm_data(c, n->out[0]),
    };
    return fm_op_run(c, FM_K_mul, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    for (int i = 0; i < 2; i++) {
        if (!fm_wants(n, i)) {
            continue;
        }
        fm_dwrite w;
        fm_binary_args a = {.n = fm_numel(n->in[i]), .a = fm_dout(c, n, 0), .b = fm_data(c, n->in[1 - i])};
        /* The last gradient formed may take over dout's buffer: the kernel allows y to be a. */
        if (i == 1 || !fm_wants(n, 1)) {
            FM_TRY(fm_dwrite_begin_move(c, n, 0, i, &w));
        } else {
            FM_TRY(fm_dwrite_begin(c, n, i, &w));
        }
        a.y = w.data;
        FM_TRY(fm_op_run(c, FM_K_mul, n->in[i]->dtype, &a));
        FM_TRY(fm_dwrite_end(c, &w));
    }
    return FM_OK;
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_mul(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}
static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_mul(c, in[0], in[0]);
    return out[0] ? 1 : 0;
}
static int run_cube(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_mul(c, fm_mul(c, in[0], in[0]), in[0]);
    return out[0] ? 1 : 0;
}
/* relu2(x) + relu2(-x) = x^2. */
static int decomposed_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *p = fm_activation(c, in[0], FM_ACT_RELU2);
    out[0] = fm_add(c, p, fm_activation(c, fm_scale(c, in[0], -1), FM_ACT_RELU2));
    return out[0] ? 1 : 0;
}

#define IN(T, D)                                                                                                       \
    .n_in = 2, .in = {{.name = "a", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "b", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19), .run = run, .row_invariant = true},
    {.name = "same tensor", IN(5, 9), .run = run_same, .decomposed = decomposed_same, .row_invariant = true},
    {.name = "cube", IN(5, 9), .run = run_cube},
    {.name = "no gradient of b",
     .n_in = 2,
     .in = {{.name = "a", .n_dims = 1, .dim = {9}}, {.name = "b", .n_dims = 1, .dim = {9}, .no_grad = true}},
     .run = run},
    {.name = "large", IN(67, 515), .run = run, .row_invariant = true},
};

const fm_op fm_op_mul = {
    .name = "mul",
    .formula = "y = a * b",
    .onnx = "Mul",
    .kernels = {FM_K_mul, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 1,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_mul_(fm_ctx *c, fm_tensor *a, fm_tensor *b) {
    return fm_apply(c, &fm_op_mul, 2, 2, (fm_tensor *[]){a, b}, NULL, 0, NULL);
}
