/* The walks over the registry. All compare with the f64 reference, which grad ties to finite differences and fused to
 * other operations. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "tensor/coverage.h"
#include "../quick.h"

static const fm_dtype test_dtypes[] = {FM_F32, FM_BF16, FM_F16};
#define N_DTYPES ((int)FM_ARRAY_LEN(test_dtypes))

static bool wanted(const fm_op *op, const char *only) {
    return !only || strcmp(only, op->name) == 0;
}

/* Quick: a large case takes one dtype, the next case the next. */
static bool left_out(const case_values *cv, int ci, int d) {
    int64_t total = 0;
    for (int i = 0; i < cv->cs->n_in; i++) {
        total += cv->numel[i];
    }
    return test_quick() && total > 1000 && ci % N_DTYPES != d;
}

static bool run_or_fail(place *p, case_fn fn, bool backward, result *r, const char *where) {
    if (place_run(p, fn, 0, p->cv->n_rows, backward, r)) {
        return true;
    }
    fail("%s/%s %s: %s", p->cv->op->name, p->cv->cs->name, where, fm_error_get().message);
    return false;
}

/* Largest error of `a` against `e` in units of eps * the largest magnitude of e in its row (last dimension) or, with
 * rows false, in the whole tensor. Magnitudes below 1/64 of the tensor's largest, and below 1e-3, count as those. */
static double worst_error(const array *a, const array *e, bool rows, double eps) {
    double all = 0, worst = 0;
    int64_t last = rows ? e->last : e->numel;
    if (a->numel != e->numel) {
        return INFINITY;
    }
    for (int64_t i = 0; i < e->numel; i++) {
        all = fmax(all, fabs(e->v[i]));
    }
    for (int64_t r = 0; r < e->numel; r += last) {
        double scale = fmax(all / 64, 1e-3);
        for (int64_t i = r; i < r + last; i++) {
            scale = fmax(scale, fabs(e->v[i]));
        }
        for (int64_t i = r; i < r + last; i++) {
            double err = fabs(a->v[i] - e->v[i]) / (scale * eps);
            worst = err <= worst ? worst : isnan(err) ? INFINITY : err;
        }
    }
    return worst;
}

/* ---- check ------------------------------------------------------------------------------------- */

/* Tolerances are stated for f32, where the errors of long sums show. Sums are kept in A, so a narrower result is off by
 * its own rounding, by that of a value or two stored on the way, and no more. */
static double allowed(double tol, fm_dtype unit) {
    return unit == FM_BF16 || unit == FM_F16 ? fmin(tol, 3) : tol;
}

typedef struct tally {
    double fwd, bwd;
    int n;
} tally;

static void check_one(const case_values *cv, const result *e, int set, tally *t) {
    const fm_op *op = cv->op;
    place p;
    result a;
    char where[64];
    snprintf(where, sizeof where, "%s %s", set_name(set), fm_dtype_get(cv->dtype)->name);
    place_new(&p, cv, overlay(set), NULL, cv->dtype);
    if (run_or_fail(&p, cv->cs->run, true, &a, where)) {
        for (int o = 0; o < e->n_out; o++) {
            double err = worst_error(&a.out[o], &e->out[o], true, fm_dtype_eps(a.out[o].dtype));
            t->fwd = fmax(t->fwd, err);
            n_checks++;
            double tol = allowed(op->tol_fwd, a.out[o].dtype);
            if (!(err <= tol)) {
                fail("%s/%s %s: output %d is off by %.3g spacings, allowed %.3g", op->name, cv->cs->name, where, o, err,
                     tol);
            }
        }
        for (int i = 0; i < cv->cs->n_in; i++) {
            if (!e->grad[i].v && !a.grad[i].v) {
                continue;
            }
            fm_dtype unit = op->grads_via_d ? cv->dtype : a.grad[i].dtype;
            double err = INFINITY, tol = allowed(op->tol_bwd, unit);
            if (a.grad[i].v && e->grad[i].v) {
                err = worst_error(&a.grad[i], &e->grad[i], false, fm_dtype_eps(unit));
            }
            t->bwd = fmax(t->bwd, err);
            n_checks++;
            if (!(err <= tol)) {
                fail("%s/%s %s: gradient of %s is off by %.3g spacings, allowed %.3g", op->name, cv->cs->name, where,
                     cv->cs->in[i].name, err, tol);
            }
        }
        t->n++;
    }
    result_free(&a);
    place_free(&p);
}

