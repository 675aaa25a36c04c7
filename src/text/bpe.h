/* Inside of the tokenizer: tables, builder, models. Public interface: fathom/tokenizer.h. */
#ifndef FM_TEXT_BPE_H
#define FM_TEXT_BPE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/str.h"
#include "fathom/tokenizer.h"
#include "text/pipe.h"
#include "text/split.h"
#include "text/vocab_json.h"

/* ---- Hash tables (open addressing, linear probing) ---------------------------------------------- */

/* (a, b) -> (x, y). The pair (UINT32_MAX, UINT32_MAX) marks a free slot and cannot be a key. */
typedef struct fm_pairmap_slot {
    uint64_t key; /* a << 32 | b */
    uint32_t x, y;
} fm_pairmap_slot;

typedef struct fm_pairmap {
    fm_pairmap_slot *slot;
    size_t mask, n; /* n slots used of mask + 1 */
} fm_pairmap;

void fm_pairmap_free(fm_pairmap *m);
FM_MUST_CHECK fm_status fm_pairmap_reserve(fm_pairmap *m, size_t n); /* room for n keys */
/* Adds or overwrites. */
FM_MUST_CHECK fm_status fm_pairmap_put(fm_pairmap *m, uint32_t a, uint32_t b, uint32_t x, uint32_t y);

static inline uint64_t fm_pair_hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ (key >> 32);
}

static inline const fm_pairmap_slot *fm_pairmap_get(const fm_pairmap *m, uint32_t a, uint32_t b) {
    if (!m->slot) {
        return NULL;
    }
    uint64_t key = (uint64_t)a << 32 | b;
    for (size_t i = (size_t)fm_pair_hash(key) & m->mask;; i = (i + 1) & m->mask) {
        if (m->slot[i].key == key) {
            return &m->slot[i];
        }
        if (m->slot[i].key == UINT64_MAX) {
            return NULL;
        }
    }
}

/* bytes -> uint32. Keeps its own copy of the keys. */
typedef struct fm_strtab_slot {
    uint64_t hash; /* 0 = free */
    size_t off;
    uint32_t len, value;
} fm_strtab_slot;

typedef struct fm_strtab {
    fm_strtab_slot *slot;
    size_t mask, n;
    fm_str blob;
} fm_strtab;

void fm_strtab_free(fm_strtab *t);
/* Adds, or leaves the first value in place when the key is there (*found, may be NULL). */
FM_MUST_CHECK fm_status fm_strtab_put(fm_strtab *t, const void *key, size_t n, uint32_t value, bool *found);
bool fm_strtab_get(const fm_strtab *t, const void *key, size_t n, uint32_t *value);

/* ---- Bytes as characters (the GPT-2 map) --------------------------------------------------------- */

/* Appends the mapped form of bytes. */
void fm_bytes_to_mapped(fm_str *out, const char *bytes, size_t n);
/* Appends the bytes of a mapped text; false (nothing appended) when a character is not in the map. */
bool fm_mapped_to_bytes(fm_str *out, const char *text, size_t n);
/* Bytes in the order of their characters in the map: '!' first. */
void fm_byte_order(uint8_t order[256]);

/* ---- The tokenizer -------------------------------------------------------------------------------- */

enum {
    FM_TOK_VOCAB = 1,   /* in the model's vocabulary */
    FM_TOK_ADDED = 2,   /* in added_tokens */
    FM_TOK_SPECIAL = 4, /* added and special */
    FM_TOK_LITERAL = 8, /* its text in the file is not in the byte map: stored as it is */
};

typedef struct fm_tok_entry {
    size_t off; /* into blob */
    uint32_t len;
    uint8_t flags; /* 0 = unused id */
} fm_tok_entry;

typedef struct fm_added_token {
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} fm_added_token;

/* Added tokens as a trie: (node, byte) -> node; the x of a slot is the child, token[child] the index into
 * `added` or -1. */
typedef struct fm_added_set {
    fm_pairmap edges;
    int32_t *token;
    size_t n_nodes, cap;
    bool first[256]; /* bytes that start a token */
    int only_first;  /* the only such byte, or -1 */
    int n_tokens;
} fm_added_set;

