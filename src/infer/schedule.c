/* Passes of the engine.
 *
 * Who computes: running sequences, ordered by age. Those that generate put one token each into the pass; what is left
 * of the budget is split evenly among those that still read their prompt, so that a long prompt neither stops the
 * others nor waits for them.
 *
 * Memory: a sequence takes a block when its tokens reach it. When none is left, the youngest one that is not in this
 * pass gives all of its back and waits in front of the queue; only a younger one ever yields, so the oldest always gets
 * on and no two can wait for each other. What a preempted sequence had computed stays findable until its blocks are
 * needed, and what must be computed again gives the same bits. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "infer/constrain.h"
#include "infer/draft.h"
#include "infer/adapters.h"
#include "infer/limits.h"

#define LEAST_CHUNK 16 /* tokens of a prompt that are worth a place in a pass */

/* ---- memory ---------------------------------------------------------------------------------- */

static int32_t blocks_for(const fm_engine *e, int64_t tokens) {
    return (int32_t)((tokens + e->block_tokens - 1) / e->block_tokens);
}

static fm_status cache_dtype(fm_dtype *out, const fm_engine *e, const char *name) {
    *out = e->m->compute;
    if (!name || !*name || strcmp(name, "auto") == 0) {
        return FM_OK;
    }
    static const fm_dtype types[] = {FM_F32, FM_BF16, FM_Q8_0};
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (strcmp(name, fm_dtype_get(types[i])->name) == 0) {
            *out = types[i];
            if (*out == FM_Q8_0 && e->m->cfg.mla.index_heads > 0) {
                FM_FAIL(FM_ERR_UNSUPPORTED, "kv_dtype q8_0: models with an indexer need f32 or bf16");
            }
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_ARGUMENT, "kv_dtype: expected auto, f32, bf16 or q8_0, found \"%s\"", name);
}

/* Context and blocks that fit. */
static fm_status plan_memory(fm_engine *e, const fm_engine_options *o, int64_t token_bytes) {
    const fm_rope_config *rope = &e->m->cfg.rope;
    int64_t limit = fm_context_limit(e->m);
    if (rope->kind == FM_ROPE_DYNAMIC) { /* beyond, every key turns with the length: nothing cached stays true */
        limit = FM_MIN(limit, rope->original_max_position > 0 ? rope->original_max_position : e->m->cfg.max_position);
    }
    if (o->ctx_size < 0 || o->ctx_size > limit) {
        FM_FAIL(FM_ERR_ARGUMENT, "ctx_size: the model allows 1 to %lld tokens, found %lld", (long long)limit,
                (long long)o->ctx_size);
    }
    int64_t block_bytes = token_bytes * e->block_tokens, ctx = o->ctx_size > 0 ? o->ctx_size : limit;
    int64_t budget = o->kv_bytes > 0 ? o->kv_bytes : fm_mem_available() / 5 * 2;
    int64_t most = FM_MIN(budget / block_bytes, INT32_MAX / 4 / e->block_tokens);
    if (o->ctx_size == 0 && blocks_for(e, ctx) > most) {
        ctx = most * e->block_tokens;
    }
    if (ctx < 2 || blocks_for(e, ctx) > most) {
        char need[32], have[32];
        (void)fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                           "a context of %lld tokens needs %s of KV cache; there is %s", (long long)FM_MAX(ctx, 2),
                           fm_format_bytes(need, sizeof need, (double)FM_MAX(ctx, 2) * (double)token_bytes),
                           fm_format_bytes(have, sizeof have, (double)budget));
        return fm_error_hint("give a smaller ctx_size, or more kv_bytes");
    }
    e->ctx_size = (int32_t)ctx;
    e->max_blocks = blocks_for(e, ctx);
    e->n_blocks = (int32_t)FM_MIN(most, (int64_t)e->max_blocks * e->parallel);
    return FM_OK;
}

