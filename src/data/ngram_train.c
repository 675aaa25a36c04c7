/* Modified Kneser-Ney from counts: see ngram.h.
 *
 * For an n-gram hw (context h, word w) of adjusted count a, which is the number of different words in front of it, or
 * how often it was seen when it has the highest order or begins with <s>:
 *   p(w | h) = (a(hw) - D(a)) / sum_x a(hx) + g(h) p(w | h without its first word)
 *   D(1), D(2), D(3 and more) from how many n-grams have the counts 1 to 4; g(h) is the mass left over; below the
 *   unigrams stands 1 / (words that can follow, <unk> among them).
 * Orders are done from 1 up. Each needs its n-grams by key (counts), by context (sums), by rest (the lower p): sorted
 * anew each time, so that everything is read from front to back. */
#include "data/ngram_train.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

fm_status fm_ngram_train_new(fm_ngram_trainer **out, const fm_ngram_train_options *o) {
    fm_ngram_trainer *t = *out = fm_calloc(1, sizeof *t);
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a trainer of n-grams");
    }
    t->o = *o;
    t->dir = fm_strdup(o->work_dir);
    if (!t->dir) {
        fm_free(t);
        *out = NULL;
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a trainer of n-grams");
    }
    FM_ASSERT(o->order >= 1 && o->order <= FM_NGRAM_MOST_ORDER && o->prune[0] == 0);
    for (int n = 1; n < o->order; n++) {
        if (o->prune[n] < o->prune[n - 1]) {
            fm_ngram_train_free(t);
            *out = NULL;
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                         "prune: the limit of order %d, %lld, is below that of order %d, %lld", n + 1,
                         (long long)o->prune[n], n, (long long)o->prune[n - 1]);
            return fm_error_hint("limits may not fall, or the parts of an n-gram would be missing");
        }
    }
    return FM_OK;
}

void fm_ngram_train_free(fm_ngram_trainer *t) {
    if (t) {
        fm_ngram_counts_free(t);
        for (int n = 0; n < FM_NGRAM_MOST_ORDER; n++) {
            fm_spool_close(&t->p[n]);
            fm_spool_close(&t->backoff[n]);
        }
        fm_ngram_line_free(&t->line);
        fm_free(t->dir);
        fm_free(t);
    }
}

/* ---- adjusted counts ---- */

static fm_status sort_rests(fm_ngram_trainer *t, int n, fm_sorter *rests) {
    uint64_t r[4];
    bool more = true;
    FM_TRY(fm_spool_rewind(&t->seen[n]));
    for (;;) {
        FM_TRY(fm_spool_get(&t->seen[n], r, &more));
        if (!more) {
            return fm_sorter_sort(rests);
        }
        FM_TRY(fm_sorter_push(rests, &r[2]));
    }
}

/* Gives each n-gram of order n + 1 to `out` as {context, key, rest, adjusted count * 2 + pruned} and counts counts. */
static fm_status adjust(fm_ngram_trainer *t, int n, fm_sorter *rests, fm_sorter *out, int64_t with[5],
                        fm_ngram_order_info *info) {
    const uint64_t begin = fm_ngram_key(0, FM_NGRAM_BOS), *rest = NULL;
    uint64_t r[4];
    bool more = true;
    FM_TRY(fm_spool_rewind(&t->seen[n]));
    if (rests) {
        FM_TRY(fm_sorter_next(rests, &rest));
    }
    for (;;) {
        FM_TRY(fm_spool_get(&t->seen[n], r, &more));
        if (!more) {
            return FM_OK;
        }
        uint64_t seen = r[3] >> 1, adjusted = 0;
        while (rest && rest[0] <= r[0]) {
            adjusted += rest[0] == r[0];
            FM_TRY(fm_sorter_next(rests, &rest));
        }
        if (!rests || (r[3] & 1)) {
            adjusted = seen;
        }
        if (n == 0 && r[0] == begin) { /* never predicted */
            continue;
        }
        bool pruned = (int64_t)seen <= t->o.prune[n];
        const uint64_t record[4] = {r[1], r[0], r[2], adjusted << 1 | pruned};
        FM_TRY(fm_sorter_push(out, record));
        info->n_seen++;
        info->n_kept += !pruned;
        if (adjusted <= 4) {
            with[adjusted]++;
        }
    }
}

