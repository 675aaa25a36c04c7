/* The Parquet reader: a cursor per leaf column holds one page; rows are put together from their definition and
 * repetition levels (Melnik et al., "Dremel", VLDB 2010, section 4). */
#include "io/parquet.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/parquet_meta.h"

#define MAX_PAGE_VALUES ((int64_t)1 << 24)
#define MAX_HELD        ((int64_t)2 << 30) /* decoded pages of all columns together */
#define MAX_PAGE_BYTES  ((int64_t)1 << 30)

typedef struct column {
    const fm_pq_node *leaf;
    const fm_pq_chunk *chunk;
    int64_t at, end;     /* bytes of the chunk still to read */
    int64_t values_left; /* of the chunk, behind this page */
    uint8_t *dict_bytes, *page_bytes;
    fm_str scratch; /* values put together by some encodings */
    fm_str dict_scratch;
    fm_pq_value *dict, *value; /* [n_dict], [n_values] */
    size_t n_dict, n_values;
    uint32_t *def, *rep; /* [n] levels; NULL when they are all 0 */
    size_t n, i, next_value;
    int64_t held;
} column;

struct fm_parquet {
    char *name;
    fm_map map;
    const uint8_t *data;
    size_t size;
    fm_pq_meta meta;
    column *col;
    size_t group; /* next one */
    int64_t rows_left, consumed, held;
    fm_str *text; /* [n fields] */
    fm_table_value *row;
};

/* ---- pages ------------------------------------------------------------------------------------ */

static void drop_page(fm_parquet *p, column *c) {
    fm_free(c->page_bytes);
    fm_free(c->value);
    fm_free(c->def);
    fm_free(c->rep);
    c->page_bytes = NULL;
    c->value = NULL;
    c->def = c->rep = NULL;
    c->n = c->i = c->n_values = c->next_value = 0;
    p->held -= c->held;
    c->held = 0;
}

static void drop_chunk(fm_parquet *p, column *c) {
    drop_page(p, c);
    fm_free(c->dict_bytes);
    fm_free(c->dict);
    c->dict_bytes = NULL;
    c->dict = NULL;
    c->n_dict = 0;
    c->values_left = 0;
}

static fm_status no_memory(const fm_parquet *p, int64_t n) {
    FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %lld bytes for a page of '%s'", (long long)n, p->name);
}

static fm_status damaged(const fm_parquet *p, const column *c, const char *what) {
    FM_FAIL(FM_ERR_CORRUPT, "'%s': column '%s': %s", p->name, c->leaf->name, what);
}

static int bits_for(int max) {
    int bits = 0;
    while (max >> bits) {
        bits++;
    }
    return bits;
}

/* Levels of a page into a new array. Version 1 has their length before them (RLE), version 2 in the page's head. */
static fm_status levels(fm_parquet *p, column *c, uint32_t **out, int max, size_t n, const uint8_t **at,
                        const uint8_t *end, int encoding, int64_t v2_bytes) {
    if (max == 0) {
        if (v2_bytes > end - *at) {
            return damaged(p, c, "levels lie outside the page");
        }
        *at += FM_MAX(v2_bytes, (int64_t)0);
        return FM_OK;
    }
    *out = fm_malloc((n + 1) * sizeof **out);
    if (!*out) {
        return no_memory(p, (int64_t)n * 4);
    }
    size_t have = (size_t)(end - *at), size;
    int bits = bits_for(max);
    bool ok;
    if (v2_bytes >= 0) {
        size = (size_t)v2_bytes;
        ok = size <= have && fm_pq_hybrid(*out, n, bits, *at, size);
    } else if (encoding == 4) { /* bit-packed, most significant bit first: older than version 1.0 of the format */
        size = ((size_t)bits * n + 7) / 8;
        ok = size <= have;
        for (size_t i = 0; ok && i < n; i++) {
            uint32_t v = 0;
            for (int b = 0; b < bits; b++) {
                size_t k = i * (size_t)bits + (size_t)b;
                v = v << 1 | ((*at)[k / 8] >> (7 - k % 8) & 1u);
            }
            (*out)[i] = v;
        }
    } else {
        ok = have >= 4;
        size = ok ? (size_t)(*at)[0] | (size_t)(*at)[1] << 8 | (size_t)(*at)[2] << 16 | (size_t)(*at)[3] << 24 : 0;
        ok = ok && size <= have - 4 && fm_pq_hybrid(*out, n, bits, *at + 4, size);
        size += 4;
    }
    for (size_t i = 0; ok && i < n; i++) {
        ok = (*out)[i] <= (uint32_t)max;
    }
    if (!ok) {
        return damaged(p, c, "the levels of a page are damaged");
    }
    *at += size;
    return FM_OK;
}

