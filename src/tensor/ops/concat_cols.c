/* Two matrices side by side. */
#include "tensor/ops_util.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *a = n->in[0], *b = n->in[1];
    FM_TRY(fm_in_check(n, 0, "a", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_check(n, 1, "b", (int)a->dtype, 2, (int64_t[]){a->dim[0], -1}));
    n->keeps_in[0] = n->keeps_in[1] = n->keeps_out[0] = false;
    return fm_make_out(c, n, a->dtype, 2, (int64_t[]){a->dim[0], a->dim[1] + b->dim[1]});
}

/* Input i between its own matrix and its columns of the wide one. */
static fm_copy_groups_args part_of(const fm_node *n, int i, bool back) {
    int64_t width = n->out[0]->dim[1], own = n->in[i]->dim[1];
    return (fm_copy_groups_args){.n_rows = n->in[i]->dim[0],
                                 .n_groups = 1,
                                 .n_cols = own,
                                 .x_row = back ? width : own,
                                 .y_row = back ? own : width};
}

static uint8_t *at_part(const fm_node *n, int i, const void *wide) {
    int64_t skip = i == 0 ? 0 : n->in[0]->dim[1];
    return wide ? (uint8_t *)wide + fm_dtype_bytes(n->in[0]->dtype, skip) : NULL;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    for (int i = 0; i < 2; i++) {
        fm_copy_groups_args a = part_of(n, i, false);
        a.x = fm_data(c, n->in[i]);
        a.y = at_part(n, i, fm_data(c, n->out[0]));
        FM_TRY(fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a));
    }
    return FM_OK;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    for (int i = 0; i < 2; i++) {
        if (!fm_wants(n, i)) {
            continue;
        }
        fm_dwrite w;
        FM_TRY(fm_dwrite_begin(c, n, i, &w));
        fm_copy_groups_args a = part_of(n, i, true);
        a.x = at_part(n, i, fm_dout(c, n, 0));
        a.y = w.data;
        FM_TRY(fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a));
        FM_TRY(fm_dwrite_end(c, &w));
    }
    return FM_OK;
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_concat_cols(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}
/* Both halves are one tensor, which has another gradient too. */
static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_concat_cols(c, in[0], in[0]);
    out[1] = fm_scale(c, in[0], 2);
    return out[0] && out[1] ? 2 : 0;
}
/* Cut again. */
static int run_cut(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    int64_t size[] = {fm_last(in[0]), fm_last(in[1])};
    return fm_split_columns(c, fm_concat_cols(c, in[0], in[1]), 2, size, out) ? 2 : 0;
}
static int decomposed_cut(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_scale(c, in[0], 1);
    out[1] = fm_scale(c, in[1], 1);
    return out[0] && out[1] ? 2 : 0;
}

#define IN(T, A, B)                                                                                                    \
    .n_in = 2, .in = {{.name = "a", .n_dims = 2, .dim = {T, A}, .rows = true},                                         \
                      {.name = "b", .n_dims = 2, .dim = {T, B}, .rows = true}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 5, 3), .run = run, .row_invariant = true},
    {.name = "same", .n_in = 1, .in = {{.name = "a", .n_dims = 2, .dim = {6, 9}, .rows = true}}, .run = run_same},
    {.name = "cut again", IN(5, 4, 6), .run = run_cut, .decomposed = decomposed_cut},
    {.name = "large", IN(130, 259, 70), .run = run, .row_invariant = true},
};

const fm_op fm_op_concat_cols = {
    .name = "concat_cols",
    .formula = "y = [a, b]",
    .onnx = "Concat",
    .kernels = {FM_K_copy_groups, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_bwd = 1, /* a tensor that is both halves gets a sum */
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_concat_cols_(fm_ctx *c, fm_tensor *a, fm_tensor *b) {
    return fm_apply(c, &fm_op_concat_cols, 2, 2, (fm_tensor *[]){a, b}, NULL, 0, NULL);
}
