/* The file of an n-gram model: see ngram.h. Keys come sorted and slots rise with keys, so that each table is written
 * from front to back. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/ngram_train.h"

#define SLOTS_PER_NGRAM 1.4

typedef struct writer {
    FILE *f;
    const char *path;
    int64_t bytes;
} writer;

static fm_status put(writer *w, const void *p, size_t n) {
    w->bytes += (int64_t)n;
    if (fwrite(p, 1, n, w->f) != n) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->path, strerror(errno));
    }
    return FM_OK;
}

/* steps of -log10 */
static uint16_t quantised(double log10_value, float scale) {
    double q = scale > 0 ? -log10_value / (double)scale + 0.5 : 0;
    return (uint16_t)FM_MIN(FM_MAX(q, 0), 65535);
}

/* The back-off behind an n-gram: 1 for one that nothing follows. */
static fm_status backoff_of(fm_spool *s, uint64_t key, uint64_t c[3], bool *more, double *out) {
    while (*more && c[0] < key) {
        FM_TRY(fm_spool_get(s, c, more));
    }
    *out = *more && c[0] == key ? fm_of_bits(c[2]) : 1;
    return FM_OK;
}

static fm_status write_table(fm_ngram_trainer *t, int n, fm_ngram_table_header *h, writer *w) {
    const bool last = n + 1 == t->o.order;
    const size_t width = fm_ngram_slot_bytes(n + 1, t->o.order);
    const uint8_t free_slot[8] = {0};
    fm_spool *in = &t->p[n], *back = last ? NULL : &t->backoff[n + 1];
    uint64_t r[2], c[3] = {0};
    bool more = true, more_c = back != NULL;
    h->at = (uint64_t)w->bytes;
    h->n = (uint64_t)in->n;
    h->slots = (uint64_t)(SLOTS_PER_NGRAM * (double)in->n) + 1;
    h->scale_p = (float)(t->most_p[n] / 65535 * 1.000001);
    h->scale_backoff = last ? 0 : (float)(t->most_backoff[n + 1] / 65535 * 1.000001);
    FM_TRY(fm_spool_rewind(in));
    if (back) {
        FM_TRY(fm_spool_rewind(back));
        FM_TRY(fm_spool_get(back, c, &more_c));
    }
    for (;;) {
        double left = 1;
        uint8_t slot[8];
        FM_TRY(fm_spool_get(in, r, &more));
        if (!more) {
            break;
        }
        if (back) {
            FM_TRY(backoff_of(back, r[0], c, &more_c, &left));
        }
        uint64_t want = fm_ngram_slot(r[0], h->slots);
        while (h->stored < want) {
            FM_TRY(put(w, free_slot, width));
            h->stored++;
        }
        const uint32_t mark = fm_ngram_mark(r[0]);
        const uint16_t p = quantised(log10(fm_of_bits(r[1])), h->scale_p);
        const uint16_t b = quantised(log10(left), h->scale_backoff);
        memcpy(slot, &mark, 4);
        memcpy(slot + 4, &p, 2);
        memcpy(slot + 6, &b, 2);
        FM_TRY(put(w, slot, width));
        h->stored++;
        h->longest = FM_MAX(h->longest, h->stored - want);
    }
    do { /* all of the range, and a free slot at the end */
        FM_TRY(put(w, free_slot, width));
        h->stored++;
    } while (h->stored < h->slots);
    h->longest++;
    fm_spool_close(in);
    if (back) {
        fm_spool_close(back);
    }
    return FM_OK;
}

static fm_status write_all(fm_ngram_trainer *t, fm_ngram_header *h, writer *w) {
    uint8_t page[FM_NGRAM_HEADER] = {0};
    _Static_assert(sizeof *h <= sizeof page, "the header is one page");
    memcpy(h->magic, FM_NGRAM_MAGIC, sizeof h->magic);
    h->order = (uint32_t)t->o.order;
    h->unit = (uint32_t)t->o.unit;
    h->lowercase = t->o.lowercase;
    h->unknown = (float)t->unknown;
    FM_TRY(put(w, page, sizeof page));
    for (int n = 0; n < t->o.order; n++) {
        FM_TRY(write_table(t, n, &h->table[n], w));
    }
    memcpy(page, h, sizeof *h);
    if (fseeko(w->f, 0, SEEK_SET) != 0 || fwrite(page, 1, sizeof page, w->f) != sizeof page || fflush(w->f) != 0 ||
        fsync(fileno(w->f)) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->path, strerror(errno));
    }
    return FM_OK;
}

fm_status fm_ngram_write(fm_ngram_trainer *t, fm_ngram_info *info, const char *path) {
    fm_ngram_header h = {.order = 0};
    fm_str name = {0};
    fm_str_printf(&name, "%s.tmp", path);
    FM_TRY(fm_str_check(&name));
    writer w = {.f = fopen(name.data, "wbe"), .path = name.data};
    fm_status s = w.f ? write_all(t, &h, &w)
                      : fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot make '%s': %s", name.data, strerror(errno));
    if (w.f && fclose(w.f) != 0 && s == FM_OK) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write '%s': %s", name.data, strerror(errno));
    }
    if (s == FM_OK && rename(name.data, path) != 0) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot rename '%s' to '%s': %s", name.data, path,
                         strerror(errno));
    }
    if (s != FM_OK) {
        unlink(name.data);
    }
    fm_str_free(&name);
    info->n_bytes = w.bytes;
    return s;
}

fm_status fm_ngram_set_quantiles(const char *path, const double *perplexity) {
    fm_ngram_header h;
    FILE *f = fopen(path, "r+be");
    bool good = f && fread(&h, sizeof h, 1, f) == 1;
    if (good) {
        h.has_quantiles = 1;
        for (int i = 0; i < FM_NGRAM_QUANTILES; i++) {
            h.quantile[i] = (float)perplexity[i];
        }
        good = fseeko(f, 0, SEEK_SET) == 0 && fwrite(&h, sizeof h, 1, f) == 1 && fflush(f) == 0;
    }
    int e = errno;
    if (f) {
        good = fclose(f) == 0 && good;
    }
    if (!good) {
        FM_FAIL(FM_ERR_IO, "cannot complete '%s': %s", path, strerror(e));
    }
    return FM_OK;
}
