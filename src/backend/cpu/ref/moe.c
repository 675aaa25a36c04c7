/* Routing and the sums over chosen experts. */
#include <math.h>
#include <string.h>

#include "backend/cpu/ref/ref.h"

/* ---- routing ----------------------------------------------------------------------------------- */

static void score_row(fm_dtype d, const fm_router_rule *r, const void *x, void *scores, int64_t at) {
    double top = -INFINITY, sum = 0;
    for (int64_t e = at; e < at + r->n_experts; e++) {
        top = fmax(top, FM_LD(d, x, e));
    }
    for (int64_t e = at; e < at + r->n_experts && r->score == FM_ROUTER_SOFTMAX; e++) {
        sum += exp(FM_LD(d, x, e) - top);
    }
    for (int64_t e = at; e < at + r->n_experts; e++) {
        double v = FM_LD(d, x, e);
        fm_store_from_f64(d, scores, e, r->score == FM_ROUTER_SOFTMAX ? exp(v - top) / sum : 1 / (1 + exp(-v)));
    }
}

/* What expert e is chosen by. NaN counts as the least, so that every choice is an expert. */
static double choice(fm_dtype d, const fm_route_args *a, int64_t row, int32_t e) {
    double v = FM_LD(d, a->scores, row * a->rule.n_experts + e) + (a->bias ? FM_LD(d, a->bias, e) : 0);
    return isnan(v) ? -INFINITY : v;
}

static double group_choice(fm_dtype d, const fm_route_args *a, int64_t row, int32_t g) {
    const fm_router_rule *r = &a->rule;
    int32_t width = r->n_experts / r->n_groups;
    double best = -INFINITY, second = -INFINITY;
    for (int32_t e = g * width; e < (g + 1) * width; e++) {
        double v = choice(d, a, row, e);
        if (v > best) {
            second = best;
            best = v;
        } else if (v > second) {
            second = v;
        }
    }
    return r->group_score == FM_GROUP_MAX || width < 2 ? best : best + second;
}

/* Rank of candidate i among n: how many come before it. */
static bool before(double v, int32_t i, double than, int32_t j) {
    return v > than || (v == than && i < j);
}

static bool group_open(fm_dtype d, const fm_route_args *a, int64_t row, int32_t e) {
    const fm_router_rule *r = &a->rule;
    if (r->n_groups <= 1) {
        return true;
    }
    int32_t g = e / (r->n_experts / r->n_groups), ahead = 0;
    double v = group_choice(d, a, row, g);
    for (int32_t o = 0; o < r->n_groups; o++) {
        ahead += o != g && before(group_choice(d, a, row, o), o, v, g);
    }
    return ahead < r->top_groups;
}

static void choose_row(fm_dtype d, const fm_route_args *a, int64_t row) {
    const fm_router_rule *r = &a->rule;
    int32_t *ids = a->ids + row * r->n_active;
    for (int32_t j = 0; j < r->n_active; j++) {
        int32_t best = -1;
        for (int32_t e = 0; e < r->n_experts; e++) {
            bool taken = !group_open(d, a, row, e);
            for (int32_t i = 0; i < j; i++) {
                taken = taken || ids[i] == e;
            }
            if (!taken && (best < 0 || choice(d, a, row, e) > choice(d, a, row, best))) {
                best = e;
            }
        }
        ids[j] = best;
    }
}

static double chosen_sum(fm_dtype d, const fm_router_rule *r, const void *scores, const int32_t *ids, int64_t row) {
    double sum = 1e-20;
    for (int32_t j = 0; j < r->n_active; j++) {
        sum += FM_LD(d, scores, row * r->n_experts + ids[row * r->n_active + j]);
    }
    return r->norm ? sum : 1;
}

static fm_status route_fwd_any(fm_dtype d, const fm_exec *x, const fm_route_args *a) {
    FM_UNUSED(x);
    const fm_router_rule *r = &a->rule;
    for (int64_t t = 0; t < a->n_rows; t++) {
        score_row(d, r, a->x, a->scores, t * r->n_experts);
        choose_row(d, a, t);
        double sum = chosen_sum(d, r, a->scores, a->ids, t);
        for (int64_t j = t * r->n_active; j < (t + 1) * r->n_active; j++) {
            fm_store_from_f64(d, a->weights, j, r->scale * FM_LD(d, a->scores, t * r->n_experts + a->ids[j]) / sum);
        }
    }
    return FM_OK;
}

/* Gradient of the score of expert e in row t. */
static double dscore(fm_dtype d, const fm_route_bwd_args *a, int64_t t, int32_t e, double sum, double mean) {
    const fm_router_rule *r = &a->rule;
    double g = a->dscores ? FM_LD(d, a->dscores, t * r->n_experts + e) : 0;
    for (int64_t j = t * r->n_active; a->dweights && j < (t + 1) * r->n_active; j++) {
        g += a->ids[j] == e ? r->scale * (FM_LD(d, a->dweights, j) - mean) / sum : 0;
    }
    return g;
}

