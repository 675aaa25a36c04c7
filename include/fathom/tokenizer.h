/* Tokenizers: open, save, train, encode, decode, report.
 *
 * A tokenizer is read-only after it was opened or trained: any number of threads may encode and decode
 * with one object at the same time (each call borrows a private piece cache that the object keeps).
 * Text is bytes in UTF-8; bytes that are not valid UTF-8 are encoded too and come back unchanged.
 * Ids are int32_t, so that they can be given to a model as they are.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_TOKENIZER_H
#define FATHOM_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_tokenizer fm_tokenizer;

/* A text: not owned, need not end in NUL. */
typedef struct fm_text {
    const char *ptr;
    size_t len;
} fm_text;

/* Ids of one text. Zero-initialise; calls append, so that one buffer can be used many times (set n to 0).
 * Release with fm_tokens_free. */
typedef struct fm_tokens {
    int32_t *ids;
    size_t n, cap;
} fm_tokens;

/* Ids of many texts: text i has ids[offset[i] .. offset[i+1]). Release with fm_token_batch_free. */
typedef struct fm_token_batch {
    int32_t *ids;
    size_t *offset; /* [n_texts + 1] */
    size_t n_texts;
} fm_token_batch;

FM_API void fm_tokens_free(fm_tokens *t);
FM_API void fm_token_batch_free(fm_token_batch *b);

/* Opens `path`: a tokenizer.json, a SentencePiece model (tokenizer.model), a GGUF file, or a folder that holds one of
 * the first two or the files from before them (vocab.txt; vocab.json and merges.txt). What stands beside it is read
 * too: tokenizer_config.json (special tokens, chat template), special_tokens_map.json, chat_template.jinja.
 * FM_ERR_UNSUPPORTED names a model, normalizer, pre-tokenizer or decoder that is not known. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_open(fm_tokenizer **out, const char *path);
/* The same from memory; `name` is for messages. config may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_parse(fm_tokenizer **out, const char *json, size_t n, const char *config,
                                                  size_t n_config, const char *name);
/* Writes tokenizer.json and tokenizer_config.json into `dir` (made when missing), each atomically. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_save(const fm_tokenizer *t, const char *dir);
FM_API void fm_tokenizer_free(fm_tokenizer *t);

/* ---- What it knows ------------------------------------------------------------------------------ */

FM_API int32_t fm_tokenizer_vocab_size(const fm_tokenizer *t); /* largest id + 1 */
/* Bytes of a token (not NUL-terminated; owned by t). NULL when the id is not used. */
FM_API const char *fm_tokenizer_token(const fm_tokenizer *t, int32_t id, size_t *n);
/* Id of the token that is exactly these bytes, an added token first; -1 for none. */
FM_API int32_t fm_tokenizer_find(const fm_tokenizer *t, const char *bytes, size_t n);
FM_API bool fm_tokenizer_is_special(const fm_tokenizer *t, int32_t id);
/* -1 when there is none. */
FM_API int32_t fm_tokenizer_bos(const fm_tokenizer *t);
FM_API int32_t fm_tokenizer_eos(const fm_tokenizer *t);
FM_API int32_t fm_tokenizer_pad(const fm_tokenizer *t);
FM_API int32_t fm_tokenizer_unk(const fm_tokenizer *t);
/* Chat template (Jinja text), NULL when there is none. Owned by t. */
FM_API const char *fm_tokenizer_chat_template(const fm_tokenizer *t);
/* The template for conversations with tools, where the model has one of its own for them; else NULL. Owned by t. */
FM_API const char *fm_tokenizer_tool_template(const fm_tokenizer *t);
/* Sets or (NULL) removes the chat template. Not while other threads use t. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_set_chat_template(fm_tokenizer *t, const char *text);
/* Name of the splitting pattern of byte-level BPE: "gpt2", "llama3", "qwen2", "deepseek_v3", "deepseek_llm",
 * "deepseek_coder", "none"; "other" for what is split in another way. */
FM_API const char *fm_tokenizer_pattern(const fm_tokenizer *t);

/* ---- Encoding ----------------------------------------------------------------------------------- */

typedef struct fm_encode_options {
    size_t size;        /* sizeof(fm_encode_options) */
    bool allow_special; /* special tokens written in the text become their ids; false: they are plain text */
    bool add_special;   /* add begin and end tokens as the file says (template or add_bos_token) */
    int n_threads;      /* encode_batch: 0 = all CPUs */
} fm_encode_options;

/* Appends the ids of text to *out. opt NULL: no special tokens are recognised or added. Added tokens that are
 * not special are always recognised. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_encode(fm_tokens *out, const fm_tokenizer *t, const char *text, size_t n,
                                                   const fm_encode_options *opt);
/* Appends the ids of two texts as the file pairs them (BERT: [CLS] a [SEP] b [SEP]) and, when types is not NULL, a
 * token type id for each. Without a template, or without add_special, b follows a, with types 0 and 1. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_encode_pair(fm_tokens *out, fm_tokens *types, const fm_tokenizer *t,
                                                        fm_text a, fm_text b, const fm_encode_options *opt);
/* Encodes texts[n_texts] on several threads; order is kept and the result does not depend on n_threads. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_encode_batch(fm_token_batch *out, const fm_tokenizer *t,
                                                         const fm_text *texts, size_t n_texts,
                                                         const fm_encode_options *opt);

/* ---- Decoding ----------------------------------------------------------------------------------- */

typedef struct fm_decode_options {
    size_t size; /* sizeof(fm_decode_options) */
    bool skip_special;
} fm_decode_options;

