/* Text to ids: added tokens, normalizer, pieces, model, template. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"

void fm_tokens_free(fm_tokens *t) {
    fm_free(t->ids);
    *t = (fm_tokens){0};
}

void fm_token_batch_free(fm_token_batch *b) {
    fm_free(b->ids);
    fm_free(b->offset);
    *b = (fm_token_batch){0};
}

/* Text without added tokens: pieces, then the model. */
static fm_status encode_plain(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n, bool at_zero) {
    const fm_tokenizer *t = w->t;
    if (n == 0) {
        return FM_OK;
    }
    if (t->stream) {
        if (t->add_prefix_space && p[0] != ' ') {
            fm_str_clear(&w->text);
            fm_str_putc(&w->text, ' ');
            fm_str_append(&w->text, (const char *)p, n);
            FM_TRY(fm_str_check(&w->text));
            return fm_bpe_plain(w, out, (const uint8_t *)w->text.data, w->text.len);
        }
        return fm_bpe_plain(w, out, p, n);
    }
    FM_TRY(fm_pre_run(&t->pre, &w->pre, p, n, at_zero));
    for (size_t i = 0; i < w->pre.now.n; i++) {
        const fm_piece *a = &w->pre.now.item[i];
        FM_TRY(fm_bpe_piece(w, out, a->p, a->n, a->p + a->n));
    }
    return FM_OK;
}

/* Text between the tokens that are matched before the normalizer. */
static fm_status encode_normalized(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n, bool special,
                                   bool at_zero) {
    const fm_tokenizer *t = w->t;
    if (t->spm) {
        FM_TRY(fm_spm_normalize(w, &p, &n));
    } else if (t->norm.n) {
        FM_TRY(fm_norm_run(&t->norm, &w->scratch, &p, &n, &at_zero));
    }
    fm_added_match m;
    size_t pos = 0, from = 0;
    while (fm_added_find(&m, &t->norm_set, t, p, n, from, pos, special)) {
        if (m.start > pos) {
            FM_TRY(encode_plain(w, out, p + pos, m.start - pos, at_zero && pos == 0));
        }
        FM_TRY(fm_tokens_push(out, m.id));
        pos = m.stop;
        from = m.resume;
    }
    return encode_plain(w, out, p + pos, n - pos, at_zero && pos == 0);
}

/* The ids of one text, without what a post-processor adds. */
static fm_status encode_text(fm_bpe_worker *w, fm_tokens *out, const char *text, size_t n, bool special) {
    const fm_tokenizer *t = w->t;
    const uint8_t *p = (const uint8_t *)text;
    fm_added_match m;
    size_t pos = 0, from = 0;
    while (fm_added_find(&m, &t->raw_set, t, p, n, from, pos, special)) {
        if (m.start > pos) {
            FM_TRY(encode_normalized(w, out, p + pos, m.start - pos, special, pos == 0));
        }
        FM_TRY(fm_tokens_push(out, m.id));
        pos = m.stop;
        from = m.resume;
    }
    return n > pos ? encode_normalized(w, out, p + pos, n - pos, special, pos == 0) : FM_OK;
}

static fm_status encode_with(fm_bpe_worker *w, fm_tokens *out, const char *text, size_t n,
                             const fm_encode_options *opt) {
    const fm_tokenizer *t = w->t;
    if (opt->add_special && t->has_template) {
        for (size_t i = 0; i < t->single.n; i++) {
            int32_t id = t->single.item[i].id;
            FM_TRY(id < 0 ? encode_text(w, out, text, n, opt->allow_special) : fm_tokens_push(out, id));
        }
        return FM_OK;
    }
    for (int i = 0; opt->add_special && i < t->n_prefix; i++) {
        FM_TRY(fm_tokens_push(out, t->prefix[i]));
    }
    FM_TRY(encode_text(w, out, text, n, opt->allow_special));
    for (int i = 0; opt->add_special && i < t->n_suffix; i++) {
        FM_TRY(fm_tokens_push(out, t->suffix[i]));
    }
    return FM_OK;
}

static fm_status fill_types(fm_tokens *types, size_t n, int32_t type) {
    FM_TRY(fm_tokens_reserve(types, n));
    for (size_t i = 0; i < n; i++) {
        types->ids[types->n++] = type;
    }
    return FM_OK;
}

/* Without a template the second text follows the first. */
static fm_status encode_pair(fm_bpe_worker *w, fm_tokens *out, fm_tokens *types, fm_text a, fm_text b,
                             const fm_encode_options *opt) {
    static const fm_template_item bare[] = {{-1, 0}, {-2, 1}};
    const fm_tokenizer *t = w->t;
    bool templated = opt->add_special && t->has_template && t->pair.n;
    const fm_template_item *item = templated ? t->pair.item : bare;
    size_t n = templated ? t->pair.n : FM_ARRAY_LEN(bare);
    for (size_t i = 0; i < n; i++) {
        size_t before = out->n;
        fm_text x = item[i].id == -1 ? a : b;
        FM_TRY(item[i].id < 0 ? encode_text(w, out, x.ptr, x.len, opt->allow_special)
                              : fm_tokens_push(out, item[i].id));
        if (types) {
            FM_TRY(fill_types(types, out->n - before, item[i].type));
        }
    }
    return FM_OK;
}

