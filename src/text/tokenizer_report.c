/* How well a vocabulary fits held-out text, at several sizes from one tokenizer. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"

const char *fm_text_class_name(fm_text_class c) {
    static const char *const name[FM_TEXT_CLASS_COUNT] = {"en", "zh", "other", "common"};
    return (unsigned)c < FM_TEXT_CLASS_COUNT ? name[c] : "?";
}

static bool is_han(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x3FFFF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2E80 && c <= 0x2FDF) || c == 0x3005 || c == 0x3007;
}

static bool is_latin(uint32_t c) {
    return c < 0x250 || (c >= 0x1E00 && c <= 0x1EFF) || (c >= 0x2C60 && c <= 0x2C7F) || (c >= 0xA720 && c <= 0xA7FF) ||
           (c >= 0xFF21 && c <= 0xFF5A);
}

static fm_text_class classify(const uint8_t *p, size_t n, int64_t *n_chars) {
    const uint8_t *end = p + n;
    bool latin = false, other = false, han = false;
    while (p < end) {
        uint32_t c;
        p += fm_uni_next(&c, p, end);
        ++*n_chars;
        han |= is_han(c);
        if (fm_uni_class(c) & FM_UNI_L) {
            latin |= is_latin(c);
            other |= !is_latin(c);
        }
    }
    return han ? FM_TEXT_ZH : latin ? FM_TEXT_EN : other ? FM_TEXT_OTHER : FM_TEXT_COMMON;
}

typedef struct tally {
    int64_t n_chars[FM_TEXT_CLASS_COUNT], n_tokens[FM_TEXT_CLASS_COUNT], n_bytes; /* n_bytes: byte tokens */
} tally;

typedef struct report_job {
    const fm_tokenizer *t;
    const fm_word_counter *words;
    uint32_t rank_limit;
    tally part[FM_WORD_SHARDS];
    atomic_uchar *used; /* [n_ids] */
} report_job;

static fm_status report_shard(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    report_job *j = arg;
    const fm_word_table *table = fm_word_counter_shard(j->words, (int)part);
    tally *sum = &j->part[part];
    fm_bpe_worker *w;
    FM_TRY(fm_bpe_worker_new(&w, j->t));
    w->rank_limit = j->rank_limit;
    fm_tokens ids = {0};
    fm_status s = FM_OK;
    const uint8_t *end = (const uint8_t *)table->blob.data + table->blob.len;
    for (size_t i = 0; table->n && i <= table->mask && s == FM_OK; i++) {
        const fm_word *word = &table->slot[i];
        if (!word->hash) {
            continue;
        }
        const uint8_t *p = (const uint8_t *)table->blob.data + word->off;
        int64_t n_chars = 0, count = (int64_t)word->count;
        fm_text_class c = classify(p, word->len, &n_chars);
        ids.n = 0;
        s = fm_bpe_piece(w, &ids, p, word->len, end);
        sum->n_chars[c] += n_chars * count;
        sum->n_tokens[c] += (int64_t)ids.n * count;
        for (size_t k = 0; k < ids.n; k++) {
            const fm_tok_entry *e = &j->t->entry[ids.ids[k]];
            sum->n_bytes += e->len == 1 && (uint8_t)j->t->blob.data[e->off] >= 0x80 ? count : 0;
            atomic_store_explicit(&j->used[ids.ids[k]], 1, memory_order_relaxed);
        }
    }
    fm_tokens_free(&ids);
    fm_bpe_worker_free(w);
    return s;
}

static fm_status report_size(fm_tokenizer_report_row *row, report_job *j, fm_pool *pool, int64_t size,
                             const fm_tokenizer_report_options *opt) {
    const fm_tokenizer *t = j->t;
    if (size <= 0 || size > (int64_t)t->n_ids) {
        size = (int64_t)t->n_ids;
    }
    j->rank_limit = 0;
    while (j->rank_limit < t->n_merges && t->merges[j->rank_limit].id < (uint64_t)size) {
        j->rank_limit++;
    }
    memset(j->part, 0, sizeof(j->part));
    memset((void *)j->used, 0, t->n_ids);
    FM_TRY(fm_pool_run_dynamic(pool, FM_WORD_SHARDS, report_shard, j));
    *row = (fm_tokenizer_report_row){.vocab_size = size};
    int64_t chars = 0, tokens = 0, bytes = 0;
    for (int i = 0; i < FM_WORD_SHARDS; i++) {
        bytes += j->part[i].n_bytes;
        for (int c = 0; c < FM_TEXT_CLASS_COUNT; c++) {
            row->n_chars[c] += j->part[i].n_chars[c];
            row->n_tokens[c] += j->part[i].n_tokens[c];
        }
    }
    for (int c = 0; c < FM_TEXT_CLASS_COUNT; c++) {
        chars += row->n_chars[c];
        tokens += row->n_tokens[c];
        row->chars_per_token[c] = row->n_tokens[c] ? (double)row->n_chars[c] / (double)row->n_tokens[c] : 0;
    }
    row->chars_per_token_all = tokens ? (double)chars / (double)tokens : 0;
    row->byte_fallback_rate = tokens ? (double)bytes / (double)tokens : 0;
    for (int64_t i = 0; i < size; i++) {
        row->n_unused += t->entry[i].flags && !(t->entry[i].flags & FM_TOK_ADDED) && !j->used[i];
    }
    row->embedding_params = size * opt->d_model * (opt->untied ? 2 : 1);
    return FM_OK;
}

fm_status fm_tokenizer_report(fm_tokenizer_report_row *rows, const fm_tokenizer *t, const int64_t *sizes, int n_sizes,
                              fm_text_next_fn next, void *user, const fm_tokenizer_report_options *opt) {
    static const fm_tokenizer_report_options defaults = {.size = sizeof(fm_tokenizer_report_options)};
    opt = opt ? opt : &defaults;
    if (!t->byte_level || !t->stream) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "a report by size is for byte-level BPE with a known split, not for this tokenizer");
    }
    fm_pool *pool = NULL;
    fm_word_counter *words = NULL;
    fm_bpe_train_info info = {0};
    fm_status s;
    report_job *j = fm_calloc(1, sizeof(*j));
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a tokenizer report");
    }
    j->t = t;
    j->used = fm_calloc(FM_MAX(t->n_ids, (size_t)1), sizeof(*j->used));
    if (!j->used) {
        FM_FAIL_GOTO(s, done, FM_ERR_NO_MEMORY, "no memory for a tokenizer report of %zu tokens", t->n_ids);
    }
    FM_TRY_GOTO(s, done, fm_pool_new(&pool, opt->n_threads));
    int64_t memory = opt->max_memory ? opt->max_memory : (int64_t)2 << 30;
    FM_TRY_GOTO(s, done, fm_word_counter_new(&words, t->split, memory, pool));
    FM_TRY_GOTO(s, done, fm_word_counter_read(words, next, user, &info));
    j->words = words;
    for (int i = 0; i < n_sizes; i++) {
        FM_TRY_GOTO(s, done, report_size(&rows[i], j, pool, sizes[i], opt));
    }
done:
    fm_word_counter_free(words);
    fm_pool_free(pool);
    fm_free((void *)j->used);
    fm_free(j);
    return s;
}
