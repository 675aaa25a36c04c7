/* Attention by its definition: all scores of one query and head, softmax, weighted sum. */
#include <string.h>

#include <math.h>

#include "backend/cpu/ref/ref.h"

/* One query row and head. */
/* Caches may hold q8_0 blocks. */
static double ld_kv(fm_dtype d, const void *base, int64_t i) {
    if (d != FM_Q8_0) {
        return FM_LD(d, base, i);
    }
    const uint8_t *b = (const uint8_t *)base + i / 32 * 34;
    uint16_t scale;
    memcpy(&scale, b, sizeof scale);
    return (double)fm_f16_to_f32(scale) * ((const int8_t *)b)[2 + i % 32];
}

typedef struct query {
    const fm_attention_args *a;
    fm_dtype d;
    int64_t segment, head, kv_head;
    int64_t row; /* of q and out */
    int64_t nk;  /* keys of the segment */
    int64_t pos; /* position of the query among them */
    double *p;   /* [nk] probabilities; 0 for keys it does not see */
    double *cap; /* [nk] derivative of the soft cap */
    double sink_p;
    double lse;
} query;

static bool sees(const query *q, int64_t j) {
    const fm_attention_args *a = q->a;
    if (a->mask == FM_MASK_CAUSAL && j > q->pos) {
        return false;
    }
    if (a->window > 0 && j <= q->pos - a->window) {
        return false;
    }
    if (!a->selected) {
        return true;
    }
    const int32_t *list = a->selected + q->row * a->max_selected;
    for (int32_t i = 0; i < a->max_selected && list[i] >= 0; i++) {
        if (list[i] == j) {
            return true;
        }
    }
    return false;
}

static double score(query *q, int64_t j) {
    const fm_attention_args *a = q->a;
    int64_t n = a->head_dim;
    int64_t qo = (q->row * a->n_heads + q->head) * n;
    int64_t ko = fm_ref_kv_row(&a->kv, q->segment, j) * a->kv.k_stride + q->kv_head * n;
    double s = 0.0;
    for (int64_t i = 0; i < n; i++) {
        s += FM_LD(q->d, a->q, qo + i) * ld_kv(a->kv.dtype, a->kv.k, ko + i);
    }
    s *= (double)a->scale;
    q->cap[j] = 1.0;
    if (a->softcap > 0.0F) {
        double t = tanh(s / (double)a->softcap);
        q->cap[j] = 1.0 - t * t;
        s = (double)a->softcap * t;
    }
    if (a->alibi) {
        s += (double)a->alibi[q->head] * (double)(j - q->pos);
    }
    return s;
}

/* Fills p, cap, sink_p and lse. */
static void probabilities(query *q) {
    const fm_attention_args *a = q->a;
    double max = -(double)INFINITY, sum = 0.0;
    double sink = a->sink ? FM_LD(q->d, a->sink, q->head) : -(double)INFINITY;
    for (int64_t j = 0; j < q->nk; j++) {
        q->p[j] = sees(q, j) ? score(q, j) : -(double)INFINITY;
        max = fmax(max, q->p[j]);
    }
    max = fmax(max, sink);
    if (max == -(double)INFINITY) {
        for (int64_t j = 0; j < q->nk; j++) {
            q->p[j] = 0.0;
        }
        q->sink_p = 0.0;
        q->lse = max;
        return;
    }
    for (int64_t j = 0; j < q->nk; j++) {
        sum += exp(q->p[j] - max);
    }
    q->lse = max + log(sum + exp(sink - max));
    for (int64_t j = 0; j < q->nk; j++) {
        q->p[j] = exp(q->p[j] - q->lse);
    }
    q->sink_p = exp(sink - q->lse);
}

typedef void (*query_fn)(query *q, void *ctx);

/* Calls fn for each query row and head with its probabilities. */
static fm_status each_query(fm_dtype d, const fm_exec *x, const fm_attention_args *a, query_fn fn, void *ctx) {
    int64_t most = 1;
    for (int64_t s = 0; s < a->n_segments; s++) {
        most = FM_MAX(most, (int64_t)a->kv.kv_offsets[s + 1] - a->kv.kv_offsets[s]);
    }
    double *work = fm_scratch_take(x, 2 * most * (int64_t)sizeof(double));
    if (!work) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for attention over %lld keys", (long long)most);
    }
    query q = {.a = a, .d = d, .p = work, .cap = work + most};
    for (q.segment = 0; q.segment < a->n_segments; q.segment++) {
        int64_t first = a->q_offsets[q.segment], nq = a->q_offsets[q.segment + 1] - first;
        q.nk = a->kv.kv_offsets[q.segment + 1] - a->kv.kv_offsets[q.segment];
        for (int64_t i = 0; i < nq; i++) {
            q.row = first + i;
            q.pos = q.nk - nq + i;
            for (q.head = 0; q.head < a->n_heads; q.head++) {
                q.kv_head = q.head / (a->n_heads / a->n_kv_heads);
                probabilities(&q);
                fn(&q, ctx);
            }
        }
    }
    return FM_OK;
}

