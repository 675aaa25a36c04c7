/* Rows as Parquet pages: see out_parquet.h. */
#include "data/out_parquet.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* A double holds 17 digits, and no more than about 1e308. */
static bool fits_double(fm_sv t) {
    size_t digits = 0, i = 0;
    bool lead = true;
    for (; i < t.len && t.ptr[i] != 'e' && t.ptr[i] != 'E'; i++) {
        lead = lead && (t.ptr[i] < '1' || t.ptr[i] > '9');
        digits += !lead && t.ptr[i] != '.';
    }
    if (digits > 17 || t.len > 300) {
        return false;
    }
    if (i == t.len) {
        return true;
    }
    char buf[304];
    memcpy(buf, t.ptr, t.len);
    buf[t.len] = '\0';
    return isfinite(strtod(buf, NULL));
}

unsigned fm_cells_kind(const fm_cell *c) {
    unsigned bit = 1u << c->kind;
    if (c->kind == FM_CELL_FLOAT) {
        return fits_double(c->text) ? bit : bit | FM_CELLS_WIDE;
    }
    if (c->kind == FM_CELL_INT) {
        char buf[32];
        if (c->text.len >= sizeof buf) {
            return bit | FM_CELLS_WIDE;
        }
        memcpy(buf, c->text.ptr, c->text.len);
        buf[c->text.len] = '\0';
        errno = 0;
        long long v = strtoll(buf, NULL, 10);
        bit |= errno == ERANGE ? FM_CELLS_WIDE : 0;
        bit |= v > 1LL << 53 || v < -(1LL << 53) ? FM_CELLS_BIG : 0;
    }
    return bit;
}

fm_pqw_type fm_cells_type(unsigned kinds) {
    unsigned k = kinds & ~(1u << FM_CELL_NULL);
    if (k == 1u << FM_CELL_BOOL) {
        return FM_PQW_BOOL;
    }
    if ((k & ~FM_CELLS_BIG) == 1u << FM_CELL_INT) {
        return FM_PQW_INT;
    }
    if (k && (k & ~(1u << FM_CELL_INT | 1u << FM_CELL_FLOAT)) == 0) {
        return FM_PQW_DOUBLE;
    }
    return k == 1u << FM_CELL_JSON ? FM_PQW_JSON : FM_PQW_TEXT;
}

fm_status fm_out_pages(fm_str *out, fm_pqw_page *page, const fm_recs *b, const char *part, const char *const *names,
                       const fm_pqw_type *types, size_t n) {
    fm_table_value *values = fm_calloc(b->n + 1, sizeof *values);
    if (!values) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a page of %zu rows", b->n);
    }
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        size_t rows = 0;
        for (size_t k = 0; k < b->n; k++) {
            const fm_rec *r = b->rec[k];
            if (r->drop || strcmp(r->part ? r->part : "", part) != 0) {
                continue;
            }
            const fm_cell *c = i < r->n && fm_sv_eq(r->cell[i].name, names[i]) ? &r->cell[i] : fm_rec_get(r, names[i]);
            bool none = !c || c->kind == FM_CELL_NULL;
            bool yes = c && c->kind == FM_CELL_BOOL && fm_sv_eq(c->text, "true");
            values[rows++] = (fm_table_value){none  ? FM_JSON_NULL
                                              : yes ? FM_JSON_TRUE
                                                    : FM_JSON_STRING,
                                              none ? (fm_sv){"", 0} : c->text};
        }
        s = fm_pqw_make_page(out, &page[i], types[i], values, rows);
    }
    fm_free(values);
    return s;
}