/* The page's bytes, unpacked: into the file where they are plain, else into *owned. */
static fm_status page_data(fm_parquet *p, const column *c, const fm_pq_page *h, const uint8_t *raw, uint8_t **owned,
                           const uint8_t **out) {
    int64_t levels_bytes = h->kind == 3 ? (int64_t)h->def_bytes + h->rep_bytes : 0;
    if (levels_bytes > h->bytes || levels_bytes > h->packed_bytes) {
        return damaged(p, c, "levels lie outside the page");
    }
    bool packed = c->chunk->codec != PQ_PLAIN && !(h->kind == 3 && !h->packed);
    if (!packed) {
        if (h->bytes != h->packed_bytes) {
            return damaged(p, c, "a page that is not packed has two sizes");
        }
        *out = raw;
        return FM_OK;
    }
    *owned = fm_malloc((size_t)h->bytes + 1);
    if (!*owned) {
        return no_memory(p, h->bytes);
    }
    memcpy(*owned, raw, (size_t)levels_bytes);
    *out = *owned;
    if (h->bytes == levels_bytes) {
        return FM_OK; /* nothing but nulls */
    }
    return fm_pq_unpack(*owned + levels_bytes, (size_t)(h->bytes - levels_bytes), raw + levels_bytes,
                        (size_t)(h->packed_bytes - levels_bytes), c->chunk->codec, p->name);
}

static fm_status dictionary_page(fm_parquet *p, column *c, const fm_pq_page *h, const uint8_t *raw) {
    const uint8_t *data;
    if (c->dict) {
        return damaged(p, c, "two dictionaries");
    }
    FM_TRY(page_data(p, c, h, raw, &c->dict_bytes, &data));
    if (h->n_values > h->bytes * 8) {
        return damaged(p, c, "the dictionary counts more values than it has bytes");
    }
    c->dict = fm_calloc((size_t)h->n_values + 1, sizeof *c->dict);
    if (!c->dict) {
        return no_memory(p, h->n_values * 16);
    }
    c->n_dict = (size_t)h->n_values;
    return fm_pq_values(c->dict, c->n_dict, c->leaf, 0, data, (size_t)h->bytes, NULL, 0, &c->dict_scratch, p->name);
}

static fm_status data_page(fm_parquet *p, column *c, const fm_pq_page *h, const uint8_t *raw) {
    const uint8_t *data;
    if (h->n_values > c->values_left || h->n_values > MAX_PAGE_VALUES) {
        return damaged(p, c, "a page counts more values than its column has left");
    }
    c->held = (int64_t)h->n_values * (int64_t)(sizeof *c->value + 24) + h->bytes;
    p->held += c->held;
    if (p->held > MAX_HELD) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': pages of all columns together need more than %lld bytes", p->name,
                (long long)MAX_HELD);
    }
    FM_TRY(page_data(p, c, h, raw, &c->page_bytes, &data));
    const uint8_t *at = data, *end = data + h->bytes;
    size_t n = (size_t)h->n_values, present = n;
    bool v2 = h->kind == 3;
    FM_TRY(levels(p, c, &c->rep, c->leaf->max_rep, n, &at, end, h->rep_encoding, v2 ? h->rep_bytes : -1));
    FM_TRY(levels(p, c, &c->def, c->leaf->max_def, n, &at, end, h->def_encoding, v2 ? h->def_bytes : -1));
    for (size_t i = 0; c->def && i < n; i++) {
        present -= c->def[i] != (uint32_t)c->leaf->max_def;
    }
    c->value = fm_calloc(present + 1, sizeof *c->value);
    if (!c->value) {
        return no_memory(p, (int64_t)present * 16);
    }
    FM_TRY(fm_pq_values(c->value, present, c->leaf, h->encoding, at, (size_t)(end - at), c->dict, c->n_dict,
                        &c->scratch, p->name));
    c->n_values = present;
    c->n = n;
    c->values_left -= h->n_values;
    return FM_OK;
}

