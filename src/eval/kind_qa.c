/* Generated answers against references. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "eval/task.h"
#include "text/unicode.h"

#define MAX_REFS 64

/* One figure of this kind; a row adds n numbers. */
typedef enum qa_metric {
    QA_EM,
    QA_F1,
    QA_BLEU,
    QA_ROUGE1,
    QA_ROUGE2,
    QA_ROUGEL,
    QA_STRICT,
    QA_FLEXIBLE,
    QA_N
} qa_metric;
static const char *const metric_names[QA_N] = {
    "em", "f1", "bleu", "rouge1", "rouge2", "rougeL", "exact_match_strict", "exact_match_flexible"};

static fm_status missing(const fm_eval_entry *in, const char *what) {
    (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: the row has no %s", in->file,
                       (long long)in->rec->line, what);
    return fm_error_hint("keys question and answer name the columns");
}

static const fm_cell *cell_of(const fm_rec *r, const char *given, const char *const *names) {
    const fm_cell *c = given ? fm_rec_get(r, given) : NULL;
    for (size_t i = 0; !given && !c && names[i]; i++) {
        c = fm_rec_get(r, names[i]);
    }
    return c && c->kind != FM_CELL_NULL ? c : NULL;
}

/* Alpaca rows have their question in two columns. */
static fm_status read_question(fm_eval *e, fm_sv *out, const fm_eval_entry *in) {
    static const char *const names[] = {"question", "query", "instruction", "prompt", NULL};
    const char *given = fm_eval_pick(e->cfg->question, e->task->question, NULL);
    const fm_cell *q = cell_of(in->rec, given, names), *more = fm_rec_get(in->rec, "input");
    if (!q) {
        return missing(in, "question");
    }
    *out = q->text;
    if (given || !fm_sv_eq(q->name, "instruction") || !more || fm_cell_is_empty(more)) {
        return FM_OK;
    }
    char *p = fm_bump_alloc(&e->arena, q->text.len + more->text.len + 1);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a question");
    }
    memcpy(p, q->text.ptr, q->text.len);
    p[q->text.len] = '\n';
    memcpy(p + q->text.len + 1, more->text.ptr, more->text.len);
    *out = (fm_sv){p, q->text.len + more->text.len + 1};
    return FM_OK;
}

static fm_status read_refs(fm_eval *e, fm_eval_row *r, const fm_eval_entry *in) {
    static const char *const names[] = {"answer", "answers", "output", "target", "response", "completion", NULL};
    const fm_cell *a = cell_of(in->rec, fm_eval_pick(e->cfg->answer, e->task->answer, NULL), names);
    if (!a) {
        return missing(in, "answer");
    }
    fm_json *j = NULL;
    bool list = a->kind == FM_CELL_JSON;
    fm_status s = list ? fm_json_parse(&j, a->text.ptr, a->text.len, in->file) : FM_OK;
    FM_TRY(s);
    size_t n = list ? fm_json_size(j) : 1;
    if (list && (!fm_json_is_array(j) || n == 0 || n > MAX_REFS)) {
        s = missing(in, "answer that is a text or a list of at most 64 texts");
    }
    r->ref = s == FM_OK ? fm_bump_alloc(&e->arena, n * sizeof *r->ref) : NULL;
    if (s == FM_OK && !r->ref) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for answers");
    }
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        size_t len = a->text.len;
        const char *p = list ? fm_json_str(fm_json_at(j, i), &len) : a->text.ptr;
        s = p ? fm_bump_sv(&e->arena, &r->ref[r->n_refs++], p, len) : missing(in, "text in its list of answers");
    }
    fm_json_free(j);
    r->target = s == FM_OK ? r->ref[0] : r->target;
    return s;
}

static fm_status read_text(fm_eval *e, fm_sv *out, fm_sv question, const fm_eval_entry *in) {
    const char *prompt = fm_eval_pick(e->cfg->prompt, e->task->prompt, NULL);
    if (prompt) {
        return fm_eval_fill(e, out, prompt, in);
    }
    if (e->chat) { /* a turn of a chat is a question already */
        *out = question;
        return FM_OK;
    }
    fm_str s = {0};
    fm_str_puts(&s, "Question: ");
    fm_str_append(&s, question.ptr, question.len);
    fm_str_puts(&s, "\nAnswer:");
    fm_status st = fm_str_check(&s);
    st = st == FM_OK ? fm_bump_sv(&e->arena, out, s.data, s.len) : st;
    fm_str_free(&s);
    return st;
}

