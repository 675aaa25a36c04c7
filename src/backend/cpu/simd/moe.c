/* Routing, and the sums and gates of sorted rows (mixture of experts). The products are in gemm_grouped.h. */
#include <float.h>

#include "backend/cpu/simd/activation.h"

/* ---- routing: f32, one row after the other ------------------------------------------------------- */

typedef struct route_job {
    const fm_route_args *f;
    const fm_route_bwd_args *b;
    float *choice; /* [threads,E] scores and bias */
} route_job;

static void score_row(const fm_router_rule *r, const float *x, float *s) {
    const int64_t n_experts = r->n_experts;
    if (r->score == FM_ROUTER_SIGMOID) {
        FM_VECTOR_LOOP(e, n, 0, n_experts, vx_put(FM_F32, s, e, vf_sigmoid(vx_get(FM_F32, x, e, n)), n););
        return;
    }
    float top = x[0], sum;
    for (int64_t e = 1; e < n_experts; e++) {
        top = x[e] > top ? x[e] : top;
    }
    FM_VECTOR_LOOP(e, n, 0, n_experts,
                   { vx_put(FM_F32, s, e, vf_exp(vf_sub(vx_get(FM_F32, x, e, n), vf_set1(top))), n); });
    FM_ROW_SUM(sum, n_experts, acc = vf_add(acc, vx_get(FM_F32, s, i, n)););
    FM_VECTOR_LOOP(e, n, 0, n_experts, vx_put(FM_F32, s, e, vf_div(vx_get(FM_F32, s, e, n), vf_set1(sum)), n););
}

/* The n largest of v in falling order, of equals the lowest index; they become -inf. What may be chosen is at least
 * -FLT_MAX. */
static void top_n(float *v, int64_t len, int32_t n, int32_t *out) {
    for (int32_t j = 0; j < n; j++) {
        int64_t best = 0;
        for (int64_t e = 1; e < len; e++) {
            best = v[e] > v[best] ? e : best;
        }
        out[j] = (int32_t)best;
        v[best] = -INFINITY;
    }
}

static float group_value(const fm_router_rule *r, const float *v, int64_t width) {
    float best = -INFINITY, second = -INFINITY;
    for (int64_t e = 0; e < width; e++) {
        if (v[e] > best) {
            second = best;
            best = v[e];
        } else if (v[e] > second) {
            second = v[e];
        }
    }
    return r->group_score == FM_GROUP_MAX || width < 2 ? best : best + second;
}

/* Closes (to -inf) the experts of all groups but the best; value [n_groups] is scratch. */
static void close_groups(const fm_router_rule *r, float *v, float *value) {
    const int64_t width = r->n_experts / r->n_groups;
    for (int32_t g = 0; g < r->n_groups; g++) {
        value[g] = group_value(r, v + g * width, width);
    }
    for (int32_t g = 0; g < r->n_groups; g++) {
        int32_t ahead = 0;
        for (int32_t o = 0; o < r->n_groups; o++) {
            ahead += value[o] > value[g] || (value[o] == value[g] && o < g);
        }
        for (int64_t e = 0; ahead >= r->top_groups && e < width; e++) {
            v[g * width + e] = -INFINITY;
        }
    }
}

static float chosen_sum(const fm_router_rule *r, const float *s, const int32_t *ids) {
    float sum = 1e-20F;
    for (int32_t j = 0; j < r->n_active; j++) {
        sum += s[ids[j]];
    }
    return r->norm ? sum : 1.0F;
}

static fm_status route_fwd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const route_job *w = arg;
    const fm_route_args *a = w->f;
    const fm_router_rule *r = &a->rule;
    const float *bias = a->bias;
    float *choice = w->choice + (int64_t)thread * 2 * r->n_experts;
    int64_t begin, end;
    fm_split(a->n_rows, part, n_parts, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        float *s = (float *)a->scores + t * r->n_experts, *weights = (float *)a->weights + t * r->n_active;
        int32_t *ids = a->ids + t * r->n_active;
        score_row(r, (const float *)a->x + t * r->n_experts, s);
        for (int64_t e = 0; e < r->n_experts; e++) {
            float v = bias ? s[e] + bias[e] : s[e];
            choice[e] = v > -FLT_MAX ? v : -FLT_MAX; /* NaN too */
        }
        if (r->n_groups > 1) {
            close_groups(r, choice, choice + r->n_experts);
        }
        top_n(choice, r->n_experts, r->n_active, ids);
        const float scale = (float)r->scale, sum = chosen_sum(r, s, ids);
        for (int32_t j = 0; j < r->n_active; j++) {
            weights[j] = scale * (s[ids[j]] / sum);
        }
    }
    return FM_OK;
}

