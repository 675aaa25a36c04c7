/* Samplers. */
#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

fm_status fm_token_sampler_init(fm_token_sampler *s, int32_t vocab) {
    *s = (fm_token_sampler){.vocab = vocab};
    s->score = fm_malloc((size_t)vocab * sizeof *s->score);
    s->order = fm_malloc((size_t)vocab * sizeof *s->order);
    s->seen = fm_calloc((size_t)vocab, 1);
    if (!s->score || !s->order || !s->seen) {
        fm_token_sampler_deinit(s);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a sampler over %d tokens", (int)vocab);
    }
    return FM_OK;
}

void fm_token_sampler_deinit(fm_token_sampler *s) {
    fm_free(s->score);
    fm_free(s->order);
    fm_free(s->seen);
    fm_free(s->shift);
    fm_free(s->top_ids);
    fm_free(s->top_logprobs);
    *s = (fm_token_sampler){0};
}

fm_status fm_sampling_check(const fm_sampling *o) {
    if (o->size != sizeof *o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_sampling: expected size %zu, found %zu: start from fm_sampling_default()",
                sizeof *o, o->size);
    }
    if (!(o->temperature >= 0) || !isfinite(o->temperature)) {
        FM_FAIL(FM_ERR_ARGUMENT, "temperature: expected 0 or more, found %g", o->temperature);
    }
    if (!(o->top_p >= 0 && o->top_p <= 1)) {
        FM_FAIL(FM_ERR_ARGUMENT, "top_p: expected 0 to 1, found %g", o->top_p);
    }
    if (!(o->min_p >= 0 && o->min_p <= 1)) {
        FM_FAIL(FM_ERR_ARGUMENT, "min_p: expected 0 to 1, found %g", o->min_p);
    }
    if (!(o->repetition_penalty > 0) || !isfinite(o->repetition_penalty)) {
        FM_FAIL(FM_ERR_ARGUMENT, "repetition_penalty: expected more than 0, found %g", o->repetition_penalty);
    }
    if (!(o->typical_p > 0 && o->typical_p <= 1)) {
        FM_FAIL(FM_ERR_ARGUMENT, "typical_p: expected more than 0 and at most 1, found %g", o->typical_p);
    }
    if (!isfinite(o->presence_penalty) || !isfinite(o->frequency_penalty)) {
        FM_FAIL(FM_ERR_ARGUMENT, "presence_penalty and frequency_penalty: expected numbers, found %g and %g",
                o->presence_penalty, o->frequency_penalty);
    }
    for (int i = 0; i < o->n_bias; i++) {
        if (isnan(o->bias[i].bias) || o->bias[i].id < 0) {
            FM_FAIL(FM_ERR_ARGUMENT, "logit_bias: token %d with bias %g", (int)o->bias[i].id, o->bias[i].bias);
        }
    }
    if (o->top_k < 0 || o->max_new_tokens < 0 || o->logprobs < -1) {
        FM_FAIL(FM_ERR_ARGUMENT, "top_k, max_new_tokens and logprobs may not be negative (logprobs: -1 at least)");
    }
    return FM_OK;
}

/* ---- selection ------------------------------------------------------------------------------- */

/* Rank of candidates: higher score first, then lower id. A total order, so that a selection is unique. */
static bool before(const double *score, int32_t a, int32_t b) {
    return score[a] > score[b] || (score[a] == score[b] && a < b);
}

static void swap(int32_t *a, int32_t *b) {
    int32_t t = *a;
    *a = *b;
    *b = t;
}

/* Heap whose root ranks last. */
static void sift(const double *score, int32_t *v, int64_t at, int64_t n) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) {
            return;
        }
        child += child + 1 < n && before(score, v[child], v[child + 1]);
        if (!before(score, v[at], v[child])) {
            return;
        }
        swap(&v[at], &v[child]);
        at = child;
    }
}

/* Moves the k first of v[n] to its front, in any order: a heap of the k best so far, whose root is the next to go. Most
 * elements cost one comparison. */
static void select_first(const double *score, int32_t *v, int64_t n, int64_t k) {
    if (k >= n || k < 1) {
        return;
    }
    for (int64_t i = k / 2; i-- > 0;) {
        sift(score, v, i, k);
    }
    for (int64_t i = k; i < n; i++) {
        if (before(score, v[i], v[0])) {
            swap(&v[0], &v[i]);
            sift(score, v, 0, k);
        }
    }
}

/* Heap sort: no memory, no comparison through a context pointer. */
static void sort(const double *score, int32_t *v, int64_t n) {
    for (int64_t i = n / 2; i-- > 0;) {
        sift(score, v, i, n);
    }
    for (int64_t end = n - 1; end > 0; end--) {
        swap(&v[0], &v[end]);
        sift(score, v, 0, end);
    }
}

/* ---- choice ---------------------------------------------------------------------------------- */

/* Keskar et al. 2019: a token seen before has its positive logit divided, its negative one multiplied; once per token.
 */
