/* The sampler against a plain implementation of the rules of transformers, and its frequencies. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "infer/sampler.h"
#include "../../quick.h"

#define V 700 /* past the 256 that top-p sorts at first */

static const float *rank_logits;
static int by_rank(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    float d = rank_logits[y] - rank_logits[x];
    return d > 0 ? 1 : d < 0 ? -1 : x - y;
}

/* Probabilities [V] after all filters, the slow way: masks with -inf and full softmaxes, one filter after the other. */
static void reference(double *p, const float *logits, const int32_t *past, int n_past, const fm_sampling *o) {
    double x[V];
    float key[V];
    int order[V];
    for (int i = 0; i < V; i++) {
        bool seen = false;
        for (int j = 0; j < n_past; j++) {
            seen = seen || past[j] == i;
        }
        x[i] = (double)logits[i];
        if (seen) {
            x[i] = x[i] < 0 ? x[i] * o->repetition_penalty : x[i] / o->repetition_penalty;
        }
        x[i] /= o->temperature;
        key[i] = (float)x[i];
        order[i] = i;
    }
    rank_logits = key;
    qsort(order, V, sizeof *order, by_rank);
    for (int r = 0; r < V; r++) {
        if (o->top_k > 0 && r >= o->top_k) {
            x[order[r]] = -INFINITY;
        }
    }
    for (int pass = 0; pass < 3; pass++) {
        double sum = 0, tail = 0;
        for (int i = 0; i < V; i++) {
            p[i] = exp(x[i] - x[order[0]]);
            sum += p[i];
        }
        for (int i = 0; i < V; i++) {
            p[i] /= sum;
        }
        for (int r = V - 1; r > 0; r--) { /* ascending, the most likely always stays */
            tail += p[order[r]];
            if (pass == 0 && o->top_p < 1 && tail <= 1 - o->top_p) {
                x[order[r]] = -INFINITY;
            }
            if (pass == 1 && p[order[r]] < o->min_p * p[order[0]]) {
                x[order[r]] = -INFINITY;
            }
        }
    }
}

static uint32_t rng = 1;
static double uniform(void) {
    rng = rng * 1664525u + 1013904223u;
    return (double)(rng >> 8) / 16777216.0;
}

/* Walks draws over [0,1): each token's share of the draws is its probability. */
static void test_distribution(void **state) {
    (void)state;
    static const struct {
        double temperature, top_p, min_p, penalty;
        int64_t top_k;
    } set[] = {
        {1, 1, 0, 1, 0},   {0.7, 1, 0, 1, 0},         {3, 0.9, 0, 1, 0},  {5, 0.99, 0.2, 1, 600},
        {1, 1, 0, 1, 7},   {1, 0.8, 0, 1, 0},         {1, 0.8, 0, 1, 20}, {1.3, 1, 0.1, 1, 0},
        {1, 1, 0, 1.5, 0}, {0.9, 0.9, 0.05, 1.2, 30}, {1, 0, 0, 1, 0},    {2, 0.999, 0, 0.8, 0},
        {1, 1, 1, 1, 0},   {1, 1, 0, 1, 1},
    };
    fm_token_sampler s;
    assert_int_equal(fm_token_sampler_init(&s, V), FM_OK);
    for (size_t k = 0; k < FM_ARRAY_LEN(set); k++) {
        fm_sampling o = fm_sampling_default();
        o.temperature = set[k].temperature;
        o.top_p = set[k].top_p;
        o.min_p = set[k].min_p;
        o.repetition_penalty = set[k].penalty;
        o.top_k = set[k].top_k;
        float logits[V];
        int32_t past[9];
        double p[V];
        int count[V] = {0};
        for (int i = 0; i < V; i++) {
            logits[i] = (float)(6 * uniform() - 3);
        }
        for (int i = 0; i < 9; i++) {
            past[i] = (int32_t)(V * uniform());
        }
        past[8] = past[7]; /* counts once */
        reference(p, logits, past, 9, &o);
        const int n = test_quick() ? 2000 : 20000;
        for (int i = 0; i < n; i++) {
            int32_t id;
            assert_int_equal(fm_token_sampler_choose(&id, &s, logits, past, 9, &o, (i + 0.5) / n), FM_OK);
            assert_in_range(id, 0, V - 1);
            count[id]++;
        }
        for (int i = 0; i < V; i++) {
            if (fabs((double)count[i] / n - p[i]) > 1.01 / n) {
                print_error("set %zu token %d: %g, expected %g\n", k, i, (double)count[i] / n, p[i]);
            }
            assert_true(fabs((double)count[i] / n - p[i]) <= 1.01 / n); /* the borders of intervals */
        }
    }
    fm_token_sampler_deinit(&s);
}