static fm_status route_fwd_f32(const fm_exec *x, const void *p) {
    const fm_route_args *a = p;
    route_job job = {.f = a};
    job.choice = fm_scratch_take(x, (int64_t)fm_pool_threads(x->pool) * 2 * a->rule.n_experts * 4);
    if (!job.choice) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory to choose among %d experts", (int)a->rule.n_experts);
    }
    return fm_par_split(x, a->n_rows * a->rule.n_experts * 16, route_fwd_part, &job);
}

static void route_bwd_row(const fm_route_bwd_args *a, int64_t t, float *g) {
    const fm_router_rule *r = &a->rule;
    const int64_t n_experts = r->n_experts;
    const float *s = (const float *)a->scores + t * n_experts, *dw = a->dweights;
    const int32_t *ids = a->ids + t * r->n_active;
    float *dx = (float *)a->dx + t * n_experts;
    if (a->dscores) {
        memcpy(g, (const float *)a->dscores + t * n_experts, (size_t)n_experts * sizeof *g);
    } else {
        memset(g, 0, (size_t)n_experts * sizeof *g);
    }
    if (dw) {
        const float sum = chosen_sum(r, s, ids), scale = (float)r->scale;
        float mean = 0;
        dw += t * r->n_active;
        for (int32_t j = 0; r->norm && j < r->n_active; j++) {
            mean += dw[j] * (s[ids[j]] / sum);
        }
        for (int32_t j = 0; j < r->n_active; j++) {
            g[ids[j]] += scale * (dw[j] - mean) / sum;
        }
    }
    vf dot = vf_zero();
    if (r->score == FM_ROUTER_SOFTMAX) {
        float total;
        FM_ROW_SUM(total, n_experts, acc = vf_fma(vx_get(FM_F32, g, i, n), vx_get(FM_F32, s, i, n), acc););
        dot = vf_set1(total);
    }
    FM_VECTOR_LOOP(e, n, 0, n_experts, {
        vf se = vx_get(FM_F32, s, e, n), ge = vx_get(FM_F32, g, e, n);
        vf v = r->score == FM_ROUTER_SOFTMAX ? vf_mul(se, vf_sub(ge, dot))
                                             : vf_mul(ge, vf_mul(se, vf_sub(vf_set1(1.0F), se)));
        vx_put(FM_F32, dx, e, a->acc_dx ? vf_add(v, vx_get(FM_F32, dx, e, n)) : v, n);
    });
}

static fm_status route_bwd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const route_job *w = arg;
    int64_t begin, end;
    fm_split(w->b->n_rows, part, n_parts, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        route_bwd_row(w->b, t, w->choice + (int64_t)thread * w->b->rule.n_experts);
    }
    return FM_OK;
}

static fm_status route_bwd_f32(const fm_exec *x, const void *p) {
    const fm_route_bwd_args *a = p;
    route_job job = {.b = a};
    job.choice = fm_scratch_take(x, (int64_t)fm_pool_threads(x->pool) * a->rule.n_experts * 4);
    if (!job.choice) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for gradients of %d experts", (int)a->rule.n_experts);
    }
    return fm_par_split(x, a->n_rows * a->rule.n_experts * 16, route_bwd_part, &job);
}

/* ---- balance loss: f32. Little work beside the rest of a layer, so one thread ---------------------- */

typedef struct balance_sums {
    double *factor; /* [E] E / (K n_s n) * times chosen in the segment */
    double *p;      /* [E] sum of the (normalised) scores */
} balance_sums;

static fm_status balance_scratch(const fm_exec *x, const fm_balance_args *a, balance_sums *b) {
    b->factor = fm_scratch_take(x, 2 * (int64_t)a->n_experts * (int64_t)sizeof(double));
    if (!b->factor) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory to balance %d experts", (int)a->n_experts);
    }
    b->p = b->factor + a->n_experts;
    return FM_OK;
}