static fm_tensor *pass(fm_ctx *c, const fm_model *m, const fm_batch *b, int32_t n_rows, int32_t *rows,
                       fm_tensor **hidden) {
    fm_tensor *h = fm_model_forward(c, m, b);
    *hidden = h;
    return n_rows > 0 ? fm_model_head(c, m, h, fm_from_memory(c, FM_I32, 1, (int64_t[]){n_rows}, rows)) : h;
}

/* A context whose arena a run on the meta device has measured: that of the largest pass. */
fm_status fm_engine_plan_ctx(fm_engine *e, const fm_engine_adapter *more) {
    int32_t n = e->batch_tokens;
    fm_batch b = {.n_tokens = n,
                  .n_segments = 1,
                  .ids = e->ids,
                  .pos = e->pos,
                  .q_offsets = (int32_t[]){0, n},
                  .kv = e->kv,
                  .kv_offsets = (int32_t[]){0, n},
                  .block_table = e->table,
                  .max_blocks = e->max_blocks,
                  .slots = e->slots,
                  .mixed = true};
    fm_ctx *meta, *made = NULL;
    fm_tensor *h;
    fm_lora_entry *widest = NULL;
    FM_TRY(fm_engine_adapter_union(&widest, e, more));
    fm_lora_part all = {.n = n, .lora = widest};
    fm_lora_mix mix = {.part = &all, .n_parts = 1, .n_rows = n};
    fm_ctx_options o = {.size = sizeof o, .compute = e->m->compute};
    fm_status s = fm_ctx_new(&meta, &o);
    if (s != FM_OK) {
        fm_free(widest);
        return s;
    }
    fm_ctx_set_lora_mix(meta, widest ? &mix : NULL);
    (void)pass(meta, e->m, &b, FM_MIN(e->parallel * (e->speculates ? e->draft_max + 1 : 1), e->parallel + n / 2), NULL,
               &h);
    fm_ctx_set_lora_mix(meta, NULL);
    if (e->mtp) {
        h = fm_gather(meta, h, fm_from_memory(meta, FM_I32, 1, (int64_t[]){n}, NULL));
        h = fm_model_mtp_forward(meta, e->m, 0, &b, h);
        (void)fm_model_head(meta, e->m, h, fm_from_memory(meta, FM_I32, 1, (int64_t[]){e->parallel}, NULL));
    }
    s = fm_ctx_status(meta);
    /* several parts, each rounded up */
    o.arena_bytes = fm_ctx_arena_peak(meta) + 4096 + (widest ? (int64_t)e->parallel * 8192 : 0);
    o.grad_bytes = fm_ctx_grad_peak(meta) + 4096;
    fm_ctx_free(meta);
    fm_free(widest);
    FM_TRY(s);
    o.backend = fm_cpu_backend();
    o.pool = e->m->pool;
    FM_TRY(fm_ctx_new(&made, &o));
    fm_ctx_free(e->c);
    e->c = made;
    e->work_bytes = o.arena_bytes;
    fm_ctx_set_pack(e->c, true);
    return FM_OK;
}

