/* Lengths of adapted rows. */
#include "tensor/dora.h"

#include <math.h>

#include "backend/scratch.h"

fm_status fm_dora_new(fm_dora **out, int64_t n) {
    fm_dora *d = fm_calloc(1, sizeof *d);
    *out = d;
    if (d) {
        d->n = n;
        d->squares = fm_calloc((size_t)n, sizeof *d->squares);
        d->inverse = fm_calloc((size_t)n, sizeof(double));
    }
    if (!d || !d->squares || !d->inverse) {
        fm_dora_free(d);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the lengths of %lld rows", (long long)n);
    }
    return FM_OK;
}

void fm_dora_free(fm_dora *d) {
    if (d) {
        fm_free(d->squares);
        fm_free(d->inverse);
        fm_free(d);
    }
}

/* ---- rows of W ------------------------------------------------------------------------------- */

#define ROWS 64 /* made numbers at a time */

typedef struct squares_job {
    const float *x; /* [n,k] */
    int64_t n, k;
    double *out;
} squares_job;

static fm_status squares_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const squares_job *j = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split(j->n, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        double sum[4] = {0};
        const float *x = j->x + r * j->k;
        for (int64_t i = 0; i < j->k; i++) {
            sum[i & 3] += (double)x[i] * (double)x[i];
        }
        j->out[r] = sum[0] + sum[1] + (sum[2] + sum[3]);
    }
    return FM_OK;
}

static fm_status row_squares(const fm_backend *b, const fm_exec *x, const fm_param *w, double *out) {
    int64_t n = w->dim[0], k = w->dim[1];
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    float *rows = fm_scratch_take(x, ROWS * k * (int64_t)sizeof *rows);
    fm_status s =
        rows ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for rows of %s", w->name);
    for (int64_t r = 0; r < n && s == FM_OK; r += ROWS) {
        squares_job j = {.x = rows, .n = FM_MIN(ROWS, n - r), .k = k, .out = out + r};
        s = fm_param_rows(b, x, w, r, j.n, FM_F32, rows);
        s = s == FM_OK ? fm_pool_run(x->pool, 8, squares_part, &j) : s;
    }
    fm_scratch_restore(x->scratch, mark);
    return s;
}

fm_status fm_dora_lengths(const fm_backend *b, const fm_exec *x, const fm_param *w, float *out) {
    int64_t n = w->dim[0];
    double *squares = fm_malloc((size_t)n * sizeof *squares);
    if (!squares) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the lengths of %s", w->name);
    }
    fm_status s = row_squares(b, x, w, squares);
    for (int64_t i = 0; i < n && s == FM_OK; i++) {
        out[i] = (float)sqrt(squares[i]);
    }
    fm_free(squares);
    return s;
}

/* ---- rows of W + scale B A ------------------------------------------------------------------- */

/* 1 / length from |w|^2, A W' [rank,n] and A A' [rank,rank]; all of type acc. */
static void inverses(const fm_dora *d, fm_dtype acc, int64_t rank, const void *aw, const void *aa, fm_dtype d_b,
                     const void *b, double scale) {
    for (int64_t i = 0; i < d->n; i++) {
        double cross = 0, own = 0;
        for (int64_t p = 0; p < rank; p++) {
            double bp = fm_load_as_f64(d_b, b, i * rank + p), row = 0;
            cross += bp * fm_load_as_f64(acc, aw, p * d->n + i);
            for (int64_t q = 0; q < rank; q++) {
                row += fm_load_as_f64(acc, aa, p * rank + q) * fm_load_as_f64(d_b, b, i * rank + q);
            }
            own += bp * row;
        }
        double square = d->squares[i] + 2 * scale * cross + scale * scale * own;
        /* A row of length 0 has no direction: it stays 0, as its product does. */
        fm_store_from_f64(acc, d->inverse, i, square > 0 ? 1 / sqrt(square) : 0);
    }
}

static fm_status refresh(fm_ctx *c, const fm_tensor *w, const fm_lora *l) {
    fm_dora *d = l->dora;
    fm_tensor *a = fm_leaf(c, l->a), *b = fm_leaf(c, l->b);
    const fm_exec *x = fm_ctx_exec(c);
    fm_dtype acc = fm_dtype_acc(w->dtype);
    FM_TRY(fm_ctx_status(c));
    if (d->squares_version != w->param->version) {
        FM_TRY(row_squares(fm_ctx_backend(c), x, w->param, d->squares));
        d->squares_version = w->param->version;
    }
    int64_t rank = a->dim[0], k = a->dim[1];
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    void *aw = fm_scratch_take(x, fm_dtype_bytes(acc, rank * d->n)),
         *aa = fm_scratch_take(x, fm_dtype_bytes(acc, rank * rank));
    fm_status s =
        aw && aa ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %s", w->param->name);
    fm_matmul_args g = {.m = rank,
                        .n = d->n,
                        .k = k,
                        .a = fm_data(c, a),
                        .lda = k,
                        .ldb = k,
                        .trans_b = true,
                        .c = aw,
                        .ldc = d->n,
                        .c_dtype = acc};
    /* Not fm_weight_product: inference would round A to 8 bits. */
    s = s == FM_OK ? fm_weight_numbers(c, w, w->dtype, &g.b) : s;
    s = s == FM_OK ? fm_run(c, FM_K_matmul, w->dtype, &g) : s;
    fm_matmul_args q = {.m = rank,
                        .n = rank,
                        .k = k,
                        .a = g.a,
                        .lda = k,
                        .b = g.a,
                        .ldb = k,
                        .trans_b = true,
                        .c = aa,
                        .ldc = rank,
                        .c_dtype = acc};
    s = s == FM_OK ? fm_run(c, FM_K_matmul, w->dtype, &q) : s;
    const void *rows = s == FM_OK ? fm_data(c, b) : NULL;
    s = s == FM_OK ? fm_ctx_status(c) : s;
    if (s == FM_OK) {
        inverses(d, acc, rank, aw, aa, b->dtype, rows, (double)l->scale);
        d->dtype = w->dtype;
        d->w_version = w->param->version;
        d->a_version = l->a->version;
        d->b_version = l->b->version;
    }
    fm_scratch_restore(x->scratch, mark);
    return s;
}

fm_tensor *fm_dora_inverse(fm_ctx *c, fm_tensor *w, const fm_lora *l) {
    fm_dora *d = l->dora;
    if (fm_ctx_status(c) != FM_OK || !w) {
        return NULL;
    }
    bool same = d->dtype == w->dtype && d->w_version == w->param->version && d->a_version == l->a->version &&
                d->b_version == l->b->version;
    if (!fm_ctx_is_meta(c) && !same) {
        fm_status s = refresh(c, w, l);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
    }
    return fm_from_memory(c, fm_dtype_acc(w->dtype), 1, &d->n, d->inverse);
}
