/* Other models on the corpus of train_fixture.h, and the bar that each family must learn to pass. */
#ifndef LEARN_FIXTURE_H
#define LEARN_FIXTURE_H

#include "train_fixture.h"

static void fx_use_config(const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/model/config.json", fx_top);
    fx_ok(fm_file_write_atomic(path, text, strlen(text)));
}

/* What the best predictor that knows only how often each token occurs in the evaluation data itself would reach. */
static double fx_unigram_entropy(void) {
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

#endif
