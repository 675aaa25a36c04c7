/* BPE training: merges by falling pair count.
 *
 * The words (different pre-tokens with their counts) are arrays of symbols. Each pair has a count and the
 * list of words it was seen in; a heap gives the most frequent pair, ties to the smallest ids. A merge
 * visits only the words of its list and changes only the counts next to it. Counts in the heap may be out
 * of date: an entry is checked when it comes up and put back with the true count.
 *
 * The result is that of the Hugging Face BpeTrainer, in two details too: a merge whose text is already a
 * token reuses its id (so there may be more merges than new tokens), and a pair that gets new occurrences
 * that way comes up once more for these words alone. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "text/bpe.h"

#define NONE UINT32_MAX

typedef struct word {
    uint64_t count;
    size_t off; /* into symbols */
    uint32_t len;
} word;

/* Words in which a pair occurs, in rising order. */
typedef struct places {
    uint32_t *word;
    size_t n, cap; /* cap 0: part of the array of first places */
} places;

typedef struct pair_slot {
    uint64_t key; /* left << 32 | right; UINT64_MAX = free */
    int64_t count;
    uint32_t list; /* list that grows in the current merge, or NONE */
} pair_slot;

typedef struct candidate {
    uint64_t count, key;
    uint32_t list;
} candidate;

typedef struct trainer {
    fm_strtab names; /* token text in mapped form -> id */
    size_t *name_off;
    uint32_t *name_len;
    size_t n_tokens, cap_off, cap_len;
    int32_t byte_id[256];

    word *words;
    uint32_t *symbols;
    size_t n_words, n_symbols;

    pair_slot *pair;
    size_t pair_mask, n_pairs;
    places *lists;
    size_t n_lists, cap_lists;
    uint32_t *first_places;
    candidate *heap;
    size_t n_heap, cap_heap;
    uint64_t *touched; /* keys of pairs whose list grew in this merge */
    size_t n_touched, cap_touched;

    fm_merge *merges;
    size_t n_merges, cap_merges;
    fm_str scratch;
} trainer;

static void trainer_free(trainer *t) {
    fm_strtab_free(&t->names);
    fm_free(t->name_off);
    fm_free(t->name_len);
    fm_free(t->words);
    fm_free(t->symbols);
    fm_free(t->pair);
    for (size_t i = 0; i < t->n_lists; i++) {
        if (t->lists[i].cap) {
            fm_free(t->lists[i].word);
        }
    }
    fm_free(t->lists);
    fm_free(t->first_places);
    fm_free(t->heap);
    fm_free(t->touched);
    fm_free(t->merges);
    fm_str_free(&t->scratch);
}

/* ---- tokens ---- */

static const char *name_of(const trainer *t, uint32_t id) {
    return t->names.blob.data + t->name_off[id];
}

/* The id of a token text, a new one when it is not there. */
static fm_status token_id(trainer *t, const char *name, size_t n, uint32_t *id) {
    if (fm_strtab_get(&t->names, name, n, id)) {
        return FM_OK;
    }
    void *p = t->name_off;
    FM_TRY(fm_grow(&p, &t->cap_off, t->n_tokens + 1, sizeof(*t->name_off)));
    t->name_off = p;
    p = t->name_len;
    FM_TRY(fm_grow(&p, &t->cap_len, t->n_tokens + 1, sizeof(*t->name_len)));
    t->name_len = p;
    t->name_off[t->n_tokens] = t->names.blob.len;
    t->name_len[t->n_tokens] = (uint32_t)n;
    *id = (uint32_t)t->n_tokens;
    FM_TRY(fm_strtab_put(&t->names, name, n, *id, NULL));
    t->n_tokens++;
    return FM_OK;
}

static fm_status first_tokens(trainer *t, const char *const *special, int n_special) {
    uint32_t id;
    for (int i = 0; i < n_special; i++) {
        FM_TRY(token_id(t, special[i], strlen(special[i]), &id));
    }
    uint8_t order[256];
    fm_byte_order(order);
    for (int i = 0; i < 256; i++) {
        fm_str_clear(&t->scratch);
        fm_bytes_to_mapped(&t->scratch, (const char *)&order[i], 1);
        FM_TRY(fm_str_check(&t->scratch));
        FM_TRY(token_id(t, t->scratch.data, t->scratch.len, &id));
        t->byte_id[order[i]] = (int32_t)id;
    }
    return FM_OK;
}

