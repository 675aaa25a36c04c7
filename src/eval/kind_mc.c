/* Multiple choice: the continuation with the largest likelihood, as lm-evaluation-harness scores it. */
#include <string.h>

#include "base/log.h"
#include "eval/likelihood.h"
#include "eval/task.h"

#define MAX_CHOICES 26

static fm_status at_row(const fm_eval_entry *in, const char *what, const char *hint) {
    (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: %s", in->file, (long long)in->rec->line, what);
    return fm_error_hint("%s", hint);
}

static fm_cell *first_of(const fm_rec *r, const char *given, const char *of_task, const char *const *names) {
    const char *name = fm_eval_pick(given, of_task, NULL);
    fm_cell *c = name ? fm_rec_get(r, name) : NULL;
    for (size_t i = 0; !name && !c && names[i]; i++) {
        c = fm_rec_get(r, names[i]);
    }
    return c && c->kind != FM_CELL_NULL ? c : NULL;
}

static fm_cell *question_cell(fm_eval *e, const fm_rec *r) {
    static const char *const names[] = {"question", "query", "instruction", "prompt", "input", NULL};
    return first_of(r, e->cfg->question, e->task->question, names);
}

/* A JSON list of texts, or an object with one under "text" (as in ARC). */
static fm_status list_choices(fm_eval *e, const fm_eval_entry *in, const fm_cell *c, fm_sv *out, int32_t *n) {
    fm_json *j;
    fm_status s = fm_json_parse(&j, c->text.ptr, c->text.len, in->file);
    FM_TRY(s);
    const fm_json *list = fm_json_is_object(j) ? fm_json_get(j, "text") : j;
    if (!fm_json_is_array(list) || fm_json_size(list) > MAX_CHOICES) {
        s = at_row(in, "the choices are no list of at most 26", "a list of texts, or columns named A, B, C ...");
    }
    for (size_t i = 0; s == FM_OK && i < fm_json_size(list); i++) {
        size_t len;
        const char *p = fm_json_str(fm_json_at(list, i), &len);
        fm_str number = {0};
        if (!p) {
            s = fm_json_dump(&number, fm_json_at(list, i), 0);
            p = number.data;
            len = number.len;
        }
        s = s == FM_OK ? fm_bump_sv(&e->arena, &out[(*n)++], p, len) : s;
        fm_str_free(&number);
    }
    fm_json_free(j);
    return s;
}

static fm_status read_choices(fm_eval *e, const fm_eval_entry *in, fm_sv *out, int32_t *n) {
    *n = 0;
    fm_sv *names;
    size_t n_names;
    FM_TRY(fm_eval_pick_list(e, &names, &n_names, &e->cfg->choices, e->task->choices));
    static const char *const lists[] = {"choices", "options", "endings", NULL};
    const fm_cell *list = n_names == 0   ? first_of(in->rec, NULL, NULL, lists)
                          : n_names == 1 ? fm_rec_get_sv(in->rec, names[0])
                                         : NULL;
    if (list) {
        if (list->kind != FM_CELL_JSON &&
            (list->text.len == 0 || (list->text.ptr[0] != '[' && list->text.ptr[0] != '{'))) {
            return at_row(in, "the choices are no list", "a list of texts, or columns named A, B, C ...");
        }
        FM_TRY(list_choices(e, in, list, out, n));
    }
    for (size_t i = 0; !list && i < (n_names ? n_names : MAX_CHOICES) && *n < MAX_CHOICES; i++) {
        char letter = (char)('A' + i);
        const fm_cell *c = fm_rec_get_sv(in->rec, n_names ? names[i] : (fm_sv){&letter, 1});
        if (!c || c->kind == FM_CELL_NULL) {
            break;
        }
        out[(*n)++] = c->text;
    }
    return *n < 2 ? at_row(in, "fewer than two choices were found",
                           "choices=A,B,C,D names their columns, choices=NAME one with a list")
                  : FM_OK;
}

/* A letter, a number from answer_base on, or the text of a choice. */
static fm_status read_gold(const fm_eval *e, const fm_eval_entry *in, const fm_cell *c, const fm_sv *choice, int32_t n,
                           int32_t *gold) {
    fm_sv t = fm_sv_trim(c->text);
    int64_t v = -1;
    double number;
    char what[160];
    if (t.len == 1 && ((t.ptr[0] >= 'A' && t.ptr[0] < 'A' + n) || (t.ptr[0] >= 'a' && t.ptr[0] < 'a' + n))) {
        v = (t.ptr[0] | 32) - 'a';
    }
    for (int32_t i = 0; v < 0 && c->kind == FM_CELL_TEXT && i < n; i++) {
        fm_sv one = fm_sv_trim(choice[i]);
        v = one.len == t.len && memcmp(one.ptr, t.ptr, t.len) == 0 ? i : -1;
    }
    if (v < 0 && fm_cell_number(c, &number) && number == (double)(int64_t)number) {
        v = (int64_t)number - e->cfg->answer_base;
    }
    if (v < 0 || v >= n) {
        snprintf(what, sizeof what, "answer \"%.*s\" is none of %d choices", (int)FM_MIN(t.len, 60), t.ptr, (int)n);
        return at_row(in, what, "a letter, the text of a choice, or a number from 0 (answer_base=1: from 1)");
    }
    *gold = (int32_t)v;
    return FM_OK;
}

static bool letters(const fm_eval *e) {
    int style = e->cfg->style != FM_STYLE_AUTO ? e->cfg->style : (int)e->task->style;
    return style == FM_STYLE_LETTERS;
}

/* "{question}\nA. {A}\n...\nAnswer:" for as many choices as there are. */
static fm_status letter_prompt(fm_str *s, fm_sv question, const fm_sv *choice, int32_t n) {
    fm_str_append(s, question.ptr, question.len);
    for (int32_t i = 0; i < n; i++) {
        fm_str_printf(s, "\n%c. ", (char)('A' + i));
        fm_str_append(s, choice[i].ptr, choice[i].len);
    }
    fm_str_puts(s, "\nAnswer:");
    return fm_str_check(s);
}

typedef struct mc_row {
    fm_sv question, text, choice[MAX_CHOICES];
    int32_t n, gold;
} mc_row;

static fm_status read_row(fm_eval *e, mc_row *r, const fm_eval_entry *in) {
    static const char *const answers[] = {"answer", "label", "gold", "answerKey", "target", NULL};
    fm_cell *q = question_cell(e, in->rec);
    const fm_cell *a = first_of(in->rec, e->cfg->answer, e->task->answer, answers);
    if (!q || !a) {
        return at_row(in, !q ? "the row has no question" : "the row has no answer",
                      "keys question, choices and answer name the columns");
    }
    q->text = fm_sv_trim(q->text);
    r->question = q->text;
    FM_TRY(read_choices(e, in, r->choice, &r->n));
    FM_TRY(read_gold(e, in, a, r->choice, r->n, &r->gold));
    const char *prompt = fm_eval_pick(e->cfg->prompt, e->task->prompt, NULL);
    if (prompt) {
        return fm_eval_fill(e, &r->text, prompt, in);
    }
    fm_str s = {0};
    fm_status st;
    if (letters(e)) {
        st = letter_prompt(&s, r->question, r->choice, r->n);
    } else {
        fm_str_puts(&s, e->chat ? "" : "Question: "); /* a turn of a chat is a question already */
        fm_str_append(&s, r->question.ptr, r->question.len);
        fm_str_puts(&s, e->chat ? "" : "\nAnswer:");
        st = fm_str_check(&s);
    }
    st = st == FM_OK ? fm_bump_sv(&e->arena, &r->text, s.data ? s.data : "", s.len) : st;
    fm_str_free(&s);
    return st;
}

static fm_status choice_text(fm_eval *e, fm_sv *out, const mc_row *r, int32_t i) {
    char letter = (char)('A' + i);
    return letters(e) ? fm_bump_sv(&e->arena, out, &letter, 1)
                      : fm_bump_sv(&e->arena, out, r->choice[i].ptr, r->choice[i].len);
}

static fm_status turn(fm_eval *e, fm_eval_turn *out, const fm_eval_entry *in) {
    mc_row r = {0};
    FM_TRY(read_row(e, &r, in));
    out->text = r.text;
    return choice_text(e, &out->target, &r, r.gold);
}

static fm_status add_row(fm_eval *e, const fm_eval_entry *in) {
    mc_row r = {0};
    fm_eval_row *row;
    FM_TRY(read_row(e, &r, in));
    FM_TRY(fm_eval_add_row(e, &row));
    row->rec = in->rec;
    row->file = in->file;
    row->subject = in->subject;
    row->question = r.question;
    row->n_choices = r.n;
    row->gold = r.gold;
    row->choice = fm_bump_alloc(&e->arena, 2 * (size_t)r.n * sizeof *row->choice);
    if (!row->choice) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for choices");
    }
    row->choice_text = row->choice + r.n;
    const char *delimiter = fm_eval_delimiter(e);
    size_t d = strlen(delimiter);
    for (int32_t i = 0; i < r.n; i++) {
        fm_sv t = {0};
        FM_TRY(choice_text(e, &t, &r, i));
        char *p = fm_bump_alloc(&e->arena, d + t.len + 1);
        if (!p) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for choices");
        }
        snprintf(p, d + 1, "%s", delimiter);
        memcpy(p + d, t.ptr, t.len);
        row->choice[i] = (fm_sv){p, d + t.len};
        row->choice_text[i] = (fm_sv){p + d, t.len};
        if (d + t.len == 0) {
            return at_row(in, "a choice is empty", "every choice needs a text");
        }
    }
    return fm_eval_context(e, &row->context, in, r.text, turn);
}

