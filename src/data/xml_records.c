/* Records of XML: see xml_records.h. */
#include "data/xml_records.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "io/jsonl.h"
#include "io/xml.h"

#define MAX_PATH     16
#define MAX_DEPTH    200
#define MAX_CHILDREN 20000 /* names are compared pair by pair */

struct fm_xml_records {
    fm_xml_file *file;
    fm_sv part[MAX_PATH]; /* of the path */
    size_t n_parts;
    bool absolute;
    size_t max_bytes;
    char **open; /* names of the elements around, to match paths */
    size_t depth, cap;
    int64_t consumed;
    fm_status pending;
    fm_error_record error;
    char *path;
    fm_str flat[MAX_DEPTH + 1]; /* text below each open element of the record */
};

static fm_status split_path(fm_xml_records *x, const char *path) {
    x->path = fm_strdup(path);
    if (!x->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an XML reader");
    }
    x->absolute = path[0] == '/' && path[1] != '/';
    for (const char *p = x->path; *p;) {
        size_t n = strcspn(p, "/");
        if (n && x->n_parts == MAX_PATH) {
            FM_FAIL(FM_ERR_CONFIG, "record path '%s' has more than %d parts", path, MAX_PATH);
        }
        if (n) {
            x->part[x->n_parts++] = (fm_sv){p, n};
        }
        p += n + (p[n] == '/');
    }
    if (x->n_parts == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "record path '%s' names no element", path);
        return fm_error_hint("such as //article, or feed/entry");
    }
    return FM_OK;
}

fm_status fm_xml_records_open(fm_xml_records **out, const char *path, const char *record_path,
                              const fm_reader_options *o) {
    fm_stream *in = NULL;
    fm_xml_records *x = *out = fm_calloc(1, sizeof *x);
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an XML reader");
    }
    x->max_bytes = o->max_row_bytes;
    FM_TRY(split_path(x, record_path));
    FM_TRY(o->encoding ? fm_reader_stream(&in, path, o) : fm_stream_open(&in, path));
    return fm_xml_file_open(&x->file, in, o->encoding ? "UTF-8" : NULL);
}

void fm_xml_records_close(fm_xml_records *x) {
    if (x) {
        fm_xml_file_close(x->file);
        for (size_t i = 0; i < x->depth; i++) {
            fm_free(x->open[i]);
        }
        for (size_t i = 0; i <= MAX_DEPTH; i++) {
            fm_str_free(&x->flat[i]);
        }
        fm_free(x->open);
        fm_free(x->path);
        fm_free(x);
    }
}

int64_t fm_xml_records_consumed(const fm_xml_records *x) {
    return fm_xml_file_consumed(x->file);
}

static fm_status push(fm_xml_records *x, fm_sv name) {
    void *p = x->open;
    FM_TRY(fm_grow(&p, &x->cap, x->depth + 1, sizeof *x->open));
    x->open = p;
    x->open[x->depth] = fm_strndup(name.ptr, name.len);
    if (!x->open[x->depth]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a name");
    }
    x->depth++;
    return FM_OK;
}

static void pop(fm_xml_records *x) {
    if (x->depth) {
        fm_free(x->open[--x->depth]);
    }
}

