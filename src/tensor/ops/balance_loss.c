/* Loss that grows as experts are chosen unevenly. How often an expert was chosen is constant for gradients. */
#include "tensor/ops_util.h"

#define MAX_PARTS 4096 /* as many layers as a model may have */

/* in: n scores, n ids. Pointers to their data live on the heap for the time of a call. */
typedef struct parts {
    const void **x;
    const int32_t **ids;
    void **dx;
    bool *acc;
} parts;

static int parts_of(const fm_node *n) {
    return n->n_in / 2;
}

static void parts_free(parts *p) {
    fm_free(p->x);
    fm_free(p->ids);
    fm_free(p->dx);
    fm_free(p->acc);
}

static fm_status parts_new(fm_ctx *c, fm_node *n, parts *p, bool backward) {
    size_t count = (size_t)parts_of(n);
    *p = (parts){.x = fm_calloc(count, sizeof *p->x),
                 .ids = fm_calloc(count, sizeof *p->ids),
                 .dx = fm_calloc(count, sizeof *p->dx),
                 .acc = fm_calloc(count, sizeof *p->acc)};
    if (!p->x || !p->ids || !p->dx || !p->acc) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of %zu layers", count);
    }
    for (int i = 0; i < parts_of(n); i++) {
        p->x[i] = fm_data(c, n->in[i]);
        p->ids[i] = fm_data(c, n->in[parts_of(n) + i]);
        if (backward && fm_wants(n, i)) {
            FM_TRY(fm_din(c, n, i, &p->dx[i], &p->acc[i]));
        }
    }
    return fm_ctx_status(c);
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_balance_options *o = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "scores", FM_ANY_FLOAT, 2, NULL));
    fm_dtype acc = fm_dtype_acc(x->dtype);
    for (int i = 0; i < parts_of(n); i++) {
        FM_TRY(fm_in_check(n, i, "scores", (int)acc, 2, x->dim));
        FM_TRY(fm_in_check(n, parts_of(n) + i, "ids", FM_I32, 2, (int64_t[]){x->dim[0], n->in[parts_of(n)]->dim[1]}));
        n->keeps_in[i] = o->normalise; /* else the gradient does not depend on the scores */
    }
    if (x->dim[0] < 1 || n->in[parts_of(n)]->dim[1] < 1 || (o->offsets && o->n_segments < 1)) {
        FM_FAIL(FM_ERR_SHAPE, "expected at least one row, choice and segment, found %lld, %lld and %d",
                (long long)x->dim[0], (long long)n->in[parts_of(n)]->dim[1], (int)o->n_segments);
    }
    if (o->offsets && (o->offsets[0] != 0 || o->offsets[o->n_segments] != x->dim[0])) {
        FM_FAIL(FM_ERR_SHAPE, "offsets: expected to run from 0 to %lld, found %d to %d", (long long)x->dim[0],
                (int)o->offsets[0], (int)o->offsets[o->n_segments]);
    }
    n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, 1, (int64_t[]){1});
}

static fm_balance_args args_of(const fm_node *n, const parts *p) {
    const fm_balance_options *o = n->attr;
    return (fm_balance_args){
        .n_parts = parts_of(n),
        .n_rows = n->in[0]->dim[0],
        .n_experts = (int32_t)n->in[0]->dim[1],
        .n_active = (int32_t)n->in[parts_of(n)]->dim[1],
        .n_segments = o->n_segments,
        .offsets = o->offsets,
        .normalise = o->normalise,
        .x = p->x,
        .ids = p->ids,
        .dx = p->dx,
        .acc_dx = p->acc,
    };
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    parts p;
    fm_status s = parts_new(c, n, &p, false);
    fm_balance_args a = args_of(n, &p);
    a.y = fm_data(c, n->out[0]);
    for (int i = 0; i < a.n_parts && s == FM_OK; i++) {
        s = fm_ids_check("ids", p.ids[i], a.n_rows * a.n_active, a.n_experts, NULL);
    }
    s = s == FM_OK ? fm_op_run(c, FM_K_balance_fwd, n->in[0]->dtype, &a) : s;
    parts_free(&p);
    return s;
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    parts p;
    fm_status s = parts_new(c, n, &p, true);
    fm_balance_args a = args_of(n, &p);
    a.dy = fm_dout(c, n, 0);
    s = s == FM_OK ? fm_op_run(c, FM_K_balance_bwd, n->in[0]->dtype, &a) : s;
    parts_free(&p);
    return s;
}

