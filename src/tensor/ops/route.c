/* Choice of experts: scores, the K best, their weights. The choice is a step function: backward takes it as constant,
 * the usual surrogate, so a logit learns through the weights (and the balance loss) of its row alone. */
#include "tensor/ops_util.h"

enum { OUT_WEIGHTS, OUT_SCORES, OUT_IDS };

static fm_status check_rule(const fm_router_rule *r, int64_t n_experts) {
    if (r->n_experts != n_experts || r->n_active < 1 || r->n_active > r->n_experts) {
        FM_FAIL(FM_ERR_ARGUMENT, "rule: expected 1 to %lld of %lld experts, found %d of %d", (long long)n_experts,
                (long long)n_experts, (int)r->n_active, (int)r->n_experts);
    }
    if (r->n_groups <= 1) {
        return FM_OK;
    }
    if (n_experts % r->n_groups != 0 || r->top_groups < 1 || r->top_groups > r->n_groups ||
        n_experts / r->n_groups * r->top_groups < r->n_active) {
        FM_FAIL(FM_ERR_ARGUMENT,
                "rule: expected groups of equal size of which the best hold %d experts, found %d of %d groups of %lld",
                (int)r->n_active, (int)r->top_groups, (int)r->n_groups, (long long)n_experts);
    }
    return FM_OK;
}

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_router_rule *r = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "logits", FM_ANY_FLOAT, 2, NULL));
    FM_TRY(fm_in_check(n, 0, "logits", (int)fm_dtype_acc(x->dtype), 2, NULL));
    FM_TRY(fm_in_vector(n, 1, "bias", x->dim[1], 0));
    FM_TRY(check_rule(r, x->dim[1]));
    n->keeps_in[0] = n->keeps_in[1] = n->keeps_out[OUT_WEIGHTS] = false;
    int64_t chosen[2] = {x->dim[0], r->n_active};
    FM_TRY(fm_make_out(c, n, x->dtype, 2, chosen));
    FM_TRY(fm_make_out(c, n, x->dtype, 2, x->dim));
    return fm_make_out(c, n, FM_I32, 2, chosen);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_route_args a = {
        .rule = *(const fm_router_rule *)n->attr,
        .n_rows = n->in[0]->dim[0],
        .x = fm_data(c, n->in[0]),
        .bias = fm_data(c, n->in[1]),
        .scores = fm_data(c, n->out[OUT_SCORES]),
        .weights = fm_data(c, n->out[OUT_WEIGHTS]),
        .ids = fm_data(c, n->out[OUT_IDS]),
    };
    return fm_op_run(c, FM_K_route_fwd, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_route_bwd_args a = {
        .rule = *(const fm_router_rule *)n->attr,
        .n_rows = n->in[0]->dim[0],
        .scores = fm_data(c, n->out[OUT_SCORES]),
        .ids = fm_data(c, n->out[OUT_IDS]),
        .dweights = fm_dout(c, n, OUT_WEIGHTS),
        .dscores = fm_dout(c, n, OUT_SCORES),
    };
    FM_TRY(fm_din(c, n, 0, &a.dx, &a.acc_dx));
    return fm_op_run(c, FM_K_route_bwd, n->in[0]->dtype, &a);
}

static int run_rule(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_router_rule r) {
    fm_tensor *ids, *bias = in[1] ? fm_cast(c, in[1], fm_dtype_acc(in[1]->dtype)) : NULL;
    fm_tensor *x = fm_cast(c, in[0], fm_dtype_acc(in[0]->dtype));
    r.n_experts = (int32_t)in[0]->dim[1];
    out[0] = fm_route(c, x, bias, &r, &ids, &out[1]);
    return out[0] && out[1] ? 2 : 0;
}
#define RUN(name, ...)                                                                                                 \
    static int run_##name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                \
        FM_UNUSED(n_rows);                                                                                             \
        return run_rule(c, in, out, (fm_router_rule){__VA_ARGS__});                                                    \
    }
