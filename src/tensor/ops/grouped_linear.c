/* Products of sorted rows with the weight of each row's expert. Every weight is an input of its own, so experts stay
 * single parameters. Inputs: x, offsets, order, row, then n_sets * n_experts weights [n_out,K'], of which those of
 * experts without rows may be missing. */
#include <string.h>

#include "backend/scratch.h"
#include "tensor/ops_util.h"
#include "tensor/param.h"

enum { IN_X, IN_OFFSETS, IN_ORDER, IN_ROW, IN_WEIGHTS };
#define MAX_EXPERTS 1024 /* of one layer */

typedef struct attr {
    fm_group_mode mode;
    int32_t n_experts, n_active, n_sets;
    int64_t n_out;
} attr;

static int weight_at(const attr *a, int set, int32_t e) {
    return IN_WEIGHTS + set * a->n_experts + e;
}
/* Sorted rows N; rows of x in GATHER and of the output in COMBINE are N / n_active tokens. */
static int64_t rows_of(const fm_node *n) {
    return n->in[IN_ORDER]->dim[0];
}

static fm_status check_weights(const fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    bool wants_x = fm_wants(n, IN_X), wants_w = false;
    for (int i = IN_WEIGHTS; i < n->n_in; i++) {
        if (!n->in[i]) {
            continue;
        }
        FM_TRY(fm_in_check(n, i, "w", (int)x->dtype, 2, (int64_t[]){a->n_out, x->dim[1]}));
        n->keeps_in[i] = wants_x;
        wants_w = wants_w || fm_wants(n, i);
    }
    n->keeps_in[IN_X] = wants_w;
    return FM_OK;
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    int64_t rows = rows_of(n), tokens = rows / a->n_active;
    int64_t x_rows = a->mode == FM_GROUP_GATHER ? tokens : rows, y_rows = a->mode == FM_GROUP_COMBINE ? tokens : rows;
    FM_TRY(fm_in_check(n, IN_X, "x", FM_ANY_FLOAT, 2, (int64_t[]){x_rows, -1}));
    FM_TRY(fm_in_check(n, IN_OFFSETS, "offsets", FM_I32, 1, (int64_t[]){(int64_t)a->n_experts + 1}));
    FM_TRY(fm_in_check(n, IN_ROW, "row", FM_I32, 1, &rows));
    if (a->n_out < 1 || x->dim[1] < 1 || (a->n_sets > 1 && a->mode == FM_GROUP_COMBINE)) {
        FM_FAIL(FM_ERR_SHAPE,
                "expected weights of at least one element, one set of them when rows are summed; found [%lld,%lld], %d "
                "sets",
                (long long)a->n_out, (long long)x->dim[1], (int)a->n_sets);
    }
    FM_TRY(check_weights(n));
    if (a->mode == FM_GROUP_COMBINE && fm_ctx_is_meta(c)) { /* forward will not run here: let the peak know of it */
        fm_temp each;
        FM_TRY(fm_temp_take(c, &each, x->dtype, rows * a->n_out));
        fm_temp_drop(c, &each);
    }
    for (int s = 0; s < a->n_sets; s++) {
        n->keeps_out[s] = false;
        FM_TRY(fm_make_out(c, n, x->dtype, 2, (int64_t[]){y_rows, a->n_out}));
    }
    return FM_OK;
}

/* Weights of a set as the kernel takes them. */
typedef struct weights {
    const void *plain[MAX_EXPERTS], *packed[MAX_EXPERTS];
    bool any_packed;
} weights;

static fm_status open_weights(fm_ctx *c, const fm_node *n, int set, bool pack, weights *w) {
    const attr *a = n->attr;
    w->any_packed = false;
    for (int32_t e = 0; e < a->n_experts; e++) {
        const fm_tensor *t = n->in[weight_at(a, set, e)];
        void *packed = NULL;
        if (t && pack && t->param) {
            FM_TRY(fm_param_packed(fm_ctx_backend(c), fm_ctx_exec(c), t->param, t->dtype, &packed));
        }
        w->packed[e] = packed;
        w->plain[e] = NULL;
        if (t && !packed) { /* quantised ones become numbers of this product: the caller restores the scratch */
            FM_TRY(fm_weight_numbers(c, t, t->dtype, &w->plain[e]));
        }
        w->any_packed = w->any_packed || packed;
    }
    return fm_ctx_status(c);
}

