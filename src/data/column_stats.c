/* Columns: see column_stats.h. Distinct values are counted exactly up to 4096; beyond that they are estimated with
 * HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007; 4096 registers: standard error 1.6%). */
#include "data/column_stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define HLL_BITS  12
#define REGISTERS (1 << HLL_BITS)
#define EXACT     4096

typedef struct column {
    char *name;
    int64_t n, kinds[6]; /* n: not null */
    uint64_t *seen;      /* [2 * EXACT] hashes, 0 = free */
    size_t n_seen;       /* EXACT + 1: more */
    uint8_t reg[REGISTERS];
    double least, most, sum;
    int64_t n_numbers;
} column;

struct fm_column_stats {
    column **col;
    size_t n, cap;
    int64_t cells_beyond;
};

fm_status fm_column_stats_new(fm_column_stats **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate column statistics");
    }
    return FM_OK;
}

void fm_column_stats_free(fm_column_stats *s) {
    for (size_t i = 0; s && i < s->n; i++) {
        fm_free(s->col[i]->name);
        fm_free(s->col[i]->seen);
        fm_free(s->col[i]);
    }
    if (s) {
        fm_free(s->col);
        fm_free(s);
    }
}

static fm_status new_column(fm_column_stats *s, fm_sv name, column **out) {
    void *p = s->col;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof(column *)));
    s->col = p;
    column *c = fm_calloc(1, sizeof *c);
    if (c) {
        c->name = fm_strndup(name.ptr, name.len);
        c->seen = fm_calloc(2 * (size_t)EXACT, sizeof *c->seen);
    }
    if (!c || !c->name || !c->seen) {
        if (c) {
            fm_free(c->name);
            fm_free(c->seen);
        }
        fm_free(c);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate statistics of a column");
    }
    s->col[s->n++] = *out = c;
    return FM_OK;
}

static void see(column *c, uint64_t hash) {
    hash += hash == 0;
    size_t reg = hash >> (64 - HLL_BITS);
    uint64_t rest = hash << HLL_BITS;
    uint8_t rank = (uint8_t)(rest ? __builtin_clzll(rest) + 1 : 64 - HLL_BITS + 1);
    c->reg[reg] = FM_MAX(c->reg[reg], rank);
    if (c->n_seen > EXACT) {
        return;
    }
    for (size_t at = hash % (2 * EXACT);; at = (at + 1) % (2 * EXACT)) {
        if (c->seen[at] == hash) {
            return;
        }
        if (c->seen[at] == 0) {
            c->n_seen++;
            c->seen[at] = hash;
            return;
        }
    }
}

fm_status fm_column_stats_add(fm_column_stats *s, const fm_rec *r) {
    for (size_t i = 0; i < r->n; i++) {
        const fm_cell *cell = &r->cell[i];
        size_t at = i < s->n && fm_sv_eq(cell->name, s->col[i]->name) ? i : 0;
        while (at < s->n && !fm_sv_eq(cell->name, s->col[at]->name)) {
            at++;
        }
        column *c = at < s->n ? s->col[at] : NULL;
        if (!c && (s->n == FM_COLUMN_STATS_MOST || memchr(cell->name.ptr, 0, cell->name.len))) {
            s->cells_beyond++;
            continue;
        }
        if (!c) {
            FM_TRY(new_column(s, cell->name, &c));
        }
        c->kinds[cell->kind]++;
        if (cell->kind == FM_CELL_NULL) {
            continue;
        }
        c->n++;
        see(c, fm_cell_hash(cell));
        double v;
        if ((cell->kind == FM_CELL_INT || cell->kind == FM_CELL_FLOAT) && fm_cell_number(cell, &v)) {
            c->least = c->n_numbers == 0 || v < c->least ? v : c->least;
            c->most = c->n_numbers == 0 || v > c->most ? v : c->most;
            c->sum += v;
            c->n_numbers++;
        }
    }
    return FM_OK;
}

static int64_t distinct(const column *c) {
    if (c->n_seen <= EXACT) {
        return (int64_t)c->n_seen;
    }
    double sum = 0, m = REGISTERS;
    int empty = 0;
    for (int i = 0; i < REGISTERS; i++) {
        sum += ldexp(1, -c->reg[i]);
        empty += c->reg[i] == 0;
    }
    double e = 0.7213 / (1 + 1.079 / m) * m * m / sum;
    if (e <= 2.5 * m && empty > 0) {
        e = m * log(m / empty);
    }
    return FM_MIN((int64_t)(e + 0.5), c->n);
}

/* "text", "integer", or "text, integer" for a mixture. */
static void put_type(char *buf, size_t cap, const column *c) {
    static const char *const names[] = {"null", "boolean", "integer", "number", "text", "json"};
    size_t n = 0;
    buf[0] = '\0';
    for (size_t i = 1; i < FM_ARRAY_LEN(names); i++) {
        if (c->kinds[i]) {
            n += (size_t)snprintf(buf + n, cap - n, "%s%s", n ? ", " : "", names[i]);
        }
    }
    if (n == 0) {
        snprintf(buf, cap, "null");
    }
}

fm_status fm_column_stats_json(fm_json **out, const fm_column_stats *s, int64_t n_rows) {
    *out = fm_json_new_array();
    for (size_t i = 0; i < s->n; i++) {
        const column *c = s->col[i];
        char type[64];
        put_type(type, sizeof type, c);
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(*out, e));
        FM_TRY(fm_json_set(e, "name", fm_json_new_str(c->name)));
        FM_TRY(fm_json_set(e, "type", fm_json_new_str(type)));
        FM_TRY(fm_json_set(e, "missing", fm_json_new_int(n_rows - c->n)));
        FM_TRY(fm_json_set(e, "distinct", fm_json_new_int(distinct(c))));
        FM_TRY(fm_json_set(e, "exact", fm_json_new_bool(c->n_seen <= EXACT)));
        if (c->n_numbers > 0) {
            FM_TRY(fm_json_set(e, "min", fm_json_new_num(c->least)));
            FM_TRY(fm_json_set(e, "max", fm_json_new_num(c->most)));
            FM_TRY(fm_json_set(e, "mean", fm_json_new_num(c->sum / (double)c->n_numbers)));
        }
    }
    return FM_OK;
}