/* Makes c->i point to an entry; FM_ERR_CORRUPT when the column has none left. */
static fm_status need(fm_parquet *p, column *c) {
    while (c->i == c->n) {
        fm_pq_page h;
        drop_page(p, c);
        if (c->values_left <= 0 || c->at >= c->end) {
            return damaged(p, c, "fewer values than rows");
        }
        FM_TRY(fm_pq_page_head(&h, p->data + c->at, (size_t)(c->end - c->at), p->name));
        const uint8_t *raw = p->data + c->at + h.head_bytes;
        int64_t left = c->end - c->at - (int64_t)h.head_bytes;
        if (h.packed_bytes > left || h.bytes > MAX_PAGE_BYTES) {
            return damaged(p, c, "a page reaches over the end of its column");
        }
        c->at += (int64_t)h.head_bytes + h.packed_bytes;
        p->consumed += (int64_t)h.head_bytes + h.packed_bytes;
        if (h.kind == 2) {
            FM_TRY(dictionary_page(p, c, &h, raw));
        } else if (h.kind == 0 || h.kind == 3) {
            FM_TRY(data_page(p, c, &h, raw));
        }
    }
    return FM_OK;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static fm_status level_of(fm_parquet *p, const fm_pq_node *n, uint32_t *def) {
    column *c = &p->col[n->column];
    FM_TRY(need(p, c));
    *def = c->def ? c->def[c->i] : 0;
    return FM_OK;
}

/* Repetition level of the next entry under n, or 0 at the end of the column. */
static fm_status next_rep(fm_parquet *p, const fm_pq_node *n, uint32_t *rep) {
    column *c = &p->col[n->column];
    *rep = 0;
    if (c->i == c->n && c->values_left <= 0) {
        return FM_OK;
    }
    FM_TRY(need(p, c));
    *rep = c->rep ? c->rep[c->i] : 0;
    return FM_OK;
}

/* Passes one entry of every leaf below n. */
static fm_status pass_entry(fm_parquet *p, const fm_pq_node *n) {
    if (!n->is_leaf) {
        for (size_t i = 0; i < n->n_children; i++) {
            FM_TRY(pass_entry(p, n->child[i]));
        }
        return FM_OK;
    }
    column *c = &p->col[n->column];
    FM_TRY(need(p, c));
    c->next_value += !c->def || c->def[c->i] == (uint32_t)n->max_def;
    c->i++;
    return FM_OK;
}

static fm_status emit(fm_parquet *p, const fm_pq_node *n, fm_str *out, bool as_text, fm_json_kind *kind);

/* What stands inside a node once it is known to be there: a value, or the members of a group. */
static fm_status emit_present(fm_parquet *p, const fm_pq_node *n, fm_str *out, bool as_text, fm_json_kind *kind) {
    if (n->is_leaf) {
        column *c = &p->col[n->column];
        FM_TRY(need(p, c));
        if (c->next_value >= c->n_values || (c->def && c->def[c->i] != (uint32_t)n->max_def)) {
            return damaged(p, c, "levels and values do not agree");
        }
        *kind = fm_pq_put(out, n, &c->value[c->next_value++], as_text);
        c->i++;
        return FM_OK;
    }
    bool list = (n->kind == PQ_K_LIST || n->kind == PQ_K_MAP) && n->n_children == 1 && n->child[0]->rep == PQ_REPEATED;
    if (list) { /* the repeated member is the list */
        return emit(p, n->child[0], out, false, kind);
    }
    fm_str_putc(out, '{');
    for (size_t i = 0; i < n->n_children; i++) {
        fm_json_kind inner;
        fm_str_puts(out, i ? "," : "");
        fm_jsonl_put_text(out, n->child[i]->name, strlen(n->child[i]->name));
        fm_str_putc(out, ':');
        FM_TRY(emit(p, n->child[i], out, false, &inner));
    }
    fm_str_putc(out, '}');
    *kind = FM_JSON_OBJECT;
    return FM_OK;
}

/* Is this repeated group the middle of a three-level list (its one member is the item)? Rules of LogicalTypes.md. */
static const fm_pq_node *list_item(const fm_pq_node *n) {
    static const char *const not_items[] = {"array"};
    return !n->is_leaf && n->n_children == 1 && strcmp(n->name, not_items[0]) != 0 &&
                   !(strlen(n->name) > 6 && strcmp(n->name + strlen(n->name) - 6, "_tuple") == 0)
               ? n->child[0]
               : NULL;
}

static fm_status emit_repeated(fm_parquet *p, const fm_pq_node *n, fm_str *out, fm_json_kind *kind) {
    uint32_t def, rep;
    *kind = FM_JSON_ARRAY;
    FM_TRY(level_of(p, n, &def));
    if (def < (uint32_t)n->max_def) {
        fm_str_puts(out, "[]");
        return pass_entry(p, n);
    }
    const fm_pq_node *item = list_item(n);
    fm_str_putc(out, '[');
    for (bool first = true;; first = false) {
        fm_json_kind inner;
        fm_str_puts(out, first ? "" : ",");
        FM_TRY(item ? emit(p, item, out, false, &inner) : emit_present(p, n, out, false, &inner));
        FM_TRY(fm_str_check(out));
        FM_TRY(next_rep(p, n, &rep));
        if (rep != (uint32_t)n->max_rep) {
            break;
        }
    }
    fm_str_putc(out, ']');
    return FM_OK;
}

static fm_status emit(fm_parquet *p, const fm_pq_node *n, fm_str *out, bool as_text, fm_json_kind *kind) {
    uint32_t def;
    if (n->rep == PQ_REPEATED) {
        return emit_repeated(p, n, out, kind);
    }
    if (n->rep == PQ_OPTIONAL) {
        FM_TRY(level_of(p, n, &def));
        if (def < (uint32_t)n->max_def) {
            fm_str_puts(out, "null");
            *kind = FM_JSON_NULL;
            return pass_entry(p, n);
        }
    }
    return emit_present(p, n, out, as_text, kind);
}

static fm_status open_group(fm_parquet *p) {
    const fm_pq_meta *m = &p->meta;
    p->rows_left = m->group_rows[p->group];
    for (size_t i = 0; i < m->n_leaves && p->rows_left > 0; i++) { /* one without rows may have no place in the file */
        column *c = &p->col[i];
        drop_chunk(p, c);
        c->leaf = m->leaf[i];
        c->chunk = &m->chunk[p->group * m->n_leaves + i];
        if (c->chunk->encrypted || c->chunk->elsewhere) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': column '%s' is %s", p->name, c->leaf->name,
                    c->chunk->encrypted ? "encrypted" : "in another file");
        }
        bool dict = c->chunk->dict_at > 0 && c->chunk->dict_at < c->chunk->data_at;
        c->at = dict ? c->chunk->dict_at : c->chunk->data_at;
        int64_t end;
        bool over = __builtin_add_overflow(c->at, c->chunk->bytes, &end);
        if (over || c->at < 4 || c->chunk->bytes < 0 || end > (int64_t)p->size || c->chunk->n_values < 0) {
            return damaged(p, c, "lies outside the file");
        }
        c->end = end;
        c->values_left = c->chunk->n_values;
    }
    p->group++;
    return FM_OK;
}

