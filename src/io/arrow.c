/* Arrow streams: see arrow.h. A batch is a tree of arrays that point into the mapped file, or into unpacked buffers
 * that the batch owns. Nothing an array says is believed: each access is checked against its buffer. */
#include "io/arrow.h"

#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/arrow_schema.h"

#define MAX_BODY ((int64_t)4 << 30)

typedef struct span {
    const uint8_t *p;
    size_t n;
} span;

typedef struct array {
    const fm_arrow_field *field;
    uint64_t length;
    span valid, data, offsets; /* BYTES, LIST: offsets; VIEWS: data holds the views */
    span *variadic;            /* VIEWS */
    size_t n_variadic;
    struct array *child;
    size_t n_children;
    bool is_index; /* numbers into a dictionary */
} array;

typedef struct batch {
    array *column; /* [n] */
    size_t n;
    uint8_t **owned; /* unpacked buffers */
    size_t n_owned, owned_cap;
    int64_t held;
} batch;

typedef struct dictionary {
    int64_t id;
    batch values; /* one column */
} dictionary;

struct fm_arrow {
    char *name;
    fm_map map;
    size_t at;
    fm_arrow_field *field;
    size_t n_fields;
    dictionary *dict;
    size_t n_dicts, dicts_cap;
    batch cur;
    uint64_t row, n_rows; /* of the batch */
    fm_str *text;
    fm_table_value *value;
    bool done;
};

static fm_status damaged(const fm_arrow *a, const char *what) {
    FM_FAIL(FM_ERR_CORRUPT, "'%s': %s (at byte %zu)", a->name, what, a->at);
}

/* ---- batches ---------------------------------------------------------------------------------- */

static void free_array(array *x) {
    for (size_t i = 0; x->child && i < x->n_children; i++) {
        free_array(&x->child[i]);
    }
    fm_free(x->child);
    fm_free(x->variadic);
}

static void free_batch(batch *b) {
    for (size_t i = 0; b->column && i < b->n; i++) {
        free_array(&b->column[i]);
    }
    for (size_t i = 0; i < b->n_owned; i++) {
        fm_free(b->owned[i]);
    }
    fm_free(b->column);
    fm_free(b->owned);
    memset(b, 0, sizeof *b);
}

/* A RecordBatch being read. */
typedef struct reading {
    fm_arrow *a;
    batch *b;
    fm_flat f;
    size_t nodes, n_nodes, buffers, n_buffers, next_node, next_buffer, counts, n_counts, next_count;
    int codec; /* -1: not packed */
    span body;
} reading;

static fm_status unpack(reading *r, span in, span *out) {
    int64_t n = 0;
    if (in.n < 8) {
        return damaged(r->a, "a packed buffer without its size");
    }
    n = fm_flat_i64_at((fm_flat){in.p, in.n}, 0);
    in.p += 8;
    in.n -= 8;
    if (n == -1) { /* not packed after all */
        *out = in;
        return FM_OK;
    }
    /* No codec packs closer: a byte of LZ4 is at most 255, a block of 128 KiB takes zstd four bytes. */
    int64_t most = r->codec == 1 ? (int64_t)(in.n / 4 + 1) << 17 : (int64_t)(in.n + 1) * 255;
    if (n < 0 || n > most || n > MAX_BODY - r->b->held) {
        return damaged(r->a, "a packed buffer of an impossible size");
    }
    r->b->held += n;
    void *q = r->b->owned;
    FM_TRY(fm_grow(&q, &r->b->owned_cap, r->b->n_owned + 1, sizeof *r->b->owned));
    r->b->owned = q;
    uint8_t *p = fm_malloc((size_t)n + 1);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot unpack %lld bytes of '%s'", (long long)n, r->a->name);
    }
    r->b->owned[r->b->n_owned++] = p;
    bool ok =
        r->codec == 1 ? ZSTD_decompress(p, (size_t)n, in.p, in.n) == (size_t)n : fm_lz4_frame(p, (size_t)n, in.p, in.n);
    if (!ok) {
        return damaged(r->a, "a packed buffer is damaged");
    }
    *out = (span){p, (size_t)n};
    return FM_OK;
}

