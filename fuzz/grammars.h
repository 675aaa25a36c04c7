/* What the fuzz targets of grammars share: the text is followed byte by byte and all at once, with the same outcome,
 * and a matcher used again gives it too. */
#ifndef FM_FUZZ_GRAMMARS_H
#define FM_FUZZ_GRAMMARS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "infer/grammar.h"

static inline int fuzz_follow(fm_grammar *g, const char *text, size_t n, size_t step) {
    fm_matcher *m;
    bool ok = true;
    if (fm_matcher_new(&m, g) != FM_OK) {
        return -1;
    }
    fm_status s = FM_OK;
    for (size_t at = 0; at < n && s == FM_OK && ok; at += step) {
        s = fm_matcher_push(m, text + at, n - at < step ? n - at : step, &ok);
    }
    int result = s != FM_OK ? -1 : ok + 2 * fm_matcher_complete(m);
    fm_matcher_free(m);
    return result;
}

static inline int fuzz_grammar(fm_grammar_kind kind, const uint8_t *data, size_t size) {
    const uint8_t *cut = size ? memchr(data, 1, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size, n_text = cut ? size - n - 1 : 0;
    const char *text = cut ? (const char *)cut + 1 : "";
    fm_grammar *g;
    if (n_text > 256 || fm_grammar_new(&g, kind, (const char *)data, n) != FM_OK) {
        return 0;
    }
    int whole = fuzz_follow(g, text, n_text, n_text + 1), again = fuzz_follow(g, text, n_text, n_text + 1);
    int bytes = fuzz_follow(g, text, n_text, 1);
    if (whole >= 0 && (bytes != whole || again != whole)) {
        abort();
    }
    fm_grammar_free(g);
    return 0;
}

#endif
