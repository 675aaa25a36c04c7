/* Corpus BLEU-4 (Papineni et al. 2002) with the definitions of sacrebleu 2 (Post 2018). */
#include <math.h>
#include <string.h>

#include "eval/metric.h"

#define ORDER FM_BLEU_ORDER

typedef struct bleu {
    fm_bleu_counts sum;
    fm_cut_text hyp, *ref; /* ref [n_refs] */
    size_t n_refs;
    fm_interner names;
    uint32_t *ids, *ref_ids;
    size_t cap_ids, cap_ref_ids;
    fm_ngram *best, *one, *mine; /* of all references, of one, of the hypothesis */
    size_t cap_best, cap_one, cap_mine;
} bleu;

static void bleu_deinit(bleu *b) {
    fm_cut_text_deinit(&b->hyp);
    for (size_t r = 0; b->ref && r < b->n_refs; r++) {
        fm_cut_text_deinit(&b->ref[r]);
    }
    fm_free(b->ref);
    fm_interner_deinit(&b->names);
    fm_free(b->ids);
    fm_free(b->ref_ids);
    fm_free(b->best);
    fm_free(b->one);
    fm_free(b->mine);
}

/* best = for each n-gram the larger count; both sorted. Room for n_best + n_one is there. */
static size_t merge_max(fm_ngram *best, size_t n_best, const fm_ngram *one, size_t n_one) {
    size_t missing = 0;
    for (size_t i = 0, j = 0; j < n_one;) {
        int c = i < n_best ? fm_ngram_order(&best[i], &one[j]) : 1;
        if (c == 0) {
            best[i].count = FM_MAX(best[i].count, one[j].count);
        }
        missing += c > 0;
        i += c <= 0;
        j += c >= 0;
    }
    /* From the back, so that nothing is overwritten before it moved. */
    size_t to = n_best + missing, i = n_best, j = n_one;
    while (j > 0) {
        int c = i > 0 ? fm_ngram_order(&best[i - 1], &one[j - 1]) : -1;
        if (c == 0) {
            best[--to] = best[--i];
            j--;
        } else if (c > 0) {
            best[--to] = best[--i];
        } else {
            best[--to] = one[--j];
        }
    }
    return n_best + missing;
}

static fm_status order_counts(bleu *b, int order, size_t n_hyp) {
    size_t n_best = 0, n_one, n_mine;
    for (size_t r = 0; r < b->n_refs; r++) {
        FM_TRY(fm_interner_ids(&b->names, &b->ref[r], &b->ref_ids, &b->cap_ref_ids));
        FM_TRY(fm_ngrams(&b->one, &b->cap_one, &n_one, b->ref_ids, b->ref[r].n, order));
        FM_TRY(fm_grow((void **)&b->best, &b->cap_best, n_best + n_one + 1, sizeof *b->best));
        n_best = merge_max(b->best, n_best, b->one, n_one);
    }
    FM_TRY(fm_ngrams(&b->mine, &b->cap_mine, &n_mine, b->ids, n_hyp, order));
    b->sum.match[order - 1] += (double)fm_ngrams_common(b->mine, n_mine, b->best, n_best);
    b->sum.total[order - 1] += n_hyp >= (size_t)order ? (double)(n_hyp - (size_t)order + 1) : 0;
    return FM_OK;
}

static fm_status add_row(bleu *b, const fm_score_rows *rows, size_t i, fm_cut cut, bool lowercase) {
    size_t closest = 0;
    FM_TRY(fm_cut_run(&b->hyp, rows->hyp[i], cut, lowercase));
    for (size_t r = 0; r < b->n_refs; r++) {
        FM_TRY(fm_cut_run(&b->ref[r], rows->ref[r * rows->n + i], cut, lowercase));
        size_t len = b->ref[r].n, h = b->hyp.n;
        size_t d = len > h ? len - h : h - len, best = closest > h ? closest - h : h - closest;
        if (r == 0 || d < best || (d == best && len < closest)) {
            closest = len;
        }
    }
    b->sum.hyp_len += (double)b->hyp.n;
    b->sum.ref_len += (double)closest;
    fm_interner_clear(&b->names);
    FM_TRY(fm_interner_ids(&b->names, &b->hyp, &b->ids, &b->cap_ids));
    for (int order = 1; order <= ORDER; order++) {
        FM_TRY(order_counts(b, order, b->hyp.n));
    }
    return FM_OK;
}