/* The exact bytes of the ids, NUL-terminated (fm_string_free); *n_out may be NULL. Ids that are not in the vocabulary
 * (rows added by padding) give nothing. opt NULL: special tokens are written out. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_decode(char **out, size_t *n_out, const fm_tokenizer *t, const int32_t *ids,
                                                   size_t n, const fm_decode_options *opt);

/* Decoding one id at a time. What comes out never ends inside a UTF-8 character: bytes of an incomplete
 * one are held back. t must outlive the decoder. Belongs to one thread. */
typedef struct fm_token_decoder fm_token_decoder;
FM_API FM_MUST_CHECK fm_status fm_token_decoder_new(fm_token_decoder **out, const fm_tokenizer *t,
                                                    const fm_decode_options *opt);
/* Text that became complete: *text (NUL-terminated, valid until the next call), *n may be 0. */
FM_API FM_MUST_CHECK fm_status fm_token_decoder_push(fm_token_decoder *d, int32_t id, const char **text, size_t *n);
/* Hands out what was held back and starts anew. */
FM_API void fm_token_decoder_flush(fm_token_decoder *d, const char **text, size_t *n);
FM_API void fm_token_decoder_free(fm_token_decoder *d);

/* ---- Training ----------------------------------------------------------------------------------- */

/* Gives the next text in *text; *end = true when there is none left. The text stays valid until the next call.
 * Called from the thread that started the training. */
typedef fm_status (*fm_text_next_fn)(void *user, fm_text *text, bool *end);

typedef struct fm_bpe_train_options {
    size_t size;                /* sizeof(fm_bpe_train_options) */
    int64_t vocab_size;         /* special tokens and the 256 bytes included; default 32000 */
    const char *pattern;        /* default "llama3"; see fm_tokenizer_pattern */
    const char *const *special; /* special tokens; they take ids 0 .. n_special-1 */
    int n_special;
    const char *bos, *eos, *pad, *unk; /* which of them (NULL = none); added when not among `special` */
    bool add_bos, add_eos;             /* what add_special of the encoder puts around a text */
    const char *chat_template;         /* kept in tokenizer_config.json, or NULL */
    int64_t min_frequency;             /* pairs rarer than this are not merged; default 2, negative = no limit */
    int64_t max_memory;                /* bytes for pre-tokens and pairs; default 2 GiB, at least 1 MiB */
    int n_threads;                     /* 0 = all CPUs; the result does not depend on it */
} fm_bpe_train_options;

typedef struct fm_bpe_train_info {
    int64_t n_texts, n_bytes; /* read */
    int64_t n_pieces;         /* pre-tokens counted */
    int64_t n_unique;         /* different ones kept */
    int64_t prune_threshold;  /* 0: exact; else memory was short: rare pre-tokens were dropped, and no
                               * count is too low by more than this */
    int64_t n_pruned;         /* occurrences dropped that way */
    int64_t n_merges;
    double count_s, merge_s; /* seconds in the two phases */
} fm_bpe_train_info;

/* Trains byte-level BPE. Equal input gives equal merges for any number of threads; ties go to the pair with the
 * smallest ids. `next` may not be NULL; info may be. When the texts have too few pairs the vocabulary
 * is smaller than asked (see fm_tokenizer_vocab_size). */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_train(fm_tokenizer **out, fm_bpe_train_info *info, fm_text_next_fn next,
                                                  void *user, const fm_bpe_train_options *opt);

/* ---- Report ------------------------------------------------------------------------------------- */

/* Languages are told apart by script, pre-token by pre-token: any Han character makes it Chinese, else any Latin
 * letter English, else any other letter "other"; digits, punctuation and blanks alone are "common". */
typedef enum fm_text_class { FM_TEXT_EN, FM_TEXT_ZH, FM_TEXT_OTHER, FM_TEXT_COMMON, FM_TEXT_CLASS_COUNT } fm_text_class;
FM_API const char *fm_text_class_name(fm_text_class c); /* "en", "zh", "other", "common" */

typedef struct fm_tokenizer_report_row {
    int64_t vocab_size;
    int64_t n_chars[FM_TEXT_CLASS_COUNT], n_tokens[FM_TEXT_CLASS_COUNT];
    double chars_per_token[FM_TEXT_CLASS_COUNT]; /* 0 where there is no text */
    double chars_per_token_all;
    double byte_fallback_rate; /* tokens that are one byte of a longer character / all tokens */
    int64_t n_unused;          /* entries that the texts never used; special tokens are not counted */
    int64_t embedding_params;  /* vocab_size * d_model, twice when untied */
} fm_tokenizer_report_row;

typedef struct fm_tokenizer_report_options {
    size_t size; /* sizeof(fm_tokenizer_report_options) */
    int64_t d_model;
    bool untied; /* input and output embeddings are two matrices */
    int n_threads;
    int64_t max_memory; /* as in training */
} fm_tokenizer_report_options;

/* Measures the tokenizer on held-out texts as if training had stopped at each of sizes[n_sizes] (merges are a
 * prefix chain, so one training at the largest size gives the smaller ones). A size of 0 or above the vocabulary
 * means the whole vocabulary. rows[n_sizes] is the caller's. */
FM_API FM_MUST_CHECK fm_status fm_tokenizer_report(fm_tokenizer_report_row *rows, const fm_tokenizer *t,
                                                   const int64_t *sizes, int n_sizes, fm_text_next_fn next, void *user,
                                                   const fm_tokenizer_report_options *opt);

#ifdef __cplusplus
}
#endif
#endif
