/* See label_studio.h. */
#include "data/label_studio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* ---- places ----------------------------------------------------------------------------------- */

/* Bytes of the start-th and end-th unit; wide: units of UTF-16, else code points. */
static bool cut(fm_sv text, int64_t start, int64_t end, bool wide, int64_t *first, int64_t *last, fm_sv *piece) {
    int64_t unit = 0, chars = 0;
    const char *p = text.ptr, *stop = p + text.len, *from = NULL;
    if (start < 0 || end < start || !p) {
        return false;
    }
    for (;; chars++) {
        if (unit == start) {
            from = p;
            *first = chars;
        }
        if (unit == end && from) {
            *last = chars;
            *piece = (fm_sv){from, (size_t)(p - from)};
            return true;
        }
        uint32_t cp = 0;
        int k = p < stop ? fm_utf8_decode(&cp, p, stop) : 0;
        if (k == 0 || unit > end) {
            return false;
        }
        p += k;
        unit += wide && cp > 0xFFFF ? 2 : 1;
    }
}

bool fm_ls_units(fm_sv text, int64_t start, int64_t end, int64_t *first, int64_t *last, fm_sv *piece) {
    return cut(text, start, end, true, first, last, piece);
}

/* ---- one annotation --------------------------------------------------------------------------- */

typedef struct span {
    int64_t start, end;
    const char *label;
    size_t label_len;
    fm_sv text;
} span;

typedef struct reading {
    const fm_ls_options *o;
    fm_recs *out;
    fm_rec *r;
    fm_json *data;
    const char *why; /* NULL, or why the annotation is not taken */
    char detail[160];
    span *span;
    size_t n_spans, cap;
    bool choices, answer, score, compared;
} reading;

static void refuse(reading *k, const char *why, const char *detail) {
    if (!k->why) {
        k->why = why;
        (void)snprintf(k->detail, sizeof k->detail, "%.150s", detail ? detail : "");
    }
}

static bool known_label(reading *k, const char *p, size_t n) {
    const fm_guide *g = k->o->guide;
    if (g && g->labels.n && fm_label_names_find(&g->labels, p, n) < 0) {
        refuse(k, "label that is not in the guide", p);
    }
    return !k->why;
}

static fm_status put_json(reading *k, const char *column, const fm_json *v) {
    fm_str text = {0};
    fm_status s = fm_json_dump(&text, v, 0);
    s = s == FM_OK ? fm_str_check(&text) : s;
    s = s == FM_OK ? fm_rec_set_json(&k->out->arena, k->r, column, text.data, text.len) : s;
    fm_str_free(&text);
    return s;
}

/* A JSON value as a cell. */
static fm_status put(reading *k, const char *column, const fm_json *v) {
    fm_bump *a = &k->out->arena;
    size_t n = 0;
    const char *text = fm_json_str(v, &n);
    if (text) {
        return fm_rec_set_text(a, k->r, column, text, n);
    }
    if (fm_json_is_int(v)) {
        return fm_rec_set_int(a, k->r, column, fm_json_int(v, 0));
    }
    if (fm_json_is_number(v)) {
        return fm_rec_set_float(a, k->r, column, fm_json_num(v, 0));
    }
    if (fm_json_is_bool(v)) {
        return fm_rec_set_bool(a, k->r, column, fm_json_bool(v, false));
    }
    return fm_json_is_null(v) ? fm_rec_set_null(a, k->r, column) : put_json(k, column, v);
}

static fm_status put_member(void *arg, const char *key, fm_json *value) {
    return put(arg, key, value);
}

/* The usual column for the first control of a type, the control's own name for others. */
static const char *column_for(bool *used, const char *usual, const fm_json *item) {
    const char *name = fm_json_str(fm_json_get(item, "from_name"), NULL);
    const char *column = *used && name ? name : usual;
    *used = true;
    return column;
}