static fm_row_map by_token(fm_ctx *c, const fm_node *n) {
    return (fm_row_map){.index = fm_data(c, n->in[IN_ORDER]), .div = ((const attr *)n->attr)->n_active};
}

static fm_combine_rows_args combine_args(fm_ctx *c, const fm_node *n, int64_t dim) {
    const attr *a = n->attr;
    return (fm_combine_rows_args){
        .n_tokens = rows_of(n) / a->n_active, .dim = dim, .n_active = a->n_active, .row = fm_data(c, n->in[IN_ROW])};
}

/* Quantised weights are multiplied as they are: a product for each expert that has rows. */
static bool as_blocks(fm_ctx *c, const fm_node *n, int set) {
    const attr *a = n->attr;
    for (int32_t e = 0; fm_ctx_pack(c) && e < a->n_experts; e++) {
        const fm_tensor *t = n->in[weight_at(a, set, e)];
        if (t && t->param && fm_param_quantised(t->param)) {
            return true;
        }
    }
    return false;
}

static fm_status forward_blocks(fm_ctx *c, const fm_node *n, int set, uint8_t *y) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    const int32_t *offsets = fm_data(c, n->in[IN_OFFSETS]), *order = fm_data(c, n->in[IN_ORDER]);
    const uint8_t *rows = fm_data(c, x);
    int64_t k = x->dim[1], row = fm_dtype_bytes(x->dtype, k), out_row = fm_dtype_bytes(x->dtype, a->n_out);
    FM_TRY(fm_ctx_status(c));
    fm_scratch *scratch = fm_ctx_exec(c)->scratch;
    fm_scratch_mark mark = fm_scratch_save(scratch);
    fm_status s = FM_OK;
    if (a->mode == FM_GROUP_GATHER) { /* each expert's rows side by side */
        uint8_t *sorted = fm_scratch_take(fm_ctx_exec(c), rows_of(n) * row);
        if (!sorted) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory to sort %lld rows by expert", (long long)rows_of(n));
        }
        for (int64_t r = 0; r < rows_of(n); r++) {
            memcpy(sorted + r * row, rows + order[r] / a->n_active * row, (size_t)row);
        }
        rows = sorted;
    }
    for (int32_t e = 0; e < a->n_experts && s == FM_OK; e++) {
        fm_matmul_args g = {.m = offsets[e + 1] - offsets[e],
                            .n = a->n_out,
                            .k = k,
                            .a = rows + offsets[e] * row,
                            .lda = k,
                            .c = y + offsets[e] * out_row,
                            .ldc = a->n_out,
                            .c_dtype = x->dtype};
        if (g.m > 0) {
            s = fm_weight_product(c, n->in[weight_at(a, set, e)], &g, x->dtype);
        }
    }
    fm_scratch_restore(scratch, mark);
    return s;
}

static fm_status forward_set(fm_ctx *c, const fm_node *n, int set, void *y) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    weights w;
    if (as_blocks(c, n, set)) {
        return forward_blocks(c, n, set, y);
    }
    fm_scratch *scratch = fm_ctx_exec(c)->scratch;
    fm_scratch_mark mark = fm_scratch_save(scratch);
    FM_TRY(open_weights(c, n, set, fm_ctx_pack(c), &w));
    fm_grouped_matmul_args g = {
        .n_groups = a->n_experts,
        .offsets = fm_data(c, n->in[IN_OFFSETS]),
        .n = a->n_out,
        .k = x->dim[1],
        .a = fm_data(c, x),
        .b = w.plain,
        .trans_b = true,
        .b_packed = w.any_packed ? w.packed : NULL,
        .c = y,
    };
    if (a->mode == FM_GROUP_GATHER) {
        g.a_map = by_token(c, n);
    }
    fm_status s = fm_op_run(c, FM_K_grouped_matmul, x->dtype, &g);
    fm_scratch_restore(scratch, mark);
    return s;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    if (a->mode != FM_GROUP_COMBINE) {
        for (int s = 0; s < a->n_sets; s++) {
            FM_TRY(forward_set(c, n, s, fm_data(c, n->out[s])));
        }
        return FM_OK;
    }
    fm_temp each;
    FM_TRY(fm_temp_take(c, &each, n->in[IN_X]->dtype, rows_of(n) * a->n_out));
    FM_TRY(forward_set(c, n, 0, each.data));
    fm_combine_rows_args k = combine_args(c, n, a->n_out);
    k.x = each.data;
    k.y = fm_data(c, n->out[0]);
    FM_TRY(fm_op_run(c, FM_K_combine_rows, n->in[IN_X]->dtype, &k));
    fm_temp_drop(c, &each);
    return FM_OK;
}