static fm_status turn(fm_eval *e, fm_eval_turn *out, const fm_eval_entry *in) {
    fm_eval_row r = {0};
    fm_sv q;
    FM_TRY(read_question(e, &q, in));
    FM_TRY(read_refs(e, &r, in));
    out->target = r.target;
    return read_text(e, &out->text, q, in);
}

static fm_status prepare(fm_eval *e) {
    for (size_t i = 0; i < e->table.n; i++) {
        const fm_eval_entry *in = &e->table.row[i];
        fm_eval_row *r;
        fm_sv text;
        FM_TRY(fm_eval_add_row(e, &r));
        r->rec = in->rec;
        r->file = in->file;
        r->subject = in->subject;
        FM_TRY(read_question(e, &r->question, in));
        FM_TRY(read_refs(e, r, in));
        FM_TRY(read_text(e, &text, r->question, in));
        FM_TRY(fm_eval_context(e, &r->context, in, text, turn));
    }
    return FM_OK;
}

/* ---- figures ----------------------------------------------------------------------------------- */

/* True when more of the references' letters are Han than not. */
static bool chinese(const fm_eval *e) {
    int64_t han = 0, other = 0;
    for (size_t i = 0; i < e->n_rows; i++) {
        const uint8_t *p = (const uint8_t *)e->row[i].target.ptr, *end = p + e->row[i].target.len;
        while (p < end) {
            uint32_t cp;
            p += fm_uni_next(&cp, p, end);
            bool is_han = (cp >= 0x3400 && cp <= 0x9fff) || (cp >= 0xf900 && cp <= 0xfaff) || cp >= 0x20000;
            han += is_han;
            other += !is_han && (fm_uni_class(cp) & FM_UNI_L) != 0;
        }
    }
    return 2 * han > other; /* a word of letters is several of them */
}

static fm_score_options score_options(const fm_eval *e, qa_metric k) {
    fm_score_options o = {.size = sizeof o,
                          .cut = (fm_cut)e->cfg->tokenize,
                          .lowercase = e->cfg->lowercase,
                          .normalize = e->cfg->normalize && (k == QA_EM || k == QA_F1)};
    if (o.cut == FM_CUT_DEFAULT && chinese(e)) {
        o.cut = k == QA_BLEU ? FM_CUT_ZH : k == QA_EM ? FM_CUT_NONE : FM_CUT_MIXED;
    } else if (o.cut == FM_CUT_DEFAULT) {
        o.cut = k == QA_BLEU ? FM_CUT_13A : k == QA_EM || k == QA_F1 ? FM_CUT_NONE : FM_CUT_WORD;
    }
    return o;
}

static double bleu_value(const double *s) {
    fm_bleu_counts c;
    memcpy(&c, s, sizeof c);
    return fm_bleu_value(&c, &(fm_score_options){.size = sizeof(fm_score_options)}, NULL, NULL);
}