static fm_status route_bwd_any(fm_dtype d, const fm_exec *x, const fm_route_bwd_args *a) {
    FM_UNUSED(x);
    const fm_router_rule *r = &a->rule;
    for (int64_t t = 0; t < a->n_rows; t++) {
        double sum = chosen_sum(d, r, a->scores, a->ids, t), mean = 0, dot = 0;
        for (int64_t j = t * r->n_active; a->dweights && r->norm && j < (t + 1) * r->n_active; j++) {
            mean += FM_LD(d, a->dweights, j) * FM_LD(d, a->scores, t * r->n_experts + a->ids[j]) / sum;
        }
        for (int32_t e = 0; e < r->n_experts; e++) {
            dot += dscore(d, a, t, e, sum, mean) * FM_LD(d, a->scores, t * r->n_experts + e);
        }
        for (int32_t e = 0; e < r->n_experts; e++) {
            double s = FM_LD(d, a->scores, t * r->n_experts + e), g = dscore(d, a, t, e, sum, mean);
            double dx = r->score == FM_ROUTER_SOFTMAX ? s * (g - dot) : g * s * (1 - s);
            fm_ref_put(d, a->dx, t * r->n_experts + e, dx, a->acc_dx);
        }
    }
    return FM_OK;
}

/* ---- balance ----------------------------------------------------------------------------------- */

/* E / (K n_s n) * how often rows [begin, end) of all parts chose e. */
static double load_factor(const fm_balance_args *a, int64_t begin, int64_t end, int32_t e) {
    int64_t count = 0;
    for (int32_t p = 0; p < a->n_parts; p++) {
        for (int64_t j = begin * a->n_active; j < end * a->n_active; j++) {
            count += a->ids[p][j] == e;
        }
    }
    double parts = a->n_parts, rows = (double)(end - begin);
    return (double)a->n_experts * (double)count / ((double)a->n_active * parts * rows * parts * (double)a->n_rows);
}

static double row_sum(fm_dtype d, const fm_balance_args *a, int32_t p, int64_t t) {
    double sum = 0;
    for (int32_t e = 0; e < a->n_experts && a->normalise; e++) {
        sum += FM_LD(d, a->x[p], t * a->n_experts + e);
    }
    return a->normalise ? sum : 1;
}

static void segment_of(const fm_balance_args *a, int32_t s, int64_t *begin, int64_t *end) {
    *begin = a->offsets ? a->offsets[s] : 0;
    *end = a->offsets ? a->offsets[s + 1] : a->n_rows;
}

static fm_status balance_fwd_any(fm_dtype d, const fm_exec *x, const fm_balance_args *a) {
    FM_UNUSED(x);
    double y = 0;
    for (int32_t s = 0; s < (a->offsets ? a->n_segments : 1); s++) {
        int64_t begin, end;
        segment_of(a, s, &begin, &end);
        for (int32_t e = 0; e < a->n_experts && end > begin; e++) {
            double sum = 0;
            for (int32_t p = 0; p < a->n_parts; p++) {
                for (int64_t t = begin; t < end; t++) {
                    sum += FM_LD(d, a->x[p], t * a->n_experts + e) / row_sum(d, a, p, t);
                }
            }
            y += load_factor(a, begin, end, e) * sum;
        }
    }
    fm_store_from_f64(d, a->y, 0, y);
    return FM_OK;
}

static void balance_row(fm_dtype d, const fm_balance_args *a, int32_t p, int64_t t, int64_t begin, int64_t end) {
    double sum = row_sum(d, a, p, t), dot = 0;
    for (int32_t e = 0; e < a->n_experts && a->normalise; e++) {
        dot += load_factor(a, begin, end, e) * FM_LD(d, a->x[p], t * a->n_experts + e) / sum;
    }
    for (int32_t e = 0; e < a->n_experts; e++) {
        double dx = FM_LD(d, a->dy, 0) * (load_factor(a, begin, end, e) - dot) / sum;
        fm_ref_put(d, a->dx[p], t * a->n_experts + e, dx, a->acc_dx[p]);
    }
}

static fm_status balance_bwd_any(fm_dtype d, const fm_exec *x, const fm_balance_args *a) {
    FM_UNUSED(x);
    for (int32_t s = 0; s < (a->offsets ? a->n_segments : 1); s++) {
        int64_t begin, end;
        segment_of(a, s, &begin, &end);
        for (int32_t p = 0; p < a->n_parts; p++) {
            for (int64_t t = begin; t < end && a->dx[p]; t++) {
                balance_row(d, a, p, t, begin, end);
            }
        }
    }
    return FM_OK;
}

/* ---- sorted rows ------------------------------------------------------------------------------- */

static fm_status expert_sort_any(fm_dtype d, const fm_exec *x, const fm_expert_sort_args *a) {
    FM_UNUSED(d);
    FM_UNUSED(x);
    memset(a->offsets, 0, (size_t)(a->n_experts + 1) * sizeof *a->offsets);
    for (int64_t i = 0; i < a->n; i++) {
        a->offsets[a->ids[i] + 1]++;
    }
    for (int32_t e = 0; e < a->n_experts; e++) {
        a->offsets[e + 1] += a->offsets[e];
    }
    for (int64_t i = 0; i < a->n; i++) { /* offsets[e] walks to the end of e, which is where e + 1 begins ... */
        int32_t r = a->offsets[a->ids[i]]++;
        a->order[r] = (int32_t)i;
        a->row[i] = r;
    }
    memmove(a->offsets + 1, a->offsets, (size_t)a->n_experts * sizeof *a->offsets); /* ... and back */
    a->offsets[0] = 0;
    return FM_OK;
}

