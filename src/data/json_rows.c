/* JSON text into records: see json_rows.h. */
#include "data/json_rows.h"

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

/* Goes down the path; false when a part of it is missing. */
static fm_status descend(fm_sv *v, const char *path, bool *found) {
    *found = true;
    while (path && *path) {
        char name[256];
        size_t n = strcspn(path, ".");
        if (n >= sizeof name) {
            FM_FAIL(FM_ERR_CONFIG, "record path: a name is longer than %zu bytes", sizeof name - 1);
        }
        memcpy(name, path, n);
        name[n] = '\0';
        path += n + (path[n] == '.');
        if (strcmp(name, "$") == 0) {
            continue;
        }
        const char *const names[1] = {name};
        fm_json_value got;
        FM_TRY(fm_jsonl_scan(v->ptr, v->len, names, 1, &got));
        if (got.kind != FM_JSON_OBJECT && got.kind != FM_JSON_ARRAY && got.kind != FM_JSON_STRING) {
            *found = false;
            return FM_OK;
        }
        *v = got.raw;
        if (got.kind == FM_JSON_STRING) { /* with its quotes */
            v->ptr--;
            v->len += 2;
        }
    }
    return FM_OK;
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
    bool found;
    fm_status s = descend(&v, o->record_path, &found);
    if (s == FM_ERR_DATA) {
        return fm_recs_reject(b, line, "broken JSON", fm_error_get().message, whole);
    }
    FM_TRY(s);
    if (!found) {
        return fm_recs_reject(b, line, "nothing at the record path", NULL, whole);
    }
    if (*v.ptr != '[') {
        return one(b, v, *v.ptr, line, o);
    }
    fm_json_value item;
    fm_sv rest = v;
    while (fm_jsonl_next(&rest, &item)) {
        fm_sv raw = item.raw;
        if (item.kind == FM_JSON_STRING) {
            raw.ptr--;
            raw.len += 2;
        }
        FM_TRY(one(b, raw, *raw.ptr, line, o));
    }
    return FM_OK;
}
