/* Mixture of experts. */
#include "nn/moe.h"

#include <math.h>
#include <string.h>

bool fm_moe_layer_is_moe(const fm_moe_config *cfg, int32_t layer) {
    return cfg->n_experts > 0 && layer >= cfg->first_dense &&
           (layer + cfg->layer_phase) % FM_MAX(cfg->layer_freq, 1) == 0;
}

#define MAX_EXPERTS 1024

static fm_status in_range(const char *key, int64_t v, int64_t low, int64_t high) {
    if (v < low || v > high) {
        FM_FAIL(FM_ERR_CONFIG, "%s: expected %lld to %lld, found %lld", key, (long long)low, (long long)high,
                (long long)v);
    }
    return FM_OK;
}

fm_status fm_moe_config_check(const fm_moe_config *cfg) {
    if (cfg->n_experts == 0) {
        return FM_OK;
    }
    FM_TRY(in_range("number of experts", cfg->n_experts, 1, MAX_EXPERTS));
    FM_TRY(in_range("num_experts_per_tok", cfg->n_active, 1, cfg->n_experts));
    FM_TRY(in_range("moe_intermediate_size", cfg->d_ff, 1, 1 << 20));
    FM_TRY(in_range("n_shared_experts", cfg->n_shared, 0, (1 << 20) / cfg->d_ff));
    FM_TRY(in_range("first_k_dense_replace", cfg->first_dense, 0, INT32_MAX / 2));
    FM_TRY(in_range("moe_layer_freq", cfg->layer_freq, 0, INT32_MAX / 2));
    if (cfg->n_groups > 1) {
        int32_t width = cfg->n_experts / cfg->n_groups;
        FM_TRY(in_range("n_group", cfg->n_groups, 0, cfg->n_experts));
        if (cfg->n_experts % cfg->n_groups != 0) {
            FM_FAIL(FM_ERR_CONFIG, "n_group: expected a divisor of %d experts, found %d", (int)cfg->n_experts,
                    (int)cfg->n_groups);
        }
        FM_TRY(in_range("topk_group", cfg->top_groups, (cfg->n_active + width - 1) / width, cfg->n_groups));
    }
    if (!(cfg->routed_scale >= 0 && cfg->routed_scale <= 1e6)) {
        FM_FAIL(FM_ERR_CONFIG, "routed_scaling_factor: expected 0 to 1e6, found %g", cfg->routed_scale);
    }
    if (!(cfg->aux_alpha >= 0 && cfg->aux_alpha <= 1e6 && cfg->bias_rate >= 0 && cfg->bias_rate <= 1)) {
        FM_FAIL(FM_ERR_CONFIG, "balance: expected a loss factor of at least 0 and a bias rate of 0 to 1, found %g, %g",
                cfg->aux_alpha, cfg->bias_rate);
    }
    return FM_OK;
}

int64_t fm_moe_config_params(const fm_moe_config *cfg, int64_t d_model, bool active) {
    int64_t experts = cfg->n_shared + (active ? cfg->n_active : cfg->n_experts);
    return cfg->n_experts * d_model + (cfg->correction_bias ? cfg->n_experts : 0) + experts * 3 * d_model * cfg->d_ff;
}

/* ---- forward ----------------------------------------------------------------------------------- */

static fm_router_rule rule_of(const fm_moe_config *cfg) {
    return (fm_router_rule){.n_experts = cfg->n_experts,
                            .n_active = cfg->n_active,
                            .n_groups = cfg->n_groups,
                            .top_groups = cfg->top_groups,
                            .score = cfg->score,
                            .group_score = cfg->group_score,
                            .norm = cfg->norm_topk,
                            .scale = cfg->routed_scale > 0 ? cfg->routed_scale : 1};
}

/* The side effect of training. A layer that is computed again in backward was counted the first time. */
static void count_load(fm_ctx *c, const fm_moe_layer *m, const fm_dispatch *d) {
    const int32_t *offsets = d->offsets && fm_ctx_training(c) && !fm_ctx_recomputing(c) ? fm_data(c, d->offsets) : NULL;
    for (int32_t e = 0; offsets && e < d->n_experts; e++) {
        m->load[e] += offsets[e + 1] - offsets[e];
    }
}

/* Leaves of the weights of all experts; without a tape, and where offsets are known, of those that have rows. */
typedef struct expert_leaves {
    fm_tensor *gate[MAX_EXPERTS], *up[MAX_EXPERTS], *down[MAX_EXPERTS];
} expert_leaves;