static fm_status read_choices(reading *k, const fm_json *item, const fm_json *value) {
    const fm_json *list = fm_json_get(value, "choices");
    size_t n = fm_json_is_array(list) ? fm_json_size(list) : 0, len = 0;
    for (size_t i = 0; i < n; i++) {
        const char *p = fm_json_str(fm_json_at(list, i), &len);
        if (!p) {
            refuse(k, "choice that is no text", NULL);
        } else if (k->choices || !known_label(k, p, len)) { /* the guide is about the first control */
            continue;
        }
    }
    if (n == 0) {
        refuse(k, "choices without a choice", NULL);
    }
    if (k->why) {
        return FM_OK;
    }
    bool many = n > 1 || (k->o->guide && k->o->guide->multiple);
    if (n > 1 && k->o->guide && !k->o->guide->multiple && !k->choices) {
        refuse(k, "several labels where the guide has one", NULL);
        return FM_OK;
    }
    const char *column = column_for(&k->choices, many ? "labels" : "label", item);
    return many ? put_json(k, column, list) : put(k, column, fm_json_at(list, 0));
}

typedef struct finder {
    int64_t start, end;
    const char *want; /* the text of the span as Label Studio has it, or NULL */
    size_t want_len;
    const char *name; /* the member to look into, or NULL: any */
    bool found;
    span *out;
} finder;

static fm_status try_member(void *arg, const char *key, fm_json *value) {
    finder *f = arg;
    size_t n = 0;
    const char *p = fm_json_str(value, &n);
    for (int wide = 1; p && !f->found && wide >= 0 && (!f->name || strcmp(key, f->name) == 0); wide--) {
        fm_sv piece = {NULL, 0};
        f->found = cut((fm_sv){p, n}, f->start, f->end, wide, &f->out->start, &f->out->end, &piece) &&
                   (f->want ? piece.len == f->want_len && memcmp(piece.ptr, f->want, piece.len) == 0 : wide == 1);
        f->out->text = piece;
    }
    return FM_OK;
}

static fm_status add_span(reading *k, const fm_json *value, const char *label, size_t label_len) {
    const fm_json *places = fm_json_get(value, "globalOffsets"); /* HyperText */
    places = fm_json_is_object(places) ? places : value;
    const fm_json *start = fm_json_get(places, "start"), *end = fm_json_get(places, "end");
    span s = {.label = label, .label_len = label_len};
    finder f = {.out = &s};
    f.want = fm_json_str(fm_json_get(value, "text"), &f.want_len);
    if (!fm_json_is_int(start) || !fm_json_is_int(end)) {
        refuse(k, "span without places", NULL);
        return FM_OK;
    }
    f.start = fm_json_int(start, 0);
    f.end = fm_json_int(end, 0);
    f.name = "text";
    FM_TRY(fm_json_each(k->data, try_member, &f));
    f.name = NULL;
    if (!f.found) {
        FM_TRY(fm_json_each(k->data, try_member, &f));
    }
    if (!f.found || s.end <= s.start) {
        refuse(k, "span that is not in the text", f.want);
        return FM_OK;
    }
    void *p = k->span;
    FM_TRY(fm_grow(&p, &k->cap, k->n_spans + 1, sizeof *k->span));
    k->span = p;
    k->span[k->n_spans++] = s;
    return FM_OK;
}

static fm_status read_spans(reading *k, const fm_json *value, const char *type) {
    const fm_json *list = fm_json_get(value, type);
    list = fm_json_is_array(list) ? list : fm_json_get(value, "labels");
    for (size_t i = 0; fm_json_is_array(list) && i < fm_json_size(list); i++) {
        size_t n = 0;
        const char *p = fm_json_str(fm_json_at(list, i), &n);
        if (!p) {
            refuse(k, "label that is no text", NULL);
        } else if (known_label(k, p, n)) {
            FM_TRY(add_span(k, value, p, n));
        }
    }
    return FM_OK;
}

static fm_status read_answer(reading *k, const fm_json *item, const fm_json *value) {
    const fm_json *text = fm_json_get(value, "text");
    const char *column = column_for(&k->answer, "answer", item);
    if (fm_json_is_array(text) && fm_json_size(text) == 1) {
        text = fm_json_at(text, 0);
    }
    if (fm_json_is_null(text) || (fm_json_is_array(text) && fm_json_size(text) == 0)) {
        refuse(k, "answer without text", NULL);
        return FM_OK;
    }
    return put(k, column, text);
}