fm_status fm_engine_prepare(fm_engine *e, const fm_engine_options *o) {
    const fm_model_config *cfg = &e->m->cfg;
    int32_t heads, k_dim, v_dim;
    fm_dtype dtype;
    FM_TRY(cache_dtype(&dtype, e, o->kv_dtype));
    fm_model_kv_shape(cfg, &heads, &k_dim, &v_dim);
    if (o->mtp && cfg->n_mtp < 1) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "mtp: the model has no prediction layers");
    }
    e->mtp = o->mtp;
    e->speculates = o->draft || o->lookup || o->mtp;
    FM_TRY(plan_memory(e, o, fm_model_kv_bytes_per_token(cfg, dtype) + fm_drafter_kv_bytes(e, o)));
    FM_TRY(fm_kv_cache_new(&e->kv, fm_model_kv_layers(cfg) + (o->mtp ? cfg->n_mtp : 0), heads, k_dim, v_dim, dtype,
                           (int64_t)e->n_blocks * e->block_tokens, e->block_tokens));
    FM_TRY(fm_blocks_new(&e->blocks, e->n_blocks, e->block_tokens));
    size_t n = (size_t)e->batch_tokens, p = (size_t)e->parallel;
    int threads = fm_pool_threads(e->m->pool);
    e->running = fm_calloc(p, sizeof *e->running);
    e->ids = fm_calloc(n, sizeof *e->ids);
    e->pos = fm_calloc(n, sizeof *e->pos);
    e->slots = fm_calloc(n, sizeof *e->slots);
    e->q_offsets = fm_calloc(p + 1, sizeof *e->q_offsets);
    e->kv_offsets = fm_calloc(p + 1, sizeof *e->kv_offsets);
    e->rows = fm_calloc(p * (size_t)(e->draft_max + 1), sizeof *e->rows);
    e->table = fm_calloc(p * (size_t)e->max_blocks, sizeof *e->table);
    e->mix_rows = fm_calloc(n, sizeof *e->mix_rows);
    e->mix.part = fm_calloc(p, sizeof *e->mix.part);
    e->sampler = fm_calloc((size_t)threads, sizeof *e->sampler);
    if (!e->running || !e->ids || !e->pos || !e->slots || !e->q_offsets || !e->kv_offsets || !e->rows || !e->table ||
        !e->sampler || !e->mix_rows || !e->mix.part) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for passes of %d tokens", (int)e->batch_tokens);
    }
    for (int i = 0; i < threads; i++) {
        FM_TRY(fm_token_sampler_init(&e->sampler[i], cfg->vocab_size));
    }
    e->stats.blocks = e->n_blocks;
    e->stats.block_tokens = e->block_tokens;
    e->stats.kv_bytes = fm_kv_cache_bytes(e->kv);
    FM_TRY(fm_engine_plan_ctx(e, NULL));
    e->stats.work_bytes = e->work_bytes;
    return fm_drafter_new(&e->drafter, e, o);
}

void fm_engine_unprepare(fm_engine *e) {
    for (int i = 0; e->sampler && i < fm_pool_threads(e->m->pool); i++) {
        fm_token_sampler_deinit(&e->sampler[i]);
    }
    void *parts[] = {e->running, e->ids,   e->pos,     e->slots,   e->q_offsets, e->kv_offsets,
                     e->rows,    e->table, e->sampler, e->allowed, e->mix_rows,  e->mix.part};
    for (size_t i = 0; i < FM_ARRAY_LEN(parts); i++) {
        fm_free(parts[i]);
    }
    fm_drafter_free(e->drafter);
    fm_ctx_free(e->c);
    fm_kv_cache_free(e->kv);
    fm_blocks_free(e->blocks);
    fm_vocab_order_free(e->order);
}

/* ---- who runs -------------------------------------------------------------------------------- */

static void remove_running(fm_engine *e, int32_t i) {
    memmove(&e->running[i], &e->running[i + 1], (size_t)(e->n_running - i - 1) * sizeof(fm_request *));
    e->n_running--;
}

/* True, with the error record set, when the request shall not go on. */
static bool gives_up(const fm_request *r, double now) {
    if (atomic_load(&r->cancelled)) {
        (void)fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "the request was cancelled");
        return true;
    }
    if (r->deadline_s > 0 && now > r->deadline_s) {
        (void)fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "the request took longer than %.0f seconds",
                           r->deadline_s - r->submitted_s);
        return true;
    }
    return false;
}

static void drop_cancelled(fm_engine *e) {
    double now = fm_now();
    for (int32_t i = e->n_running; i-- > 0;) {
        fm_request *r = e->running[i];
        if (gives_up(r, now)) {
            remove_running(e, i);
            fm_str_clear(&r->text);
            fm_engine_finish(e, r, FM_ERR_CANCELLED, FM_FINISH_STOPPED, -1);
        }
    }
    for (fm_request **p = &e->waiting; *p;) {
        fm_request *r = *p;
        if (!gives_up(r, now)) {
            p = &r->next;
            continue;
        }
        *p = r->next;
        e->n_waiting--;
        fm_str_clear(&r->text);
        fm_engine_finish(e, r, FM_ERR_CANCELLED, FM_FINISH_STOPPED, -1);
    }
}