static fm_status prepare(fm_eval *e) {
    for (size_t i = 0; i < e->table.n; i++) {
        FM_TRY(add_row(e, &e->table.row[i]));
    }
    return FM_OK;
}

/* ACC_MUTUAL_INFO comes last: it costs a second run of the choices and is there only when asked for. */
enum { ACC, ACC_NORM, ACC_BYTES, ACC_MUTUAL_INFO, N_KINDS };
static const char *const names[N_KINDS] = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"};

static int n_kinds(const fm_eval *e) {
    return e->wants_bare ? N_KINDS : ACC_MUTUAL_INFO;
}

static fm_status look_for_mutual_info(fm_eval *e) {
    fm_sv *want;
    size_t n;
    FM_TRY(fm_eval_pick_list(e, &want, &n, &e->cfg->metrics, e->task->metrics));
    for (size_t i = 0; i < n; i++) {
        e->wants_bare = e->wants_bare || fm_sv_eq(want[i], names[ACC_MUTUAL_INFO]);
    }
    return FM_OK;
}

static fm_status measures(fm_eval *e) {
    static const char *const how[N_KINDS] = {
        "largest sum of log p(choice | question)", "largest sum of log p divided by the characters of the choice",
        "largest sum of log p divided by the bytes of the choice", "largest log p(choice | question) - log p(choice)"};
    FM_TRY(look_for_mutual_info(e));
    for (int k = 0; k < n_kinds(e); k++) {
        fm_measure m = {.n_stats = 2};
        int at;
        snprintf(m.name, sizeof m.name, "%s", names[k]);
        snprintf(m.definition, sizeof m.definition, "share of rows where the answer has the %s; choices by %s", how[k],
                 letters(e) ? "letter" : "text");
        FM_TRY(fm_eval_measure(e, &m, &at));
    }
    return FM_OK;
}