static fm_status take_buffer(reading *r, span *out) {
    *out = (span){NULL, 0};
    if (r->next_buffer >= r->n_buffers) {
        return damaged(r->a, "a batch has fewer buffers than its columns need");
    }
    size_t at = r->buffers + 16 * r->next_buffer++;
    int64_t off = fm_flat_i64_at(r->f, at), n = fm_flat_i64_at(r->f, at + 8);
    if (off < 0 || n < 0 || (uint64_t)off > r->body.n || (uint64_t)n > r->body.n - (uint64_t)off) {
        return damaged(r->a, "a buffer lies outside its batch");
    }
    span s = {r->body.p + off, (size_t)n};
    if (r->codec >= 0 && n > 0) {
        return unpack(r, s, out);
    }
    *out = s;
    return FM_OK;
}

static fm_status take_views(reading *r, array *x) {
    FM_TRY(take_buffer(r, &x->data));
    int64_t n = r->next_count < r->n_counts ? fm_flat_i64_at(r->f, r->counts + 8 * r->next_count) : -1;
    r->next_count++;
    if (n < 0 || (uint64_t)n > r->n_buffers) {
        return damaged(r->a, "a column of views without its buffers");
    }
    x->variadic = fm_calloc((size_t)n + 1, sizeof *x->variadic);
    if (!x->variadic) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a batch of '%s'", r->a->name);
    }
    for (; x->n_variadic < (size_t)n; x->n_variadic++) {
        FM_TRY(take_buffer(r, &x->variadic[x->n_variadic]));
    }
    return FM_OK;
}

static fm_status take_array(reading *r, array *x, const fm_arrow_field *field, bool values_of_dict) {
    if (r->next_node >= r->n_nodes) {
        return damaged(r->a, "a batch has fewer columns than the schema");
    }
    int64_t length = fm_flat_i64_at(r->f, r->nodes + 16 * r->next_node);
    int64_t nulls = fm_flat_i64_at(r->f, r->nodes + 16 * r->next_node + 8);
    r->next_node++;
    x->field = field;
    x->length = (uint64_t)FM_MAX(length, (int64_t)0);
    x->is_index = field->has_dict && !values_of_dict;
    fm_arrow_layout layout = x->is_index ? AR_FIXED : field->layout;
    if (layout == AR_NULL) {
        return FM_OK;
    }
    FM_TRY(take_buffer(r, &x->valid));
    if (nulls == 0) {
        x->valid = (span){NULL, 0};
    } else if (x->valid.n && x->valid.n < (x->length + 7) / 8) {
        return damaged(r->a, "a validity buffer is too short");
    }
    if (layout == AR_BYTES || layout == AR_LARGE_BYTES || layout == AR_LIST || layout == AR_LARGE_LIST) {
        FM_TRY(take_buffer(r, &x->offsets));
    }
    if (layout == AR_VIEWS) {
        FM_TRY(take_views(r, x));
    } else if (layout == AR_FIXED || layout == AR_BITS || layout == AR_BYTES || layout == AR_LARGE_BYTES) {
        FM_TRY(take_buffer(r, &x->data));
    } else if (field->n_children) {
        x->child = fm_calloc(field->n_children, sizeof *x->child);
        if (!x->child) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a batch of '%s'", r->a->name);
        }
        x->n_children = field->n_children;
        for (size_t i = 0; i < field->n_children; i++) {
            FM_TRY(take_array(r, &x->child[i], &field->child[i], false));
        }
    }
    return FM_OK;
}