RUN(softmax, .n_active = 3, .scale = 1)
RUN(softmax_norm, .n_active = 4, .norm = true, .scale = 1)
RUN(one, .n_active = 1, .scale = 2)
RUN(six, .n_active = 6, .scale = 1)
RUN(groups_max, .n_active = 3, .n_groups = 4, .top_groups = 2, .scale = 16)
RUN(sigmoid, .n_active = 3, .score = FM_ROUTER_SIGMOID, .scale = 1)
RUN(v3, .n_active = 4, .n_groups = 4, .top_groups = 2, .score = FM_ROUTER_SIGMOID, .group_score = FM_GROUP_SUM_TOP2,
    .norm = true, .scale = 2.5)
/* All chosen, weights rounded to nothing else than the scores. */
RUN(all, .n_active = 5, .scale = 1)
/* Weights alone, and a second gradient of the logits. */
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_tensor *ids, *scores, *x = fm_cast(c, in[0], fm_dtype_acc(in[0]->dtype));
    FM_UNUSED(n_rows);
    fm_router_rule r = {.n_experts = (int32_t)in[0]->dim[1], .n_active = 2, .norm = true, .scale = 1};
    out[0] = fm_route(c, x, NULL, &r, &ids, &scores);
    out[1] = fm_scale(c, x, 3);
    return out[0] && out[1] ? 2 : 0;
}

#define X(T, E)                                                                                                        \
    { .name = "logits", .n_dims = 2, .dim = {T, E}, .scale = 2, .rows = true }
#define B(E)                                                                                                           \
    { .name = "bias", .n_dims = 1, .dim = {E}, .scale = 0.3, .no_grad = true }
static const fm_op_case cases[] = {
    {.name = "softmax", .n_in = 2, .in = {X(9, 11)}, .run = run_softmax, .row_invariant = true},
    {.name = "softmax norm", .n_in = 2, .in = {X(9, 11), B(11)}, .run = run_softmax_norm, .row_invariant = true},
    {.name = "one", .n_in = 2, .in = {X(6, 5)}, .run = run_one, .row_invariant = true},
    {.name = "groups max", .n_in = 2, .in = {X(9, 12)}, .run = run_groups_max, .row_invariant = true},
    {.name = "sigmoid", .n_in = 2, .in = {X(9, 11), B(11)}, .run = run_sigmoid, .row_invariant = true},
    {.name = "v3", .n_in = 2, .in = {X(9, 16), B(16)}, .run = run_v3, .row_invariant = true},
    {.name = "all", .n_in = 2, .in = {X(4, 5)}, .run = run_all, .row_invariant = true},
    {.name = "twice", .n_in = 2, .in = {X(5, 9)}, .run = run_twice},
    {.name = "large", .n_in = 2, .in = {X(130, 64)}, .run = run_six, .row_invariant = true},
    {.name = "large v3", .n_in = 2, .in = {X(70, 256), B(256)}, .run = run_v3, .row_invariant = true},
};

const fm_op fm_op_route = {
    .name = "route",
    .formula = "weights of the K best of softmax | sigmoid (logits) + bias",
    .onnx = "Softmax | Sigmoid, Add, TopK, GatherElements",
    .kernels = {FM_K_route_fwd, FM_K_route_bwd, FM_KERNEL_COUNT},
    .missing_ok = "logits are in the accumulation type: f32 (f64 in the reference)",
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 8,
    .tol_bwd = 24,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_route_(fm_ctx *c, fm_tensor *logits, fm_tensor *bias, const fm_router_rule *rule, fm_tensor **ids,
                     fm_tensor **scores) {
    fm_tensor *outs[FM_MAX_OUT] = {0};
    fm_tensor *y = fm_apply(c, &fm_op_route, 1, 2, (fm_tensor *[]){logits, bias}, rule, sizeof *rule, outs);
    if (y) {
        outs[OUT_IDS]->needs_grad = false;
    }
    *ids = outs[OUT_IDS];
    *scores = outs[OUT_SCORES];
    return y;
}