/* ---- running ----------------------------------------------------------------------------------- */

typedef struct requests {
    fm_tokens ids; /* contexts and continuations of all rows */
    fm_ll_item *item;
    fm_ll_seq *cont;
    size_t *item_at, *cont_at; /* where in ids they begin: ids moves while it grows */
    double *logprob;
    size_t n_items, n_cont;
} requests;

static void requests_free(requests *q) {
    fm_tokens_free(&q->ids);
    fm_free(q->item);
    fm_free(q->cont);
    fm_free(q->item_at);
    fm_free(q->cont_at);
    fm_free(q->logprob);
}

/* One item a row; where a continuation would not fit behind the whole context, one item a choice, the context cut from
 * the left. */
static fm_status encode_row(const fm_eval_encoder *x, requests *q, const fm_eval_row *r, fm_sv context,
                            fm_eval_scores *s) {
    fm_tokens ctx = {0}, cont = {0};
    fm_status st = FM_OK;
    int32_t longest = 0;
    size_t at = 0, first = q->n_cont;
    for (int32_t k = 0; k < r->n_choices && st == FM_OK; k++) {
        ctx.n = cont.n = 0;
        st = fm_eval_encode_pair(x, context, r->choice[k], &ctx, &cont);
        if (st == FM_OK && (cont.n == 0 || ctx.n == 0)) {
            st = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: choice %d has no tokens of its own", r->file,
                              (long long)r->rec->line, (int)k + 1);
        } else if (st == FM_OK && (int64_t)cont.n > x->limit) {
            st =
                fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld: choice %d has %zu tokens; the model reads %lld",
                             r->file, (long long)r->rec->line, (int)k + 1, cont.n, (long long)x->limit);
        }
        st = st == FM_OK ? fm_grow((void **)&q->ids.ids, &q->ids.cap, q->ids.n + ctx.n + cont.n, sizeof *q->ids.ids)
                         : st;
        if (st == FM_OK) {
            if (k == 0) {
                at = q->ids.n;
                memcpy(q->ids.ids + q->ids.n, ctx.ids, ctx.n * sizeof *ctx.ids);
                q->ids.n += ctx.n;
            }
            q->cont_at[q->n_cont] = q->ids.n;
            q->cont[q->n_cont++] = (fm_ll_seq){NULL, (int32_t)cont.n};
            memcpy(q->ids.ids + q->ids.n, cont.ids, cont.n * sizeof *cont.ids);
            q->ids.n += cont.n;
            longest = FM_MAX(longest, (int32_t)cont.n);
        }
    }
    int32_t n = (int32_t)ctx.n;
    fm_tokens_free(&ctx);
    fm_tokens_free(&cont);
    FM_TRY(st);
    bool fits = (int64_t)n + longest - 1 <= x->limit;
    s->n_truncated += !fits;
    for (int32_t k = 0; k < (fits ? 1 : r->n_choices); k++) {
        int64_t room = x->limit + 1 - q->cont[first + (size_t)k].n;
        int32_t keep = fits ? n : (int32_t)FM_MIN((int64_t)n, room);
        q->item_at[q->n_items] = at + (size_t)(n - keep);
        q->item[q->n_items++] = (fm_ll_item){.n_context = keep,
                                             .cont = &q->cont[first + (size_t)k],
                                             .n_cont = fits ? r->n_choices : 1,
                                             .logprob = &q->logprob[first + (size_t)k]};
    }
    return FM_OK;
}