fm_status fm_parquet_next(fm_parquet *p, const fm_table_value **row, bool *more) {
    *more = false;
    while (p->rows_left == 0) {
        if (p->group == p->meta.n_groups) {
            return FM_OK;
        }
        FM_TRY(open_group(p));
    }
    if (p->meta.root->n_children == 0) {
        p->rows_left = 0;
        p->group = p->meta.n_groups;
        return FM_OK;
    }
    for (size_t i = 0; i < p->meta.root->n_children; i++) {
        fm_str_clear(&p->text[i]);
        FM_TRY(emit(p, p->meta.root->child[i], &p->text[i], true, &p->row[i].kind));
        FM_TRY(fm_str_check(&p->text[i]));
        p->row[i].text = (fm_sv){p->text[i].data ? p->text[i].data : "", p->text[i].len};
    }
    p->rows_left--;
    *row = p->row;
    *more = true;
    return FM_OK;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static fm_status start(fm_parquet *p) {
    const uint8_t *d = p->data;
    if (p->size < 12 || memcmp(d, "PAR1", 4) != 0) {
        FM_FAIL(FM_ERR_FORMAT, "'%s' is no Parquet file", p->name);
    }
    const uint8_t *tail = d + p->size - 8;
    if (memcmp(tail + 4, "PARE", 4) == 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s' is an encrypted Parquet file", p->name);
    }
    if (memcmp(tail + 4, "PAR1", 4) != 0) {
        fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "'%s' has no Parquet footer: it is cut short", p->name);
        return fm_error_hint("the footer is at the end of the file; without it no row can be found");
    }
    size_t n = (size_t)tail[0] | (size_t)tail[1] << 8 | (size_t)tail[2] << 16 | (size_t)tail[3] << 24;
    if (n > p->size - 12) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': the footer of %zu bytes is larger than the file", p->name, n);
    }
    FM_TRY(fm_pq_meta_read(&p->meta, tail - n, n, p->name));
    p->col = fm_calloc(p->meta.n_leaves + 1, sizeof *p->col);
    p->text = fm_calloc(p->meta.root->n_children + 1, sizeof *p->text);
    p->row = fm_calloc(p->meta.root->n_children + 1, sizeof *p->row);
    if (!p->col || !p->text || !p->row) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", p->name);
    }
    return FM_OK;
}

