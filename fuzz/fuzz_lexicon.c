/* Lines of dictionaries: the first byte names the form of the lines that follow; each word that is found has words that
 * are UTF-8 and differ from it. */
#include <stdlib.h>
#include <string.h>

#include "data/lexicon.h"
#include "fuzz.h"

static void look(const fm_lexicon *l, fm_sv word) {
    fm_lexicon_choice c = {0};
    size_t n = fm_lexicon_count(l, word, &c);
    for (size_t i = 0; i < n && i < 64; i++) {
        fm_sv w = fm_lexicon_at(l, word, &c, i);
        if (!w.ptr || w.len == 0 || !fm_utf8_valid(w.ptr, w.len) ||
            (w.len == word.len && memcmp(w.ptr, word.ptr, w.len) == 0)) {
            abort();
        }
    }
    if (fm_lexicon_longest(l, word) > word.len) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_lexicon *l = NULL;
    if (size == 0 || fm_lexicon_new(&l) != FM_OK) {
        return 0;
    }
    const char *text = (const char *)data + 1, *end = (const char *)data + size;
    size_t bad = 0;
    for (int pass = 0; pass < 2; pass++) { /* words are looked up when all are read */
        fm_lexicon_kind kind = (fm_lexicon_kind)(data[0] % 5);
        for (const char *p = text; p < end;) {
            const char *e = memchr(p, '\n', (size_t)(end - p));
            e = e ? e : end;
            fm_sv line = {p, (size_t)(e - p)};
            p = e + 1;
            if (line.len == 5 && memcmp(line.ptr, "INDEX", 5) == 0) {
                kind = FM_LEXICON_INDEX;
            } else if (line.len == 6 && memcmp(line.ptr, "COUNTS", 6) == 0) {
                kind = FM_LEXICON_COUNTS;
            } else if (pass == 0) {
                fm_status s = fm_lexicon_line(l, kind, line);
                bad += s != FM_OK;
            } else {
                size_t n = 0;
                while (n < line.len && line.ptr[n] != ' ' && line.ptr[n] != '\t' && line.ptr[n] != '|') {
                    n++;
                }
                look(l, (fm_sv){line.ptr, n});
            }
        }
        if (pass == 0 && fm_lexicon_finish(l) != FM_OK) {
            abort();
        }
    }
    if (bad > size) {
        abort();
    }
    fm_lexicon_free(l);
    return 0;
}