static double n_characters(fm_sv t) {
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        n += ((unsigned char)t.ptr[i] & 0xc0) != 0x80;
    }
    return n > 0 ? (double)n : 1;
}

/* The first of the largest, as numpy's argmax. bare: log p of the choices without their question, or NULL. */
static void judge(fm_eval *e, const fm_eval_row *r, const double *logprob, const double *bare, size_t i,
                  fm_eval_scores *s) {
    double best[N_KINDS] = {0}, rival = 0;
    int32_t said[N_KINDS] = {0};
    for (int32_t k = 0; k < r->n_choices; k++) {
        double bytes = r->choice_text[k].len > 0 ? (double)r->choice_text[k].len : 1;
        double v[N_KINDS] = {logprob[k], logprob[k] / n_characters(r->choice_text[k]), logprob[k] / bytes,
                             bare ? logprob[k] - bare[k] : 0};
        for (int j = 0; j < n_kinds(e); j++) {
            if (k == 0 || v[j] > best[j]) {
                best[j] = v[j];
                said[j] = k;
            }
        }
        if (k != r->gold && (rival == 0 || logprob[k] > rival)) {
            rival = logprob[k];
        }
    }
    double *stats = s->stats + i * (size_t)e->n_stats;
    for (int j = 0; j < n_kinds(e); j++) {
        stats[2 * j] = said[j] == r->gold;
        stats[2 * j + 1] = 1;
    }
    s->said[i] = said[ACC];
    s->rank[i] = logprob[r->gold] - rival;
}

