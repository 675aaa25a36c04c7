/* Records: see rec.h. */
#include "data/rec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/jsonl.h"

#define BLOCK_BYTES ((size_t)256 << 10)
#define ALIGN       ((size_t)16)
#define MOST_RAW    ((size_t)64 << 10)

/* ---- arena ------------------------------------------------------------------------------------ */

struct fm_bump_block {
    fm_bump_block *next;
    size_t cap;
    _Alignas(16) char data[];
};

void *fm_bump_alloc(fm_bump *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    while (a->at && a->at->cap - a->used < bytes && a->at->next) {
        a->at = a->at->next;
        a->used = 0;
    }
    if (!a->at || a->at->cap - a->used < bytes) {
        size_t cap = FM_MAX(bytes, BLOCK_BYTES);
        fm_bump_block *b = fm_malloc(sizeof *b + cap);
        if (!b) {
            return NULL;
        }
        b->next = NULL;
        b->cap = cap;
        if (a->at) {
            a->at->next = b;
        } else {
            a->first = b;
        }
        a->at = b;
        a->used = 0;
    }
    void *p = a->at->data + a->used;
    a->used += bytes;
    return p;
}

char *fm_bump_copy(fm_bump *a, const char *p, size_t n) {
    char *c = fm_bump_alloc(a, n + 1);
    if (c) {
        if (n) {
            memcpy(c, p, n);
        }
        c[n] = '\0';
    }
    return c;
}

fm_status fm_bump_sv(fm_bump *a, fm_sv *out, const char *p, size_t n) {
    out->ptr = fm_bump_copy(a, p, n);
    out->len = n;
    if (!out->ptr) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a value of %zu bytes", n);
    }
    return FM_OK;
}

fm_status fm_bump_repair(fm_bump *a, fm_sv *out, fm_sv text) {
    *out = text;
    if (fm_utf8_valid(text.ptr, text.len)) {
        return FM_OK;
    }
    char *copy = fm_bump_alloc(a, 3 * text.len + 1);
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot repair a text of %zu bytes", text.len);
    }
    size_t n = 0;
    const char *end = text.ptr + text.len;
    for (const char *p = text.ptr; p < end;) {
        uint32_t cp;
        int k = fm_utf8_decode(&cp, p, end);
        memcpy(copy + n, k ? p : "\xEF\xBF\xBD", k ? (size_t)k : 3);
        n += k ? (size_t)k : 3;
        p += k ? k : 1;
    }
    *out = (fm_sv){copy, n};
    return FM_OK;
}

/* Blocks much larger than usual were one row's; they are not kept. */
void fm_bump_reset(fm_bump *a) {
    fm_bump_block **at = &a->first;
    while (*at) {
        fm_bump_block *b = *at;
        if (b->cap > 4 * BLOCK_BYTES) {
            *at = b->next;
            fm_free(b);
        } else {
            at = &b->next;
        }
    }
    a->at = a->first;
    a->used = 0;
}

void fm_bump_free(fm_bump *a) {
    for (fm_bump_block *b = a->first; b;) {
        fm_bump_block *next = b->next;
        fm_free(b);
        b = next;
    }
    memset(a, 0, sizeof *a);
}

/* ---- tallies ---------------------------------------------------------------------------------- */

fm_status fm_tally_add(fm_tallies *t, const char *name, int64_t n) {
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->item[i].name, name) == 0) {
            t->item[i].n += n;
            return FM_OK;
        }
    }
    void *p = t->item;
    FM_TRY(fm_grow(&p, &t->cap, t->n + 1, sizeof *t->item));
    t->item = p;
    t->item[t->n].name = fm_strdup(name);
    if (!t->item[t->n].name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the name of a count");
    }
    t->item[t->n++].n = n;
    return FM_OK;
}

/* Names stay: the next batch counts the same things. */
void fm_tallies_clear(fm_tallies *t) {
    for (size_t i = 0; i < t->n; i++) {
        t->item[i].n = 0;
    }
}