/* Gradient of the rows that the products read: dy W, of both sets together. */
static fm_status backward_rows(fm_ctx *c, fm_node *n, void *dx) {
    const attr *a = n->attr;
    weights w[2];
    int set[2] = {0}, n_sets = 0;
    fm_scratch *scratch = fm_ctx_is_meta(c) ? NULL : fm_ctx_exec(c)->scratch;
    fm_scratch_mark mark = scratch ? fm_scratch_save(scratch) : (fm_scratch_mark){0};
    memset(w, 0, sizeof w);
    for (int s = 0; s < a->n_sets; s++) {
        if (fm_has_dout(n, s)) {
            FM_TRY(open_weights(c, n, s, false, &w[n_sets]));
            set[n_sets++] = s;
        }
    }
    fm_grouped_matmul_args g = {
        .n_groups = a->n_experts,
        .offsets = fm_data(c, n->in[IN_OFFSETS]),
        .n = n->in[IN_X]->dim[1],
        .k = a->n_out,
        .a = fm_dout(c, n, set[0]),
        .b = w[0].plain,
        .c = dx,
    };
    if (a->mode == FM_GROUP_COMBINE) {
        g.a_map = by_token(c, n);
    }
    if (n_sets > 1) {
        g.a2 = fm_dout(c, n, set[1]);
        g.b2 = w[1].plain;
    }
    fm_status status = fm_op_run(c, FM_K_grouped_matmul, n->in[IN_X]->dtype, &g);
    if (scratch) {
        fm_scratch_restore(scratch, mark);
    }
    return status;
}

static fm_status backward_x(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    if (a->mode != FM_GROUP_GATHER) {
        fm_dwrite dx;
        FM_TRY(fm_dwrite_begin(c, n, IN_X, &dx));
        FM_TRY(backward_rows(c, n, dx.data));
        return fm_dwrite_end(c, &dx);
    }
    fm_temp each;
    fm_combine_rows_args k = combine_args(c, n, x->dim[1]);
    FM_TRY(fm_din(c, n, IN_X, &k.y, &k.acc_y));
    FM_TRY(fm_temp_take(c, &each, x->dtype, rows_of(n) * x->dim[1]));
    FM_TRY(backward_rows(c, n, each.data));
    k.x = each.data;
    FM_TRY(fm_op_run(c, FM_K_combine_rows, x->dtype, &k));
    fm_temp_drop(c, &each);
    return FM_OK;
}

static fm_status backward_weights(fm_ctx *c, fm_node *n, int set) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[IN_X];
    void *dw[MAX_EXPERTS];
    bool acc[MAX_EXPERTS], any = false;
    for (int32_t e = 0; e < a->n_experts; e++) {
        int i = weight_at(a, set, e);
        dw[e] = NULL;
        acc[e] = false;
        if (fm_wants(n, i)) {
            FM_TRY(fm_dweight(c, n, i, &dw[e], &acc[e]));
            any = true;
        }
    }
    if (!any) {
        return FM_OK;
    }
    fm_grouped_outer_args g = {
        .n_groups = a->n_experts,
        .offsets = fm_data(c, n->in[IN_OFFSETS]),
        .m = a->n_out,
        .n = x->dim[1],
        .a = fm_dout(c, n, set),
        .b = fm_data(c, x),
        .c = dw,
        .accumulate = acc,
    };
    *(a->mode == FM_GROUP_COMBINE ? &g.a_map : &g.b_map) = a->mode == FM_GROUP_ROWS ? (fm_row_map){0} : by_token(c, n);
    return fm_op_run(c, FM_K_grouped_outer, x->dtype, &g);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    if (fm_wants(n, IN_X)) {
        FM_TRY(backward_x(c, n));
    }
    for (int s = 0; s < a->n_sets; s++) {
        if (fm_has_dout(n, s)) {
            FM_TRY(backward_weights(c, n, s));
        }
    }
    return FM_OK;
}

/* ---- cases: in x, ids, weights ------------------------------------------------------------------- */

