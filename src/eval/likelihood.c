/* Batches of likelihoods.
 *
 * A chunk of items is laid out in one cache whose blocks are single rows:
 *   rows [0,p)   the beginning that all contexts of the chunk share; it stays for the next chunk
 *   then         the rest of each context, then each continuation without its last token
 * Each of these is a sequence: a list of the cache rows that its tokens see. Keys are stored before attention reads
 * them, so a continuation may stand in the same pass as its context. Passes are cut at batch_tokens, wherever that
 * falls. */
#include "eval/likelihood.h"

#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/progress.h"

#define HEAD_ROWS     64                 /* logits held at a time */
#define CACHE_ROWS    8192               /* unless one item needs more */
#define CACHE_BYTES   ((int64_t)1 << 29) /* likewise */
#define SHARED_LEAST  16                 /* a shorter common beginning is computed with each context */
#define SHARED_SHRINK 2                  /* an item that would cut the common beginning to less than 1/2 ends a chunk */

typedef struct seq {
    size_t rows;        /* its list begins at row_list[rows] */
    const int32_t *ids; /* tokens this sequence adds, and their positions from `pos` on */
    int32_t n, pos;
    int32_t item; /* of the chunk; -1 = the shared beginning */
    int32_t cont; /* -1 = context */
} seq;

/* A logit that is wanted: of token `target` in row `row` of the pass. */
typedef struct query {
    int32_t row, target, item, cont;
} query;

struct fm_likelihood {
    fm_model *m;
    int32_t batch_tokens;
    fm_kv_cache *kv;
    fm_ctx *c;
    int32_t c_tokens;
    bool c_cached;
    int32_t *shared; /* ids whose keys are in rows [0,n_shared) */
    int32_t n_shared;
    size_t cap_shared;
    seq *seqs;
    size_t n_seqs, cap_seqs;
    int32_t *row_list;
    size_t n_rows, cap_rows;
    /* one pass */
    int32_t *ids, *pos, *slots, *q_offsets, *kv_offsets, *table, *head_idx, *head_target;
    size_t cap_ids, cap_pos, cap_slots, cap_q, cap_kv, cap_table, cap_idx, cap_target;
    int32_t *span; /* [n_segments,3]: sequence, first token, tokens */
    size_t cap_span;
    int32_t n_tokens, n_segments;
    query *queries;
    size_t n_queries, cap_queries;
    int64_t computed, saved;
};

fm_status fm_likelihood_new(fm_likelihood **out, fm_model *m, int32_t batch_tokens) {
    *out = NULL;
    if (!fm_model_generates(m)) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "a %s model with a head for %s gives no likelihoods of texts", m->family->name,
                           fm_head_row_of(&m->cfg.head)->name);
        return fm_error_hint("likelihoods need a decoder with a language model head");
    }
    fm_likelihood *l = fm_calloc(1, sizeof *l);
    if (!l) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for likelihoods");
    }
    l->m = m;
    l->batch_tokens = batch_tokens > 0 ? batch_tokens : 1024;
    *out = l;
    return FM_OK;
}

void fm_likelihood_free(fm_likelihood *l) {
    if (!l) {
        return;
    }
    fm_ctx_free(l->c);
    fm_kv_cache_free(l->kv);
    void *parts[] = {l->shared,     l->seqs,  l->row_list, l->ids,         l->pos,  l->slots,  l->q_offsets,
                     l->kv_offsets, l->table, l->head_idx, l->head_target, l->span, l->queries};
    for (size_t i = 0; i < FM_ARRAY_LEN(parts); i++) {
        fm_free(parts[i]);
    }
    fm_free(l);
}

void fm_likelihood_counts(const fm_likelihood *l, int64_t *computed, int64_t *saved) {
    *computed = l->computed;
    *saved = l->saved;
}

/* ---- one pass -------------------------------------------------------------------------------- */

