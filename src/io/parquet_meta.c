/* The footer of a Parquet file: Thrift's compact protocol, and the structs of parquet.thrift that a reader needs. */
#include "io/parquet_meta.h"

#include <string.h>

#include "base/mem.h"

#define MAX_DEPTH   64
#define MAX_COLUMNS 100000

/* ---- Thrift compact protocol ------------------------------------------------------------------ */

typedef struct thrift {
    const uint8_t *p, *end;
    bool bad; /* everything reads as 0 from then on */
    int depth;
} thrift;

enum { T_STOP = 0, T_TRUE, T_FALSE, T_BYTE, T_I16, T_I32, T_I64, T_DOUBLE, T_BINARY, T_LIST, T_SET, T_MAP, T_STRUCT };

static uint8_t byte(thrift *t) {
    if (t->p == t->end) {
        t->bad = true;
        return 0;
    }
    return *t->p++;
}

static uint64_t varint(thrift *t) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = byte(t);
        v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) {
            return v;
        }
    }
    t->bad = true;
    return 0;
}

static int64_t zigzag(thrift *t) {
    uint64_t v = varint(t);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static fm_sv binary(thrift *t) {
    uint64_t n = varint(t);
    if (n > (uint64_t)(t->end - t->p)) {
        t->bad = true;
        return (fm_sv){"", 0};
    }
    fm_sv s = {(const char *)t->p, (size_t)n};
    t->p += n;
    return s;
}

/* The next field's type, T_STOP at the end; *id follows the fields. */
static int field(thrift *t, int16_t *id) {
    uint8_t b = byte(t);
    if (t->bad || b == 0) {
        return T_STOP;
    }
    *id = (b >> 4) ? (int16_t)(*id + (b >> 4)) : (int16_t)zigzag(t);
    return b & 15;
}

static size_t list(thrift *t, int *type) {
    uint8_t b = byte(t);
    uint64_t n = b >> 4;
    *type = b & 15;
    if (n == 15) {
        n = varint(t);
    }
    if (n > (uint64_t)(t->end - t->p)) { /* an item is a byte at least */
        t->bad = true;
        return 0;
    }
    return (size_t)n;
}

static void skip(thrift *t, int type);

static void skip_struct(thrift *t) {
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        skip(t, type);
    }
}

/* An item of a list or map: unlike a field, a boolean has a byte of its own, so that every item takes one at least. */
static void skip_item(thrift *t, int type) {
    if (type == T_TRUE || type == T_FALSE) {
        byte(t);
    } else {
        skip(t, type);
    }
}

static void skip(thrift *t, int type) {
    if (++t->depth > MAX_DEPTH) {
        t->bad = true;
    }
    int item;
    size_t n;
    switch (t->bad ? (int)T_TRUE : type) {
    case T_TRUE: /* the value is the type */
    case T_FALSE:
        break;
    case T_BYTE:
        byte(t);
        break;
    case T_I16:
    case T_I32:
    case T_I64:
        varint(t);
        break;
    case T_DOUBLE:
        for (int i = 0; i < 8; i++) {
            byte(t);
        }
        break;
    case T_BINARY:
        binary(t);
        break;
    case T_LIST:
    case T_SET:
        n = list(t, &item);
        for (size_t i = 0; i < n && !t->bad; i++) {
            skip_item(t, item);
        }
        break;
    case T_MAP:
        n = varint(t);
        item = n ? byte(t) : 0;
        for (size_t i = 0; i < n && !t->bad; i++) {
            skip_item(t, item >> 4);
            skip_item(t, item & 15);
        }
        break;
    case T_STRUCT:
        skip_struct(t);
        break;
    default:
        t->bad = true;
    }
    t->depth--;
}

static int32_t number32(thrift *t, int type) {
    if (type == T_I32 || type == T_I16) {
        int64_t v = zigzag(t);
        if (v < INT32_MIN || v > INT32_MAX) {
            t->bad = true;
        }
        return (int32_t)v;
    }
    skip(t, type);
    return 0;
}

static int64_t number64(thrift *t, int type) {
    if (type == T_I64 || type == T_I32) {
        return zigzag(t);
    }
    skip(t, type);
    return 0;
}

/* ---- schema ----------------------------------------------------------------------------------- */

/* TimeUnit: a union of empty structs. */
static int32_t time_unit(thrift *t) {
    int16_t id = 0;
    int32_t unit = 1000;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        unit = id == 1 ? 1000 : id == 2 ? 1000000 : 1000000000;
        skip(t, type);
    }
    return unit;
}

