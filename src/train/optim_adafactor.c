/* Adafactor (Shazeer & Stern 2018) with the rate given from outside and no first moment, as transformers runs it
 * (scale_parameter and relative_step off):
 *   b = 1 - t^-0.8;  v = g^2 + 1e-30
 *   matrices: r = b r + (1-b) mean over columns of v; c the same over rows; u = g / sqrt(r c / mean(r))
 *   others:   s = b s + (1-b) v; u = g / sqrt(s)
 *   u /= max(1, rms(u));  w -= lr decay w;  w -= lr u
 * Sums run in parts of fixed size, so they do not depend on the number of threads. */
#include <math.h>
#include <string.h>

#include "backend/scratch.h"
#include "base/error.h"
#include "train/optimizer.h"

#define EPSILON   1e-30
#define DECAY     0.8
#define MAX_PARTS 64

static int n_states(const fm_optim_options *o) {
    (void)o;
    return 3;
}

static bool factored(const fm_param *p) {
    return p->n_dims == 2;
}

static fm_optim_shape shape_of(const fm_param *p, int k) {
    fm_dtype d = fm_dtype_acc(p->dtype);
    if (!factored(p)) {
        return k == 2 ? fm_optim_shape_like(p) : (fm_optim_shape){0};
    }
    return k == 2 ? (fm_optim_shape){0} : (fm_optim_shape){.dtype = d, .n_dims = 1, .dim = {p->dim[k]}};
}

static int64_t parts_of(int64_t rows) {
    return FM_MIN(rows, MAX_PARTS);
}

/* Column sums of each part. */
static int64_t scratch_bytes(const fm_param *p) {
    return (factored(p) ? parts_of(p->dim[0]) * p->dim[1] * 8 : 0) + MAX_PARTS * 8 + 128;
}

typedef struct factor {
    const fm_optim_update *u;
    int64_t rows, cols;
    float *w, *g, *row, *col, *full;
    double beta, row_mean, shrink;
    double *col_sum; /* [parts, cols] */
    double part_sum[MAX_PARTS];
} factor;

static double gradient(const factor *f, int64_t i) {
    const fm_optim_update *u = f->u;
    double w = (double)f->w[i], g = (double)f->g[i] * u->grad_scale;
    return g + u->l2 * w + (w > 0 ? u->l1 : w < 0 ? -u->l1 : 0);
}

static double update_of(const factor *f, int64_t r, int64_t c) {
    int64_t i = r * f->cols + c;
    double v = f->full ? (double)f->full[i] : (double)f->row[r] / f->row_mean * (double)f->col[c];
    return gradient(f, i) / sqrt(v);
}

/* Second moments. */
static fm_status moments(void *arg, int64_t part, int64_t n_parts, int thread) {
    factor *f = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split(f->rows, part, n_parts, 1, &begin, &end);
    double *sum = f->full ? NULL : f->col_sum + part * f->cols;
    for (int64_t c = 0; sum && c < f->cols; c++) {
        sum[c] = 0;
    }
    for (int64_t r = begin; r < end; r++) {
        double mean = 0;
        for (int64_t c = 0; c < f->cols; c++) {
            double g = gradient(f, r * f->cols + c), v = g * g + EPSILON;
            if (sum) {
                sum[c] += v;
                mean += v;
            } else {
                FM_ASSERT(f->full);
                float *s = &f->full[r * f->cols + c];
                *s = (float)(f->beta * (double)*s + (1 - f->beta) * v);
            }
        }
        if (sum) {
            f->row[r] = (float)(f->beta * (double)f->row[r] + (1 - f->beta) * mean / (double)f->cols);
        }
    }
    return FM_OK;
}

static fm_status squares(void *arg, int64_t part, int64_t n_parts, int thread) {
    factor *f = arg;
    int64_t begin, end;
    double sum = 0;
    FM_UNUSED(thread);
    fm_split(f->rows, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < f->cols; c++) {
            double u = update_of(f, r, c);
            sum += u * u;
        }
    }
    f->part_sum[part] = sum;
    return FM_OK;
}

static fm_status apply(void *arg, int64_t part, int64_t n_parts, int thread) {
    factor *f = arg;
    const fm_optim_update *u = f->u;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split(f->rows, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < f->cols; c++) {
            int64_t i = r * f->cols + c;
            double w = (double)f->w[i], step = update_of(f, r, c) * f->shrink;
            f->w[i] = (float)(w - u->lr * u->decay * w - u->lr * step);
            if (u->w_bf16) {
                u->w_bf16[i] = fm_f32_to_bf16(f->w[i]);
            }
        }
    }
    return FM_OK;
}

static void fold_columns(factor *f, int64_t parts) {
    for (int64_t c = 0; c < f->cols; c++) {
        double sum = 0;
        for (int64_t k = 0; k < parts; k++) {
            sum += f->col_sum[k * f->cols + c];
        }
        f->col[c] = (float)(f->beta * (double)f->col[c] + (1 - f->beta) * sum / (double)f->rows);
    }
    double mean = 0;
    for (int64_t r = 0; r < f->rows; r++) {
        mean += (double)f->row[r];
    }
    f->row_mean = mean / (double)f->rows;
}

static fm_status update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    FM_UNUSED(b);
    const fm_param *p = u->p;
    FM_ASSERT(p->dtype == FM_F32);
    bool matrix = factored(p);
    factor f = {.u = u,
                .rows = matrix ? p->dim[0] : p->numel,
                .cols = matrix ? p->dim[1] : 1,
                .w = p->data,
                .g = p->grad,
                .row = u->state[0],
                .col = u->state[1],
                .full = u->state[2],
                .beta = 1 - pow((double)u->t, -DECAY)};
    int64_t parts = parts_of(f.rows);
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    if (matrix) {
        f.col_sum = fm_scratch_take(x, parts * f.cols * (int64_t)sizeof(double));
        if (!f.col_sum) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the column sums of %s", p->name);
        }
    }
    fm_status s = fm_pool_run(x->pool, parts, moments, &f);
    if (s == FM_OK && matrix) {
        fold_columns(&f, parts);
    }
    s = s == FM_OK ? fm_pool_run(x->pool, parts, squares, &f) : s;
    double sum = 0;
    for (int64_t k = 0; k < parts; k++) {
        sum += f.part_sum[k];
    }
    f.shrink = 1 / fmax(1, sqrt(sum / (double)p->numel));
    s = s == FM_OK ? fm_pool_run(x->pool, parts, apply, &f) : s;
    fm_scratch_restore(x->scratch, mark);
    return s;
}

extern const fm_optimizer fm_optimizer_adafactor;
const fm_optimizer fm_optimizer_adafactor = {
    .name = "adafactor",
    .state_name = {"exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq"},
    .n_states = n_states,
    .shape_of = shape_of,
    .scratch_bytes = scratch_bytes,
    .update = update,
};