/* ---- words ---- */

/* Takes the words over from the counter; their bytes become symbols. */
static fm_status load_words(trainer *t, const fm_word_counter *c) {
    for (int s = 0; s < FM_WORD_SHARDS; s++) {
        t->n_words += fm_word_counter_shard(c, s)->n;
        t->n_symbols += fm_word_counter_shard(c, s)->blob.len;
    }
    if (t->n_words >= NONE) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%zu different pre-tokens are too many", t->n_words);
    }
    t->words = fm_malloc(t->n_words * sizeof(*t->words));
    t->symbols = fm_malloc(t->n_symbols * sizeof(*t->symbols));
    if (!t->words || !t->symbols) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu pre-tokens of %zu bytes", t->n_words, t->n_symbols);
    }
    size_t w = 0, off = 0;
    for (int s = 0; s < FM_WORD_SHARDS; s++) {
        const fm_word_table *table = fm_word_counter_shard(c, s);
        for (size_t i = 0; table->n && i <= table->mask; i++) {
            const fm_word *from = &table->slot[i];
            if (!from->hash) {
                continue;
            }
            const uint8_t *bytes = (const uint8_t *)table->blob.data + from->off;
            t->words[w++] = (word){from->count, off, from->len};
            for (uint32_t k = 0; k < from->len; k++) {
                t->symbols[off++] = (uint32_t)t->byte_id[bytes[k]];
            }
        }
    }
    return FM_OK;
}

/* ---- heap ---- */

static bool comes_before(const candidate *a, const candidate *b) {
    if (a->count != b->count) {
        return a->count > b->count;
    }
    return a->key != b->key ? a->key < b->key : a->list < b->list;
}

static void sift_down(trainer *t, size_t i) {
    candidate v = t->heap[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= t->n_heap) {
            break;
        }
        c += c + 1 < t->n_heap && comes_before(&t->heap[c + 1], &t->heap[c]);
        if (!comes_before(&t->heap[c], &v)) {
            break;
        }
        t->heap[i] = t->heap[c];
        i = c;
    }
    t->heap[i] = v;
}

static fm_status heap_push(trainer *t, candidate v) {
    void *p = t->heap;
    FM_TRY(fm_grow(&p, &t->cap_heap, t->n_heap + 1, sizeof(*t->heap)));
    t->heap = p;
    size_t i = t->n_heap++;
    while (i > 0 && comes_before(&v, &t->heap[(i - 1) / 2])) {
        t->heap[i] = t->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    t->heap[i] = v;
    return FM_OK;
}

/* ---- pairs ---- */

static size_t pair_index(const trainer *t, uint64_t key) {
    size_t i = (size_t)fm_pair_hash(key) & t->pair_mask;
    while (t->pair[i].key != key && t->pair[i].key != UINT64_MAX) {
        i = (i + 1) & t->pair_mask;
    }
    return i;
}

static fm_status pairs_grow(trainer *t) {
    size_t cap = t->pair ? t->pair_mask + 1 : 0, want = cap ? 2 * cap : 1 << 16;
    pair_slot *old = t->pair, *slot = fm_malloc(want * sizeof(*slot));
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu pairs", want);
    }
    memset(slot, 0xFF, want * sizeof(*slot));
    t->pair = slot;
    t->pair_mask = want - 1;
    for (size_t i = 0; i < cap; i++) {
        if (old[i].key != UINT64_MAX) {
            t->pair[pair_index(t, old[i].key)] = old[i];
        }
    }
    fm_free(old);
    return FM_OK;
}

static fm_status new_list(trainer *t, uint32_t *list) {
    void *p = t->lists;
    FM_TRY(fm_grow(&p, &t->cap_lists, t->n_lists + 1, sizeof(*t->lists)));
    t->lists = p;
    t->lists[t->n_lists] = (places){0};
    *list = (uint32_t)t->n_lists++;
    return FM_OK;
}