/* TimeType and TimestampType: 1 isAdjustedToUTC, 2 unit. DecimalType: 1 scale. IntType: 1 bits, 2 signed. */
static void logical_members(thrift *t, fm_pq_node *n, int which) {
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        bool time = which == 7 || which == 8;
        if (time && id == 1) {
            n->utc = type == T_TRUE;
        } else if (time && id == 2 && type == T_STRUCT) {
            n->per_second = time_unit(t);
        } else if (which == 5 && id == 1) {
            n->scale = number32(t, type);
        } else if (which == 10 && id == 2) {
            n->kind = type == T_FALSE ? PQ_K_UNSIGNED : PQ_K_NONE;
        } else {
            skip(t, type);
        }
    }
}

static void logical(thrift *t, fm_pq_node *n) {
    static const fm_pq_kind kinds[] = {
        [1] = PQ_K_TEXT, [2] = PQ_K_MAP,       [3] = PQ_K_LIST,  [4] = PQ_K_TEXT,  [5] = PQ_K_DECIMAL,  [6] = PQ_K_DATE,
        [7] = PQ_K_TIME, [8] = PQ_K_TIMESTAMP, [12] = PQ_K_JSON, [14] = PQ_K_UUID, [15] = PQ_K_FLOAT16,
    };
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        if (id > 0 && (size_t)id < FM_ARRAY_LEN(kinds)) {
            n->kind = kinds[id];
        }
        if (type == T_STRUCT) {
            logical_members(t, n, id);
        } else {
            skip(t, type);
        }
    }
}

static void converted(fm_pq_node *n, int32_t c) {
    switch (c) {
    case 0: /* UTF8 */
    case 4: /* ENUM */
        n->kind = PQ_K_TEXT;
        break;
    case 19:
        n->kind = PQ_K_JSON;
        break;
    case 1:
    case 2:
        n->kind = PQ_K_MAP;
        break;
    case 3:
        n->kind = PQ_K_LIST;
        break;
    case 5:
        n->kind = PQ_K_DECIMAL;
        break;
    case 6:
        n->kind = PQ_K_DATE;
        break;
    case 7:
    case 8:
        n->kind = PQ_K_TIME;
        n->per_second = c == 7 ? 1000 : 1000000;
        break;
    case 9:
    case 10:
        n->kind = PQ_K_TIMESTAMP;
        n->utc = true;
        n->per_second = c == 9 ? 1000 : 1000000;
        break;
    case 11:
    case 12:
    case 13:
    case 14:
        n->kind = PQ_K_UNSIGNED;
        break;
    case 21:
        n->kind = PQ_K_INTERVAL;
        break;
    default:
        break;
    }
}

static void free_node(fm_pq_node *n) {
    if (n) {
        for (size_t i = 0; i < n->n_children; i++) {
            free_node(n->child[i]);
        }
        fm_free(n->child);
        fm_free(n->name);
        fm_free(n);
    }
}

static fm_status read_element(thrift *t, fm_pq_node **out) {
    fm_pq_node *n = *out = fm_calloc(1, sizeof *n);
    if (!n) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a schema");
    }
    int16_t id = 0;
    int type;
    int32_t conv = -1, children;
    bool has_logical = false;
    fm_sv name = {"", 0};
    while ((type = field(t, &id)) != T_STOP) {
        switch (id) {
        case 1:
            n->type = (fm_pq_type)number32(t, type);
            n->is_leaf = true;
            break;
        case 2:
            n->type_length = number32(t, type);
            break;
        case 3:
            n->rep = (fm_pq_rep)number32(t, type);
            break;
        case 4:
            name = type == T_BINARY ? binary(t) : name;
            break;
        case 5:
            children = number32(t, type);
            n->want_children = children > 0 ? (size_t)children : 0;
            break;
        case 6:
            conv = number32(t, type);
            break;
        case 7:
            n->scale = number32(t, type);
            break;
        case 10:
            has_logical = type == T_STRUCT;
            if (has_logical) {
                logical(t, n);
            } else {
                skip(t, type);
            }
            break;
        default:
            skip(t, type);
        }
    }
    if (conv >= 0 && (!has_logical || n->kind == PQ_K_NONE)) {
        converted(n, conv);
    }
    if (!fm_utf8_valid(name.ptr, name.len)) {
        t->bad = true;
        name = (fm_sv){"", 0};
    }
    n->name = fm_strndup(name.ptr, name.len);
    if (!n->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a schema");
    }
    return FM_OK;
}