static fm_status read_pair(reading *k, const fm_json *value) {
    const char *side = fm_json_str(fm_json_get(value, "selected"), NULL);
    const fm_json *left = fm_json_get(k->data, k->o->left), *right = fm_json_get(k->data, k->o->right);
    if (!side || (strcmp(side, "left") != 0 && strcmp(side, "right") != 0)) {
        refuse(k, "comparison without a side", side);
    } else if (!left || !right) {
        refuse(k, "comparison of columns that are not there (--left, --right)", !left ? k->o->left : k->o->right);
    }
    if (k->why || !side) {
        return FM_OK;
    }
    k->compared = true;
    bool l = *side == 'l';
    FM_TRY(put(k, "chosen", l ? left : right));
    return put(k, "rejected", l ? right : left);
}

static fm_status read_item(reading *k, const fm_json *item, fm_tallies *counts) {
    const char *type = fm_json_is_object(item) ? fm_json_str(fm_json_get(item, "type"), NULL) : NULL;
    const fm_json *value = type ? fm_json_get(item, "value") : NULL;
    if (!type) {
        refuse(k, "result without type and value", NULL);
        return FM_OK;
    }
    if (strcmp(type, "relation") == 0) {
        return fm_tally_add(counts, "relations left out", 1);
    }
    if (!fm_json_is_object(value)) {
        refuse(k, "result without type and value", NULL);
        return FM_OK;
    }
    if (strcmp(type, "choices") == 0) {
        return read_choices(k, item, value);
    }
    if (strcmp(type, "labels") == 0 || strcmp(type, "hypertextlabels") == 0) {
        return read_spans(k, value, type);
    }
    if (strcmp(type, "textarea") == 0) {
        return read_answer(k, item, value);
    }
    if (strcmp(type, "pairwise") == 0) {
        return read_pair(k, value);
    }
    if (strcmp(type, "rating") == 0 || strcmp(type, "number") == 0) {
        return put(k, column_for(&k->score, "score", item), fm_json_get(value, type));
    }
    refuse(k, "kind of annotation that is not read", type);
    return FM_OK;
}

static int by_place(const void *a, const void *b) {
    const span *x = a, *y = b;
    return x->start != y->start ? (x->start < y->start ? -1 : 1) : (x->end > y->end) - (x->end < y->end);
}

static fm_status put_spans(reading *k) {
    fm_str list = {0};
    if (k->n_spans) {
        qsort(k->span, k->n_spans, sizeof *k->span, by_place);
    }
    fm_str_putc(&list, '[');
    for (size_t i = 0; i < k->n_spans; i++) {
        const span *s = &k->span[i];
        fm_str_printf(&list, "%s{\"start\":%lld,\"end\":%lld,\"label\":", i ? "," : "", (long long)s->start,
                      (long long)s->end);
        fm_str_json(&list, s->label, s->label_len);
        fm_str_puts(&list, ",\"text\":");
        fm_str_json(&list, s->text.ptr, s->text.len);
        fm_str_putc(&list, '}');
    }
    fm_str_putc(&list, ']');
    fm_status s = fm_str_check(&list);
    s = s == FM_OK ? fm_rec_set_json(&k->out->arena, k->r, "entities", list.data, list.len) : s;
    fm_str_free(&list);
    return s;
}

/* completed_by is a number, or an object with more about the person. */
static fm_status put_annotator(reading *k, const fm_json *by) {
    if (fm_json_is_object(by)) {
        const fm_json *mail = fm_json_get(by, "email");
        by = fm_json_is_string(mail) ? mail : fm_json_get(by, "id");
    }
    return put(k, "annotator", by);
}