int mode_check(const char *only) {
    printf("%-14s %-8s %-5s %6s %10s %10s   largest error in spacings of the dtype (allowed)\n", "operation", "set",
           "dtype", "cases", "forward", "backward");
    for (int k = 0; k < fm_n_ops; k++) {
        const fm_op *op = fm_ops[k];
        tally t[N_SETS][3] = {{{0}}};
        for (int ci = 0; wanted(op, only) && ci < op->n_cases; ci++) {
            for (int d = 0; d < N_DTYPES; d++) {
                case_values cv;
                place ref;
                result e;
                values_new(&cv, op, &op->cases[ci], test_dtypes[d]);
                if (left_out(&cv, ci, d)) {
                    values_free(&cv);
                    continue;
                }
                place_new(&ref, &cv, overlay(FM_ISA_REF), NULL, FM_F64);
                if (run_or_fail(&ref, cv.cs->run, true, &e, "ref f64")) {
                    for (int set = 0; set < N_SETS; set++) {
                        if (set_runs(set, op, test_dtypes[d])) {
                            check_one(&cv, &e, set, &t[set][d]);
                        }
                    }
                }
                result_free(&e);
                place_free(&ref);
                values_free(&cv);
            }
        }
        for (int set = 0; set < N_SETS; set++) {
            for (int d = 0; d < N_DTYPES; d++) {
                if (t[set][d].n > 0) {
                    printf("%-14s %-8s %-5s %6d %10.3g %10.3g   (%g, %g)\n", op->name, set_name(set),
                           fm_dtype_get(test_dtypes[d])->name, t[set][d].n, t[set][d].fwd, t[set][d].bwd, op->tol_fwd,
                           op->tol_bwd);
                }
            }
        }
    }
    return n_failures;
}

/* ---- grad -------------------------------------------------------------------------------------- */

#define FD_SAMPLES   64
#define FD_MAX_NUMEL 20000 /* larger cases differ from small ones in kernels, not in formulas; check has them */
#define FD_TOL       1e-6

/* Is there anything finite differences can see? A cast to a narrower type is a staircase. */
static bool smooth(const case_values *cv, const result *r) {
    int64_t total = 0;
    for (int o = 0; o < r->n_out; o++) {
        if (r->out[o].dtype != FM_F64) {
            return false;
        }
    }
    for (int i = 0; i < cv->cs->n_in; i++) {
        total += cv->numel[i];
    }
    return total <= FD_MAX_NUMEL;
}

static double loss_at(place *p, case_values *cv, int i, int64_t at, double v, bool *ok) {
    double old = cv->v[i][at], loss;
    result r;
    cv->v[i][at] = v;
    *ok = run_or_fail(p, cv->cs->run, false, &r, "forward");
    loss = *ok ? result_loss(cv, &r) : 0;
    result_free(&r);
    cv->v[i][at] = old;
    return loss;
}

static double grad_input(place *p, case_values *cv, const result *a, int i) {
    int64_t n = cv->numel[i], step = n > FD_SAMPLES ? n / FD_SAMPLES : 1;
    double scale = 1e-3, worst = 0;
    for (int64_t at = 0; at < n; at++) {
        scale = fmax(scale, a->grad[i].v ? fabs(a->grad[i].v[at]) : 0);
    }
    for (int64_t at = 0; at < n; at += step) {
        double x = cv->v[i][at], h = 0x1p-17 * fmax(1, fabs(x));
        bool ok1, ok2;
        double up = loss_at(p, cv, i, at, x + h, &ok1), down = loss_at(p, cv, i, at, x - h, &ok2);
        double slope = (up - down) / (2 * h), analytic = a->grad[i].v ? a->grad[i].v[at] : 0;
        double err = fabs(slope - analytic) / scale;
        n_checks++;
        if (!ok1 || !ok2 || !(err <= FD_TOL)) {
            fail("%s/%s: gradient of %s[%lld] is %.9g, finite difference %.9g", cv->op->name, cv->cs->name,
                 cv->cs->in[i].name, (long long)at, analytic, slope);
            return INFINITY;
        }
        worst = fmax(worst, err);
    }
    return worst;
}