/* Adds `change` occurrences of a pair; a gain in word w puts w on the pair's list. */
static fm_status change_pair(trainer *t, uint32_t a, uint32_t b, int64_t change, uint32_t w) {
    if (!t->pair || t->n_pairs + 1 > (t->pair_mask + 1) / 2) {
        FM_TRY(pairs_grow(t));
    }
    uint64_t key = (uint64_t)a << 32 | b;
    pair_slot *s = &t->pair[pair_index(t, key)];
    if (s->key == UINT64_MAX) {
        *s = (pair_slot){key, 0, NONE};
        t->n_pairs++;
    }
    s->count += change;
    if (change <= 0) {
        return FM_OK;
    }
    if (s->list == NONE) {
        FM_TRY(new_list(t, &s->list));
        void *p = t->touched;
        FM_TRY(fm_grow(&p, &t->cap_touched, t->n_touched + 1, sizeof(*t->touched)));
        t->touched = p;
        t->touched[t->n_touched++] = key;
    }
    places *l = &t->lists[s->list];
    if (l->n && l->word[l->n - 1] == w) {
        return FM_OK;
    }
    if (l->n == l->cap) {
        void *p = l->word;
        FM_TRY(fm_grow(&p, &l->cap, l->n + 1, sizeof(*l->word)));
        l->word = p;
    }
    l->word[l->n++] = w;
    return FM_OK;
}

/* ---- first counts: pairs of bytes, counted by threads over ranges of words ---- */

typedef struct range_counts {
    int64_t count[65536];    /* occurrences */
    uint32_t n_words[65536]; /* words with the pair, then the place of the next one */
} range_counts;

typedef struct first_job {
    trainer *t;
    range_counts **range; /* [n_parts] */
    uint8_t *to_byte;     /* symbol -> byte */
    const size_t *start;  /* NULL in the counting pass; else [65536] first place of a pair */
} first_job;

/* Calls for each pair of each word; a pair that comes again in a word is a place only once. */
static fm_status first_range(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    first_job *j = arg;
    trainer *t = j->t;
    range_counts *r = j->range[part];
    int64_t begin, end;
    fm_split((int64_t)t->n_words, part, n_parts, 1, &begin, &end);
    uint32_t *last = fm_malloc(65536 * sizeof(*last));
    if (!last) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to count pairs");
    }
    memset(last, 0xFF, 65536 * sizeof(*last));
    for (int64_t w = begin; w < end; w++) {
        const word *wd = &t->words[w];
        const uint32_t *s = t->symbols + wd->off;
        for (uint32_t i = 0; i + 1 < wd->len; i++) {
            uint32_t k = (uint32_t)j->to_byte[s[i]] << 8 | j->to_byte[s[i + 1]];
            bool again = last[k] == (uint32_t)w;
            last[k] = (uint32_t)w;
            if (!j->start) {
                r->count[k] += (int64_t)wd->count;
                r->n_words[k] += !again;
            } else if (!again) {
                t->first_places[j->start[k] + r->n_words[k]++] = (uint32_t)w;
            }
        }
    }
    fm_free(last);
    return FM_OK;
}

static fm_status first_pairs(trainer *t, fm_pool *pool, first_job *j, int n_parts, size_t *start) {
    FM_TRY(fm_pool_run(pool, n_parts, first_range, j));
    size_t total = 0;
    for (size_t k = 0; k < 65536; k++) {
        start[k] = total;
        size_t in_pair = 0;
        for (int p = 0; p < n_parts; p++) {
            size_t n = j->range[p]->n_words[k];
            j->range[p]->n_words[k] = (uint32_t)in_pair;
            in_pair += n;
        }
        total += in_pair;
    }
    t->first_places = fm_malloc(total * sizeof(*t->first_places));
    if (!t->first_places) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu places of pairs", total);
    }
    j->start = start;
    FM_TRY(fm_pool_run(pool, n_parts, first_range, j));
    for (size_t k = 0; k < 65536; k++) {
        size_t n = (k + 1 < 65536 ? start[k + 1] : total) - start[k];
        if (!n) {
            continue;
        }
        int64_t count = 0;
        for (int p = 0; p < n_parts; p++) {
            count += j->range[p]->count[k];
        }
        uint32_t a = (uint32_t)t->byte_id[k >> 8], b = (uint32_t)t->byte_id[k & 255], list;
        FM_TRY(change_pair(t, a, b, 0, 0));
        FM_TRY(new_list(t, &list));
        uint64_t key = (uint64_t)a << 32 | b;
        t->pair[pair_index(t, key)].count = count;
        t->lists[list] = (places){t->first_places + start[k], n, 0};
        FM_TRY(heap_push(t, (candidate){(uint64_t)count, key, list}));
    }
    return FM_OK;
}

