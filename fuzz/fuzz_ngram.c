/* The reader of n-gram models: any bytes as a file give an error or a model whose answers are finite numbers up to
 * back-off weights, found in bounded time. */
#include <math.h>
#include <stdlib.h>

#include "data/ngram.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "the cat sat on the mat\nand a b c a b, 中文\n";
    const char *path = fuzz_file(data, size);
    fm_ngram *m;
    fm_ngram_line line = {0};
    fm_ngram_score s;
    if (!path || fm_ngram_open(&m, path) != FM_OK) {
        return 0;
    }
    if (fm_ngram_score_text(m, &s, &line, (fm_sv){text, sizeof text - 1}) == FM_OK) {
        double f = fm_ngram_fluency(m, fm_ngram_perplexity(&s));
        if (isnan(s.log10_p) || s.log10_p > 0 || isnan(f) || f > 1) {
            abort();
        }
    }
    fm_ngram_line_free(&line);
    fm_ngram_close(m);
    return 0;
}
