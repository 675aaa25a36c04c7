/* push: labels of rows as predictions of a Label Studio server. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/label_model.h"

static void put_names(fm_str *out, const fm_label_settings *o, const char *type) {
    fm_str_puts(out, "{\"from_name\":");
    fm_str_json(out, o->from_name, strlen(o->from_name));
    fm_str_puts(out, ",\"to_name\":");
    fm_str_json(out, o->to_name, strlen(o->to_name));
    fm_str_printf(out, ",\"type\":\"%s\",\"value\":", type);
}

/* The place of a code point in UTF-16 units; -1 past the end. *at: its byte. */
static int64_t units(fm_sv text, int64_t chars, size_t *at) {
    int64_t n = 0;
    const char *p = text.ptr, *end = p + text.len;
    for (int64_t i = 0; i < chars; i++) {
        uint32_t cp = 0;
        int k = p < end ? fm_utf8_decode(&cp, p, end) : 0;
        if (k == 0) {
            return -1;
        }
        p += k;
        n += cp > 0xFFFF ? 2 : 1;
    }
    *at = (size_t)(p - text.ptr);
    return n;
}

fm_status fm_ls_spans(fm_str *out, fm_sv text, const fm_json *entities, const fm_label_settings *o) {
    bool first = true;
    fm_str_putc(out, '[');
    for (size_t i = 0; fm_json_is_array(entities) && i < fm_json_size(entities); i++) {
        const fm_json *e = fm_json_at(entities, i);
        size_t a = 0, b = 0, n = 0;
        const char *label = fm_json_is_object(e) ? fm_json_str(fm_json_get(e, "label"), &n) : NULL;
        int64_t start = label ? units(text, fm_json_int(fm_json_get(e, "start"), -1), &a) : -1;
        int64_t end = label ? units(text, fm_json_int(fm_json_get(e, "end"), -1), &b) : -1;
        if (start < 0 || b <= a) {
            continue;
        }
        fm_str_puts(out, first ? "" : ",");
        first = false;
        put_names(out, o, "labels");
        fm_str_printf(out, "{\"start\":%lld,\"end\":%lld,\"text\":", (long long)start, (long long)end);
        fm_str_json(out, text.ptr + a, b - a);
        fm_str_puts(out, ",\"labels\":[");
        fm_str_json(out, label, n);
        fm_str_puts(out, "]}}");
    }
    fm_str_putc(out, ']');
    return fm_str_check(out);
}

fm_status fm_ls_choices(fm_str *out, fm_sv choices, const fm_label_settings *o) {
    fm_str_putc(out, '[');
    if (choices.len) {
        put_names(out, o, "choices");
        fm_str_puts(out, "{\"choices\":[");
        fm_str_append(out, choices.ptr, choices.len);
        fm_str_puts(out, "]}}");
    }
    fm_str_putc(out, ']');
    return fm_str_check(out);
}

fm_status fm_ls_result(fm_str *out, const fm_rec *row, const fm_label_settings *o, bool *any) {
    const fm_cell *entities = fm_rec_get(row, "entities"), *label = fm_rec_get(row, "label"),
                  *labels = fm_rec_get(row, "labels"), *text = fm_rec_get(row, o->text);
    *any = true;
    if (entities && entities->kind == FM_CELL_JSON && text && text->kind == FM_CELL_TEXT) {
        fm_json *list = NULL;
        FM_TRY(fm_json_parse(&list, entities->text.ptr, entities->text.len, "entities"));
        fm_status s = fm_ls_spans(out, text->text, list, o);
        fm_json_free(list);
        return s;
    }
    const fm_cell *c = label ? label : labels;
    *any = c && (c->kind == FM_CELL_TEXT || (labels && c == labels && c->kind == FM_CELL_JSON && *c->text.ptr == '['));
    if (!*any) {
        return FM_OK;
    }
    if (c == labels) { /* a list: what is between its brackets */
        const char *first = memchr(c->text.ptr, '[', c->text.len), *last = memrchr(c->text.ptr, ']', c->text.len);
        *any = first && last && last > first + 1;
        return *any ? fm_ls_choices(out, (fm_sv){first + 1, (size_t)(last - first - 1)}, o) : FM_OK;
    }
    fm_str one = {0};
    fm_cell_put_json(&one, c);
    fm_status s = fm_str_check(&one);
    s = s == FM_OK ? fm_ls_choices(out, (fm_sv){one.data, one.len}, o) : s;
    fm_str_free(&one);
    return s;
}

