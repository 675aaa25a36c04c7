/* Perplexity: every token of a text once, each with as much before it as its window holds. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "eval/likelihood.h"
#include "eval/task.h"

#define GROUP_TOKENS ((size_t)1 << 20) /* ids held at a time */

static double perplexity(const double *s) {
    return s[1] > 0 ? exp(s[0] / s[1]) : (double)NAN;
}
static double bits(const double *s) {
    return s[1] > 0 ? s[0] / s[1] / 0.693147180559945309417 : (double)NAN;
}

static fm_status prepare(fm_eval *e) {
    const fm_eval_config *c = e->cfg;
    for (size_t i = 0; i < e->table.n; i++) {
        const fm_eval_entry *in = &e->table.row[i];
        fm_eval_row *r;
        fm_sv text;
        if (c->text_template) {
            FM_TRY(fm_eval_fill(e, &text, c->text_template, in));
        } else {
            const fm_cell *cell = fm_rec_get(in->rec, c->text_column);
            if (!cell || cell->kind == FM_CELL_NULL) {
                (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: the row has no column \"%s\"", in->file,
                                   (long long)in->rec->line, c->text_column);
                return fm_error_hint("text_column=NAME or text_template='{a} {b}' says where the text is");
            }
            text = cell->text;
        }
        if (text.len == 0) {
            continue; /* nothing to predict */
        }
        FM_TRY(fm_eval_add_row(e, &r));
        r->rec = in->rec;
        r->file = in->file;
        r->subject = in->subject;
        r->question = r->context = text;
    }
    return FM_OK;
}

static fm_status measures(fm_eval *e) {
    static const struct {
        const char *name, *what;
        double (*finish)(const double *);
    } rows[] = {{"perplexity", "exp(nats / tokens)", perplexity},
                {"bits_per_byte", "nats / ln 2 / bytes of UTF-8", bits},
                {"byte_perplexity", "exp(nats / bytes of UTF-8)", perplexity},
                {"word_perplexity", "exp(nats / words), words cut at white space", perplexity}};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_measure m = {.n_stats = 2, .finish = rows[i].finish, .lower_is_better = true};
        snprintf(m.name, sizeof m.name, "%s", rows[i].name);
        if (e->cfg->stride > 0) {
            snprintf(m.definition, sizeof m.definition, "%s; sliding windows, stride %lld", rows[i].what,
                     (long long)e->cfg->stride);
        } else {
            snprintf(m.definition, sizeof m.definition, "%s; disjoint windows, the last one full", rows[i].what);
        }
        int at;
        FM_TRY(fm_eval_measure(e, &m, &at));
    }
    return FM_OK;
}

/* Windows of one text as lm-evaluation-harness makes them (there with one token of context): the first predicts up to
 * `window` tokens after the start token; each next one predicts up to `stride` and reads what fits before them. */
typedef struct windows {
    fm_ll_item *item;
    fm_ll_seq *cont;
    double *logprob;
    size_t *row;
    size_t n, cap_item, cap_cont, cap_logprob, cap_row;
    int32_t *ids; /* start token, then the text, of all texts of the group */
    size_t n_ids, cap_ids;
} windows;

static fm_status add_window(windows *w, size_t row, size_t begin, size_t first, size_t end) {
    FM_TRY(fm_grow((void **)&w->item, &w->cap_item, w->n + 1, sizeof *w->item));
    FM_TRY(fm_grow((void **)&w->cont, &w->cap_cont, w->n + 1, sizeof *w->cont));
    FM_TRY(fm_grow((void **)&w->row, &w->cap_row, w->n + 1, sizeof *w->row));
    FM_TRY(fm_grow((void **)&w->logprob, &w->cap_logprob, w->n + 1, sizeof *w->logprob));
    /* Addresses are put in when the arrays stay where they are; until then places are kept as numbers. */
    w->item[w->n] = (fm_ll_item){.context = NULL, .n_context = (int32_t)(first - begin), .n_cont = 1};
    w->cont[w->n] = (fm_ll_seq){NULL, (int32_t)(end - first)};
    w->row[w->n++] = row;
    return FM_OK;
}

/* ids[at .. at + n) are the start token and the text. */
static fm_status cut(windows *w, size_t row, size_t at, size_t n, size_t window, size_t stride) {
    size_t done = FM_MIN(window + 1, n); /* tokens of ids that are predicted or need no prediction */
    FM_TRY(add_window(w, row, at, at + 1, at + done));
    while (done < n) {
        size_t end = FM_MIN(done + stride, n), begin = end - FM_MIN(window + 1, end);
        FM_TRY(add_window(w, row, at + begin, at + done, at + end));
        done = end;
    }
    return FM_OK;
}