/* Is an element of this name, inside those that are open, a record? */
static bool matches(const fm_xml_records *x, fm_sv name) {
    size_t n = x->n_parts;
    if (x->depth + 1 < n || (x->absolute && x->depth + 1 != n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        fm_sv part = x->part[n - 1 - i];
        fm_sv have = i == 0 ? name : fm_sv_of(x->open[x->depth - i]);
        if (part.len != have.len || memcmp(part.ptr, have.ptr, part.len) != 0) {
            return false;
        }
    }
    return true;
}

/* ---- one record ------------------------------------------------------------------------------- */

typedef struct build {
    fm_bump *a;
    fm_xml_node *stack[MAX_DEPTH + 1];
    size_t depth; /* of the record's own elements */
    size_t bytes;
    bool too_long, too_deep;
} build;

static fm_status new_node(build *b, fm_sv name, bool attribute, fm_xml_node **out) {
    fm_xml_node *n = *out = fm_bump_alloc(b->a, sizeof *n);
    char *copy = fm_bump_alloc(b->a, name.len + 2);
    if (!n || !copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold an XML record");
    }
    memset(n, 0, sizeof *n);
    copy[0] = '@';
    memcpy(copy + attribute, name.ptr, name.len);
    n->name = (fm_sv){copy, name.len + attribute};
    n->text = n->flat = (fm_sv){"", 0};
    b->bytes += sizeof *n + name.len;
    return FM_OK;
}

static void attach(fm_xml_node *parent, fm_xml_node *n) {
    if (parent->last) {
        parent->last->next = n;
    } else {
        parent->child = n;
    }
    parent->last = n;
}

static bool is_blank(fm_sv s) {
    for (size_t i = 0; i < s.len; i++) {
        if (!strchr(" \t\r\n", s.ptr[i]) || !s.ptr[i]) {
            return false;
        }
    }
    return true;
}

static fm_status copy_text(build *b, fm_sv *out, const char *p, size_t n) {
    fm_sv view = {p, n};
    FM_TRY(fm_bump_repair(b->a, &view, view));
    b->bytes += n;
    return fm_bump_sv(b->a, out, view.ptr, view.len);
}

static fm_status begin(fm_xml_records *x, build *b, const fm_xml_event *e) {
    fm_xml_node *n, *attribute;
    fm_sv name, value;
    if (b->depth >= MAX_DEPTH || b->too_long || b->too_deep) {
        b->too_deep = b->too_deep || !b->too_long;
        b->depth += !e->empty;
        return FM_OK;
    }
    FM_TRY(new_node(b, e->name, false, &n));
    while (fm_xml_file_attribute(x->file, &name, &value)) {
        FM_TRY(new_node(b, name, true, &attribute));
        FM_TRY(copy_text(b, &attribute->text, value.ptr, value.len));
        attribute->flat = attribute->text;
        attach(n, attribute);
    }
    if (b->depth) {
        attach(b->stack[b->depth - 1], n);
        b->too_long = b->too_long || ++b->stack[b->depth - 1]->n_children > MAX_CHILDREN;
    }
    b->stack[b->depth] = n;
    fm_str_clear(&x->flat[b->depth]);
    b->depth += !e->empty || b->depth == 0;
    return FM_OK;
}

static bool has_elements(const fm_xml_node *n) {
    for (const fm_xml_node *c = n->child; c; c = c->next) {
        if (c->name.ptr[0] != '@') {
            return true;
        }
    }
    return false;
}

/* The text of an element is put together at its end: its own, or all below when it is mixed. */
static fm_status end(fm_xml_records *x, build *b) {
    b->depth--;
    if (b->too_long || b->too_deep) {
        return FM_OK;
    }
    fm_xml_node *n = b->stack[b->depth];
    fm_str *flat = &x->flat[b->depth];
    FM_TRY(fm_str_check(flat));
    fm_sv text = {flat->data ? flat->data : "", flat->len};
    bool parent = has_elements(n);
    if (!parent || n->mixed) {
        FM_TRY(copy_text(b, &n->flat, text.ptr, text.len));
        n->text = n->flat;
    }
    if (b->depth) {
        fm_str_append(&x->flat[b->depth - 1], text.ptr, text.len);
    }
    return FM_OK;
}

static fm_status add_text(fm_xml_records *x, build *b, const fm_xml_event *e) {
    if (b->too_long || b->too_deep) {
        return FM_OK;
    }
    fm_xml_node *n = b->stack[b->depth - 1];
    n->mixed = n->mixed || !is_blank(e->text);
    b->bytes += e->text.len;
    fm_str_append(&x->flat[b->depth - 1], e->text.ptr, e->text.len);
    return FM_OK;
}

static fm_status read_record(fm_xml_records *x, fm_bump *a, const fm_xml_event *first, const fm_xml_node **tree,
                             const char **bad) {
    build b = {.a = a};
    fm_xml_event e = *first;
    FM_TRY(begin(x, &b, &e));
    if (first->empty) {
        FM_TRY(end(x, &b));
    }
    while (b.depth) {
        FM_TRY(fm_xml_file_next(x->file, &e));
        if (e.kind == FM_XML_BEGIN) {
            FM_TRY(begin(x, &b, &e));
        } else if (e.kind == FM_XML_END) {
            FM_TRY(end(x, &b));
        } else if (e.kind == FM_XML_TEXT) {
            FM_TRY(add_text(x, &b, &e));
        } else {
            FM_FAIL(FM_ERR_CORRUPT, "the XML ends inside a record");
        }
        b.too_long = b.too_long || b.bytes > x->max_bytes;
    }
    *tree = b.too_long || b.too_deep ? NULL : b.stack[0];
    *bad = b.too_long   ? "longer than max_row_bytes, or of too many elements"
           : b.too_deep ? "elements nested too deep"
                        : NULL;
    return FM_OK;
}

fm_status fm_xml_records_next(fm_xml_records *x, fm_bump *a, const fm_xml_node **tree, int64_t *line, const char **bad,
                              bool *more) {
    *more = false;
    for (;;) {
        fm_xml_event e;
        FM_TRY(fm_xml_file_next(x->file, &e));
        if (e.kind == FM_XML_AT_END) {
            return FM_OK;
        }
        if (e.kind == FM_XML_END) {
            pop(x);
        } else if (e.kind == FM_XML_BEGIN && matches(x, e.name)) {
            *line = e.line;
            *more = true;
            return read_record(x, a, &e, tree, bad);
        } else if (e.kind == FM_XML_BEGIN && !e.empty) {
            FM_TRY(push(x, e.name));
        }
    }
}

fm_status fm_xml_records_pending(const fm_xml_records *x) {
    if (x->pending != FM_OK) {
        fm_error_restore(&x->error);
    }
    return x->pending;
}

fm_status fm_xml_records_done(fm_xml_records *x, fm_recs *b, fm_status s, bool *more) {
    bool any = b->n > 0 || b->n_pieces > 0;
    b->bytes = fm_xml_records_consumed(x) - x->consumed;
    x->consumed += b->bytes;
    if (s != FM_OK && s != FM_ERR_NO_MEMORY && any) {
        x->pending = s;
        fm_error_save(&x->error);
        s = FM_OK;
    }
    *more = any;
    return s;
}

/* ---- what is in a record ---------------------------------------------------------------------- */

const fm_xml_node *fm_xml_child(const fm_xml_node *n, const char *name) {
    for (const fm_xml_node *c = n ? n->child : NULL; c; c = c->next) {
        if (fm_sv_eq(c->name, name)) {
            return c;
        }
    }
    return NULL;
}

const fm_xml_node *fm_xml_at(const fm_xml_node *n, const char *path) {
    while (n && *path) {
        char name[64];
        size_t k = strcspn(path, "/");
        FM_ASSERT(k < sizeof name);
        memcpy(name, path, k);
        name[k] = '\0';
        n = fm_xml_child(n, name);
        path += k + (path[k] == '/');
    }
    return n;
}

static void put_squeezed(fm_str *out, fm_sv s) {
    bool blank = false, any = false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            blank = any;
            continue;
        }
        if (blank) {
            fm_str_putc(out, ' ');
        }
        fm_str_putc(out, c);
        blank = false;
        any = true;
    }
}

