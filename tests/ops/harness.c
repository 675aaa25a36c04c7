#include "harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/ctx.h"

int n_failures, n_checks;

void *must(void *p) {
    if (!p) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    return p;
}

void fail(const char *fmt, ...) {
    va_list ap;
    n_failures++;
    if (n_failures <= 60) {
        va_start(ap, fmt);
        fputs("FAIL ", stdout);
        vprintf(fmt, ap);
        putchar('\n');
        va_end(ap);
    }
}

static void must_ok(fm_status s) {
    if (s != FM_OK) {
        fprintf(stderr, "set-up failed: %s\n", fm_error_get().message);
        abort();
    }
}

static bool is_ids(const fm_test_input *t) {
    return t->kind == FM_IN_IDS || t->kind == FM_IN_POS || t->kind == FM_IN_TARGETS;
}

static int64_t input_numel(const fm_test_input *t) {
    int64_t n = t->n_dims ? 1 : 0;
    for (int i = 0; i < t->n_dims; i++) {
        n *= t->dim[i];
    }
    return n;
}

static fm_rng_key key_of(const fm_op *op, const fm_op_case *cs, const char *what) {
    char name[160];
    snprintf(name, sizeof name, "%s/%s/%s", op->name, cs->name, what);
    return (fm_rng_key){.seed = 20240607, .stream = fm_rng_stream(name), .step = 0};
}

void values_new(case_values *cv, const fm_op *op, const fm_op_case *cs, fm_dtype dtype) {
    *cv = (case_values){.op = op, .cs = cs, .dtype = dtype};
    for (int i = 0; i < cs->n_in; i++) {
        const fm_test_input *t = &cs->in[i];
        int64_t n = input_numel(t);
        cv->numel[i] = n;
        if (t->n_dims == 0) {
            continue;
        }
        if (t->rows) {
            FM_ASSERT(cv->n_rows == 0 || cv->n_rows == t->dim[0]);
            cv->n_rows = t->dim[0];
        }
        fm_rng_key key = key_of(op, cs, t->name);
        if (is_ids(t)) {
            cv->ids[i] = must(calloc((size_t)n, sizeof(int32_t)));
        } else {
            cv->v[i] = must(calloc((size_t)n, sizeof(double)));
        }
        for (int64_t k = 0; k < n; k++) {
            uint64_t at = (uint64_t)k;
            if (t->kind == FM_IN_POS) {
                cv->ids[i][k] = (int32_t)k;
            } else if (is_ids(t)) {
                bool ignored = t->kind == FM_IN_TARGETS && fm_rng_below(key, at + (1u << 20), 5) == 0;
                cv->ids[i][k] = ignored ? -100 : (int32_t)fm_rng_below(key, at, (uint64_t)t->max);
            } else {
                double v = fm_rng_normal(key, at) * (t->scale == 0 ? 1 : t->scale);
                cv->v[i][k] = fm_round_to(dtype, t->kind == FM_IN_POSITIVE ? fabs(v) + 0.5 : v);
            }
        }
    }
}

void values_free(case_values *cv) {
    for (int i = 0; i < FM_MAX_IN; i++) {
        free(cv->v[i]);
        free(cv->ids[i]);
    }
}

double upstream(const case_values *cv, int o, int64_t i) {
    static const char *const names[FM_MAX_OUT] = {"R0", "R1", "R2"};
    return fm_round_to(cv->dtype, fm_rng_normal(key_of(cv->op, cv->cs, names[o]), (uint64_t)i));
}

/* Fills what the next run will be given with NaN, so that a kernel that leaves a gap, or reads before it wrote, shows.
 */
static void poison(fm_ctx *c) {
    int64_t least = 1 << 20;
    memset(c->data.base, 0xFF, (size_t)FM_MIN(c->data.cap, FM_MAX(least, fm_ctx_arena_peak(c))));
    memset(c->grads.base, 0xFF, (size_t)FM_MIN(c->grads.cap, FM_MAX(least, fm_ctx_grad_peak(c))));
}

void place_new(place *p, const case_values *cv, const fm_backend *b, fm_pool *pool, fm_dtype dtype) {
    const fm_op_case *cs = cv->cs;
    *p = (place){.cv = cv, .dtype = dtype};
    must_ok(fm_ctx_new(&p->c, &(fm_ctx_options){.size = sizeof(fm_ctx_options),
                                                .backend = b,
                                                .pool = pool,
                                                .compute = dtype,
                                                .arena_bytes = (int64_t)512 << 20,
                                                .grad_bytes = (int64_t)512 << 20,
                                                .seed = 99}));
    must_ok(fm_params_new(&p->params));
    for (int i = 0; i < cs->n_in; i++) {
        const fm_test_input *t = &cs->in[i];
        if (t->weight) {
            fm_param_desc d = {.name = t->name, .n_dims = t->n_dims};
            memcpy(d.dim, t->dim, sizeof d.dim);
            must_ok(fm_params_add(p->params, &d, &p->param[i]));
            p->param[i]->frozen = t->no_grad;
        } else if (t->n_dims) {
            p->buffer[i] = must(aligned_alloc(64, (size_t)(cv->numel[i] * 8 + 64) / 64 * 64));
        }
    }
    must_ok(fm_params_alloc(p->params, fm_dtype_acc(dtype)));
    must_ok(fm_params_alloc_grads(p->params));
}

