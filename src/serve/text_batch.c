/* Dynamic batches of texts. */
#include "serve/text_batch.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define MOST_TOKENS 2048 /* of one pass, unless a single text has more */
#define MOST_TEXTS  256

struct fm_text_batcher {
    fm_serve *s;
    int max_waiting;
    pthread_mutex_t lock;
    fm_text_job *first, **end; /* only the engine's thread takes from it */
    bool posted;               /* a turn is coming: always so while there are jobs */
    fm_text_stats stats;
    /* of the engine's thread */
    int32_t *ids, *types, *offsets;
    size_t cap_ids, cap_types, cap_offsets;
};

/* A run of texts of one job in a pass. */
typedef struct part {
    fm_text_job *j;
    int from, n;
} part;

fm_status fm_text_batcher_new(fm_text_batcher **out, fm_serve *s, int max_waiting) {
    fm_text_batcher *b = *out = fm_calloc(1, sizeof *b);
    if (!b) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a queue of texts");
    }
    b->s = s;
    b->max_waiting = max_waiting;
    b->end = &b->first;
    pthread_mutex_init(&b->lock, NULL);
    return FM_OK;
}

void fm_text_batcher_free(fm_text_batcher *b) {
    if (!b) {
        return;
    }
    FM_ASSERT(!b->first);
    fm_free(b->ids);
    fm_free(b->types);
    fm_free(b->offsets);
    pthread_mutex_destroy(&b->lock);
    fm_free(b);
}

void fm_text_batcher_stats(fm_text_stats *out, fm_text_batcher *b) {
    pthread_mutex_lock(&b->lock);
    *out = b->stats;
    pthread_mutex_unlock(&b->lock);
}

static void job_release(fm_text_job *j) {
    if (atomic_fetch_sub(&j->uses, 1) == 1) {
        fm_text_input_free(&j->in);
        fm_call_release(j->c);
        fm_free(j->ask);
        fm_free(j->out);
        fm_free(j);
    }
}

fm_status fm_text_job_new(fm_text_job **out, fm_call *c, size_t ask_bytes) {
    fm_text_job *j = *out = fm_calloc(1, sizeof *j);
    void *ask = fm_calloc(1, ask_bytes ? ask_bytes : 1);
    if (!j || !ask) {
        fm_free(j);
        fm_free(ask);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a request");
    }
    atomic_init(&j->uses, 1);
    atomic_init(&j->gone, false);
    j->ask = ask;
    j->head = FM_TEXT_EMBED;
    j->c = c;
    fm_call_keep(c);
    return FM_OK;
}

void fm_text_job_free(fm_text_job *j) {
    job_release(j);
}

static void on_close(void *user) {
    fm_text_job *j = user;
    atomic_store(&j->gone, true);
    job_release(j);
}

/* The job has left the list. */
static void finish(fm_text_batcher *b, fm_text_job *j, fm_status st) {
    double now = fm_now(), begun = j->begun_s > 0 ? j->begun_s : now;
    if (fm_exchange_off_close(j->c->x)) {
        job_release(j); /* the reference of on_close */
    }
    j->c->n_prompt = (int64_t)j->in.ids.n;
    fm_engine_event v = {.status = st,
                         .finish = FM_FINISH_STOPPED,
                         .n_prompt = (int32_t)j->in.ids.n,
                         .queue_s = begun - j->submitted_s,
                         .prefill_s = now - begun};
    fm_metrics_finish(&b->s->metrics, &v);
    j->done(j, st);
    job_release(j);
}

static fm_text_job *take_first(fm_text_batcher *b) {
    pthread_mutex_lock(&b->lock);
    fm_text_job *j = b->first;
    if (j) {
        b->first = j->next;
        b->end = b->first ? b->end : &b->first;
        b->stats.waiting--;
    }
    pthread_mutex_unlock(&b->lock);
    return j;
}

static void fail_all(fm_text_batcher *b, fm_status st) {
    fm_error_record why;
    fm_error_save(&why);
    for (fm_text_job *j; (j = take_first(b));) {
        fm_error_restore(&why);
        finish(b, j, st);
    }
}