static void balance_factors(const fm_balance_args *a, int64_t begin, int64_t end, double *factor) {
    memset(factor, 0, (size_t)a->n_experts * sizeof *factor);
    for (int32_t p = 0; p < a->n_parts; p++) {
        for (int64_t i = begin * a->n_active; i < end * a->n_active; i++) {
            factor[a->ids[p][i]] += 1;
        }
    }
    const double parts = a->n_parts, rows = (double)FM_MAX(end - begin, 1) * parts;
    const double unit = (double)a->n_experts / ((double)a->n_active * rows * parts * (double)a->n_rows);
    for (int32_t e = 0; e < a->n_experts; e++) {
        factor[e] *= unit;
    }
}

static float balance_row_sum(const fm_balance_args *a, const float *x) {
    float sum;
    FM_ROW_SUM(sum, (int64_t)a->n_experts, acc = vf_add(acc, vx_get(FM_F32, x, i, n)););
    return a->normalise ? sum : 1.0F;
}

static fm_status balance_fwd_f32(const fm_exec *exec, const void *p) {
    const fm_balance_args *a = p;
    balance_sums b;
    double y = 0;
    FM_TRY(balance_scratch(exec, a, &b));
    for (int32_t s = 0; s < (a->offsets ? a->n_segments : 1); s++) {
        const int64_t begin = a->offsets ? a->offsets[s] : 0, end = a->offsets ? a->offsets[s + 1] : a->n_rows;
        balance_factors(a, begin, end, b.factor);
        memset(b.p, 0, (size_t)a->n_experts * sizeof *b.p);
        for (int32_t q = 0; q < a->n_parts; q++) {
            for (int64_t t = begin; t < end; t++) {
                const float *x = (const float *)a->x[q] + t * a->n_experts, rcp = 1.0F / balance_row_sum(a, x);
                for (int32_t e = 0; e < a->n_experts; e++) {
                    b.p[e] += (double)(x[e] * rcp);
                }
            }
        }
        for (int32_t e = 0; e < a->n_experts; e++) {
            y += b.factor[e] * b.p[e];
        }
    }
    *(float *)a->y = (float)y;
    return FM_OK;
}

static void balance_bwd_row(const fm_balance_args *a, const double *factor, int32_t q, int64_t t) {
    const float *x = a->normalise ? (const float *)a->x[q] + t * a->n_experts : NULL;
    float *dx = (float *)a->dx[q] + t * a->n_experts;
    const double sum = x ? (double)balance_row_sum(a, x) : 1, dy = (double)*(const float *)a->dy;
    double dot = 0;
    for (int32_t e = 0; x && e < a->n_experts; e++) {
        dot += factor[e] * (double)x[e] / sum;
    }
    for (int32_t e = 0; e < a->n_experts; e++) {
        const float v = (float)(dy * (factor[e] - dot) / sum);
        dx[e] = a->acc_dx[q] ? dx[e] + v : v;
    }
}

static fm_status balance_bwd_f32(const fm_exec *exec, const void *p) {
    const fm_balance_args *a = p;
    balance_sums b;
    FM_TRY(balance_scratch(exec, a, &b));
    for (int32_t s = 0; s < (a->offsets ? a->n_segments : 1); s++) {
        const int64_t begin = a->offsets ? a->offsets[s] : 0, end = a->offsets ? a->offsets[s + 1] : a->n_rows;
        balance_factors(a, begin, end, b.factor);
        for (int32_t q = 0; q < a->n_parts; q++) {
            for (int64_t t = begin; t < end && a->dx[q]; t++) {
                balance_bwd_row(a, b.factor, q, t);
            }
        }
    }
    return FM_OK;
}

/* ---- sums over the experts of a token ------------------------------------------------------------- */

typedef struct rows_job {
    fm_dtype d;
    const void *args;
} rows_job;

FM_INLINE void combine_range(fm_dtype d, const fm_combine_rows_args *a, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
        const int32_t *row = a->row + t * a->n_active;
        FM_VECTOR_LOOP(i, n, 0, a->dim, {
            vf sum = vx_get(d, a->x, row[0] * a->dim + i, n);
            for (int32_t j = 1; j < a->n_active; j++) {
                sum = vf_add(sum, vx_get(d, a->x, row[j] * a->dim + i, n));
            }
            if (a->acc_y) {
                sum = vf_add(sum, vx_get(d, a->y, t * a->dim + i, n));
            }
            vx_put(d, a->y, t * a->dim + i, sum, n);
        });
    }
}