static fm_status score(fm_eval *e, fm_model *m, fm_eval_scores *s) {
    fm_eval_encoder x;
    requests q = {0};
    size_t n = 0, done = 0;
    fm_sv bare = {0};
    FM_TRY(fm_eval_encoder_init(&x, m, e->chat != NULL));
    FM_TRY(e->wants_bare ? fm_eval_bare_context(e, &bare) : FM_OK);
    for (size_t i = 0; i < e->n_rows; i++) {
        n += (size_t)e->row[i].n_choices * (e->wants_bare ? 2 : 1);
    }
    q.item = fm_calloc(n, sizeof *q.item);
    q.cont = fm_calloc(n, sizeof *q.cont);
    q.item_at = fm_calloc(n, sizeof *q.item_at);
    q.cont_at = fm_calloc(n, sizeof *q.cont_at);
    q.logprob = fm_calloc(n, sizeof *q.logprob);
    fm_status st = FM_OK;
    if (!q.item || !q.cont || !q.item_at || !q.cont_at || !q.logprob) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu choices", n);
    }
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        st = encode_row(&x, &q, &e->row[i], e->row[i].context, s);
    }
    const double *alone = e->wants_bare ? q.logprob + q.n_cont : NULL;
    int64_t n_truncated = s->n_truncated;
    for (size_t i = 0; i < e->n_rows && e->wants_bare && st == FM_OK; i++) {
        st = encode_row(&x, &q, &e->row[i], bare, s);
    }
    s->n_truncated = n_truncated; /* of the prompts, not of what stands in for them */
    for (size_t i = 0; i < q.n_items; i++) {
        q.item[i].context = q.ids.ids + q.item_at[i];
    }
    for (size_t i = 0; i < q.n_cont; i++) {
        q.cont[i].ids = q.ids.ids + q.cont_at[i];
    }
    fm_likelihood *l = NULL;
    st = st == FM_OK ? fm_likelihood_new(&l, m, (int32_t)e->cfg->batch_tokens) : st;
    st = st == FM_OK ? fm_likelihood_run(l, q.item, q.n_items, "scoring") : st;
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        e->row[i].choice_at = done;
        judge(e, &e->row[i], q.logprob + done, alone ? alone + done : NULL, i, s);
        done += (size_t)e->row[i].n_choices;
    }
    if (st == FM_OK) {
        double *kept = fm_bump_alloc(&s->arena, (n + 1) * sizeof *kept);
        st = kept ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu choices", n);
        if (kept) {
            memcpy(kept, q.logprob, n * sizeof *kept);
            s->choice_logprob = kept;
            s->choice_alone = alone ? kept + done : NULL;
        }
    }
    if (l) {
        fm_likelihood_counts(l, &s->tokens, &s->saved);
    }
    if (st == FM_OK && s->n_truncated > 0) {
        fm_warn("%lld of %zu prompts were longer than the model reads (%lld tokens) and lost their beginning",
                (long long)s->n_truncated, e->n_rows, (long long)x.limit);
    }
    fm_likelihood_free(l);
    requests_free(&q);
    return st;
}

const fm_eval_kind fm_eval_kind_mc = {
    .name = "mc", .default_metrics = "acc,acc_norm", .prepare = prepare, .measures = measures, .score = score};
