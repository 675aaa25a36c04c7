/* A matrix cut into two by columns. */
#include "tensor/ops_util.h"

typedef struct attr {
    int64_t n;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0];
    int64_t first = ((const attr *)n->attr)->n;
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 2, NULL));
    if (first < 1 || first >= x->dim[1]) {
        FM_FAIL(FM_ERR_SHAPE, "options: expected to cut before column 1 to %lld, found %lld", (long long)x->dim[1] - 1,
                (long long)first);
    }
    n->keeps_in[0] = false;
    n->keeps_out[0] = n->keeps_out[1] = false;
    FM_TRY(fm_make_out(c, n, x->dtype, 2, (int64_t[]){x->dim[0], first}));
    return fm_make_out(c, n, x->dtype, 2, (int64_t[]){x->dim[0], x->dim[1] - first});
}

/* Part i of the columns between x [T,W] and the part's own matrix. */
static fm_copy_groups_args part_of(const fm_node *n, int i, bool back) {
    int64_t rows = n->in[0]->dim[0], width = n->in[0]->dim[1], own = n->out[i]->dim[1];
    return (fm_copy_groups_args){
        .n_rows = rows, .n_groups = 1, .n_cols = own, .x_row = back ? own : width, .y_row = back ? width : own};
}

static uint8_t *at_part(const fm_node *n, int i, const void *wide) {
    int64_t skip = i == 0 ? 0 : n->out[0]->dim[1];
    return wide ? (uint8_t *)wide + fm_dtype_bytes(n->in[0]->dtype, skip) : NULL;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    for (int i = 0; i < 2; i++) {
        fm_copy_groups_args a = part_of(n, i, false);
        a.x = at_part(n, i, fm_data(c, n->in[0]));
        a.y = fm_data(c, n->out[i]);
        FM_TRY(fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a));
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    fm_dwrite w = {0};
    FM_TRY(fm_dwrite_begin(c, n, 0, &w));
    if (!fm_has_dout(n, 0) || !fm_has_dout(n, 1)) {
        FM_TRY(fm_op_zero(c, n->in[0]->dtype, fm_numel(n->in[0]), w.data));
    }
    for (int i = 0; i < 2; i++) {
        if (fm_has_dout(n, i)) {
            fm_copy_groups_args a = part_of(n, i, true);
            a.x = fm_dout(c, n, i);
            a.y = at_part(n, i, w.data);
            FM_TRY(fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a));
        }
    }
    return fm_dwrite_end(c, &w);
}

static int run_at(fm_ctx *c, fm_tensor **in, fm_tensor **out, int64_t n) {
    out[0] = fm_split_cols(c, in[0], n, &out[1]);
    return out[0] && out[1] ? 2 : 0;
}
static int run_2(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_at(c, in, out, 2);
}
static int run_64(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_at(c, in, out, 64);
}
/* The second part is not used further: its gradient is zero. */
static int run_first(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *both[2];
    if (!run_2(c, in, n_rows, both)) {
        return 0;
    }
    out[0] = both[0];
    return 1;
}

#define X(...)                                                                                                         \
    { .name = "x", .n_dims = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dim = {__VA_ARGS__}, .rows = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 1, .in = {X(5, 7)}, .run = run_2, .row_invariant = true},
    {.name = "one row", .n_in = 1, .in = {X(1, 3)}, .run = run_2, .row_invariant = true},
    {.name = "large", .n_in = 1, .in = {X(33, 97)}, .run = run_64, .row_invariant = true},
    {.name = "first part only", .n_in = 1, .in = {X(5, 7)}, .run = run_first},
};
#undef X

const fm_op fm_op_split_cols = {
    .name = "split_cols",
    .formula = "a = x[:, :n], b = x[:, n:]",
    .onnx = "Split",
    .kernels = {FM_K_copy_groups, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_split_cols_(fm_ctx *c, fm_tensor *x, int64_t n, fm_tensor **rest) {
    fm_tensor *outs[2] = {0};
    attr a = {n};
    *rest = NULL;
    fm_tensor *first = fm_apply(c, &fm_op_split_cols, 1, 1, (fm_tensor *[]){x}, &a, sizeof a, outs);
    *rest = first ? outs[1] : NULL;
    return first;
}
