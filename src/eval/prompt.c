/* What the model reads: templates, few-shot examples, chat, and the ids of it. */
#include <string.h>

#include "eval/task.h"

const char *fm_eval_pick(const char *given, const char *of_task, const char *fallback) {
    return given ? given : of_task ? of_task : fallback;
}

fm_status fm_eval_pick_list(fm_eval *e, fm_sv **out, size_t *n, const fm_strlist *given, const char *of_task) {
    size_t want = given->n;
    for (const char *p = of_task; given->n == 0 && p && *p; p++) {
        want += p == of_task || *p == ',';
    }
    *n = 0;
    *out = fm_bump_alloc(&e->arena, (want + 1) * sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list");
    }
    for (size_t i = 0; i < given->n; i++) {
        FM_TRY(fm_bump_sv(&e->arena, &(*out)[(*n)++], given->item[i], strlen(given->item[i])));
    }
    for (const char *p = of_task; *n < want && p;) {
        size_t len = strcspn(p, ",");
        FM_TRY(fm_bump_sv(&e->arena, &(*out)[(*n)++], p, len));
        p = p[len] ? p + len + 1 : NULL;
    }
    return FM_OK;
}

fm_status fm_eval_fill(fm_eval *e, fm_sv *out, const char *text, const fm_eval_entry *row) {
    fm_text_template *t = NULL;
    const char *missing = NULL;
    char where[512];
    /* A scratch record: the filled text must not become a column of the row. */
    fm_rec *copy;
    fm_status s = fm_text_template_new(&t, text);
    s = s == FM_OK ? fm_rec_new(&e->arena, &copy, row->rec) : s;
    if (s == FM_OK && !fm_rec_get(copy, "subject")) {
        s = fm_rec_set_text(&e->arena, copy, "subject", row->subject, strlen(row->subject));
    }
    s = s == FM_OK ? fm_text_template_fill(t, &e->arena, copy, "\x01text", &missing) : s;
    if (s == FM_OK && missing) {
        snprintf(where, sizeof where, "%s:%lld", row->file, (long long)row->rec->line);
        (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s: the row has no column \"%s\"", where, missing);
        s = fm_error_hint("the prompt asks for it; keys question, choices, answer and prompt name columns");
    } else if (s == FM_OK) {
        *out = fm_rec_get(copy, "\x01text")->text;
    }
    fm_text_template_free(t);
    return s;
}

/* ---- plain ------------------------------------------------------------------------------------- */

/* An answer begins where a chat template ends. */
const char *fm_eval_delimiter(const fm_eval *e) {
    return fm_eval_pick(e->cfg->target_delimiter, e->chat ? NULL : e->task->target_delimiter, e->chat ? "" : " ");
}

static const char *fewshot_delimiter(const fm_eval *e) {
    return fm_eval_pick(e->cfg->fewshot_delimiter, e->task->fewshot_delimiter, "\n\n");
}

static bool blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int64_t n_shots(const fm_eval *e) {
    return e->cfg->num_fewshot >= 0 ? e->cfg->num_fewshot : e->task->num_fewshot;
}

/* The first examples of the row's subject, in file order. */
static size_t next_shot(const fm_eval *e, const fm_eval_entry *row, size_t from) {
    while (from < e->shots.n && strcmp(e->shots.row[from].subject, row->subject) != 0) {
        from++;
    }
    return from;
}

/* The i-th example of a row; *at is where to look for it. */
static fm_status shot(fm_eval *e, fm_eval_turn *t, const fm_eval_entry *row, int64_t i, size_t *at,
                      fm_eval_turn_fn turn) {
    *at = next_shot(e, row, *at);
    if (*at >= e->shots.n) {
        FM_FAIL(FM_ERR_DATA, "num_fewshot %lld: there are %lld examples%s%s", (long long)n_shots(e), (long long)i,
                *row->subject ? " of " : "", row->subject);
    }
    return turn(e, t, &e->shots.row[(*at)++]);
}

