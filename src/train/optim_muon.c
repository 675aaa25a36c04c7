/* Muon (Jordan et al. 2024): momentum whose singular values a Newton-Schulz iteration brings near 1, for the matrices
 * inside the network; embeddings, heads, norms and biases take AdamW. The update is scaled by 0.2 sqrt(max(rows,
 * columns)) (Liu et al. 2025), which gives it the size of an AdamW update, so that one learning rate and decay serve
 * both. With bf16 weights the iteration's products are bf16 with f32 sums, as published; else f32. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "backend/scratch.h"
#include "train/optim_adam.h"

#define STEPS 5
static const double quintic[3] = {3.4445, -4.7750, 2.0315};

static int n_states(const fm_optim_options *o) {
    (void)o;
    return 2;
}

static bool has_word(const char *name, const char *const *words) {
    for (; *words; words++) {
        if (strstr(name, *words)) {
            return true;
        }
    }
    return false;
}

static bool orthogonal(const fm_param *p) {
    static const char *const table[] = {"embed",  "lm_head",     "wte.",        "wpe.",
                                        "score.", "classifier.", "output_head", NULL};
    return p->n_dims == 2 && p->decay && p->dim[0] > 1 && p->dim[1] > 1 && !has_word(p->name, table);
}

static fm_optim_shape shape_of(const fm_param *p, int k) {
    return k == 0 || !orthogonal(p) ? fm_optim_shape_like(p) : (fm_optim_shape){0};
}

/* X and its successor, the Gram matrix and its polynomial; and operands in bf16. */
static int64_t scratch_bytes(const fm_param *p) {
    int64_t r = FM_MIN(p->dim[0], p->dim[1]);
    return orthogonal(p) ? (p->numel + r * r) * (4 + 4 + 2) + 6 * 64 : 0;
}

typedef struct muon {
    const fm_backend *b;
    const fm_exec *x;
    int64_t rows, cols, r; /* r: the smaller */
    fm_dtype d;            /* of the products' operands */
    float *v, *next;       /* [rows,cols] */
    float *gram, *poly;    /* [r,r] */
    uint16_t *v16, *g16;   /* copies in bf16 */
} muon;

static fm_status axpby(const muon *m, int64_t n, double alpha, const float *x, double beta, float *y) {
    fm_axpby_args a = {.n = n, .alpha = alpha, .beta = beta, .x = x, .y = y};
    return fm_kernel_run(m->b, m->x, FM_K_axpby, FM_F32, &a);
}

/* The operand for products: f32 itself, or its bf16 copy. */
static fm_status operand(const muon *m, const float *from, uint16_t *copy, int64_t n, const void **out) {
    *out = from;
    if (m->d == FM_F32) {
        return FM_OK;
    }
    fm_cast_args a = {.n = n, .to = FM_BF16, .x = from, .y = copy};
    *out = copy;
    return fm_kernel_run(m->b, m->x, FM_K_cast, FM_F32, &a);
}

static fm_status product(const muon *m, int64_t rows, int64_t cols, int64_t k, const void *a, bool trans_a, int64_t lda,
                         const void *b, bool trans_b, int64_t ldb, float *c) {
    fm_matmul_args p = {.m = rows,
                        .n = cols,
                        .k = k,
                        .a = a,
                        .lda = lda,
                        .trans_a = trans_a,
                        .b = b,
                        .ldb = ldb,
                        .trans_b = trans_b,
                        .c = c,
                        .ldc = cols,
                        .c_dtype = FM_F32};
    return fm_kernel_run(m->b, m->x, FM_K_matmul, m->d, &p);
}

/* v <- a v + (b G + c G^2) v with G = v v^T, on the side of the smaller dimension. */
static fm_status newton_schulz(muon *m) {
    const int64_t n = m->rows * m->cols, r = m->r;
    const bool wide = m->rows <= m->cols;
    const void *v, *g;
    FM_TRY(operand(m, m->v, m->v16, n, &v));
    if (wide) {
        FM_TRY(product(m, r, r, m->cols, v, false, m->cols, v, true, m->cols, m->gram));
    } else {
        FM_TRY(product(m, r, r, m->rows, v, true, m->cols, v, false, m->cols, m->gram));
    }
    FM_TRY(operand(m, m->gram, m->g16, r * r, &g));
    FM_TRY(product(m, r, r, r, g, false, r, g, false, r, m->poly));
    FM_TRY(axpby(m, r * r, quintic[1], m->gram, quintic[2], m->poly));
    FM_TRY(operand(m, m->poly, m->g16, r * r, &g));
    if (wide) {
        FM_TRY(product(m, r, m->cols, r, g, false, r, v, false, m->cols, m->next));
    } else {
        FM_TRY(product(m, m->rows, r, r, v, false, r, g, false, r, m->next));
    }
    FM_TRY(axpby(m, n, quintic[0], m->v, 1, m->next));
    float *t = m->v;
    m->v = m->next;
    m->next = t;
    return FM_OK;
}