static void penalise(fm_token_sampler *s, const int32_t *past, int64_t n_past, double penalty) {
    for (int64_t i = 0; i < n_past; i++) {
        int32_t id = past[i];
        if (id >= 0 && id < s->vocab && !s->seen[id]) {
            s->seen[id] = 1;
            s->score[id] = s->score[id] < 0 ? s->score[id] * penalty : s->score[id] / penalty;
        }
    }
    for (int64_t i = 0; i < n_past; i++) {
        if (past[i] >= 0 && past[i] < s->vocab) {
            s->seen[past[i]] = 0;
        }
    }
}

/* Scores of the n candidates become probabilities; their sum is 1. */
static void softmax(fm_token_sampler *s, int64_t n, double max, double temperature) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double *p = &s->score[s->order[i]];
        *p = exp((*p - max) / temperature);
        sum += *p;
    }
    for (int64_t i = 0; i < n; i++) {
        s->score[s->order[i]] /= sum;
    }
}

/* Drops candidates below `least`; the rest keep their order. */
static int64_t drop_below(fm_token_sampler *s, int64_t n, double least) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (s->score[s->order[i]] >= least) {
            swap(&s->order[kept++], &s->order[i]);
        }
    }
    return kept;
}

/* The shortest run of the most likely candidates whose mass reaches top_p, sorted to the front. A real distribution is
 * done after a few hundred, so not all are sorted. */
static int64_t nucleus(fm_token_sampler *s, int64_t n, double top_p) {
    /* All tokens below (1 - top_p) / n together weigh less than 1 - top_p, so none of them is kept. */
    n = drop_below(s, n, (1 - top_p) / (double)n * (1 - 1e-9));
    for (int64_t sorted = 256;; sorted *= 8) {
        sorted = FM_MIN(sorted, n);
        select_first(s->score, s->order, n, sorted);
        sort(s->score, s->order, sorted);
        double above = 0; /* mass of the candidates before this one */
        int64_t m = 0;
        while (m < sorted && (m == 0 || above < top_p)) {
            above += s->score[s->order[m++]];
        }
        if (m < sorted || sorted == n || above >= top_p) {
            return m;
        }
    }
}

/* Candidates that top-p and min-p leave of order[n] (probabilities in score, the largest is `max`). */
static int64_t cut_tail(fm_token_sampler *s, int64_t n, double max, const fm_sampling *o) {
    if (o->top_p < 1) {
        n = nucleus(s, n, o->top_p);
    }
    return o->min_p > 0 ? drop_below(s, n, o->min_p * max) : n;
}

/* Meister et al. 2022: candidates whose surprise is nearest to the entropy, until their mass reaches typical_p. The
 * probabilities of order[n] need not sum to 1. *kept of them stay, in front. */
