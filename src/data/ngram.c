/* Reading and querying n-gram models: see ngram.h. */
#include "data/ngram.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/units.h"

/* ---- text ---- */

static fm_status put(fm_ngram_line *l, uint64_t hash) {
    if (l->n == l->cap) {
        void *p = l->item;
        FM_TRY(fm_grow(&p, &l->cap, l->n + 1, sizeof *l->item));
        l->item = p;
    }
    l->item[l->n++] = hash;
    return FM_OK;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

fm_status fm_ngram_split(fm_ngram_line *out, fm_sv line, int unit, bool lowercase) {
    const char *p = line.ptr, *end = p + line.len;
    uint64_t hash;
    out->n = 0;
    if (unit == FM_NGRAM_MIXED) {
        while (fm_unit_next(&p, end, FM_UNIT_MARKS | (lowercase ? 0 : FM_UNIT_CASE), &hash)) {
            FM_TRY(put(out, hash));
        }
        return FM_OK;
    }
    while (p < end) {
        const char *from = p;
        if (is_blank(*p)) {
            p++;
            continue;
        }
        if (unit == FM_NGRAM_BLANK) {
            for (; p < end && !is_blank(*p); p++) {
            }
            FM_TRY(put(out, fm_hash64(from, (size_t)(p - from), 0) | 1));
            continue;
        }
        uint32_t c;
        int k = fm_utf8_decode(&c, p, end);
        c = lowercase && k ? fm_utf8_lower(c) : c;
        p += k ? k : 1;
        if (k) {
            FM_TRY(put(out, fm_hash64(&c, sizeof c, 1) | 1));
        }
    }
    return FM_OK;
}

void fm_ngram_line_free(fm_ngram_line *l) {
    fm_free(l->item);
    *l = (fm_ngram_line){0};
}

bool fm_ngram_next_line(fm_sv text, size_t *at, fm_sv *line) {
    if (*at >= text.len) {
        return false;
    }
    const char *p = text.ptr + *at, *nl = memchr(p, '\n', text.len - *at);
    size_t n = nl ? (size_t)(nl - p) : text.len - *at;
    *line = (fm_sv){p, n};
    *at += n + 1;
    return true;
}

/* ---- file ---- */

struct fm_ngram {
    fm_map map;
    fm_ngram_header h;
    const uint8_t *table[FM_NGRAM_MOST_ORDER];
};

static fm_status check_header(const fm_ngram *m, const char *path) {
    const fm_ngram_header *h = &m->h;
    if (memcmp(h->magic, FM_NGRAM_MAGIC, sizeof h->magic) != 0) {
        fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "'%s' is no n-gram model of this program", path);
        return fm_error_hint("fathom data ngram makes one");
    }
    bool good = h->order >= 1 && h->order <= FM_NGRAM_MOST_ORDER && h->unit <= FM_NGRAM_CHAR && h->lowercase <= 1 &&
                h->has_quantiles <= 1 && isfinite(h->unknown) && h->unknown <= 0;
    for (uint32_t n = 1; good && n <= h->order; n++) {
        const fm_ngram_table_header *t = &h->table[n - 1];
        size_t width = fm_ngram_slot_bytes((int)n, (int)h->order);
        good = t->at >= FM_NGRAM_HEADER && t->at <= m->map.size && t->stored <= (m->map.size - t->at) / width &&
               t->slots >= 1 && t->slots <= t->stored && t->n <= t->stored && t->longest <= t->stored &&
               t->longest <= 1 << 16 && t->n <= INT64_MAX && isfinite(t->scale_p) && t->scale_p >= 0 &&
               isfinite(t->scale_backoff) && t->scale_backoff >= 0;
    }
    for (int i = 0; good && h->has_quantiles && i < FM_NGRAM_QUANTILES; i++) {
        good = isfinite(h->quantile[i]) && (i == 0 || h->quantile[i] >= h->quantile[i - 1]);
    }
    if (!good) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': the header of this n-gram model is damaged, or the file is cut off", path);
    }
    return FM_OK;
}

fm_status fm_ngram_open(fm_ngram **out, const char *path) {
    fm_ngram *m = *out = fm_calloc(1, sizeof *m);
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an n-gram model");
    }
    fm_status s = fm_map_open(&m->map, path);
    if (s == FM_OK && m->map.size < FM_NGRAM_HEADER) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "'%s' is no n-gram model: %zu bytes", path, m->map.size);
    }
    if (s == FM_OK) {
        memcpy(&m->h, m->map.data, sizeof m->h);
        s = check_header(m, path);
    }
    if (s != FM_OK) {
        fm_ngram_close(m);
        *out = NULL;
        return s;
    }
    for (uint32_t n = 0; n < m->h.order; n++) {
        m->table[n] = m->map.data + m->h.table[n].at;
    }
    return FM_OK;
}

void fm_ngram_close(fm_ngram *m) {
    if (m) {
        fm_map_close(&m->map);
        fm_free(m);
    }
}

int fm_ngram_model_order(const fm_ngram *m) {
    return (int)m->h.order;
}