/* Logits of at most HEAD_ROWS rows of hidden, and the loss of one target each. */
static fm_tensor *head_part(fm_ctx *c, const fm_model *m, fm_tensor *h, int64_t n, int32_t *idx, int32_t *target,
                            fm_tensor **loss) {
    fm_loss_options o = {.ignore_index = -100, .scale = 1};
    fm_tensor *y = fm_model_head(c, m, h, fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, idx));
    fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, target);
    return fm_cross_entropy(c, y, t, &o, loss) ? y : NULL;
}

/* A context whose arena a run on the meta device has measured. */
static fm_status ready_ctx(fm_likelihood *l, const fm_batch *b) {
    bool cached = b->kv != NULL;
    if (l->c && l->c_cached == cached && b->n_tokens <= l->c_tokens) {
        fm_ctx_reset(l->c);
        return FM_OK;
    }
    fm_ctx_free(l->c);
    l->c = NULL;
    int32_t n = FM_MAX(b->n_tokens, cached ? l->batch_tokens : 1);
    fm_batch plan = *b;
    plan.n_tokens = n;
    plan.n_segments = 1;
    plan.q_offsets = (int32_t[]){0, n};
    plan.kv_offsets = cached ? plan.q_offsets : NULL;
    plan.max_blocks = n;
    fm_ctx *meta;
    fm_ctx_options o = {.size = sizeof o, .compute = l->m->compute};
    FM_TRY(fm_ctx_new(&meta, &o));
    fm_tensor *loss = NULL;
    (void)head_part(meta, l->m, fm_model_forward(meta, l->m, &plan), HEAD_ROWS, NULL, NULL, &loss);
    fm_status s = fm_ctx_status(meta);
    o.arena_bytes = fm_ctx_arena_peak(meta) + 4096;
    o.grad_bytes = fm_ctx_grad_peak(meta) + 4096;
    fm_ctx_free(meta);
    FM_TRY(s);
    o.backend = fm_cpu_backend();
    o.pool = l->m->pool;
    FM_TRY(fm_ctx_new(&l->c, &o));
    fm_ctx_set_pack(l->c, true);
    l->c_tokens = n;
    l->c_cached = cached;
    return FM_OK;
}

/* Adds what the queries [from, from + n) ask of one row of logits; loss is that of the first one's target. */
static void answer(const fm_ll_item *items, const query *q, size_t n, const float *logits, int64_t vocab, double loss) {
    double base = -loss - (double)logits[q[0].target];
    for (size_t i = 0; i < n; i++) {
        const fm_ll_item *it = &items[q[i].item];
        float mine = logits[q[i].target];
        it->logprob[q[i].cont] += base + (double)mine;
        if (it->greedy && it->greedy[q[i].cont]) {
            bool best = true;
            for (int64_t v = 0; v < vocab; v++) {
                best &= !(logits[v] > mine) && (v >= q[i].target || logits[v] < mine);
            }
            it->greedy[q[i].cont] = best;
        }
    }
}

static fm_status run_pass(fm_likelihood *l, const fm_batch *b, const fm_ll_item *items) {
    FM_TRY(ready_ctx(l, b));
    fm_ctx *c = l->c;
    const fm_model *m = l->m;
    fm_tensor *h = fm_model_forward(c, m, b);
    FM_TRY(fm_ctx_status(c));
    int64_t vocab = m->cfg.vocab_size;
    size_t at = 0;
    FM_TRY(fm_grow((void **)&l->head_idx, &l->cap_idx, HEAD_ROWS, sizeof *l->head_idx));
    FM_TRY(fm_grow((void **)&l->head_target, &l->cap_target, HEAD_ROWS, sizeof *l->head_target));
    while (at < l->n_queries) {
        size_t first[HEAD_ROWS + 1], n = 0, i = at;
        for (; i < l->n_queries; i++) { /* queries of one row stand together */
            if (i == at || l->queries[i].row != l->queries[i - 1].row) {
                if (n == HEAD_ROWS) {
                    break;
                }
                first[n] = i;
                l->head_idx[n] = l->queries[i].row;
                l->head_target[n++] = l->queries[i].target;
            }
        }
        first[n] = i;
        fm_ctx_mark_t mark = fm_ctx_mark(c);
        fm_tensor *loss = NULL;
        fm_tensor *y = head_part(c, m, h, (int64_t)n, l->head_idx, l->head_target, &loss);
        const float *logits = fm_data(c, y), *losses = fm_data(c, loss);
        FM_TRY(fm_ctx_status(c));
        for (size_t k = 0; k < n; k++) {
            answer(items, l->queries + first[k], first[k + 1] - first[k], logits + (int64_t)k * vocab, vocab,
                   (double)losses[k]);
        }
        fm_ctx_release(c, mark);
        at = i;
    }
    l->computed += b->n_tokens;
    return fm_ctx_status(c);
}