static fm_status read_annotation(reading *k, const fm_json *task, const fm_json *a, fm_tallies *counts) {
    const fm_json *result = fm_json_get(a, "result");
    FM_TRY(fm_recs_add(k->out, &k->r));
    FM_TRY(fm_json_each(k->data, put_member, k));
    for (size_t i = 0; fm_json_is_array(result) && i < fm_json_size(result); i++) {
        FM_TRY(read_item(k, fm_json_at(result, i), counts));
    }
    bool spans = k->n_spans || (k->o->guide && k->o->guide->kind == FM_GUIDE_ENTITIES);
    if (!k->why && !spans && !k->choices && !k->answer && !k->score && !k->compared) {
        refuse(k, "annotation without a result", NULL);
    }
    if (spans) {
        FM_TRY(put_spans(k));
    }
    FM_TRY(put(k, "task_id", fm_json_get(task, "id")));
    FM_TRY(put(k, "annotation_id", fm_json_get(a, "id")));
    FM_TRY(put_annotator(k, fm_json_get(a, "completed_by")));
    if (fm_json_is_string(fm_json_get(a, "updated_at"))) {
        FM_TRY(put(k, "updated_at", fm_json_get(a, "updated_at")));
    }
    if (fm_json_bool(fm_json_get(a, "ground_truth"), false)) {
        FM_TRY(put(k, "ground_truth", fm_json_get(a, "ground_truth")));
    }
    if (k->why) {
        k->r->drop = k->why;
        k->r->drop_step = -1;
        k->r->detail = fm_bump_copy(&k->out->arena, k->detail, strlen(k->detail));
        FM_TRY(fm_tally_add(counts, k->why, 1));
    }
    return FM_OK;
}

/* ---- JSON-MIN --------------------------------------------------------------------------------- */

typedef struct minimal {
    const fm_ls_options *o;
    fm_json *data, *result;
    fm_str text; /* scratch */
} minimal;

/* A copy of a value as a member. */
static fm_status put_copy(minimal *m, fm_json *to, const char *name, const fm_json *v) {
    fm_json *copy = NULL;
    fm_str_clear(&m->text);
    FM_TRY(fm_json_dump(&m->text, v, 0));
    FM_TRY(fm_str_check(&m->text));
    FM_TRY(fm_json_parse(&copy, m->text.data, m->text.len, "a task"));
    return fm_json_set(to, name, copy);
}

/* A result item without its value, which lives as long as the list of them. */
static fm_status add_result(minimal *m, fm_json **item, const char *name, const char *type) {
    *item = fm_json_new_object();
    FM_TRY(fm_json_append(m->result, *item));
    FM_TRY(fm_json_set(*item, "from_name", fm_json_new_str(name)));
    return fm_json_set(*item, "type", fm_json_new_str(type));
}

/* The type of a result by its form, or NULL. */
static const char *type_of(const fm_json *v) {
    static const char *const types[] = {"choices", "labels", "hypertextlabels", "rating", "number"};
    if (!fm_json_is_object(v)) {
        return NULL;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (fm_json_get(v, types[i])) {
            return types[i];
        }
    }
    return fm_json_get(v, "selected") ? "pairwise" : fm_json_is_array(fm_json_get(v, "text")) ? "textarea" : NULL;
}

/* One choice, or one answer, as a plain text. */
static fm_status add_plain(minimal *m, const char *name, const fm_json *v, bool *taken) {
    const fm_guide *g = m->o->guide;
    size_t n = 0;
    const char *p = fm_json_str(v, &n);
    const bool named = m->o->from_name && strcmp(name, m->o->from_name) == 0;
    const bool choice = p && g && g->kind == FM_GUIDE_CLASSIFICATION && fm_label_names_find(&g->labels, p, n) >= 0;
    *taken = p && (named || choice);
    if (!*taken) {
        return FM_OK;
    }
    const bool answer = g && g->kind == FM_GUIDE_QA;
    fm_json *item = NULL, *value = fm_json_new_object(), *list = fm_json_new_array();
    fm_status s = add_result(m, &item, name, answer ? "textarea" : "choices");
    if (s != FM_OK) {
        fm_json_free(value);
        fm_json_free(list);
        return s;
    }
    s = fm_json_set(item, "value", value);
    if (s != FM_OK) {
        fm_json_free(list);
        return s;
    }
    FM_TRY(fm_json_set(value, answer ? "text" : "choices", list));
    return fm_json_append(list, fm_json_new_strn(p, n));
}