/* What the next pass holds: texts of the first job and of those behind it that want the same. */
static fm_status gather(fm_text_batcher *b, part *parts, int *n_parts, fm_texts *t) {
    int32_t n_texts = 0, n_ids = 0;
    bool full = false;
    *n_parts = 0;
    FM_TRY(fm_grow((void **)&b->offsets, &b->cap_offsets, MOST_TEXTS + 1, sizeof *b->offsets));
    b->offsets[0] = 0;
    pthread_mutex_lock(&b->lock);
    fm_text_job *j = b->first;
    pthread_mutex_unlock(&b->lock);
    int head = j ? j->head : 0;
    while (j && !full) {
        part *p = &parts[*n_parts];
        *p = (part){.j = j, .from = j->at};
        for (int i = j->at; j->head == head && i < j->in.n && !full; i++) {
            int32_t from = j->in.offsets[i], n = j->in.offsets[i + 1] - from;
            full = n_texts == MOST_TEXTS || (n_texts > 0 && n_ids + n > MOST_TOKENS);
            if (full) {
                break;
            }
            FM_TRY(fm_grow((void **)&b->ids, &b->cap_ids, (size_t)(n_ids + n), sizeof *b->ids));
            FM_TRY(fm_grow((void **)&b->types, &b->cap_types, (size_t)(n_ids + n), sizeof *b->types));
            memcpy(b->ids + n_ids, j->in.ids.ids + from, (size_t)n * sizeof *b->ids);
            if (j->in.types.n > 0) {
                memcpy(b->types + n_ids, j->in.types.ids + from, (size_t)n * sizeof *b->types);
            } else {
                memset(b->types + n_ids, 0, (size_t)n * sizeof *b->types);
            }
            n_ids += n;
            b->offsets[++n_texts] = n_ids;
            p->n++;
        }
        *n_parts += p->n > 0;
        j->begun_s = p->n > 0 && j->begun_s <= 0 ? fm_now() : j->begun_s;
        full = full || *n_parts == MOST_TEXTS;
        pthread_mutex_lock(&b->lock);
        j = j->next;
        pthread_mutex_unlock(&b->lock);
    }
    *t = (fm_texts){.size = sizeof *t, .ids = b->ids, .types = b->types, .offsets = b->offsets, .n = n_texts};
    return FM_OK;
}

static fm_status compute(fm_text_batcher *b, fm_model *m, const part *parts, int n_parts, const fm_texts *t) {
    const fm_text_job *first = parts[0].j;
    size_t rows = (size_t)(first->per_token ? t->offsets[t->n] : t->n), width = (size_t)first->width;
    float *y = fm_malloc(FM_MAX(rows * width, 1) * sizeof *y);
    fm_embed_options o = {.size = sizeof o, .normalize = FM_NORMALIZE_ON};
    if (!y) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the results of %d texts", (int)t->n);
    }
    fm_status st = first->head == FM_TEXT_EMBED ? fm_model_embed(m, t, &o, y) : fm_model_scores(m, first->head, t, y);
    const float *from = y;
    for (int i = 0; i < n_parts && st == FM_OK; i++) {
        fm_text_job *j = parts[i].j;
        const int32_t *at = j->in.offsets;
        size_t row = (size_t)(j->per_token ? at[j->at] : j->at);
        size_t n = (size_t)(j->per_token ? at[j->at + parts[i].n] - at[j->at] : parts[i].n);
        memcpy(j->out + row * width, from, n * width * sizeof *y);
        from += n * width;
        j->at += parts[i].n;
    }
    fm_free(y);
    pthread_mutex_lock(&b->lock);
    b->stats.batches++;
    b->stats.texts += (uint64_t)t->n;
    b->stats.tokens += (uint64_t)t->offsets[t->n];
    pthread_mutex_unlock(&b->lock);
    return st;
}