void fm_tallies_free(fm_tallies *t) {
    for (size_t i = 0; i < t->n; i++) {
        fm_free((void *)(uintptr_t)t->item[i].name);
    }
    fm_free(t->item);
    memset(t, 0, sizeof *t);
}

/* ---- batches ---------------------------------------------------------------------------------- */

void fm_recs_reset(fm_recs *b) {
    fm_bump_reset(&b->arena);
    b->n = 0;
    fm_str_clear(&b->raw);
    b->n_pieces = 0;
    b->first_line = 1;
    b->bytes = 0;
    b->source = -1;
}

void fm_recs_free(fm_recs *b) {
    fm_bump_free(&b->arena);
    fm_free(b->rec);
    fm_free(b->piece);
    fm_str_free(&b->raw);
    fm_str_free(&b->unpacked);
    memset(b, 0, sizeof *b);
}

fm_status fm_rec_new(fm_bump *a, fm_rec **out, const fm_rec *like) {
    fm_rec *r = fm_bump_alloc(a, sizeof *r);
    size_t n = like ? like->n : 0, cap = FM_MAX(n + 2, (size_t)6);
    fm_cell *cells = fm_bump_alloc(a, cap * sizeof *cells);
    *out = r;
    if (!r || !cells) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a row");
    }
    if (like) {
        *r = *like;
        memcpy(cells, like->cell, n * sizeof *cells);
    } else {
        memset(r, 0, sizeof *r);
        r->source = -1;
    }
    r->cell = cells;
    r->cap = cap;
    return FM_OK;
}

fm_status fm_recs_push(fm_recs *b, fm_rec *r) {
    void *p = b->rec;
    FM_TRY(fm_grow(&p, &b->cap, b->n + 1, sizeof(fm_rec *)));
    b->rec = p;
    b->rec[b->n++] = r;
    return FM_OK;
}

fm_status fm_recs_add(fm_recs *b, fm_rec **out) {
    FM_TRY(fm_rec_new(&b->arena, out, NULL));
    (*out)->source = b->source;
    return fm_recs_push(b, *out);
}

fm_status fm_recs_reject(fm_recs *b, int64_t line, const char *reason, const char *detail, fm_sv raw) {
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = line;
    r->drop_step = -1;
    r->drop = fm_bump_copy(&b->arena, reason, strlen(reason));
    r->detail = detail ? fm_bump_copy(&b->arena, detail, strlen(detail)) : NULL;
    if (!r->drop || (detail && !r->detail)) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the reason of a refused row");
    }
    return raw.ptr ? fm_rec_set_text(&b->arena, r, "raw", raw.ptr, FM_MIN(raw.len, MOST_RAW)) : FM_OK;
}

fm_status fm_recs_piece(fm_recs *b, size_t at, size_t len, int64_t line, const char *bad) {
    void *p = b->piece;
    FM_TRY(fm_grow(&p, &b->pieces_cap, b->n_pieces + 1, sizeof *b->piece));
    b->piece = p;
    b->piece[b->n_pieces++] = (fm_piece){at, len, line, bad};
    return FM_OK;
}

/* ---- cells ------------------------------------------------------------------------------------ */

fm_cell *fm_rec_get_sv(const fm_rec *r, fm_sv name) {
    for (size_t i = 0; i < r->n; i++) {
        if (r->cell[i].name.len == name.len &&
            (name.len == 0 || memcmp(r->cell[i].name.ptr, name.ptr, name.len) == 0)) {
            return &r->cell[i];
        }
    }
    return NULL;
}

fm_cell *fm_rec_get(const fm_rec *r, const char *name) {
    return fm_rec_get_sv(r, fm_sv_of(name));
}

fm_status fm_rec_push(fm_bump *a, fm_rec *r, fm_cell c) {
    if (r->n == r->cap) {
        size_t cap = FM_MAX(2 * r->cap, (size_t)8);
        fm_cell *more = fm_bump_alloc(a, cap * sizeof *more);
        if (!more) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a row of %zu columns", cap);
        }
        if (r->n) {
            memcpy(more, r->cell, r->n * sizeof *more);
        }
        r->cell = more;
        r->cap = cap;
    }
    r->cell[r->n++] = c;
    return FM_OK;
}

