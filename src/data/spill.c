/* A batch in the file: head, note [n_rows] u64, packed rows (zstd). The file is this process's own, so numbers are in
 * the machine's byte order. */
#include "data/spill.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/pack.h"

typedef struct head {
    uint64_t n_rows, plain_bytes, packed_bytes, first_ordinal;
} head;

struct fm_spill {
    FILE *f;
    char *path;
    int64_t bytes;
    uint64_t n_rows;
};

static void put_u32(fm_str *s, uint32_t v) {
    fm_str_append(s, (const char *)&v, sizeof v);
}

static void put_sv(fm_str *s, fm_sv v) {
    put_u32(s, (uint32_t)v.len);
    fm_str_append(s, v.ptr, v.len);
}

#define NO_TEXT UINT32_MAX

fm_status fm_spill_encode(fm_str *packed, fm_str *scratch, const fm_recs *b, size_t *n_rows) {
    *n_rows = 0;
    fm_str_clear(scratch);
    fm_str_clear(packed);
    for (size_t i = 0; i < b->n; i++) {
        const fm_rec *r = b->rec[i];
        if (r->drop) {
            continue;
        }
        ++*n_rows;
        put_u32(scratch, (uint32_t)r->n);
        put_u32(scratch, (uint32_t)r->source);
        fm_str_append(scratch, (const char *)&r->line, sizeof r->line);
        put_sv(scratch, r->member);
        put_sv(scratch, r->part ? fm_sv_of(r->part) : (fm_sv){"", 0});
        for (size_t k = 0; k < r->n; k++) {
            const fm_cell *c = &r->cell[k];
            if (c->text.len >= NO_TEXT || c->raw.len >= NO_TEXT) {
                FM_FAIL(FM_ERR_DATA, "a value of %zu bytes is too long for a step that needs two passes", c->text.len);
            }
            put_u32(scratch, (uint32_t)c->kind);
            put_sv(scratch, c->name);
            put_sv(scratch, c->text);
            bool same = c->raw.ptr && c->raw.len == c->text.len; /* an escape never has the length of its character */
            put_u32(scratch, !c->raw.ptr ? NO_TEXT : same ? NO_TEXT - 1 : (uint32_t)c->raw.len);
            if (c->raw.ptr && !same) {
                fm_str_append(scratch, c->raw.ptr, c->raw.len);
            }
        }
    }
    FM_TRY(fm_str_check(scratch));
    uint64_t plain = scratch->len;
    fm_str_append(packed, (const char *)&plain, sizeof plain);
    return fm_pack_bytes(packed, FM_PACKING_ZSTD, 1, scratch->data, scratch->len);
}

fm_status fm_spill_create(fm_spill **out, const char *path) {
    fm_spill *s = *out = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a temporary file");
    }
    s->path = fm_strdup(path);
    if (!s->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a temporary file");
    }
    s->f = fopen(path, "wb+");
    if (!s->f) {
        FM_FAIL(FM_ERR_IO, "cannot make the temporary file '%s': %s", path, strerror(errno));
    }
    return FM_OK;
}

void fm_spill_close(fm_spill *s) {
    if (s) {
        if (s->f) {
            fclose(s->f);
            unlink(s->path);
        }
        fm_free(s->path);
        fm_free(s);
    }
}

static fm_status put(fm_spill *s, const void *p, size_t n) {
    if (n && fwrite(p, 1, n, s->f) != n) {
        fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write the temporary file '%s': %s", s->path,
                     strerror(errno));
        return fm_error_hint("steps that need two passes keep the rows beside the output meanwhile");
    }
    s->bytes += (int64_t)n;
    return FM_OK;
}

fm_status fm_spill_write(fm_spill *s, const fm_str *packed, const uint64_t *note, size_t n_rows) {
    if (n_rows == 0) {
        return FM_OK;
    }
    head h = {.n_rows = n_rows, .packed_bytes = packed->len - 8, .first_ordinal = s->n_rows};
    memcpy(&h.plain_bytes, packed->data, 8);
    FM_TRY(put(s, &h, sizeof h));
    FM_TRY(put(s, note, n_rows * sizeof *note));
    s->n_rows += n_rows;
    return put(s, packed->data + 8, packed->len - 8);
}