/* Uses published blocks for as much of what comes next as there is. The last token is always computed: its logits are
 * wanted. */
static void find_beginning(fm_engine *e, fm_request *r) {
    int32_t n = e->block_tokens;
    while (e->prefix_cache && r->n_kept == r->n_blocks * n && r->n_linked == r->n_blocks && r->n_kept + n < r->n) {
        int32_t b = fm_blocks_find(e->blocks, &r->link, r->ids + r->n_kept);
        if (b < 0) {
            return;
        }
        r->blocks[r->n_blocks++] = b;
        r->n_linked++;
        r->n_drafted += r->n_drafted == r->n_kept ? n : 0;
        r->n_kept += n;
    }
}

static int32_t running_of(const fm_engine *e, uint64_t client) {
    int32_t n = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        n += e->running[i]->client == client;
    }
    return n;
}

/* A place in the waiting list: what was preempted, else what came first of the client who has least running. */
static fm_request **choose_waiting(fm_engine *e) {
    fm_request **best = NULL;
    int32_t least = INT32_MAX;
    for (fm_request **p = &e->waiting; *p; p = &(*p)->next) {
        int32_t n = (*p)->admitted ? -1 : running_of(e, (*p)->client);
        if (n < least) {
            least = n;
            best = p;
        }
    }
    return best;
}

/* The vocabulary is put in order when the first grammar comes: tenths of a second for a large one. */
static fm_status ready_for_grammar(fm_engine *e) {
    if (!e->allowed) {
        size_t words = (size_t)(e->m->cfg.vocab_size + 31) / 32;
        e->allowed = fm_calloc((size_t)fm_pool_threads(e->m->pool) * words, sizeof *e->allowed);
        if (!e->allowed) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for grammars");
        }
    }
    return e->order ? FM_OK : fm_vocab_order_new(&e->order, e->tok, e->m->cfg.vocab_size);
}

static void admit(fm_engine *e) {
    while (e->waiting && e->n_running < e->parallel) {
        fm_request **at = choose_waiting(e), *r = *at;
        /* Room for what it must compute, and for each running one to go on a little. */
        if (e->n_running > 0 && fm_blocks_unused(e->blocks) < blocks_for(e, r->n) + e->n_running) {
            return;
        }
        *at = r->next;
        r->next = NULL;
        e->n_waiting--;
        if (r->matcher) {
            fm_status s = ready_for_grammar(e);
            if (s != FM_OK) {
                fm_engine_finish(e, r, s, FM_FINISH_STOPPED, -1);
                continue;
            }
        }
        find_beginning(e, r);
        if (!r->admitted) {
            r->admitted = true;
            r->admitted_s = fm_now();
            r->n_found = r->n_kept;
            e->prefix_queries += r->n_prompt;
            e->prefix_hits += r->n_found;
        }
        int32_t i = e->n_running++;
        for (; i > 0 && e->running[i - 1]->number > r->number; i--) {
            e->running[i] = e->running[i - 1];
        }
        e->running[i] = r;
    }
}

static void preempt(fm_engine *e, int32_t i) {
    fm_request *r = e->running[i];
    remove_running(e, i);
    for (int32_t b = r->n_blocks; b-- > 0;) {
        fm_blocks_release(e->blocks, r->blocks[b]);
    }
    r->n_blocks = r->n_linked = r->n_kept = r->n_now = 0;
    r->n_drafted = r->n_draft = 0;
    r->mtp_guess = -1;
    r->link = (fm_block_link){.block = -1, .serial = r->adapter ? r->adapter->serial : 0};
    r->next = e->waiting;
    e->waiting = r;
    e->n_waiting++;
    e->preemptions++;
}

