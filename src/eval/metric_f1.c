/* Token F1 of short answers (Rajpurkar et al. 2016): the best reference of each row, mean over rows. Two empty answers
 * agree. */
#include "eval/answer.h"

typedef struct f1_state {
    fm_cut_text hyp, ref;
    fm_str work;
    fm_interner names;
    uint32_t *ids_h, *ids_r;
    size_t cap_h, cap_r, cap_gh, cap_gr;
    fm_ngram *gh, *gr;
} f1_state;

static fm_status one(f1_state *f, fm_text hyp, fm_text ref, const fm_score_options *o, double *out) {
    size_t n_h, n_r;
    FM_TRY(fm_answer_cut(&f->hyp, &f->work, hyp, o));
    FM_TRY(fm_answer_cut(&f->ref, &f->work, ref, o));
    fm_interner_clear(&f->names);
    FM_TRY(fm_interner_ids(&f->names, &f->hyp, &f->ids_h, &f->cap_h));
    FM_TRY(fm_interner_ids(&f->names, &f->ref, &f->ids_r, &f->cap_r));
    FM_TRY(fm_ngrams(&f->gh, &f->cap_gh, &n_h, f->ids_h, f->hyp.n, 1));
    FM_TRY(fm_ngrams(&f->gr, &f->cap_gr, &n_r, f->ids_r, f->ref.n, 1));
    double common = (double)fm_ngrams_common(f->gh, n_h, f->gr, n_r);
    if (f->hyp.n == 0 || f->ref.n == 0) {
        *out = f->hyp.n == f->ref.n;
    } else {
        *out = 2 * common / (double)(f->hyp.n + f->ref.n);
    }
    return FM_OK;
}

fm_status fm_metric_f1(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    f1_state f = {0};
    fm_status s = FM_OK;
    double sum = 0;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        double best = 0, v = 0;
        for (size_t r = 0; r < rows->n_refs && s == FM_OK; r++) {
            s = one(&f, rows->hyp[i], rows->ref[r * rows->n + i], o, &v);
            best = FM_MAX(best, v);
        }
        sum += best;
    }
    fm_cut_text_deinit(&f.hyp);
    fm_cut_text_deinit(&f.ref);
    fm_str_free(&f.work);
    fm_interner_deinit(&f.names);
    fm_free(f.ids_h);
    fm_free(f.ids_r);
    fm_free(f.gh);
    fm_free(f.gr);
    FM_TRY(s);
    out->value = sum / (double)rows->n;
    snprintf(out->signature, sizeof out->signature, "f1|nrefs:%zu|case:%s|norm:%s|tok:%s|version:fathom-%s",
             rows->n_refs, o->lowercase || o->normalize ? "lc" : "mixed", o->normalize ? "squad" : "none",
             fm_cut_name(o->cut == FM_CUT_DEFAULT ? FM_CUT_NONE : o->cut), FATHOM_VERSION);
    return FM_OK;
}