static fm_status attach(fm_pq_node *parent, fm_pq_node *n) {
    void *p = parent->child;
    size_t cap = parent->n_children;
    FM_TRY(fm_grow(&p, &cap, parent->n_children + 1, sizeof(fm_pq_node *)));
    parent->child = p;
    parent->child[parent->n_children++] = n;
    return FM_OK;
}

/* Elements come depth first; a stack of the groups that still want children. */
static fm_status read_schema(fm_pq_meta *m, thrift *t, const char *name) {
    int item;
    size_t n = list(t, &item), depth = 0;
    fm_pq_node *stack[MAX_DEPTH];
    for (size_t i = 0; i < n && !t->bad; i++) {
        fm_pq_node *e = NULL;
        fm_status s = read_element(t, &e);
        if (s == FM_OK && i == 0) {
            m->root = e;
            e->is_leaf = false;
            e->rep = PQ_REQUIRED;
        } else if (s == FM_OK) {
            while (depth && stack[depth - 1]->n_children == stack[depth - 1]->want_children) {
                depth--;
            }
            s = depth ? attach(stack[depth - 1], e) : FM_ERR_CORRUPT;
        }
        if (s != FM_OK) {
            if (e != m->root) {
                free_node(e);
            }
            if (s == FM_ERR_CORRUPT) {
                FM_FAIL(FM_ERR_CORRUPT, "'%s': the schema has a column outside the tree", name);
            }
            return s;
        }
        if (i) {
            const fm_pq_node *up = stack[depth - 1];
            e->max_def = (int16_t)(up->max_def + (e->rep != PQ_REQUIRED));
            e->max_rep = (int16_t)(up->max_rep + (e->rep == PQ_REPEATED));
        }
        e->column = m->n_leaves;
        if (e->is_leaf) {
            void *p = m->leaf;
            FM_TRY(fm_grow(&p, &m->leaves_cap, m->n_leaves + 1, sizeof(fm_pq_node *)));
            m->leaf = p;
            m->leaf[m->n_leaves++] = e;
            bool known = (unsigned)e->type <= PQ_FIXED && (unsigned)e->rep <= PQ_REPEATED;
            if (!known || (e->type == PQ_FIXED && (e->type_length <= 0 || e->type_length > (1 << 20)))) {
                FM_FAIL(FM_ERR_CORRUPT, "'%s': column '%s' has an unknown type", name, e->name);
            }
        } else if (depth == MAX_DEPTH || m->n_leaves > MAX_COLUMNS) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': columns are nested more than %d deep", name, MAX_DEPTH);
        } else {
            stack[depth++] = e;
        }
    }
    while (depth && stack[depth - 1]->n_children == stack[depth - 1]->want_children) {
        depth--;
    }
    if (t->bad || !m->root || depth) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': the schema is damaged", name);
    }
    return FM_OK;
}

/* Groups without a leaf have no levels of their own: such a file has never been seen. */
static bool has_leaves(const fm_pq_node *n) {
    if (n->is_leaf) {
        return true;
    }
    for (size_t i = 0; i < n->n_children; i++) {
        if (!has_leaves(n->child[i])) {
            return false;
        }
    }
    return n->n_children > 0;
}

/* ---- row groups ------------------------------------------------------------------------------- */

static void column_meta(thrift *t, fm_pq_chunk *c) {
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        if (id == 4) {
            c->codec = number32(t, type);
        } else if (id == 5) {
            c->n_values = number64(t, type);
        } else if (id == 7) {
            c->bytes = number64(t, type);
        } else if (id == 9) {
            c->data_at = number64(t, type);
        } else if (id == 11) {
            c->dict_at = number64(t, type);
        } else {
            skip(t, type);
        }
    }
}

static void column_chunk(thrift *t, fm_pq_chunk *c) {
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        if (id == 1 && type == T_BINARY) {
            c->elsewhere = binary(t).len > 0;
        } else if (id == 3 && type == T_STRUCT) {
            column_meta(t, c);
        } else {
            c->encrypted = c->encrypted || id == 8 || id == 9;
            skip(t, type);
        }
    }
}