static fm_status count_first_pairs(trainer *t, fm_pool *pool) {
    enum { MAX_PARTS = 16 };
    range_counts *range[MAX_PARTS] = {0};
    int n_parts = FM_MIN(fm_pool_threads(pool), (int)MAX_PARTS);
    first_job j = {.t = t, .range = range};
    size_t *start = fm_malloc(65536 * sizeof(*start));
    j.to_byte = fm_calloc(t->n_tokens, 1);
    fm_status s = FM_OK;
    bool ok = start && j.to_byte;
    for (int p = 0; p < n_parts; p++) {
        ok &= (range[p] = fm_calloc(1, sizeof(range_counts))) != NULL;
    }
    if (!ok) {
        FM_FAIL_GOTO(s, done, FM_ERR_NO_MEMORY, "no memory to count pairs");
    }
    for (int b = 0; b < 256; b++) {
        j.to_byte[t->byte_id[b]] = (uint8_t)b;
    }
    s = first_pairs(t, pool, &j, n_parts, start);
done:
    for (int p = 0; p < n_parts; p++) {
        fm_free(range[p]);
    }
    fm_free(start);
    fm_free(j.to_byte);
    return s;
}

/* ---- merging ---- */

static fm_status merge_word(trainer *t, uint32_t w, uint32_t a, uint32_t b, uint32_t id) {
    word *wd = &t->words[w];
    uint32_t *s = t->symbols + wd->off, n = wd->len, out = 0;
    int64_t c = (int64_t)wd->count;
    for (uint32_t i = 0; i < n;) {
        if (s[i] != a || i + 1 >= n || s[i + 1] != b) {
            s[out++] = s[i++];
            continue;
        }
        if (out > 0) {
            FM_TRY(change_pair(t, s[out - 1], a, -c, w));
            FM_TRY(change_pair(t, s[out - 1], id, c, w));
        }
        if (i + 2 < n) {
            FM_TRY(change_pair(t, b, s[i + 2], -c, w));
            FM_TRY(change_pair(t, id, s[i + 2], c, w));
        }
        s[out++] = id;
        i += 2;
    }
    wd->len = out;
    return FM_OK;
}

static fm_status merge_pair(trainer *t, const candidate *top) {
    uint32_t a = (uint32_t)(top->key >> 32), b = (uint32_t)top->key, id;
    fm_str_clear(&t->scratch);
    fm_str_append(&t->scratch, name_of(t, a), t->name_len[a]);
    fm_str_append(&t->scratch, name_of(t, b), t->name_len[b]);
    FM_TRY(fm_str_check(&t->scratch));
    FM_TRY(token_id(t, t->scratch.data, t->scratch.len, &id));
    void *p = t->merges;
    FM_TRY(fm_grow(&p, &t->cap_merges, t->n_merges + 1, sizeof(*t->merges)));
    t->merges = p;
    t->merges[t->n_merges++] = (fm_merge){a, b, id};

    t->n_touched = 0;
    places l = t->lists[top->list];
    for (size_t i = 0; i < l.n; i++) {
        FM_TRY(merge_word(t, l.word[i], a, b, id));
    }
    if (l.cap) {
        fm_free(l.word);
    }
    t->lists[top->list] = (places){0};
    for (size_t i = 0; i < t->n_touched; i++) {
        pair_slot *s = &t->pair[pair_index(t, t->touched[i])];
        uint32_t list = s->list;
        s->list = NONE;
        if (s->count > 0) {
            FM_TRY(heap_push(t, (candidate){(uint64_t)s->count, s->key, list}));
        } else if (t->lists[list].cap) {
            fm_free(t->lists[list].word);
            t->lists[list] = (places){0};
        }
    }
    return FM_OK;
}

