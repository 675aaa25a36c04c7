/* Exact match: share of rows that equal one of their references. White space at the borders and its amount inside do
 * not count. */
#include <string.h>

#include "eval/answer.h"

static bool same(const fm_cut_text *a, const fm_cut_text *b) {
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->token[i].len != b->token[i].len || memcmp(a->token[i].ptr, b->token[i].ptr, a->token[i].len) != 0) {
            return false;
        }
    }
    return true;
}

fm_status fm_metric_em(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    fm_cut_text hyp = {0}, ref = {0};
    fm_str work = {0};
    fm_status s = FM_OK;
    size_t hits = 0;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        bool hit = false;
        s = fm_answer_cut(&hyp, &work, rows->hyp[i], o);
        for (size_t r = 0; r < rows->n_refs && s == FM_OK && !hit; r++) {
            s = fm_answer_cut(&ref, &work, rows->ref[r * rows->n + i], o);
            hit = s == FM_OK && same(&hyp, &ref);
        }
        hits += hit;
    }
    fm_cut_text_deinit(&hyp);
    fm_cut_text_deinit(&ref);
    fm_str_free(&work);
    FM_TRY(s);
    out->value = (double)hits / (double)rows->n;
    snprintf(out->signature, sizeof out->signature, "em|nrefs:%zu|case:%s|norm:%s|tok:%s|version:fathom-%s",
             rows->n_refs, o->lowercase || o->normalize ? "lc" : "mixed", o->normalize ? "squad" : "none",
             fm_cut_name(o->cut == FM_CUT_DEFAULT ? FM_CUT_NONE : o->cut), FATHOM_VERSION);
    return fm_score_add(out, "matches", (double)hits);
}