static void test_greedy(void **state) {
    (void)state;
    fm_token_sampler s;
    int32_t id;
    fm_sampling o = fm_sampling_default();
    o.temperature = 0;
    assert_int_equal(fm_token_sampler_init(&s, 4), FM_OK);
    assert_int_equal(fm_token_sampler_choose(&id, &s, (float[]){1, 3, 3, 2}, NULL, 0, &o, 0.9), FM_OK);
    assert_int_equal(id, 1); /* lowest of equals */
    o.repetition_penalty = 2;
    assert_int_equal(fm_token_sampler_choose(&id, &s, (float[]){1, 3, -3, 2}, (int32_t[]){1}, 1, &o, 0), FM_OK);
    assert_int_equal(id, 3);
    assert_int_equal(fm_token_sampler_choose(&id, &s, (float[]){-5, -3, -4, -6}, (int32_t[]){1, 99, -1}, 3, &o, 0),
                     FM_OK);
    assert_int_equal(id, 2); /* -3 became -6 */
    assert_int_equal(fm_token_sampler_choose(&id, &s, (float[]){NAN, -INFINITY, 0, INFINITY}, NULL, 0, &o, 0), FM_OK);
    assert_int_equal(id, 2);
    assert_int_equal(fm_token_sampler_choose(&id, &s, (float[]){NAN, NAN, NAN, -INFINITY}, NULL, 0, &o, 0),
                     FM_ERR_NUMERIC);
    fm_token_sampler_deinit(&s);
}

/* Stretches that are skipped, ends, equals, and what is no number, against a plain search. */
static void test_greedy_long(void **state) {
    (void)state;
    enum { ROUNDS = 200 };
    fm_token_sampler s;
    fm_sampling o = fm_sampling_default();
    o.temperature = 0;
    assert_int_equal(fm_token_sampler_init(&s, V), FM_OK);
    for (int round = 0; round < ROUNDS; round++) {
        float logits[V];
        uint32_t allowed[(V + 31) / 32] = {0};
        fm_rng_key key = {.seed = (uint64_t)round};
        for (int i = 0; i < V; i++) {
            double u = fm_rng_uniform(key, (uint64_t)i), kind = fm_rng_uniform(key, (uint64_t)(V + i));
            logits[i] = (float)(round % 2 ? u : floor(u * 8)) - (round % 3 ? 0 : 9);
            logits[i] = kind < 0.01 ? NAN : kind < 0.02 ? INFINITY : kind < 0.03 ? -INFINITY : logits[i];
            allowed[i / 32] |= (uint32_t)(kind > 0.5) << (i % 32);
        }
        for (int masked = 0; masked < 2; masked++) {
            fm_token_past past = {.allowed = masked ? allowed : NULL};
            int32_t id, best = -1;
            for (int32_t i = 0; i < V; i++) {
                bool may = isfinite(logits[i]) && (!masked || allowed[i / 32] >> (i % 32) & 1);
                best = may && (best < 0 || logits[i] > logits[best]) ? i : best;
            }
            assert_int_equal(fm_token_sampler_pick(&id, &s, logits, &past, &o, 0), FM_OK);
            assert_int_equal(id, best);
        }
    }
    fm_token_sampler_deinit(&s);
}

static void test_logprobs(void **state) {
    (void)state;
    fm_token_sampler s;
    double lp;
    assert_int_equal(fm_token_sampler_init(&s, 4), FM_OK);
    assert_int_equal(fm_token_sampler_logprobs(&lp, &s, (float[]){0, 1, 2, 1}, 1, 3), FM_OK);
    double lse = log(1 + 2 * exp(1) + exp(2));
    assert_true(fabs(lp - (1 - lse)) < 1e-12);
    assert_int_equal(s.top_ids[0], 2);
    assert_int_equal(s.top_ids[1], 1);
    assert_int_equal(s.top_ids[2], 3);
    assert_true(fabs(s.top_logprobs[0] - (2 - lse)) < 1e-12);
    assert_int_equal(fm_token_sampler_logprobs(&lp, &s, (float[]){0, 1, 2, 1}, 1, 99), FM_OK);
    assert_int_equal(s.top_ids[3], 0);
    fm_token_sampler_deinit(&s);
}

static void test_bad_options(void **state) {
    (void)state;
    fm_sampling good = fm_sampling_default(), o;
    assert_int_equal(fm_sampling_check(&good), FM_OK);
#define BAD(field, value)                                                                                              \
    o = good;                                                                                                          \
    o.field = value;                                                                                                   \
    assert_int_equal(fm_sampling_check(&o), FM_ERR_ARGUMENT)
    BAD(size, 3);
    BAD(temperature, -0.1);
    BAD(temperature, NAN);
    BAD(temperature, INFINITY);
    BAD(top_p, 1.1);
    BAD(top_p, NAN);
    BAD(min_p, -1);
    BAD(repetition_penalty, 0);
    BAD(top_k, -1);
    BAD(logprobs, -2);
    BAD(max_new_tokens, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_greedy),      cmocka_unit_test(test_greedy_long),
        cmocka_unit_test(test_logprobs),     cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
