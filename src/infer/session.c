/* Sessions: one sequence, its cache, and the loop that extends it.
 *
 * ids[0..n) is the text so far. Rows [0, n_cached) of the cache hold its beginning; the token sampled last is in ids
 * but not yet in the cache, and goes in with the next forward. Row invariance of the kernels makes the logits of a
 * token the same bits whether its prefix came from the cache, in chunks, or was computed with it. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "fathom/generate.h"
#include "fathom/log.h"
#include "infer/constrain.h"
#include "infer/limits.h"
#include "infer/sampler.h"
#include "model/model.h"

#define PREFILL 512 /* tokens of one forward with a cache; bounds the arena */

struct fm_session {
    fm_model *m;
    int64_t max_context, n, n_cached, n_prompt;
    size_t cap_ids, cap_pos;
    int32_t *ids; /* [n] */
    int32_t *pos; /* 0, 1, 2 ... [cap_pos]; positions, and slots of a contiguous cache */
    fm_kv_cache *kv;
    fm_ctx *c;
    int32_t c_tokens; /* the context fits a forward of so many tokens */
    bool c_cached;
    fm_token_sampler sampler;
    fm_vocab_order *order; /* made for the first grammar */
    uint32_t *allowed;     /* [(vocab+31)/32] */
};

fm_sampling fm_sampling_default(void) {
    return (fm_sampling){.size = sizeof(fm_sampling),
                         .temperature = 0.8,
                         .top_k = 50,
                         .top_p = 0.95,
                         .min_p = 0,
                         .repetition_penalty = 1,
                         .seed = 42,
                         .max_new_tokens = 256,
                         .use_cache = true,
                         .typical_p = 1};
}

int64_t fm_context_limit(const fm_model *m) {
    const fm_rope_config *r = &m->cfg.rope;
    double limit = (double)m->cfg.max_position * (r->kind == FM_ROPE_DYNAMIC ? r->factor : 1);
    return limit < INT32_MAX / 2 ? (int64_t)limit : INT32_MAX / 2;
}

fm_status fm_session_new(fm_session **out, fm_model *m, int64_t max_context) {
    *out = NULL;
    if (max_context < 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "max_context: expected 0 or more tokens, found %lld", (long long)max_context);
    }
    if (!fm_model_generates(m)) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "a %s model with a head for %s generates no text",
                           m->family->name, fm_head_row_of(&m->cfg.head)->name);
        return fm_error_hint("fathom logits gives its hidden states, embeddings and scores");
    }
    fm_session *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a session");
    }
    s->m = m;
    s->max_context = fm_context_limit(m);
    if (max_context > 0 && max_context < s->max_context) {
        s->max_context = max_context;
    }
    fm_status st = fm_token_sampler_init(&s->sampler, m->cfg.vocab_size);
    if (st != FM_OK) {
        fm_session_free(s);
        return st;
    }
    *out = s;
    return FM_OK;
}

void fm_session_free(fm_session *s) {
    if (!s) {
        return;
    }
    fm_ctx_free(s->c);
    fm_kv_cache_free(s->kv);
    fm_token_sampler_deinit(&s->sampler);
    fm_vocab_order_free(s->order);
    fm_free(s->allowed);
    fm_free(s->ids);
    fm_free(s->pos);
    fm_free(s);
}

int64_t fm_session_length(const fm_session *s) {
    return s->n;
}

fm_status fm_session_truncate(fm_session *s, int64_t n) {
    if (n < 0 || n > s->n) {
        FM_FAIL(FM_ERR_ARGUMENT, "a session of %lld tokens cannot be cut to %lld", (long long)s->n, (long long)n);
    }
    s->n = n;
    s->n_cached = FM_MIN(s->n_cached, n);
    return FM_OK;
}

/* ---- forward --------------------------------------------------------------------------------- */

static fm_tensor *forward_last(fm_ctx *c, const fm_model *m, const fm_batch *b, const int32_t *last) {
    fm_tensor *h = fm_model_forward(c, m, b);
    fm_tensor *idx = fm_from_memory(c, FM_I32, 1, (int64_t[]){1}, (void *)last);
    return fm_model_head(c, m, h, idx);
}