static void set_discounts(fm_ngram_order_info *info, const int64_t with[5]) {
    double y = with[1] ? (double)with[1] / (double)(with[1] + 2 * with[2]) : 0;
    info->guessed = false;
    for (int k = 1; k <= 3; k++) {
        double d = with[k] ? k - (k + 1) * y * (double)with[k + 1] / (double)with[k] : -1;
        info->guessed = info->guessed || !with[k + 1] || d < 0 || d > k;
        info->discount[k - 1] = d;
    }
    if (info->guessed) {
        info->discount[0] = 0.5;
        info->discount[1] = 1;
        info->discount[2] = 1.5;
    }
}

static double discounted(const fm_ngram_order_info *info, uint64_t a) {
    return (double)a - info->discount[FM_MIN(a, 3) - 1];
}

/* ---- sums over contexts ---- */

/* The kept n-grams into `kept`, and for each context its sum and what is left over into t->backoff[n]. */
static fm_status sum_contexts(fm_ngram_trainer *t, int n, const fm_ngram_order_info *info, fm_sorter *in,
                              fm_spool *kept) {
    const uint64_t *r;
    uint64_t context = 0;
    double sum = 0, mass = 0;
    bool open = false;
    FM_TRY(fm_sorter_sort(in));
    for (;;) {
        FM_TRY(fm_sorter_next(in, &r));
        if (open && (!r || r[0] != context)) {
            double left = FM_MAX((sum - mass) / sum, 1e-12);
            const uint64_t record[3] = {context, fm_bits_of(sum), fm_bits_of(left)};
            FM_TRY(fm_spool_put(&t->backoff[n], record));
            t->most_backoff[n] = FM_MAX(t->most_backoff[n], -log10(left));
            sum = mass = 0;
        }
        if (!r) {
            return FM_OK;
        }
        open = true;
        context = r[0];
        uint64_t a = r[3] >> 1;
        sum += (double)a;
        if (!(r[3] & 1)) {
            mass += discounted(info, a);
            FM_TRY(fm_spool_put(kept, r));
        }
    }
}

/* {rest, key, own share, back-off of the context} of each kept n-gram into `out`. */
static fm_status own_shares(fm_ngram_trainer *t, int n, const fm_ngram_order_info *info, fm_spool *kept,
                            fm_sorter *out) {
    uint64_t r[4], c[3] = {0};
    bool more, more_c = true;
    FM_TRY(fm_spool_rewind(kept));
    FM_TRY(fm_spool_rewind(&t->backoff[n]));
    FM_TRY(fm_spool_get(&t->backoff[n], c, &more_c));
    for (;;) {
        FM_TRY(fm_spool_get(kept, r, &more));
        if (!more) {
            return fm_sorter_sort(out);
        }
        while (more_c && c[0] != r[0]) {
            FM_TRY(fm_spool_get(&t->backoff[n], c, &more_c));
        }
        double share = discounted(info, r[3] >> 1) / fm_of_bits(c[1]);
        const uint64_t record[4] = {r[2], r[1], fm_bits_of(share), c[2]};
        FM_TRY(fm_sorter_push(out, record));
    }
}

/* ---- interpolation ---- */

static fm_status interpolate(fm_ngram_trainer *t, int n, double uniform, fm_sorter *in, fm_sorter *out) {
    const uint64_t *r;
    uint64_t low[2] = {0};
    bool more = n > 0;
    if (n > 0) {
        FM_TRY(fm_spool_rewind(&t->p[n - 1]));
        FM_TRY(fm_spool_get(&t->p[n - 1], low, &more));
    }
    for (;;) {
        FM_TRY(fm_sorter_next(in, &r));
        if (!r) {
            return FM_OK;
        }
        while (more && low[0] < r[0]) {
            FM_TRY(fm_spool_get(&t->p[n - 1], low, &more));
        }
        if (n > 0 && (!more || low[0] != r[0])) {
            FM_FAIL(FM_ERR_STATE, "an n-gram of order %d lacks its last %d words", n + 1, n);
        }
        double p = fm_of_bits(r[2]) + fm_of_bits(r[3]) * (n > 0 ? fm_of_bits(low[1]) : uniform);
        const uint64_t record[2] = {r[1], fm_bits_of(p)};
        FM_TRY(fm_sorter_push(out, record));
    }
}

