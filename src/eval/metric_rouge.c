/* ROUGE (Lin 2004) with the definitions of rouge-score 0.1 without stemming. The best reference of a row (by the F of
 * each kind) counts. */
#include <string.h>

#include "data/lcs.h"
#include "eval/metric.h"

typedef struct prf {
    double p, r, f;
} prf;

enum { ROUGE_1, ROUGE_2, ROUGE_L, ROUGE_LSUM, ROUGE_KINDS };

typedef struct ids {
    uint32_t *id;
    size_t n, cap;
} ids;

typedef struct rouge {
    fm_cut cut;
    bool lowercase;
    fm_interner names;
    fm_cut_text hyp, ref;
    ids h, r;
    fm_ngram *gh, *gr;
    size_t cap_gh, cap_gr;
    uint32_t *table; /* of the longest common subsequence */
    size_t cap_table;
    /* Lsum: sentences */
    fm_cut_text *text;
    size_t n_text, cap_text;
    ids *sentence;
    size_t cap_sentence;
    uint8_t *hit;
    size_t cap_hit;
    uint32_t *left_h, *left_r; /* tokens not yet matched, by number */
    size_t cap_left_h, cap_left_r;
} rouge;

static void rouge_deinit(rouge *g) {
    fm_interner_deinit(&g->names);
    fm_cut_text_deinit(&g->hyp);
    fm_cut_text_deinit(&g->ref);
    fm_free(g->h.id);
    fm_free(g->r.id);
    fm_free(g->gh);
    fm_free(g->gr);
    fm_free(g->table);
    for (size_t i = 0; i < g->cap_text; i++) {
        fm_cut_text_deinit(&g->text[i]);
    }
    for (size_t i = 0; i < g->cap_sentence; i++) {
        fm_free(g->sentence[i].id);
    }
    fm_free(g->text);
    fm_free(g->sentence);
    fm_free(g->hit);
    fm_free(g->left_h);
    fm_free(g->left_r);
}

static prf score(double hits, double n_hyp, double n_ref) {
    prf s = {n_hyp > 0 ? hits / n_hyp : 0, n_ref > 0 ? hits / n_ref : 0, 0};
    s.f = s.p + s.r > 0 ? 2 * s.p * s.r / (s.p + s.r) : 0;
    return s;
}

static fm_status ngram_score(rouge *g, int order, prf *out) {
    size_t n_h, n_r, short_by = (size_t)order - 1;
    FM_TRY(fm_ngrams(&g->gh, &g->cap_gh, &n_h, g->h.id, g->h.n, order));
    FM_TRY(fm_ngrams(&g->gr, &g->cap_gr, &n_r, g->r.id, g->r.n, order));
    uint64_t hits = fm_ngrams_common(g->gh, n_h, g->gr, n_r);
    *out = score((double)hits, g->h.n > short_by ? (double)(g->h.n - short_by) : 0,
                 g->r.n > short_by ? (double)(g->r.n - short_by) : 0);
    return FM_OK;
}

#define MAX_TABLE ((size_t)1 << 28)

/* Marks in hit[r->n] the reference tokens of one longest common subsequence (ties as rouge-score walks back). */
static fm_status lcs_mark(rouge *g, const ids *r, const ids *h) {
    size_t w = h->n + 1, rows;
    if (__builtin_mul_overflow(r->n + 1, w, &rows) || rows > MAX_TABLE) {
        FM_FAIL(FM_ERR_ARGUMENT, "rougeLsum: lines of %zu and %zu tokens are too long to compare", r->n, h->n);
    }
    FM_TRY(fm_grow((void **)&g->table, &g->cap_table, rows, sizeof *g->table));
    uint32_t *t = g->table;
    memset(t, 0, w * sizeof *t);
    for (size_t i = 1; i <= r->n; i++) {
        t[i * w] = 0;
        for (size_t j = 1; j <= h->n; j++) {
            t[i * w + j] = r->id[i - 1] == h->id[j - 1] ? t[(i - 1) * w + j - 1] + 1
                                                        : FM_MAX(t[(i - 1) * w + j], t[i * w + j - 1]);
        }
    }
    for (size_t i = r->n, j = h->n; i > 0 && j > 0;) {
        if (r->id[i - 1] == h->id[j - 1]) {
            g->hit[--i] = 1;
            j--;
        } else if (t[i * w + j - 1] > t[(i - 1) * w + j]) {
            j--;
        } else {
            i--;
        }
    }
    return FM_OK;
}

/* Lines of a text that are not empty, cut and numbered, from sentence `at`. */
static fm_status sentences(rouge *g, fm_text text, size_t at, size_t *n, size_t *n_tokens) {
    const char *p = text.ptr, *end = text.ptr + text.len;
    *n = 0;
    *n_tokens = 0;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl ? (size_t)(nl - p) : (size_t)(end - p), k = at + *n;
        if (len > 0) {
            size_t old = g->cap_text, old_s = g->cap_sentence;
            FM_TRY(fm_grow((void **)&g->text, &g->cap_text, k + 1, sizeof *g->text));
            memset(g->text + old, 0, (g->cap_text - old) * sizeof *g->text);
            FM_TRY(fm_grow((void **)&g->sentence, &g->cap_sentence, k + 1, sizeof *g->sentence));
            memset(g->sentence + old_s, 0, (g->cap_sentence - old_s) * sizeof *g->sentence);
            FM_TRY(fm_cut_run(&g->text[k], (fm_text){p, len}, g->cut, g->lowercase));
            FM_TRY(fm_interner_ids(&g->names, &g->text[k], &g->sentence[k].id, &g->sentence[k].cap));
            g->sentence[k].n = g->text[k].n;
            *n_tokens += g->text[k].n;
            ++*n;
        }
        p += len + 1;
    }
    return FM_OK;
}