int64_t fm_ngram_model_count(const fm_ngram *m, int order) {
    return order >= 1 && order <= (int)m->h.order ? (int64_t)m->h.table[order - 1].n : 0;
}

/* ---- queries ---- */

/* Where the search for a key of n words begins. Its memory is asked for, so that the orders' misses overlap. */
static uint64_t first_slot(const fm_ngram *m, int n, uint64_t key) {
    uint64_t i = fm_ngram_slot(key, m->h.table[n - 1].slots);
    __builtin_prefetch(m->table[n - 1] + i * fm_ngram_slot_bytes(n, (int)m->h.order));
    return i;
}

/* The slot of a key of n words, or NULL. i: first_slot. */
static const uint8_t *find(const fm_ngram *m, int n, uint64_t key, uint64_t i) {
    const fm_ngram_table_header *t = &m->h.table[n - 1];
    size_t width = fm_ngram_slot_bytes(n, (int)m->h.order);
    uint64_t end = FM_MIN(i + t->longest, t->stored);
    const uint8_t *p = m->table[n - 1] + i * width;
    uint32_t want = fm_ngram_mark(key), mark;
    for (; i < end; i++, p += width) {
        memcpy(&mark, p, sizeof mark);
        if (mark == want) {
            return p;
        }
        if (mark == 0) {
            return NULL;
        }
    }
    return NULL;
}

static float number(const uint8_t *p, float scale) {
    uint16_t q;
    memcpy(&q, p, sizeof q);
    return -scale * (float)q;
}

double fm_ngram_next(const fm_ngram *m, fm_ngram_state *s, uint64_t word, bool *known) {
    word = word ? word : FM_NGRAM_EOS;
    const int order = (int)m->h.order;
    fm_ngram_state next = {.n = 0};
    uint64_t key[FM_NGRAM_MOST_ORDER] = {fm_ngram_key(0, word)}, first[FM_NGRAM_MOST_ORDER];
    first[0] = first_slot(m, 1, key[0]);
    for (int n = 1; n < order && n <= s->n; n++) {
        key[n] = fm_ngram_key(key[n - 1], s->word[n - 1]);
        first[n] = first_slot(m, n + 1, key[n]);
    }
    const uint8_t *slot = find(m, 1, key[0], first[0]);
    double p = m->h.unknown;
    int matched = 1;
    *known = slot != NULL;
    for (int n = 1; slot; n++) {
        const fm_ngram_table_header *t = &m->h.table[n - 1];
        p = (double)number(slot + 4, t->scale_p);
        matched = n;
        if (n < order) {
            next.backoff[n - 1] = number(slot + 6, t->scale_backoff);
            next.n = n;
        }
        if (n == order || n > s->n) {
            break;
        }
        slot = find(m, n + 1, key[n], first[n]);
    }
    for (int j = matched - 1; j < s->n; j++) {
        p += (double)s->backoff[j];
    }
    next.word[0] = word;
    for (int j = 1; j < next.n; j++) {
        next.word[j] = s->word[j - 1];
    }
    *s = next;
    return p;
}

void fm_ngram_begin(const fm_ngram *m, fm_ngram_state *s) {
    bool known;
    *s = (fm_ngram_state){.n = 0};
    (void)fm_ngram_next(m, s, FM_NGRAM_BOS, &known);
}

fm_status fm_ngram_score_text(const fm_ngram *m, fm_ngram_score *out, fm_ngram_line *line, fm_sv text) {
    fm_ngram_state begin, s;
    fm_sv v;
    *out = (fm_ngram_score){0};
    fm_ngram_begin(m, &begin);
    for (size_t at = 0; fm_ngram_next_line(text, &at, &v);) {
        FM_TRY(fm_ngram_split(line, v, (int)m->h.unit, m->h.lowercase != 0));
        if (line->n == 0) {
            continue;
        }
        s = begin;
        for (size_t i = 0; i <= line->n; i++) {
            bool known;
            out->log10_p += fm_ngram_next(m, &s, i < line->n ? line->item[i] : 0, &known);
            out->n_unknown += !known;
        }
        out->n_units += (int64_t)line->n + 1;
        out->n_lines++;
    }
    return FM_OK;
}

double fm_ngram_perplexity(const fm_ngram_score *s) {
    return s->n_units ? pow(10, -s->log10_p / (double)s->n_units) : 0;
}

double fm_ngram_fluency(const fm_ngram *m, double perplexity) {
    const float *q = m->h.quantile;
    const int last = FM_NGRAM_QUANTILES - 1;
    if (!m->h.has_quantiles) {
        return -1;
    }
    if (perplexity >= (double)q[last]) {
        return 0;
    }
    int i = 0;
    while (i < last && (double)q[i + 1] <= perplexity) {
        i++;
    }
    double a = (double)q[i], b = (double)q[i + 1]; /* a <= b, and b > perplexity */
    double part = perplexity > a ? (perplexity - a) / (b - a) : 0;
    return 1 - (i + part) / last;
}
