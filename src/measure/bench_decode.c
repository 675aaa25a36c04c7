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

static fm_status measure(const job *j, fm_model *m, const char *name, fm_dtype d) {
    static int32_t ids[PROMPT];
    fm_session *s = NULL;
    fm_exec x = {.pool = m->pool};
    fm_sampling opt = fm_sampling_default();
    double bandwidth = 0, flops = 0, best_prefill = 0, best_decode = 0;
    fm_finish finish;
    opt.temperature = 0;
    opt.ignore_eos = true;
    for (int i = 0; i < PROMPT; i++) {
        ids[i] = (int32_t)((i * 7919) % m->cfg.vocab_size);
    }
    FM_TRY(fm_scratch_new(&x.scratch));
    fm_status st = fm_ceiling_read(m->pool, 0.5, &bandwidth);
    if (st == FM_OK) {
        st = fm_ceiling_matmul(fm_cpu_backend(), &x, d, 0.5, &flops);
    }
    if (st == FM_OK) {
        st = fm_session_new(&s, m, PROMPT + TOKENS + 1);
    }
    double start = fm_now();
    for (int round = 0; st == FM_OK && (round < 3 || fm_now() - start < j->o->seconds); round++) {
        timing k = {.begin = fm_now()};
        opt.max_new_tokens = j->prefill ? 1 : TOKENS;
        st = fm_session_truncate(s, 0);
        if (st == FM_OK) {
            st = fm_session_generate(s, ids, j->prefill ? PROMPT : 16, &opt, on_token, &k, &finish);
        }
        if (round > 0 && st == FM_OK) { /* the first round packs weights */
            best_prefill = FM_MAX(best_prefill, PROMPT / (k.first - k.begin));
            best_decode = k.n > 1 ? FM_MAX(best_decode, (double)(k.n - 1) / (k.last - k.first)) : best_decode;
        }
    }
    fm_session_free(s);
    fm_scratch_free(x.scratch);
    FM_TRY(st);
    double n = (double)fm_model_params_active(m), w = (double)fm_dtype_bytes(d, 1);
    if (j->prefill) {
        double rate = best_prefill * 2 * n;
        fm_bench_emit(j->fn, j->user, best_prefill, "tokens/s", rate / flops, "best 1024^3", "prefill.%s.%s", name,
                      fm_dtype_get(d)->name);
    } else {
        double limit = bandwidth / (n * w);
        fm_bench_emit(j->fn, j->user, best_decode, "tokens/s", best_decode / limit, "memory read / weights",
                      "decode.%s.%s", name, fm_dtype_get(d)->name);
    }
    return FM_OK;
}

static fm_status one_shape(void *arg, const char *item) {
    const job *j = arg;
    fm_dtype dtype[2];
    int n = fm_bench_dtypes(j->o, dtype);
    for (int i = 0; i < n; i++) {
        fm_model *m = NULL;
        FM_TRY(fm_bench_model(&m, fm_bench_preset(item), dtype[i], j->o));
        fm_status s = measure(j, m, fm_bench_preset(item), dtype[i]);
        fm_model_close(m);
        FM_TRY(s);
    }
    return FM_OK;
}

static fm_status run_either(const fm_bench_options *o, fm_bench_fn fn, void *user, bool prefill) {
    job j = {.o = o, .fn = fn, .user = user, .prefill = prefill};
    if (o->model) {
        fm_model *m = NULL;
        fm_model_options mo = {.size = sizeof mo, .dtype = "auto", .threads = (int)o->threads};
        FM_TRY(fm_model_open(&m, o->model, &mo));
        fm_status s = measure(&j, m, o->model, m->compute);
        fm_model_close(m);
        return s;
    }
    return fm_bench_each(o->shape, one_shape, &j);
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
