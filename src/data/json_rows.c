/* JSON text into records: see json_rows.h. */
#include "data/json_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/jsonl.h"

static fm_status one(fm_recs *b, fm_sv v, char first, int64_t line, const fm_reader_options *o) {
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = line;
    fm_status s;
    if (first == '{') {
        s = fm_rec_parse_json(&b->arena, r, v.ptr, v.len);
    } else { /* a bare value: read as the member of an object */
        fm_str wrap = {0};
        fm_str_puts(&wrap, "{");
        fm_jsonl_put_text(&wrap, o->text_column, strlen(o->text_column));
        fm_str_puts(&wrap, ":");
        fm_str_append(&wrap, v.ptr, v.len);
        fm_str_puts(&wrap, "}");
        fm_sv copy = {NULL, 0};
        s = fm_str_check(&wrap);
        if (s == FM_OK) {
            s = fm_bump_sv(&b->arena, &copy, wrap.data, wrap.len);
        }
        fm_str_free(&wrap);
        if (s == FM_OK) {
            s = fm_rec_parse_json(&b->arena, r, copy.ptr, copy.len);
        }
    }
    if (s == FM_ERR_DATA) {
        b->n--;
        return fm_recs_reject(b, line, "broken JSON", fm_error_get().message, v);
    }
    return s;
}

/* Everything a path leads to. A path is names with dots between them, each with `[*]` behind it for every item of an
 * array or `[3]` for one ("$.data.items[*].notes"); what stands at its end is a row, or when it is an array, its items
 * are. */
typedef struct walk {
    fm_recs *b;
    int64_t line, n_found;
    const fm_reader_options *o;
} walk;

static fm_sv with_quotes(const fm_json_value *v) {
    bool string = v->kind == FM_JSON_STRING;
    return (fm_sv){v->raw.ptr - string, v->raw.len + 2 * (size_t)string};
}

static fm_status descend(walk *w, fm_sv v, const char *path);

/* `[*]`, `[]` or `[3]` at the front of path. */
static fm_status descend_items(walk *w, fm_sv v, const char *path) {
    size_t n = strcspn(path, "]");
    bool all = n == 1 || (n == 2 && path[1] == '*');
    if (path[n] != ']' || (!all && strspn(path + 1, "0123456789") != n - 1) || n > 12) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "record path: '%s' is no part of an array", path);
        return fm_error_hint("such as data.items[*].notes, or items[0]");
    }
    bool array = *v.ptr == '[';
    long long wanted = all ? -1 : atoll(path + 1);
    fm_json_value item;
    for (long long i = 0; array && fm_jsonl_next(&v, &item); i++) {
        if (all || i == wanted) {
            FM_TRY(descend(w, with_quotes(&item), path + n + 1));
        }
    }
    return FM_OK;
}

static fm_status descend(walk *w, fm_sv v, const char *path) {
    fm_json_value item;
    path += *path == '.';
    if (!*path) {
        w->n_found++;
        if (*v.ptr != '[') {
            return one(w->b, v, *v.ptr, w->line, w->o);
        }
        while (fm_jsonl_next(&v, &item)) {
            fm_sv raw = with_quotes(&item);
            FM_TRY(one(w->b, raw, *raw.ptr, w->line, w->o));
        }
        return FM_OK;
    }
    if (*path == '[') {
        return descend_items(w, v, path);
    }
    char name[256];
    size_t n = strcspn(path, ".[");
    if (n >= sizeof name) {
        FM_FAIL(FM_ERR_CONFIG, "record path: a name is longer than %zu bytes", sizeof name - 1);
    }
    memcpy(name, path, n);
    name[n] = '\0';
    if (strcmp(name, "$") == 0) {
        return descend(w, v, path + n);
    }
    if (*v.ptr != '{') {
        return FM_OK;
    }
    const char *const names[1] = {name};
    FM_TRY(fm_jsonl_scan(v.ptr, v.len, names, 1, &item));
    if (item.kind != FM_JSON_OBJECT && item.kind != FM_JSON_ARRAY && item.kind != FM_JSON_STRING) {
        return FM_OK;
    }
    return descend(w, with_quotes(&item), path + n);
}

fm_status fm_json_rows(fm_recs *b, const char *text, size_t n, int64_t line, const fm_reader_options *o) {
    while (n && strchr(" \t\r\n", *text) && *text) {
        text++;
        n--;
    }
    if (n == 0) {
        return FM_OK;
    }
    fm_sv v = {text, n}, whole = v;
    if (o->repair_utf8) {
        FM_TRY(fm_bump_repair(&b->arena, &v, v));
    }
    if (!o->record_path) {
        return one(b, v, *v.ptr, line, o);
    }
    const char *why, *at;
    fm_json_value checked;
    if (fm_jsonl_value(&checked, v.ptr, v.ptr + v.len, &why, &at) == NULL) {
        return fm_recs_reject(b, line, "broken JSON", why, whole);
    }
    walk w = {b, line, 0, o};
    FM_TRY(descend(&w, v, o->record_path));
    return w.n_found ? FM_OK : fm_recs_reject(b, line, "nothing at the record path", NULL, whole);
}