/* Up and down again, so that the rows that come out are tokens. in: x, ids, up [3], down [3] */
static int run_tokens(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_dispatch d = fm_expert_sort(c, in[1], 3);
    fm_tensor *h = fm_grouped_linear(c, in[0], &d, FM_GROUP_GATHER, in[2]->dim[0], in + 2, NULL, NULL);
    out[0] = fm_grouped_linear(c, h, &d, FM_GROUP_COMBINE, in[5]->dim[0], in + 5, NULL, NULL);
    return out[0] ? 1 : 0;
}
/* Sum over experts of (how often the token chose it) * down(up(x)). */
static int decomposed_tokens(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    static double times[3][512];
    int64_t t = in[0]->dim[0], dim = in[5]->dim[0], k = in[1]->dim[1];
    const int32_t *ids = fm_data(c, in[1]);
    FM_UNUSED(n_rows);
    FM_ASSERT(t * dim <= 512);
    for (int e = 0; e < 3; e++) {
        for (int64_t i = 0; i < t * dim; i++) {
            times[e][i] = 0;
            for (int64_t j = 0; j < k; j++) {
                times[e][i] += ids[i / dim * k + j] == e;
            }
        }
        fm_tensor *m = fm_from_memory(c, FM_F64, 2, (int64_t[]){t, dim}, times[e]);
        fm_tensor *y = fm_mul(c, fm_linear(c, fm_linear(c, in[0], in[2 + e], NULL), in[5 + e], NULL), m);
        out[0] = e ? fm_add(c, out[0], y) : y;
    }
    return out[0] ? 1 : 0;
}
/* Two sets of weights on one input, the second product also on sorted rows. in: x, ids, a [3], b [3] */
static int run_sets(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_dispatch d = fm_expert_sort(c, in[1], 3);
    out[0] = fm_grouped_linear(c, in[0], &d, FM_GROUP_GATHER, in[2]->dim[0], in + 2, in + 5, &out[1]);
    return out[0] && out[1] ? 2 : 0;
}
/* A product of sorted rows; x gets a second gradient; only one output of the sets has a gradient. */
static int run_rows(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *unused;
    FM_UNUSED(n_rows);
    fm_dispatch d = fm_expert_sort(c, in[1], 3);
    fm_tensor *h = fm_grouped_linear(c, in[0], &d, FM_GROUP_GATHER, in[2]->dim[0], in + 2, in + 2, &unused);
    out[0] = fm_grouped_linear(c, h, &d, FM_GROUP_ROWS, in[5]->dim[0], in + 5, NULL, NULL);
    out[1] = fm_scale(c, in[0], 2);
    out[2] = fm_scale(c, h, 2);
    return out[0] && out[1] && out[2] ? 3 : 0;
}
static int run_packed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_ctx_set_pack(c, true);
    int r = run_tokens(c, in, n_rows, out);
    fm_ctx_set_pack(c, false);
    return r;
}

#define NAMED(NAME, N, K)                                                                                              \
    { .name = NAME, .n_dims = 2, .dim = {N, K}, .scale = 0.25, .weight = true }
#define IN(T, K, D, F, M, G)                                                                                           \
    .n_in = 8, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}, .rows = true},                                         \
                      {.name = "ids", .n_dims = 2, .dim = {T, K}, .kind = FM_IN_IDS, .max = 3, .rows = true},          \
                      NAMED("a0", F, D),                                                                               \
                      NAMED("a1", F, D),                                                                               \
                      NAMED("a2", F, D),                                                                               \
                      NAMED("b0", M, G),                                                                               \
                      NAMED("b1", M, G),                                                                               \
                      NAMED("b2", M, G)}
static const fm_op_case cases[] = {
    {.name = "tokens",
     IN(9, 2, 7, 5, 11, 5),
     .run = run_tokens,
     .decomposed = decomposed_tokens,
     .row_invariant = true},
    {.name = "one token", IN(1, 2, 8, 6, 8, 6), .run = run_tokens, .decomposed = decomposed_tokens},
    {.name = "sets", IN(9, 2, 7, 5, 5, 7), .run = run_sets},
    {.name = "rows", IN(7, 3, 6, 9, 5, 9), .run = run_rows},
    {.name = "packed", IN(35, 2, 32, 80, 32, 80), .run = run_packed, .row_invariant = true},
    {.name = "large", IN(131, 2, 259, 150, 65, 150), .run = run_tokens, .row_invariant = true},
    {.name = "large sets", IN(300, 2, 96, 130, 130, 96), .run = run_sets},
    {.name = "deep", IN(37, 2, 1031, 66, 37, 66), .run = run_tokens, .row_invariant = true},
};