void place_free(place *p) {
    for (int i = 0; i < FM_MAX_IN; i++) {
        free(p->buffer[i]);
    }
    fm_params_free(p->params);
    fm_ctx_free(p->c);
}

/* Input i for rows [begin, end), filled anew: an op may write into its input. */
static fm_tensor *make_input(place *p, int i, int64_t begin, int64_t end) {
    const fm_test_input *t = &p->cv->cs->in[i];
    int64_t dim[FM_MAX_DIMS], n = p->cv->numel[i], from = 0;
    if (t->n_dims == 0) {
        return NULL;
    }
    memcpy(dim, t->dim, sizeof dim);
    if (t->rows) {
        int64_t per_row = n / t->dim[0];
        dim[0] = end - begin;
        from = begin * per_row;
        n = dim[0] * per_row;
    }
    if (is_ids(t)) {
        memcpy(p->buffer[i], p->cv->ids[i] + from, (size_t)n * sizeof(int32_t));
        return fm_from_memory(p->c, FM_I32, t->n_dims, dim, p->buffer[i]);
    }
    if (t->weight) {
        fm_param *w = p->param[i];
        for (int64_t k = 0; k < n; k++) {
            fm_store_from_f64(w->dtype, w->data, k, p->cv->v[i][k]);
        }
        fm_param_changed(w);
        return fm_leaf(p->c, w);
    }
    for (int64_t k = 0; k < n; k++) {
        fm_store_from_f64(p->dtype, p->buffer[i], k, p->cv->v[i][from + k]);
    }
    fm_tensor *x = fm_from_memory(p->c, p->dtype, t->n_dims, dim, p->buffer[i]);
    return t->no_grad ? x : fm_require_grad(x);
}

static array array_of(fm_dtype dtype, int64_t numel, int64_t last, int64_t dim0, const void *data) {
    array a = {.dtype = dtype, .numel = numel, .last = last, .dim0 = dim0};
    size_t bytes = (size_t)fm_dtype_bytes(dtype, numel);
    if (!data) { /* meta: a shape and no values */
        return a;
    }
    a.v = must(malloc((size_t)numel * sizeof(double) + 1));
    a.bits = must(malloc(bytes + 1));
    memcpy(a.bits, data, bytes);
    for (int64_t i = 0; i < numel; i++) {
        a.v[i] = fm_load_as_f64(dtype, data, i);
    }
    return a;
}

/* The loss of the tests: sum of R * x over all inputs, whose gradient is R itself. Written here and not composed of
 * operations, so that a fault in one op does not show in all. */
static fm_status dot_shape(fm_ctx *c, fm_node *n) {
    int64_t one = 1;
    return fm_node_out(c, n, FM_F64, 1, &one) ? FM_OK : fm_ctx_status(c);
}
static fm_status dot_forward(fm_ctx *c, fm_node *n) {
    *(double *)fm_data(c, n->out[0]) = 0; /* nobody reads it */
    return FM_OK;
}
static fm_status dot_backward(fm_ctx *c, fm_node *n) {
    const case_values *cv = *(const case_values *const *)n->attr;
    for (int o = 0; o < n->n_in; o++) {
        if (!fm_wants(n, o)) {
            continue;
        }
        void *d;
        bool acc;
        FM_TRY(fm_din(c, n, o, &d, &acc));
        fm_dtype t = n->in[o]->dtype;
        for (int64_t i = 0; d && i < fm_numel(n->in[o]); i++) {
            double r = fm_round_to(t, upstream(cv, o, i));
            fm_store_from_f64(t, d, i, acc ? fm_load_as_f64(t, d, i) + r : r);
        }
    }
    return FM_OK;
}
static const fm_op dot_op = {
    .name = "dot", .kernels = {FM_KERNEL_COUNT}, .shape = dot_shape, .forward = dot_forward, .backward = dot_backward};

