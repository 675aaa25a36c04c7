/* Runs are sorted by a radix sort from the low byte up, which keeps the order of equal keys; runs are numbered in the
 * order of time, so that taking the lower run of two equal keys keeps it too. */
#include "data/sorter.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define FIRST_RECORDS ((size_t)1 << 12)
#define LEAST_MEMORY  ((int64_t)1 << 20)
#define LEAST_WINDOW  ((size_t)1 << 16)

typedef struct run {
    off_t at, end; /* what is still in the file */
    uint64_t *window;
    size_t n, next; /* records in the window */
} run;

struct fm_sorter {
    size_t words, width; /* width = bytes of a record */
    size_t most;         /* records in memory */
    uint64_t *rec, *other;
    size_t n, cap, next;
    char *path;
    int fd;
    off_t bytes;
    run *run;
    size_t n_runs, runs_cap;
    size_t *heap; /* runs with records left, the least on top */
    size_t n_heap;
    size_t window; /* records */
    bool started;
};

fm_status fm_sorter_new(fm_sorter **out, int words, int64_t memory, const char *path) {
    fm_sorter *s = *out = fm_calloc(1, sizeof *s);
    FM_ASSERT(words >= 1 && words <= FM_SORTER_MOST_WORDS);
    if (s) {
        s->fd = -1;
        s->path = fm_strdup(path);
    }
    if (!s || !s->path) {
        fm_sorter_free(s);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a sorter");
    }
    s->words = (size_t)words;
    s->width = s->words * sizeof(uint64_t);
    s->most = (size_t)FM_MAX(memory, LEAST_MEMORY) / (2 * s->width);
    return FM_OK;
}

void fm_sorter_free(fm_sorter *s) {
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n_runs; i++) {
        fm_free(s->run[i].window);
    }
    if (s->fd >= 0) {
        close(s->fd);
        unlink(s->path);
    }
    fm_free(s->run);
    fm_free(s->heap);
    fm_free(s->rec);
    fm_free(s->other);
    fm_free(s->path);
    fm_free(s);
}

static void copy_record(const fm_sorter *s, uint64_t *to, const uint64_t *from) {
    for (size_t k = 0; k < s->words; k++) {
        to[k] = from[k];
    }
}

/* Sorts s->rec[0..n). */
static fm_status sort_memory(fm_sorter *s) {
    size_t count[8][256];
    if (s->n < 2) {
        return FM_OK;
    }
    if (!s->other) {
        s->other = fm_malloc(s->cap * s->width);
        if (!s->other) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot sort %zu records in memory", s->n);
        }
    }
    memset(count, 0, sizeof count);
    for (size_t i = 0; i < s->n; i++) {
        uint64_t key = s->rec[i * s->words];
        for (int d = 0; d < 8; d++) {
            count[d][key >> (8 * d) & 255]++;
        }
    }
    for (int d = 0; d < 8; d++) {
        size_t at[256], sum = 0;
        if (count[d][s->rec[0] >> (8 * d) & 255] == s->n) {
            continue; /* this byte is the same in all */
        }
        for (int b = 0; b < 256; b++) {
            at[b] = sum;
            sum += count[d][b];
        }
        for (size_t i = 0; i < s->n; i++) {
            const uint64_t *r = &s->rec[i * s->words];
            copy_record(s, &s->other[at[r[0] >> (8 * d) & 255]++ * s->words], r);
        }
        uint64_t *swap = s->rec;
        s->rec = s->other;
        s->other = swap;
    }
    return FM_OK;
}

static fm_status append(fm_sorter *s, const char *p, size_t n) {
    if (fm_pwrite_all(s->fd, p, n, s->bytes, s->path) != FM_OK) {
        return fm_error_hint("sorting needs room for a few bytes of each row beside the output");
    }
    s->bytes += (int64_t)n;
    return FM_OK;
}