static const fm_encode_options no_options = {.size = sizeof(fm_encode_options)};

fm_status fm_tokenizer_encode(fm_tokens *out, const fm_tokenizer *t, const char *text, size_t n,
                              const fm_encode_options *opt) {
    fm_bpe_worker *w;
    FM_TRY(fm_bpe_worker_acquire(&w, t));
    size_t before = out->n;
    fm_status s = encode_with(w, out, text, n, opt ? opt : &no_options);
    fm_bpe_worker_release(w);
    if (s != FM_OK) {
        out->n = before;
    }
    return s;
}

fm_status fm_tokenizer_encode_pair(fm_tokens *out, fm_tokens *types, const fm_tokenizer *t, fm_text a, fm_text b,
                                   const fm_encode_options *opt) {
    fm_bpe_worker *w;
    FM_TRY(fm_bpe_worker_acquire(&w, t));
    size_t before = out->n, types_before = types ? types->n : 0;
    fm_status s = encode_pair(w, out, types, a, b, opt ? opt : &no_options);
    fm_bpe_worker_release(w);
    if (s != FM_OK) {
        out->n = before;
        if (types) {
            types->n = types_before;
        }
    }
    return s;
}

/* Texts are cut into parts of about equal bytes, each with its own output, so that neither the order
 * nor the ids depend on threads. */
typedef struct batch {
    const fm_tokenizer *t;
    const fm_text *texts;
    const fm_encode_options *opt;
    size_t *begin;  /* [n_parts + 1] texts of a part */
    fm_tokens *out; /* [n_parts] */
    size_t *counts; /* [n_texts + 1] ids of a text, at index + 1 */
} batch;

static fm_status encode_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    batch *b = arg;
    fm_bpe_worker *w;
    FM_TRY(fm_bpe_worker_acquire(&w, b->t));
    fm_tokens *out = &b->out[part];
    fm_status s = FM_OK;
    for (size_t i = b->begin[part]; s == FM_OK && i < b->begin[part + 1]; i++) {
        size_t before = out->n;
        s = encode_with(w, out, b->texts[i].ptr, b->texts[i].len, b->opt);
        b->counts[i + 1] = out->n - before;
    }
    fm_bpe_worker_release(w);
    return s;
}

static fm_status run_batch(fm_token_batch *out, batch *b, size_t n_texts, size_t n_parts, size_t n_bytes,
                           fm_pool *pool) {
    size_t text = 0, bytes = 0;
    for (size_t part = 0; part < n_parts; part++) {
        b->begin[part] = text;
        size_t target = n_bytes / n_parts * (part + 1);
        while (text < n_texts && (bytes < target || part + 1 == n_parts)) {
            bytes += b->texts[text++].len;
        }
    }
    b->begin[n_parts] = n_texts;
    FM_TRY(fm_pool_run_dynamic(pool, (int64_t)n_parts, encode_part, b));
    size_t total = 0;
    for (size_t i = 0; i <= n_texts; i++) {
        total += b->counts[i];
        b->counts[i] = total;
    }
    int32_t *ids = fm_malloc(FM_MAX(total, (size_t)1) * sizeof(*ids));
    if (!ids) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu token ids", total);
    }
    size_t at = 0;
    for (size_t part = 0; part < n_parts; part++) {
        if (b->out[part].n) {
            memcpy(ids + at, b->out[part].ids, b->out[part].n * sizeof(*ids));
        }
        at += b->out[part].n;
        fm_tokens_free(&b->out[part]);
    }
    *out = (fm_token_batch){ids, b->counts, n_texts};
    b->counts = NULL;
    return FM_OK;
}

fm_status fm_tokenizer_encode_batch(fm_token_batch *out, const fm_tokenizer *t, const fm_text *texts, size_t n_texts,
                                    const fm_encode_options *opt) {
    *out = (fm_token_batch){0};
    opt = opt ? opt : &no_options;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n_texts; i++) {
        n_bytes += texts[i].len;
    }
    fm_pool *pool = NULL;
    fm_status s = FM_OK;
    /* Starting threads costs more than a few kilobytes of text. */
    if (opt->n_threads != 1 && n_bytes > 65536 && n_texts > 1) {
        FM_TRY(fm_pool_new(&pool, opt->n_threads));
    }
    size_t n_threads = (size_t)fm_pool_threads(pool);
    size_t n_parts = n_threads == 1 ? 1 : FM_MIN(n_threads * 8, FM_MAX(n_texts, (size_t)1));
    batch b = {.t = t, .texts = texts, .opt = opt};
    b.begin = fm_calloc(n_parts + 1, sizeof(*b.begin));
    b.out = fm_calloc(n_parts, sizeof(*b.out));
    b.counts = fm_calloc(n_texts + 1, sizeof(*b.counts));
    if (!b.begin || !b.out || !b.counts) {
        FM_FAIL_GOTO(s, done, FM_ERR_NO_MEMORY, "no memory to encode %zu texts", n_texts);
    }
    s = run_batch(out, &b, n_texts, n_parts, n_bytes, pool);
done:
    for (size_t i = 0; b.out && i < n_parts; i++) {
        fm_tokens_free(&b.out[i]);
    }
    fm_free(b.begin);
    fm_free(b.out);
    fm_free(b.counts);
    fm_pool_free(pool);
    return s;
}
