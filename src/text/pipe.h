/* The parts a tokenizer.json is put together from: normalizers, pre-tokenizers, decoders, and the tries and patterns
 * they share. Each part is loaded from its JSON, run on bytes, and owns what it keeps. Semantics follow the Hugging
 * Face tokenizers library (0.23); tests/interop/tokenizer_parts.py compares them.
 *
 * Text is bytes. What is not valid UTF-8 passes through as single bytes that belong to no class. */
#ifndef FM_TEXT_PIPE_H
#define FM_TEXT_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/str.h"
#include "text/split.h"

/* ---- Small helpers ------------------------------------------------------------------------------- */

/* The "type" of a part, "" when it has none. */
const char *fm_part_type(const fm_json *o);
/* Appends a character. */
void fm_put_cp(fm_str *out, uint32_t cp);
/* Ends an output buffer so that data is never NULL. */
fm_status fm_text_end(fm_str *out);
bool fm_is_mark(uint32_t cp);             /* general category Mn */
bool fm_is_bert_punctuation(uint32_t cp); /* \p{P} or ASCII punctuation */

/* ---- Trie over bytes (double array) --------------------------------------------------------------- */

typedef struct fm_trie_key {
    const char *ptr;
    size_t len;
    int32_t value; /* >= 0 */
} fm_trie_key;

typedef struct fm_trie_node {
    int32_t base, check, value; /* value -1 = no key ends here */
} fm_trie_node;

typedef struct fm_trie {
    fm_trie_node *node; /* node 0 is the root */
    size_t n;
} fm_trie;

/* Sorts keys[n]; of equal keys the one with the larger value is kept. Empty keys are left out. */
FM_MUST_CHECK fm_status fm_trie_build(fm_trie *t, fm_trie_key *keys, size_t n);
void fm_trie_free(fm_trie *t);

/* The child of `node` by byte c, or -1. */
static inline int32_t fm_trie_step(const fm_trie *t, int32_t node, uint8_t c) {
    size_t i = (size_t)t->node[node].base + c;
    return i < t->n && t->node[i].check == node ? (int32_t)i : -1;
}

/* ---- Patterns -------------------------------------------------------------------------------------- */

typedef struct fm_regex fm_regex;

/* A pattern as the tokenizers library (oniguruma, Ruby syntax) reads it, run by PCRE2: \s and nested classes are
 * rewritten, ^ and $ match at lines. Errors name `what`. Read-only after compiling. */
FM_MUST_CHECK fm_status fm_regex_compile(fm_regex **out, const char *pattern, size_t n, const char *what);
void fm_regex_free(fm_regex *r);

/* Searches a text from left to right. Backtracking is limited: FM_ERR_DATA when a text needs too much of it. */
typedef struct fm_regex_search {
    const fm_regex *regex;
    void *match; /* NULL until the first search */
} fm_regex_search;
FM_MUST_CHECK fm_status fm_regex_next(fm_regex_search *s, bool *found, size_t *start, size_t *stop, const uint8_t *p,
                                      size_t n, size_t from);
void fm_regex_search_end(fm_regex_search *s);

/* {"String": ...} or {"Regex": ...}. */
typedef struct fm_pattern {
    fm_str literal;
    fm_regex *regex; /* NULL: the literal */
} fm_pattern;
FM_MUST_CHECK fm_status fm_pattern_load(fm_pattern *out, const fm_json *o, const char *what);
void fm_pattern_free(fm_pattern *p);

typedef struct fm_span {
    size_t off, len;
    bool match;
} fm_span;

typedef struct fm_spans {
    fm_span *item;
    size_t n, cap;
} fm_spans;
FM_MUST_CHECK fm_status fm_spans_put(fm_spans *s, size_t off, size_t len, bool match);
/* Spans that cover the text, matches and what is between. */
FM_MUST_CHECK fm_status fm_pattern_spans(fm_spans *out, const fm_pattern *p, const uint8_t *text, size_t n);
/* Appends text with each match replaced. */
FM_MUST_CHECK fm_status fm_pattern_replace(fm_str *out, const fm_pattern *p, const uint8_t *text, size_t n,
                                           const fm_str *with);

/* ---- Normalizers ----------------------------------------------------------------------------------- */