int mode_grad(const char *only) {
    for (int k = 0; k < fm_n_ops; k++) {
        const fm_op *op = fm_ops[k];
        int n_done = 0, n_skipped = 0;
        double worst = 0;
        for (int ci = 0; wanted(op, only) && ci < op->n_cases; ci++) {
            case_values cv;
            place p;
            result a;
            values_new(&cv, op, &op->cases[ci], FM_F64);
            place_new(&p, &cv, overlay(FM_ISA_REF), NULL, FM_F64);
            bool ok = run_or_fail(&p, cv.cs->run, true, &a, "ref f64");
            if (ok && smooth(&cv, &a)) {
                memcpy(p.differentiable, a.differentiable, sizeof p.differentiable);
                p.fixed = true;
                for (int i = 0; i < cv.cs->n_in; i++) {
                    if (cv.v[i] && !cv.cs->in[i].no_grad) {
                        worst = fmax(worst, grad_input(&p, &cv, &a, i));
                    }
                }
                n_done++;
            } else if (ok) {
                n_skipped++;
            }
            result_free(&a);
            place_free(&p);
            values_free(&cv);
        }
        if (wanted(op, only)) {
            printf("%-14s %2d cases, largest relative error %.2g", op->name, n_done, worst);
            printf(n_skipped ? " (%d too large or not smooth)\n" : "\n", n_skipped);
        }
    }
    return n_failures;
}

/* ---- fused ------------------------------------------------------------------------------------- */

#define FUSED_TOL 1e-11

static double same_values(const case_values *cv, const result *a, const result *b) {
    double worst = 0;
    if (a->n_out != b->n_out) {
        fail("%s/%s: %d outputs, decomposed %d", cv->op->name, cv->cs->name, a->n_out, b->n_out);
        return INFINITY;
    }
    for (int o = 0; o < a->n_out; o++) {
        double err = worst_error(&a->out[o], &b->out[o], false, 1);
        n_checks++;
        worst = fmax(worst, err);
        if (!(err <= FUSED_TOL)) {
            fail("%s/%s: output %d differs from the decomposed form by %.3g", cv->op->name, cv->cs->name, o, err);
        }
    }
    for (int i = 0; i < cv->cs->n_in; i++) {
        if (!a->grad[i].v && !b->grad[i].v) {
            continue;
        }
        double err = a->grad[i].v && b->grad[i].v ? worst_error(&a->grad[i], &b->grad[i], false, 1) : INFINITY;
        n_checks++;
        worst = fmax(worst, err);
        if (!(err <= FUSED_TOL)) {
            fail("%s/%s: gradient of %s differs from the decomposed form by %.3g", cv->op->name, cv->cs->name,
                 cv->cs->in[i].name, err);
        }
    }
    return worst;
}

int mode_fused(const char *only) {
    for (int k = 0; k < fm_n_ops; k++) {
        const fm_op *op = fm_ops[k];
        for (int ci = 0; wanted(op, only) && ci < op->n_cases; ci++) {
            if (!op->cases[ci].decomposed) {
                continue;
            }
            case_values cv;
            place p;
            result a, b = {0};
            values_new(&cv, op, &op->cases[ci], FM_F64);
            place_new(&p, &cv, overlay(FM_ISA_REF), NULL, FM_F64);
            if (run_or_fail(&p, cv.cs->run, true, &a, "ref f64") &&
                run_or_fail(&p, cv.cs->decomposed, true, &b, "decomposed")) {
                printf("%-14s %-24s %.2g\n", op->name, cv.cs->name, same_values(&cv, &a, &b));
            }
            result_free(&a);
            result_free(&b);
            place_free(&p);
            values_free(&cv);
        }
    }
    return n_failures;
}

/* ---- rows -------------------------------------------------------------------------------------- */

