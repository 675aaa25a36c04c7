/* Rules for documents of web text, as datatrove 0.10 has them (GopherRepetitionFilter, GopherQualityFilter,
 * C4QualityFilter, FineWebQualityFilter): the same decisions and the same names of reasons. Chinese text goes by limits
 * of its own (docs/data-quality.md), where a word is one character. Sources: Rae et al., "Scaling language models",
 * 2021 (Gopher); Raffel et al., 2020 (C4); Penedo et al., "The FineWeb datasets", 2024. */
#ifndef FM_DATA_QUALITY_H
#define FM_DATA_QUALITY_H

#include "data/words.h"

/* X(name, English, Chinese); the names are datatrove's. 0 turns a limit off (-1 for those of C4). */
#define FM_QUALITY_LIMITS(X)                                                                                           \
    X(dup_para_frac, 0.3, 0.3)                                                                                         \
    X(dup_para_char_frac, 0.2, 0.2)                                                                                    \
    X(dup_line_frac, 0.3, 0.3)                                                                                         \
    X(dup_line_char_frac, 0.2, 0.2)                                                                                    \
    X(top_2_gram, 0.2, 0.2)                                                                                            \
    X(top_3_gram, 0.18, 0.18)                                                                                          \
    X(top_4_gram, 0.16, 0.16)                                                                                          \
    X(duplicated_5_n_grams, 0.15, 0.15)                                                                                \
    X(duplicated_6_n_grams, 0.14, 0.14)                                                                                \
    X(duplicated_7_n_grams, 0.13, 0.13)                                                                                \
    X(duplicated_8_n_grams, 0.12, 0.12)                                                                                \
    X(duplicated_9_n_grams, 0.11, 0.11)                                                                                \
    X(duplicated_10_n_grams, 0.1, 0.1)                                                                                 \
    X(min_doc_words, 50, 100)                                                                                          \
    X(max_doc_words, 100000, 200000)                                                                                   \
    X(min_avg_word_length, 3, 0)                                                                                       \
    X(max_avg_word_length, 10, 0)                                                                                      \
    X(max_symbol_word_ratio, 0.1, 0.05)                                                                                \
    X(max_bullet_lines_ratio, 0.9, 0.9)                                                                                \
    X(max_ellipsis_lines_ratio, 0.3, 0.3)                                                                              \
    X(max_non_alpha_words_ratio, 0.8, 0.7)                                                                             \
    X(min_stop_words, 2, 2)                                                                                            \
    X(filter_no_terminal_punct, 0, 0)                                                                                  \
    X(max_word_length, 1000, 1000)                                                                                     \
    X(min_words_per_line, 3, 3)                                                                                        \
    X(min_num_sentences, 5, 3)                                                                                         \
    X(line_punct_thr, 0.12, 0.12)                                                                                      \
    X(short_line_thr, 0.67, 0.67)                                                                                      \
    X(short_line_length, 30, 15)                                                                                       \
    X(char_duplicates_ratio, 0.01, 0.01)                                                                               \
    X(new_line_ratio, 0.3, 0.15)

typedef struct fm_quality_limits {
#define FM_X(name, en, zh) double name;
    FM_QUALITY_LIMITS(FM_X)
#undef FM_X
} fm_quality_limits;
extern const fm_quality_limits fm_quality_english, fm_quality_chinese;

typedef struct fm_quality_slot {
    uint64_t key;
    uint32_t stamp, count, first;
} fm_quality_slot;

/* One document while the rules look at it, and one thread's room. Zero-initialise. */
typedef struct fm_quality {
    const fm_words *tables;
    const fm_quality_limits *limit;
    bool chinese;
    fm_sv text;
    size_t n_chars; /* of the text */
    fm_word_list words, line_words;
    bool split;           /* words belong to the text */
    uint32_t *at, *chars; /* of each word and behind the last: its place in `joined`; characters of the words before */
    size_t at_cap;
    fm_str joined; /* words with a blank behind each */
    fm_quality_slot *slot;
    size_t slots;
    uint32_t stamp;
    fm_str kept, line;     /* of the C4 rules */
    bool changed;          /* kept is the text now */
    double found, allowed; /* of the limit that was passed */
} fm_quality;
void fm_quality_free(fm_quality *q);
/* A new document. */
FM_MUST_CHECK fm_status fm_quality_begin(fm_quality *q, const fm_words *tables, fm_sv text, bool chinese,
                                         const fm_quality_limits *limit);

/* *reason: NULL, or why the document should go. */
typedef fm_status (*fm_quality_rule)(fm_quality *q, const char **reason);
FM_MUST_CHECK fm_status fm_quality_gopher_repetition(fm_quality *q, const char **reason);
FM_MUST_CHECK fm_status fm_quality_gopher(fm_quality *q, const char **reason);
FM_MUST_CHECK fm_status fm_quality_c4(fm_quality *q, const char **reason); /* also takes lines out of q->text */
FM_MUST_CHECK fm_status fm_quality_fineweb(fm_quality *q, const char **reason);

/* Inside of quality*.c. */
FM_MUST_CHECK fm_status fm_quality_split(fm_quality *q); /* q->words, once a text */
/* Counting by hash: fm_quality_fresh begins one of up to `most` different hashes; the slot has how often the hash came
 * and the index it first came with. */
FM_MUST_CHECK fm_status fm_quality_fresh(fm_quality *q, size_t most);
fm_quality_slot *fm_quality_count(fm_quality *q, uint64_t hash, uint32_t index);
size_t fm_quality_chars(fm_sv v);
fm_sv fm_quality_strip(fm_sv v); /* without blanks at both ends, Python's str.strip */
bool fm_quality_ends(fm_sv v, const char *with);
#endif
