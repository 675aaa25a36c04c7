/* How like two sets of texts are, and how like a text is to one of them.
 *
 * Likeness of a text is the importance weight of DSIR (Xie, Santurkar, Ma, Liang, "Data selection for language models
 * via importance resampling", 2023): words and pairs of words are hashed into buckets; the weight is the sum over them
 * of log p(bucket in the target) / p(bucket in the raw set). Or the probability that a classifier gives it
 * (domain_judge.h).
 *
 * Distances of sets: vocabulary, languages and topics by the Jensen-Shannon divergence of their shares (base 2: 0 the
 * same, 1 nothing in common); lengths by the largest difference of their cumulative shares (Kolmogorov-Smirnov, over
 * eighths of octaves). Topics are clusters of the target's texts (k-means over hashed words, most common ones
 * left out by idf), to which all texts are assigned. */
#ifndef FM_DATA_DOMAIN_H
#define FM_DATA_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "data/spool.h"

#define FM_DOMAIN_BUCKETS   16384
#define FM_DOMAIN_TOPICS    16
#define FM_DOMAIN_LENGTHS   256
#define FM_DOMAIN_LANGUAGES 64
#define FM_DOMAIN_DIMS      256
#define FM_DOMAIN_CHARS     8 /* longest runs of characters */

/* The features of one text. Zero-initialise. */
typedef struct fm_domain_text {
    uint16_t *bucket; /* hashes: [n_words] of words, [n_words - 1] of pairs, then of runs of characters */
    size_t n, cap, n_words;
    float vector[FM_DOMAIN_DIMS]; /* counts of words by hash */
} fm_domain_text;
/* chars: length of the runs of characters (letters made small, blanks as one blank each); 0 = none. */
FM_MUST_CHECK fm_status fm_domain_split(fm_domain_text *out, fm_sv text, int chars);
void fm_domain_text_free(fm_domain_text *t);
size_t fm_domain_n_words(size_t n_words); /* words and pairs of a text with so many words: the first buckets */

/* Texts in a temporary file (of 1 word a record), with two small numbers of the caller. */
FM_MUST_CHECK fm_status fm_domain_spool_put(fm_spool *s, const uint16_t *bucket, size_t n, size_t n_words, int language,
                                            int topic);
FM_MUST_CHECK fm_status fm_domain_spool_get(fm_spool *s, fm_domain_text *t, int *language, int *topic);

/* Sums over a set: of words and pairs, by the last 14 bits of their hashes. */
typedef struct fm_domain_profile {
    int64_t n, n_features;
    int64_t bucket[FM_DOMAIN_BUCKETS];
    int64_t length[FM_DOMAIN_LENGTHS];
    int64_t language[FM_DOMAIN_LANGUAGES];
    int64_t topic[FM_DOMAIN_TOPICS];
} fm_domain_profile;
void fm_domain_count(fm_domain_profile *p, const uint16_t *bucket, size_t n, size_t n_words, int language, int topic);

typedef struct fm_domain_distance {
    double vocabulary, lengths, languages, topics;
} fm_domain_distance;
fm_domain_distance fm_domain_compare(const fm_domain_profile *a, const fm_domain_profile *b);

/* log p(target) / p(raw) of each bucket; one that a set lacks has 1e-8 there. */
void fm_domain_ratios(float out[FM_DOMAIN_BUCKETS], const fm_domain_profile *target, const fm_domain_profile *raw);
/* Their sum over the words and pairs of a text. */
double fm_domain_weight(const float ratio[FM_DOMAIN_BUCKETS], const fm_domain_text *t);

/* ---- topics ---- */

typedef struct fm_domain_topics {
    int n;
    float weight[FM_DOMAIN_DIMS];                   /* idf */
    float centre[FM_DOMAIN_TOPICS][FM_DOMAIN_DIMS]; /* length 1 */
} fm_domain_topics;
/* vector [n, FM_DOMAIN_DIMS]: counts of the target's texts; overwritten. */
void fm_domain_topics_fit(fm_domain_topics *out, float *vector, size_t n);
int fm_domain_topic(const fm_domain_topics *t, const float *vector);

#endif
