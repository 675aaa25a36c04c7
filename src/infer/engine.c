/* The engine: requests come in by any thread, one thread computes. schedule.c has the passes. */
#include "infer/adapters.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "infer/draft.h"
#include "infer/limits.h"

struct fm_engine_post_item {
    fm_engine_post_item *next;
    void (*fn)(void *user, fm_model *m);
    void *user;
};

/* ---- requests -------------------------------------------------------------------------------- */

static void request_free(fm_request *r) {
    fm_token_decoder_free(r->decoder);
    fm_stops_deinit(&r->stops);
    fm_matcher_free(r->matcher);
    fm_engine_adapter_release(r->e, r->adapter);
    fm_str_free(&r->text);
    fm_free(r->bias);
    fm_free(r->ids);
    fm_free(r->blocks);
    fm_free(r->top_ids);
    fm_free(r->top_logprobs);
    fm_free(r);
}

void fm_request_release(fm_request *r) {
    if (r && atomic_fetch_sub(&r->uses, 1) == 1) {
        request_free(r);
    }
}

void fm_request_cancel(fm_request *r) {
    atomic_store(&r->cancelled, true); /* seen after the pass that runs; a waiting request at the next one */
}

static fm_status check_ids(const fm_engine *e, const int32_t *ids, int32_t n) {
    if (n < 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "the prompt has no tokens");
    }
    if (n >= e->ctx_size) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                           "the prompt has %d tokens, the context is %d tokens long", (int)n, (int)e->ctx_size);
        return fm_error_hint("shorten the prompt, or start the server with a larger ctx_size");
    }
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= e->m->cfg.vocab_size) {
            FM_FAIL(FM_ERR_ARGUMENT, "token %d is %d; the vocabulary has %d", (int)i, (int)ids[i],
                    (int)e->m->cfg.vocab_size);
        }
    }
    return FM_OK;
}

static fm_status request_fill(fm_request *r, const int32_t *ids, int32_t n_ids, const fm_generation *g) {
    fm_engine *e = r->e;
    int64_t most = FM_MIN((int64_t)e->ctx_size, n_ids + r->o.max_new_tokens);
    r->most = (int32_t)most;
    r->n = r->n_prompt = n_ids;
    int32_t n_blocks = (r->most + e->block_tokens - 1) / e->block_tokens, top = FM_MAX(r->o.logprobs, 0);
    r->ids = fm_malloc((size_t)r->most * sizeof *r->ids);
    r->blocks = fm_malloc((size_t)n_blocks * sizeof *r->blocks);
    r->bias = fm_malloc(((size_t)r->o.n_bias + 1) * sizeof *r->bias);
    r->top_ids = fm_malloc(((size_t)top + 1) * sizeof *r->top_ids);
    r->top_logprobs = fm_malloc(((size_t)top + 1) * sizeof *r->top_logprobs);
    if (!r->ids || !r->blocks || !r->bias || !r->top_ids || !r->top_logprobs) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a request of %d tokens", (int)r->most);
    }
    memcpy(r->ids, ids, (size_t)n_ids * sizeof *ids);
    if (r->o.n_bias > 0) {
        memcpy(r->bias, r->o.bias, (size_t)r->o.n_bias * sizeof *r->bias);
    }
    r->o.bias = r->bias;
    FM_TRY(fm_stops_init(&r->stops, g->stop, g->n_stop));
    if (r->o.grammar) {
        if (!e->tok) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "a grammar needs a tokenizer, and the model has none");
        }
        FM_TRY(fm_matcher_new(&r->matcher, r->o.grammar));
    }
    if (e->tok) {
        fm_decode_options o = {.size = sizeof o, .skip_special = true};
        FM_TRY(fm_token_decoder_new(&r->decoder, e->tok, &o));
    }
    return FM_OK;
}

static fm_status choose_adapter(fm_request *r, const char *name) {
    if (!name || !*name) {
        return FM_OK;
    }
    pthread_mutex_lock(&r->e->lock);
    r->adapter = fm_engine_adapter_find(r->e, name);
    pthread_mutex_unlock(&r->e->lock);
    if (!r->adapter) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no adapter \"%s\" here", name);
    }
    r->link.serial = r->adapter->serial; /* keys and values are others */
    return FM_OK;
}