static fm_status take(muon *m) {
    int64_t n = m->rows * m->cols, g = m->r * m->r;
    m->v = fm_scratch_take(m->x, n * 4);
    m->next = fm_scratch_take(m->x, n * 4);
    m->gram = fm_scratch_take(m->x, g * 4);
    m->poly = fm_scratch_take(m->x, g * 4);
    bool ok = m->v && m->next && m->gram && m->poly;
    if (m->d == FM_BF16) {
        m->v16 = fm_scratch_take(m->x, n * 2);
        m->g16 = fm_scratch_take(m->x, g * 2);
        ok = ok && m->v16 && m->g16;
    }
    if (!ok) {
        FM_FAIL(FM_ERR_NO_MEMORY, "muon: no scratch memory for a matrix of %lld x %lld", (long long)m->rows,
                (long long)m->cols);
    }
    return FM_OK;
}

static fm_status step(muon *m, const fm_optim_update *u) {
    const fm_param *p = u->p;
    const int64_t n = p->numel;
    const double mu = u->o->muon_momentum;
    FM_TRY(take(m));
    FM_TRY(axpby(m, n, u->grad_scale, p->grad, 0, m->next));
    if (u->l2 != 0) {
        FM_TRY(axpby(m, n, u->l2, p->data, 1, m->next));
    }
    FM_TRY(axpby(m, n, 1 - mu, m->next, mu, u->state[0]));
    FM_TRY(axpby(m, n, 1, m->next, 0, m->v));
    FM_TRY(axpby(m, n, mu, u->state[0], 1 - mu, m->v)); /* Nesterov's form */
    double sum = 0;
    fm_sum_squares_args s = {.n = n, .x = m->v, .out = &sum};
    FM_TRY(fm_kernel_run(m->b, m->x, FM_K_sum_squares, FM_F32, &s));
    FM_TRY(axpby(m, n, 0, m->v, 1 / fmax(sqrt(sum), 1e-7), m->v));
    for (int i = 0; i < STEPS; i++) {
        FM_TRY(newton_schulz(m));
    }
    double rate = u->lr * 0.2 * sqrt((double)FM_MAX(m->rows, m->cols));
    FM_TRY(axpby(m, n, -rate, m->v, 1 - u->lr * u->decay, p->data));
    if (u->w_bf16) {
        fm_cast_args c = {.n = n, .to = FM_BF16, .x = p->data, .y = u->w_bf16};
        FM_TRY(fm_kernel_run(m->b, m->x, FM_K_cast, FM_F32, &c));
    }
    return FM_OK;
}

static fm_status update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    const fm_param *p = u->p;
    if (!orthogonal(p)) {
        return fm_adamw_update(b, x, u);
    }
    if (p->dtype != FM_F32) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "muon: expected f32 master weights, %s is %s", p->name,
                fm_dtype_get(p->dtype)->name);
    }
    if (u->l1 != 0) {
        FM_FAIL(FM_ERR_CONFIG, "muon: l1 is not supported");
    }
    muon m = {.b = b,
              .x = x,
              .rows = p->dim[0],
              .cols = p->dim[1],
              .r = FM_MIN(p->dim[0], p->dim[1]),
              .d = u->w_bf16 ? FM_BF16 : FM_F32};
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    fm_status s = step(&m, u);
    fm_scratch_restore(x->scratch, mark);
    return s;
}

extern const fm_optimizer fm_optimizer_muon;
const fm_optimizer fm_optimizer_muon = {
    .name = "muon",
    .state_name = {"momentum", "exp_avg_sq"},
    .n_states = n_states,
    .shape_of = shape_of,
    .scratch_bytes = scratch_bytes,
    .update = update,
};