static fm_status count_tokens(uint32_t **left, size_t *cap, const rouge *g, size_t from, size_t n) {
    FM_TRY(fm_grow((void **)left, cap, g->names.n + 1, sizeof **left));
    memset(*left, 0, (g->names.n + 1) * sizeof **left);
    for (size_t s = from; s < from + n; s++) {
        for (size_t i = 0; i < g->sentence[s].n; i++) {
            (*left)[g->sentence[s].id[i]]++;
        }
    }
    return FM_OK;
}

/* Union over the hypothesis' lines of each reference line's common subsequences; a token counts as often as both texts
 * have it. */
static fm_status lsum_score(rouge *g, fm_text hyp, fm_text ref, prf *out) {
    size_t n_r, n_h, tokens_r, tokens_h, hits = 0;
    fm_interner_clear(&g->names);
    FM_TRY(sentences(g, ref, 0, &n_r, &tokens_r));
    FM_TRY(sentences(g, hyp, n_r, &n_h, &tokens_h));
    FM_TRY(count_tokens(&g->left_r, &g->cap_left_r, g, 0, n_r));
    FM_TRY(count_tokens(&g->left_h, &g->cap_left_h, g, n_r, n_h));
    for (size_t r = 0; r < n_r; r++) {
        const ids *s = &g->sentence[r];
        FM_TRY(fm_grow((void **)&g->hit, &g->cap_hit, s->n + 1, 1));
        memset(g->hit, 0, s->n);
        for (size_t h = n_r; h < n_r + n_h; h++) {
            FM_TRY(lcs_mark(g, s, &g->sentence[h]));
        }
        for (size_t i = 0; i < s->n; i++) {
            if (g->hit[i] && g->left_h[s->id[i]] > 0 && g->left_r[s->id[i]] > 0) {
                hits++;
                g->left_h[s->id[i]]--;
                g->left_r[s->id[i]]--;
            }
        }
    }
    *out = score((double)hits, (double)tokens_h, (double)tokens_r);
    return FM_OK;
}

static fm_status row_scores(rouge *g, fm_text hyp, fm_text ref, prf out[ROUGE_KINDS]) {
    fm_interner_clear(&g->names);
    FM_TRY(fm_cut_run(&g->hyp, hyp, g->cut, g->lowercase));
    FM_TRY(fm_cut_run(&g->ref, ref, g->cut, g->lowercase));
    FM_TRY(fm_interner_ids(&g->names, &g->hyp, &g->h.id, &g->h.cap));
    FM_TRY(fm_interner_ids(&g->names, &g->ref, &g->r.id, &g->r.cap));
    g->h.n = g->hyp.n;
    g->r.n = g->ref.n;
    FM_TRY(ngram_score(g, 1, &out[ROUGE_1]));
    FM_TRY(ngram_score(g, 2, &out[ROUGE_2]));
    size_t common = 0;
    FM_TRY(fm_lcs_length(&common, g->r.id, g->r.n, g->h.id, g->h.n, &g->table, &g->cap_table));
    out[ROUGE_L] = score((double)common, (double)g->h.n, (double)g->r.n);
    return lsum_score(g, hyp, ref, &out[ROUGE_LSUM]);
}

fm_status fm_metric_rouge(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    static const char *const kind[ROUGE_KINDS] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};
    rouge g = {.cut = o->cut == FM_CUT_DEFAULT ? FM_CUT_WORD : o->cut, .lowercase = o->lowercase};
    prf sum[ROUGE_KINDS] = {{0}};
    fm_status s = FM_OK;
    for (size_t i = 0; i < rows->n && s == FM_OK; i++) {
        prf best[ROUGE_KINDS] = {{0}}, one[ROUGE_KINDS];
        for (size_t r = 0; r < rows->n_refs && s == FM_OK; r++) {
            s = row_scores(&g, rows->hyp[i], rows->ref[r * rows->n + i], one);
            for (int k = 0; k < ROUGE_KINDS && s == FM_OK; k++) {
                best[k] = r == 0 || one[k].f > best[k].f ? one[k] : best[k];
            }
        }
        for (int k = 0; k < ROUGE_KINDS; k++) {
            sum[k].p += best[k].p;
            sum[k].r += best[k].r;
            sum[k].f += best[k].f;
        }
    }
    rouge_deinit(&g);
    FM_TRY(s);
    double n = (double)rows->n;
    for (int k = 0; k < ROUGE_KINDS; k++) {
        char name[32];
        FM_TRY(fm_score_add(out, kind[k], sum[k].f / n));
        snprintf(name, sizeof name, "%s_precision", kind[k]);
        FM_TRY(fm_score_add(out, name, sum[k].p / n));
        snprintf(name, sizeof name, "%s_recall", kind[k]);
        FM_TRY(fm_score_add(out, name, sum[k].r / n));
    }
    out->value = sum[ROUGE_L].f / n;
    snprintf(out->signature, sizeof out->signature, "rougeL|nrefs:%zu|case:%s|tok:%s|stem:no|version:fathom-%s",
             rows->n_refs, o->lowercase ? "lc" : "mixed", fm_cut_name(g.cut), FATHOM_VERSION);
    return FM_OK;
}