static void same_bits(const case_values *cv, const result *cut, const result *full, int64_t begin, int64_t end,
                      const char *where) {
    for (int o = 0; o < full->n_out; o++) {
        const array *f = &full->out[o], *a = &cut->out[o];
        if (f->dim0 != cv->n_rows || a->dim0 != end - begin) {
            continue; /* a total, not rows */
        }
        size_t row = (size_t)fm_dtype_bytes(f->dtype, f->numel / f->dim0);
        n_checks++;
        if (memcmp(a->bits, (const uint8_t *)f->bits + (size_t)begin * row, (size_t)(end - begin) * row) != 0) {
            fail("%s/%s %s: bits of rows [%lld,%lld) of output %d change with the rows beside them", cv->op->name,
                 cv->cs->name, where, (long long)begin, (long long)end, o);
        }
    }
}

static void same_bits_all(const case_values *cv, const result *a, const result *b, const char *where) {
    for (int o = 0; o < a->n_out; o++) {
        const array *x = &a->out[o], *y = &b->out[o];
        n_checks++;
        if (memcmp(x->bits, y->bits, (size_t)fm_dtype_bytes(x->dtype, x->numel)) != 0) {
            fail("%s/%s %s: bits of output %d change with the number of threads", cv->op->name, cv->cs->name, where, o);
        }
    }
    for (int i = 0; i < cv->cs->n_in; i++) {
        const array *x = &a->grad[i], *y = &b->grad[i];
        n_checks += x->v != NULL;
        if (x->v && y->v && memcmp(x->bits, y->bits, (size_t)fm_dtype_bytes(x->dtype, x->numel)) != 0) {
            fail("%s/%s %s: bits of the gradient of %s change with the number of threads", cv->op->name, cv->cs->name,
                 where, cv->cs->in[i].name);
        }
    }
}

static void rows_cuts(place *p, const result *full, const char *where) {
    const case_values *cv = p->cv;
    int64_t n = cv->n_rows, at[3] = {1, n / 2, n - 1};
    for (int k = 0; k < 3 && n >= 2; k++) {
        for (int tail = 0; tail < 2; tail++) {
            if (tail ? cv->cs->prefix_only : cv->cs->suffix_only) {
                continue;
            }
            int64_t begin = tail ? at[k] : 0, end = tail ? n : at[k];
            result cut;
            if (place_run(p, cv->cs->run, begin, end, false, &cut)) {
                same_bits(cv, &cut, full, begin, end, where);
            } else {
                fail("%s/%s %s rows [%lld,%lld): %s", cv->op->name, cv->cs->name, where, (long long)begin,
                     (long long)end, fm_error_get().message);
            }
            result_free(&cut);
        }
    }
}

static void rows_one(const case_values *cv, int set, fm_pool *const pool[2]) {
    result full[2] = {0};
    place p[2];
    for (int t = 0; t < 2; t++) {
        char where[64];
        snprintf(where, sizeof where, "%s %s, %d threads", set_name(set), fm_dtype_get(cv->dtype)->name, t + 1);
        place_new(&p[t], cv, overlay(set), pool[t], cv->dtype);
        if (!run_or_fail(&p[t], cv->cs->run, true, &full[t], where)) {
            continue;
        }
        if (cv->cs->row_invariant) {
            rows_cuts(&p[t], &full[t], where);
        }
        if (t == 1) {
            same_bits_all(cv, &full[0], &full[1], where);
        }
    }
    for (int t = 0; t < 2; t++) {
        result_free(&full[t]);
        place_free(&p[t]);
    }
}

int mode_rows(const char *only) {
    fm_pool *pool[2] = {NULL, NULL};
    for (int t = 0; t < 2; t++) {
        if (fm_pool_new(&pool[t], t + 1) != FM_OK) {
            fail("pool of %d threads: %s", t + 1, fm_error_get().message);
            return 1;
        }
    }
    for (int k = 0; k < fm_n_ops; k++) {
        const fm_op *op = fm_ops[k];
        int before = n_checks;
        for (int ci = 0; wanted(op, only) && ci < op->n_cases; ci++) {
            for (int d = 0; d < N_DTYPES; d++) {
                case_values cv;
                values_new(&cv, op, &op->cases[ci], test_dtypes[d]);
                /* From the second: the reference has no blocks nor threads. */
                for (int set = FM_ISA_REF + 1; set < N_SETS && !left_out(&cv, ci, d); set++) {
                    if (set_runs(set, op, test_dtypes[d])) {
                        rows_one(&cv, set, pool);
                    }
                }
                values_free(&cv);
            }
        }
        if (wanted(op, only)) {
            printf("%-14s %4d comparisons\n", op->name, n_checks - before);
        }
    }
    fm_pool_free(pool[0]);
    fm_pool_free(pool[1]);
    return n_failures;
}