static int64_t mapped(const fm_row_map *m, int64_t r) {
    return m->index ? m->index[r] / m->div : r;
}

static double dot_row(fm_dtype d, const void *a, int64_t a_row, const void *b, bool trans_b, int64_t j, int64_t n,
                      int64_t k) {
    double sum = 0;
    for (int64_t p = 0; p < k; p++) {
        sum += FM_LD(d, a, a_row * k + p) * FM_LD(d, b, trans_b ? j * k + p : p * n + j);
    }
    return sum;
}

static fm_status grouped_matmul_any(fm_dtype d, const fm_exec *x, const fm_grouped_matmul_args *a) {
    FM_UNUSED(x);
    for (int32_t g = 0; g < a->n_groups; g++) {
        for (int64_t r = a->offsets[g]; r < a->offsets[g + 1]; r++) {
            for (int64_t j = 0; j < a->n; j++) {
                double v = dot_row(d, a->a, mapped(&a->a_map, r), a->b[g], a->trans_b, j, a->n, a->k);
                v += a->a2 ? dot_row(d, a->a2, r, a->b2[g], a->trans_b, j, a->n, a->k) : 0;
                fm_store_from_f64(d, a->c, r * a->n + j, v);
            }
        }
    }
    return FM_OK;
}

static fm_status grouped_outer_any(fm_dtype d, const fm_exec *x, const fm_grouped_outer_args *a) {
    FM_UNUSED(x);
    for (int32_t g = 0; g < a->n_groups; g++) {
        for (int64_t i = 0; i < a->m * a->n && a->c[g]; i++) {
            double sum = 0;
            for (int64_t r = a->offsets[g]; r < a->offsets[g + 1]; r++) {
                sum += FM_LD(d, a->a, mapped(&a->a_map, r) * a->m + i / a->n) *
                       FM_LD(d, a->b, mapped(&a->b_map, r) * a->n + i % a->n);
            }
            fm_ref_put(fm_dtype_acc(d), a->c[g], i, sum, a->accumulate[g]);
        }
    }
    return FM_OK;
}

static fm_status combine_rows_any(fm_dtype d, const fm_exec *x, const fm_combine_rows_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_tokens * a->dim; i++) {
        double sum = 0;
        for (int32_t j = 0; j < a->n_active; j++) {
            sum += FM_LD(d, a->x, a->row[i / a->dim * a->n_active + j] * a->dim + i % a->dim);
        }
        fm_ref_put(d, a->y, i, sum, a->acc_y);
    }
    return FM_OK;
}

static fm_status glu_rows_fwd_any(fm_dtype d, const fm_exec *x, const fm_glu_rows_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_rows * a->dim; i++) {
        double s = FM_LD(fm_dtype_acc(d), a->scale, a->order[i / a->dim]);
        fm_store_from_f64(d, a->y, i, s * fm_ref_act(a->act, FM_LD(d, a->gate, i)) * FM_LD(d, a->up, i));
    }
    return FM_OK;
}

static fm_status glu_rows_bwd_any(fm_dtype d, const fm_exec *x, const fm_glu_rows_bwd_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        double s = FM_LD(fm_dtype_acc(d), a->scale, a->order[r]), sum = 0;
        for (int64_t i = r * a->dim; i < (r + 1) * a->dim; i++) {
            double g = FM_LD(d, a->gate, i), u = FM_LD(d, a->up, i), dy = FM_LD(d, a->dy, i);
            double f = fm_ref_act(a->act, g);
            sum += dy * f * u;
            fm_store_from_f64(d, a->dgate, i, s * dy * u * fm_ref_act_grad(a->act, g));
            fm_store_from_f64(d, a->dup, i, s * dy * f);
        }
        fm_store_from_f64(fm_dtype_acc(d), a->dscale, a->order[r], sum);
    }
    return FM_OK;
}

FM_REF_KERNEL(route_fwd, fm_route_args)
FM_REF_KERNEL(route_bwd, fm_route_bwd_args)
FM_REF_KERNEL(balance_fwd, fm_balance_args)
FM_REF_KERNEL(balance_bwd, fm_balance_args)
FM_REF_KERNEL(expert_sort, fm_expert_sort_args)
FM_REF_KERNEL(grouped_matmul, fm_grouped_matmul_args)
FM_REF_KERNEL(grouped_outer, fm_grouped_outer_args)
FM_REF_KERNEL(combine_rows, fm_combine_rows_args)
FM_REF_KERNEL(glu_rows_fwd, fm_glu_rows_args)
FM_REF_KERNEL(glu_rows_bwd, fm_glu_rows_bwd_args)