static void open_experts(fm_ctx *c, const fm_moe_layer *m, const fm_dispatch *d, expert_leaves *y) {
    const int32_t *offsets = d->offsets && !fm_tape_on(c) ? fm_data(c, d->offsets) : NULL;
    for (int32_t e = 0; e < d->n_experts; e++) {
        bool used = !offsets || offsets[e + 1] > offsets[e];
        y->gate[e] = used ? fm_leaf(c, m->expert[e].gate_w) : NULL;
        y->up[e] = used ? fm_leaf(c, m->expert[e].up_w) : NULL;
        y->down[e] = used ? fm_leaf(c, m->expert[e].down_w) : NULL;
    }
}

fm_tensor *fm_moe_forward(fm_ctx *c, const fm_moe_layer *m, fm_tensor *x, fm_moe_routing *routing) {
    const fm_moe_config *cfg = m->cfg;
    fm_router_rule rule = rule_of(cfg);
    fm_moe_routing r = {0};
    expert_leaves w;
    if (!x) {
        return NULL;
    }
    fm_dtype acc = fm_dtype_acc(x->dtype);
    fm_tensor *logits = fm_linear_acc(c, x, fm_leaf_as(c, m->gate, acc));
    fm_tensor *weights = fm_route(c, logits, m->bias ? fm_leaf_as(c, m->bias, acc) : NULL, &rule, &r.ids, &r.scores);
    fm_dispatch d = fm_expert_sort(c, r.ids, cfg->n_experts);
    if (!d.offsets) {
        return NULL;
    }
    count_load(c, m, &d);
    open_experts(c, m, &d, &w);
    fm_tensor *up, *gate = fm_grouped_linear(c, x, &d, FM_GROUP_GATHER, cfg->d_ff, w.gate, w.up, &up);
    fm_tensor *h = fm_glu_rows(c, gate, up, weights, d.order, m->expert[0].act);
    fm_tensor *y = fm_grouped_linear(c, h, &d, FM_GROUP_COMBINE, x->dim[1], w.down, NULL, NULL);
    if (m->shared.gate_w) {
        y = fm_add(c, y, fm_gated_mlp_forward(c, &m->shared, x));
    }
    if (routing) {
        *routing = r;
    }
    return y;
}

/* ---- balance ----------------------------------------------------------------------------------- */

fm_tensor *fm_moe_balance_loss(fm_ctx *c, const fm_moe_config *cfg, int n_layers, const fm_moe_routing *routing,
                               int32_t n_segments, const int32_t *offsets) {
    fm_balance_options o = {.normalise = cfg->score == FM_ROUTER_SIGMOID};
    fm_tensor **list = fm_calloc(2 * (size_t)n_layers, sizeof *list), *y = NULL;
    int n = 0;
    if (!list) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a list of layers"));
        return NULL;
    }
    if (cfg->seq_aux && !cfg->aux_pooled) {
        o.n_segments = n_segments;
        o.offsets = offsets;
    }
    for (int l = 0; l < n_layers; l++) {
        if (routing[l].scores) {
            list[n] = routing[l].scores;
            list[n_layers + n++] = routing[l].ids;
        }
    }
    if (cfg->aux_pooled && n > 0) {
        y = fm_scale(c, fm_balance_loss(c, n, list, list + n_layers, &o), cfg->aux_alpha * cfg->n_active);
    }
    for (int i = 0; !cfg->aux_pooled && i < n; i++) {
        fm_tensor *t = fm_scale(c, fm_balance_loss(c, 1, list + i, list + n_layers + i, &o), cfg->aux_alpha);
        y = i ? fm_add(c, y, t) : t;
    }
    fm_free(list);
    return y;
}

static double mean_load(const fm_moe_layer *m) {
    double sum = 0;
    for (int32_t e = 0; e < m->cfg->n_experts; e++) {
        sum += (double)m->load[e];
    }
    return sum / m->cfg->n_experts;
}

double fm_moe_max_violation(const fm_moe_layer *m) {
    double mean = mean_load(m);
    int64_t most = 0;
    for (int32_t e = 0; e < m->cfg->n_experts; e++) {
        most = FM_MAX(most, m->load[e]);
    }
    return mean > 0 ? ((double)most - mean) / mean : NAN;
}

void fm_moe_update_bias(fm_moe_layer *m, double rate) {
    double mean = mean_load(m);
    fm_param *b = m->bias;
    if (!b || !b->data || rate == 0 || mean == 0) {
        return;
    }
    for (int32_t e = 0; e < m->cfg->n_experts; e++) {
        double gap = mean - (double)m->load[e], sign = gap > 0 ? 1 : gap < 0 ? -1 : 0;
        fm_store_from_f64(b->dtype, b->data, e, fm_load_as_f64(b->dtype, b->data, e) + rate * sign);
    }
    fm_param_changed(b);
}
