/* Guesses: from the text itself, by a smaller model, or by the model's own prediction layer. */
#include "infer/draft.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "base/log.h"
#include "infer/constrain.h"

#define LONGEST_MATCH 4 /* tokens that must have occurred before, for a guess from the text */
#define LEAST_MATCH   2

/* When a drafting model is asked. A row more in the model's pass costs about this share of the pass (decoding waits for
 * weights, not for arithmetic); a guess costs what the smaller model's weights are of the larger one's. */
#define ROW_COST   0.08F
#define PACE       0.1F /* weight of the newest guess in the averages */
#define LEAST_REST 4
#define MOST_REST  64

typedef enum draft_kind { DRAFT_LOOKUP, DRAFT_MODEL, DRAFT_MTP } draft_kind;

struct fm_drafter {
    draft_kind kind;
    int32_t most;
    fm_model *m; /* of DRAFT_MODEL; the engine's own of DRAFT_MTP */
    int32_t vocab;
    float cost;      /* of a guess, as a share of a pass of the engine's model */
    fm_kv_cache *kv; /* of DRAFT_MODEL, with the blocks of the engine's */
    fm_ctx *c;
    fm_token_sampler sampler;
    bool broken; /* it failed: no more guesses */
};

/* ---- making ---------------------------------------------------------------------------------- */

int64_t fm_drafter_kv_bytes(const fm_engine *e, const fm_engine_options *o) {
    if (o->draft) {
        return fm_model_kv_bytes_per_token(&o->draft->cfg, o->draft->compute);
    }
    int32_t n = e->m->cfg.n_layers;
    return o->mtp ? fm_model_kv_bytes_per_token(&e->m->cfg, e->m->compute) / n : 0;
}

/* Guesses are token ids: both models must mean the same by them. */
static fm_status check_vocabulary(const fm_engine *e, fm_model *draft) {
    const fm_tokenizer *tok = NULL;
    int32_t a = e->m->cfg.vocab_size, b = draft->cfg.vocab_size;
    bool have = e->tok && fm_model_tokenizer(&tok, draft) == FM_OK;
    if (!have && a != b) {
        FM_FAIL(FM_ERR_ARGUMENT, "draft: expected a model with a vocabulary of %d, found %d", (int)a, (int)b);
    }
    for (int32_t id = 0; have && id < FM_MIN(a, b); id++) {
        size_t n = 0, n2 = 0;
        const char *p = fm_tokenizer_token(e->tok, id, &n), *q = fm_tokenizer_token(tok, id, &n2);
        if (p && q && (n != n2 || memcmp(p, q, n) != 0)) {
            FM_FAIL(FM_ERR_ARGUMENT, "draft: token %d is \"%.*s\" there and \"%.*s\" here: expected the same tokenizer",
                    (int)id, (int)n2, q, (int)n, p);
        }
    }
    return FM_OK;
}

static fm_tensor *pass(fm_ctx *c, const fm_model *m, const fm_batch *b, int32_t n_rows, int32_t *rows) {
    fm_tensor *h = fm_model_forward(c, m, b);
    return n_rows > 0 ? fm_model_head(c, m, h, fm_from_memory(c, FM_I32, 1, (int64_t[]){n_rows}, rows)) : h;
}