static fm_status combine_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const rows_job *w = arg;
    const fm_combine_rows_args *a = w->args;
    int64_t begin, end;
    fm_split(a->n_tokens, part, n_parts, 1, &begin, &end);
    if (w->d == FM_BF16) {
        combine_range(FM_BF16, a, begin, end);
    } else {
        combine_range(FM_F32, a, begin, end);
    }
    return FM_OK;
}

FM_INLINE fm_status combine_rows_run(fm_dtype d, const fm_exec *x, const fm_combine_rows_args *a) {
    rows_job job = {d, a};
    return fm_par_split(x, a->n_tokens * (a->n_active + 1) * a->dim * (d == FM_BF16 ? 2 : 4), combine_part, &job);
}

/* ---- gates of sorted rows -------------------------------------------------------------------------- */

FM_INLINE void glu_rows_fwd_range(fm_dtype d, fm_act act, const fm_glu_rows_args *a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        const vf s = vf_set1(((const float *)a->scale)[a->order[r]]);
        FM_VECTOR_LOOP(i, n, r * a->dim, (r + 1) * a->dim, {
            vf f = vx_act(act, vx_get(d, a->gate, i, n), NULL);
            vx_put(d, a->y, i, vf_mul(s, vf_mul(f, vx_get(d, a->up, i, n))), n);
        });
    }
}

FM_INLINE void glu_rows_bwd_range(fm_dtype d, fm_act act, const fm_glu_rows_bwd_args *a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * a->dim;
        const vf s = vf_set1(((const float *)a->scale)[a->order[r]]);
        float sum;
        FM_ROW_SUM(sum, a->dim, {
            vf df;
            vf f = vx_act(act, vx_get(d, a->gate, at + i, n), &df);
            vf up = vx_get(d, a->up, at + i, n);
            vf dy = vx_get(d, a->dy, at + i, n);
            vf sdy = vf_mul(s, dy);
            acc = vf_fma(vf_mul(dy, f), up, acc);
            vx_put(d, a->dgate, at + i, vf_mul(vf_mul(sdy, up), df), n);
            vx_put(d, a->dup, at + i, vf_mul(sdy, f), n);
        });
        ((float *)a->dscale)[a->order[r]] = sum;
    }
}

#define GLU_ROWS_KERNEL(name, args_type, arrays)                                                                       \
    static fm_status name##_part(void *arg, int64_t part, int64_t n_parts, int thread) {                               \
        FM_UNUSED(thread);                                                                                             \
        const rows_job *j = arg;                                                                                       \
        const args_type *a = j->args;                                                                                  \
        int64_t begin, end;                                                                                            \
        fm_split(a->n_rows, part, n_parts, 1, &begin, &end);                                                           \
        FM_ACT_DISPATCH(j->d, a->act, name##_range, a, begin, end);                                                    \
        return FM_OK;                                                                                                  \
    }                                                                                                                  \
    FM_INLINE fm_status name##_run(fm_dtype d, const fm_exec *x, const args_type *a) {                                 \
        rows_job job = {d, a};                                                                                         \
        return fm_par_split(x, a->n_rows * a->dim * (arrays) * (d == FM_BF16 ? 2 : 4), name##_part, &job);             \
    }                                                                                                                  \
    FM_SIMD_KERNEL(name, args_type)

FM_SIMD_KERNEL(combine_rows, fm_combine_rows_args)
GLU_ROWS_KERNEL(glu_rows_fwd, fm_glu_rows_args, 3)
GLU_ROWS_KERNEL(glu_rows_bwd, fm_glu_rows_bwd_args, 5)

extern const fm_kernel_row FM_SIMD_FN(moe_rows)[];
const fm_kernel_row FM_SIMD_FN(moe_rows)[] = {
    FM_SIMD_ROW(route_fwd, f32, FM_F32),
    FM_SIMD_ROW(route_bwd, f32, FM_F32),
    FM_SIMD_ROW(balance_fwd, f32, FM_F32),
    FM_SIMD_ROW(balance_bwd, f32, FM_F32),
    FM_SIMD_ROWS(combine_rows),
    FM_SIMD_ROWS(glu_rows_fwd),
    FM_SIMD_ROWS(glu_rows_bwd),
    FM_SIMD_END,
};