/* ---- one pass -------------------------------------------------------------------------------- */

/* Blocks for up to `tokens` more tokens of running[i]; others may be preempted for the first `must` of them. Returns
 * for how many there is room. */
static int32_t make_room(fm_engine *e, int32_t i, int32_t tokens, int32_t must) {
    fm_request *r = e->running[i];
    while (r->n_blocks < blocks_for(e, r->n_kept + tokens)) {
        int32_t b = fm_blocks_take(e->blocks);
        if (b < 0) {
            int32_t last = e->n_running - 1, have = r->n_blocks * e->block_tokens - r->n_kept;
            while (last > i && e->running[last]->n_now > 0) {
                last--;
            }
            if (have >= must || last == i) {
                return FM_MIN(have, tokens);
            }
            preempt(e, last);
            continue;
        }
        r->blocks[r->n_blocks++] = b;
    }
    return tokens;
}

static int32_t pending(const fm_request *r) {
    return r->n - r->n_kept;
}

/* How many tokens of each sequence are in this pass; returns their sum. */
static int32_t choose_tokens(fm_engine *e) {
    int32_t used = 0, readers = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        e->running[i]->n_now = 0;
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        if (pending(e->running[i]) == 1) {
            fm_request *r = e->running[i];
            r->n_now = make_room(e, i, 1 + r->n_draft, 1);
            r->n_draft = FM_MAX(r->n_now - 1, 0);
            used += r->n_now;
        }
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        readers += pending(e->running[i]) > 1;
    }
    int32_t budget = used > 0 ? FM_MIN(e->batch_tokens - used, e->batch_tokens / 2) : e->batch_tokens;
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        if (pending(r) == 1) {
            continue;
        }
        find_beginning(e, r); /* another one may have computed it by now */
        int32_t share = FM_MAX(budget / FM_MAX(readers, 1), LEAST_CHUNK);
        int32_t want = FM_MIN(FM_MIN(pending(r), share), budget);
        readers--;
        r->n_now = want > 0 ? make_room(e, i, want, 1) : 0;
        budget -= r->n_now;
        used += r->n_now;
    }
    return used;
}

fm_batch fm_engine_batch(const fm_engine *e, fm_kv_cache *kv, int32_t n_tokens, int32_t n_segments) {
    return (fm_batch){.n_tokens = n_tokens,
                      .n_segments = n_segments,
                      .ids = e->ids,
                      .pos = e->pos,
                      .q_offsets = e->q_offsets,
                      .kv = kv,
                      .kv_offsets = e->kv_offsets,
                      .block_table = e->table,
                      .max_blocks = e->max_blocks,
                      .slots = e->slots,
                      .mixed = true};
}

static void lay_out(fm_engine *e, fm_batch *b, int32_t *n_rows) {
    int32_t t = 0, s = 0, rows = 0, n = e->block_tokens;
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        if (r->n_now == 0) {
            continue;
        }
        for (int32_t k = 0; k < r->n_now; k++, t++) {
            int32_t pos = r->n_kept + k;
            e->ids[t] = r->ids[pos];
            e->pos[t] = pos;
            e->slots[t] = r->blocks[pos / n] * n + pos % n;
        }
        r->pass_begin = r->n_kept;
        r->pass_row = t - r->n_now;
        memcpy(e->table + (size_t)s * (size_t)e->max_blocks, r->blocks, (size_t)r->n_blocks * sizeof *e->table);
        r->row = -1;
        if (r->n_kept + r->n_now == r->n + r->n_draft) { /* the last token, and each guess behind it */
            r->row = rows;
            for (int32_t k = r->n_draft; k >= 0; k--) {
                e->rows[rows++] = t - 1 - k;
            }
        }
        s++;
        e->q_offsets[s] = t;
        e->kv_offsets[s] = e->kv_offsets[s - 1] + r->n_kept + r->n_now;
    }
    *b = fm_engine_batch(e, e->kv, t, s);
    *n_rows = rows;
    e->mix.n_rows = t;
    fm_engine_adapter_rows(e);
}