static fm_status spool_probabilities(fm_ngram_trainer *t, int n, fm_sorter *in) {
    const uint64_t *r;
    FM_TRY(fm_spool_open(&t->p[n], 2, t->dir));
    FM_TRY(fm_sorter_sort(in));
    for (;;) {
        FM_TRY(fm_sorter_next(in, &r));
        if (!r) {
            return FM_OK;
        }
        t->most_p[n] = FM_MAX(t->most_p[n], -log10(fm_of_bits(r[1])));
        FM_TRY(fm_spool_put(&t->p[n], r));
    }
}

/* ---- one order ---- */

typedef struct temporaries {
    fm_sorter *rests, *by_context, *by_rest, *by_key;
    fm_spool kept;
} temporaries;

static fm_status estimate_order(fm_ngram_trainer *t, int n, fm_ngram_order_info *info, temporaries *x) {
    const int64_t half = t->o.memory / 2;
    int64_t with[5] = {0};
    if (n + 1 < t->o.order) {
        FM_TRY(fm_ngram_sorter(t, &x->rests, 1, half));
        FM_TRY(sort_rests(t, n + 1, x->rests));
    }
    FM_TRY(fm_ngram_sorter(t, &x->by_context, 4, half));
    FM_TRY(adjust(t, n, x->rests, x->by_context, with, info));
    fm_spool_close(&t->seen[n]);
    fm_sorter_free(x->rests);
    x->rests = NULL;
    set_discounts(info, with);
    FM_TRY(fm_spool_open(&x->kept, 4, t->dir));
    FM_TRY(fm_spool_open(&t->backoff[n], 3, t->dir));
    FM_TRY(sum_contexts(t, n, info, x->by_context, &x->kept));
    fm_sorter_free(x->by_context);
    x->by_context = NULL;
    FM_TRY(fm_ngram_sorter(t, &x->by_rest, 4, half));
    FM_TRY(own_shares(t, n, info, &x->kept, x->by_rest));
    fm_spool_close(&x->kept);
    FM_TRY(fm_ngram_sorter(t, &x->by_key, 2, half));
    double uniform = 1 / (double)(info->n_seen + 1); /* unigrams and <unk>; <s> was not counted */
    FM_TRY(interpolate(t, n, uniform, x->by_rest, x->by_key));
    fm_sorter_free(x->by_rest);
    x->by_rest = NULL;
    if (n == 0) {
        uint64_t r[3];
        bool more;
        const uint64_t begin[2] = {fm_ngram_key(0, FM_NGRAM_BOS), fm_bits_of(1)}; /* never asked for, but a context */
        FM_TRY(fm_sorter_push(x->by_key, begin));
        FM_TRY(fm_spool_rewind(&t->backoff[0]));
        FM_TRY(fm_spool_get(&t->backoff[0], r, &more));
        t->unknown = log10(fm_of_bits(r[2]) * uniform);
    }
    return spool_probabilities(t, n, x->by_key);
}

fm_status fm_ngram_train_finish(fm_ngram_trainer *t, fm_ngram_info *info, const char *path) {
    *info = (fm_ngram_info){.order = t->o.order, .n_units = t->n_units, .n_lines = t->n_lines};
    if (t->n_lines == 0) {
        FM_FAIL(FM_ERR_DATA, "there is no text to make an n-gram model of");
    }
    FM_TRY(fm_ngram_counts_finish(t));
    for (int n = 0; n < t->o.order; n++) {
        temporaries x = {0};
        fm_status s = estimate_order(t, n, &info->at[n], &x);
        fm_sorter_free(x.rests);
        fm_sorter_free(x.by_context);
        fm_sorter_free(x.by_rest);
        fm_sorter_free(x.by_key);
        fm_spool_close(&x.kept);
        FM_TRY(s);
    }
    return fm_ngram_write(t, info, path);
}