/* The pass as it was gathered; then it is empty. */
static fm_status flush(fm_likelihood *l, const fm_ll_item *items) {
    if (l->n_tokens == 0) {
        return FM_OK;
    }
    if (fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted while computing likelihoods");
    }
    int32_t max_blocks = 1;
    for (int32_t s = 0; s < l->n_segments; s++) {
        const seq *q = &l->seqs[l->span[3 * s]];
        max_blocks = FM_MAX(max_blocks, q->pos + l->span[3 * s + 1] + l->span[3 * s + 2]);
    }
    FM_TRY(fm_grow((void **)&l->table, &l->cap_table, (size_t)l->n_segments * (size_t)max_blocks, sizeof *l->table));
    l->kv_offsets[0] = 0;
    for (int32_t s = 0; s < l->n_segments; s++) {
        const seq *q = &l->seqs[l->span[3 * s]];
        int32_t n = q->pos + l->span[3 * s + 1] + l->span[3 * s + 2];
        memcpy(l->table + (size_t)s * (size_t)max_blocks, l->row_list + q->rows, (size_t)n * sizeof *l->table);
        memset(l->table + (size_t)s * (size_t)max_blocks + n, 0, (size_t)(max_blocks - n) * sizeof *l->table);
        l->kv_offsets[s + 1] = l->kv_offsets[s] + n;
    }
    fm_batch b = {.n_tokens = l->n_tokens,
                  .n_segments = l->n_segments,
                  .ids = l->ids,
                  .pos = l->pos,
                  .q_offsets = l->q_offsets,
                  .kv = l->kv,
                  .kv_offsets = l->kv_offsets,
                  .block_table = l->table,
                  .max_blocks = max_blocks,
                  .slots = l->slots};
    FM_TRY(run_pass(l, &b, items));
    l->n_tokens = l->n_segments = 0;
    l->n_queries = 0;
    return FM_OK;
}

static fm_status ask(fm_likelihood *l, int32_t row, int32_t target, int32_t item, int32_t cont) {
    FM_TRY(fm_grow((void **)&l->queries, &l->cap_queries, l->n_queries + 1, sizeof *l->queries));
    l->queries[l->n_queries++] = (query){row, target, item, cont};
    return FM_OK;
}

/* What is asked of token t of a sequence, which stands in row `row` of the pass. */
static fm_status ask_token(fm_likelihood *l, const seq *q, int32_t t, int32_t row, const fm_ll_item *items) {
    if (q->item < 0) {
        return FM_OK;
    }
    const fm_ll_item *it = &items[q->item];
    if (q->cont >= 0) {
        return ask(l, row, it->cont[q->cont].ids[t + 1], q->item, q->cont);
    }
    for (int32_t k = 0; t == q->n - 1 && k < it->n_cont; k++) {
        FM_TRY(ask(l, row, it->cont[k].ids[0], q->item, k));
    }
    return FM_OK;
}