typedef struct fm_charsmap fm_charsmap;
/* A SentencePiece character map: a double array over source strings, then NUL-terminated results. Checked whole. */
FM_MUST_CHECK fm_status fm_charsmap_new(fm_charsmap **out, const void *blob, size_t n, const char *what);
void fm_charsmap_free(fm_charsmap *m);
/* The result for the longest (or shortest) source string that begins p[n]: its bytes used, or 0 for none. */
size_t fm_charsmap_find(const fm_charsmap *m, const uint8_t *p, size_t n, bool longest, const char **to);

/* True when the ASCII character c, followed by another ASCII character, begins no source string. */
bool fm_charsmap_plain(const fm_charsmap *m, uint8_t c);

typedef struct fm_norm_step fm_norm_step;
typedef struct fm_norm {
    fm_norm_step *step;
    size_t n, cap;
} fm_norm;

typedef struct fm_norm_scratch {
    fm_str buf[2];
    int32_t *points;
    size_t cap_points;
} fm_norm_scratch;

/* Appends the steps of a normalizer (null: none). Errors name the part and `name`. */
FM_MUST_CHECK fm_status fm_norm_load(fm_norm *n, const fm_json *o, const char *name);
void fm_norm_free(fm_norm *n);
bool fm_norm_is_nfc_only(const fm_norm *n); /* no step but NFC */
/* *p, *len become the normalised text (in scratch, or as they were). *at_zero is cleared when the first character no
 * longer comes from the first of the text. */
FM_MUST_CHECK fm_status fm_norm_run(const fm_norm *n, fm_norm_scratch *s, const uint8_t **p, size_t *len,
                                    bool *at_zero);
void fm_norm_scratch_free(fm_norm_scratch *s);

/* ---- Pre-tokenizers -------------------------------------------------------------------------------- */

typedef struct fm_piece {
    const uint8_t *p;
    size_t n;
    bool at_zero; /* begins where the whole text begins */
} fm_piece;

typedef struct fm_pieces {
    fm_piece *item;
    size_t n, cap;
} fm_pieces;

/* The pieces of one text, stage by stage. */
typedef struct fm_pre_work {
    fm_pieces now, next;
    fm_spans spans;
    fm_str text[2]; /* of stages that change characters */
    int side;
} fm_pre_work;

typedef struct fm_pre_step fm_pre_step;
typedef struct fm_pre {
    fm_pre_step *step;
    size_t n, cap;
} fm_pre;

FM_MUST_CHECK fm_status fm_pre_load(fm_pre *p, const fm_json *o, const char *name);
void fm_pre_free(fm_pre *p);
/* Whether the last stage writes bytes as characters. fm_pre_keep_bytes makes it leave them: the model then works on
 * bytes. */
bool fm_pre_ends_in_bytes(const fm_pre *p);
void fm_pre_keep_bytes(fm_pre *p);
/* True when all stages together are one of the known splits of byte-level BPE and the model works on bytes. */
bool fm_pre_is_known_split(const fm_pre *p, fm_split_kind *kind, bool *add_prefix_space);
/* w->now = pieces of text[n] (n > 0). */
FM_MUST_CHECK fm_status fm_pre_run(const fm_pre *p, fm_pre_work *w, const uint8_t *text, size_t n, bool at_zero);
void fm_pre_work_free(fm_pre_work *w);

/* ---- Decoders -------------------------------------------------------------------------------------- */

/* Tokens as texts: token i is text[end[i-1] .. end[i]). */
typedef struct fm_token_texts {
    fm_str text;
    size_t *end;
    size_t n, cap;
} fm_token_texts;
/* Ends a token at the end of text. */
FM_MUST_CHECK fm_status fm_token_texts_end(fm_token_texts *t);
void fm_token_texts_free(fm_token_texts *t);

typedef struct fm_dec_step fm_dec_step;
typedef struct fm_dec {
    fm_dec_step *step;
    size_t n, cap;
    bool none; /* no decoder: tokens are joined with blanks */
} fm_dec;

FM_MUST_CHECK fm_status fm_dec_load(fm_dec *d, const fm_json *o, const char *name);
void fm_dec_free(fm_dec *d);
bool fm_dec_is_byte_level(const fm_dec *d);
/* Replaces *t by the decoded texts; other is scratch. */
FM_MUST_CHECK fm_status fm_dec_run(const fm_dec *d, fm_token_texts *t, fm_token_texts *other);

#endif
