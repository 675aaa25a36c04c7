/* Rows of a table by id. */
#include "tensor/ops_util.h"
#include "tensor/param.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *w = n->in[0], *ids = n->in[1];
    FM_TRY(fm_in_check(n, 0, "w", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_check(n, 1, "ids", FM_I32, 1, NULL));
    n->keeps_in[0] = false;
    n->keeps_out[0] = false;
    return fm_make_out(c, n, w->dtype, 2, (int64_t[]){ids->dim[0], w->dim[1]});
}

/* Rows of a quantised table, without a copy of the whole. */
static fm_status quantised_rows(fm_ctx *c, fm_node *n) {
    const fm_tensor *w = n->in[0], *ids = n->in[1];
    const int32_t *id = fm_data(c, ids);
    uint8_t *y = fm_data(c, n->out[0]);
    FM_TRY(fm_ctx_status(c));
    if (!y) { /* meta */
        return FM_OK;
    }
    FM_TRY(fm_ids_check("ids", id, ids->dim[0], w->dim[0], NULL));
    for (int64_t t = 0; t < ids->dim[0]; t++, y += fm_dtype_bytes(w->dtype, w->dim[1])) {
        FM_TRY(fm_param_rows(fm_ctx_backend(c), fm_ctx_exec(c), w->param, id[t], 1, w->dtype, y));
    }
    return FM_OK;
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *w = n->in[0], *ids = n->in[1];
    if (w->param && fm_param_quantised(w->param)) {
        return quantised_rows(c, n);
    }
    fm_embedding_args a = {
        .n_tokens = ids->dim[0],
        .dim = w->dim[1],
        .n_vocab = w->dim[0],
        .ids = fm_data(c, ids),
        .w = fm_data(c, w),
        .y = fm_data(c, n->out[0]),
    };
    FM_TRY(fm_ctx_status(c));
    FM_TRY(fm_ids_check("ids", a.ids, a.n_tokens, a.n_vocab, NULL));
    return fm_op_run(c, FM_K_embedding_fwd, w->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *w = n->in[0], *ids = n->in[1];
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_embedding_bwd_args a = {
        .n_tokens = ids->dim[0],
        .dim = w->dim[1],
        .n_vocab = w->dim[0],
        .ids = fm_data(c, ids),
        .dy = fm_dout(c, n, 0),
    };
    FM_TRY(fm_dweight_add(c, n, 0, &a.dw));
    return fm_op_run(c, FM_K_embedding_bwd, w->dtype, &a);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_embedding(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}

static int decomposed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_gather(c, in[0], in[1]);
    return out[0] ? 1 : 0;
}

#define IN(V, D, T, is_weight)                                                                                         \
    .n_in = 2, .in = {{.name = "w", .n_dims = 2, .dim = {V, D}, .weight = (is_weight)},                                \
                      {.name = "ids", .n_dims = 1, .dim = {T}, .kind = FM_IN_IDS, .max = (V), .rows = true}}
static const fm_op_case cases[] = {
    {.name = "table", IN(11, 7, 19, true), .run = run, .row_invariant = true},
    {.name = "activation", IN(5, 9, 4, false), .run = run, .decomposed = decomposed, .row_invariant = true},
    {.name = "wide", IN(300, 129, 70, true), .run = run, .row_invariant = true},
    {.name = "one token", IN(3, 1, 1, true), .run = run},
};

const fm_op fm_op_embedding = {
    .name = "embedding",
    .formula = "y[t,:] = w[ids[t],:]",
    .onnx = "Gather",
    .kernels = {FM_K_embedding_fwd, FM_K_embedding_bwd, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 0,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_embedding_(fm_ctx *c, fm_tensor *w, fm_tensor *ids) {
    return fm_apply(c, &fm_op_embedding, 2, 2, (fm_tensor *[]){w, ids}, NULL, 0, NULL);
}
