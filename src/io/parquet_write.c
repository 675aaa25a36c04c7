/* Parquet files out: see parquet_write.h. Structs and field numbers are those of parquet.thrift. */
#include "io/parquet_write.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/error.h"
#include "base/mem.h"

enum { BOOLEAN = 0, INT64 = 2, DOUBLE = 5, BYTE_ARRAY = 6 };
enum { ENCODING_PLAIN = 0, ENCODING_RLE = 3, CODEC_ZSTD = 6 };

static const int physical[] = {BOOLEAN, INT64, DOUBLE, BYTE_ARRAY, BYTE_ARRAY};

typedef struct chunk {
    int64_t at, bytes, plain_bytes;
    fm_pqw_stats stats;
} chunk;

typedef struct column {
    char *name;
    fm_pqw_type type;
    fm_str pages;
    int64_t plain_bytes;
    fm_pqw_stats stats;
} column;

struct fm_pqw {
    column *col;
    size_t n;
    int64_t at; /* bytes of the file so far */
    int64_t rows, group_rows;
    chunk *chunk; /* [n_groups * n] */
    size_t chunks_cap, n_groups;
    int64_t *rows_of; /* [n_groups] */
    size_t groups_cap;
};

/* ---- Thrift's compact protocol ---------------------------------------------------------------- */

static void varint(fm_str *s, uint64_t v) {
    for (; v >= 0x80; v >>= 7) {
        fm_str_putc(s, (char)(v | 0x80));
    }
    fm_str_putc(s, (char)v);
}

