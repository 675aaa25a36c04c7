/* FlatBuffers and Arrow's schema: see arrow_schema.h. Field numbers are those of Schema.fbs and Message.fbs. */
#include "io/arrow_schema.h"

#include <string.h>

#include "base/mem.h"

#define MAX_DEPTH 32

/* ---- FlatBuffers ------------------------------------------------------------------------------ */

static uint64_t little(fm_flat f, size_t at, size_t bytes) {
    uint64_t v = 0;
    if (at > f.n || bytes > f.n - at) {
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        v |= (uint64_t)f.p[at + i] << 8 * i;
    }
    return v;
}

/* at + an unsigned offset stored there; 0 when it leads outside. */
static size_t follow(fm_flat f, size_t at) {
    uint64_t off = little(f, at, 4);
    return off == 0 || off > f.n - FM_MIN(at, f.n) ? 0 : at + (size_t)off;
}

size_t fm_flat_root(fm_flat f) {
    return follow(f, 0);
}

/* Where a field lies, or 0. */
static size_t place(fm_flat f, size_t table, int field) {
    if (table == 0 || table + 4 > f.n) {
        return 0;
    }
    int64_t vtable = (int64_t)table - (int32_t)(uint32_t)little(f, table, 4);
    if (vtable < 0 || (uint64_t)vtable + 4 > f.n) {
        return 0;
    }
    size_t v = (size_t)vtable, size = (size_t)little(f, v, 2), slot = 4 + 2 * (size_t)field;
    size_t off = slot + 2 <= size ? (size_t)little(f, v + slot, 2) : 0;
    return off && table + off < f.n ? table + off : 0;
}

int64_t fm_flat_int(fm_flat f, size_t table, int field, int bytes, int64_t def) {
    size_t at = place(f, table, field);
    if (at == 0) {
        return def;
    }
    uint64_t v = little(f, at, (size_t)bytes);
    int shift = 64 - 8 * bytes;
    return (int64_t)(v << shift) >> shift;
}

size_t fm_flat_table(fm_flat f, size_t table, int field) {
    size_t at = place(f, table, field);
    return at ? follow(f, at) : 0;
}

size_t fm_flat_vector(fm_flat f, size_t table, int field, size_t size, size_t *n) {
    size_t v = fm_flat_table(f, table, field);
    *n = v ? (size_t)little(f, v, 4) : 0;
    if (v == 0 || v + 4 > f.n || *n > (f.n - v - 4) / size) {
        *n = 0;
        return 0;
    }
    return v + 4;
}

fm_sv fm_flat_string(fm_flat f, size_t table, int field) {
    size_t n, at = fm_flat_vector(f, table, field, 1, &n);
    return at ? (fm_sv){(const char *)f.p + at, n} : (fm_sv){"", 0};
}

size_t fm_flat_item_table(fm_flat f, size_t vector, size_t i) {
    return follow(f, vector + 4 * i);
}

int64_t fm_flat_i64_at(fm_flat f, size_t at) {
    return (int64_t)little(f, at, 8);
}

/* ---- schema ----------------------------------------------------------------------------------- */

void fm_arrow_fields_free(fm_arrow_field *f, size_t n) {
    for (size_t i = 0; f && i < n; i++) {
        fm_arrow_fields_free(f[i].child, f[i].n_children);
        fm_free(f[i].name);
    }
    fm_free(f);
}

static int32_t per_second(int64_t unit) {
    return unit == 0 ? 1 : unit == 1 ? 1000 : unit == 2 ? 1000000 : 1000000000;
}

static bool set_int(fm_arrow_field *o, fm_flat f, size_t type) {
    int64_t bits = fm_flat_int(f, type, 0, 4, 0);
    bool is_signed = fm_flat_int(f, type, 1, 1, 0) != 0;
    o->layout = AR_FIXED;
    o->width = (size_t)bits / 8;
    o->leaf.type = PQ_INT64;
    o->leaf.kind = is_signed ? PQ_K_NONE : PQ_K_UNSIGNED;
    return bits == 8 || bits == 16 || bits == 32 || bits == 64;
}

static bool set_float(fm_arrow_field *o, fm_flat f, size_t type) {
    int64_t precision = fm_flat_int(f, type, 0, 2, 0);
    o->layout = AR_FIXED;
    o->width = precision == 0 ? 2 : precision == 1 ? 4 : 8;
    o->leaf.type = precision == 0 ? PQ_FIXED : precision == 1 ? PQ_FLOAT : PQ_DOUBLE;
    o->leaf.kind = precision == 0 ? PQ_K_FLOAT16 : PQ_K_NONE;
    return precision >= 0 && precision <= 2;
}

static bool set_time(fm_arrow_field *o, fm_flat f, size_t type, int which) {
    o->layout = AR_FIXED;
    o->leaf.type = PQ_INT64;
    o->width = 8;
    if (which == 8) { /* Date */
        o->day_ms = fm_flat_int(f, type, 0, 2, 1) == 1;
        o->width = o->day_ms ? 8 : 4;
        o->leaf.type = PQ_INT32;
        o->leaf.kind = PQ_K_DATE;
    } else if (which == 9) {
        o->width = fm_flat_int(f, type, 1, 4, 32) == 32 ? 4 : 8;
        o->leaf.kind = PQ_K_TIME;
        o->leaf.per_second = per_second(fm_flat_int(f, type, 0, 2, 1));
    } else if (which == 10) {
        o->leaf.kind = PQ_K_TIMESTAMP;
        o->leaf.per_second = per_second(fm_flat_int(f, type, 0, 2, 0));
        o->leaf.utc = fm_flat_string(f, type, 1).len > 0;
    }
    return true;
}

