/* Keys and values of latent attention from their expanded form and the shared rotated part. */
#include "tensor/ops_util.h"

typedef struct attr {
    int32_t n_heads, nope;
} attr;

typedef struct sizes {
    int64_t rows, heads, nope, rope, v;
} sizes;

static sizes sizes_of(const fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *kv = n->in[0], *pe = n->in[1];
    return (sizes){kv->dim[0], a->n_heads, a->nope, pe->dim[1], kv->dim[1] / a->n_heads - a->nope};
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *kv = n->in[0];
    FM_TRY(fm_in_check(n, 0, "kv", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_check(n, 1, "pe", (int)kv->dtype, 2, (int64_t[]){kv->dim[0], -1}));
    if (a->n_heads < 1 || a->nope < 1 || kv->dim[1] % a->n_heads != 0 || kv->dim[1] / a->n_heads <= a->nope) {
        FM_FAIL(FM_ERR_SHAPE, "options: %lld columns are not %d heads of %d for the key and some for the value",
                (long long)kv->dim[1], (int)a->n_heads, (int)a->nope);
    }
    sizes z = sizes_of(n);
    n->keeps_in[0] = n->keeps_in[1] = false;
    n->keeps_out[0] = n->keeps_out[1] = false;
    FM_TRY(fm_make_out(c, n, kv->dtype, 3, (int64_t[]){z.rows, z.heads, z.nope + z.rope}));
    return fm_make_out(c, n, kv->dtype, 3, (int64_t[]){z.rows, z.heads, z.v});
}

/* What moves between kv, pe and the keys, the values. */
typedef enum piece { KEY, SHARED, VALUE } piece;

static fm_copy_groups_args args_of(const fm_node *n, piece p, bool back) {
    sizes z = sizes_of(n);
    int64_t in_width = z.nope + z.v, key_width = z.nope + z.rope;
    fm_copy_groups_args a = {.n_rows = z.rows, .n_groups = z.heads};
    int64_t row[2], group[2]; /* of the input's side, of the output's */
    row[0] = p == SHARED ? z.rope : z.heads * in_width;
    group[0] = p == SHARED ? 0 : in_width;
    row[1] = z.heads * (p == VALUE ? z.v : key_width);
    group[1] = p == VALUE ? z.v : key_width;
    a.n_cols = p == KEY ? z.nope : p == SHARED ? z.rope : z.v;
    a.x_row = row[back];
    a.x_group = group[back];
    a.y_row = row[!back];
    a.y_group = group[!back];
    a.sum = back && p == SHARED;
    return a;
}

static uint8_t *at(const fm_node *n, const void *base, int64_t elements) {
    return base ? (uint8_t *)base + fm_dtype_bytes(n->in[0]->dtype, elements) : NULL;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    int64_t nope = sizes_of(n).nope;
    void *kv = fm_data(c, n->in[0]), *pe = fm_data(c, n->in[1]);
    void *keys = fm_data(c, n->out[0]), *values = fm_data(c, n->out[1]);
    const void *from[] = {kv, pe, at(n, kv, nope)};
    void *to[] = {keys, at(n, keys, nope), values};
    for (int p = KEY; p <= VALUE; p++) {
        fm_copy_groups_args a = args_of(n, (piece)p, false);
        a.x = from[p];
        a.y = to[p];
        FM_TRY(fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a));
    }
    return FM_OK;
}

static fm_status move_back(fm_ctx *c, fm_node *n, piece p, const void *from, void *to) {
    fm_copy_groups_args a = args_of(n, p, true);
    a.x = from;
    a.y = to;
    return fm_op_run(c, FM_K_copy_groups, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    int64_t nope = sizes_of(n).nope;
    bool dk = fm_has_dout(n, 0), dv = fm_has_dout(n, 1);
    void *dkeys = dk ? fm_dout(c, n, 0) : NULL;
    fm_dwrite w = {0};
    if (fm_wants(n, 0)) {
        FM_TRY(fm_dwrite_begin(c, n, 0, &w));
        if (!dk || !dv) {
            FM_TRY(fm_op_zero(c, n->in[0]->dtype, fm_numel(n->in[0]), w.data));
        }
        FM_TRY(dk ? move_back(c, n, KEY, dkeys, w.data) : FM_OK);
        FM_TRY(dv ? move_back(c, n, VALUE, fm_dout(c, n, 1), at(n, w.data, nope)) : FM_OK);
        FM_TRY(fm_dwrite_end(c, &w));
    }
    if (fm_wants(n, 1) && dk) {
        fm_dwrite p = {0};
        FM_TRY(fm_dwrite_begin(c, n, 1, &p));
        FM_TRY(move_back(c, n, SHARED, at(n, dkeys, nope), p.data));
        FM_TRY(fm_dwrite_end(c, &p));
    }
    return FM_OK;
}

static int run_heads(fm_ctx *c, fm_tensor **in, fm_tensor **out, int32_t heads, int32_t nope) {
    out[0] = fm_mla_keys(c, in[0], in[1], heads, nope, &out[1]);
    return out[0] && out[1] ? 2 : 0;
}
static int run_3(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_heads(c, in, out, 3, 4);
}
static int run_1(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_heads(c, in, out, 1, 1);
}
static int run_values(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *both[2];
    if (!run_3(c, in, n_rows, both)) {
        return 0;
    }
    out[0] = both[1];
    return 1;
}

#define X(NAME, ...)                                                                                                   \
    { .name = NAME, .n_dims = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dim = {__VA_ARGS__}, .rows = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 2, .in = {X("kv", 5, 27), X("pe", 5, 3)}, .run = run_3, .row_invariant = true},
    {.name = "one head", .n_in = 2, .in = {X("kv", 3, 3), X("pe", 3, 2)}, .run = run_1, .row_invariant = true},
    {.name = "wide", .n_in = 2, .in = {X("kv", 9, 108), X("pe", 9, 34)}, .run = run_3, .row_invariant = true},
    {.name = "values only", .n_in = 2, .in = {X("kv", 5, 27), X("pe", 5, 3)}, .run = run_values},
};
#undef X

const fm_op fm_op_mla_keys = {
    .name = "mla_keys",
    .formula = "k[t,h] = [kv[t,h,:nope], pe[t]], v[t,h] = kv[t,h,nope:]",
    .onnx = "Reshape, Split, Expand, Concat",
    .kernels = {FM_K_copy_groups, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_bwd = 2,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_mla_keys_(fm_ctx *c, fm_tensor *kv, fm_tensor *pe, int32_t n_heads, int32_t nope, fm_tensor **values) {
    fm_tensor *outs[2] = {0};
    attr a = {n_heads, nope};
    *values = NULL;
    fm_tensor *keys = fm_apply(c, &fm_op_mla_keys, 2, 2, (fm_tensor *[]){kv, pe}, &a, sizeof a, outs);
    *values = keys ? outs[1] : NULL;
    return keys;
}