static void zigzag(fm_str *s, int64_t v) {
    varint(s, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

enum { T_TRUE = 1, T_I32 = 5, T_I64 = 6, T_BINARY = 8, T_LIST = 9, T_STRUCT = 12 };

/* A field's head: ids rise by less than 16. */
static void field(fm_str *s, int *last, int id, int type) {
    fm_str_putc(s, (char)((id - *last) << 4 | type));
    *last = id;
}

static void number(fm_str *s, int *last, int id, int type, int64_t v) {
    field(s, last, id, type);
    zigzag(s, v);
}

static void text(fm_str *s, const char *v) {
    varint(s, strlen(v));
    fm_str_puts(s, v);
}

static void list(fm_str *s, int *last, int id, int type, size_t n) {
    field(s, last, id, T_LIST);
    if (n < 15) {
        fm_str_putc(s, (char)((int)n << 4 | type));
    } else {
        fm_str_putc(s, (char)(0xF0 | type));
        varint(s, n);
    }
}

static void end(fm_str *s) {
    fm_str_putc(s, '\0');
}

/* ---- pages ------------------------------------------------------------------------------------ */

static void little(fm_str *s, uint64_t v, int bytes) {
    char b[8];
    for (int i = 0; i < bytes; i++) {
        b[i] = (char)(v >> 8 * i);
    }
    fm_str_append(s, b, (size_t)bytes);
}

static bool present(const fm_table_value *v) {
    return v->kind != FM_JSON_NULL && v->kind != FM_JSON_MISSING;
}

/* Definition levels of 1 bit: one bit-packed run. */
static void put_levels(fm_str *s, const fm_table_value *v, size_t n) {
    fm_str run = {0};
    varint(&run, (uint64_t)((n + 7) / 8) << 1 | 1);
    for (size_t i = 0; i < n; i += 8) {
        unsigned byte = 0;
        for (size_t k = 0; k < 8 && i + k < n; k++) {
            byte |= (unsigned)present(&v[i + k]) << k;
        }
        fm_str_putc(&run, (char)byte);
    }
    little(s, run.len, 4);
    fm_str_append(s, run.data, run.len);
    s->failed = s->failed || run.failed;
    fm_str_free(&run);
}

static void put_booleans(fm_str *s, const fm_table_value *v, size_t n) {
    unsigned byte = 0, bits = 0;
    for (size_t i = 0; i < n; i++) {
        if (present(&v[i])) {
            byte |= (unsigned)(v[i].kind == FM_JSON_TRUE) << bits;
            if (++bits == 8) {
                fm_str_putc(s, (char)byte);
                byte = bits = 0;
            }
        }
    }
    if (bits) {
        fm_str_putc(s, (char)byte);
    }
}

/* ---- bounds ----------------------------------------------------------------------------------- */

static int compare_text(const char *a, size_t n, const char *b, size_t m) {
    int c = memcmp(a, b, FM_MIN(n, m));
    return c != 0 ? c : n < m ? -1 : n > m;
}

static void bound_text(fm_pqw_stats *s, const char *p, size_t n) {
    s->unbounded = s->unbounded || n > FM_PQW_BOUND;
    for (int k = 0; k < 2 && !s->unbounded; k++) {
        int c = compare_text(p, n, s->text[k], s->len[k]);
        if (s->n == 0 || (k ? c > 0 : c < 0)) {
            memcpy(s->text[k], p, n);
            s->len[k] = n;
        }
    }
}

static void bound_int(fm_pqw_stats *s, int64_t v) {
    s->i[0] = s->n == 0 || v < s->i[0] ? v : s->i[0];
    s->i[1] = s->n == 0 || v > s->i[1] ? v : s->i[1];
}

static void bound_double(fm_pqw_stats *s, double v) {
    s->d[0] = s->n == 0 || v < s->d[0] ? v : s->d[0];
    s->d[1] = s->n == 0 || v > s->d[1] ? v : s->d[1];
}

static void merge_stats(fm_pqw_stats *s, const fm_pqw_stats *from, fm_pqw_type type) {
    s->nulls += from->nulls;
    s->unbounded = s->unbounded || from->unbounded;
    for (int k = 0; k < 2 && from->n > 0; k++) {
        if (type == FM_PQW_DOUBLE) {
            bound_double(s, from->d[k]);
        } else if (type < FM_PQW_DOUBLE) {
            bound_int(s, from->i[k]);
        } else if (!from->unbounded) {
            bound_text(s, from->text[k], from->len[k]);
        }
        s->n += k == 0 ? from->n : 0;
    }
}

/* A number's text ends where the value does, which need not be the end of a string. */
static void put_number(fm_str *s, fm_pqw_type type, fm_sv t, fm_pqw_stats *stats) {
    char few[64], *buf = t.len < sizeof few ? few : fm_malloc(t.len + 1);
    if (!buf) {
        s->failed = true;
        return;
    }
    memcpy(buf, t.ptr, t.len);
    buf[t.len] = '\0';
    if (type == FM_PQW_INT) {
        int64_t v = strtoll(buf, NULL, 10);
        bound_int(stats, v);
        little(s, (uint64_t)v, 8);
    } else {
        double d = strtod(buf, NULL);
        uint64_t bits;
        memcpy(&bits, &d, sizeof bits);
        bound_double(stats, d);
        little(s, bits, 8);
    }
    if (buf != few) {
        fm_free(buf);
    }
}

static fm_status pack_page(fm_str *out, fm_pqw_page *page, const fm_str *body, size_t n) {
    fm_str head = {0};
    if (body->len > INT32_MAX || n > INT32_MAX) {
        FM_FAIL(FM_ERR_DATA, "a Parquet page holds no more than 2 GiB: one of %zu rows has %zu bytes", n, body->len);
    }
    size_t room = ZSTD_compressBound(body->len);
    char *packed = fm_malloc(room + 1);
    if (!packed) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot pack a page of %zu bytes", body->len);
    }
    size_t k = ZSTD_compress(packed, room, body->data, body->len, 3);
    fm_status s = FM_OK;
    if (ZSTD_isError(k)) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot pack a page of %zu bytes", body->len);
    } else {
        int last = 0, inner = 0;
        number(&head, &last, 1, T_I32, 0);
        number(&head, &last, 2, T_I32, (int64_t)body->len);
        number(&head, &last, 3, T_I32, (int64_t)k);
        field(&head, &last, 5, T_STRUCT);
        number(&head, &inner, 1, T_I32, (int64_t)n);
        number(&head, &inner, 2, T_I32, ENCODING_PLAIN);
        number(&head, &inner, 3, T_I32, ENCODING_RLE);
        number(&head, &inner, 4, T_I32, ENCODING_RLE);
        end(&head);
        end(&head);
        fm_str_append(out, head.data, head.len);
        fm_str_append(out, packed, k);
        page->plain_bytes = head.len + body->len;
        page->bytes = head.len + k;
        s = head.failed ? fm_str_check(&head) : fm_str_check(out);
    }
    fm_str_free(&head);
    fm_free(packed);
    return s;
}

