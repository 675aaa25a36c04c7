/* Other models on the corpus of train_fixture.h, and the bar that each family must learn to pass. */
#ifndef LEARN_FIXTURE_H
#define LEARN_FIXTURE_H

#include "fathom/generate.h"
#include "train_fixture.h"

static inline void fx_use_config(const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/model/config.json", fx_top);
    fx_ok(fm_file_write_atomic(path, text, strlen(text)));
}

/* What the best predictor that knows only how often each token occurs in the evaluation data itself would reach. */
static inline double fx_unigram_entropy(void) {
    fm_dataset *d;
    char path[300];
    static int64_t count[300];
    double h = 0;
    snprintf(path, sizeof path, "%s/packed/val", fx_top);
    fx_ok(fm_dataset_open(&d, path));
    int64_t n = fm_dataset_tokens(d);
    memset(count, 0, sizeof count);
    for (int64_t i = 0; i < n; i++) {
        int32_t id;
        bool start;
        fx_ok(fm_dataset_read(d, i, 1, &id, &start));
        count[id]++;
    }
    fm_dataset_close(d);
    for (int i = 0; i < 300; i++) {
        h -= count[i] ? (double)count[i] / (double)n * log((double)count[i] / (double)n) : 0;
    }
    return h;
}

typedef struct fx_tokens {
    int32_t id[32];
    int n;
} fx_tokens;

static bool fx_token(void *user, const fm_token_out *t) {
    fx_tokens *r = user;
    r->id[r->n++] = t->id;
    return true;
}

/* The most likely continuation is the same with a cache and without. */
static void fx_same_generation(fm_model *m) {
    static const int32_t prompt[] = {40, 7, 91, 12, 5, 66, 23, 101};
    fx_tokens r[2] = {{.n = 0}, {.n = 0}};
    for (int cache = 0; cache < 2; cache++) {
        fm_session *s;
        fm_sampling o = fm_sampling_default();
        o.temperature = 0;
        o.max_new_tokens = 24;
        o.ignore_eos = true;
        o.use_cache = cache;
        fx_ok(fm_session_new(&s, m, 0));
        fx_ok(fm_session_generate(s, prompt, 8, &o, fx_token, &r[cache], NULL));
        fm_session_free(s);
    }
    assert_int_equal(r[0].n, 24);
    assert_int_equal(r[1].n, 24);
    assert_memory_equal(r[0].id, r[1].id, sizeof r[0].id);
}

#endif