static fm_status compute(fm_engine *e, const fm_batch *b, int32_t n_rows) {
    fm_ctx_reset(e->c);
    fm_ctx_set_lora_mix(e->c, e->mix.n_parts > 0 ? &e->mix : NULL);
    fm_tensor *y = pass(e->c, e->m, b, n_rows, e->rows, &e->hidden);
    FM_TRY(fm_ctx_status(e->c));
    fm_ctx_set_lora_mix(e->c, NULL);
    e->logits = n_rows > 0 ? fm_data(e->c, y) : NULL;
    return fm_ctx_status(e->c);
}

/* What it writes into the first block of the cache belongs to nobody. */
fm_status fm_engine_warm(fm_engine *e) {
    e->q_offsets[1] = e->kv_offsets[1] = 1;
    fm_batch b = fm_engine_batch(e, e->kv, 1, 1);
    return compute(e, &b, 1);
}

static fm_status choose_token(fm_engine *e, fm_request *r, int thread) {
    fm_token_sampler *s = &e->sampler[thread];
    const float *logits = e->logits + (int64_t)r->row * e->m->cfg.vocab_size;
    fm_rng_key key = {.seed = r->o.seed, .stream = fm_rng_stream("sample"), .step = 0};
    fm_token_past past = {.ids = r->ids, .n = r->n, .n_prompt = r->n_prompt};
    if (r->matcher) {
        uint32_t *bits = e->allowed + (int64_t)thread * ((e->m->cfg.vocab_size + 31) / 32);
        FM_TRY(fm_constrain(bits, &r->grammar_over, r->matcher, e->order, e->m, e->tok));
        past.allowed = bits;
        if (r->grammar_over) {
            return FM_OK;
        }
    }
    if (e->watch) {
        e->watch(r->user, r->n, logits);
    }
    FM_TRY(fm_token_sampler_pick(&r->id, s, logits, &past, &r->o, fm_rng_uniform(key, (uint64_t)r->n)));
    r->logprob = NAN;
    r->n_top = 0;
    if (r->o.logprobs != 0) {
        r->n_top = FM_MAX(r->o.logprobs, 0);
        FM_TRY(fm_token_sampler_logprobs(&r->logprob, s, logits, r->id, r->n_top));
        if (r->n_top > 0) {
            memcpy(r->top_ids, s->top_ids, (size_t)r->n_top * sizeof *r->top_ids);
            memcpy(r->top_logprobs, s->top_logprobs, (size_t)r->n_top * sizeof *r->top_logprobs);
        }
    }
    return FM_OK;
}

/* Sequences are sampled by all threads: softmax over a large vocabulary takes as long as a small model. */
static fm_status sample_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    fm_engine *e = arg;
    fm_request *r = e->running[part];
    r->error.status = FM_OK;
    if (r->n_now > 0 && r->row >= 0 && choose_token(e, r, thread) != FM_OK) {
        fm_error_save(&r->error);
    }
    return FM_OK;
}

/* Text that the token completes goes into r->text; true when it ends with a stop string. */
static fm_status text_of(fm_request *r, bool end, bool *stopped) {
    const char *p;
    size_t n;
    fm_str_clear(&r->text);
    *stopped = false;
    if (r->decoder && !end) {
        FM_TRY(fm_token_decoder_push(r->decoder, r->id, &p, &n));
        *stopped = fm_stops_push(&r->stops, &r->text, p, n);
    }
    return fm_str_check(&r->text);
}

/* What is held back when the text ends. */
static fm_status last_text(fm_request *r, bool *stopped) {
    const char *p;
    size_t n;
    if (r->decoder) {
        fm_token_decoder_flush(r->decoder, &p, &n);
        *stopped = fm_stops_push(&r->stops, &r->text, p, n);
        if (!*stopped) {
            fm_stops_flush(&r->stops, &r->text);
        }
    }
    return fm_str_check(&r->text);
}