const fm_op fm_op_grouped_linear = {
    .name = "grouped_linear",
    .formula = "y[r] = W_e x[r] for the rows r of each expert e",
    .onnx = "Gather, MatMul, ScatterND",
    .kernels = {FM_K_grouped_matmul, FM_K_grouped_outer, FM_K_combine_rows, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 16,
    .tol_bwd = 16,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
    .grads_via_d = true, /* rows between the two products are rounded to D */
};

static fm_tensor *product(fm_ctx *c, fm_tensor *x, const fm_dispatch *d, fm_group_mode mode, int64_t n_out,
                          fm_tensor *const *w, fm_tensor *const *w2, fm_tensor **y2) {
    fm_tensor *in[IN_WEIGHTS + 2 * MAX_EXPERTS] = {x, d->offsets, d->order, d->row}, *outs[FM_MAX_OUT] = {0};
    attr a = {.mode = mode,
              .n_experts = d->n_experts,
              .n_active = FM_MAX(d->n_active, 1),
              .n_sets = w2 ? 2 : 1,
              .n_out = n_out};
    for (int32_t e = 0; e < d->n_experts; e++) {
        in[weight_at(&a, 0, e)] = w[e];
        if (w2) {
            in[weight_at(&a, 1, e)] = w2[e];
        }
    }
    int n_in = IN_WEIGHTS + a.n_sets * a.n_experts;
    fm_tensor *y = fm_apply(c, &fm_op_grouped_linear, IN_WEIGHTS, n_in, in, &a, sizeof a, outs);
    if (y2) {
        *y2 = outs[1];
    }
    return y;
}

/* The adapters of the experts that are there: of all of them or of none, with one rank and scale. */
static const fm_lora *adapters(fm_ctx *c, const fm_dispatch *d, fm_tensor *const *w, fm_tensor **low,
                               fm_tensor **high) {
    const fm_lora *first = NULL;
    int32_t n = 0, n_adapted = 0;
    for (int32_t e = 0; e < d->n_experts; e++) {
        const fm_lora *l = w[e] && w[e]->param ? w[e]->param->lora : NULL;
        bool same = !l || !first || (l->a->dim[0] == first->a->dim[0] && l->scale == first->scale);
        n += w[e] != NULL;
        n_adapted += l && same;
        first = first ? first : l;
        low[e] = l ? fm_leaf(c, l->a) : NULL;
        high[e] = l ? fm_leaf(c, l->b) : NULL;
    }
    if (first && n_adapted != n) {
        fm_ctx_fail(c,
                    fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                                 "adapters of %d of the %d experts of a layer in use, or of different ranks: expected "
                                 "one rank for all experts or no adapters of experts",
                                 (int)n_adapted, (int)n));
    }
    return first;
}

/* y plus what adapters add: two products of the rank's width. */
static fm_tensor *adapted(fm_ctx *c, fm_tensor *x, const fm_dispatch *d, fm_group_mode mode, int64_t n_out,
                          fm_tensor *const *w, fm_tensor *y) {
    fm_tensor *low[MAX_EXPERTS], *high[MAX_EXPERTS];
    const fm_lora *l = y ? adapters(c, d, w, low, high) : NULL;
    if (!l) {
        return y;
    }
    fm_group_mode into = mode == FM_GROUP_GATHER ? FM_GROUP_GATHER : FM_GROUP_ROWS;
    fm_group_mode out = mode == FM_GROUP_COMBINE ? FM_GROUP_COMBINE : FM_GROUP_ROWS;
    fm_tensor *h = l->dropout > 0 ? fm_dropout(c, x, l->dropout, l->stream) : x;
    h = fm_scale(c, product(c, h, d, into, l->a->dim[0], low, NULL, NULL), (double)l->scale);
    return fm_add(c, y, product(c, h, d, out, n_out, high, NULL, NULL));
}

fm_tensor *fm_grouped_linear_(fm_ctx *c, fm_tensor *x, const fm_dispatch *d, fm_group_mode mode, int64_t n_out,
                              fm_tensor *const *w, fm_tensor *const *w2, fm_tensor **y2) {
    fm_tensor *second = NULL;
    if (d->n_experts > MAX_EXPERTS) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                                    "a layer of %d experts; at most %d are supported", (int)d->n_experts, MAX_EXPERTS));
        return NULL;
    }
    fm_tensor *y = adapted(c, x, d, mode, n_out, w, product(c, x, d, mode, n_out, w, w2, &second));
    if (w2) {
        *y2 = adapted(c, x, d, mode, n_out, w2, second);
    }
    return y;
}