typedef struct fm_merge {
    uint32_t left, right, id;
} fm_merge;

typedef struct fm_lattice_node {
    double score; /* of the best way to here */
    size_t from;  /* where its last token begins; SIZE_MAX = none yet */
    int32_t id;
} fm_lattice_node;

typedef struct fm_bpe_worker fm_bpe_worker;
#define FM_TOK_SLOTS    64
#define FM_MAX_TEMPLATE 8

/* Appends the ids of one piece. Unknown text is handled as the model says. */
typedef fm_status (*fm_model_fn)(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);

/* An item of a post-processor's template: ids, or the place of a text. */
typedef struct fm_template_item {
    int32_t id;   /* -1: text A, -2: text B */
    int32_t type; /* token type id */
} fm_template_item;

typedef struct fm_post_template {
    fm_template_item *item;
    size_t n, cap;
} fm_post_template;

typedef struct fm_spm fm_spm;

struct fm_tokenizer {
    fm_str blob;
    fm_tok_entry *entry; /* [n_ids] */
    size_t n_ids, cap_ids;
    fm_strtab by_bytes; /* bytes -> id of vocabulary tokens */
    fm_strtab by_added; /* content -> id of added tokens */
    fm_merge *merges;   /* in order of rank */
    size_t n_merges, cap_merges;
    fm_pairmap pairs;     /* (left, right) -> (rank, id) */
    int32_t byte_id[256]; /* -1 = no such token */
    uint64_t
        *byte_pairs; /* [65536] rank << 32 | id of two bytes, UINT64_MAX = no merge; NULL unless all bytes have ids */
    bool ignore_merges, fuse_unk;
    char *unk_token; /* of the model, or NULL */

    fm_added_token *added;
    size_t n_added, cap_added;
    fm_added_set raw_set, norm_set; /* matched before / after the normalizer */

    /* Byte-level BPE: entries are bytes, pieces are merged from bytes. Other models: entries are the vocabulary's
     * texts. */
    bool byte_level;
    bool stream;           /* byte-level whose pre-tokenizer is `split` alone: pieces are not listed first */
    bool add_prefix_space; /* with stream */
    fm_split_kind split;
    fm_norm norm;
    fm_pre pre;
    fm_dec dec;
    fm_model_fn model; /* NULL: byte-level BPE */
    fm_spm *spm;       /* opened from SentencePiece: what its library does beyond tokenizer.json */

    /* BPE over characters */
    bool byte_fallback;        /* byte_id then holds the tokens "<0x..>" */
    char *continuing, *ending; /* continuing_subword_prefix (WordPiece, too), end_of_word_suffix; NULL = none */
    fm_pairmap chars;          /* (code point, 1 not first | 2 last) -> id */
    bool word_borders;         /* no merge joins U+2581 to what precedes it: words are merged one by one */

    /* Unigram, WordPiece, WordLevel */
    fm_trie trie;
    double *score; /* [n_ids] */
    double unk_score;
    int32_t continuing_node; /* of the trie, after the prefix; -1 = no token continues a word */
    size_t max_word_chars;

    fm_post_template single, pair; /* of the post-processor, when has_template */
    bool has_template;
    const float *rank_score; /* [n_rank_score] while it is built: merges into tokens of one score have one rank */
    size_t n_rank_score;
    bool template_changed; /* chat_template is no longer what config says */
    fm_str source;         /* tokenizer.json as it was read; empty when trained here */
    fm_json *config;       /* tokenizer_config.json, or NULL */

    int32_t prefix[FM_MAX_TEMPLATE], suffix[FM_MAX_TEMPLATE]; /* of add_special */
    int n_prefix, n_suffix;
    int32_t bos, eos, pad, unk;
    bool add_bos, add_eos;
    char *chat_template, *tool_template; /* NULL = none */

    _Atomic(fm_bpe_worker *) slots[FM_TOK_SLOTS];
};