static fm_status do_merges(trainer *t, size_t vocab_size, uint64_t min_frequency) {
    fm_meter meter;
    fm_meter_start(&meter, "merging", "tokens", (double)vocab_size);
    while (t->n_tokens < vocab_size && t->n_heap) {
        candidate top = t->heap[0];
        uint64_t count = (uint64_t)t->pair[pair_index(t, top.key)].count;
        if (top.count != count) {
            t->heap[0].count = count;
            sift_down(t, 0);
            continue;
        }
        if (top.count < 1 || top.count < min_frequency) {
            break;
        }
        t->heap[0] = t->heap[--t->n_heap];
        if (t->n_heap) {
            sift_down(t, 0);
        }
        FM_TRY(merge_pair(t, &top));
        if ((t->n_merges & 255) == 0) {
            fm_meter_update(&meter, (double)t->n_tokens, "");
            if (fm_cancelled()) {
                FM_FAIL(FM_ERR_CANCELLED, "tokenizer: stopped after %zu merges", t->n_merges);
            }
        }
    }
    fm_meter_end(&meter, (double)t->n_tokens, "");
    return FM_OK;
}

/* ---- options and result ---- */

typedef struct specials {
    const char **name;
    int n;
} specials;

static fm_status add_special(specials *s, const char *name) {
    if (!name) {
        return FM_OK;
    }
    size_t n = strlen(name);
    fm_str bytes = {0};
    bool one = n > 0 && fm_mapped_to_bytes(&bytes, name, n) && bytes.len == 1;
    fm_str_free(&bytes);
    if (n == 0 || n > 1024 || one || !fm_utf8_valid(name, n)) {
        FM_FAIL(FM_ERR_ARGUMENT,
                "special token \"%.80s\" is empty, not UTF-8, the name of one byte, or over 1024 bytes", name);
    }
    for (int i = 0; i < s->n; i++) {
        if (!strcmp(s->name[i], name)) {
            return FM_OK;
        }
    }
    s->name[s->n++] = name;
    return FM_OK;
}

static fm_status build(fm_tokenizer **out, trainer *tr, const specials *sp, fm_split_kind split,
                       const fm_bpe_train_options *opt) {
    fm_tokenizer *t;
    FM_TRY(fm_tok_new(&t));
    *out = t; /* the caller frees it on failure */
    t->split = split;
    for (size_t i = 0; i < tr->n_tokens; i++) {
        fm_str_clear(&tr->scratch);
        const char *name = name_of(tr, (uint32_t)i);
        bool mapped = i >= (size_t)sp->n && fm_mapped_to_bytes(&tr->scratch, name, tr->name_len[i]);
        FM_TRY(fm_str_check(&tr->scratch));
        FM_TRY(fm_tok_put(t, (int64_t)i, mapped ? tr->scratch.data : name, mapped ? tr->scratch.len : tr->name_len[i],
                          FM_TOK_VOCAB));
        if (i < (size_t)sp->n) {
            FM_TRY(fm_tok_put_added(t, name, tr->name_len[i], (fm_added_token){.id = (int32_t)i, .special = true}));
        }
    }
    for (size_t i = 0; i < tr->n_merges; i++) {
        FM_TRY(fm_tok_put_merge(t, tr->merges[i].left, tr->merges[i].right, tr->merges[i].id));
    }
    FM_TRY(fm_tok_finish(t));
    const char *name[4] = {opt->bos, opt->eos, opt->pad, opt->unk};
    int32_t *id[4] = {&t->bos, &t->eos, &t->pad, &t->unk};
    for (int i = 0; i < 4; i++) {
        *id[i] = name[i] ? fm_tokenizer_find(t, name[i], strlen(name[i])) : -1;
    }
    t->add_bos = opt->add_bos;
    t->add_eos = opt->add_eos;
    if (t->add_bos && t->bos >= 0) {
        t->prefix[t->n_prefix++] = t->bos;
    }
    if (t->add_eos && t->eos >= 0) {
        t->suffix[t->n_suffix++] = t->eos;
    }
    return opt->chat_template ? fm_tokenizer_set_chat_template(t, opt->chat_template) : FM_OK;
}

