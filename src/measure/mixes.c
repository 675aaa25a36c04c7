/* Random mixes of requests against the same requests one at a time. */
#include "measure/mixes.h"

#include <pthread.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "fathom/log.h"
#include "infer/engine.h"

#define CASES     32  /* different requests */
#define ROOTS     3   /* texts that they begin with */
#define MOST_READ 120 /* tokens of a prompt */
#define MOST_MADE 20  /* tokens of an answer */
#define MOST_RUNS 12  /* requests of a mix */

/* Numbers of one purpose, one after the other. */
typedef struct dice {
    fm_rng_key key;
    uint64_t at;
} dice;

static int32_t below(dice *d, int32_t n) {
    return (int32_t)fm_rng_below(d->key, d->at++, (uint64_t)n);
}

/* A request, and what it gives alone. */
typedef struct request_case {
    int32_t ids[MOST_READ];
    int32_t n, adapter; /* -1 = none */
    fm_sampling o;
    fm_logit_bias bias;
    int32_t made; /* tokens */
    int32_t id[MOST_MADE];
    double logprob[MOST_MADE];
    uint64_t logits[MOST_MADE]; /* hashes of the rows */
} request_case;

typedef struct check check;

/* One time that a case runs. */
typedef struct one_run {
    check *c;
    request_case *want;
    fm_request *r;
    int32_t n_events, n_rows; /* n_rows: written by the thread that samples, between two events */
    int32_t cancel_at;        /* -1 = never */
    bool cancel, done;
    int32_t wrong; /* first token that differs, -1 = none */
    const char *what;
    fm_status status;
} one_run;

struct check {
    fm_model *m;
    const fm_mixes_options *o;
    fm_mixes_report *report;
    request_case *cases; /* [CASES] */
    bool alone;
    int number;
    fm_engine *e;
    fm_engine_options eo;
    pthread_mutex_t lock; /* of what follows, and of the runs */
    pthread_cond_t change;
    int64_t events;
    int32_t left;
};

static void differs(one_run *r, int32_t at, const char *what) {
    if (r->wrong < 0) {
        r->wrong = at;
        r->what = what;
    }
}

/* Before a token is chosen; any thread of the pool, one at a time for a request. */
static void on_logits(void *user, int32_t at, const float *logits) {
    one_run *r = user;
    request_case *w = r->want;
    int32_t i = at - w->n;
    uint64_t hash = fm_hash64(logits, (size_t)r->c->m->cfg.vocab_size * sizeof *logits, 0);
    if (r->c->alone) {
        w->logits[i] = hash;
    } else if (i != r->n_rows || w->logits[i] != hash) {
        differs(r, i, "the logits of");
    }
    r->n_rows = i + 1;
}

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void on_event(void *user, const fm_engine_event *v) {
    one_run *r = user;
    check *c = r->c;
    request_case *w = r->want;
    pthread_mutex_lock(&c->lock);
    if (v->id >= 0) {
        int32_t i = r->n_events++;
        if (c->alone) {
            w->id[i] = v->id;
            w->logprob[i] = v->logprob;
            w->made = i + 1;
        } else if (i >= w->made || w->id[i] != v->id || bits_of(w->logprob[i]) != bits_of(v->logprob)) {
            differs(r, i, "the choice of");
        }
    }
    if (v->last) {
        r->status = v->status;
        r->done = true;
        c->left--;
        c->report->cached_tokens += v->n_cached;
    } else if (r->n_events == r->cancel_at) {
        r->cancel = true;
        fm_request_cancel(r->r);
    }
    c->events++;
    pthread_cond_signal(&c->change);
    pthread_mutex_unlock(&c->lock);
}

