/* What the tasks share: prompts, answers, filters. See synth.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/synth.h"

/* ---- prompts ---------------------------------------------------------------------------------- */

fm_status fm_synth_fill(fm_str *messages, const char *template_, const char *const *pairs) {
    fm_str text = {0};
    for (const char *p = template_; *p;) {
        size_t n = 0;
        const char *value = NULL;
        for (const char *const *pair = pairs; *p == '{' && *pair && !value; pair += 2) {
            n = strlen(*pair);
            value = strncmp(p + 1, *pair, n) == 0 && p[1 + n] == '}' ? pair[1] : NULL;
        }
        if (value) {
            fm_str_puts(&text, value);
            p += n + 2;
        } else {
            fm_str_putc(&text, *p++);
        }
    }
    fm_status s = fm_str_check(&text);
    fm_str_puts(messages, "[{\"role\":\"user\",\"content\":");
    fm_str_json(messages, text.data ? text.data : "", text.len);
    fm_str_puts(messages, "}]");
    fm_str_free(&text);
    return s == FM_OK ? fm_str_check(messages) : s;
}

/* ---- answers ---------------------------------------------------------------------------------- */

fm_sv fm_synth_answer(const char *text) {
    const char *end = strstr(text, "</think>");
    return fm_sv_trim(fm_sv_of(end ? end + strlen("</think>") : text));
}

fm_sv fm_synth_member(const fm_json *object, const char *key) {
    size_t n = 0;
    const char *p = fm_json_is_object(object) ? fm_json_str(fm_json_get(object, key), &n) : NULL;
    return p ? fm_sv_trim((fm_sv){p, n}) : (fm_sv){"", 0};
}

typedef struct finder {
    const char *key;
    fm_status (*fn)(void *arg, const fm_json *object);
    void *arg;
} finder;

static fm_status visit(const finder *f, fm_json *o);

static fm_status visit_member(void *arg, const char *name, fm_json *value) {
    FM_UNUSED(name);
    for (size_t i = 0; fm_json_is_array(value) && i < fm_json_size(value); i++) {
        fm_json *o = fm_json_at(value, i);
        if (fm_json_is_object(o)) {
            FM_TRY(visit(arg, o));
        }
    }
    return FM_OK;
}

static fm_status visit(const finder *f, fm_json *o) {
    if (fm_json_get(o, f->key)) {
        return f->fn(f->arg, o);
    }
    finder copy = *f;
    return fm_json_each(o, visit_member, &copy);
}

/* Objects at depth 0 of the braces; a brace that is never closed hides what follows it: such an answer was cut. */
fm_status fm_synth_objects(fm_sv answer, const char *key, fm_status (*fn)(void *arg, const fm_json *object),
                           void *arg) {
    const finder f = {key, fn, arg};
    size_t depth = 0, start = 0;
    bool string = false;
    for (size_t i = 0; i < answer.len; i++) {
        char c = answer.ptr[i];
        if (string) {
            i += c == '\\';
            string = c != '"';
        } else if (c == '"' && depth) {
            string = true;
        } else if (c == '{') {
            start = depth++ == 0 ? i : start;
        } else if (c == '}' && depth && --depth == 0) {
            fm_json *o = NULL;
            fm_status s = fm_json_parse(&o, answer.ptr + start, i + 1 - start, "answer");
            if (s == FM_ERR_NO_MEMORY) {
                return s;
            }
            if (s != FM_OK) {
                fm_error_clear();
                continue;
            }
            s = fm_json_is_object(o) ? visit(&f, o) : FM_OK;
            fm_json_free(o);
            FM_TRY(s);
        }
    }
    return FM_OK;
}

/* ---- rows ------------------------------------------------------------------------------------- */

fm_status fm_synth_drop(fm_synth *s, const char *reason) {
    s->n_dropped++;
    return fm_tally_add(&s->dropped, reason, 1);
}