/* Builder: new, put tokens and merges in any order, finish. On failure free with fm_tokenizer_free. */
FM_MUST_CHECK fm_status fm_tok_new(fm_tokenizer **out);
FM_MUST_CHECK fm_status fm_tok_put(fm_tokenizer *t, int64_t id, const char *bytes, size_t n, unsigned flags);
FM_MUST_CHECK fm_status fm_tok_put_added(fm_tokenizer *t, const char *content, size_t n, fm_added_token a);
FM_MUST_CHECK fm_status fm_tok_put_merge(fm_tokenizer *t, uint32_t left, uint32_t right, uint32_t id);
/* After the chat template. */
FM_MUST_CHECK fm_status fm_tok_set_tool_template(fm_tokenizer *t, const char *text);
FM_MUST_CHECK fm_status fm_tok_finish(fm_tokenizer *t);

/* ---- Added tokens in text ------------------------------------------------------------------------- */

typedef struct fm_added_match {
    size_t start, stop; /* with the blanks that lstrip and rstrip take */
    int32_t id;
    size_t resume; /* where the search goes on */
} fm_added_match;

FM_MUST_CHECK fm_status fm_added_set_build(fm_added_set *s, fm_tokenizer *t, bool normalized);
void fm_added_set_free(fm_added_set *s);
/* The first match at or after `from`; spaces before `floor` belong to an earlier match, and so may the beginning of
 * this one (start < floor). */
bool fm_added_find(fm_added_match *m, const fm_added_set *s, const fm_tokenizer *t, const uint8_t *text, size_t n,
                   size_t from, size_t floor, bool allow_special);

/* ---- Merging -------------------------------------------------------------------------------------- */

/* A cached piece: up to 32 bytes giving up to 7 ids, one cache line. */
typedef struct fm_piece_slot {
    uint64_t key[4];
    int32_t ids[7];
    uint8_t len, n, pad[2];
} fm_piece_slot;

enum { FM_PIECE_CACHE = 1 << 14, FM_PIECE_MAX = 32, FM_PIECE_IDS = 7 };

/* What one encoding thread needs: piece cache and scratch. */
struct fm_bpe_worker {
    const fm_tokenizer *t;
    uint32_t rank_limit;  /* merges of this rank and above do not exist */
    fm_piece_slot *cache; /* [FM_PIECE_CACHE] */
    uint32_t *node;       /* [3][cap_nodes]: id, previous, next */
    uint64_t *pair;       /* [cap_nodes] rank << 32 | merged id */
    uint64_t *heap;       /* [3 * cap_nodes] rank << 32 | position */
    size_t cap_nodes;
    fm_str text; /* with a blank in front; of spm, the normalised text */
    fm_norm_scratch scratch;
    fm_pre_work pre;
    fm_lattice_node *lattice; /* [cap_lattice], unigram */
    size_t cap_lattice;
};

FM_MUST_CHECK fm_status fm_bpe_worker_new(fm_bpe_worker **out, const fm_tokenizer *t);
void fm_bpe_worker_free(fm_bpe_worker *w);
/* Borrowed from the tokenizer's slots, or new. */
FM_MUST_CHECK fm_status fm_bpe_worker_acquire(fm_bpe_worker **out, const fm_tokenizer *t);
void fm_bpe_worker_release(fm_bpe_worker *w);
/* Appends the ids of one piece, from the cache or the model; `end` is the end of readable memory (>= p + n). */
FM_MUST_CHECK fm_status fm_bpe_piece(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n, const uint8_t *end);
/* Pieces of plain text (no added tokens). */
FM_MUST_CHECK fm_status fm_bpe_plain(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);

/* Merging of ids that are there already: w->node[0 .. n) after fm_bpe_reserve (n <= what was asked for). */
FM_MUST_CHECK fm_status fm_bpe_reserve(fm_bpe_worker *w, size_t n);
FM_MUST_CHECK fm_status fm_bpe_merge(fm_bpe_worker *w, fm_tokens *out, size_t n);
FM_MUST_CHECK fm_status fm_tokens_reserve(fm_tokens *out, size_t more);
FM_MUST_CHECK fm_status fm_tokens_push(fm_tokens *out, int32_t id);

/* ---- Other models (each file: build its tables from the filled tokenizer, run) -------------------- */