/* A context whose arena a run on the meta device has measured. */
static fm_status ready_ctx(fm_session *s, const fm_batch *b) {
    bool cached = b->kv != NULL;
    if (s->c && s->c_cached == cached && b->n_tokens <= s->c_tokens) {
        fm_ctx_reset(s->c);
        return FM_OK;
    }
    fm_ctx_free(s->c);
    s->c = NULL;
    /* Without a cache the length grows by one each time: take steps. */
    fm_batch plan = *b;
    plan.n_tokens = cached ? b->n_tokens : (b->n_tokens + PREFILL - 1) / PREFILL * PREFILL;
    plan.q_offsets = (int32_t[]){0, plan.n_tokens};
    fm_ctx *meta;
    fm_ctx_options o = {.size = sizeof o, .compute = s->m->compute};
    FM_TRY(fm_ctx_new(&meta, &o));
    (void)forward_last(meta, s->m, &plan, NULL);
    fm_status st = fm_ctx_status(meta);
    o.arena_bytes = fm_ctx_arena_peak(meta) + 4096;
    o.grad_bytes = fm_ctx_grad_peak(meta) + 4096;
    fm_ctx_free(meta);
    FM_TRY(st);
    o.backend = fm_cpu_backend();
    o.pool = s->m->pool;
    FM_TRY(fm_ctx_new(&s->c, &o));
    fm_ctx_set_pack(s->c, true);
    s->c_tokens = plan.n_tokens;
    s->c_cached = cached;
    return FM_OK;
}

static fm_status room_for_positions(fm_session *s, int64_t n) {
    size_t old = s->cap_pos;
    FM_TRY(fm_grow((void **)&s->pos, &s->cap_pos, (size_t)n, sizeof *s->pos));
    for (size_t i = old; i < s->cap_pos; i++) {
        s->pos[i] = (int32_t)i;
    }
    return FM_OK;
}

/* Logits [vocab] of the token after ids[0..begin+n); tokens before `begin` are in the cache, or begin is 0. They live
 * until the next call. */
static fm_status forward(fm_session *s, int64_t begin, int32_t n, bool cache, const float **logits) {
    int32_t q_offsets[2] = {0, n}, kv_offsets[2] = {0, (int32_t)(begin + n)}, last = n - 1;
    fm_batch b = {.n_tokens = n, .n_segments = 1, .ids = s->ids + begin, .pos = s->pos + begin, .q_offsets = q_offsets};
    if (cache) {
        b.kv = s->kv;
        b.kv_offsets = kv_offsets;
        b.slots = s->pos + begin;
    }
    FM_TRY(ready_ctx(s, &b));
    fm_tensor *y = forward_last(s->c, s->m, &b, &last);
    FM_TRY(fm_ctx_status(s->c));
    *logits = fm_data(s->c, y);
    return fm_ctx_status(s->c);
}

/* Logits for the token after the whole text. */
static fm_status next_logits(fm_session *s, bool cache, const float **logits) {
    FM_TRY(room_for_positions(s, s->n));
    /* Past the trained length dynamic rope turns every key anew with each token: what the cache holds is stale. */
    if (!cache || fm_rope_depends_on_length(&s->m->cfg.rope, s->n)) {
        s->n_cached = 0;
        return forward(s, 0, (int32_t)s->n, false, logits);
    }
    if (!s->kv) {
        const fm_model_config *cfg = &s->m->cfg;
        int32_t heads, k_dim, v_dim;
        fm_model_kv_shape(cfg, &heads, &k_dim, &v_dim);
        FM_TRY(fm_kv_cache_new(&s->kv, fm_model_kv_layers(cfg), heads, k_dim, v_dim, s->m->compute, s->max_context, 0));
    }
    s->n_cached = FM_MIN(s->n_cached, s->n - 1); /* the last token's logits are always computed */
    while (s->n_cached < s->n) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while reading the prompt");
        }
        int32_t step = (int32_t)FM_MIN((int64_t)PREFILL, s->n - s->n_cached);
        FM_TRY(forward(s, s->n_cached, step, true, logits));
        s->n_cached += step;
    }
    return FM_OK;
}