static bool run_backward(place *p, fm_tensor **in, fm_tensor **out, result *r) {
    const fm_op_case *cs = p->cv->cs;
    fm_tensor *loss = out[0];
    bool any = false;
    for (int o = 0; o < r->n_out; o++) {
        any = any || r->differentiable[o];
    }
    if (!any) {
        return true;
    }
    if (!cs->unit_upstream) {
        fm_tensor *terms[FM_MAX_OUT];
        memcpy(terms, out, sizeof terms);
        loss = fm_apply(p->c, &dot_op, r->n_out, r->n_out, terms, &p->cv, sizeof p->cv, NULL);
    }
    if (!loss || fm_backward(p->c, loss, 1.0) != FM_OK) {
        return false;
    }
    for (int i = 0; i < cs->n_in; i++) {
        fm_dtype d;
        const void *g = in[i] && !is_ids(&cs->in[i]) && !cs->in[i].no_grad ? fm_grad_of(in[i], &d) : NULL;
        if (g) {
            r->grad[i] = array_of(d, fm_numel(in[i]), fm_last(in[i]), in[i]->dim[0], g);
        }
    }
    return true;
}

bool place_run(place *p, case_fn fn, int64_t begin, int64_t end, bool backward, result *r) {
    fm_tensor *in[FM_MAX_IN] = {0}, *out[FM_MAX_OUT] = {0};
    *r = (result){0};
    if (!p->fixed && !fm_ctx_is_meta(p->c)) { /* the thousands of runs of finite differences are spared */
        poison(p->c);
    }
    fm_error_clear();
    for (int i = 0; i < FM_MAX_IN; i++) {
        if (p->param[i] && p->param[i]->grad) {
            memset(p->param[i]->grad, 0xFF, (size_t)fm_dtype_bytes(fm_dtype_acc(p->dtype), p->param[i]->numel));
        }
    }
    fm_params_begin_step(p->params);
    if (backward) {
        fm_tape_begin(p->c);
    } else {
        fm_tape_off(p->c);
        fm_ctx_reset(p->c);
    }
    for (int i = 0; i < p->cv->cs->n_in; i++) {
        in[i] = make_input(p, i, begin, end);
    }
    r->n_out = fn(p->c, in, end - begin, out);
    if (r->n_out == 0) {
        return false;
    }
    for (int o = 0; o < r->n_out; o++) {
        r->out[o] = array_of(out[o]->dtype, fm_numel(out[o]), fm_last(out[o]), out[o]->dim[0], fm_data(p->c, out[o]));
        r->differentiable[o] = p->fixed ? p->differentiable[o] : out[o]->needs_grad;
    }
    return !backward || run_backward(p, in, out, r);
}

void result_free(result *r) {
    for (int i = 0; i < FM_MAX_OUT; i++) {
        free(r->out[i].v);
        free(r->out[i].bits);
    }
    for (int i = 0; i < FM_MAX_IN; i++) {
        free(r->grad[i].v);
        free(r->grad[i].bits);
    }
    *r = (result){0};
}

double result_loss(const case_values *cv, const result *r) {
    double sum = 0;
    if (cv->cs->unit_upstream) {
        return r->out[0].v[0];
    }
    for (int o = 0; o < r->n_out; o++) {
        for (int64_t i = 0; r->differentiable[o] && i < r->out[o].numel; i++) {
            sum += upstream(cv, o, i) * r->out[o].v[i];
        }
    }
    return sum;
}

const fm_backend *overlay(int set) {
    static fm_backend table[FM_ISA_COUNT];
    if (set == SET_DEFAULT) {
        return fm_cpu_backend();
    }
    const fm_backend *ref = fm_cpu_backend_isa(FM_ISA_REF), *own = fm_cpu_backend_isa((fm_isa)set);
    if (!ref || !own) {
        return NULL;
    }
    fm_backend *t = &table[set];
    if (t->name) {
        return t;
    }
    *t = *ref;
    for (int k = 0; k < FM_KERNEL_COUNT; k++) {
        for (int d = 0; d < FM_DTYPE_COUNT; d++) {
            if (own->kernel[k][d]) {
                t->kernel[k][d] = own->kernel[k][d];
            }
        }
    }
    t->matmul_pack_bytes = own->matmul_pack_bytes;
    t->matmul_pack = own->matmul_pack;
    t->name = set_name(set);
    return t;
}

const char *set_name(int set) {
    return set == SET_DEFAULT ? "default" : fm_isa_name((fm_isa)set);
}

bool set_has(int set, const fm_op *op, fm_dtype d) {
    const fm_backend *own = set == SET_DEFAULT ? fm_cpu_backend() : fm_cpu_backend_isa((fm_isa)set);
    const fm_backend *chosen = fm_cpu_backend_isa(fm_cpu_isa());
    for (int k = 0; own && k < 4 && op->kernels[k] != FM_KERNEL_COUNT; k++) {
        fm_kernel_fn fn = own->kernel[op->kernels[k]][d];
        bool elsewhere = set == SET_DEFAULT && chosen && chosen->kernel[op->kernels[k]][d] == fn;
        if (fn && !elsewhere) {
            return true;
        }
    }
    return set == FM_ISA_REF && op->kernels[0] == FM_KERNEL_COUNT;
}

bool set_runs(int set, const fm_op *op, fm_dtype d) {
    return overlay(set) && set_has(set, op, d) && (d != FM_F16 || set == FM_ISA_REF);
}