FM_MUST_CHECK fm_status fm_bpe_chars_build(fm_tokenizer *t);
FM_MUST_CHECK fm_status fm_bpe_chars_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);
FM_MUST_CHECK fm_status fm_unigram_build(fm_tokenizer *t);
FM_MUST_CHECK fm_status fm_unigram_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);
FM_MUST_CHECK fm_status fm_wordpiece_build(fm_tokenizer *t);
FM_MUST_CHECK fm_status fm_wordpiece_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);
FM_MUST_CHECK fm_status fm_wordlevel_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n);
/* Tokens that plain text may become (not the special ones), sorted into t->trie. */
FM_MUST_CHECK fm_status fm_vocab_trie_build(fm_tokenizer *t);
/* The ids of the bytes of p[n] when each has a token "<0x..>"; false otherwise. */
bool fm_bytes_have_ids(const fm_tokenizer *t, const uint8_t *p, size_t n);

/* ---- SentencePiece (sentencepiece.c) -------------------------------------------------------------- */

/* What the SentencePiece library does that a tokenizer.json cannot say. */
struct fm_spm {
    bool unigram;
    bool dummy_prefix, extra_blanks, escape, suffix; /* extra_blanks: runs of blanks become one */
    fm_charsmap *map;                                /* or NULL */
    double max_score;
    fm_trie user;  /* user-defined symbols; n 0 = none */
    uint8_t *type; /* [n_types] FM_TOKEN_NORMAL ... of each id */
    float *score;  /* [n_types] */
    size_t n_types;
};
void fm_spm_free(fm_spm *s);
/* Normalises into w->text. */
FM_MUST_CHECK fm_status fm_spm_normalize(fm_bpe_worker *w, const uint8_t **p, size_t *n);

/* ---- Loading (tokenizer_load.c) --------------------------------------------------------------------- */

typedef struct fm_tok_extras {
    fm_spm *spm;        /* taken, also on failure */
    const float *score; /* [n_score] by id, or NULL: merges into tokens of one score have one rank (SentencePiece) */
    size_t n_score;
} fm_tok_extras;

/* As fm_tokenizer_parse. config (may be NULL) is taken, also on failure; extras may be NULL. */
FM_MUST_CHECK fm_status fm_tok_parse(fm_tokenizer **out, const char *json, size_t n, fm_json *config, const char *name,
                                     const fm_tok_extras *extras);
/* A SentencePiece model as tokenizer.json and tokenizer_config.json, as transformers converts it, and its rules. */
FM_MUST_CHECK fm_status fm_spm_read(fm_str *json, fm_str *config, fm_spm **spm, const void *data, size_t n,
                                    const char *name);
bool fm_spm_is_model(const void *data, size_t n);
/* Files from before tokenizer.json: vocab.json with merges.txt, or vocab.txt. FM_ERR_NOT_FOUND when `dir` has none. */
FM_MUST_CHECK fm_status fm_slow_vocab_read(fm_str *json, const char *dir, const fm_json *config);

/* ---- Counting pre-tokens -------------------------------------------------------------------------- */

typedef struct fm_word {
    uint64_t count;
    uint64_t hash; /* 0 = free slot of the table */
    size_t off;    /* into the shard's blob */
    uint32_t len;
} fm_word;

#define FM_WORD_SHARDS 64

typedef struct fm_word_table {
    fm_word *slot;
    size_t mask, n;
    fm_str blob;
} fm_word_table;

typedef struct fm_word_counter fm_word_counter;
FM_MUST_CHECK fm_status fm_word_counter_new(fm_word_counter **out, fm_split_kind split, int64_t max_memory,
                                            fm_pool *pool);
void fm_word_counter_free(fm_word_counter *c);
/* Reads all texts; fills the counting fields of info (not NULL). */
FM_MUST_CHECK fm_status fm_word_counter_read(fm_word_counter *c, fm_text_next_fn next, void *user,
                                             fm_bpe_train_info *info);
/* Shard i of FM_WORD_SHARDS. */
const fm_word_table *fm_word_counter_shard(const fm_word_counter *c, int i);

#endif
