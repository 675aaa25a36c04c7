/* Columns brought to their magnitudes: the last step of a weight-decomposed product (DoRA). The lengths that are
 * divided by are constants. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    int64_t dim = fm_last(x);
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_vector(n, 1, "magnitude", dim, 0));
    FM_TRY(fm_in_check(n, 2, "inverse", (int)fm_dtype_acc(x->dtype), 1, &dim));
    FM_TRY(fm_in_vector(n, 3, "b", dim, 0));
    n->keeps_in[0] = fm_wants(n, 1);
    n->keeps_in[1] = fm_wants(n, 0);
    n->keeps_in[3] = false;
    n->keeps_out[0] = false;
    if (fm_ctx_is_meta(c)) { /* forward will not run here: let the peak know of its temporary */
        fm_temp factor;
        FM_TRY(fm_temp_take(c, &factor, x->dtype, dim));
        fm_temp_drop(c, &factor);
    }
    return fm_make_out(c, n, x->dtype, x->n_dims, x->dim);
}

/* magnitude * inverse, rounded once. */
static fm_status factors(fm_ctx *c, const fm_node *n, fm_temp *t) {
    const fm_tensor *x = n->in[0];
    fm_dtype acc = fm_dtype_acc(x->dtype);
    FM_TRY(fm_temp_take(c, t, x->dtype, fm_last(x)));
    const void *m = fm_data(c, n->in[1]), *inverse = fm_data(c, n->in[2]);
    FM_TRY(fm_ctx_status(c));
    for (int64_t i = 0; !fm_ctx_is_meta(c) && i < fm_last(x); i++) {
        fm_store_from_f64(x->dtype, t->data, i, fm_load_as_f64(x->dtype, m, i) * fm_load_as_f64(acc, inverse, i));
    }
    return FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_temp factor;
    FM_TRY(factors(c, n, &factor));
    fm_norm_args a = {
        .n_rows = fm_rows(x),
        .dim = fm_last(x),
        .x = fm_data(c, x),
        .w = factor.data,
        .b = fm_data(c, n->in[3]),
        .y = fm_data(c, n->out[0]),
    };
    FM_TRY(fm_op_run(c, FM_K_affine_fwd, x->dtype, &a));
    fm_temp_drop(c, &factor);
    return FM_OK;
}

/* The kernel's gradient is that of the factors. */
static fm_status give_magnitude(fm_ctx *c, fm_node *n, const void *df) {
    fm_dtype acc = fm_dtype_acc(n->in[0]->dtype);
    const void *inverse = fm_data(c, n->in[2]);
    void *dm;
    bool add;
    FM_TRY(fm_dweight(c, n, 1, &dm, &add));
    FM_TRY(fm_ctx_status(c));
    for (int64_t i = 0; !fm_ctx_is_meta(c) && i < fm_last(n->in[0]); i++) {
        double g = fm_load_as_f64(acc, df, i) * fm_load_as_f64(acc, inverse, i);
        fm_store_from_f64(acc, dm, i, g + (add ? fm_load_as_f64(acc, dm, i) : 0));
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    fm_dtype acc = fm_dtype_acc(x->dtype);
    fm_temp factor, df = {0};
    fm_norm_bwd_args a = {.n_rows = fm_rows(x), .dim = fm_last(x), .x = fm_data(c, x), .dy = fm_dout(c, n, 0)};
    if (fm_wants(n, 0)) {
        FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    }
    FM_TRY(factors(c, n, &factor));
    a.w = factor.data;
    if (fm_wants(n, 1)) {
        FM_TRY(fm_temp_take(c, &df, acc, a.dim));
        FM_TRY(fm_op_zero(c, acc, a.dim, df.data));
        a.dw = df.data;
    }
    if (fm_wants(n, 3)) {
        FM_TRY(fm_dweight_add(c, n, 3, &a.db));
    }
    FM_TRY(fm_op_run(c, FM_K_affine_bwd, x->dtype, &a));
    if (fm_wants(n, 1)) {
        FM_TRY(give_magnitude(c, n, df.data));
        fm_temp_drop(c, &df);
    }
    fm_temp_drop(c, &factor);
    return FM_OK;
}

/* The harness's third input is not read: lengths are constants, the same at every call. */
static fm_tensor *lengths(fm_ctx *c, const fm_tensor *x) {
    enum { MOST = 1024 };
    static double wide[MOST];
    static float narrow[MOST];
    fm_dtype acc = fm_dtype_acc(x->dtype);
    int64_t n = fm_last(x);
    FM_ASSERT(n <= MOST);
    for (int64_t i = 0; i < n; i++) {
        narrow[i] = 0.5F + 0.125F * (float)(i % 9);
        wide[i] = (double)narrow[i];
    }
    return fm_from_memory(c, acc, 1, &n, acc == FM_F64 ? (void *)wide : (void *)narrow);
}
static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_dora_scale(c, in[0], in[1], lengths(c, in[0]), in[2]);
    return out[0] ? 1 : 0;
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_dora_scale(c, in[0], in[1], lengths(c, in[0]), NULL);
    return run(c, in, n_rows, out) && out[1] ? 2 : 0;
}
/* magnitude times the constants by a diagonal product, then the columns of x by it. */
static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    enum { D = 7 };
    static double diagonal[D * D];
    const double *inverse = fm_data(c, lengths(c, in[0]));
    for (int i = 0; inverse && i < D; i++) {
        diagonal[i * (D + 1)] = inverse[i];
    }
    fm_tensor *scaled = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){D, D}, diagonal), NULL);
    out[0] = fm_affine(c, scaled, in[1], in[2]);
    return out[0] ? 1 : 0;
}

#define X(T, D)                                                                                                        \
    { .name = "x", .n_dims = 2, .dim = {T, D}, .rows = true }
#define W(NAME, D)                                                                                                     \
    { .name = NAME, .n_dims = 1, .dim = {D}, .weight = true }
static const fm_op_case cases[] = {
    {.name = "odd",
     .n_in = 3,
     .in = {X(5, 7), W("magnitude", 7), W("b", 7)},
     .run = run,
     .decomposed = decomposed,
     .row_invariant = true},
    {.name = "no bias", .n_in = 2, .in = {X(6, 33), W("magnitude", 33)}, .run = run, .row_invariant = true},
    {.name = "twice", .n_in = 3, .in = {X(4, 12), W("magnitude", 12), W("b", 12)}, .run = run_twice},
    {.name = "large",
     .n_in = 3,
     .in = {X(131, 770), W("magnitude", 770), W("b", 770)},
     .run = run,
     .row_invariant = true},
};
#undef X
#undef W

const fm_op fm_op_dora_scale = {
    .name = "dora_scale",
    .formula = "y = x * magnitude * inverse + b, by column",
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

fm_tensor *fm_dora_scale_(fm_ctx *c, fm_tensor *x, fm_tensor *magnitude, fm_tensor *inverse, fm_tensor *b) {
    return fm_apply(c, &fm_op_dora_scale, 3, 4, (fm_tensor *[]){x, magnitude, inverse, b}, NULL, 0, NULL);
}