static fm_status set(fm_bump *a, fm_rec *r, const char *name, fm_cell_kind kind, const char *p, size_t n) {
    fm_cell *c = fm_rec_get(r, name);
    if (!c) {
        fm_cell fresh = {.kind = kind};
        FM_TRY(fm_bump_sv(a, &fresh.name, name, strlen(name)));
        FM_TRY(fm_rec_push(a, r, fresh));
        c = &r->cell[r->n - 1];
    }
    c->kind = kind;
    c->raw = (fm_sv){NULL, 0};
    return fm_bump_sv(a, &c->text, p, n);
}

fm_status fm_rec_set_text(fm_bump *a, fm_rec *r, const char *name, const char *p, size_t n) {
    return set(a, r, name, FM_CELL_TEXT, p, n);
}

fm_status fm_rec_set_json(fm_bump *a, fm_rec *r, const char *name, const char *p, size_t n) {
    return set(a, r, name, FM_CELL_JSON, p, n);
}

fm_status fm_rec_set_int(fm_bump *a, fm_rec *r, const char *name, int64_t v) {
    char buf[32];
    int n = snprintf(buf, sizeof buf, "%lld", (long long)v);
    return set(a, r, name, FM_CELL_INT, buf, (size_t)n);
}

fm_status fm_rec_set_float(fm_bump *a, fm_rec *r, const char *name, double v) {
    char buf[40];
    if (!isfinite(v)) {
        return fm_rec_set_null(a, r, name);
    }
    int n = snprintf(buf, sizeof buf, "%.15g", v); /* the shorter form when it is exact */
    if (strtod(buf, NULL) != v) {
        n = snprintf(buf, sizeof buf, "%.17g", v);
    }
    return set(a, r, name, FM_CELL_FLOAT, buf, (size_t)n);
}

fm_status fm_rec_set_bool(fm_bump *a, fm_rec *r, const char *name, bool v) {
    return set(a, r, name, FM_CELL_BOOL, v ? "true" : "false", v ? 4 : 5);
}

fm_status fm_rec_set_null(fm_bump *a, fm_rec *r, const char *name) {
    return set(a, r, name, FM_CELL_NULL, "null", 4);
}

void fm_rec_remove(fm_rec *r, const fm_cell *c) {
    size_t i = (size_t)(c - r->cell);
    FM_ASSERT(i < r->n);
    memmove(&r->cell[i], &r->cell[i + 1], (r->n - i - 1) * sizeof *r->cell);
    r->n--;
}

fm_status fm_cell_set_text(fm_bump *a, fm_cell *c, const char *p, size_t n) {
    c->kind = FM_CELL_TEXT;
    c->raw = (fm_sv){NULL, 0};
    return fm_bump_sv(a, &c->text, p, n);
}

bool fm_cell_number(const fm_cell *c, double *out) {
    char buf[64];
    if (c->kind != FM_CELL_INT && c->kind != FM_CELL_FLOAT && c->kind != FM_CELL_TEXT) {
        return false;
    }
    const char *p = c->text.ptr;
    size_t n = c->text.len;
    while (n && strchr(" \t\r\n", p[n - 1]) && p[n - 1]) {
        n--;
    }
    while (n && strchr(" \t\r\n", *p) && *p) {
        p++;
        n--;
    }
    if (n == 0 || n >= sizeof buf) {
        return false;
    }
    memcpy(buf, p, n);
    buf[n] = '\0';
    double v;
    if (buf[strspn(buf, "0123456789+-.eE")] || strlen(buf) != n) { /* strtod also knows inf, nan and hex */
        return false;
    }
    char *end;
    v = strtod(buf, &end);
    if (*end || end == buf || !isfinite(v)) {
        return false;
    }
    *out = v;
    return true;
}

bool fm_cell_is_empty(const fm_cell *c) {
    return c->kind == FM_CELL_NULL || (c->kind == FM_CELL_TEXT && c->text.len == 0);
}

/* ---- JSON ------------------------------------------------------------------------------------- */

