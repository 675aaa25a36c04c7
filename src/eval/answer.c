/* Short answers. */
#include "eval/answer.h"

#include <string.h>

#include "text/unicode.h"

static bool is_article(fm_sv t) {
    return fm_sv_eq(t, "a") || fm_sv_eq(t, "an") || fm_sv_eq(t, "the");
}

fm_status fm_answer_cut(fm_cut_text *c, fm_str *work, fm_text text, const fm_score_options *o) {
    if (!o->normalize) {
        return fm_cut_run(c, text, o->cut, o->lowercase);
    }
    const uint8_t *p = (const uint8_t *)text.ptr, *end = p + text.len;
    fm_str_clear(work);
    while (p < end) {
        uint32_t cp;
        const uint8_t *at = p;
        p += fm_uni_next(&cp, p, end);
        /* Python's string.punctuation: ASCII symbols count too. */
        if ((fm_uni_class(cp) & FM_UNI_P) == 0 && !(cp < 128 && (fm_uni_class(cp) & FM_UNI_S))) {
            fm_str_append(work, (const char *)at, (size_t)(p - at));
        }
    }
    FM_TRY(fm_str_check(work));
    FM_TRY(fm_cut_run(c, (fm_text){work->data ? work->data : "", work->len}, o->cut, true));
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (!is_article(c->token[i])) {
            c->token[n++] = c->token[i];
        }
    }
    c->n = n;
    return FM_OK;
}