/* Jobs that are done, or whose client has left, go; after a failure those that had a part in it too. */
static void sweep(fm_text_batcher *b, const part *parts, int n_parts, fm_status st) {
    fm_text_job *over = NULL, **over_end = &over;
    fm_error_record why;
    fm_error_save(&why);
    pthread_mutex_lock(&b->lock);
    fm_text_job **link = &b->first;
    while (*link) {
        fm_text_job *j = *link;
        bool failed = false;
        for (int i = 0; i < n_parts && st != FM_OK; i++) {
            failed = failed || parts[i].j == j;
        }
        if (failed || j->at == j->in.n || atomic_load(&j->gone)) {
            *link = j->next;
            *over_end = j;
            over_end = &j->next;
            b->stats.waiting--;
        } else {
            link = &j->next;
        }
    }
    b->end = link;
    *over_end = NULL;
    pthread_mutex_unlock(&b->lock);
    while (over) {
        fm_text_job *j = over;
        bool done = j->at == j->in.n;
        over = j->next;
        if (!done && st == FM_OK) {
            (void)fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "the client has gone");
        } else if (!done) {
            fm_error_restore(&why);
        }
        finish(b, j, done ? FM_OK : st != FM_OK ? st : FM_ERR_CANCELLED);
    }
}

/* One turn on the engine's thread. */
static void run(void *user, fm_model *m) {
    fm_text_batcher *b = user;
    part parts[MOST_TEXTS];
    int n_parts = 0;
    fm_texts t;
    if (!m) {
        fail_all(b, fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the server is ending"));
        return;
    }
    fm_status st = gather(b, parts, &n_parts, &t);
    if (st == FM_OK && n_parts > 0) {
        st = compute(b, m, parts, n_parts, &t);
    }
    if (st != FM_OK && n_parts == 0) {
        fail_all(b, st); /* not even one text could be gathered */
    }
    sweep(b, parts, n_parts, st);
    pthread_mutex_lock(&b->lock);
    st = FM_OK;
    b->posted = b->first != NULL;
    if (b->posted) {
        st = fm_engine_post(b->s->e, run, b);
        b->posted = st == FM_OK;
    }
    pthread_mutex_unlock(&b->lock);
    if (st != FM_OK) {
        fail_all(b, st);
    }
}

static fm_status check_texts(const fm_text_job *j) {
    const fm_serve *s = j->c->s;
    for (int i = 0; i < j->in.n; i++) {
        int32_t n = j->in.offsets[i + 1] - j->in.offsets[i];
        if (n < 1 || n > s->info.max_position) {
            FM_FAIL(FM_ERR_ARGUMENT, "text %d has %d tokens; the context is 1 to %lld tokens long", i, (int)n,
                    (long long)s->info.max_position);
        }
    }
    for (size_t i = 0; i < j->in.ids.n; i++) {
        if (j->in.ids.ids[i] >= s->info.vocab_size) {
            FM_FAIL(FM_ERR_ARGUMENT, "the tokenizer gives token %d, which this model of %d does not have",
                    (int)j->in.ids.ids[i], (int)s->info.vocab_size);
        }
    }
    return FM_OK;
}

static fm_status make_room(fm_text_job *j) {
    fm_head_info h = {0};
    j->width = j->c->s->info.d_model;
    if (j->head != FM_TEXT_EMBED) {
        FM_TRY(fm_model_head_info(&h, j->c->s->m, j->head));
        j->width = h.n_outputs;
        j->per_token = h.per_token;
    }
    size_t rows = j->per_token ? j->in.ids.n : (size_t)j->in.n;
    j->out = fm_calloc(FM_MAX(rows, 1), (size_t)FM_MAX(j->width, 1) * sizeof *j->out);
    if (!j->out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the results of %d texts", j->in.n);
    }
    return FM_OK;
}

fm_status fm_text_job_submit(fm_text_job *j) {
    fm_text_batcher *b = j->c->s->texts;
    FM_TRY(check_texts(j));
    FM_TRY(make_room(j));
    j->submitted_s = fm_now();
    atomic_fetch_add(&j->uses, 1);
    fm_exchange_on_close(j->c->x, on_close, j);
    fm_status st = FM_OK;
    pthread_mutex_lock(&b->lock);
    if (b->stats.waiting >= b->max_waiting) {
        st = fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the queue is full: %d requests wait", b->max_waiting);
    } else if (!b->posted) {
        st = fm_engine_post(b->s->e, run, b);
    }
    if (st == FM_OK) {
        b->posted = true;
        *b->end = j;
        b->end = &j->next;
        b->stats.waiting++;
    }
    pthread_mutex_unlock(&b->lock);
    if (st != FM_OK && fm_exchange_off_close(j->c->x)) {
        atomic_fetch_sub(&j->uses, 1);
    }
    return st;
}