static fm_status enqueue(fm_engine *e, fm_request *r) {
    fm_status s = FM_OK;
    pthread_mutex_lock(&e->lock);
    if (e->stopping) {
        s = fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the engine is ending");
    } else if (e->n_inbox + e->stats.waiting >= e->max_queue) {
        s = fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the queue is full: %d requests wait", (int)e->max_queue);
    } else {
        r->number = e->n_submitted++;
        *e->inbox_end = r;
        e->inbox_end = &r->next;
        e->n_inbox++;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return s;
}

fm_status fm_engine_submit(fm_request **out, fm_engine *e, const int32_t *ids, int32_t n_ids, const fm_generation *g) {
    *out = NULL;
    FM_ASSERT(g->size == sizeof *g && g->fn);
    fm_sampling o = g->sampling ? *g->sampling : fm_sampling_default();
    if (!e->generates) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "a %s model with a head for %s generates no text", e->m->family->name,
                fm_head_row_of(&e->m->cfg.head)->name);
    }
    FM_TRY(fm_sampling_check(&o));
    FM_TRY(check_ids(e, ids, n_ids));
    o.logprobs = FM_MIN(o.logprobs, e->m->cfg.vocab_size);
    fm_request *r = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a request");
    }
    r->e = e;
    r->o = o;
    r->fn = g->fn;
    r->user = g->user;
    r->client = g->client;
    r->link.block = -1;
    fm_draft_begin(e, r);
    r->submitted_s = fm_now();
    r->deadline_s = g->timeout_s > 0 ? r->submitted_s + g->timeout_s : 0;
    atomic_init(&r->uses, 2); /* the caller's and the engine's */
    atomic_init(&r->cancelled, false);
    fm_status s = choose_adapter(r, g->adapter);
    s = s == FM_OK ? request_fill(r, ids, n_ids, g) : s;
    s = s == FM_OK ? enqueue(e, r) : s;
    if (s != FM_OK) {
        request_free(r);
        return s;
    }
    *out = r;
    return FM_OK;
}

void fm_engine_finish(fm_engine *e, fm_request *r, fm_status s, fm_finish finish, int32_t id) {
    double now = fm_now();
    fm_error err = fm_error_get();
    for (int32_t i = r->n_blocks; i-- > 0;) { /* the end of a text is less often wanted again than its beginning */
        fm_blocks_release(e->blocks, r->blocks[i]);
    }
    r->n_blocks = 0;
    fm_engine_adapter_release(e, r->adapter); /* the request may outlive the engine */
    r->adapter = NULL;
    fm_engine_event v = {.id = id,
                         .text = r->text.data ? r->text.data : "",
                         .text_len = r->text.len,
                         .logprob = r->logprob,
                         .top_ids = r->top_ids,
                         .top_logprobs = r->top_logprobs,
                         .n_top = id >= 0 ? r->n_top : 0,
                         .last = true,
                         .status = s,
                         .message = s == FM_OK ? "" : err.message,
                         .finish = finish,
                         .n_prompt = r->n_prompt,
                         .n_cached = r->n_found,
                         .n_generated = r->n - r->n_prompt,
                         .n_guessed = r->n_guessed,
                         .n_accepted = r->n_accepted,
                         .queue_s = (r->admitted ? r->admitted_s : now) - r->submitted_s};
    if (r->first_s > 0) {
        v.prefill_s = r->first_s - r->admitted_s;
        v.decode_s = now - r->first_s;
    }
    r->fn(r->user, &v);
    fm_request_release(r);
}

/* ---- the thread ------------------------------------------------------------------------------ */

fm_status fm_engine_post(fm_engine *e, void (*fn)(void *user, fm_model *m), void *user) {
    fm_engine_post_item *p = fm_calloc(1, sizeof *p);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a piece of work");
    }
    *p = (fm_engine_post_item){.fn = fn, .user = user};
    pthread_mutex_lock(&e->lock);
    bool stopping = e->stopping;
    if (!stopping) {
        *e->posts_end = p;
        e->posts_end = &p->next;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    if (stopping) {
        fm_free(p);
        FM_FAIL(FM_ERR_STATE, "the engine is ending");
    }
    return FM_OK;
}

void fm_engine_count(fm_engine *e) {
    pthread_mutex_lock(&e->lock);
    e->stats.running = e->n_running;
    e->stats.waiting = e->n_waiting;
    fm_engine_adapter_count(e);
    e->stats.work_bytes = e->work_bytes; /* changes when adapters come */
    e->stats.preemptions = e->preemptions;
    e->stats.prefix_queries = e->prefix_queries;
    e->stats.prefix_hits = e->prefix_hits;
    e->stats.blocks_used = e->blocks ? e->n_blocks - fm_blocks_unused(e->blocks) : 0;
    pthread_mutex_unlock(&e->lock);
}