/* ---- generation ------------------------------------------------------------------------------ */

static fm_status append(fm_session *s, const int32_t *ids, int32_t n) {
    if (n < 0 || s->n + n > s->max_context) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "%lld tokens do not fit in a context of %lld",
                           (long long)s->n + n, (long long)s->max_context);
        return fm_error_hint("give a shorter prompt or a larger context (the model allows %lld)",
                             (long long)fm_context_limit(s->m));
    }
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= s->m->cfg.vocab_size) {
            FM_FAIL(FM_ERR_ARGUMENT, "token %d is %d; the vocabulary has %d", (int)i, (int)ids[i],
                    (int)s->m->cfg.vocab_size);
        }
    }
    FM_TRY(fm_grow((void **)&s->ids, &s->cap_ids, (size_t)(s->n + n + 1), sizeof *s->ids));
    if (n > 0) {
        memcpy(s->ids + s->n, ids, (size_t)n * sizeof *ids);
    }
    s->n += n;
    return FM_OK;
}

bool fm_ends_text(const fm_model *m, const fm_tokenizer *tok, int32_t id) {
    for (int i = 0; i < m->n_eos; i++) {
        if (m->eos[i] == id) {
            return true;
        }
    }
    return m->n_eos == 0 && tok && fm_tokenizer_eos(tok) == id;
}

/* One call of fm_session_generate. */
typedef struct run {
    fm_session *s;
    const fm_sampling *o;
    const fm_tokenizer *tok; /* NULL when the folder has none: ids only */
    fm_token_decoder *decoder;
    fm_token_fn fn;
    void *user;
    fm_str text;         /* of the last token: what push and flush gave */
    fm_matcher *matcher; /* of o->grammar, or NULL */
} run;

/* Text of a token; an end token shows nothing, the last one also gives what was held back. */
static fm_status text_of(run *r, int32_t id, bool eos, bool last) {
    const char *p;
    size_t n;
    fm_str_clear(&r->text);
    if (r->decoder && !eos) {
        FM_TRY(fm_token_decoder_push(r->decoder, id, &p, &n));
        fm_str_append(&r->text, p, n);
    }
    if (r->decoder && last) {
        fm_token_decoder_flush(r->decoder, &p, &n);
        fm_str_append(&r->text, p, n);
    }
    return fm_str_check(&r->text);
}

/* The text is complete, though the model has no token to say so: what was held back is given. */
static fm_status last_token(run *r, fm_finish *finish) {
    FM_TRY(text_of(r, -1, true, true));
    fm_token_out t = {
        .id = -1, .text = r->text.data ? r->text.data : "", .text_len = r->text.len, .logprob = NAN, .last = true};
    if (r->fn && !r->fn(r->user, &t)) {
        *finish = FM_FINISH_STOPPED;
    }
    return FM_OK;
}

static fm_status begin_grammar(run *r, fm_grammar *g) {
    fm_session *s = r->s;
    int32_t vocab = s->m->cfg.vocab_size;
    if (!r->tok) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "a grammar needs a tokenizer, and the model has none");
    }
    if (!s->allowed) {
        s->allowed = fm_calloc((size_t)(vocab + 31) / 32, sizeof *s->allowed);
        if (!s->allowed) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a grammar");
        }
    }
    if (!s->order) {
        FM_TRY(fm_vocab_order_new(&s->order, r->tok, vocab));
    }
    return fm_matcher_new(&r->matcher, g);
}

