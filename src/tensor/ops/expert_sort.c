/* Assignments of tokens to experts in the order of experts. Whole numbers: nothing to differentiate. */
#include "tensor/ops_util.h"

typedef struct attr {
    int32_t n_experts;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    FM_TRY(fm_in_check(n, 0, "ids", FM_I32, 2, NULL));
    int64_t rows = fm_numel(n->in[0]);
    if (rows >= INT32_MAX || a->n_experts < 1) {
        FM_FAIL(FM_ERR_SHAPE, "expected at least one expert and fewer than 2^31 assignments, found %d and %lld",
                (int)a->n_experts, (long long)rows);
    }
    FM_TRY(fm_make_out(c, n, FM_I32, 1, (int64_t[]){(int64_t)a->n_experts + 1}));
    FM_TRY(fm_make_out(c, n, FM_I32, 1, &rows));
    return fm_make_out(c, n, FM_I32, 1, &rows);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_expert_sort_args a = {
        .n = fm_numel(n->in[0]),
        .n_experts = ((const attr *)n->attr)->n_experts,
        .ids = fm_data(c, n->in[0]),
        .offsets = fm_data(c, n->out[0]),
        .order = fm_data(c, n->out[1]),
        .row = fm_data(c, n->out[2]),
    };
    FM_TRY(fm_ctx_status(c));
    FM_TRY(fm_ids_check("ids", a.ids, a.n, a.n_experts, NULL));
    return fm_op_run(c, FM_K_expert_sort, fm_ctx_compute(c), &a);
}

/* Rows of x by order, and back again. */
static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_dispatch d = fm_expert_sort(c, in[1], 5);
    out[0] = fm_gather(c, in[0], d.order);
    out[1] = fm_gather(c, out[0], d.row);
    return out[0] && out[1] ? 2 : 0;
}
static int there_and_back(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 1);
    return r && out[1] ? 2 : 0;
}

#define IN(T, K, D)                                                                                                    \
    .n_in = 2, .in = {{.name = "x", .n_dims = 2, .dim = {(T) * (K), D}},                                               \
                      {.name = "ids", .n_dims = 2, .dim = {T, K}, .kind = FM_IN_IDS, .max = 5}}
static const fm_op_case cases[] = {
    {.name = "odd", IN(7, 3, 2), .run = run, .decomposed = there_and_back},
    {.name = "one", IN(1, 1, 3), .run = run, .decomposed = there_and_back},
};

const fm_op fm_op_expert_sort = {
    .name = "expert_sort",
    .formula = "order sorts assignments by expert; row is its inverse",
    .onnx = "TopK (sorted), ScatterElements",
    .kernels = {FM_K_expert_sort, FM_KERNEL_COUNT},
    .missing_ok = "a counting sort of a few thousand numbers",
    .shape = shape,
    .forward = forward,
    .tol_fwd = 0,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_dispatch fm_expert_sort_(fm_ctx *c, fm_tensor *ids, int32_t n_experts) {
    fm_tensor *outs[FM_MAX_OUT] = {0};
    attr a = {.n_experts = n_experts};
    if (!fm_apply(c, &fm_op_expert_sort, 1, 1, &ids, &a, sizeof a, outs)) {
        return (fm_dispatch){0};
    }
    return (fm_dispatch){
        .offsets = outs[0], .order = outs[1], .row = outs[2], .n_experts = n_experts, .n_active = (int32_t)ids->dim[1]};
}
