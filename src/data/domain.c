/* Likeness to a domain: see domain.h. */
#include "data/domain.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/textnorm.h"
#include "data/units.h"

#define ROUNDS 12

static fm_status put(fm_domain_text *t, uint64_t hash) {
    if (t->n == t->cap) {
        void *p = t->bucket;
        FM_TRY(fm_grow(&p, &t->cap, t->n + 1, sizeof *t->bucket));
        t->bucket = p;
    }
    t->bucket[t->n++] = (uint16_t)(hash >> 40 & 0xFFFF);
    return FM_OK;
}

static fm_status put_runs(fm_domain_text *out, fm_sv text, int chars) {
    const char *end = text.ptr + text.len;
    uint32_t run[FM_DOMAIN_CHARS] = {0}; /* the last characters; the oldest first */
    int n = 0;
    bool blank = true;
    for (const char *p = text.ptr; p < end;) {
        uint32_t c = 0;
        const int k = fm_utf8_decode(&c, p, end);
        p += k ? k : 1;
        const bool is_blank = k == 0 || c <= 0x20 || fm_is_space(c);
        if (is_blank && blank) {
            continue;
        }
        blank = is_blank;
        if (n == chars) {
            memmove(run, run + 1, (size_t)(chars - 1) * sizeof *run);
            n--;
        }
        run[n++] = is_blank ? ' ' : fm_utf8_lower(c);
        if (n == chars) {
            FM_TRY(put(out, fm_hash64(run, (size_t)chars * sizeof *run, 1)));
        }
    }
    return FM_OK;
}

fm_status fm_domain_split(fm_domain_text *out, fm_sv text, int chars) {
    const char *end = text.ptr + text.len;
    uint64_t h, before = 0;
    out->n = 0;
    memset(out->vector, 0, sizeof out->vector);
    for (const char *p = text.ptr; fm_unit_next(&p, end, 0, &h);) {
        FM_TRY(put(out, h));
        out->vector[h >> 20 & (FM_DOMAIN_DIMS - 1)] += 1;
    }
    out->n_words = out->n;
    for (const char *p = text.ptr; fm_unit_next(&p, end, 0, &h); before = h) {
        if (before) {
            uint64_t pair = (before * UINT64_C(0x9E3779B97F4A7C15) ^ h) * UINT64_C(0xFF51AFD7ED558CCD);
            FM_TRY(put(out, pair));
        }
    }
    return chars > 0 ? put_runs(out, text, FM_MIN(chars, FM_DOMAIN_CHARS)) : FM_OK;
}

size_t fm_domain_n_words(size_t n_words) {
    return n_words ? 2 * n_words - 1 : 0;
}

fm_status fm_domain_spool_put(fm_spool *s, const uint16_t *bucket, size_t n, size_t n_words, int language, int topic) {
    const uint64_t head = (uint64_t)n << 12 | (uint64_t)language << 6 | (uint64_t)topic, words = n_words;
    FM_TRY(fm_spool_put(s, &head));
    FM_TRY(fm_spool_put(s, &words));
    for (size_t i = 0; i < n; i += 4) {
        uint64_t w = 0;
        memcpy(&w, bucket + i, FM_MIN(n - i, 4) * sizeof *bucket);
        FM_TRY(fm_spool_put(s, &w));
    }
    return FM_OK;
}

fm_status fm_domain_spool_get(fm_spool *s, fm_domain_text *t, int *language, int *topic) {
    uint64_t head, w;
    bool more;
    FM_TRY(fm_spool_get(s, &head, &more));
    FM_ASSERT(more);
    FM_TRY(fm_spool_get(s, &w, &more));
    FM_ASSERT(more);
    *language = (int)(head >> 6 & 63);
    *topic = (int)(head & 63);
    t->n = (size_t)(head >> 12);
    t->n_words = (size_t)w;
    void *p = t->bucket;
    FM_TRY(fm_grow(&p, &t->cap, t->n + 4, sizeof *t->bucket));
    t->bucket = p;
    for (size_t i = 0; i < t->n; i += 4) {
        FM_TRY(fm_spool_get(s, &w, &more));
        FM_ASSERT(more);
        memcpy(t->bucket + i, &w, sizeof w);
    }
    return FM_OK;
}

void fm_domain_text_free(fm_domain_text *t) {
    fm_free(t->bucket);
    *t = (fm_domain_text){0};
}

void fm_domain_count(fm_domain_profile *p, const uint16_t *bucket, size_t n, size_t n_words, int language, int topic) {
    int length = n_words ? (int)(8 * log2((double)n_words)) + 1 : 0;
    p->n++;
    p->n_features += (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        p->bucket[bucket[i] & (FM_DOMAIN_BUCKETS - 1)]++;
    }
    p->length[FM_MIN(length, FM_DOMAIN_LENGTHS - 1)]++;
    p->language[FM_MIN(language, FM_DOMAIN_LANGUAGES - 1)]++;
    p->topic[topic]++;
}

static double divergence(const int64_t *a, const int64_t *b, size_t n) {
    double sum_a = 0, sum_b = 0, out = 0;
    for (size_t i = 0; i < n; i++) {
        sum_a += (double)a[i];
        sum_b += (double)b[i];
    }
    if (sum_a == 0 || sum_b == 0) {
        return sum_a == sum_b ? 0 : 1;
    }
    for (size_t i = 0; i < n; i++) {
        double p = (double)a[i] / sum_a, q = (double)b[i] / sum_b, m = (p + q) / 2;
        out += (p > 0 ? p * log2(p / m) : 0) + (q > 0 ? q * log2(q / m) : 0);
    }
    return out / 2;
}