static void forward(query *q, void *ctx) {
    FM_UNUSED(ctx);
    const fm_attention_args *a = q->a;
    int64_t n = a->v_dim, row = q->row * a->n_heads + q->head;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < q->nk; j++) {
            if (q->p[j] != 0.0) {
                int64_t vo = fm_ref_kv_row(&a->kv, q->segment, j) * a->kv.v_stride + q->kv_head * n;
                sum += q->p[j] * ld_kv(a->kv.dtype, a->kv.v, vo + i);
            }
        }
        fm_store_from_f64(q->d, a->out, row * n + i, sum);
    }
    if (a->lse) {
        fm_store_from_f64(fm_dtype_acc(q->d), a->lse, row, q->lse);
    }
}

static fm_status attention_fwd_any(fm_dtype d, const fm_exec *x, const fm_attention_args *a) {
    return each_query(d, x, a, forward, NULL);
}

/* Sums in f64, rounded at the end. */
typedef struct grads {
    const fm_attention_bwd_args *b;
    double *dq, *dk, *dv, *dsink;
} grads;

/* With P = softmax(S), dP_j = dout.v_j and D = sum_j P_j dP_j: dS_j = P_j (dP_j - D); a sink has dP = 0. Forward's
 * out and lse are not read: the definition does not depend on their rounding. */
static void backward(query *q, void *ctx) {
    const grads *g = ctx;
    const fm_attention_args *a = q->a;
    int64_t n = a->head_dim, nv = a->v_dim, row = q->row * a->n_heads + q->head;
    double delta = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t j = 0; j < q->nk; j++) {
            if (q->p[j] == 0.0) {
                continue;
            }
            int64_t r = fm_ref_kv_row(&a->kv, q->segment, j);
            int64_t vo = r * a->kv.v_stride + q->kv_head * nv, ko = r * a->kv.k_stride + q->kv_head * n;
            double dp = 0.0;
            for (int64_t i = 0; i < nv; i++) {
                dp += FM_LD(q->d, g->b->dout, row * nv + i) * ld_kv(a->kv.dtype, a->kv.v, vo + i);
            }
            if (pass == 0) {
                delta += q->p[j] * dp;
                continue;
            }
            double ds = q->p[j] * (dp - delta) * q->cap[j] * (double)a->scale;
            int64_t kv = r * a->n_kv_heads + q->kv_head;
            for (int64_t i = 0; i < n; i++) {
                g->dq[row * n + i] += ds * ld_kv(a->kv.dtype, a->kv.k, ko + i);
                g->dk[kv * n + i] += ds * FM_LD(q->d, a->q, row * n + i);
            }
            for (int64_t i = 0; i < nv; i++) {
                g->dv[kv * nv + i] += q->p[j] * FM_LD(q->d, g->b->dout, row * nv + i);
            }
        }
    }
    g->dsink[q->head] -= q->sink_p * delta;
}

static double *zeroed(const fm_exec *x, int64_t n) {
    double *p = fm_scratch_take(x, n * (int64_t)sizeof *p);
    for (int64_t i = 0; p && i < n; i++) {
        p[i] = 0.0;
    }
    return p;
}

static void put_all(fm_dtype d, void *to, const double *from, int64_t n, bool acc) {
    for (int64_t i = 0; to && i < n; i++) {
        fm_ref_put(d, to, i, from[i], acc);
    }
}

static fm_status attention_bwd_any(fm_dtype d, const fm_exec *x, const fm_attention_bwd_args *b) {
    const fm_attention_args *a = &b->f;
    if (a->n_segments == 0) {
        return FM_OK;
    }
    int64_t n_q = (int64_t)a->q_offsets[a->n_segments] * a->n_heads * a->head_dim;
    int64_t kv_rows = (int64_t)a->kv.kv_offsets[a->n_segments] * a->n_kv_heads;
    int64_t n_k = kv_rows * a->head_dim, n_v = kv_rows * a->v_dim;
    grads g = {b, zeroed(x, n_q), zeroed(x, n_k), zeroed(x, n_v), zeroed(x, a->n_heads)};
    if (!g.dq || !g.dk || !g.dv || !g.dsink) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the gradients of attention");
    }
    FM_TRY(each_query(d, x, a, backward, &g));
    put_all(d, b->dq, g.dq, n_q, b->acc_dq);
    put_all(d, b->dk, g.dk, n_k, b->acc_dk);
    put_all(d, b->dv, g.dv, n_v, b->acc_dv);
    put_all(fm_dtype_acc(d), b->dsink, g.dsink, a->n_heads, true);
    return FM_OK;
}

FM_REF_KERNEL(attention_fwd, fm_attention_args)
FM_REF_KERNEL(attention_bwd, fm_attention_bwd_args)