/* Takes what came in; waits when there is nothing to do. *more is false when the engine ends. */
static fm_engine_post_item *collect(fm_engine *e, bool *more) {
    fm_engine_count(e);
    pthread_mutex_lock(&e->lock);
    while (!e->stopping && !e->inbox && !e->posts && e->n_running == 0 && e->n_waiting == 0) {
        pthread_cond_wait(&e->wake, &e->lock);
    }
    fm_engine_post_item *posts = e->posts;
    fm_request *in = e->inbox;
    int32_t n_in = e->n_inbox;
    e->posts = NULL;
    e->posts_end = &e->posts;
    e->inbox = NULL;
    e->inbox_end = &e->inbox;
    e->n_inbox = 0;
    e->stats.waiting += n_in;
    *more = !e->stopping;
    pthread_mutex_unlock(&e->lock);
    fm_request **end = &e->waiting;
    while (*end) {
        end = &(*end)->next;
    }
    *end = in;
    e->n_waiting += n_in;
    return posts;
}

static void run_posts(fm_engine_post_item *p, fm_model *m) {
    while (p) {
        fm_engine_post_item *next = p->next;
        p->fn(p->user, m);
        fm_free(p);
        p = next;
    }
}

static void *work(void *arg) {
    fm_engine *e = arg;
    bool more = true;
    while (more) {
        fm_engine_post_item *posts = collect(e, &more);
        run_posts(posts, more ? e->m : NULL);
        if (more && (e->n_running > 0 || e->n_waiting > 0)) {
            fm_engine_step(e);
        }
    }
    (void)fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "the server is ending");
    while (e->n_running > 0) {
        fm_engine_finish(e, e->running[--e->n_running], FM_ERR_CANCELLED, FM_FINISH_STOPPED, -1);
    }
    while (e->waiting) {
        fm_request *r = e->waiting;
        e->waiting = r->next;
        fm_engine_finish(e, r, FM_ERR_CANCELLED, FM_FINISH_STOPPED, -1);
    }
    return NULL;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static fm_status prepare(fm_engine *e, const fm_engine_options *o) {
    fm_model *m = e->m;
    e->generates = fm_model_generates(m);
    if (!e->generates) {
        return FM_OK;
    }
    if (m->tokenizer || (m->path && *m->path)) {
        fm_status s = fm_model_tokenizer(&e->tok, m);
        if (s != FM_OK && s != FM_ERR_NOT_FOUND) {
            return s;
        }
    }
    FM_TRY(fm_engine_prepare(e, o));
    return o->warm ? fm_engine_warm(e) : FM_OK;
}

fm_status fm_engine_new(fm_engine **out, fm_model *m, const fm_engine_options *opt) {
    *out = NULL;
    fm_engine_options o = opt ? *opt : (fm_engine_options){.size = sizeof o};
    if (o.size != sizeof o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_engine_options: expected size %zu, found %zu", sizeof o, o.size);
    }
    fm_engine *e = fm_calloc(1, sizeof *e);
    if (!e) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an engine");
    }
    e->m = m;
    e->parallel = o.parallel > 0 ? o.parallel : 16;
    e->max_queue = o.max_queue > 0 ? o.max_queue : 256;
    e->block_tokens = o.block_tokens > 0 ? o.block_tokens : 16;
    e->batch_tokens = FM_MAX(o.batch_tokens > 0 ? o.batch_tokens : 512, e->parallel);
    e->draft_max = o.draft_max > 0 ? o.draft_max : o.mtp ? 1 : 8;
    e->prefix_cache = !o.no_prefix_cache;
    e->inbox_end = &e->inbox;
    e->posts_end = &e->posts;
    e->stats.size = sizeof e->stats;
    fm_status s = prepare(e, &o);
    if (s != FM_OK) {
        fm_engine_unprepare(e);
        fm_free(e);
        return s;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
    if (pthread_create(&e->thread, NULL, work, e) != 0) {
        fm_engine_unprepare(e);
        pthread_cond_destroy(&e->wake);
        pthread_mutex_destroy(&e->lock);
        fm_free(e);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot start the engine's thread");
    }
    *out = e;
    return FM_OK;
}

void fm_engine_free(fm_engine *e) {
    if (!e) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    while (e->adapters) {
        fm_engine_adapter *a = e->adapters;
        e->adapters = a->next;
        fm_engine_adapter_release(e, a);
    }
    fm_engine_unprepare(e);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    fm_free(e);
}

fm_model *fm_engine_model(const fm_engine *e) {
    return e->m;
}

int64_t fm_engine_ctx_size(const fm_engine *e) {
    return e->ctx_size;
}

void fm_engine_get_stats(fm_engine_stats *out, fm_engine *e) {
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
}