static fm_status sort_member(void *arg, const char *name, fm_json *v) {
    static const char *const own[] = {"id",         "annotator", "annotation_id", "created_at",
                                      "updated_at", "lead_time", "agreement"};
    minimal *m = arg;
    bool taken = false;
    for (size_t i = 0; i < FM_ARRAY_LEN(own); i++) {
        if (strcmp(name, own[i]) == 0) {
            return FM_OK;
        }
    }
    const bool list = fm_json_is_array(v);
    for (size_t i = 0; i < (list ? fm_json_size(v) : 1); i++) {
        const fm_json *one = list ? fm_json_at(v, i) : v;
        const char *type = type_of(one);
        fm_json *item = NULL;
        if (!type) {
            break;
        }
        FM_TRY(add_result(m, &item, name, type));
        FM_TRY(put_copy(m, item, "value", one));
        taken = true;
    }
    if (!taken) {
        FM_TRY(add_plain(m, name, v, &taken));
    }
    return taken ? FM_OK : put_copy(m, m->data, name, v);
}

static fm_status put_member_of(minimal *m, fm_json *to, const char *as, const fm_json *item, const char *name) {
    const fm_json *v = fm_json_get(item, name);
    return v ? put_copy(m, to, as, v) : FM_OK;
}

/* An item of JSON-MIN as the task it was made from, with its one annotation. */
static fm_status fill_task(minimal *m, fm_json *full, const fm_json *item) {
    fm_json *list = fm_json_new_array(), *annotation = fm_json_new_object();
    fm_status s = fm_json_set(full, "annotations", list);
    if (s != FM_OK) {
        fm_json_free(annotation);
        return s;
    }
    FM_TRY(fm_json_append(list, annotation));
    m->data = fm_json_new_object();
    FM_TRY(fm_json_set(full, "data", m->data));
    m->result = fm_json_new_array();
    FM_TRY(fm_json_set(annotation, "result", m->result));
    FM_TRY(put_member_of(m, full, "id", item, "id"));
    FM_TRY(put_member_of(m, annotation, "id", item, "annotation_id"));
    FM_TRY(put_member_of(m, annotation, "completed_by", item, "annotator"));
    FM_TRY(put_member_of(m, annotation, "updated_at", item, "updated_at"));
    FM_TRY(put_copy(m, full, "item", item)); /* to go through */
    return fm_json_each(fm_json_get(full, "item"), sort_member, m);
}

static fm_status minimal_rows(fm_recs *out, const fm_json *item, const fm_ls_options *o, fm_tallies *counts) {
    minimal m = {.o = o};
    fm_json *full = fm_json_new_object();
    if (!full) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a task");
    }
    fm_status s = fill_task(&m, full, item);
    s = s == FM_OK ? fm_ls_rows(out, full, o, counts) : s;
    fm_str_free(&m.text);
    fm_json_free(full);
    return s;
}

fm_status fm_ls_rows(fm_recs *out, const fm_json *task, const fm_ls_options *o, fm_tallies *counts) {
    fm_json *data = fm_json_is_object(task) ? fm_json_get(task, "data") : NULL;
    const fm_json *list = data ? fm_json_get(task, "annotations") : NULL;
    list = list || !data ? list : fm_json_get(task, "completions"); /* before 1.0 */
    if (fm_json_is_object(task) && !fm_json_is_object(data) && fm_json_get(task, "annotation_id")) {
        return minimal_rows(out, task, o, counts);
    }
    FM_TRY(fm_tally_add(counts, "tasks", 1));
    if (!fm_json_is_object(data) || !fm_json_is_array(list)) {
        FM_TRY(fm_tally_add(counts, "no task with data and annotations", 1));
        return fm_recs_reject(out, 0, "no task with data and annotations (export as JSON or JSON-MIN)", NULL,
                              (fm_sv){NULL, 0});
    }
    if (fm_json_size(list) == 0) {
        return fm_tally_add(counts, "without an annotation", 1);
    }
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *a = fm_json_at(list, i);
        if (!fm_json_is_object(a)) {
            continue;
        }
        FM_TRY(fm_tally_add(counts, "annotations", 1));
        if (fm_json_bool(fm_json_get(a, "was_cancelled"), false)) {
            FM_TRY(fm_tally_add(counts, "skipped by the annotator", 1));
            continue;
        }
        reading k = {.o = o, .out = out, .data = data};
        fm_status s = read_annotation(&k, task, a, counts);
        fm_free(k.span);
        FM_TRY(s);
    }
    return FM_OK;
}