static const int32_t three[4] = {0, 2, 2, 9};
static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_balance_options o) {
    fm_tensor *x = fm_cast(c, in[0], fm_dtype_acc(in[0]->dtype));
    out[0] = fm_balance_loss(c, 1, &x, &in[1], &o);
    out[1] = fm_scale(c, x, 0.5); /* its gradient is there when that of the op arrives */
    return out[0] && out[1] ? 2 : 0;
}
#define RUN(name, ...)                                                                                                 \
    static int run_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                \
        FM_UNUSED(n_rows);                                                                                             \
        return run_with(c, in, out, (fm_balance_options){__VA_ARGS__});                                                \
    }
/* Two layers, of which the second reads the same scores another way. */
static int run_layers(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *x = fm_cast(c, in[0], fm_dtype_acc(in[0]->dtype)), *scores[2] = {x, fm_mul(c, x, x)};
    fm_balance_options o = {.n_segments = 3, .offsets = three};
    FM_UNUSED(n_rows);
    out[0] = fm_balance_loss(c, 2, scores, (fm_tensor *[]){in[1], in[2]}, &o);
    return out[0] ? 1 : 0;
}
RUN(plain, 0)
RUN(normalised, .normalise = true)
RUN(segments, .n_segments = 3, .offsets = three, .normalise = true)

#define IN(T, E, K)                                                                                                    \
    .n_in = 2, .in = {{.name = "scores", .n_dims = 2, .dim = {T, E}, .kind = FM_IN_POSITIVE},                          \
                      {.name = "ids", .n_dims = 2, .dim = {T, K}, .kind = FM_IN_IDS, .max = (E)}}
static const fm_op_case cases[] = {
    {.name = "plain", IN(9, 5, 2), .run = run_plain},
    {.name = "normalised", IN(9, 7, 3), .run = run_normalised},
    {.name = "segments", IN(9, 5, 2), .run = run_segments},
    {.name = "layers",
     .n_in = 3,
     .in = {{.name = "scores", .n_dims = 2, .dim = {9, 5}, .kind = FM_IN_POSITIVE},
            {.name = "ids", .n_dims = 2, .dim = {9, 2}, .kind = FM_IN_IDS, .max = 5},
            {.name = "more ids", .n_dims = 2, .dim = {9, 2}, .kind = FM_IN_IDS, .max = 5}},
     .run = run_layers},
    {.name = "large", IN(200, 67, 6), .run = run_normalised},
};

const fm_op fm_op_balance_loss = {
    .name = "balance_loss",
    .formula = "y = sum_e f_e P_e",
    .onnx = NULL,
    .onnx_why = "a training loss: an exported model ends at the logits",
    .kernels = {FM_K_balance_fwd, FM_K_balance_bwd, FM_KERNEL_COUNT},
    .missing_ok = "scores are in the accumulation type: f32 (f64 in the reference)",
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 8,
    .tol_bwd = 8,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_balance_loss_(fm_ctx *c, int n, fm_tensor *const *scores, fm_tensor *const *ids,
                            const fm_balance_options *o) {
    FM_ASSERT(n >= 1 && n <= MAX_PARTS);
    fm_tensor **in = fm_calloc(2 * (size_t)n, sizeof *in);
    if (!in) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a list of %d layers", n));
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        in[i] = scores[i];
        in[n + i] = ids[i];
    }
    fm_tensor *y = fm_apply(c, &fm_op_balance_loss, 2 * n, 2 * n, in, o, sizeof *o, NULL);
    fm_free(in);
    return y;
}
