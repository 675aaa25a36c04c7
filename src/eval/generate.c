/* Answers to many prompts, by the engine: it computes many at once, and what one says does not depend on the others. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "eval/task.h"
#include "fathom/engine.h"

#define PARALLEL 32  /* computed at once */
#define AHEAD    128 /* given to the engine at once; its queue holds more */

typedef struct shared {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int64_t n_done, n_tokens, n_rest;
    double first_s, rest_s;
    fm_status status; /* the first that went wrong */
    char message[512];
} shared;

typedef struct answer {
    shared *all;
    fm_str text;
    fm_request *request;
    bool cut;
} answer;

static void on_event(void *user, const fm_engine_event *e) {
    answer *a = user;
    fm_str_append(&a->text, e->text, e->text_len);
    if (!e->last) {
        return;
    }
    shared *s = a->all;
    a->cut = e->finish == FM_FINISH_LENGTH || e->finish == FM_FINISH_CONTEXT;
    pthread_mutex_lock(&s->lock);
    s->n_done++;
    s->n_tokens += e->n_generated;
    s->first_s += e->prefill_s;
    s->rest_s += e->n_generated > 1 ? e->decode_s : 0;
    s->n_rest += e->n_generated > 1 ? e->n_generated - 1 : 0;
    fm_status st = e->status == FM_OK && a->text.failed ? FM_ERR_NO_MEMORY : e->status;
    if (st != FM_OK && s->status == FM_OK) {
        s->status = st;
        snprintf(s->message, sizeof s->message, "%s", e->message && *e->message ? e->message : fm_status_text(st));
    }
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

/* Waits until fewer than `most` are in the engine's hands, a little at a time; false when it is time to stop. */
static bool wait_room(shared *s, int64_t submitted, int64_t most) {
    pthread_mutex_lock(&s->lock);
    while (submitted - s->n_done >= most && !(s->status != FM_OK && most > 1) && !fm_cancelled()) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 200000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    bool go = s->status == FM_OK && !fm_cancelled();
    pthread_mutex_unlock(&s->lock);
    return go;
}

/* The k-th answer to a question; the first is greedy. */
static fm_status submit(fm_engine *e, answer *a, const fm_eval_request *r, const fm_eval_generation *o, size_t k,
                        const char *const *stop) {
    fm_sampling sampling = fm_sampling_default();
    sampling.temperature = k == 0 ? 0 : o->temperature;
    sampling.repetition_penalty = o->repetition_penalty > 0 ? o->repetition_penalty : 1;
    sampling.seed = o->seed + k;
    sampling.max_new_tokens = o->max_new_tokens;
    fm_generation g = {
        .size = sizeof g, .sampling = &sampling, .stop = stop, .n_stop = (int)o->n_stop, .fn = on_event, .user = a};
    return fm_engine_submit(&a->request, e, r->ids, r->n_ids, &g);
}

static fm_status run(fm_engine *e, answer *a, const fm_eval_request *req, size_t n, const fm_eval_generation *o,
                     const char *const *stop, shared *all) {
    fm_status st = FM_OK;
    size_t given = 0, row = 0, k = 0, each = (size_t)o->samples + 1;
    fm_meter meter;
    fm_meter_start(&meter, "answering", each > 1 ? "answers" : "rows", (double)(n * each));
    for (; given < n * each && st == FM_OK && wait_room(all, (int64_t)given, AHEAD); given += st == FM_OK) {
        a[given].all = all;
        st = submit(e, &a[given], &req[row], o, k, stop);
        k = k + 1 < each ? k + 1 : 0;
        row += k == 0;
        fm_meter_update(&meter, (double)all->n_done, "");
    }
    bool go = st == FM_OK;
    for (int64_t left = (int64_t)given; go && left > 0; left--) {
        go = wait_room(all, (int64_t)given, left);
        fm_meter_update(&meter, (double)all->n_done, "");
    }
    for (size_t i = 0; !go && i < given; i++) {
        fm_request_cancel(a[i].request);
    }
    return st;
}

static fm_status copy_stops(fm_bump *arena, const char ***out, const fm_eval_generation *o) {
    const char **stop = fm_bump_alloc(arena, (o->n_stop + 1) * sizeof *stop);
    *out = stop;
    for (size_t i = 0; stop && i < o->n_stop; i++) {
        stop[i] = fm_bump_copy(arena, o->stop[i].ptr, o->stop[i].len);
        stop = stop[i] ? stop : NULL;
    }
    if (!stop) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for stop texts");
    }
    return FM_OK;
}

static fm_text text_of(const answer *a) {
    return (fm_text){a->text.data ? a->text.data : "", a->text.len};
}

/* The answers of row i out of all of them. */
static fm_status take(fm_eval_scores *s, size_t i, const answer *a, const fm_eval_generation *o) {
    fm_text text[FM_EVAL_SAMPLES + 1];
    size_t n = (size_t)o->samples + 1, best = 0;
    for (size_t k = 0; k < n; k++) {
        text[k] = text_of(&a[i * n + k]);
    }
    if (n > 2) {
        FM_TRY(fm_eval_consensus(&best, text, n, o->cut));
    }
    s->cut[i] = a[i * n + best].cut;
    return fm_bump_sv(&s->arena, &s->output[i], text[best].ptr, text[best].len);
}

fm_status fm_eval_generate(fm_model *m, const fm_eval_request *req, size_t n, const fm_eval_generation *o,
                           fm_eval_scores *s) {
    shared all = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    const char **stop;
    int64_t longest = 2;
    s->max_new_tokens = o->max_new_tokens;
    FM_TRY(copy_stops(&s->arena, &stop, o));
    for (size_t i = 0; i < n; i++) {
        longest = FM_MAX(longest, req[i].n_ids + o->max_new_tokens);
        s->tokens += req[i].n_ids;
    }
    size_t n_answers = n * ((size_t)o->samples + 1);
    answer *a = fm_calloc(n_answers, sizeof *a);
    if (!a) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu answers", n_answers);
    }
    fm_engine *e = NULL;
    fm_engine_options eo = {.size = sizeof eo, .ctx_size = longest, .parallel = PARALLEL, .max_queue = 2 * AHEAD};
    fm_status st = fm_engine_new(&e, m, &eo);
    if (st == FM_OK) {
        st = run(e, a, req, n, o, stop, &all);
        fm_engine_stats stats = {.size = sizeof stats};
        fm_engine_get_stats(&stats, e);
        s->saved += stats.prefix_hits;
        s->tokens -= stats.prefix_hits;
        s->passes += stats.passes;
        s->pass_sequences += stats.pass_sequences;
        fm_error_record first;
        fm_error_save(&first);
        fm_engine_free(e); /* ends what is still running: no event comes after this */
        fm_error_restore(&first);
    }
    if (st == FM_OK && fm_cancelled()) {
        st = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while answering");
    } else if (st == FM_OK && all.status != FM_OK) {
        st = fm_error_set(all.status, __FILE__, __LINE__, "%s", all.message);
    }
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        st = take(s, i, a, o);
    }
    for (size_t i = 0; i < n_answers; i++) {
        if (a[i].request) {
            fm_request_release(a[i].request);
        }
        fm_str_free(&a[i].text);
    }
    fm_free(a);
    s->generated += all.n_tokens;
    s->tokens += all.n_tokens;
    s->first_token_ms = n > 0 ? 1000 * all.first_s / (double)n_answers : NAN;
    s->per_token_ms = all.n_rest > 0 ? 1000 * all.rest_s / (double)all.n_rest : NAN;
    return st;
}