typedef struct pushing {
    fm_label_job *j;
    fm_ls_client *c;
    fm_label_model *model; /* for rows without a label, or NULL */
    int64_t n_predicted;
    int64_t n, n_left, n_missing;
} pushing;

/* Result items of a row: what it says itself, else what the model says of its text. */
static fm_status result_of(pushing *k, const fm_rec *row, fm_str *result, double *score, bool *scored, bool *any) {
    const fm_label_settings *o = k->j->o;
    const fm_cell *said = fm_rec_get(row, "score"), *text = fm_rec_get(row, o->text);
    *scored = said && fm_cell_number(said, score);
    FM_TRY(fm_ls_result(result, row, o, any));
    if (*any || !k->model || !text || text->kind != FM_CELL_TEXT) {
        return FM_OK;
    }
    fm_str_clear(result);
    *any = *scored = true;
    k->n_predicted++;
    return fm_label_model_suggest(k->model, text->text, result, score);
}

static fm_status push_row(void *arg, fm_records *in, const fm_rec *row) {
    pushing *k = arg;
    const fm_label_settings *o = k->j->o;
    const fm_cell *id = fm_rec_get(row, "task_id");
    fm_str result = {0}, body = {0};
    fm_json *answer = NULL;
    double p = 0;
    bool any = false, scored = false;
    id = id ? id : fm_rec_get(row, "id");
    fm_status s = id && id->kind == FM_CELL_INT ? result_of(k, row, &result, &p, &scored, &any) : FM_OK;
    if (s != FM_OK || !any) {
        fm_str_free(&result);
        k->n_left++;
        fm_records_reject(in, row, "no task_id, or no label, labels or entities (nor a text for --local-model)");
        return s;
    }
    fm_str_puts(&body, "{\"task\":");
    fm_cell_put_json(&body, id);
    fm_str_puts(&body, ",\"model_version\":");
    fm_str_json(&body, o->model_version, strlen(o->model_version));
    if (scored) {
        fm_str_printf(&body, ",\"score\":%.9g", p);
    }
    fm_str_printf(&body, ",\"result\":%s}", result.data);
    s = fm_str_check(&body);
    s = s == FM_OK ? fm_ls_call(k->c, &answer, "POST", "/api/predictions/", &body) : s;
    if (s == FM_ERR_DATA || s == FM_ERR_NOT_FOUND) { /* no such task */
        k->n_missing++;
        fm_records_reject(in, row, fm_error_get().message);
        fm_error_clear();
        s = FM_OK;
    } else {
        k->n += s == FM_OK;
    }
    fm_json_free(answer);
    fm_str_free(&result);
    fm_str_free(&body);
    return s;
}

static fm_status run(fm_label_job *j) {
    pushing k = {.j = j};
    FM_TRY(fm_label_needs("push", "url URL", j->o->url != NULL));
    FM_TRY(fm_label_needs("push", "input FILE", j->o->input.n > 0));
    FM_TRY(fm_ls_client_new(&k.c, j->o));
    fm_status s = j->o->local_model ? fm_label_model_open(&k.model, j->o, NULL) : FM_OK;
    s = s == FM_OK ? fm_label_each(j, &j->o->input, push_row, &k) : s;
    fm_label_model_close(k.model);
    fm_ls_client_free(k.c);
    FM_TRY(s);
    FM_TRY(fm_json_set(j->report, "pushed", fm_json_new_int(k.n)));
    if (j->o->local_model) {
        FM_TRY(fm_json_set(j->report, "labelled_by_the_model", fm_json_new_int(k.n_predicted)));
    }
    FM_TRY(fm_json_set(j->report, "without_label", fm_json_new_int(k.n_left)));
    return fm_json_set(j->report, "refused_by_the_server", fm_json_new_int(k.n_missing));
}

const fm_label_action fm_label_action_push = {
    .name = "push",
    .help = "labels or entities of rows, or of a trained model, as predictions of the server's tasks",
    .run = run,
};