static fm_status row_group(fm_pq_meta *m, thrift *t, const char *name) {
    int16_t id = 0;
    int type;
    void *p = m->group_rows;
    FM_TRY(fm_grow(&p, &m->groups_cap, m->n_groups + 1, sizeof *m->group_rows));
    m->group_rows = p;
    p = m->chunk;
    FM_TRY(fm_grow(&p, &m->chunks_cap, (m->n_groups + 1) * m->n_leaves + 1, sizeof *m->chunk));
    m->chunk = p;
    fm_pq_chunk *c = m->chunk + m->n_groups * m->n_leaves;
    memset(c, 0, m->n_leaves * sizeof *c);
    size_t got = 0;
    m->group_rows[m->n_groups] = 0;
    while ((type = field(t, &id)) != T_STOP) {
        if (id == 1 && type == T_LIST) {
            int item;
            size_t n = list(t, &item);
            for (got = 0; got < n && !t->bad; got++) {
                fm_pq_chunk spare = {0};
                column_chunk(t, got < m->n_leaves ? &c[got] : &spare);
            }
        } else if (id == 3) {
            m->group_rows[m->n_groups] = number64(t, type);
        } else {
            skip(t, type);
        }
    }
    if (t->bad || got != m->n_leaves || m->group_rows[m->n_groups] < 0) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': row group %zu has %zu columns, the schema %zu", name, m->n_groups, got,
                m->n_leaves);
    }
    m->n_groups++;
    return FM_OK;
}

fm_status fm_pq_meta_read(fm_pq_meta *m, const uint8_t *data, size_t n, const char *name) {
    thrift t = {.p = data, .end = data + n};
    int16_t id = 0;
    int type;
    while ((type = field(&t, &id)) != T_STOP) {
        if (id == 2 && type == T_LIST && !m->root) {
            FM_TRY(read_schema(m, &t, name));
        } else if (id == 3) {
            m->n_rows = number64(&t, type);
        } else if (id == 4 && type == T_LIST && m->root) {
            int item;
            size_t k = list(&t, &item);
            for (size_t i = 0; i < k; i++) {
                FM_TRY(row_group(m, &t, name));
            }
        } else {
            skip(&t, type);
        }
    }
    if (t.bad || !m->root || (m->root->n_children > 0 && !has_leaves(m->root))) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': the Parquet footer is damaged", name);
    }
    return FM_OK;
}

void fm_pq_meta_free(fm_pq_meta *m) {
    free_node(m->root);
    fm_free(m->leaf);
    fm_free(m->group_rows);
    fm_free(m->chunk);
    memset(m, 0, sizeof *m);
}

/* ---- page heads ------------------------------------------------------------------------------- */

static void page_members(thrift *t, fm_pq_page *p, int which) {
    int16_t id = 0;
    int type;
    while ((type = field(t, &id)) != T_STOP) {
        bool v2 = which == 8;
        if (id == 1) {
            p->n_values = number32(t, type);
        } else if ((id == 2 && !v2) || (id == 4 && v2)) {
            p->encoding = number32(t, type);
        } else if (which == 5 && id == 3) {
            p->def_encoding = number32(t, type);
        } else if (which == 5 && id == 4) {
            p->rep_encoding = number32(t, type);
        } else if (v2 && id == 5) {
            p->def_bytes = number32(t, type);
        } else if (v2 && id == 6) {
            p->rep_bytes = number32(t, type);
        } else if (v2 && id == 7) {
            p->packed = type == T_TRUE;
        } else {
            skip(t, type);
        }
    }
}

fm_status fm_pq_page_head(fm_pq_page *p, const uint8_t *data, size_t n, const char *name) {
    thrift t = {.p = data, .end = data + n};
    int16_t id = 0;
    int type;
    memset(p, 0, sizeof *p);
    p->packed = true;
    while ((type = field(&t, &id)) != T_STOP) {
        if (id == 1) {
            p->kind = number32(&t, type);
        } else if (id == 2) {
            p->bytes = number32(&t, type);
        } else if (id == 3) {
            p->packed_bytes = number32(&t, type);
        } else if ((id == 5 || id == 7 || id == 8) && type == T_STRUCT) {
            page_members(&t, p, id);
        } else {
            skip(&t, type);
        }
    }
    if (t.bad || p->bytes < 0 || p->packed_bytes < 0 || p->n_values < 0 || p->def_bytes < 0 || p->rep_bytes < 0) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': a page head is damaged", name);
    }
    p->head_bytes = (size_t)(t.p - data);
    return FM_OK;
}
