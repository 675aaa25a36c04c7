/* A product added to what another one gave, in its storage: what adapters do, without a second and a third tensor of
 * the output's size. */
#include "backend/scratch.h"
#include "tensor/ops_util.h"

#define ROWS 256 /* of a product at a time where it must be rounded before it is added */

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *y = n->in[0], *x = n->in[1], *w = n->in[2];
    FM_TRY(fm_in_check(n, 0, "y", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_activation(n, 0, "y"));
    FM_TRY(fm_in_check(n, 1, "x", (int)y->dtype, 0, NULL));
    FM_TRY(fm_in_check(n, 2, "w", (int)y->dtype, 2, (int64_t[]){fm_last(y), fm_last(x)}));
    if (fm_rows(x) != fm_rows(y) || w->dim[1] < 1) {
        FM_FAIL(FM_ERR_SHAPE, "input x: expected %lld rows of at least one column, found %lld of %lld",
                (long long)fm_rows(y), (long long)fm_rows(x), (long long)w->dim[1]);
    }
    n->keeps_in[1] = fm_wants(n, 2);
    n->keeps_in[2] = fm_wants(n, 1);
    n->keeps_out[0] = false;
    return fm_node_out_inplace(c, n, 0) ? FM_OK : fm_ctx_status(c);
}

/* The product adds only into the accumulation type. */
static fm_status add_rounded(fm_ctx *c, fm_matmul_args a, fm_dtype d, uint8_t *y) {
    const fm_exec *e = fm_ctx_exec(c);
    int64_t rows = a.m;
    const uint8_t *x = a.a;
    fm_scratch_mark mark = fm_scratch_save(e->scratch);
    a.c = fm_scratch_take(e, fm_dtype_bytes(d, FM_MIN(rows, ROWS) * a.n));
    if (!a.c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %lld rows of a product", (long long)FM_MIN(rows, ROWS));
    }
    fm_status s = FM_OK;
    for (int64_t r = 0; r < rows && s == FM_OK; r += ROWS) {
        uint8_t *to = y + fm_dtype_bytes(d, r * a.n);
        a.m = FM_MIN(ROWS, rows - r);
        a.a = x + fm_dtype_bytes(d, r * a.k);
        s = fm_run(c, FM_K_matmul, d, &a);
        fm_binary_args sum = {.n = a.m * a.n, .a = to, .b = a.c, .y = to};
        s = s == FM_OK ? fm_run(c, FM_K_add, d, &sum) : s;
    }
    fm_scratch_restore(e->scratch, mark);
    return s;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[1], *w = n->in[2];
    fm_dtype d = x->dtype;
    void *y = fm_data(c, n->out[0]);
    fm_matmul_args a = {
        .m = fm_rows(x),
        .n = w->dim[0],
        .k = w->dim[1],
        .a = fm_data(c, x),
        .lda = w->dim[1],
        .b = fm_data(c, w),
        .ldb = w->dim[1],
        .trans_b = true,
        .ldc = w->dim[0],
        .c_dtype = d,
    };
    FM_TRY(fm_ctx_status(c));
    if (d != fm_dtype_acc(d)) {
        return add_rounded(c, a, d, y);
    }
    a.c = y;
    a.accumulate = true;
    return fm_run(c, FM_K_matmul, d, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    FM_TRY(fm_wants(n, 1) ? fm_linear_dx(c, n, 1, 2) : FM_OK);
    FM_TRY(fm_wants(n, 2) ? fm_linear_dw(c, n, 1, 2) : FM_OK);
    return fm_dshare(c, n, 0, 0);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_linear_add(c, in[0], in[1], in[2]);
    return out[0] ? 1 : 0;
}
/* y and x have gradients already when those of the op arrive. */
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_add(c, in[0], in[0]);
    out[2] = fm_linear(c, in[1], in[2], NULL);
    return out[1] && out[2] && run(c, in, n_rows, out) ? 3 : 0;
}
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_add(c, in[0], fm_linear(c, in[1], in[2], NULL));
    return out[0] ? 1 : 0;
}

#define IN(T, K, N)                                                                                                    \
    .n_in = 3, .in = {{.name = "y", .n_dims = 2, .dim = {T, N}, .rows = true},                                         \
                      {.name = "x", .n_dims = 2, .dim = {T, K}, .rows = true},                                         \
                      {.name = "w", .n_dims = 2, .dim = {N, K}, .scale = 0.25, .weight = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 5, 19), .run = run, .decomposed = decomposed, .row_invariant = true},
    {.name = "one row", IN(1, 3, 8), .run = run, .decomposed = decomposed},
    {.name = "twice", IN(6, 4, 9), .run = run_twice},
    {.name = "large", IN(301, 8, 130), .run = run, .row_invariant = true},
};

const fm_op fm_op_linear_add = {
    .name = "linear_add",
    .formula = "y += x w^T",
    .onnx = "Transpose, MatMul, Add",
    .kernels = {FM_K_matmul, FM_K_add, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 16,
    .tol_bwd = 12,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_linear_add_(fm_ctx *c, fm_tensor *y, fm_tensor *x, fm_tensor *w) {
    return fm_apply(c, &fm_op_linear_add, 3, 3, (fm_tensor *[]){y, x, w}, NULL, 0, NULL);
}
