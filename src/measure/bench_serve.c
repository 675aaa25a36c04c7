/* bench serve: many answers at once, as the engine of `serve` computes them, HTTP left out: tokens a second of all
 * together and the time to the first token, for one stream and for eight; and how much faster a second request with the
 * same long beginning is read. bench/peers/serve_pairs.py compares over HTTP. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "fathom/engine.h"
#include "measure/bench_model.h"
#include "measure/mixes.h"

#define PROMPT  64
#define TOKENS  128
#define STREAMS 8
#define SHARED  400

typedef struct stream {
    pthread_mutex_t *lock;
    pthread_cond_t *change;
    int *left;
    double begin, first, last, prefill;
    int n;
    fm_status status;
    fm_request *r;
} stream;

static void on_event(void *user, const fm_engine_event *v) {
    stream *s = user;
    pthread_mutex_lock(s->lock);
    s->last = fm_now();
    if (v->id >= 0 && s->n++ == 0) {
        s->first = s->last;
    }
    if (v->last) {
        s->status = v->status;
        s->prefill = v->prefill_s;
        --*s->left;
        pthread_cond_signal(s->change);
    }
    pthread_mutex_unlock(s->lock);
}

static int by_time(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* n streams at once; prompts differ by `salt`, what they share by its thousands. Gives all tokens over the time, and
 * the median first token. */
static fm_status together(fm_engine *e, int32_t vocab, int n, int n_prompt, int shared, int tokens, int salt,
                          double *rate, double *first_ms, double *prefill_s) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t change = PTHREAD_COND_INITIALIZER;
    stream s[STREAMS] = {0};
    double first[STREAMS] = {0};
    int32_t ids[SHARED + PROMPT];
    int left = 0, total = 0;
    fm_sampling o = fm_sampling_default();
    fm_status st = FM_OK;
    o.temperature = 0;
    o.ignore_eos = true;
    o.max_new_tokens = tokens;
    double begin = fm_now(), end = begin;
    for (int i = 0; i < n && st == FM_OK; i++) {
        for (int k = 0; k < n_prompt; k++) {
            ids[k] =
                (int32_t)(((int64_t)k * 7919 + (k < shared ? salt / 1000 * 31337 : (salt + i) * 104729 + 13)) % vocab);
        }
        s[i] = (stream){.lock = &lock, .change = &change, .left = &left, .begin = fm_now()};
        fm_generation g = {.size = sizeof g, .sampling = &o, .fn = on_event, .user = &s[i]};
        pthread_mutex_lock(&lock);
        left++;
        pthread_mutex_unlock(&lock);
        st = fm_engine_submit(&s[i].r, e, ids, n_prompt, &g);
        if (st != FM_OK) {
            pthread_mutex_lock(&lock);
            left--;
            pthread_mutex_unlock(&lock);
        }
    }
    pthread_mutex_lock(&lock);
    while (left > 0) {
        pthread_cond_wait(&change, &lock);
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < n; i++) {
        fm_request_release(s[i].r);
        st = st == FM_OK ? s[i].status : st;
        total += s[i].n;
        end = FM_MAX(end, s[i].last);
        first[i] = (s[i].first - s[i].begin) * 1e3;
    }
    qsort(first, (size_t)n, sizeof *first, by_time);
    *rate = end > begin ? total / (end - begin) : 0;
    *first_ms = first[n / 2];
    *prefill_s = s[0].prefill;
    return st;
}

typedef struct job {
    const fm_bench_options *o;
    fm_bench_fn fn;
    void *user;
} job;

static fm_status measure(const job *j, fm_engine *e, const char *name, int32_t vocab) {
    double rate = 0, ms = 0, s = 0, alone = 0;
    for (int n = 1; n <= STREAMS; n += STREAMS - 1) {
        double best = 0, best_ms = 0, start = fm_now();
        for (int round = 0; round < 2 || fm_now() - start < j->o->seconds; round++) {
            FM_TRY(together(e, vocab, n, PROMPT, 0, TOKENS, round * 100, &rate, &ms, &s));
            best_ms = round == 1 || (round > 1 && ms < best_ms) ? ms : best_ms; /* the first packs weights */
            best = round > 0 ? FM_MAX(best, rate) : 0;
        }
        alone = n == 1 ? best : alone;
        fm_bench_emit(j->fn, j->user, best, "tokens/s", n == 1 ? NAN : best / (alone * n),
                      n == 1 ? "" : "so many alone", "serve.%s.streams%d", name, n);
        fm_bench_emit(j->fn, j->user, best_ms, "ms", NAN, "", "serve.%s.first%d", name, n);
    }
    double ratio[3];
    for (int i = 0; i < 3; i++) {
        double cold, warm;
        FM_TRY(together(e, vocab, 1, SHARED + 20, SHARED, 1, 7001 + 1000 * i, &rate, &ms, &cold));
        FM_TRY(together(e, vocab, 1, SHARED + 20, SHARED, 1, 7002 + 1000 * i, &rate, &ms, &warm));
        ratio[i] = cold / FM_MAX(warm, 1e-9);
    }
    qsort(ratio, 3, sizeof *ratio, by_time);
    fm_bench_emit(j->fn, j->user, ratio[1], "x", NAN, "", "serve.%s.shared_beginning", name);
    return FM_OK;
}

/* Logits in company are those alone, with the kernels and the model whose speed is measured. */
static fm_status compare(const job *j, fm_model *m, const char *name) {
    fm_mixes_options o = {.n_mixes = (int)j->o->check, .seed = 1};
    fm_mixes_report r;
    FM_TRY(fm_mixes_check(&r, m, &o));
    const struct {
        const char *name;
        int64_t n;
    } lines[] = {{"mixes", r.mixes},         {"requests", r.requests},          {"rows_equal", r.rows},
                 {"cancelled", r.cancelled}, {"preemptions", r.preemptions},    {"cached_tokens", r.cached_tokens},
                 {"guesses", r.guessed},     {"guesses_right", r.guessed_right}};
    for (size_t i = 0; i < FM_ARRAY_LEN(lines); i++) {
        fm_bench_emit(j->fn, j->user, (double)lines[i].n, "", NAN, "", "serve.%s.check.%s", name, lines[i].name);
    }
    return FM_OK;
}

static fm_status one_model(void *arg, fm_model *m, const char *name) {
    const job *j = arg;
    fm_engine *e;
    if (j->o->check > 0) {
        return compare(j, m, name);
    }
    fm_engine_options eo = {.size = sizeof eo, .parallel = STREAMS, .ctx_size = SHARED + PROMPT + TOKENS};
    FM_TRY(fm_engine_new(&e, m, &eo));
    fm_status st = measure(j, e, name, m->cfg.vocab_size);
    fm_engine_free(e);
    return st;
}

static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    job j = {.o = o, .fn = fn, .user = user};
    return fm_bench_models(o, one_model, &j);
}

const fm_bench fm_bench_serve = {
    .name = "serve", .summary = "1 and 8 answers of 128 tokens after 64 at once; a shared beginning", .run = run};