/* table: a RecordBatch; its columns are those of fields [n]. */
static fm_status read_batch(fm_arrow *a, batch *b, fm_flat f, size_t table, span body, const fm_arrow_field *fields,
                            size_t n, bool values_of_dict) {
    reading r = {.a = a, .b = b, .f = f, .codec = -1, .body = body};
    r.nodes = fm_flat_vector(f, table, 1, 16, &r.n_nodes);
    r.buffers = fm_flat_vector(f, table, 2, 16, &r.n_buffers);
    r.counts = fm_flat_vector(f, table, 4, 8, &r.n_counts);
    size_t packing = fm_flat_table(f, table, 3);
    if (packing) {
        r.codec = (int)fm_flat_int(f, packing, 0, 1, 0);
        if (r.codec != 0 && r.codec != 1) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': buffers are packed with the unknown codec %d", a->name, r.codec);
        }
    }
    b->column = fm_calloc(n + 1, sizeof *b->column);
    if (!b->column) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a batch of '%s'", a->name);
    }
    b->n = n;
    for (size_t i = 0; i < n; i++) {
        FM_TRY(take_array(&r, &b->column[i], &fields[i], values_of_dict));
    }
    return FM_OK;
}

static const fm_arrow_field *field_of_dict(const fm_arrow_field *f, size_t n, int64_t id) {
    for (size_t i = 0; i < n; i++) {
        const fm_arrow_field *inner =
            f[i].has_dict && f[i].dict_id == id ? &f[i] : field_of_dict(f[i].child, f[i].n_children, id);
        if (inner) {
            return inner;
        }
    }
    return NULL;
}

static fm_status read_dictionary(fm_arrow *a, fm_flat f, size_t table, span body) {
    int64_t id = fm_flat_int(f, table, 0, 8, 0);
    const fm_arrow_field *field = field_of_dict(a->field, a->n_fields, id);
    if (fm_flat_int(f, table, 2, 1, 0) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': dictionaries that grow are not read", a->name);
    }
    if (!field) {
        return damaged(a, "a dictionary that no column uses");
    }
    dictionary *d = NULL;
    for (size_t i = 0; i < a->n_dicts; i++) {
        d = a->dict[i].id == id ? &a->dict[i] : d;
    }
    if (!d) {
        void *q = a->dict;
        FM_TRY(fm_grow(&q, &a->dicts_cap, a->n_dicts + 1, sizeof *a->dict));
        a->dict = q;
        d = &a->dict[a->n_dicts++];
        memset(d, 0, sizeof *d);
        d->id = id;
    }
    free_batch(&d->values);
    return read_batch(a, &d->values, f, fm_flat_table(f, table, 1), body, field, 1, true);
}

/* ---- messages --------------------------------------------------------------------------------- */

/* The next message; *kind 0 at the end of the stream. */
static fm_status next_message(fm_arrow *a, int *kind, fm_flat *f, size_t *header, span *body) {
    const uint8_t *p = a->map.data;
    size_t left = a->map.size - a->at;
    *kind = 0;
    if (left < 4) {
        return left == 0 || a->n_fields ? FM_OK : damaged(a, "the file is cut short");
    }
    fm_flat all = {p + a->at, left};
    uint32_t word = (uint32_t)(fm_flat_i64_at((fm_flat){all.p, FM_MIN(left, (size_t)8)}, 0) & 0xFFFFFFFF);
    size_t head = 4;
    if (left >= 8) {
        uint64_t both = (uint64_t)fm_flat_i64_at(all, 0);
        word = (uint32_t)both;
        if (word == 0xFFFFFFFFu) { /* since version 0.15 */
            word = (uint32_t)(both >> 32);
            head = 8;
        }
    }
    if (word == 0) {
        a->at = a->map.size;
        return FM_OK;
    }
    if (word > left - head) {
        return damaged(a, "the file is cut short");
    }
    *f = (fm_flat){all.p + head, word};
    size_t root = fm_flat_root(*f);
    int64_t n = fm_flat_int(*f, root, 3, 8, 0);
    *kind = (int)fm_flat_int(*f, root, 1, 1, 0);
    *header = fm_flat_table(*f, root, 2);
    left -= head + word;
    if (n < 0 || (uint64_t)n > left || *header == 0) {
        return damaged(a, n < 0 || *header == 0 ? "a message is damaged" : "the file is cut short");
    }
    *body = (span){f->p + word, (size_t)n};
    a->at += head + word + (size_t)n;
    return FM_OK;
}