fm_status fm_synth_example(fm_synth *s, fm_sv json, fm_sv instruction) {
    void *p = s->pool;
    FM_TRY(fm_grow(&p, &s->pool_cap, s->n_pool + 1, sizeof *s->pool));
    s->pool = p;
    s->pool[s->n_pool] = (fm_str){0};
    fm_str_append(&s->pool[s->n_pool], json.ptr, json.len);
    FM_TRY(fm_str_check(&s->pool[s->n_pool++]));
    return fm_synth_seen_add(&s->seen, instruction);
}

static size_t characters(fm_sv t) {
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        n += ((unsigned char)t.ptr[i] & 0xC0) != 0x80;
    }
    return n;
}

/* NULL, or why the two texts are not taken. */
static fm_status judge(fm_synth *s, fm_sv instruction, fm_sv answer, const char **why) {
    const fm_synth_settings *o = s->o;
    int64_t n = (int64_t)characters(instruction), m = (int64_t)characters(answer);
    bool again = false;
    double likeness = 0;
    *why = n < o->min_instruction                         ? "instruction too short"
           : o->max_instruction && n > o->max_instruction ? "instruction too long"
           : m < o->min_answer                            ? "answer too short"
           : o->max_answer && m > o->max_answer           ? "answer too long"
                                                          : NULL;
    for (size_t i = 0; i < o->blocked.n && !*why; i++) {
        *why = memmem(instruction.ptr, instruction.len, o->blocked.item[i], strlen(o->blocked.item[i]))
                   ? "a blocked word"
                   : NULL;
    }
    if (*why) {
        return FM_OK;
    }
    uint64_t hash = fm_hash64(instruction.ptr, instruction.len, 7);
    FM_TRY(fm_synth_seen_hash(&s->seen, fm_hash64(answer.ptr, answer.len, hash), &again));
    if (again) {
        *why = "the same row again";
        return FM_OK;
    }
    if (o->max_similarity < 1) {
        FM_TRY(fm_synth_seen_likeness(&likeness, &s->seen, instruction, o->max_similarity));
        *why = likeness >= o->max_similarity ? "too much like an earlier one" : NULL;
    }
    return FM_OK;
}

static fm_status put_origin(fm_synth *s, const fm_synth_item *it, fm_rec *r) {
    fm_bump *a = &s->batch->arena;
    FM_TRY(fm_rec_set_text(a, r, "task", s->task->name, strlen(s->task->name)));
    FM_TRY(fm_rec_set_text(a, r, "model", s->model, strlen(s->model)));
    if (it->file) {
        fm_str origin = {0};
        fm_str_printf(&origin, "%s:%lld", it->file, (long long)it->line);
        fm_status st = fm_str_check(&origin);
        st = st == FM_OK ? fm_rec_set_text(a, r, "origin", origin.data, origin.len) : st;
        fm_str_free(&origin);
        return st;
    }
    return FM_OK;
}

fm_status fm_synth_chat_row(fm_synth *s, const fm_synth_item *it, fm_sv messages, fm_sv instruction, fm_sv answer,
                            bool *kept) {
    const char *why = NULL;
    fm_rec *r = NULL;
    FM_TRY(judge(s, instruction, answer, &why));
    if (kept) {
        *kept = !why;
    }
    if (why) {
        return fm_synth_drop(s, why);
    }
    if (s->o->rows && s->n_rows >= s->o->rows) {
        return FM_OK;
    }
    FM_TRY(fm_synth_seen_add(&s->seen, instruction));
    FM_TRY(fm_recs_add(s->batch, &r));
    FM_TRY(fm_rec_set_json(&s->batch->arena, r, "messages", messages.ptr, messages.len));
    s->n_rows++;
    return put_origin(s, it, r);
}

fm_status fm_synth_row(fm_synth *s, const fm_synth_item *it, const char *column, const fm_sv *text) {
    fm_rec *r = NULL;
    fm_bump *a = &s->batch->arena;
    const char *json = fm_bump_copy(a, it->row.data, it->row.len);
    if (!json) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a row");
    }
    FM_TRY(fm_recs_add(s->batch, &r));
    FM_TRY(fm_rec_parse_json(a, r, json, it->row.len));
    s->n_rows++;
    if (text) {
        FM_TRY(fm_rec_set_text(a, r, column, text->ptr, text->len));
        return put_origin(s, it, r);
    }
    return FM_OK;
}
