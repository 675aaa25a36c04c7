/* bench decode and prefill: one sequence, as `generate` runs it. Decoding reads every weight once a token, so its limit
 * is bandwidth / bytes of weights; a prompt is limited by the matrix-product rate. */
#include <string.h>

#include "backend/ceiling.h"
#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "fathom/generate.h"
#include "measure/bench_model.h"

#define PROMPT 512
#define TOKENS 128

typedef struct job {
    const fm_bench_options *o;
    fm_bench_fn fn;
    void *user;
    bool prefill;
} job;

typedef struct timing {
    int64_t n;
    double first, last, begin;
} timing;

static bool on_token(void *user, const fm_token_out *t) {
    timing *k = user;
    FM_UNUSED(t);
    k->last = fm_now();
    if (k->n++ == 0) {
        k->first = k->last;
    }
    return true;
}

/* Bytes of weights that a token reads: those of products, in the form they are read in, and of experts the share that a
 * token meets. The embedding counts when it is the head too. */
static double weight_bytes(const fm_model *m) {
    double bytes = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        bool table = strstr(p->name, "embed_tokens") || strstr(p->name, "wte.weight");
        if (p->tie || (table && !m->cfg.tied)) {
            continue;
        }
        bool as_is = fm_param_quantised(p);
        bytes += p->packed ? (double)p->packed_bytes : (double)fm_dtype_bytes(as_is ? p->dtype : m->compute, p->numel);
    }
    return bytes * (double)fm_model_params_active(m) / (double)fm_params_numel(m->params);
}

/* Operations of a prompt: the head sees its last token only. */
static double prompt_ops(const fm_model *m) {
    double head = (double)m->cfg.vocab_size * m->cfg.d_model;
    double rest = (double)fm_model_params_active(m) - (double)fm_model_config_params_embedding(&m->cfg);
    return 2 * (rest * PROMPT + head);
}

static bool is_quantised(const fm_model *m) {
    for (int i = 0; i < fm_params_count(m->params); i++) {
        if (fm_param_quantised(fm_params_at(m->params, i))) {
            return true;
        }
    }
    return false;
}

/* The limit of this moment. */
static fm_status limit_of(const job *j, const fm_model *m, const fm_exec *x, double *limit) {
    const double seconds = FM_MIN(0.5, j->o->seconds);
    double now = 0;
    if (!j->prefill) {
        FM_TRY(fm_ceiling_read(m->pool, seconds, &now));
    } else if (is_quantised(m)) {
        FM_TRY(fm_ceiling_quant(fm_cpu_backend(), x, seconds, &now));
    } else {
        FM_TRY(fm_ceiling_matmul(fm_cpu_backend(), x, m->compute, seconds, &now));
    }
    *limit = FM_MAX(*limit, now);
    return FM_OK;
}

static fm_status rounds(const job *j, fm_model *m, fm_session *s, const fm_exec *x, double *limit, double *best) {
    static int32_t ids[PROMPT];
    fm_sampling opt = fm_sampling_default();
    fm_finish finish;
    opt.temperature = 0;
    opt.ignore_eos = true;
    opt.max_new_tokens = j->prefill ? 1 : TOKENS;
    for (int i = 0; i < PROMPT; i++) {
        ids[i] = (int32_t)((i * 7919) % m->cfg.vocab_size);
    }
    FM_TRY(limit_of(j, m, x, limit));
    double start = fm_now();
    for (int round = 0; round < 3 || fm_now() - start < j->o->seconds; round++) {
        timing k = {.begin = fm_now()};
        FM_TRY(fm_session_truncate(s, 0));
        FM_TRY(fm_session_generate(s, ids, j->prefill ? PROMPT : 16, &opt, on_token, &k, &finish));
        double rate = j->prefill ? PROMPT / (k.first - k.begin) : (double)(k.n - 1) / (k.last - k.first);
        if (round > 0) { /* the first packs weights */
            *best = FM_MAX(*best, rate);
        }
    }
    return limit_of(j, m, x, limit);
}

static fm_status measure(void *arg, fm_model *m, const char *name) {
    const job *j = arg;
    fm_session *s = NULL;
    fm_exec x = {.pool = m->pool};
    double limit = 0, best = 0;
    const char *dtype = fm_dtype_get(is_quantised(m) ? m->stored : m->compute)->name;
    FM_TRY(fm_scratch_new(&x.scratch));
    fm_status st = fm_session_new(&s, m, PROMPT + TOKENS + 1);
    if (st == FM_OK) {
        st = rounds(j, m, s, &x, &limit, &best);
    }
    fm_session_free(s);
    fm_scratch_free(x.scratch);
    FM_TRY(st);
    if (j->prefill) {
        double rate = best / PROMPT * prompt_ops(m);
        fm_bench_emit(j->fn, j->user, best, "tokens/s", rate / limit, "best 1024^3", "prefill.%s.%s", name, dtype);
        fm_bench_emit(j->fn, j->user, rate * 1e-9, "GFLOP/s", rate / limit, "best 1024^3", "prefill.products.%s.%s",
                      name, dtype);
    } else {
        double rate = best * weight_bytes(m);
        fm_bench_emit(j->fn, j->user, best, "tokens/s", rate / limit, "memory read / weights", "decode.%s.%s", name,
                      dtype);
        fm_bench_emit(j->fn, j->user, rate * 1e-9, "GB/s", rate / limit, "memory read", "decode.weights.%s.%s", name,
                      dtype);
    }
    return FM_OK;
}

static fm_status run_either(const fm_bench_options *o, fm_bench_fn fn, void *user, bool prefill) {
    job j = {.o = o, .fn = fn, .user = user, .prefill = prefill};
    return fm_bench_models(o, measure, &j);
}

static fm_status run_decode(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    return run_either(o, fn, user, false);
}
static fm_status run_prefill(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    return run_either(o, fn, user, true);
}

const fm_bench fm_bench_decode = {
    .name = "decode", .summary = "tokens per second of one sequence, 128 after a prompt of 16", .run = run_decode};
const fm_bench fm_bench_prefill = {
    .name = "prefill", .summary = "tokens per second of a prompt of 512", .run = run_prefill};