static fm_status train(fm_tokenizer **out, fm_bpe_train_info *info, trainer *tr, const specials *sp,
                       fm_word_counter *counter[1], fm_text_next_fn next, void *user, fm_pool *pool,
                       fm_split_kind split, const fm_bpe_train_options *opt) {
    size_t vocab_size = opt->vocab_size ? (size_t)opt->vocab_size : 32000;
    double start = fm_now();
    FM_TRY(first_tokens(tr, sp->name, sp->n));
    FM_TRY(fm_word_counter_new(counter, split, opt->max_memory ? opt->max_memory : (int64_t)2 << 30, pool));
    FM_TRY(fm_word_counter_read(*counter, next, user, info));
    if (info->prune_threshold) {
        fm_warn("tokenizer: %lld rare pre-tokens dropped for lack of memory; counts may be too low by up to %lld",
                (long long)info->n_pruned, (long long)info->prune_threshold);
    }
    FM_TRY(load_words(tr, *counter));
    fm_word_counter_free(*counter);
    *counter = NULL;
    info->count_s = fm_now() - start;
    FM_TRY(count_first_pairs(tr, pool));
    int64_t min = opt->min_frequency ? opt->min_frequency : 2;
    FM_TRY(do_merges(tr, vocab_size, (uint64_t)FM_MAX(min, (int64_t)0)));
    info->merge_s = fm_now() - start - info->count_s;
    info->n_merges = (int64_t)tr->n_merges;
    return build(out, tr, sp, split, opt);
}

fm_status fm_tokenizer_train(fm_tokenizer **out, fm_bpe_train_info *info, fm_text_next_fn next, void *user,
                             const fm_bpe_train_options *opt) {
    static const fm_bpe_train_options defaults = {.size = sizeof(fm_bpe_train_options)};
    fm_bpe_train_info own;
    info = info ? info : &own;
    *info = (fm_bpe_train_info){0};
    *out = NULL;
    opt = opt ? opt : &defaults;
    fm_split_kind split = fm_split_find(opt->pattern ? opt->pattern : "llama3");
    if (split == FM_SPLIT_COUNT) {
        FM_FAIL(FM_ERR_ARGUMENT, "no splitting pattern is called \"%s\" (gpt2, llama3, qwen2, deepseek_v3, none)",
                opt->pattern);
    }
    if (opt->n_special < 0 || opt->n_special > 65536 || (opt->max_memory && opt->max_memory < (1 << 20))) {
        FM_FAIL(FM_ERR_ARGUMENT, "n_special %d is outside 0..65536 or max_memory %lld is below 1 MiB", opt->n_special,
                (long long)opt->max_memory);
    }
    specials sp = {fm_calloc((size_t)opt->n_special + 4, sizeof(*sp.name)), 0};
    if (!sp.name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for special tokens");
    }
    trainer tr = {0};
    fm_word_counter *counter = NULL;
    fm_pool *pool = NULL;
    fm_status s = FM_OK;
    for (int i = 0; i < opt->n_special; i++) {
        FM_TRY_GOTO(s, done, add_special(&sp, opt->special[i]));
    }
    const char *more[4] = {opt->bos, opt->eos, opt->pad, opt->unk};
    for (int i = 0; i < 4; i++) {
        FM_TRY_GOTO(s, done, add_special(&sp, more[i]));
    }
    if (opt->vocab_size && (opt->vocab_size < 256 + sp.n || opt->vocab_size > (1 << 24))) {
        FM_FAIL_GOTO(s, done, FM_ERR_ARGUMENT, "vocab_size %lld is outside %d (256 bytes and %d special tokens) to %d",
                     (long long)opt->vocab_size, 256 + sp.n, sp.n, 1 << 24);
    }
    FM_TRY_GOTO(s, done, fm_pool_new(&pool, opt->n_threads));
    s = train(out, info, &tr, &sp, &counter, next, user, pool, split, opt);
done:
    if (s != FM_OK) {
        fm_tokenizer_free(*out);
        *out = NULL;
    }
    fm_word_counter_free(counter);
    trainer_free(&tr);
    fm_pool_free(pool);
    fm_free(sp.name);
    return s;
}