fm_status fm_pqw_make_page(fm_str *out, fm_pqw_page *page, fm_pqw_type type, const fm_table_value *v, size_t n) {
    fm_str body = {0};
    fm_pqw_stats *stats = &page->stats;
    *page = (fm_pqw_page){0};
    put_levels(&body, v, n);
    if (type == FM_PQW_BOOL) {
        put_booleans(&body, v, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!present(&v[i])) {
            stats->nulls++;
            continue;
        }
        if (type == FM_PQW_BOOL) {
            bound_int(stats, v[i].kind == FM_JSON_TRUE);
        } else if (type == FM_PQW_TEXT || type == FM_PQW_JSON) {
            little(&body, v[i].text.len, 4);
            fm_str_append(&body, v[i].text.ptr, v[i].text.len);
            bound_text(stats, v[i].text.ptr, v[i].text.len);
        } else {
            put_number(&body, type, v[i].text, stats);
        }
        stats->n++;
    }
    fm_status s = fm_str_check(&body);
    if (s == FM_OK) {
        s = pack_page(out, page, &body, n);
    }
    fm_str_free(&body);
    return s;
}

/* ---- files ------------------------------------------------------------------------------------ */

fm_status fm_pqw_new(fm_pqw **out, const char *const *names, const fm_pqw_type *types, size_t n) {
    fm_pqw *w = *out = fm_calloc(1, sizeof *w);
    if (w) {
        w->col = fm_calloc(n + 1, sizeof *w->col);
    }
    if (!w || !w->col) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a Parquet writer");
    }
    for (; w->n < n; w->n++) {
        w->col[w->n].type = types[w->n];
        w->col[w->n].name = fm_strdup(names[w->n]);
        if (!w->col[w->n].name) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a Parquet writer");
        }
    }
    return FM_OK;
}

void fm_pqw_free(fm_pqw *w) {
    if (w) {
        for (size_t i = 0; w->col && i < w->n; i++) {
            fm_free(w->col[i].name);
            fm_str_free(&w->col[i].pages);
        }
        fm_free(w->col);
        fm_free(w->chunk);
        fm_free(w->rows_of);
        fm_free(w);
    }
}

void fm_pqw_begin(fm_pqw *w, fm_str *out) {
    fm_str_puts(out, "PAR1");
    w->at = 4;
}

fm_status fm_pqw_add(fm_pqw *w, size_t i, const char *bytes, const fm_pqw_page *page) {
    column *c = &w->col[i];
    fm_str_append(&c->pages, bytes, page->bytes);
    c->plain_bytes += (int64_t)page->plain_bytes;
    merge_stats(&c->stats, &page->stats, c->type);
    return fm_str_check(&c->pages);
}

void fm_pqw_rows(fm_pqw *w, int64_t n) {
    w->group_rows += n;
}

size_t fm_pqw_held(const fm_pqw *w) {
    size_t sum = 0;
    for (size_t i = 0; i < w->n; i++) {
        sum += w->col[i].pages.len;
    }
    return sum;
}

fm_status fm_pqw_group(fm_pqw *w, fm_str *out) {
    if (w->group_rows == 0) {
        return FM_OK;
    }
    void *p = w->chunk;
    FM_TRY(fm_grow(&p, &w->chunks_cap, (w->n_groups + 1) * w->n + 1, sizeof *w->chunk));
    w->chunk = p;
    p = w->rows_of;
    FM_TRY(fm_grow(&p, &w->groups_cap, w->n_groups + 1, sizeof *w->rows_of));
    w->rows_of = p;
    for (size_t i = 0; i < w->n; i++) {
        column *c = &w->col[i];
        w->chunk[w->n_groups * w->n + i] = (chunk){w->at, (int64_t)c->pages.len, c->plain_bytes, c->stats};
        fm_str_append(out, c->pages.data, c->pages.len);
        w->at += (int64_t)c->pages.len;
        fm_str_clear(&c->pages);
        c->plain_bytes = 0;
        c->stats = (fm_pqw_stats){0};
    }
    w->rows_of[w->n_groups++] = w->group_rows;
    w->rows += w->group_rows;
    w->group_rows = 0;
    return fm_str_check(out);
}

static void put_schema(const fm_pqw *w, fm_str *s, int *last) {
    int in = 0;
    list(s, last, 2, T_STRUCT, w->n + 1);
    field(s, &in, 4, T_BINARY);
    text(s, "schema");
    number(s, &in, 5, T_I32, (int64_t)w->n);
    end(s);
    for (size_t i = 0; i < w->n; i++) {
        bool json = w->col[i].type == FM_PQW_JSON;
        in = 0;
        number(s, &in, 1, T_I32, physical[w->col[i].type]);
        number(s, &in, 3, T_I32, 1); /* optional */
        field(s, &in, 4, T_BINARY);
        text(s, w->col[i].name);
        if (w->col[i].type >= FM_PQW_TEXT) {
            int kind = 0;
            number(s, &in, 6, T_I32, json ? 19 : 0);
            field(s, &in, 10, T_STRUCT); /* LogicalType: STRING or JSON, empty structs */
            field(s, &kind, json ? 12 : 1, T_STRUCT);
            end(s);
            end(s);
        }
        end(s);
    }
}