static fm_status measures(fm_eval *e) {
    fm_sv *want;
    size_t n;
    FM_TRY(fm_eval_pick_list(e, &want, &n, &e->cfg->metrics,
                             e->task->metrics ? e->task->metrics : fm_eval_kind_qa.default_metrics));
    for (int k = 0; k < QA_N; k++) {
        bool on = false;
        for (size_t i = 0; i < n; i++) {
            on = on || fm_sv_eq(want[i], metric_names[k]);
        }
        if (!on) {
            continue;
        }
        fm_measure m = {.n_stats = k == QA_BLEU ? (int)(sizeof(fm_bleu_counts) / sizeof(double)) : 2,
                        .finish = k == QA_BLEU ? bleu_value : NULL};
        fm_score_options o = score_options(e, (qa_metric)k);
        snprintf(m.name, sizeof m.name, "%s", metric_names[k]);
        if (k == QA_STRICT || k == QA_FLEXIBLE) {
            snprintf(m.definition, sizeof m.definition, "GSM8K's exact match behind its %s filter, 0..1",
                     k == QA_STRICT ? "strict-match" : "flexible-extract");
        } else {
            snprintf(m.definition, sizeof m.definition, "%s, tok:%s%s%s, %s",
                     k == QA_BLEU ? "corpus BLEU-4 (sacrebleu, smooth exp)"
                     : k == QA_EM ? "equal to a reference"
                     : k == QA_F1 ? "overlap of tokens with the best reference"
                                  : "F of ROUGE (rouge-score)",
                     fm_cut_name(o.cut), o.lowercase ? ", lower case" : "",
                     o.normalize ? ", SQuAD's normalisation" : "", k == QA_BLEU ? "0..100" : "mean over rows, 0..1");
        }
        if (e->cfg->samples > 0) {
            size_t len = strlen(m.definition);
            snprintf(m.definition + len, sizeof m.definition - len, ", consensus of %lld answers",
                     (long long)e->cfg->samples + 1);
        }
        int at;
        FM_TRY(fm_eval_measure(e, &m, &at));
    }
    return FM_OK;
}

static int metric_of(const fm_measure *m) {
    int k = 0;
    while (k < QA_N && strcmp(m->name, metric_names[k]) != 0) {
        k++;
    }
    return k;
}

static fm_status by_score(double *v, qa_metric k, const fm_score_rows *rows, const fm_score_options *o) {
    fm_score sc;
    if (k == QA_BLEU) {
        fm_bleu_counts c;
        FM_TRY(fm_bleu_count(&c, rows, o));
        memcpy(v, &c, sizeof c);
        return FM_OK;
    }
    FM_TRY(fm_score_run(&sc, k == QA_EM ? "em" : k == QA_F1 ? "f1" : "rouge", rows, o));
    v[0] = k == QA_EM || k == QA_F1 ? sc.value : fm_score_get(&sc, metric_names[k]);
    v[1] = 1;
    fm_score_deinit(&sc);
    return FM_OK;
}

static fm_status by_filter(fm_eval_scores *s, double *v, qa_metric k, const fm_eval_row *r, fm_sv text) {
    const fm_eval_filter *f;
    fm_sv said, ref;
    FM_TRY(fm_eval_filter_find(&f, fm_sv_of(k == QA_STRICT ? "strict" : "flexible")));
    FM_TRY(fm_eval_gsm8k_clean(&s->arena, &said, f->apply(text)));
    FM_TRY(fm_eval_gsm8k_clean(&s->arena, &ref, r->target));
    v[0] = said.len == ref.len && memcmp(said.ptr, ref.ptr, ref.len) == 0;
    v[1] = 1;
    return FM_OK;
}

static fm_status judge(fm_eval *e, const fm_score_options *opt, fm_eval_scores *s, size_t i, fm_sv text) {
    const fm_eval_row *r = &e->row[i];
    fm_text hyp = {text.ptr, text.len}, ref[MAX_REFS];
    double *v = s->stats + i * (size_t)e->n_stats;
    for (int32_t k = 0; k < r->n_refs; k++) {
        ref[k] = (fm_text){r->ref[k].ptr, r->ref[k].len};
    }
    fm_score_rows rows = {.n = 1, .n_refs = (size_t)r->n_refs, .hyp = &hyp, .ref = ref};
    for (int j = 0; j < e->n_measures; j++) {
        qa_metric k = (qa_metric)metric_of(&e->measure[j]);
        if (k == QA_STRICT || k == QA_FLEXIBLE) {
            FM_TRY(by_filter(s, v, k, r, s->output[i]));
        } else {
            FM_TRY(by_score(v, k, &rows, &opt[k]));
        }
        if (j == 0) {
            s->rank[i] = fm_measure_value(&e->measure[0], v);
        }
        v += e->measure[j].n_stats;
    }
    return FM_OK;
}

/* ---- running ----------------------------------------------------------------------------------- */