static fm_status typical(fm_token_sampler *s, int64_t n, double typical_p, int64_t *kept) {
    double mass = 0, entropy = 0, sum = 0;
    if (!s->shift) {
        s->shift = fm_malloc((size_t)s->vocab * sizeof *s->shift);
        if (!s->shift) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for typical sampling over %d tokens", (int)s->vocab);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        mass += s->score[s->order[i]];
    }
    for (int64_t i = 0; i < n; i++) {
        double p = s->score[s->order[i]] / mass;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    for (int64_t i = 0; i < n; i++) {
        double p = s->score[s->order[i]] / mass;
        s->shift[s->order[i]] = p > 0 ? -fabs(-log(p) - entropy) : -HUGE_VAL;
    }
    sort(s->shift, s->order, n);
    int64_t m = 0;
    while (m < n && (m == 0 || sum < typical_p)) {
        sum += s->score[s->order[m++]] / mass;
    }
    *kept = m;
    return FM_OK;
}

/* What was generated makes its tokens less likely: by presence once, by frequency each time. */
static void penalise_generated(fm_token_sampler *s, const fm_token_past *past, const fm_sampling *o) {
    for (int64_t i = past->n_prompt; i < past->n; i++) {
        int32_t id = past->ids[i];
        if (id >= 0 && id < s->vocab) {
            s->score[id] -= o->frequency_penalty + (s->seen[id] ? 0 : o->presence_penalty);
            s->seen[id] = 1;
        }
    }
    for (int64_t i = past->n_prompt; i < past->n; i++) {
        if (past->ids[i] >= 0 && past->ids[i] < s->vocab) {
            s->seen[past->ids[i]] = 0;
        }
    }
}

static bool allowed(const fm_token_past *past, int32_t id) {
    return !past->allowed || (past->allowed[id / 32] >> (id % 32) & 1);
}

#define SCAN 64

/* Nothing changes the logits: the largest of them (of equal ones the first), without copies. -1 when none is finite. A
 * stretch is looked at one by one only when something in it may be larger, which is a matter of a few vector
 * comparisons and seldom so. */
static int32_t largest(const float *logits, int32_t vocab, const fm_token_past *past) {
    int32_t best = -1;
    float top = -INFINITY;
    for (int32_t at = 0; at < vocab; at += SCAN) {
        const float *x = logits + at;
        int32_t n = FM_MIN(SCAN, vocab - at), any = n < SCAN;
        for (int32_t i = 0; i < SCAN && n == SCAN; i++) {
            any |= x[i] > top;
        }
        for (int32_t i = 0; i < n && any; i++) {
            if (x[i] > top && isfinite(x[i]) && allowed(past, at + i)) {
                best = at + i;
                top = x[i];
            }
        }
    }
    return best;
}

/* Logits as bias and penalties make them, into score; the candidates into order. Returns the most likely, or -1. */
static int32_t adjust(fm_token_sampler *s, const float *logits, const fm_token_past *past, const fm_sampling *o,
                      int64_t *n) {
    int32_t best = -1;
    for (int32_t i = 0; i < s->vocab; i++) {
        s->score[i] = (double)logits[i];
    }
    for (int i = 0; i < o->n_bias; i++) {
        if (o->bias[i].id < s->vocab) {
            s->score[o->bias[i].id] += o->bias[i].bias;
        }
    }
    if (o->repetition_penalty != 1) {
        penalise(s, past->ids, past->n, o->repetition_penalty);
    }
    if (o->presence_penalty != 0 || o->frequency_penalty != 0) {
        penalise_generated(s, past, o);
    }
    for (int32_t i = 0; i < s->vocab; i++) {
        if (isfinite(s->score[i]) && allowed(past, i)) {
            s->order[(*n)++] = i;
            best = best < 0 || s->score[i] > s->score[best] ? i : best;
        }
    }
    return best;
}

fm_status fm_token_sampler_pick(int32_t *id, fm_token_sampler *s, const float *logits, const fm_token_past *past,
                                const fm_sampling *o, double draw) {
    int64_t n = 0;
    bool plain = o->repetition_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0 && o->n_bias == 0;
    int32_t best = o->temperature == 0 && plain ? largest(logits, s->vocab, past) : adjust(s, logits, past, o, &n);
    if (best < 0) {
        FM_FAIL(FM_ERR_NUMERIC, "no logit is a finite number");
    }
    *id = best;
    if (o->temperature == 0) {
        return FM_OK;
    }
    double max = s->score[best];
    if (o->top_k > 0 && o->top_k < n) {
        select_first(s->score, s->order, n, o->top_k);
        n = o->top_k;
        sort(s->score, s->order, n);
    }
    softmax(s, n, max, o->temperature);
    n = cut_tail(s, n, s->score[best], o);
    if (o->typical_p < 1) {
        FM_TRY(typical(s, n, o->typical_p, &n));
    }
    double mass = 0;
    for (int64_t i = 0; i < n; i++) {
        mass += s->score[s->order[i]];
    }
    double at = draw * mass;
    int64_t i = 0;
    while (i < n - 1 && at >= s->score[s->order[i]]) {
        at -= s->score[s->order[i++]];
    }
    *id = s->order[i];
    return FM_OK;
}

fm_status fm_token_sampler_choose(int32_t *id, fm_token_sampler *s, const float *logits, const int32_t *past,
                                  int64_t n_past, const fm_sampling *o, double draw) {
    fm_token_past p = {.ids = past, .n = n_past, .n_prompt = n_past};
    return fm_token_sampler_pick(id, s, logits, &p, o, draw);
}

fm_status fm_token_sampler_logprobs(double *logprob, fm_token_sampler *s, const float *logits, int32_t id,
                                    int32_t n_top) {
    double max = -HUGE_VAL, sum = 0;
    n_top = FM_MIN(n_top, s->vocab);
    if (n_top > s->cap_top) {
        fm_free(s->top_ids);
        fm_free(s->top_logprobs);
        s->cap_top = 0;
        s->top_ids = fm_malloc((size_t)n_top * sizeof *s->top_ids);
        s->top_logprobs = fm_malloc((size_t)n_top * sizeof *s->top_logprobs);
        if (!s->top_ids || !s->top_logprobs) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d alternatives", (int)n_top);
        }
        s->cap_top = n_top;
    }
    for (int32_t i = 0; i < s->vocab; i++) {
        double v = isnan(logits[i]) ? -HUGE_VAL : (double)logits[i];
        s->score[i] = v;
        s->order[i] = i;
        max = fmax(max, v);
    }
    for (int32_t i = 0; i < s->vocab; i++) {
        sum += exp(s->score[i] - max);
    }
    double lse = max + log(sum);
    *logprob = (double)logits[id] - lse;
    if (n_top > 0) {
        select_first(s->score, s->order, s->vocab, n_top);
        sort(s->score, s->order, n_top);
    }
    for (int32_t i = 0; i < n_top; i++) {
        s->top_ids[i] = s->order[i];
        s->top_logprobs[i] = s->score[s->order[i]] - lse;
    }
    return FM_OK;
}