static fm_status description(fm_eval *e, fm_sv *out, const fm_eval_entry *row) {
    const char *text = fm_eval_pick(e->cfg->description, e->task->description, NULL);
    *out = (fm_sv){"", 0};
    return text ? fm_eval_fill(e, out, text, row) : FM_OK;
}

static fm_status plain(fm_eval *e, fm_str *s, const fm_eval_entry *row, fm_sv text, fm_eval_turn_fn turn) {
    fm_sv d;
    fm_eval_turn t;
    size_t at = 0;
    FM_TRY(description(e, &d, row));
    fm_str_append(s, d.ptr, d.len);
    for (int64_t i = 0; i < n_shots(e); i++) {
        FM_TRY(shot(e, &t, row, i, &at, turn));
        fm_str_append(s, t.text.ptr, t.text.len);
        fm_str_puts(s, fm_eval_delimiter(e));
        fm_str_append(s, t.target.ptr, t.target.len);
        fm_str_puts(s, fewshot_delimiter(e));
    }
    fm_str_append(s, text.ptr, text.len);
    return fm_str_check(s);
}

/* ---- chat -------------------------------------------------------------------------------------- */

static void message(fm_str *s, const char *role, const fm_sv *part, size_t n) {
    fm_str content = {0};
    for (size_t i = 0; i < n; i++) {
        fm_str_append(&content, part[i].ptr, part[i].len);
    }
    s->failed = s->failed || content.failed;
    fm_str_printf(s, "%s{\"role\":\"%s\",\"content\":", s->len > 1 ? "," : "", role);
    fm_str_json(s, content.data ? content.data : "", content.len);
    fm_str_putc(s, '}');
    fm_str_free(&content);
}

static fm_status chat(fm_eval *e, fm_str *s, const fm_eval_entry *row, fm_sv text, fm_eval_turn_fn turn) {
    fm_sv d;
    fm_eval_turn t;
    size_t at = 0;
    FM_TRY(description(e, &d, row));
    const char *given = e->cfg->system ? e->cfg->system : "";
    fm_sv system[] = {fm_sv_of(given), {"", 0}, d};
    if (*given && d.len > 0 && !blank(given[strlen(given) - 1]) && !blank(d.ptr[0])) {
        system[1] = fm_sv_of(fewshot_delimiter(e));
    }
    fm_str_putc(s, '[');
    if (system[0].len + d.len > 0) {
        message(s, "system", system, FM_ARRAY_LEN(system));
    }
    for (int64_t i = 0; i < n_shots(e); i++) {
        FM_TRY(shot(e, &t, row, i, &at, turn));
        message(s, "user", &t.text, 1);
        message(s, "assistant", &t.target, 1);
    }
    message(s, "user", &text, 1);
    fm_str_putc(s, ']');
    return fm_str_check(s);
}

static fm_status render(fm_eval *e, fm_sv *out, const fm_str *messages) {
    fm_template_options o = {.size = sizeof o, .add_generation_prompt = true};
    fm_template_result r = {0};
    FM_TRY(fm_template_render(&r, e->chat, messages->data, messages->len, &o));
    fm_status s = fm_bump_sv(&e->arena, out, r.text, r.n);
    fm_template_result_free(&r);
    return s;
}

fm_status fm_eval_context(fm_eval *e, fm_sv *out, const fm_eval_entry *row, fm_sv text, fm_eval_turn_fn turn) {
    fm_str s = {0};
    fm_status st = e->chat ? chat(e, &s, row, text, turn) : plain(e, &s, row, text, turn);
    if (st == FM_OK) {
        st = e->chat ? render(e, out, &s) : fm_bump_sv(&e->arena, out, s.data ? s.data : "", s.len);
    }
    fm_str_free(&s);
    return st;
}

fm_status fm_eval_bare_context(fm_eval *e, fm_sv *out) {
    static const char turn[] = "[{\"role\":\"user\",\"content\":\"\"}]";
    fm_str s = {0};
    *out = (fm_sv){"", 0};
    if (!e->chat) {
        return FM_OK;
    }
    fm_str_puts(&s, turn);
    fm_status st = fm_str_check(&s);
    st = st == FM_OK ? render(e, out, &s) : st;
    fm_str_free(&s);
    return st;
}