static fm_status make_model(fm_drafter *d, fm_engine *e) {
    const fm_model_config *cfg = &d->m->cfg;
    int32_t heads, k_dim, v_dim, n = e->batch_tokens;
    d->cost = (float)fm_model_params_active(d->m) / (float)FM_MAX(fm_model_params_active(e->m), 1);
    if (!fm_model_generates(d->m)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "draft: a %s model with another head generates no text", d->m->family->name);
    }
    if (cfg->max_position < e->ctx_size) {
        FM_FAIL(FM_ERR_ARGUMENT, "draft: its context is %lld tokens, the model's is %d; give a smaller ctx_size",
                (long long)cfg->max_position, (int)e->ctx_size);
    }
    FM_TRY(check_vocabulary(e, d->m));
    fm_model_kv_shape(cfg, &heads, &k_dim, &v_dim);
    FM_TRY(fm_kv_cache_new(&d->kv, fm_model_kv_layers(cfg), heads, k_dim, v_dim, d->m->compute,
                           (int64_t)e->n_blocks * e->block_tokens, e->block_tokens));
    fm_batch b = {.n_tokens = n,
                  .n_segments = 1,
                  .ids = e->ids,
                  .pos = e->pos,
                  .q_offsets = (int32_t[]){0, n},
                  .kv = d->kv,
                  .kv_offsets = (int32_t[]){0, n},
                  .block_table = e->table,
                  .max_blocks = e->max_blocks,
                  .slots = e->slots,
                  .mixed = true};
    fm_ctx *meta;
    fm_ctx_options o = {.size = sizeof o, .compute = d->m->compute};
    FM_TRY(fm_ctx_new(&meta, &o));
    (void)pass(meta, d->m, &b, e->parallel, NULL);
    fm_status s = fm_ctx_status(meta);
    o.arena_bytes = fm_ctx_arena_peak(meta) + 4096;
    o.grad_bytes = fm_ctx_grad_peak(meta) + 4096;
    fm_ctx_free(meta);
    FM_TRY(s);
    o.backend = fm_cpu_backend();
    o.pool = e->m->pool;
    FM_TRY(fm_ctx_new(&d->c, &o));
    fm_ctx_set_pack(d->c, true);
    return FM_OK;
}

static fm_status make(fm_drafter *d, fm_engine *e, const fm_engine_options *o) {
    if (o->draft_max < 0 || o->draft_max > FM_MAX_DRAFT) {
        FM_FAIL(FM_ERR_ARGUMENT, "draft_max: expected 1 to %d tokens, found %d", FM_MAX_DRAFT, (int)o->draft_max);
    }
    if ((o->draft != NULL) + o->lookup + o->mtp > 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "draft, lookup and mtp: expected one of them");
    }
    d->kind = o->draft ? DRAFT_MODEL : o->mtp ? DRAFT_MTP : DRAFT_LOOKUP;
    d->most = e->draft_max;
    d->m = o->draft ? o->draft : e->m;
    d->vocab = FM_MIN(d->m->cfg.vocab_size, e->m->cfg.vocab_size);
    if (d->kind == DRAFT_MODEL) {
        FM_TRY(make_model(d, e));
    }
    return fm_token_sampler_init(&d->sampler, d->vocab);
}

fm_status fm_drafter_new(fm_drafter **out, fm_engine *e, const fm_engine_options *o) {
    *out = NULL;
    if (!o->draft && !o->lookup && !o->mtp) {
        return FM_OK;
    }
    fm_drafter *d = fm_calloc(1, sizeof *d);
    if (!d) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for drafts");
    }
    fm_status s = make(d, e, o);
    if (s != FM_OK) {
        fm_drafter_free(d);
        return s;
    }
    *out = d;
    return FM_OK;
}

void fm_drafter_free(fm_drafter *d) {
    if (d) {
        fm_ctx_free(d->c);
        fm_kv_cache_free(d->kv);
        fm_token_sampler_deinit(&d->sampler);
        fm_free(d);
    }
}

int32_t fm_draft_kept(const fm_engine *e, const fm_request *r) {
    return e->drafter && e->drafter->kind != DRAFT_LOOKUP && !e->drafter->broken ? FM_MIN(r->n_kept, r->n_drafted)
                                                                                 : r->n_kept;
}

/* ---- from the text --------------------------------------------------------------------------- */

/* Guesses what followed the last occurrence of the last tokens. Returns how many. */
static int32_t look_up(int32_t *ids, int32_t n, int32_t most) {
    for (int32_t len = LONGEST_MATCH; len >= LEAST_MATCH; len--) {
        for (int32_t at = n - len - 1; at >= 0 && n > len; at--) {
            if (memcmp(ids + at, ids + n - len, (size_t)len * sizeof *ids) == 0) {
                int32_t k = 0;
                for (; k < most && at + len + k < n; k++) {
                    ids[n + k] = ids[at + len + k];
                }
                return k;
            }
        }
    }
    return 0;
}