/* Room for one more pass of batch_tokens. */
static fm_status pass_room(fm_likelihood *l, size_t n) {
    FM_TRY(fm_grow((void **)&l->ids, &l->cap_ids, n, sizeof *l->ids));
    FM_TRY(fm_grow((void **)&l->pos, &l->cap_pos, n, sizeof *l->pos));
    FM_TRY(fm_grow((void **)&l->slots, &l->cap_slots, n, sizeof *l->slots));
    FM_TRY(fm_grow((void **)&l->q_offsets, &l->cap_q, n + 1, sizeof *l->q_offsets));
    FM_TRY(fm_grow((void **)&l->kv_offsets, &l->cap_kv, n + 1, sizeof *l->kv_offsets));
    return fm_grow((void **)&l->span, &l->cap_span, 3 * n, sizeof *l->span);
}

/* All sequences of the chunk, cut into passes. */
static fm_status run_seqs(fm_likelihood *l, const fm_ll_item *items) {
    FM_TRY(pass_room(l, (size_t)l->batch_tokens));
    l->q_offsets[0] = 0;
    for (size_t i = 0; i < l->n_seqs; i++) {
        const seq *q = &l->seqs[i];
        for (int32_t t = 0; t < q->n;) {
            int32_t n = FM_MIN(q->n - t, l->batch_tokens - l->n_tokens);
            if (n == 0) {
                FM_TRY(flush(l, items));
                continue;
            }
            for (int32_t k = 0; k < n; k++) {
                int32_t row = l->n_tokens + k;
                l->ids[row] = q->ids[t + k];
                l->pos[row] = q->pos + t + k;
                l->slots[row] = l->row_list[q->rows + (size_t)(q->pos + t + k)];
                FM_TRY(ask_token(l, q, t + k, row, items));
            }
            int32_t *span = l->span + 3 * (size_t)l->n_segments++;
            span[0] = (int32_t)i;
            span[1] = t;
            span[2] = n;
            l->n_tokens += n;
            l->q_offsets[l->n_segments] = l->n_tokens;
            t += n;
        }
    }
    return flush(l, items);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static int32_t common(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b) {
    int32_t n = FM_MIN(n_a, n_b), i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

static int64_t cont_tokens(const fm_ll_item *it) {
    int64_t n = 0;
    for (int32_t k = 0; k < it->n_cont; k++) {
        n += it->cont[k].n - 1;
    }
    return n;
}

/* A sequence of n ids at position pos whose tokens see `before` (a list of pos rows, at row_list[before]) and
 * themselves, in rows from first_row on. */
static fm_status add_seq(fm_likelihood *l, size_t before, int32_t pos, const int32_t *ids, int32_t n, int32_t first_row,
                         int32_t item, int32_t cont) {
    size_t len = (size_t)pos + (size_t)n;
    FM_TRY(fm_grow((void **)&l->row_list, &l->cap_rows, l->n_rows + len, sizeof *l->row_list));
    FM_TRY(fm_grow((void **)&l->seqs, &l->cap_seqs, l->n_seqs + 1, sizeof *l->seqs));
    l->seqs[l->n_seqs++] = (seq){.rows = l->n_rows, .ids = ids, .n = n, .pos = pos, .item = item, .cont = cont};
    memcpy(l->row_list + l->n_rows, l->row_list + before, (size_t)pos * sizeof *l->row_list);
    for (int32_t i = 0; i < n; i++) {
        l->row_list[l->n_rows + (size_t)pos + (size_t)i] = first_row + i;
    }
    l->n_rows += len;
    return FM_OK;
}

/* How many items from `items` on make a chunk, and how much of their beginning they share. */
static size_t choose_chunk(const fm_likelihood *l, const fm_ll_item *items, size_t n_items, int32_t *shared) {
    const fm_ll_item *a = &items[0];
    int32_t p = a->n_context - 1, old = common(a->context, a->n_context, l->shared, l->n_shared);
    int64_t context = a->n_context, conts = cont_tokens(a), work = a->n_context - FM_MIN(old, p) + conts;
    size_t n = 1;
    for (; n < n_items; n++) {
        const fm_ll_item *b = &items[n];
        int32_t q = FM_MIN(FM_MIN(p, b->n_context - 1), common(a->context, p, b->context, b->n_context));
        if (n > 1 && p >= 2 * SHARED_LEAST && q < p / SHARED_SHRINK) {
            break;
        }
        int32_t use = q < SHARED_LEAST ? 0 : q;
        int64_t rows = use + (context + b->n_context - (int64_t)(n + 1) * use) + conts + cont_tokens(b);
        work += b->n_context - use + cont_tokens(b);
        if (rows > l->kv->n_rows || work > 4 * (int64_t)l->batch_tokens) {
            break;
        }
        context += b->n_context;
        conts += cont_tokens(b);
        p = q;
    }
    if (n == 1) { /* what is there from before, or what the next item will begin with */
        int32_t next = n_items > 1 ? common(a->context, p, items[1].context, items[1].n_context - 1) : 0;
        p = FM_MIN(p, FM_MAX(old, next));
    }
    *shared = p < SHARED_LEAST ? 0 : p;
    return n;
}

static fm_status run_chunk(fm_likelihood *l, const fm_ll_item *items, size_t n, int32_t p) {
    l->n_seqs = l->n_rows = 0;
    l->n_tokens = l->n_segments = 0;
    l->n_queries = 0;
    int32_t have = FM_MIN(p, common(items[0].context, p, l->shared, l->n_shared));
    /* Sequence 0 is always the shared beginning, also when all of it is there: the others copy its rows. */
    FM_TRY(fm_grow((void **)&l->row_list, &l->cap_rows, (size_t)p + 1, sizeof *l->row_list));
    for (int32_t i = 0; i < p; i++) {
        l->row_list[i] = i;
    }
    l->n_rows = (size_t)p;
    FM_TRY(fm_grow((void **)&l->seqs, &l->cap_seqs, 1, sizeof *l->seqs));
    l->seqs[l->n_seqs++] =
        (seq){.rows = 0, .ids = items[0].context + have, .n = p - have, .pos = have, .item = -1, .cont = -1};
    FM_TRY(fm_grow((void **)&l->shared, &l->cap_shared, (size_t)p + 1, sizeof *l->shared));
    l->n_shared = 0; /* until the passes are through */
    int32_t row = p;
    for (size_t i = 0; i < n; i++) {
        const fm_ll_item *it = &items[i];
        size_t context_rows = l->n_rows;
        int32_t tail = it->n_context - p;
        FM_TRY(add_seq(l, 0, p, it->context + p, tail, row, (int32_t)i, -1));
        row += tail;
        for (int32_t k = 0; k < it->n_cont; k++) {
            int32_t len = it->cont[k].n - 1;
            if (len > 0) {
                FM_TRY(add_seq(l, context_rows, it->n_context, it->cont[k].ids, len, row, (int32_t)i, k));
                row += len;
            }
        }
        l->saved += p;
    }
    l->saved -= p - have;
    FM_TRY(run_seqs(l, items));
    memcpy(l->shared, items[0].context, (size_t)p * sizeof *l->shared);
    l->n_shared = p;
    return FM_OK;
}

/* One continuation without a cache: past the trained length dynamic rope turns all keys anew. */
static fm_status run_alone(fm_likelihood *l, const fm_ll_item *it) {
    for (int32_t k = 0; k < it->n_cont; k++) {
        int32_t n = it->n_context + it->cont[k].n - 1;
        FM_TRY(pass_room(l, (size_t)n));
        l->n_queries = 0;
        for (int32_t t = 0; t < n; t++) {
            l->ids[t] = t < it->n_context ? it->context[t] : it->cont[k].ids[t - it->n_context];
            l->pos[t] = t;
            if (t >= it->n_context - 1) {
                FM_TRY(ask(l, t, it->cont[k].ids[t - it->n_context + 1], 0, k));
            }
        }
        fm_batch b = {.n_tokens = n, .n_segments = 1, .ids = l->ids, .pos = l->pos, .q_offsets = (int32_t[]){0, n}};
        FM_TRY(run_pass(l, &b, it));
    }
    return FM_OK;
}

static fm_status check_item(const fm_likelihood *l, const fm_ll_item *it, int64_t *longest, int64_t *rows) {
    FM_ASSERT(it->n_context > 0 && it->n_cont > 0);
    *longest = 0;
    *rows = it->n_context + cont_tokens(it);
    for (int32_t k = 0; k < it->n_cont; k++) {
        FM_ASSERT(it->cont[k].n > 0);
        *longest = FM_MAX(*longest, (int64_t)it->n_context + it->cont[k].n - 1);
        for (int32_t i = 0; i < it->cont[k].n; i++) {
            if (it->cont[k].ids[i] < 0 || it->cont[k].ids[i] >= l->m->cfg.vocab_size) {
                FM_FAIL(FM_ERR_ARGUMENT, "token %d: the model's vocabulary has %d", (int)it->cont[k].ids[i],
                        (int)l->m->cfg.vocab_size);
            }
        }
    }
    return FM_OK;
}

static fm_status ready_cache(fm_likelihood *l, int64_t rows) {
    const fm_model_config *cfg = &l->m->cfg;
    if (l->kv && l->kv->n_rows >= rows) {
        return FM_OK;
    }
    fm_kv_cache_free(l->kv);
    l->kv = NULL;
    l->n_shared = 0;
    int64_t fits = CACHE_BYTES / FM_MAX(1, fm_model_kv_bytes_per_token(cfg, l->m->compute));
    int64_t want = FM_MAX(rows, FM_MIN(fits, CACHE_ROWS));
    int32_t heads, k_dim, v_dim;
    fm_model_kv_shape(cfg, &heads, &k_dim, &v_dim);
    return fm_kv_cache_new(&l->kv, fm_model_kv_layers(cfg), heads, k_dim, v_dim, l->m->compute, want, 1);
}

/* Items from the first on that a cache serves. */
static size_t stretch(const fm_likelihood *l, const fm_ll_item *items, size_t n_items) {
    size_t n = 1;
    for (; n < n_items && l->m->cfg.rope.kind == FM_ROPE_DYNAMIC; n++) {
        int64_t longest = 0;
        for (int32_t k = 0; k < items[n].n_cont; k++) {
            longest = FM_MAX(longest, (int64_t)items[n].n_context + items[n].cont[k].n - 1);
        }
        if (fm_rope_depends_on_length(&l->m->cfg.rope, longest)) {
            return n;
        }
    }
    return n_items;
}

fm_status fm_likelihood_run(fm_likelihood *l, const fm_ll_item *items, size_t n_items, const char *what) {
    int64_t most = 1;
    for (size_t i = 0; i < n_items; i++) {
        int64_t longest, rows;
        FM_TRY(check_item(l, &items[i], &longest, &rows));
        most = FM_MAX(most, rows);
        for (int32_t k = 0; k < items[i].n_cont; k++) {
            items[i].logprob[k] = 0;
            if (items[i].greedy) {
                items[i].greedy[k] = true;
            }
        }
    }
    fm_meter meter;
    fm_meter_start(&meter, what, "rows", (double)n_items);
    for (size_t i = 0; i < n_items;) {
        int64_t longest, rows;
        FM_TRY(check_item(l, &items[i], &longest, &rows));
        if (fm_rope_depends_on_length(&l->m->cfg.rope, longest)) {
            FM_TRY(run_alone(l, &items[i]));
            i++;
        } else {
            int32_t shared;
            FM_TRY(ready_cache(l, most));
            size_t n = choose_chunk(l, items + i, stretch(l, items + i, n_items - i), &shared);
            FM_TRY(run_chunk(l, items + i, n, shared));
            i += n;
        }
        fm_meter_update(&meter, (double)i, "");
    }
    fm_meter_end(&meter, (double)n_items, "");
    return FM_OK;
}