static size_t n_words(fm_sv t) {
    size_t n = 1; /* as re.split(r"\s+", text) counts */
    for (size_t i = 0; i < t.len; i++) {
        bool blank = t.ptr[i] == ' ' || (t.ptr[i] >= '\t' && t.ptr[i] <= '\r');
        bool before = i > 0 && (t.ptr[i - 1] == ' ' || (t.ptr[i - 1] >= '\t' && t.ptr[i - 1] <= '\r'));
        n += blank && !before;
    }
    return n;
}

static fm_status run_group(fm_eval *e, fm_likelihood *l, windows *w, fm_eval_scores *s) {
    size_t at = 0, last = SIZE_MAX;
    for (size_t i = 0; i < w->n; i++) { /* windows are in order; a window's context ends where its text begins */
        fm_ll_item *it = &w->item[i];
        at = w->row[i] != last ? at + 1 : at;
        last = w->row[i];
        it->context = w->ids + at - it->n_context;
        w->cont[i].ids = w->ids + at;
        it->cont = &w->cont[i];
        it->logprob = &w->logprob[i];
        at += (size_t)w->cont[i].n;
    }
    FM_TRY(fm_likelihood_run(l, w->item, w->n, "perplexity"));
    for (size_t i = 0; i < w->n; i++) {
        double *v = s->stats + w->row[i] * (size_t)e->n_stats;
        for (int k = 0; k < e->n_measures; k++) {
            v[2 * k] -= w->logprob[i];
        }
        v[1] += w->cont[i].n;
    }
    w->n = w->n_ids = 0;
    return FM_OK;
}

static fm_status add_text(fm_eval *e, windows *w, const fm_eval_encoder *x, size_t row, size_t window,
                          fm_eval_scores *s) {
    fm_tokens t = {0};
    fm_encode_options o = {.size = sizeof o, .n_threads = 1};
    fm_sv text = e->row[row].context;
    fm_status st = fm_tokenizer_encode(&t, x->tok, text.ptr, text.len, &o);
    size_t n = t.n + (x->start >= 0), at = w->n_ids;
    st = st == FM_OK ? fm_grow((void **)&w->ids, &w->cap_ids, w->n_ids + n + 1, sizeof *w->ids) : st;
    if (st == FM_OK) {
        if (x->start >= 0) {
            w->ids[w->n_ids++] = x->start;
        }
        memcpy(w->ids + w->n_ids, t.ids, t.n * sizeof *t.ids);
        w->n_ids += t.n;
        size_t stride = e->cfg->stride > 0 ? (size_t)e->cfg->stride : window;
        if (n > 1) {
            st = cut(w, row, at, n, window, stride);
        } else {
            w->n_ids = at;
        }
        double *v = s->stats + row * (size_t)e->n_stats;
        v[3] = v[5] = (double)text.len;
        v[7] = (double)n_words(text);
    }
    fm_tokens_free(&t);
    return st;
}

static fm_status score(fm_eval *e, fm_model *m, fm_eval_scores *s) {
    fm_eval_encoder x;
    FM_TRY(fm_eval_encoder_init(&x, m, false));
    int64_t window = e->cfg->window > 0 ? e->cfg->window : x.limit;
    if (window > x.limit || e->cfg->stride > window) {
        FM_FAIL(FM_ERR_CONFIG, "window %lld, stride %lld: expected stride <= window <= %lld, what the model reads",
                (long long)window, (long long)e->cfg->stride, (long long)x.limit);
    }
    if (x.start < 0) {
        fm_warn("the tokenizer has no begin or end token: the first token of each text is not predicted");
    }
    fm_likelihood *l;
    FM_TRY(fm_likelihood_new(&l, m, (int32_t)e->cfg->batch_tokens));
    windows w = {0};
    fm_status st = FM_OK;
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        st = add_text(e, &w, &x, i, (size_t)window, s);
        if (st == FM_OK && (w.n_ids >= GROUP_TOKENS || i + 1 == e->n_rows) && w.n > 0) {
            st = run_group(e, l, &w, s);
        }
    }
    fm_likelihood_counts(l, &s->tokens, &s->saved);
    fm_likelihood_free(l);
    fm_free(w.item);
    fm_free(w.cont);
    fm_free(w.row);
    fm_free(w.logprob);
    fm_free(w.ids);
    return st;
}

const fm_eval_kind fm_eval_kind_ppl = {
    .name = "ppl", .default_metrics = "perplexity", .prepare = prepare, .measures = measures, .score = score};