void fm_cell_put_json(fm_str *out, const fm_cell *c) {
    if (c->kind == FM_CELL_JSON) { /* verbatim but for line ends, which stand between tokens only */
        const char *p = c->text.ptr, *end = p + c->text.len;
        while (p < end) {
            const char *q = memchr(p, '\n', (size_t)(end - p));
            fm_str_append(out, p, (size_t)((q ? q : end) - p));
            p = q ? q + 1 : end;
        }
    } else if (c->kind != FM_CELL_TEXT) {
        fm_str_append(out, c->text.ptr, c->text.len);
    } else if (c->raw.ptr) {
        fm_str_putc(out, '"');
        fm_str_append(out, c->raw.ptr, c->raw.len);
        fm_str_putc(out, '"');
    } else {
        fm_jsonl_put_text(out, c->text.ptr, c->text.len);
    }
}

void fm_rec_put_json(fm_str *out, const fm_rec *r) {
    fm_str_putc(out, '{');
    for (size_t i = 0; i < r->n; i++) {
        if (i) {
            fm_str_putc(out, ',');
        }
        fm_jsonl_put_text(out, r->cell[i].name.ptr, r->cell[i].name.len);
        fm_str_putc(out, ':');
        fm_cell_put_json(out, &r->cell[i]);
    }
    fm_str_putc(out, '}');
}

typedef struct member_sink {
    fm_bump *arena;
    fm_rec *rec;
} member_sink;

/* The plain text of a JSON string: a view, or a copy in the arena when there are escapes. */
static fm_status plain_text(fm_bump *a, fm_sv *out, const fm_json_value *v) {
    *out = v->raw;
    if (!v->escaped) {
        return FM_OK;
    }
    char *p = fm_bump_alloc(a, v->raw.len + 1); /* escapes only shrink */
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a value of %zu bytes", v->raw.len);
    }
    fm_str s = {.data = p, .cap = v->raw.len + 1};
    fm_jsonl_text(&s, v);
    FM_ASSERT(s.data == p);
    out->ptr = p;
    out->len = s.len;
    return FM_OK;
}

static fm_status take_member(void *arg, const fm_json_value *key, const fm_json_value *v) {
    const member_sink *m = arg;
    fm_cell c = {.text = v->raw};
    FM_TRY(plain_text(m->arena, &c.name, key));
    switch (v->kind) {
    case FM_JSON_STRING:
        c.kind = FM_CELL_TEXT;
        c.raw = v->raw;
        FM_TRY(plain_text(m->arena, &c.text, v));
        break;
    case FM_JSON_NUMBER: {
        bool whole = true;
        for (size_t i = 0; i < v->raw.len; i++) {
            whole = whole && v->raw.ptr[i] != '.' && (v->raw.ptr[i] | 32) != 'e';
        }
        c.kind = whole ? FM_CELL_INT : FM_CELL_FLOAT;
        break;
    }
    case FM_JSON_TRUE:
    case FM_JSON_FALSE:
        c.kind = FM_CELL_BOOL;
        break;
    case FM_JSON_ARRAY:
    case FM_JSON_OBJECT:
        c.kind = FM_CELL_JSON;
        break;
    case FM_JSON_MISSING:
    case FM_JSON_NULL:
        c.kind = FM_CELL_NULL;
        break;
    }
    fm_cell *old = fm_rec_get_sv(m->rec, c.name); /* of a repeated key the last counts */
    if (old) {
        *old = c;
        return FM_OK;
    }
    return fm_rec_push(m->arena, m->rec, c);
}

fm_status fm_rec_parse_json(fm_bump *a, fm_rec *r, const char *line, size_t n) {
    member_sink m = {a, r};
    return fm_jsonl_members(line, n, take_member, &m);
}

uint64_t fm_cell_hash(const fm_cell *c) {
    uint64_t h = fm_hash64(c->name.ptr, c->name.len, (uint64_t)c->kind);
    return fm_hash64(c->text.ptr, c->text.len, h);
}

uint64_t fm_rec_hash(const fm_rec *r) {
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        uint64_t h = fm_cell_hash(&r->cell[i]);
        sum += fm_hash64(&h, sizeof h, 1);
    }
    return sum;
}