static fm_status one_token(run *r, int64_t i, bool *stop, fm_finish *finish) {
    fm_session *s = r->s;
    const fm_sampling *o = r->o;
    const float *logits = NULL;
    int32_t id;
    FM_TRY(next_logits(s, o->use_cache, &logits));
    fm_rng_key key = {.seed = o->seed, .stream = fm_rng_stream("sample"), .step = 0};
    double draw = fm_rng_uniform(key, (uint64_t)s->n);
    fm_token_past past = {.ids = s->ids, .n = s->n, .n_prompt = s->n_prompt};
    if (r->matcher) {
        FM_TRY(fm_constrain(s->allowed, stop, r->matcher, s->order, s->m, r->tok));
        past.allowed = s->allowed;
        if (*stop) {
            *finish = FM_FINISH_EOS;
            return last_token(r, finish);
        }
    }
    FM_TRY(fm_token_sampler_pick(&id, &s->sampler, logits, &past, o, draw));
    fm_token_out t = {.id = id, .text = "", .logprob = NAN};
    if (o->logprobs != 0) {
        t.n_top = FM_MIN(FM_MAX(o->logprobs, 0), s->sampler.vocab);
        FM_TRY(fm_token_sampler_logprobs(&t.logprob, &s->sampler, logits, id, t.n_top));
        t.top_ids = s->sampler.top_ids;
        t.top_logprobs = s->sampler.top_logprobs;
    }
    FM_TRY(append(s, &id, 1));
    bool eos = (!o->ignore_eos || r->matcher) && fm_ends_text(s->m, r->tok, id);
    *stop = true;
    if (eos) {
        *finish = FM_FINISH_EOS;
    } else if (i + 1 >= o->max_new_tokens) {
        *finish = FM_FINISH_LENGTH;
    } else if (s->n >= s->max_context) {
        *finish = FM_FINISH_CONTEXT;
    } else {
        *stop = false;
    }
    if (r->matcher && !eos) {
        FM_TRY(fm_constrain_follow(r->matcher, s->order, id));
    }
    t.last = *stop;
    FM_TRY(text_of(r, id, eos, t.last));
    if (r->text.len > 0) {
        t.text = r->text.data;
        t.text_len = r->text.len;
    }
    if (r->fn && !r->fn(r->user, &t) && !*stop) {
        *stop = true;
        *finish = FM_FINISH_STOPPED;
    }
    return FM_OK;
}

/* The tokenizer when the folder has one. */
static fm_status open_tokenizer(run *r) {
    char path[4096];
    fm_model *m = r->s->m;
    if (!m->tokenizer) {
        if (!m->path) {
            return FM_OK;
        }
        FM_TRY(fm_path_join(path, sizeof path, m->path, "tokenizer.json"));
        if (!fm_path_exists(path)) {
            return FM_OK;
        }
    }
    FM_TRY(fm_model_tokenizer(&r->tok, m));
    fm_decode_options o = {.size = sizeof o, .skip_special = true};
    return fm_token_decoder_new(&r->decoder, r->tok, &o);
}

fm_status fm_session_generate(fm_session *s, const int32_t *ids, int32_t n_ids, const fm_sampling *o, fm_token_fn fn,
                              void *user, fm_finish *finish) {
    fm_sampling def = fm_sampling_default();
    fm_finish unused;
    o = o ? o : &def;
    finish = finish ? finish : &unused;
    *finish = FM_FINISH_LENGTH;
    FM_TRY(fm_sampling_check(o));
    FM_TRY(append(s, ids, n_ids));
    if (s->n == 0) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                           "there is nothing to continue: the prompt has no tokens");
        return fm_error_hint("a model with a begin token starts from that token alone");
    }
    s->n_prompt = s->n;
    run r = {.s = s, .o = o, .fn = fn, .user = user};
    fm_status st = open_tokenizer(&r);
    st = st == FM_OK && o->grammar ? begin_grammar(&r, o->grammar) : st;
    bool stop = o->max_new_tokens == 0;
    if (!stop && s->n >= s->max_context) {
        stop = true;
        *finish = FM_FINISH_CONTEXT;
    }
    for (int64_t i = 0; st == FM_OK && !stop; i++) {
        st = one_token(&r, i, &stop, finish);
    }
    fm_token_decoder_free(r.decoder);
    fm_matcher_free(r.matcher);
    fm_str_free(&r.text);
    return st;
}