void fm_xml_put_text(fm_str *out, const fm_xml_node *n) {
    if (n) {
        put_squeezed(out, n->flat);
    }
}

static void put_string(fm_str *out, fm_sv s) {
    size_t at = out->len;
    put_squeezed(out, s); /* in place, then as a JSON string behind it */
    fm_str text = {0};
    fm_str_append(&text, out->data ? out->data + at : "", out->len - at);
    if (!out->failed) {
        out->len = at;
    }
    fm_jsonl_put_text(out, text.data ? text.data : "", text.len);
    out->failed = out->failed || text.failed;
    fm_str_free(&text);
}

/* Is there a sibling of this name before it? */
static bool seen(const fm_xml_node *first, const fm_xml_node *n) {
    for (; first != n; first = first->next) {
        if (first->name.len == n->name.len && memcmp(first->name.ptr, n->name.ptr, n->name.len) == 0) {
            return true;
        }
    }
    return false;
}

void fm_xml_put_json(fm_str *out, const fm_xml_node *n) {
    if (n->mixed || !n->child) {
        bool only_text = !n->child || has_elements(n);
        if (only_text) {
            put_string(out, n->flat);
            return;
        }
    }
    fm_str_putc(out, '{');
    for (const fm_xml_node *c = n->child; c; c = c->next) {
        if (seen(n->child, c)) {
            continue;
        }
        fm_str_puts(out, c != n->child ? "," : "");
        fm_jsonl_put_text(out, c->name.ptr, c->name.len);
        fm_str_putc(out, ':');
        bool many = false;
        size_t at = out->len;
        fm_xml_put_json(out, c);
        for (const fm_xml_node *d = c->next; d; d = d->next) {
            if (d->name.len == c->name.len && memcmp(d->name.ptr, c->name.ptr, c->name.len) == 0) {
                if (!many && !out->failed) { /* the first one becomes the first of an array */
                    fm_str_putc(out, ' ');
                    if (!out->failed) {
                        memmove(out->data + at + 1, out->data + at, out->len - at - 1);
                        out->data[at] = '[';
                    }
                }
                many = true;
                fm_str_putc(out, ',');
                fm_xml_put_json(out, d);
            }
        }
        fm_str_puts(out, many ? "]" : "");
    }
    if (n->mixed && !has_elements(n)) {
        fm_str_puts(out, ",\"#text\":");
        put_string(out, n->flat);
    }
    fm_str_putc(out, '}');
}