/* Reads on to the next batch with rows. */
static fm_status next_batch(fm_arrow *a) {
    while (a->row >= a->n_rows && !a->done) {
        int kind;
        fm_flat f;
        size_t header;
        span body;
        size_t begun = a->at;
        FM_TRY(next_message(a, &kind, &f, &header, &body));
        if (kind == 0) {
            a->done = true;
        } else if (kind == 2) {
            FM_TRY(read_dictionary(a, f, header, body));
        } else if (kind == 3) {
            free_batch(&a->cur);
            fm_map_release(a->map.data, begun);
            a->row = 0;
            a->n_rows = (uint64_t)FM_MAX(fm_flat_int(f, header, 0, 8, 0), (int64_t)0);
            FM_TRY(read_batch(a, &a->cur, f, header, body, a->field, a->n_fields, false));
            for (size_t i = 0; i < a->n_fields; i++) {
                if (a->cur.column[i].length < a->n_rows) {
                    a->n_rows = 0;
                    return damaged(a, "a column is shorter than its batch");
                }
            }
        }
    }
    return FM_OK;
}

/* ---- values ----------------------------------------------------------------------------------- */

static bool is_null(const array *x, uint64_t i) {
    return x->valid.n && !(x->valid.p[i / 8] >> (i % 8) & 1);
}

/* The i-th offset of 4 or 8 bytes. */
static bool offset_at(const array *x, uint64_t i, bool large, uint64_t *out) {
    size_t w = large ? 8 : 4;
    if (i >= x->offsets.n / w) {
        return false;
    }
    const uint8_t *p = x->offsets.p + i * w;
    *out = 0;
    for (size_t k = 0; k < w; k++) {
        *out |= (uint64_t)p[k] << 8 * k;
    }
    return true;
}

static uint64_t bytes_at(const uint8_t *p, size_t w) {
    uint64_t v = 0;
    for (size_t k = 0; k < w; k++) {
        v |= (uint64_t)p[k] << 8 * k;
    }
    return v;
}

static int64_t sign_extend(uint64_t v, size_t w) {
    int shift = 64 - 8 * (int)w;
    return (int64_t)(v << shift) >> shift;
}

static fm_status emit(fm_arrow *a, const array *x, uint64_t i, fm_str *out, bool as_text, fm_json_kind *kind);

static fm_status emit_fixed(fm_arrow *a, const array *x, uint64_t i, fm_str *out, bool as_text, fm_json_kind *kind) {
    const fm_arrow_field *f = x->field;
    uint8_t big[32];
    fm_pq_value v = {.len = (uint32_t)f->width};
    if (i >= x->data.n / f->width) {
        return damaged(a, "a value lies outside its buffer");
    }
    const uint8_t *p = x->data.p + i * f->width;
    if (f->decimal) {
        for (size_t k = 0; k < f->width; k++) {
            big[k] = p[f->width - 1 - k];
        }
        v.u.p = big;
    } else if (f->leaf.type == PQ_FIXED) {
        v.u.p = p;
    } else {
        uint64_t u = bytes_at(p, f->width);
        bool raw = f->leaf.kind == PQ_K_UNSIGNED || f->leaf.type == PQ_FLOAT || f->leaf.type == PQ_DOUBLE;
        v.u.i = raw ? (int64_t)u : sign_extend(u, f->width);
        if (f->day_ms) {
            v.u.i = v.u.i / 86400000 - (v.u.i % 86400000 < 0);
        }
    }
    *kind = fm_pq_put(out, &f->leaf, &v, as_text);
    return FM_OK;
}

