/* The table of readers, how one is chosen, and the text template. */
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "data/reader.h"
#include "io/stream.h"

#define FM_READER(name) extern const fm_reader_def fm_reader_##name;
#include "data/readers.def"
#undef FM_READER

static const fm_reader_def *const table[] = {
#define FM_READER(name) &fm_reader_##name,
#include "data/readers.def"
#undef FM_READER
};

const fm_reader_def *fm_reader_at(size_t i) {
    return i < FM_ARRAY_LEN(table) ? table[i] : NULL;
}

static bool has_suffix(const char *path, const char *suffixes) {
    size_t n = strlen(path);
    static const char *const packed[] = {".gz", ".zst", ".bz2", ".gzip", ".zstd"};
    for (size_t i = 0; i < FM_ARRAY_LEN(packed); i++) {
        size_t k = strlen(packed[i]);
        if (n > k && strcasecmp(path + n - k, packed[i]) == 0) {
            n -= k;
            break;
        }
    }
    for (const char *s = suffixes; s && *s;) {
        size_t k = strcspn(s, "|");
        if (n > k && strncasecmp(path + n - k, s, k) == 0) {
            return true;
        }
        s += k + (s[k] == '|');
    }
    return false;
}

static const fm_reader_def *by_name(const char *path) {
    for (size_t i = 0; i < FM_ARRAY_LEN(table); i++) {
        if (has_suffix(path, table[i]->suffixes) || (table[i]->is_mine && table[i]->is_mine(path))) {
            return table[i];
        }
    }
    return NULL;
}

bool fm_reader_knows(const char *path) {
    return by_name(path) != NULL;
}

fm_status fm_reader_find(const fm_reader_def **out, const char *name, const char *path) {
    *out = NULL;
    if (strcmp(name, "auto") != 0) {
        const char *names[FM_ARRAY_LEN(table)];
        for (size_t i = 0; i < FM_ARRAY_LEN(table); i++) {
            names[i] = table[i]->name;
            if (strcmp(name, table[i]->name) == 0) { /* of what an archive holds, when it is one */
                bool inside = !table[i]->is_dir && has_suffix(path, fm_reader_archive.suffixes);
                *out = inside ? &fm_reader_archive : table[i];
                return FM_OK;
            }
        }
        int best = fm_nearest_name(name, names, (int)FM_ARRAY_LEN(table));
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "there is no input format '%s'", name);
        return fm_error_hint("%s%s'fathom data list' names all formats", best >= 0 ? names[best] : "",
                             best >= 0 ? "? " : "");
    }
    *out = by_name(path);
    if (!*out) {
        /* A name that says nothing, or stdin: JSON lines or text. What stdin holds cannot be looked at here. */
        *out = strcmp(path, "-") == 0 ? &fm_reader_jsonl : &fm_reader_txt;
        if (strcmp(path, "-") != 0) {
            fm_stream *in;
            FM_TRY(fm_stream_open(&in, path));
            char first[4096];
            size_t n = 0;
            fm_status s = fm_stream_read(in, first, sizeof first, &n);
            fm_stream_close(in);
            FM_TRY(s);
            size_t i = 0;
            while (i < n && strchr(" \t\r\n", first[i]) && first[i]) {
                i++;
            }
            if (i < n && first[i] == '{') {
                *out = &fm_reader_jsonl;
            }
        }
    }
    return FM_OK;
}

/* ---- template --------------------------------------------------------------------------------- */

typedef struct part {
    char *text; /* literal, or name of the column */
    bool is_column;
} part;

struct fm_text_template {
    part *part;
    size_t n, cap;
};

static fm_status add(fm_text_template *t, const char *p, size_t n, bool is_column) {
    if (n == 0) {
        return FM_OK;
    }
    void *q = t->part;
    FM_TRY(fm_grow(&q, &t->cap, t->n + 1, sizeof *t->part));
    t->part = q;
    t->part[t->n] = (part){fm_strndup(p, n), is_column};
    if (!t->part[t->n].text) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the template");
    }
    t->n++;
    return FM_OK;
}

static fm_status parse(fm_text_template *t, const char *text) {
    const char *p = text;
    while (*p) {
        size_t n = strcspn(p, "{}\\");
        FM_TRY(add(t, p, n, false));
        p += n;
        if (!*p) {
            break;
        }
        if (*p == '\\') { /* so that a shell argument can hold line ends */
            bool known = p[1] == 'n' || p[1] == 't' || p[1] == '\\';
            FM_TRY(add(t, p[1] == 'n' ? "\n" : p[1] == 't' ? "\t" : "\\", 1, false));
            p += 1 + known;
            continue;
        }
        if (p[1] == *p) {
            FM_TRY(add(t, p, 1, false));
            p += 2;
            continue;
        }
        size_t len = strcspn(p + 1, "{}");
        if (*p == '}' || p[1 + len] != '}' || len == 0) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "template '%s': brace at position %zu has no partner", text,
                         (size_t)(p - text) + 1);
            return fm_error_hint("columns are written {name}; a brace itself is written twice");
        }
        FM_TRY(add(t, p + 1, len, true));
        p += len + 2;
    }
    return FM_OK;
}

fm_status fm_text_template_new(fm_text_template **out, const char *text) {
    fm_text_template *t = *out = fm_calloc(1, sizeof *t);
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the template");
    }
    return parse(t, text);
}

void fm_text_template_free(fm_text_template *t) {
    for (size_t i = 0; t && i < t->n; i++) {
        fm_free(t->part[i].text);
    }
    if (t) {
        fm_free(t->part);
        fm_free(t);
    }
}

fm_status fm_text_template_fill(const fm_text_template *t, fm_bump *a, fm_rec *r, const char *column,
                                const char **missing) {
    *missing = NULL;
    fm_str s = {0};
    fm_status st = FM_OK;
    for (size_t i = 0; i < t->n && !*missing; i++) {
        if (!t->part[i].is_column) {
            fm_str_puts(&s, t->part[i].text);
            continue;
        }
        const fm_cell *c = fm_rec_get(r, t->part[i].text);
        if (!c || c->kind == FM_CELL_NULL) {
            *missing = t->part[i].text;
        } else {
            fm_str_append(&s, c->text.ptr, c->text.len);
        }
    }
    st = fm_str_check(&s);
    if (st == FM_OK && !*missing) {
        st = fm_rec_set_text(a, r, column, s.data ? s.data : "", s.len);
    }
    fm_str_free(&s);
    return st;
}