fm_status fm_bleu_count(fm_bleu_counts *out, const fm_score_rows *rows, const fm_score_options *o) {
    fm_cut cut = o->cut == FM_CUT_DEFAULT ? FM_CUT_13A : o->cut;
    bleu b = {.n_refs = rows->n_refs};
    fm_status s = FM_OK;
    b.ref = fm_calloc(b.n_refs, sizeof *b.ref);
    if (!b.ref) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu references", b.n_refs);
    }
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        s = add_row(&b, rows, i, cut, o->lowercase);
    }
    *out = b.sum;
    bleu_deinit(&b);
    return s;
}

double fm_bleu_value(const fm_bleu_counts *b, const fm_score_options *o, double *precision, double *bp) {
    double mine[ORDER] = {0}, smooth = 1, sum = 0, penalty = 1;
    double value = o->smooth_value > 0 ? o->smooth_value : o->smooth == FM_SMOOTH_FLOOR ? 0.1 : 1;
    int used = ORDER;
    bool any = false;
    precision = precision ? precision : mine;
    memset(precision, 0, sizeof mine);
    if (b->hyp_len < b->ref_len) {
        penalty = b->hyp_len > 0 ? exp(1 - b->ref_len / b->hyp_len) : 0;
    }
    for (int n = 0; n < ORDER; n++) {
        any = any || b->match[n] > 0;
    }
    for (int n = 0; any && n < ORDER; n++) {
        double match = b->match[n], total = b->total[n];
        if (o->smooth == FM_SMOOTH_ADD_K && n > 0) {
            match += value;
            total += value;
        }
        if (total == 0) {
            break;
        }
        if (o->effective_order) {
            used = n + 1;
        }
        if (match > 0) {
            precision[n] = 100 * match / total;
        } else if (o->smooth == FM_SMOOTH_EXP) {
            smooth *= 2;
            precision[n] = 100 / (smooth * total);
        } else if (o->smooth == FM_SMOOTH_FLOOR) {
            precision[n] = 100 * value / total;
        }
    }
    for (int n = 0; n < used; n++) {
        sum += precision[n] > 0 ? log(precision[n]) : -9999999999.0;
    }
    if (bp) {
        *bp = penalty;
    }
    return any ? penalty * exp(sum / used) : 0;
}

static fm_status finish(const fm_bleu_counts *b, fm_score *out, const fm_score_options *o) {
    double precision[ORDER], bp;
    out->value = fm_bleu_value(b, o, precision, &bp);
    for (int n = 0; n < ORDER; n++) {
        char name[32];
        snprintf(name, sizeof name, "precision_%d", n + 1);
        FM_TRY(fm_score_add(out, name, precision[n]));
    }
    FM_TRY(fm_score_add(out, "brevity_penalty", bp));
    FM_TRY(fm_score_add(out, "hyp_len", b->hyp_len));
    return fm_score_add(out, "ref_len", b->ref_len);
}

fm_status fm_metric_bleu(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    static const char *const smooths[] = {"exp", "floor", "add-k", "none"};
    fm_cut cut = o->cut == FM_CUT_DEFAULT ? FM_CUT_13A : o->cut;
    fm_bleu_counts b;
    FM_TRY(fm_bleu_count(&b, rows, o));
    FM_TRY(finish(&b, out, o));
    snprintf(out->signature, sizeof out->signature, "nrefs:%zu|case:%s|eff:%s|tok:%s|smooth:%s|version:fathom-%s",
             rows->n_refs, o->lowercase ? "lc" : "mixed", o->effective_order ? "yes" : "no", fm_cut_name(cut),
             smooths[o->smooth], FATHOM_VERSION);
    return FM_OK;
}