/* ---- by a model ------------------------------------------------------------------------------ */

static fm_status guess(int32_t *id, fm_drafter *d, const fm_request *r, const float *logits, int32_t n) {
    fm_rng_key key = {.seed = r->o.seed, .stream = fm_rng_stream("sample"), .step = 0};
    fm_token_past past = {.ids = r->ids, .n = n, .n_prompt = r->n_prompt};
    fm_sampling o = r->o;
    o.bias = NULL;
    o.n_bias = 0;
    return fm_token_sampler_pick(id, &d->sampler, logits, &past, &o, fm_rng_uniform(key, (uint64_t)n));
}

/* The probability of id. What is e^20 times less likely than the best is left out: for 100,000 such tokens that is
 * 2e-4, and most of a vocabulary is. */
static float probability(const float *logits, int32_t n, int32_t id) {
    float max = -INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (int32_t i = 0; i < n; i++) {
        if (logits[i] > max - 20) {
            sum += expf(logits[i] - max);
        }
    }
    return sum > 0 ? (float)(expf(logits[id] - max) / sum) : 0;
}

/* The guess of a round is in: the chance that it and all before it are right. What a greedy draft says of its token is
 * taken as true as it has been so far; of a sampled token it says nothing, and the share that was right stands alone.
 */
static void weigh(const fm_drafter *d, fm_request *r, int32_t round, const float *logits) {
    float p = r->o.temperature == 0 ? probability(logits, d->vocab, r->ids[r->n + round]) : 1;
    if (round == 0) {
        r->pace.first = p;
        r->pace.all = 1;
    }
    r->pace.all *= FM_MIN(1.0F, p * r->pace.right / FM_MAX(r->pace.said, 1e-6F));
}

void fm_draft_begin(const fm_engine *e, fm_request *r) {
    r->mtp_guess = -1;
    r->n_right = e->draft_max;
    r->pace = (fm_draft_pace){.said = 0.5F, .right = 0.5F, .next_rest = LEAST_REST};
}

void fm_draft_judge(const fm_engine *e, fm_request *r, bool right) {
    fm_draft_pace *p = &r->pace;
    if (!e->drafter || e->drafter->kind != DRAFT_MODEL) {
        return;
    }
    p->said += PACE * (p->first - p->said);
    p->right += PACE * ((right ? 1.0F : 0.0F) - p->right);
    if (p->right >= e->drafter->cost + ROW_COST) {
        p->next_rest = LEAST_REST;
    } else if (!right) {
        p->rest = p->next_rest;
        p->next_rest = FM_MIN(2 * p->next_rest, MOST_REST);
    }
}

/* One segment: tokens [from, to) of a request. */
static void add_segment(fm_engine *e, fm_batch *b, const fm_request *r, int32_t from, int32_t to) {
    int32_t s = b->n_segments, n = e->block_tokens;
    for (int32_t pos = from; pos < to; pos++, b->n_tokens++) {
        e->ids[b->n_tokens] = r->ids[pos];
        e->pos[b->n_tokens] = pos;
        e->slots[b->n_tokens] = r->blocks[pos / n] * n + pos % n;
    }
    memcpy(e->table + (size_t)s * (size_t)e->max_blocks, r->blocks, (size_t)r->n_blocks * sizeof *e->table);
    e->q_offsets[s + 1] = b->n_tokens;
    e->kv_offsets[s + 1] = e->kv_offsets[s] + to;
    b->n_segments = s + 1;
}

static bool reads(const fm_drafter *d, const fm_request *r, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++) {
        if (r->ids[i] >= d->vocab) { /* a token that the smaller model does not have */
            return false;
        }
    }
    return true;
}

