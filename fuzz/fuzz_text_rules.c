/* Any text: normal forms stay UTF-8, words are pieces of the text in order and cover all that is no blank, finds of
 * personal data lie inside the text in order, quality rules and shingles come to an end. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "data/minhash.h"
#include "data/pii.h"
#include "data/quality.h"
#include "data/textnorm.h"
#include "fuzz.h"

static void need(bool holds) {
    if (!holds) {
        abort();
    }
}

static void check_words(const fm_words *w, fm_sv text) {
    static fm_word_list l;
    size_t at = 0;
    if (fm_words_split(w, &l, text) != FM_OK) {
        return;
    }
    for (size_t i = 0; i < l.n; i++) {
        const fm_word *v = &l.item[i];
        need(v->len > 0 && v->at >= at && v->at + v->len <= text.len);
        for (size_t k = at; k < v->at; k++) {
            need(text.ptr[k] == ' ');
        }
        at = v->at + v->len;
    }
    for (size_t k = at; k < text.len; k++) {
        need(text.ptr[k] == ' ');
    }
    need(fm_words_sentences(&l, text) >= 1);
}

static void check_finds(fm_sv text, bool escaped) {
    static fm_pii_spans s;
    size_t at = 0;
    if (fm_pii_find(&s, text, ~0u, NULL, escaped) != FM_OK) {
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        need(s.item[i].len > 0 && s.item[i].at >= at && s.item[i].at + s.item[i].len <= text.len);
        at = s.item[i].at + s.item[i].len;
        need(fm_utf8_valid(text.ptr + s.item[i].at, s.item[i].len));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fm_words *w;
    static fm_minhash *m;
    static fm_minhash_room room;
    static fm_quality q;
    static fm_str normal;
    const fm_minhash_params p = {
        .unit = FM_SHINGLE_AUTO, .n = 3, .bands = 3, .rows = 3, .seed = 1, .short_whole = true};
    if ((!w && fm_words_new(&w) != FM_OK) || (!m && fm_minhash_new(&m, &p) != FM_OK)) {
        return 0;
    }
    char *copy = fm_malloc(size); /* its end is watched by the sanitizer */
    fm_sv text = {copy, size};
    if (!copy) {
        return 0;
    }
    if (size) {
        memcpy(copy, data, size);
    }
    if (fm_utf8_valid(copy, size)) {
        for (unsigned how = 0; how <= FM_NORM_DATATROVE; how++) {
            if (fm_textnorm(&normal, text, how) == FM_OK) {
                need(fm_utf8_valid(normal.data, normal.len));
            }
        }
        check_words(w, text);
        check_finds(text, false);
        check_finds(text, true);
        uint64_t signature[9];
        if (fm_minhash_shingles(m, &room, text) == FM_OK && room.n_shingles) {
            fm_minhash_signature(m, room.shingle, room.n_shingles, signature);
        }
        static const fm_quality_rule rule[] = {fm_quality_gopher_repetition, fm_quality_gopher, fm_quality_c4,
                                               fm_quality_fineweb};
        for (int zh = 0; zh < 2; zh++) {
            const char *reason = NULL;
            if (fm_quality_begin(&q, w, text, zh, zh ? &fm_quality_chinese : &fm_quality_english) == FM_OK) {
                for (size_t i = 0; i < 4; i++) {
                    (void)!rule[i](&q, &reason);
                }
            }
        }
    }
    fm_free(copy);
    return 0;
}