/* ---- meta -------------------------------------------------------------------------------------- */

/* On the meta device nothing runs, and shapes and peaks of memory come out as on one that runs. */
static void meta_one(const case_values *cv) {
    const char *op = cv->op->name, *name = cv->cs->name;
    place real, meta;
    result a, b = {0};
    place_new(&real, cv, overlay(SET_DEFAULT), NULL, cv->dtype);
    place_new(&meta, cv, NULL, NULL, cv->dtype);
    if (run_or_fail(&real, cv->cs->run, true, &a, "default") && run_or_fail(&meta, cv->cs->run, true, &b, "meta")) {
        int64_t arena = fm_ctx_arena_peak(real.c), arena_meta = fm_ctx_arena_peak(meta.c);
        int64_t grads = fm_ctx_grad_peak(real.c), grads_meta = fm_ctx_grad_peak(meta.c);
        bool same = a.n_out == b.n_out;
        for (int o = 0; same && o < a.n_out; o++) {
            same = a.out[o].dtype == b.out[o].dtype && a.out[o].numel == b.out[o].numel &&
                   a.out[o].dim0 == b.out[o].dim0 && a.out[o].last == b.out[o].last;
        }
        n_checks += 3;
        if (!same) {
            fail("%s/%s: outputs on meta have other shapes", op, name);
        }
        if (arena != arena_meta) {
            fail("%s/%s: activations take %lld bytes, on meta %lld", op, name, (long long)arena, (long long)arena_meta);
        }
        if (grads != grads_meta) {
            fail("%s/%s: gradients take %lld bytes, on meta %lld", op, name, (long long)grads, (long long)grads_meta);
        }
    }
    result_free(&a);
    result_free(&b);
    place_free(&real);
    place_free(&meta);
}

int mode_meta(const char *only) {
    for (int k = 0; k < fm_n_ops; k++) {
        for (int ci = 0; wanted(fm_ops[k], only) && ci < fm_ops[k]->n_cases; ci++) {
            for (int d = 0; d < 2; d++) {
                case_values cv;
                values_new(&cv, fm_ops[k], &fm_ops[k]->cases[ci], test_dtypes[d]);
                meta_one(&cv);
                values_free(&cv);
            }
        }
    }
    return n_failures;
}

/* ---- coverage ---------------------------------------------------------------------------------- */

int mode_coverage(const char *only) {
    FM_UNUSED(only);
    static const fm_dtype ref_dtypes[] = {FM_F64, FM_F32, FM_BF16, FM_F16}, simd_dtypes[] = {FM_F32, FM_BF16};
    fm_coverage_column col[4 + 2 * FM_ISA_COUNT];
    int n = 0, n_missing = 0;
    for (int isa = 0; isa < FM_ISA_COUNT; isa++) {
        const fm_backend *b = fm_cpu_backend_isa((fm_isa)isa);
        int n_dtypes = !b ? 0 : isa == FM_ISA_REF ? 4 : 2;
        for (int d = 0; d < n_dtypes; d++) {
            fm_dtype t = isa == FM_ISA_REF ? ref_dtypes[d] : simd_dtypes[d];
            col[n++] = (fm_coverage_column){.backend = b, .name = fm_isa_name((fm_isa)isa), .dtype = t};
        }
    }
    fm_str s = {0};
    fm_status st = fm_ops_coverage(&s, n, col, &n_missing);
    fputs(s.data ? s.data : "", stdout);
    fm_str_free(&s);
    n_checks += n * fm_n_ops;
    for (int i = 0; i < fm_n_ops; i++) { /* the rest of what an op owes */
        const fm_op *op = fm_ops[i];
        n_checks++;
        if (!op->name || !op->formula || !(op->onnx || op->onnx_why) || op->n_cases < 1) {
            fail("operation %d (%s) lacks a name, formula, ONNX lowering or test case", i, op->name ? op->name : "?");
        }
    }
    if (st != FM_OK || n_missing > 0) {
        fail("%d cells without a kernel and without a reason", n_missing);
    }
    return n_failures;
}