/* Takes the sampled token of running[i] over and tells the user. True when the request ended and is no longer there. */
static bool hand_out(fm_engine *e, int32_t i) {
    fm_request *r = e->running[i];
    fm_status s = FM_OK;
    fm_finish finish = FM_FINISH_LENGTH;
    bool stopped = false, end = false;
    if (r->error.status != FM_OK) {
        remove_running(e, i);
        fm_str_clear(&r->text);
        fm_error_restore(&r->error);
        fm_engine_finish(e, r, r->error.status, FM_FINISH_STOPPED, -1);
        return true;
    }
    if (r->grammar_over) {
        remove_running(e, i);
        fm_str_clear(&r->text);
        s = last_text(r, &stopped);
        fm_engine_finish(e, r, s, FM_FINISH_EOS, -1);
        return true;
    }
    if (r->n == r->n_prompt) {
        r->first_s = fm_now();
    }
    r->ids[r->n++] = r->id;
    bool eos = (!r->o.ignore_eos || r->matcher) && fm_ends_text(e->m, e->tok, r->id);
    s = text_of(r, eos, &stopped);
    if (s == FM_OK && r->matcher && !eos) {
        s = fm_constrain_follow(r->matcher, e->order, r->id);
    }
    if (eos) {
        end = true;
        finish = FM_FINISH_EOS;
    } else if (stopped) {
        end = true;
        finish = FM_FINISH_STOPPED;
    } else if (r->n - r->n_prompt >= r->o.max_new_tokens || r->n >= r->most) {
        end = true;
        finish = r->n - r->n_prompt >= r->o.max_new_tokens ? FM_FINISH_LENGTH : FM_FINISH_CONTEXT;
    }
    if (s == FM_OK && end && !stopped) {
        s = last_text(r, &stopped);
        finish = stopped ? FM_FINISH_STOPPED : finish;
    }
    if (end || s != FM_OK) {
        remove_running(e, i);
        fm_engine_finish(e, r, s, finish, r->id);
        return true;
    }
    fm_engine_event v = {.id = r->id,
                         .text = r->text.data ? r->text.data : "",
                         .text_len = r->text.len,
                         .logprob = r->logprob,
                         .top_ids = r->top_ids,
                         .top_logprobs = r->top_logprobs,
                         .n_top = r->n_top};
    r->fn(r->user, &v);
    return false;
}

/* Full blocks can be found by others. */
static void publish(fm_engine *e, fm_request *r) {
    int32_t kept = fm_draft_kept(e, r);
    while (e->prefix_cache && (r->n_linked + 1) * e->block_tokens <= kept) {
        int32_t b = r->n_linked++;
        fm_blocks_publish(e->blocks, r->blocks[b], &r->link, r->ids + (int64_t)b * e->block_tokens);
    }
}

/* A pass that failed takes those with it that were in it. */
static void fail_pass(fm_engine *e, fm_status s) {
    fm_error_record err;
    fm_error_save(&err);
    for (int32_t i = e->n_running; i-- > 0;) {
        fm_request *r = e->running[i];
        if (r->n_now > 0) {
            remove_running(e, i);
            fm_str_clear(&r->text);
            fm_error_restore(&err);
            fm_engine_finish(e, r, s, FM_FINISH_STOPPED, -1);
        }
    }
    fm_blocks_forget(e->blocks); /* what it wrote is not to be trusted */
}

/* Requests for no tokens at all. */
static void drop_empty(fm_engine *e) {
    for (int32_t i = e->n_running; i-- > 0;) {
        fm_request *r = e->running[i];
        if (r->o.max_new_tokens == 0) {
            remove_running(e, i);
            fm_engine_finish(e, r, FM_OK, FM_FINISH_LENGTH, -1);
        }
    }
}