static fm_status open_any(fm_parquet **out, const char *path, const void *data, size_t n) {
    *out = NULL;
    fm_parquet *p = fm_calloc(1, sizeof *p);
    if (p) {
        p->map.fd = -1;
        p->name = fm_strdup(path);
    }
    if (!p || !p->name) {
        fm_free(p);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    fm_status s = FM_OK;
    if (data) {
        p->data = data;
        p->size = n;
    } else {
        s = fm_map_open(&p->map, path);
        p->data = p->map.data;
        p->size = p->map.size;
    }
    if (s == FM_OK) {
        s = start(p);
    }
    if (s != FM_OK) {
        fm_parquet_close(p);
        return s;
    }
    *out = p;
    return FM_OK;
}

fm_status fm_parquet_open(fm_parquet **out, const char *path) {
    return open_any(out, path, NULL, 0);
}

fm_status fm_parquet_open_memory(fm_parquet **out, const void *data, size_t n, const char *name) {
    return open_any(out, name, data, n);
}

void fm_parquet_close(fm_parquet *p) {
    if (!p) {
        return;
    }
    for (size_t i = 0; p->col && i < p->meta.n_leaves; i++) {
        drop_chunk(p, &p->col[i]);
        fm_str_free(&p->col[i].scratch);
        fm_str_free(&p->col[i].dict_scratch);
    }
    for (size_t i = 0; p->text && i < p->meta.root->n_children; i++) {
        fm_str_free(&p->text[i]);
    }
    fm_free(p->col);
    fm_free(p->text);
    fm_free(p->row);
    fm_pq_meta_free(&p->meta);
    fm_map_close(&p->map);
    fm_free(p->name);
    fm_free(p);
}

int64_t fm_parquet_n_rows(const fm_parquet *p) {
    return p->meta.n_rows;
}

size_t fm_parquet_n_columns(const fm_parquet *p) {
    return p->meta.root->n_children;
}

const char *fm_parquet_column(const fm_parquet *p, size_t i) {
    return p->meta.root->child[i]->name;
}

int64_t fm_parquet_consumed(const fm_parquet *p) {
    return p->consumed;
}

static size_t table_columns(const void *p) {
    return fm_parquet_n_columns(p);
}
static const char *table_column(const void *p, size_t i) {
    return fm_parquet_column(p, i);
}
static fm_status table_next(void *p, const fm_table_value **row, bool *more) {
    return fm_parquet_next(p, row, more);
}
static int64_t table_consumed(const void *p) {
    return fm_parquet_consumed(p);
}
static void table_close(void *p) {
    fm_parquet_close(p);
}

const fm_table_ops fm_parquet_table = {table_columns, table_column, table_next, table_consumed, table_close};
