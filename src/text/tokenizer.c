/* The tokenizer object: building it from tokens and merges, and what it answers about itself. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"

/* Largest id: far above any real vocabulary, small enough that a bad file cannot ask for much memory. */
#define MAX_ID ((int64_t)1 << 24)

fm_status fm_tok_new(fm_tokenizer **out) {
    fm_tokenizer *t = fm_calloc(1, sizeof(*t));
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a tokenizer");
    }
    for (int b = 0; b < 256; b++) {
        t->byte_id[b] = -1;
    }
    t->bos = t->eos = t->pad = t->unk = -1;
    t->byte_level = t->stream = true;
    for (int i = 0; i < FM_TOK_SLOTS; i++) {
        atomic_init(&t->slots[i], NULL);
    }
    *out = t;
    return FM_OK;
}

void fm_tokenizer_free(fm_tokenizer *t) {
    if (!t) {
        return;
    }
    for (int i = 0; i < FM_TOK_SLOTS; i++) {
        fm_bpe_worker_free(atomic_load(&t->slots[i]));
    }
    fm_str_free(&t->blob);
    fm_free(t->entry);
    fm_strtab_free(&t->by_bytes);
    fm_strtab_free(&t->by_added);
    fm_free(t->merges);
    fm_pairmap_free(&t->pairs);
    fm_free(t->byte_pairs);
    fm_free(t->unk_token);
    fm_free(t->added);
    fm_added_set_free(&t->raw_set);
    fm_added_set_free(&t->norm_set);
    fm_free(t->chat_template);
    fm_norm_free(&t->norm);
    fm_pre_free(&t->pre);
    fm_dec_free(&t->dec);
    fm_spm_free(t->spm);
    fm_free(t->continuing);
    fm_free(t->ending);
    fm_pairmap_free(&t->chars);
    fm_trie_free(&t->trie);
    fm_free(t->score);
    fm_free(t->single.item);
    fm_free(t->pair.item);
    fm_str_free(&t->source);
    fm_json_free(t->config);
    fm_free(t->tool_template);
    fm_free(t);
}

fm_status fm_tok_put(fm_tokenizer *t, int64_t id, const char *bytes, size_t n, unsigned flags) {
    if (id < 0 || id >= MAX_ID) {
        FM_FAIL(FM_ERR_FORMAT, "token id %lld is outside 0..%lld", (long long)id, (long long)MAX_ID - 1);
    }
    if (n > (1u << 24)) {
        FM_FAIL(FM_ERR_FORMAT, "token %lld has %zu bytes, more than 16 MiB", (long long)id, n);
    }
    size_t i = (size_t)id;
    if (i >= t->n_ids) {
        void *p = t->entry;
        FM_TRY(fm_grow(&p, &t->cap_ids, i + 1, sizeof(*t->entry)));
        t->entry = p;
        memset(t->entry + t->n_ids, 0, (i + 1 - t->n_ids) * sizeof(*t->entry));
        t->n_ids = i + 1;
    }
    size_t off = t->blob.len;
    fm_str_append(&t->blob, bytes, n);
    FM_TRY(fm_str_check(&t->blob));
    fm_tok_entry *e = &t->entry[i];
    *e = (fm_tok_entry){off, (uint32_t)n, (uint8_t)(e->flags | flags)};
    return FM_OK;
}

fm_status fm_tok_put_added(fm_tokenizer *t, const char *content, size_t n, fm_added_token a) {
    if ((size_t)a.id < t->n_ids && (t->entry[a.id].flags & FM_TOK_ADDED)) {
        FM_FAIL(FM_ERR_FORMAT, "added token \"%.*s\": id %d is already taken by another added token",
                (int)FM_MIN(n, (size_t)80), content, a.id);
    }
    FM_TRY(fm_tok_put(t, a.id, content, n, FM_TOK_ADDED | (a.special ? (unsigned)FM_TOK_SPECIAL : 0)));
    void *p = t->added;
    FM_TRY(fm_grow(&p, &t->cap_added, t->n_added + 1, sizeof(*t->added)));
    t->added = p;
    t->added[t->n_added++] = a;
    return FM_OK;
}

fm_status fm_tok_put_merge(fm_tokenizer *t, uint32_t left, uint32_t right, uint32_t id) {
    void *p = t->merges;
    FM_TRY(fm_grow(&p, &t->cap_merges, t->n_merges + 1, sizeof(*t->merges)));
    t->merges = p;
    t->merges[t->n_merges++] = (fm_merge){left, right, id};
    return FM_OK;
}

/* Half of all look-ups are for two bytes. */
static fm_status build_byte_pairs(fm_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        if (t->byte_id[b] < 0) {
            return FM_OK;
        }
    }
    t->byte_pairs = fm_malloc(65536 * sizeof(*t->byte_pairs));
    if (!t->byte_pairs) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the pairs of bytes");
    }
    for (int k = 0; k < 65536; k++) {
        const fm_pairmap_slot *s =
            fm_pairmap_get(&t->pairs, (uint32_t)t->byte_id[k >> 8], (uint32_t)t->byte_id[k & 255]);
        t->byte_pairs[k] = s ? (uint64_t)s->x << 32 | s->y : UINT64_MAX;
    }
    return FM_OK;
}