static fm_status emit_bytes(fm_arrow *a, const array *x, uint64_t i, fm_str *out, bool as_text, fm_json_kind *kind) {
    uint64_t from, to;
    const uint8_t *p = NULL;
    size_t n = 0;
    if (x->field->layout == AR_VIEWS) {
        if (i >= x->data.n / 16) {
            return damaged(a, "a value lies outside its buffer");
        }
        const uint8_t *view = x->data.p + 16 * i;
        n = (size_t)bytes_at(view, 4);
        p = view + 4;
        if (n > 12) {
            uint64_t which = bytes_at(view + 8, 4), at = bytes_at(view + 12, 4);
            if (which >= x->n_variadic || at > x->variadic[which].n || n > x->variadic[which].n - at) {
                return damaged(a, "a value lies outside its buffer");
            }
            p = x->variadic[which].p + at;
        }
    } else {
        bool large = x->field->layout == AR_LARGE_BYTES;
        if (!offset_at(x, i, large, &from) || !offset_at(x, i + 1, large, &to) || from > to || to > x->data.n) {
            return damaged(a, "a value lies outside its buffer");
        }
        p = x->data.p + from;
        n = (size_t)(to - from);
    }
    *kind = fm_table_put_bytes(out, n ? p : (const uint8_t *)"", n, as_text);
    return FM_OK;
}

static fm_status emit_list(fm_arrow *a, const array *x, uint64_t i, fm_str *out, fm_json_kind *kind) {
    uint64_t from, to;
    const fm_arrow_field *f = x->field;
    if (f->layout == AR_FIXED_LIST) {
        from = i * f->width;
        to = from + f->width;
    } else {
        bool large = f->layout == AR_LARGE_LIST;
        if (!offset_at(x, i, large, &from) || !offset_at(x, i + 1, large, &to)) {
            return damaged(a, "a list lies outside its buffer");
        }
    }
    if (from > to || to > x->child[0].length) {
        return damaged(a, "a list lies outside its items");
    }
    fm_str_putc(out, '[');
    for (uint64_t k = from; k < to; k++) {
        fm_json_kind inner;
        fm_str_puts(out, k > from ? "," : "");
        FM_TRY(emit(a, &x->child[0], k, out, false, &inner));
        FM_TRY(fm_str_check(out));
    }
    fm_str_putc(out, ']');
    *kind = FM_JSON_ARRAY;
    return FM_OK;
}

static fm_status emit_struct(fm_arrow *a, const array *x, uint64_t i, fm_str *out, fm_json_kind *kind) {
    fm_str_putc(out, '{');
    for (size_t k = 0; k < x->n_children; k++) {
        const char *name = x->child[k].field->name;
        fm_json_kind inner;
        fm_str_puts(out, k ? "," : "");
        fm_jsonl_put_text(out, name, strlen(name));
        fm_str_putc(out, ':');
        FM_TRY(emit(a, &x->child[k], i, out, false, &inner));
    }
    fm_str_putc(out, '}');
    *kind = FM_JSON_OBJECT;
    return FM_OK;
}

static fm_status emit_indexed(fm_arrow *a, const array *x, uint64_t i, fm_str *out, bool as_text, fm_json_kind *kind) {
    const fm_arrow_field *f = x->field;
    if (i >= x->data.n / f->index_width) {
        return damaged(a, "a value lies outside its buffer");
    }
    uint64_t u = bytes_at(x->data.p + i * f->index_width, f->index_width);
    int64_t index = f->index_unsigned ? (int64_t)u : sign_extend(u, f->index_width);
    for (size_t k = 0; k < a->n_dicts; k++) {
        if (a->dict[k].id == f->dict_id && a->dict[k].values.n == 1 && index >= 0) {
            return emit(a, &a->dict[k].values.column[0], (uint64_t)index, out, as_text, kind);
        }
    }
    return damaged(a, "a value that is not in its dictionary");
}