static fm_status write_run(fm_sorter *s) {
    FM_TRY(sort_memory(s));
    if (s->fd < 0) {
        s->fd = open(s->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (s->fd < 0) {
            FM_FAIL(FM_ERR_IO, "cannot make the temporary file '%s': %s", s->path, strerror(errno));
        }
    }
    void *p = s->run;
    FM_TRY(fm_grow(&p, &s->runs_cap, s->n_runs + 1, sizeof *s->run));
    s->run = p;
    off_t at = s->bytes;
    FM_TRY(append(s, (const char *)s->rec, s->n * s->width));
    s->run[s->n_runs++] = (run){.at = at, .end = s->bytes};
    s->n = 0;
    return FM_OK;
}

fm_status fm_sorter_push(fm_sorter *s, const uint64_t *record) {
    FM_ASSERT(!s->started);
    if (s->n == s->cap) {
        if (s->cap >= s->most) {
            FM_TRY(write_run(s));
        } else {
            size_t cap = FM_MIN(s->most, FM_MAX(2 * s->cap, FIRST_RECORDS));
            uint64_t *more = fm_realloc(s->rec, cap * s->width);
            if (!more) {
                FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu records for sorting", cap);
            }
            s->rec = more;
            s->cap = cap;
        }
    }
    copy_record(s, &s->rec[s->n++ * s->words], record);
    return FM_OK;
}

/* The next records of a run from the file; none left: n stays 0. */
static fm_status refill(fm_sorter *s, run *r) {
    size_t want = FM_MIN(s->window * s->width, (size_t)(r->end - r->at)), got = 0;
    while (got < want) {
        ssize_t k = pread(s->fd, (char *)r->window + got, want - got, r->at + (off_t)got);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            FM_FAIL(FM_ERR_IO, "cannot read the temporary file '%s': %s", s->path, k < 0 ? strerror(errno) : "cut");
        }
        got += (size_t)k;
    }
    r->at += (off_t)want;
    r->n = want / s->width;
    r->next = 0;
    return FM_OK;
}

static uint64_t key_of(const fm_sorter *s, size_t i) {
    const run *r = &s->run[i];
    return r->window[r->next * s->words];
}

static bool before(const fm_sorter *s, size_t a, size_t b) {
    uint64_t x = key_of(s, a), y = key_of(s, b);
    return x != y ? x < y : a < b;
}

static void sift_down(fm_sorter *s, size_t i) {
    for (;;) {
        size_t least = i;
        for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < s->n_heap; c++) {
            if (before(s, s->heap[c], s->heap[least])) {
                least = c;
            }
        }
        if (least == i) {
            return;
        }
        size_t swap = s->heap[i];
        s->heap[i] = s->heap[least];
        s->heap[least] = swap;
        i = least;
    }
}

fm_status fm_sorter_sort(fm_sorter *s) {
    FM_ASSERT(!s->started);
    s->started = true;
    if (s->n_runs == 0) {
        FM_TRY(sort_memory(s));
        fm_free(s->other);
        s->other = NULL;
        return FM_OK;
    }
    if (s->n) {
        FM_TRY(write_run(s));
    }
    fm_free(s->rec);
    fm_free(s->other);
    s->rec = s->other = NULL;
    s->cap = 0;
    s->window = FM_MAX(LEAST_WINDOW, 2 * s->most * s->width / s->n_runs) / s->width;
    s->heap = fm_malloc(s->n_runs * sizeof *s->heap);
    if (!s->heap) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot merge %zu runs", s->n_runs);
    }
    for (size_t i = 0; i < s->n_runs; i++) {
        s->run[i].window = fm_malloc(s->window * s->width);
        if (!s->run[i].window) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot merge %zu runs", s->n_runs);
        }
        FM_TRY(refill(s, &s->run[i]));
        s->heap[s->n_heap++] = i;
    }
    for (size_t i = s->n_heap / 2; i-- > 0;) {
        sift_down(s, i);
    }
    return FM_OK;
}

fm_status fm_sorter_next(fm_sorter *s, const uint64_t **record) {
    *record = NULL;
    FM_ASSERT(s->started);
    if (s->n_runs == 0) {
        if (s->next < s->n) {
            *record = &s->rec[s->next++ * s->words];
        }
        return FM_OK;
    }
    /* The record handed out last is passed over now, so that it stayed valid until this call. */
    if (s->next) {
        run *r = &s->run[s->heap[0]];
        if (++r->next == r->n) {
            FM_TRY(refill(s, r));
            if (r->n == 0) {
                s->heap[0] = s->heap[--s->n_heap];
            }
        }
        sift_down(s, 0);
    }
    s->next = 1;
    if (s->n_heap) {
        const run *r = &s->run[s->heap[0]];
        *record = &r->window[r->next * s->words];
    } else {
        s->next = 0;
    }
    return FM_OK;
}

fm_status fm_bits_set(fm_bits *b, uint64_t i) {
    size_t w = (size_t)(i / 64);
    if (w >= b->n) {
        void *p = b->word;
        FM_TRY(fm_grow(&p, &b->cap, w + 1, sizeof *b->word));
        b->word = p;
        memset(b->word + b->n, 0, (w + 1 - b->n) * sizeof *b->word);
        b->n = w + 1;
    }
    b->word[w] |= (uint64_t)1 << (i & 63);
    return FM_OK;
}

bool fm_bits_has(const fm_bits *b, uint64_t i) {
    return i / 64 < b->n && (b->word[i / 64] >> (i & 63) & 1);
}

void fm_bits_free(fm_bits *b) {
    fm_free(b->word);
    memset(b, 0, sizeof *b);
}