/* One pass of the drafting model: round 0 reads what it has not seen, each round guesses one more token. */
static fm_status draft_round(fm_engine *e, fm_drafter *d, int32_t round, int32_t *n_guesses) {
    fm_batch b = fm_engine_batch(e, d->kv, 0, 0);
    int32_t n_rows = 0;
    *n_guesses = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        int32_t wanted = r->n_draft_wanted, to = wanted > 0 ? r->n + round : r->n_kept, from = r->n_drafted;
        r->row = -1;
        if (r->pace.rest > 0 && r->n > r->n_prompt) { /* what it misses now it reads when it is asked again */
            continue;
        }
        if (to <= from || (round > 0 && (wanted <= round || r->pace.all < d->cost + ROW_COST)) || r->n_draft < round ||
            b.n_tokens + (to - from) > e->batch_tokens || !reads(d, r, from, to)) {
            if (round == 0 && to > from && b.n_tokens == 0 && reads(d, r, from, to)) { /* a part of a long text */
                to = from + e->batch_tokens;
                add_segment(e, &b, r, from, to);
                r->n_drafted = to;
            }
            continue;
        }
        add_segment(e, &b, r, from, to);
        r->n_drafted = to;
        if (wanted > round) {
            e->rows[n_rows] = b.n_tokens - 1;
            r->row = n_rows++;
        }
    }
    if (b.n_tokens == 0) {
        return FM_OK;
    }
    fm_ctx_reset(d->c);
    fm_tensor *y = pass(d->c, d->m, &b, n_rows, e->rows);
    FM_TRY(fm_ctx_status(d->c));
    const float *logits = n_rows > 0 ? fm_data(d->c, y) : NULL;
    FM_TRY(fm_ctx_status(d->c));
    for (int32_t i = 0; i < e->n_running && logits; i++) {
        fm_request *r = e->running[i];
        if (r->row >= 0) {
            FM_TRY(guess(&r->ids[r->n + round], d, r, logits + (int64_t)r->row * d->m->cfg.vocab_size, r->n + round));
            weigh(d, r, round, logits + (int64_t)r->row * d->m->cfg.vocab_size);
            if (round == 0 || r->pace.all >= ROW_COST) {
                r->n_draft = round + 1;
                ++*n_guesses;
            }
        }
    }
    return FM_OK;
}

static fm_status draft_model(fm_engine *e, fm_drafter *d) {
    int32_t more = 1;
    for (int32_t round = 0; round < d->most && more > 0; round++) {
        FM_TRY(draft_round(e, d, round, &more));
    }
    return FM_OK;
}

/* ---- by a prediction layer ------------------------------------------------------------------- */

/* Every token of the pass whose successor is known by now, with the hidden state that the pass left; the last one of a
 * text gives the guess for the token after its successor. */
static fm_status draft_mtp(fm_engine *e, fm_drafter *d) {
    fm_batch b = fm_engine_batch(e, e->kv, 0, 0);
    int32_t n_rows = 0, *idx = fm_malloc((size_t)e->batch_tokens * sizeof *idx);
    if (!idx) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for drafts");
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        int32_t from = r->pass_begin, to = FM_MIN(r->n_kept, r->n - 1), t = b.n_tokens;
        r->row = -1;
        if (r->n_now == 0 || to <= from || r->n_drafted < from) {
            continue;
        }
        for (int32_t pos = from; pos < to; pos++) {
            idx[t + pos - from] = r->pass_row + pos - from;
        }
        add_segment(e, &b, r, from, to);
        for (int32_t pos = from; pos < to; pos++) {
            e->ids[t + pos - from] = r->ids[pos + 1];
        }
        r->n_drafted = to;
        if (to == r->n - 1) {
            e->rows[n_rows] = b.n_tokens - 1;
            r->row = n_rows++;
        }
    }
    fm_status s = FM_OK;
    if (b.n_tokens > 0) {
        fm_tensor *h = fm_gather(e->c, e->hidden, fm_from_memory(e->c, FM_I32, 1, (int64_t[]){b.n_tokens}, idx));
        h = fm_model_mtp_forward(e->c, e->m, 0, &b, h);
        h = n_rows > 0 ? fm_model_head(e->c, e->m, h, fm_from_memory(e->c, FM_I32, 1, (int64_t[]){n_rows}, e->rows))
                       : h;
        s = fm_ctx_status(e->c);
        const float *logits = s == FM_OK && n_rows > 0 ? fm_data(e->c, h) : NULL;
        for (int32_t i = 0; i < e->n_running && logits && s == FM_OK; i++) {
            fm_request *r = e->running[i];
            if (r->row >= 0) {
                s = guess(&r->mtp_guess, d, r, logits + (int64_t)r->row * e->m->cfg.vocab_size, r->n);
                r->row = -1;
            }
        }
    }
    fm_free(idx);
    return s;
}