static void count_pass(fm_engine *e, int32_t n_tokens, int64_t read) {
    int64_t guesses = 0, drafts = 0, texts = 0;
    int bucket = 0;
    while (bucket < FM_PASS_BUCKETS && n_tokens > (bucket == 0 ? 1 : 4 << bucket)) {
        bucket++;
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        texts += r->n_now > 0;
        if (r->n_now > 0) {
            r->n_guessed += r->n_draft;
            guesses += r->n_draft;
            drafts += r->n_draft > 0;
        }
    }
    pthread_mutex_lock(&e->lock);
    e->stats.passes++;
    e->stats.pass_tokens += n_tokens;
    e->stats.pass_sequences += texts;
    e->stats.passes_by_tokens[bucket]++;
    e->stats.prompt_tokens += read;
    e->stats.drafts += drafts;
    e->stats.draft_tokens += guesses;
    pthread_mutex_unlock(&e->lock);
}

/* The guess behind the token that was handed out: true when it is that token, so that its row says what follows. */
static bool guessed_right(const fm_engine *e, fm_request *r, int32_t round) {
    bool right = r->n_draft > 0 && r->ids[r->n - 1] == r->guess;
    if (round == 0 && r->n_draft > 0) {
        fm_draft_judge(e, r, right);
    }
    if (!right) {
        r->row = -1;
        r->n_right = round;
        r->n_drafted = FM_MIN(r->n_drafted, r->n_kept);
        return false;
    }
    r->row++;
    r->n_draft--;
    r->n_kept++;
    return true;
}

/* Each sequence that has a row gets its next token. Returns how many have another row. */
static int32_t sample_round(fm_engine *e, int32_t round) {
    int32_t active = 0, left = 0, accepted = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        active += r->n_now > 0 && r->row >= 0;
        r->guess = r->n_draft > 0 ? r->ids[r->n] : -1;
    }
    fm_status s = fm_pool_run(active > 1 ? e->m->pool : NULL, e->n_running, sample_part, e);
    FM_ASSERT(s == FM_OK);                       /* parts keep their errors */
    for (int32_t i = 0; i < e->n_running; i++) { /* before the events: who sees them sees the counts too */
        const fm_request *r = e->running[i];
        accepted += r->n_now > 0 && r->row >= 0 && r->n_draft > 0 && r->error.status == FM_OK && r->id == r->guess;
    }
    pthread_mutex_lock(&e->lock);
    e->stats.generation_tokens += active;
    e->stats.draft_accepted += accepted;
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < e->n_running;) {
        fm_request *r = e->running[i];
        if (r->n_now > 0 && r->row >= 0) {
            r->n_accepted += r->n_draft > 0 && r->error.status == FM_OK && r->id == r->guess;
            if (hand_out(e, i)) {
                continue;
            }
            left += guessed_right(e, r, round);
        }
        i++;
    }
    return left;
}

void fm_engine_step(fm_engine *e) {
    fm_batch b;
    int32_t n_rows = 0;
    drop_cancelled(e);
    admit(e);
    drop_empty(e);
    fm_engine_count(e);
    fm_draft(e);
    if (e->n_running == 0 || choose_tokens(e) == 0) {
        return;
    }
    lay_out(e, &b, &n_rows);
    fm_status s = compute(e, &b, n_rows);
    if (s != FM_OK) {
        fail_pass(e, s);
        return;
    }
    int64_t read = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        read += FM_MAX(0, FM_MIN(r->n_now, r->n_prompt - r->n_kept));
        r->n_kept += FM_MAX(r->n_now - r->n_draft, 0);
        publish(e, r);
    }
    count_pass(e, b.n_tokens, read);
    int32_t n_active = n_rows;
    for (int32_t round = 0; n_active > 0; round++) {
        n_active = sample_round(e, round);
    }
    fm_draft_after(e);
    for (int32_t i = 0; i < e->n_running; i++) {
        publish(e, e->running[i]);
    }
}