/* Some models list characters as added tokens that are also the names of bytes. */
static fm_status name_bytes(fm_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        fm_str name = {0};
        char byte = (char)b;
        uint32_t id;
        fm_bytes_to_mapped(&name, &byte, 1);
        if (t->byte_id[b] < 0 && name.data && fm_strtab_get(&t->by_added, name.data, name.len, &id) &&
            (t->entry[id].flags & FM_TOK_VOCAB)) {
            t->byte_id[b] = (int32_t)id;
        }
        fm_status s = fm_str_check(&name);
        fm_str_free(&name);
        FM_TRY(s);
    }
    return FM_OK;
}

/* SentencePiece ranks merges by the score of what they make; the best come first. */
static bool same_rank(const fm_tokenizer *t, uint32_t a, uint32_t b) {
    return a < t->n_rank_score && b < t->n_rank_score && t->rank_score[a] == t->rank_score[b];
}

static fm_status put_pairs(fm_tokenizer *t) {
    FM_TRY(fm_pairmap_reserve(&t->pairs, t->n_merges));
    uint32_t rank = 0;
    for (size_t r = 0; r < t->n_merges; r++) {
        const fm_merge *m = &t->merges[r];
        if (r == 0 || !same_rank(t, m->id, t->merges[r - 1].id)) {
            rank = (uint32_t)r;
        }
        FM_TRY(fm_pairmap_put(&t->pairs, m->left, m->right, rank, m->id));
    }
    return FM_OK;
}

fm_status fm_tok_finish(fm_tokenizer *t) {
    for (size_t k = 0; k < t->n_ids; k++) {
        /* Of equal texts in a list (Unigram) the last one counts. */
        size_t i = t->score ? t->n_ids - 1 - k : k;
        const fm_tok_entry *e = &t->entry[i];
        const char *bytes = t->blob.data + e->off;
        if (e->flags & FM_TOK_ADDED) {
            FM_TRY(fm_strtab_put(&t->by_added, bytes, e->len, (uint32_t)i, NULL));
        }
        if (!t->byte_level) {
            if (e->flags & FM_TOK_VOCAB) {
                FM_TRY(fm_strtab_put(&t->by_bytes, bytes, e->len, (uint32_t)i, NULL));
            }
        } else if (!(e->flags & FM_TOK_ADDED) && (e->flags & FM_TOK_VOCAB) && !(e->flags & FM_TOK_LITERAL)) {
            FM_TRY(fm_strtab_put(&t->by_bytes, bytes, e->len, (uint32_t)i, NULL));
            if (e->len == 1 && t->byte_id[(uint8_t)bytes[0]] < 0) {
                t->byte_id[(uint8_t)bytes[0]] = (int32_t)i;
            }
        }
    }
    FM_TRY(put_pairs(t));
    if (t->byte_level) {
        FM_TRY(name_bytes(t));
        FM_TRY(build_byte_pairs(t));
    }
    FM_TRY(fm_added_set_build(&t->raw_set, t, false));
    return fm_added_set_build(&t->norm_set, t, true);
}

int32_t fm_tokenizer_vocab_size(const fm_tokenizer *t) {
    return (int32_t)t->n_ids;
}

const char *fm_tokenizer_token(const fm_tokenizer *t, int32_t id, size_t *n) {
    if (id < 0 || (size_t)id >= t->n_ids || !t->entry[id].flags) {
        *n = 0;
        return NULL;
    }
    *n = t->entry[id].len;
    return *n ? t->blob.data + t->entry[id].off : "";
}

int32_t fm_tokenizer_find(const fm_tokenizer *t, const char *bytes, size_t n) {
    uint32_t id;
    if (fm_strtab_get(&t->by_added, bytes, n, &id) || fm_strtab_get(&t->by_bytes, bytes, n, &id)) {
        return (int32_t)id;
    }
    return -1;
}

bool fm_tokenizer_is_special(const fm_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_ids && (t->entry[id].flags & FM_TOK_SPECIAL);
}

int32_t fm_tokenizer_bos(const fm_tokenizer *t) {
    return t->bos;
}

int32_t fm_tokenizer_eos(const fm_tokenizer *t) {
    return t->eos;
}

int32_t fm_tokenizer_pad(const fm_tokenizer *t) {
    return t->pad;
}

int32_t fm_tokenizer_unk(const fm_tokenizer *t) {
    return t->unk;
}

const char *fm_tokenizer_chat_template(const fm_tokenizer *t) {
    return t->chat_template;
}

const char *fm_tokenizer_tool_template(const fm_tokenizer *t) {
    return t->tool_template;
}

fm_status fm_tokenizer_set_chat_template(fm_tokenizer *t, const char *text) {
    char *copy = NULL;
    if (text && !(copy = fm_strdup(text))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the chat template");
    }
    fm_free(t->chat_template);
    t->chat_template = copy;
    t->template_changed = true;
    fm_free(t->tool_template); /* it belonged to the other one */
    t->tool_template = NULL;
    return FM_OK;
}

const char *fm_tokenizer_pattern(const fm_tokenizer *t) {
    return t->byte_level && t->stream ? fm_split_name(t->split) : "other";
}