void fm_draft_after(fm_engine *e) {
    fm_drafter *d = e->drafter;
    for (int32_t i = 0; i < e->n_running; i++) {
        e->running[i]->mtp_guess = -1;
    }
    if (d && d->kind == DRAFT_MTP && !d->broken && draft_mtp(e, d) != FM_OK) {
        fm_warn("no more drafts: %s", fm_error_get().message);
        d->broken = true;
    }
}

/* ---- all ------------------------------------------------------------------------------------- */

/* Room for the guesses of a request: blocks that are free anyway. */
static int32_t room_for(fm_engine *e, fm_request *r, int32_t want) {
    want = FM_MIN(want, r->most - r->n);
    while (want > 0 && r->n_blocks * e->block_tokens < r->n + want) {
        int32_t b = fm_blocks_take(e->blocks);
        if (b < 0) {
            return FM_MAX(0, r->n_blocks * e->block_tokens - r->n);
        }
        r->blocks[r->n_blocks++] = b;
    }
    return FM_MAX(want, 0);
}

/* Guesses that the grammar does not allow, and all behind them, go. */
static void check_grammar(const fm_engine *e, fm_request *r) {
    if (!r->matcher || r->n_draft == 0) {
        return;
    }
    int32_t ok = fm_constrain_prefix(r->matcher, e->order, r->ids + r->n, r->n_draft);
    r->n_draft = FM_MAX(ok, 0);
}

void fm_draft(fm_engine *e) {
    fm_drafter *d = e->drafter;
    fm_status s = FM_OK;
    for (int32_t i = 0; i < e->n_running; i++) {
        e->running[i]->n_draft = e->running[i]->n_draft_wanted = 0;
    }
    if (!d || d->broken) {
        return;
    }
    int32_t budget = FM_MIN(e->batch_tokens / 2, e->batch_tokens - e->n_running);
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        if (r->n - r->n_kept != 1 || r->n == r->n_prompt || budget <= 0) {
            continue;
        }
        if (d->kind == DRAFT_MODEL && r->pace.rest > 0 && --r->pace.rest > 0) {
            continue;
        }
        /* From the text as many as were right last time and two more: one that cannot be guessed costs little. A model
         * says itself how sure it is. */
        int32_t want = FM_MIN(d->kind == DRAFT_LOOKUP ? FM_MIN(d->most, r->n_right + 2) : d->most, budget);
        int64_t left = r->o.max_new_tokens - (r->n - r->n_prompt) - 1;
        want = room_for(e, r, (int32_t)FM_MIN((int64_t)want, FM_MAX(left, 0)));
        r->n_draft_wanted = want;
        budget -= want;
        if (d->kind == DRAFT_LOOKUP) {
            r->n_draft = look_up(r->ids, r->n, want);
        } else if (d->kind == DRAFT_MTP && want > 0 && r->mtp_guess >= 0) {
            r->ids[r->n] = r->mtp_guess;
            r->n_draft = 1;
        }
    }
    if (d->kind == DRAFT_MODEL) {
        s = draft_model(e, d);
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        fm_request *r = e->running[i];
        r->n_draft = s == FM_OK ? r->n_draft : 0;
        check_grammar(e, r);
        r->row = -1;
    }
    if (s != FM_OK) {
        fm_warn("no more drafts: %s", fm_error_get().message);
        d->broken = true;
    }
}
