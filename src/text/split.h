/* Pre-tokenisation: cutting text into the pieces inside which BPE merges.
 *
 * The published patterns are regular expressions; here each is a hand-written scanner that gives the
 * same pieces (tests/interop/tokenizer_diff.py compares them on random text). Text is bytes; a byte
 * that is no valid UTF-8 counts as U+FFFD and keeps its value. */
#ifndef FM_TEXT_SPLIT_H
#define FM_TEXT_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/split_levels.h"

/* X(symbol, name) */
#define FM_SPLIT_LIST(X)                                                                                               \
    X(FM_SPLIT_NONE, "none")                                                                                           \
    X(FM_SPLIT_GPT2, "gpt2")                                                                                           \
    X(FM_SPLIT_LLAMA3, "llama3")                                                                                       \
    X(FM_SPLIT_QWEN2, "qwen2")                                                                                         \
    X(FM_SPLIT_DEEPSEEK_V3, "deepseek_v3")                                                                             \
    X(FM_SPLIT_DEEPSEEK_LLM, "deepseek_llm")                                                                           \
    X(FM_SPLIT_DEEPSEEK_CODER, "deepseek_coder")

typedef enum fm_split_kind {
#define FM_X(sym, name) sym,
    FM_SPLIT_LIST(FM_X)
#undef FM_X
        FM_SPLIT_COUNT
} fm_split_kind;

const char *fm_split_name(fm_split_kind kind);
/* FM_SPLIT_COUNT when there is no such name. "-" and "_" are the same. */
fm_split_kind fm_split_find(const char *name);
/* The regular expressions of a kind, NULL past the last. FM_SPLIT_NONE has none. */
const char *fm_split_regex(fm_split_kind kind, int i);

typedef struct fm_splitter {
    const uint8_t *p, *end;
    const uint8_t *segment_end; /* deepseek_v3: end of the stretch that the third pattern sees */
    fm_split_kind kind;
    const uint8_t *level[FM_SPLIT_LEVELS]; /* deepseek_llm, deepseek_coder */
} fm_splitter;

void fm_splitter_init(fm_splitter *s, fm_split_kind kind, const void *text, size_t n);
/* The next piece: its start in *piece, returns its length; 0 at the end. */
size_t fm_splitter_next(fm_splitter *s, const uint8_t **piece);

#endif