static bool set_decimal(fm_arrow_field *o, fm_flat f, size_t type) {
    o->layout = AR_FIXED;
    o->width = (size_t)fm_flat_int(f, type, 2, 4, 128) / 8;
    o->leaf.type = PQ_FIXED;
    o->leaf.kind = PQ_K_DECIMAL;
    o->leaf.scale = (int32_t)fm_flat_int(f, type, 1, 4, 0);
    o->decimal = true;
    return o->width == 4 || o->width == 8 || o->width == 16 || o->width == 32;
}

/* False for a type that is not read. */
static bool set_type(fm_arrow_field *o, fm_flat f, int which, size_t type) {
    o->leaf.type = PQ_BYTES;
    switch (which) {
    case 1:
        o->layout = AR_NULL;
        return true;
    case 2:
        return set_int(o, f, type);
    case 3:
        return set_float(o, f, type);
    case 4: /* Binary, Utf8 */
    case 5:
        o->layout = AR_BYTES;
        return true;
    case 6:
        o->layout = AR_BITS;
        o->leaf.type = PQ_BOOLEAN;
        return true;
    case 7:
        return set_decimal(o, f, type);
    case 8:
    case 9:
    case 10:
    case 18: /* Duration: a number */
        return set_time(o, f, type, which);
    case 12:
    case 17: /* Map: a list of its entries */
        o->layout = AR_LIST;
        o->is_map = which == 17;
        return o->n_children == 1;
    case 13:
        o->layout = AR_STRUCT;
        return true;
    case 15:
        o->layout = AR_FIXED;
        o->leaf.type = PQ_FIXED;
        o->width = (size_t)FM_MAX(fm_flat_int(f, type, 0, 4, 0), (int64_t)0);
        return o->width > 0 && o->width < (1u << 30);
    case 16:
        o->layout = AR_FIXED_LIST;
        o->width = (size_t)FM_MAX(fm_flat_int(f, type, 0, 4, 0), (int64_t)0);
        return o->n_children == 1 && o->width < (1u << 28);
    case 19:
    case 20:
        o->layout = AR_LARGE_BYTES;
        return true;
    case 21:
        o->layout = AR_LARGE_LIST;
        return o->n_children == 1;
    case 23:
    case 24:
        o->layout = AR_VIEWS;
        return true;
    default:
        return false;
    }
}

static fm_status read_fields(fm_arrow_field **out, size_t *count, fm_flat f, size_t table, int slot, int depth,
                             const char *path);

static fm_status read_field(fm_arrow_field *o, fm_flat f, size_t field, int depth, const char *path) {
    fm_sv name = fm_flat_string(f, field, 0);
    int which = (int)(uint8_t)fm_flat_int(f, field, 2, 1, 0);
    if (!fm_utf8_valid(name.ptr, name.len)) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': the name of a column is no UTF-8", path);
    }
    o->name = fm_strndup(name.ptr, name.len);
    if (!o->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", path);
    }
    FM_TRY(read_fields(&o->child, &o->n_children, f, field, 5, depth + 1, path));
    if (!set_type(o, f, which, fm_flat_table(f, field, 3))) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': column '%s' has Arrow's type %d, which is not read", path, o->name, which);
    }
    o->leaf.name = o->name;
    o->leaf.type_length = (int32_t)o->width;
    size_t dict = fm_flat_table(f, field, 4);
    if (dict) {
        fm_arrow_field index = {0};
        size_t type = fm_flat_table(f, dict, 1);
        o->has_dict = true;
        o->dict_id = fm_flat_int(f, dict, 0, 8, 0);
        o->index_width = 4;
        if (type) {
            if (!set_int(&index, f, type)) {
                FM_FAIL(FM_ERR_CORRUPT, "'%s': column '%s' has a dictionary without numbers", path, o->name);
            }
            o->index_width = index.width;
            o->index_unsigned = index.leaf.kind == PQ_K_UNSIGNED;
        }
    }
    return FM_OK;
}

static fm_status read_fields(fm_arrow_field **out, size_t *count, fm_flat f, size_t table, int slot, int depth,
                             const char *path) {
    size_t n, v = fm_flat_vector(f, table, slot, 4, &n);
    if (n == 0) {
        return FM_OK;
    }
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': columns are nested more than %d deep", path, MAX_DEPTH);
    }
    *out = fm_calloc(n, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the columns of '%s'", path);
    }
    *count = n;
    for (size_t i = 0; i < n; i++) {
        FM_TRY(read_field(&(*out)[i], f, fm_flat_item_table(f, v, i), depth, path));
    }
    return FM_OK;
}

fm_status fm_arrow_fields_read(fm_arrow_field **out, size_t *n, fm_flat f, size_t schema, const char *path) {
    *out = NULL;
    *n = 0;
    if (fm_flat_int(f, schema, 0, 2, 0) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': numbers are big-endian", path);
    }
    return read_fields(out, n, f, schema, 1, 0, path);
}
