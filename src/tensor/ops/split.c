/* Rows cut into parts: fused query-key-value projections, and the halves of a factored head. */
#include <string.h>

#include "tensor/ops_util.h"

typedef struct attr {
    int n_parts;
    int64_t size[FM_MAX_OUT];
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    int64_t sum = 0, dim[FM_MAX_DIMS];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    for (int p = 0; p < a->n_parts; p++) {
        if (a->size[p] < 1) {
            FM_FAIL(FM_ERR_ARGUMENT, "part %d: expected at least one column, found %lld", p, (long long)a->size[p]);
        }
        sum += a->size[p];
    }
    if (sum != fm_last(x)) {
        FM_FAIL(FM_ERR_SHAPE, "input x: expected rows of %lld elements (the sum of the parts), found %lld",
                (long long)sum, (long long)fm_last(x));
    }
    n->keeps_in[0] = false;
    memcpy(dim, x->dim, sizeof dim);
    for (int p = 0; p < a->n_parts; p++) {
        n->keeps_out[p] = false;
        dim[x->n_dims - 1] = a->size[p];
        FM_TRY(fm_make_out(c, n, x->dtype, x->n_dims, dim));
    }
    return FM_OK;
}

static void *at(void *p, fm_dtype d, int64_t i) {
    return p ? (uint8_t *)p + fm_dtype_bytes(d, i) : NULL;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    int64_t begin = 0;
    for (int p = 0; p < a->n_parts; p++) {
        fm_copy_block_args b = {.n_rows = fm_rows(x),
                                .dim = a->size[p],
                                .x_stride = fm_last(x),
                                .y_stride = a->size[p],
                                .x = at(fm_data(c, x), x->dtype, begin),
                                .y = fm_data(c, n->out[p])};
        FM_TRY(fm_op_run(c, FM_K_copy_block, x->dtype, &b));
        begin += a->size[p];
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    void *dx;
    bool acc, all = true;
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    FM_TRY(fm_din(c, n, 0, &dx, &acc));
    for (int p = 0; p < a->n_parts; p++) {
        all = all && fm_has_dout(n, p);
    }
    if (!acc && !all) { /* a part that led nowhere has gradient zero */
        FM_TRY(fm_op_zero(c, x->dtype, fm_numel(x), dx));
    }
    int64_t begin = 0;
    for (int p = 0; p < a->n_parts; p++) {
        fm_copy_block_args b = {.n_rows = fm_rows(x),
                                .dim = a->size[p],
                                .x_stride = a->size[p],
                                .y_stride = fm_last(x),
                                .x = fm_dout(c, n, p),
                                .y = at(dx, x->dtype, begin),
                                .acc_y = acc};
        if (fm_has_dout(n, p)) {
            FM_TRY(fm_op_run(c, FM_K_copy_block, x->dtype, &b));
        }
        begin += a->size[p];
    }
    return FM_OK;
}

static int run_even(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    int64_t part = fm_last(in[0]) / 3;
    return fm_split_columns(c, in[0], 3, (int64_t[]){part, part, part}, out) ? 3 : 0;
}
static int run_uneven(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return fm_split_columns(c, in[0], 2, (int64_t[]){5, fm_last(in[0]) - 5}, out) ? 2 : 0;
}
/* The second part goes nowhere; x reaches the loss by another way too. */
static int run_unused(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *p[3];
    if (!fm_split_columns(c, in[0], 3, (int64_t[]){2, 4, 3}, p)) {
        return 0;
    }
    out[0] = p[0];
    out[1] = p[2];
    out[2] = fm_scale(c, in[0], 2);
    return out[2] ? 3 : 0;
}
/* Columns by a product with rows of the identity. */
static int decomposed_uneven(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double eye[8 * 8];
    for (int i = 0; i < 8; i++) {
        eye[i * 9] = 1;
    }
    out[0] = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){5, 8}, eye), NULL);
    out[1] = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){3, 8}, eye + 5 * 8), NULL);
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "three", IN(7, 21), .run = run_even, .row_invariant = true},
    {.name = "uneven", IN(6, 8), .run = run_uneven, .decomposed = decomposed_uneven, .row_invariant = true},
    {.name = "heads",
     .n_in = 1,
     .in = {{.name = "x", .n_dims = 3, .dim = {5, 4, 9}, .rows = true}},
     .run = run_even,
     .row_invariant = true},
    {.name = "unused part", IN(5, 9), .run = run_unused},
    {.name = "large", IN(67, 513), .run = run_even, .row_invariant = true},
};

const fm_op fm_op_split = {
    .name = "split",
    .formula = "y_p = columns of part p of x",
    .onnx = "Split",
    .kernels = {FM_K_copy_block, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 0,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

bool fm_split_columns_(fm_ctx *c, fm_tensor *x, int n_parts, const int64_t *size, fm_tensor **out) {
    attr a = {.n_parts = n_parts};
    FM_ASSERT(n_parts >= 1 && n_parts <= FM_MAX_OUT);
    memcpy(a.size, size, (size_t)n_parts * sizeof *size);
    fm_tensor *outs[FM_MAX_OUT] = {0};
    bool ok = fm_apply(c, &fm_op_split, 1, 1, &x, &a, sizeof a, outs) != NULL;
    for (int p = 0; p < n_parts; p++) {
        out[p] = ok ? outs[p] : NULL;
    }
    return ok;
}