static fm_status encode(const fm_eval *e, const fm_eval_encoder *x, fm_tokens *ids, fm_eval_request *req, size_t *at,
                        int64_t max_new, fm_eval_scores *s) {
    fm_encode_options o = {.size = sizeof o, .allow_special = true, .n_threads = 1};
    for (size_t i = 0; i < e->n_rows; i++) {
        at[i] = ids->n;
        FM_TRY(fm_grow((void **)&ids->ids, &ids->cap, ids->n + FM_ARRAY_LEN(x->prefix) + 1, sizeof *ids->ids));
        for (int32_t k = 0; k < x->n_prefix; k++) {
            ids->ids[ids->n++] = x->prefix[k];
        }
        FM_TRY(fm_tokenizer_encode(ids, x->tok, e->row[i].context.ptr, e->row[i].context.len, &o));
        int64_t n = (int64_t)(ids->n - at[i]), room = x->limit - max_new;
        if (room < 1) {
            FM_FAIL(FM_ERR_CONFIG, "max_new_tokens %lld: the model reads %lld tokens in all", (long long)max_new,
                    (long long)x->limit);
        }
        if (n == 0) {
            FM_FAIL(FM_ERR_DATA, "%s:%lld: the prompt has no tokens", e->row[i].file, (long long)e->row[i].rec->line);
        }
        if (n > room) { /* from the left, as lm-evaluation-harness does */
            at[i] += (size_t)(n - room);
            n = room;
            s->n_truncated++;
        }
        req[i].n_ids = (int32_t)n;
    }
    for (size_t i = 0; i < e->n_rows; i++) {
        req[i].ids = ids->ids + at[i];
    }
    return FM_OK;
}

static fm_sv strip(fm_sv t) {
    const fm_eval_filter *f;
    return fm_eval_filter_find(&f, fm_sv_of("strip")) == FM_OK ? f->apply(t) : t;
}

static fm_status score(fm_eval *e, fm_model *m, fm_eval_scores *s) {
    fm_eval_encoder x;
    fm_eval_generation o = {.max_new_tokens = e->cfg->max_new_tokens > 0    ? e->cfg->max_new_tokens
                                              : e->task->max_new_tokens > 0 ? e->task->max_new_tokens
                                                                            : 256,
                            .samples = e->cfg->samples,
                            .temperature = e->cfg->temperature,
                            .repetition_penalty = e->cfg->repetition_penalty,
                            .seed = (uint64_t)e->cfg->seed};
    const fm_eval_filter *filter;
    fm_sv *stop;
    FM_TRY(fm_eval_encoder_init(&x, m, e->chat != NULL));
    FM_TRY(fm_eval_pick_list(e, &stop, &o.n_stop, &e->cfg->stop, e->task->stop));
    FM_TRY(fm_eval_filter_find(&filter, fm_sv_of(fm_eval_pick(e->cfg->filter, e->task->filter, "strip"))));
    o.stop = stop;
    fm_tokens ids = {0};
    fm_eval_request *req = fm_calloc(e->n_rows, sizeof *req);
    size_t *at = fm_calloc(e->n_rows, sizeof *at);
    fm_score_options opt[QA_N];
    for (int k = 0; k < QA_N; k++) {
        opt[k] = score_options(e, (qa_metric)k);
    }
    o.cut = opt[QA_BLEU].cut;
    fm_status st = req && at ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for prompts");
    st = st == FM_OK ? encode(e, &x, &ids, req, at, o.max_new_tokens, s) : st;
    st = st == FM_OK ? fm_eval_generate(m, req, e->n_rows, &o, s) : st;
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        st = judge(e, opt, s, i, strip(filter->apply(s->output[i])));
    }
    if (st == FM_OK && s->n_truncated > 0) {
        fm_warn("%lld of %zu prompts were longer than the model reads (%lld tokens less %lld new ones) and lost their "
                "beginning",
                (long long)s->n_truncated, e->n_rows, (long long)x.limit, (long long)o.max_new_tokens);
    }
    fm_tokens_free(&ids);
    fm_free(req);
    fm_free(at);
    return st;
}

const fm_eval_kind fm_eval_kind_qa = {
    .name = "qa", .default_metrics = "em,f1,bleu,rougeL", .prepare = prepare, .measures = measures, .score = score};
