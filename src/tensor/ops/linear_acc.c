/* Matrix product in the accumulation type: x is widened, the sums are not rounded. For routers, whose small differences
 * decide which experts a token reaches. */
#include "tensor/ops_util.h"

static bool widens(const fm_node *n) {
    return n->in[0]->dtype != n->in[1]->dtype;
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 2, NULL));
    fm_dtype acc = fm_dtype_acc(x->dtype);
    FM_TRY(fm_in_check(n, 1, "w", (int)acc, 2, (int64_t[]){-1, x->dim[1]}));
    n->keeps_in[0] = fm_wants(n, 1);
    n->keeps_in[1] = fm_wants(n, 0);
    n->keeps_out[0] = false;
    if (fm_ctx_is_meta(c) && widens(n)) { /* forward will not run here: let the peak know of its temporary */
        fm_temp wide;
        FM_TRY(fm_temp_take(c, &wide, acc, fm_numel(x)));
        fm_temp_drop(c, &wide);
    }
    return fm_make_out(c, n, acc, 2, (int64_t[]){x->dim[0], w->dim[0]});
}

/* x in the type of w; *t holds it when it is not x itself. */
static fm_status widen(fm_ctx *c, const fm_node *n, fm_temp *t, const void **out) {
    const fm_tensor *x = n->in[0];
    *t = (fm_temp){0};
    *out = fm_data(c, x);
    if (!widens(n)) {
        return FM_OK;
    }
    FM_TRY(fm_temp_take(c, t, n->in[1]->dtype, fm_numel(x)));
    fm_cast_args a = {.n = fm_numel(x), .to = n->in[1]->dtype, .x = *out, .y = t->data};
    *out = t->data;
    return fm_op_run(c, FM_K_cast, x->dtype, &a);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    fm_temp wide;
    fm_matmul_args a = {
        .m = x->dim[0],
        .n = w->dim[0],
        .k = x->dim[1],
        .lda = x->dim[1],
        .b = fm_data(c, w),
        .ldb = x->dim[1],
        .trans_b = true,
        .c = fm_data(c, n->out[0]),
        .ldc = w->dim[0],
        .c_dtype = w->dtype,
    };
    FM_TRY(widen(c, n, &wide, &a.a));
    FM_TRY(fm_op_run(c, FM_K_matmul, w->dtype, &a));
    fm_temp_drop(c, &wide);
    return FM_OK;
}

static fm_status backward_x(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    fm_temp wide = {0};
    void *dx;
    bool acc;
    FM_TRY(fm_din(c, n, 0, &dx, &acc));
    fm_matmul_args a = {
        .m = x->dim[0],
        .n = x->dim[1],
        .k = w->dim[0],
        .a = fm_dout(c, n, 0),
        .lda = w->dim[0],
        .b = fm_data(c, w),
        .ldb = x->dim[1],
        .c = dx,
        .ldc = x->dim[1],
        .c_dtype = w->dtype,
        .accumulate = acc,
    };
    if (widens(n)) {
        FM_TRY(fm_temp_take(c, &wide, w->dtype, fm_numel(x)));
        a.c = wide.data;
        a.accumulate = false;
    }
    FM_TRY(fm_op_run(c, FM_K_matmul, w->dtype, &a));
    if (widens(n)) {
        fm_cast_args k = {.n = fm_numel(x), .to = x->dtype, .x = wide.data, .y = dx, .acc_y = acc};
        FM_TRY(fm_op_run(c, FM_K_cast, w->dtype, &k));
        fm_temp_drop(c, &wide);
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    if (fm_wants(n, 0)) {
        FM_TRY(backward_x(c, n));
    }
    if (!fm_wants(n, 1)) {
        return FM_OK;
    }
    fm_temp wide;
    fm_matmul_args a = {
        .m = w->dim[0],
        .n = x->dim[1],
        .k = x->dim[0],
        .a = fm_dout(c, n, 0),
        .lda = w->dim[0],
        .trans_a = true,
        .ldb = x->dim[1],
        .ldc = x->dim[1],
        .c_dtype = w->dtype,
    };
    FM_TRY(widen(c, n, &wide, &a.b));
    if (x->dim[0] == 0) {
        FM_TRY(fm_dweight_add(c, n, 1, &a.c));
    } else {
        FM_TRY(fm_dweight(c, n, 1, &a.c, &a.accumulate));
        FM_TRY(fm_op_run(c, FM_K_matmul, w->dtype, &a));
    }
    fm_temp_drop(c, &wide);
    return FM_OK;
}

static fm_tensor *wide_product(fm_ctx *c, fm_tensor **in) {
    return fm_linear_acc(c, in[0], fm_cast(c, in[1], fm_dtype_acc(in[0]->dtype)));
}
static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = wide_product(c, in);
    return out[0] ? 1 : 0;
}
/* Gradients that are added. */
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = wide_product(c, in);
    out[1] = wide_product(c, in);
    out[2] = fm_scale(c, in[0], 2);
    return out[0] && out[1] && out[2] ? 3 : 0;
}
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_linear(c, fm_cast(c, in[0], fm_dtype_acc(in[0]->dtype)), in[1], NULL);
    return out[0] ? 1 : 0;
}

#define IN(T, D, E)                                                                                                    \
    .n_in = 2, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "w", .n_dims = 2, .dim = {E, D}, .scale = 0.25}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 19, 5), .run = run, .decomposed = decomposed, .row_invariant = true},
    {.name = "one expert", IN(4, 9, 1), .run = run, .decomposed = decomposed, .row_invariant = true},
    {.name = "twice", IN(5, 8, 6), .run = run_twice},
    {.name = "large", IN(67, 515, 64), .run = run, .row_invariant = true},
};

const fm_op fm_op_linear_acc = {
    .name = "linear_acc",
    .formula = "y = x w^T, not rounded",
    .onnx = "Cast, Transpose, MatMul",
    .kernels = {FM_K_matmul, FM_K_cast, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 16,
    .tol_bwd = 12,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_linear_acc_(fm_ctx *c, fm_tensor *x, fm_tensor *w) {
    fm_tensor *y = fm_apply(c, &fm_op_linear_acc, 2, 2, (fm_tensor *[]){x, w}, NULL, 0, NULL);
    const fm_lora *l = w && w->param ? w->param->lora : NULL;
    if (!l || !y) {
        return y;
    }
    fm_tensor *low = l->dropout > 0 ? fm_dropout(c, x, l->dropout, l->stream) : x;
    low = fm_apply(c, &fm_op_linear_acc, 2, 2, (fm_tensor *[]){low, fm_leaf_as(c, l->a, w->dtype)}, NULL, 0, NULL);
    low = fm_scale(c, low, (double)l->scale);
    return fm_add(c, y, fm_linear(c, low, fm_leaf_as(c, l->b, w->dtype), NULL));
}