/* Statistics: null_count 3, max_value 5, min_value 6, both exact (7, 8). */
static void put_stats(fm_str *s, const fm_pqw_stats *t, fm_pqw_type type) {
    int in = 0;
    number(s, &in, 3, T_I64, t->nulls);
    for (int k = 1; k >= 0 && t->n > 0 && !t->unbounded; k--) {
        field(s, &in, k ? 5 : 6, T_BINARY);
        if (type >= FM_PQW_TEXT) {
            varint(s, t->len[k]);
            fm_str_append(s, t->text[k], t->len[k]);
        } else if (type == FM_PQW_BOOL) {
            varint(s, 1);
            fm_str_putc(s, (char)t->i[k]);
        } else {
            uint64_t bits = (uint64_t)t->i[k];
            if (type == FM_PQW_DOUBLE) { /* zero has two signs; the bounds hold both */
                double d = t->d[k] == 0 ? (k ? 0.0 : -0.0) : t->d[k];
                memcpy(&bits, &d, sizeof bits);
            }
            varint(s, 8);
            little(s, bits, 8);
        }
    }
    if (t->n > 0 && !t->unbounded) {
        field(s, &in, 7, T_TRUE);
        field(s, &in, 8, T_TRUE);
    }
    end(s);
}

static void put_chunk(const fm_pqw *w, fm_str *s, size_t group, size_t i) {
    const chunk *c = &w->chunk[group * w->n + i];
    int out = 0, in = 0;
    number(s, &out, 2, T_I64, c->at);
    field(s, &out, 3, T_STRUCT);
    number(s, &in, 1, T_I32, physical[w->col[i].type]);
    list(s, &in, 2, T_I32, 2);
    zigzag(s, ENCODING_PLAIN);
    zigzag(s, ENCODING_RLE);
    list(s, &in, 3, T_BINARY, 1);
    text(s, w->col[i].name);
    number(s, &in, 4, T_I32, CODEC_ZSTD);
    number(s, &in, 5, T_I64, w->rows_of[group]);
    number(s, &in, 6, T_I64, c->plain_bytes);
    number(s, &in, 7, T_I64, c->bytes);
    number(s, &in, 9, T_I64, c->at);
    field(s, &in, 12, T_STRUCT);
    put_stats(s, &c->stats, w->col[i].type);
    end(s);
    end(s);
}

fm_status fm_pqw_footer(fm_pqw *w, fm_str *out) {
    FM_TRY(fm_pqw_group(w, out));
    size_t begun = out->len;
    int last = 0;
    number(out, &last, 1, T_I32, 1);
    put_schema(w, out, &last);
    number(out, &last, 3, T_I64, w->rows);
    list(out, &last, 4, T_STRUCT, w->n_groups);
    for (size_t g = 0; g < w->n_groups; g++) {
        int in = 0;
        int64_t plain = 0;
        list(out, &in, 1, T_STRUCT, w->n);
        for (size_t i = 0; i < w->n; i++) {
            put_chunk(w, out, g, i);
            plain += w->chunk[g * w->n + i].plain_bytes;
        }
        number(out, &in, 2, T_I64, plain);
        number(out, &in, 3, T_I64, w->rows_of[g]);
        end(out);
    }
    field(out, &last, 6, T_BINARY);
    text(out, "fathom " FATHOM_VERSION);
    list(out, &last, 7, T_STRUCT, w->n); /* without column orders readers must not use the bounds */
    for (size_t i = 0; i < w->n; i++) {
        int kind = 0;
        field(out, &kind, 1, T_STRUCT); /* TYPE_ORDER */
        end(out);
        end(out);
    }
    end(out);
    FM_TRY(fm_str_check(out));
    if (out->len - begun > INT32_MAX) {
        FM_FAIL(FM_ERR_DATA, "a Parquet footer of %zu columns in %zu row groups is too large", w->n, w->n_groups);
    }
    little(out, out->len - begun, 4);
    fm_str_puts(out, "PAR1");
    return fm_str_check(out);
}