/* ---- ids --------------------------------------------------------------------------------------- */

fm_status fm_eval_encoder_init(fm_eval_encoder *x, fm_model *m, bool chat_text) {
    *x = (fm_eval_encoder){.start = -1};
    FM_TRY(fm_model_tokenizer(&x->tok, m));
    fm_tokens t = {0};
    fm_encode_options o = {.size = sizeof o, .add_special = true, .n_threads = 1};
    fm_status s = fm_tokenizer_encode(&t, x->tok, "", 0, &o);
    int32_t bos = fm_tokenizer_bos(x->tok), eos = fm_tokenizer_eos(x->tok);
    /* What an empty text becomes: begin tokens, and an end token that has no place before a continuation. */
    size_t n = t.n;
    if (n > 0 && t.ids[n - 1] == eos && (n > 1 || bos != eos)) {
        n--;
    }
    for (size_t i = 0; !chat_text && i < n && i < FM_ARRAY_LEN(x->prefix); i++) {
        x->prefix[x->n_prefix++] = t.ids[i];
    }
    fm_tokens_free(&t);
    x->start = bos >= 0 ? bos : eos >= 0 ? eos : m->n_eos > 0 ? m->eos[0] : -1;
    double limit = (double)m->cfg.max_position * (m->cfg.rope.kind == FM_ROPE_DYNAMIC ? m->cfg.rope.factor : 1);
    x->limit = limit < INT32_MAX / 2 ? (int64_t)limit : INT32_MAX / 2;
    return s;
}

static fm_status encode(const fm_eval_encoder *x, fm_tokens *out, const char *p, size_t n) {
    fm_encode_options o = {.size = sizeof o, .allow_special = true, .n_threads = 1};
    return fm_tokenizer_encode(out, x->tok, p, n, &o);
}

fm_status fm_eval_encode_pair(const fm_eval_encoder *x, fm_sv context, fm_sv cont, fm_tokens *ctx_ids,
                              fm_tokens *cont_ids) {
    fm_str whole = {0};
    fm_tokens both = {0};
    size_t kept = context.len;
    while (kept > 0 && blank(context.ptr[kept - 1])) {
        kept--;
    }
    fm_str_append(&whole, context.ptr, context.len);
    fm_str_append(&whole, cont.ptr, cont.len);
    size_t before = ctx_ids->n;
    fm_status s = fm_str_check(&whole);
    s = s == FM_OK ? fm_grow((void **)&ctx_ids->ids, &ctx_ids->cap, ctx_ids->n + FM_ARRAY_LEN(x->prefix) + 1,
                             sizeof *ctx_ids->ids)
                   : s;
    for (int32_t i = 0; s == FM_OK && i < x->n_prefix; i++) {
        ctx_ids->ids[ctx_ids->n++] = x->prefix[i];
    }
    s = s == FM_OK ? encode(x, ctx_ids, whole.data ? whole.data : "", kept) : s;
    s = s == FM_OK ? encode(x, &both, whole.data ? whole.data : "", whole.len) : s;
    size_t own = ctx_ids->n - before - (size_t)x->n_prefix; /* of the text */
    if (s == FM_OK && ctx_ids->n == before && x->start >= 0) {
        ctx_ids->ids[ctx_ids->n++] = x->start;
    }
    if (s == FM_OK && both.n > own) {
        size_t n = both.n - own;
        s = fm_grow((void **)&cont_ids->ids, &cont_ids->cap, cont_ids->n + n, sizeof *cont_ids->ids);
        if (s == FM_OK) {
            memcpy(cont_ids->ids + cont_ids->n, both.ids + own, n * sizeof *both.ids);
            cont_ids->n += n;
        }
    }
    fm_tokens_free(&both);
    fm_str_free(&whole);
    return s;
}