int64_t fm_spill_bytes(const fm_spill *s) {
    return s->bytes;
}

fm_status fm_spill_rewind(fm_spill *s) {
    if (fflush(s->f) != 0 || fseek(s->f, 0, SEEK_SET) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot write the temporary file '%s': %s", s->path, strerror(errno));
    }
    return FM_OK;
}

fm_status fm_spill_next(fm_spill *s, fm_recs *b, bool *more) {
    head h;
    size_t got = fread(&h, 1, sizeof h, s->f);
    *more = got == sizeof h;
    if (!*more) {
        return FM_OK;
    }
    size_t n = h.n_rows * sizeof(uint64_t) + h.packed_bytes;
    void *p = b->raw.data;
    FM_TRY(fm_grow(&p, &b->raw.cap, sizeof h + n + 1, 1));
    b->raw.data = p;
    memcpy(b->raw.data, &h, sizeof h);
    if (fread(b->raw.data + sizeof h, 1, n, s->f) != n) {
        FM_FAIL(FM_ERR_IO, "the temporary file '%s' was changed while it was in use", s->path);
    }
    b->raw.len = sizeof h + n;
    b->bytes = (int64_t)b->raw.len;
    return FM_OK;
}

/* A cursor over the unpacked rows; this process wrote them, so a length that does not fit is a bug. */
static const char *take(const char **p, const char *end, size_t n) {
    const char *at = *p;
    FM_ASSERT((size_t)(end - at) >= n);
    *p += n;
    return at;
}

static uint32_t take_u32(const char **p, const char *end) {
    uint32_t v;
    memcpy(&v, take(p, end, sizeof v), sizeof v);
    return v;
}

static fm_sv take_sv(const char **p, const char *end) {
    size_t n = take_u32(p, end);
    return (fm_sv){take(p, end, n), n};
}

fm_status fm_spill_decode(fm_recs *b) {
    head h;
    memcpy(&h, b->raw.data, sizeof h);
    const char *notes = b->raw.data + sizeof h;
    void *q = b->unpacked.data;
    FM_TRY(fm_grow(&q, &b->unpacked.cap, h.plain_bytes + 1, 1));
    b->unpacked.data = q;
    b->unpacked.len = h.plain_bytes;
    FM_TRY(fm_unpack_zstd(b->unpacked.data, h.plain_bytes, notes + h.n_rows * 8, h.packed_bytes));
    const char *p = b->unpacked.data, *end = p + h.plain_bytes;
    for (uint64_t i = 0; i < h.n_rows; i++) {
        fm_rec *r;
        FM_TRY(fm_recs_add(b, &r));
        uint32_t n = take_u32(&p, end);
        r->source = (int32_t)take_u32(&p, end);
        memcpy(&r->line, take(&p, end, sizeof r->line), sizeof r->line);
        r->member = take_sv(&p, end);
        fm_sv part = take_sv(&p, end);
        if (part.len) {
            r->part = fm_bump_copy(&b->arena, part.ptr, part.len);
            if (!r->part) {
                FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a row");
            }
        }
        r->ordinal = (int64_t)(h.first_ordinal + i);
        memcpy(&r->note, notes + i * 8, 8);
        for (uint32_t k = 0; k < n; k++) {
            fm_cell c = {.kind = (fm_cell_kind)take_u32(&p, end)};
            c.name = take_sv(&p, end);
            c.text = take_sv(&p, end);
            uint32_t raw = take_u32(&p, end);
            if (raw == NO_TEXT - 1) {
                c.raw = c.text;
            } else if (raw != NO_TEXT) {
                c.raw = (fm_sv){take(&p, end, raw), raw};
            }
            FM_TRY(fm_rec_push(&b->arena, r, c));
        }
    }
    return FM_OK;
}
