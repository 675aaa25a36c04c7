/* n-gram language models: modified Kneser-Ney smoothing, interpolated (Chen, Goodman, "An empirical study of smoothing
 * techniques for language modeling", 1998; counts, discounts and pruning as in Heafield et al., "Scalable modified
 * Kneser-Ney language model estimation", 2013).
 *
 * A text is scored line by line, each between <s> and </s>. Words are kept as 64-bit hashes only, an n-gram as a hash
 * over its words from the last to the first; the file cannot be turned back into text.
 *
 * File (little-endian, mapped): a header of 4096 bytes (struct fm_ngram_header), then a table for each order. A slot
 * is {u32 mark, u16 probability, u16 back-off}, for the highest order {u32 mark, u16 probability}. The slot of a key is
 * floor(key * slots / 2^64) or the next free one behind it; the mark is the key's low half (1 for 0), 0 in a free slot.
 * Probability and back-off are -log10 in steps of the order's scale. */
#ifndef FM_DATA_NGRAM_H
#define FM_DATA_NGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FM_NGRAM_MOST_ORDER 5
#define FM_NGRAM_QUANTILES  101

typedef enum fm_ngram_unit {
    FM_NGRAM_MIXED, /* words, marks, and single characters of scripts without blanks (units.h) */
    FM_NGRAM_BLANK, /* what stands between blanks, as it is */
    FM_NGRAM_CHAR,  /* each character that is no blank */
} fm_ngram_unit;

/* ---- text ---- */

/* The units of one line as hashes. Zero-initialise. */
typedef struct fm_ngram_line {
    uint64_t *item;
    size_t n, cap;
} fm_ngram_line;
FM_MUST_CHECK fm_status fm_ngram_split(fm_ngram_line *out, fm_sv line, int unit, bool lowercase);
void fm_ngram_line_free(fm_ngram_line *l);
/* The next line of a text, without its end; false behind the last. *at begins at 0. */
bool fm_ngram_next_line(fm_sv text, size_t *at, fm_sv *line);

/* ---- model ---- */

typedef struct fm_ngram fm_ngram; /* read-only, shared by threads */
FM_MUST_CHECK fm_status fm_ngram_open(fm_ngram **out, const char *path);
void fm_ngram_close(fm_ngram *m);
int fm_ngram_model_order(const fm_ngram *m);
int64_t fm_ngram_model_count(const fm_ngram *m, int order); /* n-grams of that order */

typedef struct fm_ngram_state {
    uint64_t word[FM_NGRAM_MOST_ORDER - 1]; /* from the last back */
    float backoff[FM_NGRAM_MOST_ORDER - 1]; /* log10, of contexts of 1, 2, ... words */
    int n;                                  /* contexts that are in the model */
} fm_ngram_state;
void fm_ngram_begin(const fm_ngram *m, fm_ngram_state *s); /* behind <s> */
/* log10 of the probability of a word (a hash of fm_ngram_split; 0 for </s>). *known: whether the model has it. */
double fm_ngram_next(const fm_ngram *m, fm_ngram_state *s, uint64_t word, bool *known);

typedef struct fm_ngram_score {
    double log10_p;
    int64_t n_units, n_unknown, n_lines; /* n_units with the </s> of each line */
} fm_ngram_score;
/* Scores all lines of a text that have a unit. `line` is room. */
FM_MUST_CHECK fm_status fm_ngram_score_text(const fm_ngram *m, fm_ngram_score *out, fm_ngram_line *line, fm_sv text);
/* 10^(-log10_p / n_units); 0 for a text without units. */
double fm_ngram_perplexity(const fm_ngram_score *s);
/* Share of the rows held out of training that have a higher perplexity, 0 to 1; negative when the model has none. */
double fm_ngram_fluency(const fm_ngram *m, double perplexity);

/* ---- training ---- */

typedef struct fm_ngram_train_options {
    int order, unit; /* 1 to 5; fm_ngram_unit */
    bool lowercase;
    int64_t prune[FM_NGRAM_MOST_ORDER]; /* n-grams of order i + 1 seen at most so often go; [0] is 0 */
    int64_t memory;                     /* bytes */
    const char *work_dir;               /* temporary files go here; exists */
} fm_ngram_train_options;
typedef struct fm_ngram_order_info {
    int64_t n_seen, n_kept;
    double discount[3];
    bool guessed; /* too few counts to compute the discounts: 0.5, 1, 1.5 */
} fm_ngram_order_info;
typedef struct fm_ngram_info {
    int order;
    int64_t n_units, n_lines, n_bytes; /* of the text; of the file */
    fm_ngram_order_info at[FM_NGRAM_MOST_ORDER];
} fm_ngram_info;

typedef struct fm_ngram_trainer fm_ngram_trainer;
FM_MUST_CHECK fm_status fm_ngram_train_new(fm_ngram_trainer **out, const fm_ngram_train_options *o);
void fm_ngram_train_free(fm_ngram_trainer *t);
FM_MUST_CHECK fm_status fm_ngram_train_add(fm_ngram_trainer *t, fm_sv text);
/* Estimates and writes the model. FM_ERR_DATA when no text was added. */
FM_MUST_CHECK fm_status fm_ngram_train_finish(fm_ngram_trainer *t, fm_ngram_info *info, const char *path);
/* Writes quantiles of perplexity (ascending, [FM_NGRAM_QUANTILES]) into a finished model. */
FM_MUST_CHECK fm_status fm_ngram_set_quantiles(const char *path, const double *perplexity);

/* ---- inside of ngram*.c ---- */

#define FM_NGRAM_MAGIC  "FMNGRAM1"
#define FM_NGRAM_HEADER 4096
#define FM_NGRAM_BOS    UINT64_C(0x3C733E5BD1E995A6) /* hashes of units are odd */
#define FM_NGRAM_EOS    UINT64_C(0x3C2F733E9E3779B0)

typedef struct fm_ngram_table_header {
    uint64_t at, slots, stored; /* byte; hash range; slots in the file, with those behind the range */
    uint64_t n, longest;        /* n-grams; most slots that a search looks at */
    float scale_p, scale_backoff;
} fm_ngram_table_header;
typedef struct fm_ngram_header {
    char magic[8];
    uint32_t order, unit, lowercase, has_quantiles;
    float unknown, reserved; /* log10 */
    fm_ngram_table_header table[FM_NGRAM_MOST_ORDER];
    float quantile[FM_NGRAM_QUANTILES];
} fm_ngram_header;

/* The key of an n-gram from that of its last n - 1 words and its first. */
static inline uint64_t fm_ngram_key(uint64_t rest, uint64_t first) {
    uint64_t x = rest * UINT64_C(0x9E3779B97F4A7C15) + first;
    x = (x ^ x >> 32) * UINT64_C(0xFF51AFD7ED558CCD);
    x = (x ^ x >> 29) * UINT64_C(0xC4CEB9FE1A85EC53);
    return x ^ x >> 32;
}
static inline uint32_t fm_ngram_mark(uint64_t key) {
    return (uint32_t)key ? (uint32_t)key : 1;
}
static inline uint64_t fm_ngram_slot(uint64_t key, uint64_t slots) {
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)((u128)key * slots >> 64);
}
static inline size_t fm_ngram_slot_bytes(int n, int order) {
    return n == order ? 6 : 8;
}

#endif