static double largest_gap(const int64_t *a, const int64_t *b, size_t n, double n_a, double n_b) {
    double x = 0, y = 0, most = 0;
    for (size_t i = 0; i < n && n_a > 0 && n_b > 0; i++) {
        x += (double)a[i] / n_a;
        y += (double)b[i] / n_b;
        most = FM_MAX(most, fabs(x - y));
    }
    return most;
}

fm_domain_distance fm_domain_compare(const fm_domain_profile *a, const fm_domain_profile *b) {
    return (fm_domain_distance){
        .vocabulary = divergence(a->bucket, b->bucket, FM_DOMAIN_BUCKETS),
        .lengths = largest_gap(a->length, b->length, FM_DOMAIN_LENGTHS, (double)a->n, (double)b->n),
        .languages = divergence(a->language, b->language, FM_DOMAIN_LANGUAGES),
        .topics = divergence(a->topic, b->topic, FM_DOMAIN_TOPICS),
    };
}

void fm_domain_ratios(float out[FM_DOMAIN_BUCKETS], const fm_domain_profile *target, const fm_domain_profile *raw) {
    const double n_t = (double)FM_MAX(target->n_features, 1), n_r = (double)FM_MAX(raw->n_features, 1);
    for (size_t i = 0; i < FM_DOMAIN_BUCKETS; i++) {
        out[i] = (float)(log((double)target->bucket[i] / n_t + 1e-8) - log((double)raw->bucket[i] / n_r + 1e-8));
    }
}

double fm_domain_weight(const float ratio[FM_DOMAIN_BUCKETS], const fm_domain_text *t) {
    double sum = 0;
    for (size_t i = 0; i < fm_domain_n_words(t->n_words); i++) {
        sum += (double)ratio[t->bucket[i] & (FM_DOMAIN_BUCKETS - 1)];
    }
    return sum;
}

/* ---- topics ---- */

static float dot(const float *a, const float *b) {
    float sum = 0;
    for (int i = 0; i < FM_DOMAIN_DIMS; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void normalise(float *v) {
    float length = sqrtf(dot(v, v));
    for (int i = 0; i < FM_DOMAIN_DIMS && length > 0; i++) {
        v[i] /= length;
    }
}

/* Counts as tf-idf of length 1. */
static void weigh(const fm_domain_topics *t, float *v) {
    for (int i = 0; i < FM_DOMAIN_DIMS; i++) {
        v[i] = logf(1 + v[i]) * t->weight[i];
    }
    normalise(v);
}

static int nearest(const fm_domain_topics *t, const float *v) {
    int best = 0;
    float most = -1;
    for (int k = 0; k < t->n; k++) {
        float d = dot(v, t->centre[k]);
        if (d > most) {
            most = d;
            best = k;
        }
    }
    return best;
}

/* The text that is farthest from all centres so far becomes the next one. */
static void add_centre(fm_domain_topics *t, const float *vector, size_t n) {
    size_t far = 0;
    float least = 2;
    for (size_t i = 0; i < n; i++) {
        const float *v = vector + i * FM_DOMAIN_DIMS;
        float near = t->n ? dot(v, t->centre[nearest(t, v)]) : 0;
        if (near < least) {
            least = near;
            far = i;
        }
    }
    memcpy(t->centre[t->n++], vector + far * FM_DOMAIN_DIMS, sizeof t->centre[0]);
}

void fm_domain_topics_fit(fm_domain_topics *out, float *vector, size_t n) {
    *out = (fm_domain_topics){0};
    for (int d = 0; d < FM_DOMAIN_DIMS; d++) {
        size_t with = 0;
        for (size_t i = 0; i < n; i++) {
            with += vector[i * FM_DOMAIN_DIMS + (size_t)d] > 0;
        }
        out->weight[d] = logf((1 + (float)n) / (1 + (float)with)) + 0.1F;
    }
    for (size_t i = 0; i < n; i++) {
        weigh(out, vector + i * FM_DOMAIN_DIMS);
    }
    while ((size_t)out->n < n && out->n < FM_DOMAIN_TOPICS) {
        add_centre(out, vector, n);
    }
    for (int round = 0; round < ROUNDS && out->n; round++) {
        float sum[FM_DOMAIN_TOPICS][FM_DOMAIN_DIMS] = {{0}};
        size_t members[FM_DOMAIN_TOPICS] = {0};
        for (size_t i = 0; i < n; i++) {
            const float *v = vector + i * FM_DOMAIN_DIMS;
            int k = nearest(out, v);
            members[k]++;
            for (int d = 0; d < FM_DOMAIN_DIMS; d++) {
                sum[k][d] += v[d];
            }
        }
        for (int k = 0; k < out->n; k++) {
            if (members[k]) {
                memcpy(out->centre[k], sum[k], sizeof sum[k]);
                normalise(out->centre[k]);
            }
        }
    }
}

int fm_domain_topic(const fm_domain_topics *t, const float *vector) {
    float v[FM_DOMAIN_DIMS];
    memcpy(v, vector, sizeof v);
    weigh(t, v);
    return nearest(t, v);
}