static fm_status emit(fm_arrow *a, const array *x, uint64_t i, fm_str *out, bool as_text, fm_json_kind *kind) {
    if (i >= x->length) {
        return damaged(a, "a value lies outside its column");
    }
    if ((x->field->layout == AR_NULL && !x->is_index) || is_null(x, i)) {
        fm_str_puts(out, "null");
        *kind = FM_JSON_NULL;
        return FM_OK;
    }
    if (x->is_index) {
        return emit_indexed(a, x, i, out, as_text, kind);
    }
    switch (x->field->layout) {
    case AR_BITS: {
        if (i / 8 >= x->data.n) {
            return damaged(a, "a value lies outside its buffer");
        }
        bool v = x->data.p[i / 8] >> (i % 8) & 1;
        fm_str_puts(out, v ? "true" : "false");
        *kind = v ? FM_JSON_TRUE : FM_JSON_FALSE;
        return FM_OK;
    }
    case AR_FIXED:
        return emit_fixed(a, x, i, out, as_text, kind);
    case AR_LIST:
    case AR_LARGE_LIST:
    case AR_FIXED_LIST:
        return emit_list(a, x, i, out, kind);
    case AR_STRUCT:
        return emit_struct(a, x, i, out, kind);
    default:
        return emit_bytes(a, x, i, out, as_text, kind);
    }
}

static fm_status next_row(void *self, const fm_table_value **row, bool *more) {
    fm_arrow *a = self;
    *more = false;
    *row = a->value;
    FM_TRY(next_batch(a));
    if (a->done) {
        return FM_OK;
    }
    for (size_t i = 0; i < a->n_fields; i++) {
        fm_str *t = &a->text[i];
        fm_str_clear(t);
        FM_TRY(emit(a, &a->cur.column[i], a->row, t, true, &a->value[i].kind));
        FM_TRY(fm_str_check(t));
        a->value[i].text = (fm_sv){t->data ? t->data : "", t->len};
    }
    a->row++;
    *more = true;
    return FM_OK;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static void close_table(void *self) {
    fm_arrow *a = self;
    if (a) {
        free_batch(&a->cur);
        for (size_t i = 0; i < a->n_dicts; i++) {
            free_batch(&a->dict[i].values);
        }
        for (size_t i = 0; a->text && i < a->n_fields; i++) {
            fm_str_free(&a->text[i]);
        }
        fm_free(a->dict);
        fm_free(a->text);
        fm_free(a->value);
        fm_arrow_fields_free(a->field, a->n_fields);
        fm_map_close(&a->map);
        fm_free(a->name);
        fm_free(a);
    }
}

static fm_status start(fm_arrow *a) {
    int kind;
    fm_flat f;
    size_t header;
    span body;
    FM_TRY(fm_map_open(&a->map, a->name));
    if (a->map.size >= 8 && memcmp(a->map.data, "ARROW1\0\0", 8) == 0) {
        a->at = 8; /* the file format is the stream with an index behind it */
    }
    FM_TRY(next_message(a, &kind, &f, &header, &body));
    if (kind != 1) {
        FM_FAIL(FM_ERR_FORMAT, "'%s' is no Arrow stream: it does not begin with a schema", a->name);
    }
    FM_TRY(fm_arrow_fields_read(&a->field, &a->n_fields, f, header, a->name));
    a->text = fm_calloc(a->n_fields + 1, sizeof *a->text);
    a->value = fm_calloc(a->n_fields + 1, sizeof *a->value);
    if (!a->text || !a->value) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", a->name);
    }
    if (a->n_fields == 0) {
        a->done = true; /* rows without columns are none */
    }
    return FM_OK;
}

fm_status fm_arrow_open(fm_arrow **out, const char *path) {
    *out = NULL;
    fm_arrow *a = fm_calloc(1, sizeof *a);
    if (a) {
        a->map.fd = -1;
        a->name = fm_strdup(path);
    }
    if (!a || !a->name) {
        fm_free(a);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    fm_status s = start(a);
    if (s != FM_OK) {
        close_table(a);
        return s;
    }
    *out = a;
    return FM_OK;
}

static size_t n_columns(const void *self) {
    return ((const fm_arrow *)self)->n_fields;
}
static const char *column(const void *self, size_t i) {
    return ((const fm_arrow *)self)->field[i].name;
}
static int64_t consumed(const void *self) {
    return (int64_t)((const fm_arrow *)self)->at;
}

const fm_table_ops fm_arrow_table = {n_columns, column, next_row, consumed, close_table};
