/* Writing parts of a tokenizer.json: what opens other kinds of files (GGUF, SentencePiece, vocab.txt) composes one, so
 * that a single loader knows what a tokenizer is. All functions append to `out`; check it once at the end. */
#ifndef FM_TEXT_VOCAB_JSON_H
#define FM_TEXT_VOCAB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "text/split.h"

/* Kinds of tokens; SentencePiece and GGUF use these numbers. */
enum {
    FM_TOKEN_NORMAL = 1,
    FM_TOKEN_UNKNOWN,
    FM_TOKEN_CONTROL,
    FM_TOKEN_USER,
    FM_TOKEN_UNUSED,
    FM_TOKEN_BYTE,
};

/* A token of a vocabulary that lists texts with kinds and scores; its id is its place. */
typedef struct fm_scored_token {
    fm_sv text; /* UTF-8, not owned */
    int32_t type;
    float score;
} fm_scored_token;

#define FM_SPM_SPACE "\xe2\x96\x81" /* U+2581, which SentencePiece writes for a blank */

/* {"type":"ByteLevel",...} as pre-tokenizer, post-processor or decoder. */
void fm_put_byte_level(fm_str *out, bool prefix_space, bool use_regex);
/* The pre-tokenizer of byte-level BPE with a known split. */
void fm_put_split(fm_str *out, fm_split_kind kind, bool prefix_space);

/* An item of a template: a token, or a text (token.ptr NULL, seq 'A' or 'B'). */
typedef struct fm_template_part {
    fm_sv token;
    int64_t id;
    int type; /* token type id */
    char seq;
} fm_template_part;
/* {"type":"TemplateProcessing",...} */
void fm_put_template(fm_str *out, const fm_template_part *single, size_t n_single, const fm_template_part *pair,
                     size_t n_pair);

/* An entry of added_tokens with no flag but `special`. */
void fm_put_added_token(fm_str *out, int64_t id, fm_sv text, bool special);
/* "added_tokens":[...], with the control, user-defined and unknown tokens. */
void fm_put_added_list(fm_str *out, const fm_scored_token *t, size_t n);
/* {"type":"BPE",...} of SentencePiece: the merges follow from the scores. unk < 0: none. Tokens with a type in the set
 * `left_out` (1 << type) are not in the vocabulary; only those of type NORMAL take part in merges. */
FM_MUST_CHECK fm_status fm_put_scored_bpe(fm_str *out, const fm_scored_token *t, size_t n, int64_t unk,
                                          bool byte_fallback, unsigned left_out);
/* The decoders of SentencePiece: marks become blanks, byte tokens bytes; `prefix`: the first blank goes. */
void fm_put_spm_decoder(fm_str *out, bool prefix);

#endif