/* The lock is held meanwhile, so that no event comes before r->r is known. */
static fm_status submit(check *c, one_run *r, request_case *w) {
    static const char *const names[] = {"a", "b", "c", "d"};
    *r = (one_run){.c = c, .want = w, .cancel_at = r->cancel_at, .wrong = -1, .status = FM_OK};
    fm_generation g = {.size = sizeof g,
                       .sampling = &w->o,
                       .client = (uint64_t)(w - c->cases) % 3,
                       .adapter = w->adapter >= 0 ? names[w->adapter] : NULL,
                       .fn = on_event,
                       .user = r};
    pthread_mutex_lock(&c->lock);
    fm_status s = fm_engine_submit(&r->r, c->e, w->ids, w->n, &g);
    if (s == FM_OK) {
        c->left++;
        if (r->cancel_at == 0) {
            r->cancel = true;
            fm_request_cancel(r->r);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return s;
}

static void wait_events(check *c, int32_t more) {
    pthread_mutex_lock(&c->lock);
    int64_t events = c->events + more;
    while (c->left > 0 && c->events < events) {
        pthread_cond_wait(&c->change, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

/* Waits for it and lets it go; complains when it was not what it is alone. */
static fm_status finish(check *c, one_run *r) {
    pthread_mutex_lock(&c->lock);
    while (!r->done) {
        pthread_cond_wait(&c->change, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    fm_request_release(r->r);
    fm_mixes_report *out = c->report;
    const fm_engine_options *o = &c->eo;
    bool whole = r->status == FM_OK;
    out->rows += c->alone ? 0 : r->n_rows;
    out->requests += !c->alone;
    out->cancelled += !whole;
    out->with_adapter += r->want->adapter >= 0;
    if (!whole && !(r->status == FM_ERR_CANCELLED && r->cancel)) {
        FM_FAIL(r->status, "mix %d: request %d ended with %s", c->number, (int)(r->want - c->cases),
                fm_status_name(r->status));
    }
    if (whole && r->n_events != r->want->o.max_new_tokens) {
        differs(r, r->n_events, "the end before");
    }
    if (r->wrong >= 0) {
        FM_FAIL(FM_ERR_STATE,
                "mix %d of seed %llu: %s token %d of request %d (%d tokens read) differ from what it gets alone; "
                "%d at once, passes of %d tokens, blocks of %d, cache of %lld bytes, prefix cache %s, guesses %s",
                c->number, (unsigned long long)c->o->seed, r->what, (int)r->wrong, (int)(r->want - c->cases),
                (int)r->want->n, (int)o->parallel, (int)o->batch_tokens, (int)o->block_tokens, (long long)o->kv_bytes,
                o->no_prefix_cache ? "off" : "on",
                o->draft    ? "of a model"
                : o->lookup ? "from the text"
                : o->mtp    ? "of the prediction layer"
                            : "none");
    }
    return FM_OK;
}

/* ---- engines --------------------------------------------------------------------------------- */

static void close_engine(check *c) {
    if (c->e) {
        fm_engine_stats st;
        fm_engine_get_stats(&st, c->e);
        c->report->passes += st.passes;
        c->report->preemptions += st.preemptions;
        c->report->guessed += st.draft_tokens;
        c->report->guessed_right += st.draft_accepted;
        c->report->engines++;
        fm_engine_free(c->e);
        c->e = NULL;
    }
}

static fm_status open_engine(check *c, const fm_engine_options *o) {
    static const char *const names[] = {"a", "b", "c", "d"};
    close_engine(c);
    c->eo = *o;
    FM_TRY(fm_engine_new(&c->e, c->m, o));
    c->e->watch = on_logits;
    for (int i = 0; i < c->o->n_adapters; i++) {
        FM_TRY(fm_engine_add_adapter(c->e, names[i], c->o->adapter[i]));
    }
    return FM_OK;
}

static fm_status random_engine(check *c, dice *d) {
    static const int32_t passes[] = {16, 24, 40, 64, 100, 512}, blocks[] = {1, 4, 8, 16, 32};
    fm_engine_options o = {.size = sizeof o,
                           .parallel = 1 + below(d, MOST_RUNS),
                           .batch_tokens = passes[below(d, FM_ARRAY_LEN(passes))],
                           .block_tokens = blocks[below(d, FM_ARRAY_LEN(blocks))],
                           .ctx_size = MOST_READ + MOST_MADE,
                           .no_prefix_cache = below(d, 4) == 0,
                           .warm = below(d, 2) == 0,
                           .kv_dtype = c->o->kv_dtype};
    int32_t guess = below(d, 5);
    o.draft = guess == 1 || guess == 2 ? c->o->draft : NULL;
    o.lookup = guess == 3 || (guess < 3 && guess > 0 && !c->o->draft && !c->o->mtp);
    o.mtp = !o.draft && (guess == 1 || guess == 2) && c->o->mtp;
    o.draft_max = o.mtp ? 0 : 1 + below(d, 6);
    if (below(d, 3) > 0) { /* room for one or two of the longest */
        fm_dtype kv = c->m->compute;
        if (c->o->kv_dtype && !fm_dtype_parse(&kv, c->o->kv_dtype)) {
            kv = c->m->compute;
        }
        int64_t bytes = fm_model_kv_bytes_per_token(&c->m->cfg, kv);
        bytes += o.draft ? fm_model_kv_bytes_per_token(&o.draft->cfg, o.draft->compute) : o.mtp ? bytes : 0;
        int64_t room = (o.ctx_size + o.block_tokens - 1) / o.block_tokens * o.block_tokens;
        o.kv_bytes = bytes * (room + below(d, (int32_t)room));
    }
    return open_engine(c, &o);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void make_cases(check *c) {
    int32_t vocab = c->m->cfg.vocab_size;
    dice d = {.key = {.seed = c->o->seed, .stream = fm_rng_stream("mixes.cases")}};
    int32_t root[ROOTS][MOST_READ];
    for (int r = 0; r < ROOTS; r++) {
        for (int i = 0; i < MOST_READ; i++) { /* the last one repeats: guesses from the text are often right there */
            root[r][i] = r == ROOTS - 1 && i >= 6 ? root[r][i - 6] : below(&d, vocab);
        }
    }
    for (int k = 0; k < CASES; k++) {
        request_case *w = &c->cases[k];
        const int32_t *text = root[below(&d, ROOTS)];
        int32_t shared = below(&d, 4) == 0 ? 0 : 1 + below(&d, MOST_READ - 30);
        w->n = shared + 1 + below(&d, shared < MOST_READ - 30 && k % 3 == 0 ? 30 : 6);
        for (int32_t i = 0; i < w->n; i++) {
            w->ids[i] = i < shared ? text[i] : k % 2 ? text[(i * 7 + k) % MOST_READ] : below(&d, vocab);
        }
        w->adapter = c->o->n_adapters > 0 ? below(&d, c->o->n_adapters + 1) - 1 : -1;
        w->o = fm_sampling_default();
        w->o.max_new_tokens = 1 + below(&d, MOST_MADE);
        w->o.temperature = k % 3 == 0 ? 0.9 : 0;
        w->o.frequency_penalty = k % 6 == 0 ? 0.5 : 0;
        w->o.seed = (uint64_t)below(&d, 5);
        if (k % 5 == 0) { /* says the same again and again: what guesses from the text are right about */
            w->bias = (fm_logit_bias){.id = text[0], .bias = 100};
            w->o.bias = &w->bias;
            w->o.n_bias = 1;
        }
        w->o.logprobs = -1;
        w->o.ignore_eos = true;
    }
}

static fm_status learn(check *c) {
    fm_engine_options o = {.size = sizeof o,
                           .parallel = 1,
                           .no_prefix_cache = true,
                           .ctx_size = MOST_READ + MOST_MADE,
                           .kv_dtype = c->o->kv_dtype};
    fm_model *m = c->m;
    c->alone = true;
    c->m = c->o->reference ? c->o->reference : m;
    FM_TRY(open_engine(c, &o));
    for (int k = 0; k < CASES; k++) {
        one_run r = {.cancel_at = -1};
        FM_TRY(submit(c, &r, &c->cases[k]));
        FM_TRY(finish(c, &r));
    }
    close_engine(c);
    c->m = m;
    c->alone = false;
    memset(c->report, 0, sizeof *c->report);
    return FM_OK;
}

static fm_status one_mix(check *c) {
    dice d = {.key = {.seed = c->o->seed, .stream = fm_rng_stream("mixes"), .step = (uint32_t)c->number}};
    one_run runs[MOST_RUNS];
    int32_t want = 2 + below(&d, MOST_RUNS - 1), n = 0;
    fm_status s = FM_OK;
    if (!c->e || below(&d, 2) == 0) {
        FM_TRY(random_engine(c, &d));
    }
    while (n < want && s == FM_OK) {
        runs[n].cancel_at = below(&d, 5) == 0 ? below(&d, MOST_MADE) : -1;
        s = submit(c, &runs[n], &c->cases[below(&d, CASES)]);
        n += s == FM_OK;
        if (below(&d, 2) == 0) { /* the next one comes when these have got on a little */
            wait_events(c, below(&d, 12));
        }
    }
    for (int32_t i = 0; i < n; i++) {
        fm_status one = finish(c, &runs[i]);
        s = s == FM_OK ? one : s;
    }
    return s;
}

fm_status fm_mixes_check(fm_mixes_report *out, fm_model *m, const fm_mixes_options *o) {
    memset(out, 0, sizeof *out);
    FM_ASSERT(o->n_adapters <= 4);
    check c = {.m = m, .o = o, .report = out};
    c.cases = fm_calloc(CASES, sizeof *c.cases);
    if (!c.cases) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d requests", CASES);
    }
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.change, NULL);
    make_cases(&c);
    fm_status s = learn(&c);
    for (c.number = 0; s == FM_OK && c.number < o->n_mixes; c.number++) {
        s = fm_cancelled() ? FM_ERR_CANCELLED : one_mix(&c);
        out->mixes += s == FM_OK;
    }
    fm_error_record err = {0};
    if (s != FM_OK) {
        fm_error_save(&err);
    }
    close_engine(&c);
    pthread_cond_destroy(&c.change);
    pthread_mutex_destroy(&c.lock);
    fm_free(c.cases);
    if (s != FM_OK) {
        fm_error_restore(&err);
    }
    return s;
}
