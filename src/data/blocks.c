/* Lines in blocks: see blocks.h. */
#include "data/blocks.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

fm_status fm_reader_stream(fm_stream **out, const char *path, const fm_reader_options *o) {
    FM_TRY(fm_stream_open(out, path));
    fm_status s = fm_stream_recode(*out, o->encoding);
    if (s != FM_OK) {
        fm_stream_close(*out);
        *out = NULL;
    }
    return s;
}

fm_status fm_reader_whole(fm_str *out, bool *too_long, int64_t *consumed, const char *path,
                          const fm_reader_options *o) {
    fm_stream *in;
    *too_long = false;
    FM_TRY(fm_stream_open(&in, path));
    fm_status s = FM_OK;
    for (size_t n = 1; s == FM_OK && n && !*too_long;) {
        void *p = out->data;
        s = fm_grow(&p, &out->cap, out->len + FM_READER_BLOCK / 4, 1);
        if (s == FM_OK) {
            out->data = p;
            s = fm_stream_read(in, out->data + out->len, out->cap - out->len - 1, &n);
            out->len += n;
            out->data[out->len] = '\0';
            *too_long = out->len > o->max_row_bytes;
        }
    }
    *consumed = fm_stream_consumed(in);
    fm_stream_close(in);
    return s == FM_ERR_CORRUPT && out->len ? FM_OK : s;
}

bool fm_reader_begins(const char *path, const char *magic, size_t n) {
    char head[64];
    FILE *f = n <= sizeof head && fm_file_size(path) >= (int64_t)n && !fm_path_is_dir(path) ? fopen(path, "rb") : NULL;
    bool same = f && fread(head, 1, n, f) == n && memcmp(head, magic, n) == 0;
    if (f) {
        fclose(f);
    }
    return same;
}

bool fm_reader_xml_has(const char *path, const char *text) {
    char head[4097];
    size_t n = 0;
    fm_stream *in;
    if (!strcasestr(path, ".xml") || fm_file_size(path) <= 0 || fm_stream_open(&in, path) != FM_OK) {
        fm_error_clear();
        return false;
    }
    for (size_t k = 1; k && n < sizeof head - 1; n += k) {
        if (fm_stream_read(in, head + n, sizeof head - 1 - n, &k) != FM_OK) {
            fm_error_clear();
            k = 0;
        }
    }
    head[n] = '\0';
    fm_stream_close(in);
    return strstr(head, text) != NULL;
}

fm_status fm_blocks_open(fm_blocks *k, const char *path, const fm_reader_options *o) {
    memset(k, 0, sizeof *k);
    k->line = 1;
    k->max_row = o->max_row_bytes;
    return fm_reader_stream(&k->in, path, o);
}

void fm_blocks_close(fm_blocks *k) {
    fm_stream_close(k->in);
    fm_str_free(&k->carry);
    memset(k, 0, sizeof *k);
}

fm_status fm_blocks_fill(fm_blocks *k, fm_str *s, size_t *n) {
    *n = 0;
    void *p = s->data;
    FM_TRY(fm_grow(&p, &s->cap, s->len + FM_READER_BLOCK + 1, 1));
    s->data = p;
    while (*n < FM_READER_BLOCK && !k->at_end) {
        size_t got;
        fm_status st = fm_stream_read(k->in, s->data + s->len, FM_READER_BLOCK - *n, &got);
        if (st == FM_ERR_CORRUPT || st == FM_ERR_DATA) {
            fm_error_save(&k->error);
            k->pending = st;
            got = 0;
        } else {
            FM_TRY(st);
        }
        k->at_end = got == 0;
        s->len += got;
        *n += got;
    }
    s->data[s->len] = '\0';
    return FM_OK;
}

static int64_t count_lines(const char *p, size_t n) {
    int64_t lines = 0;
    for (size_t i = 0; i < n; i++) {
        lines += p[i] == '\n';
    }
    return lines;
}

/* The carry is longer than a row may be: sets it aside and drops the rest of its line. */
static fm_status skip_long(fm_blocks *k, fm_recs *b) {
    char reason[80];
    snprintf(reason, sizeof reason, "longer than %zu bytes", k->max_row);
    FM_TRY(fm_recs_reject(b, k->line, "longer than max_row_bytes", reason,
                          (fm_sv){b->raw.data, FM_MIN(b->raw.len, (size_t)4096)}));
    for (;;) {
        char *nl = memchr(b->raw.data, '\n', b->raw.len);
        if (nl) {
            fm_str_clear(&k->carry);
            fm_str_append(&k->carry, nl + 1, b->raw.len - (size_t)(nl + 1 - b->raw.data));
            fm_str_clear(&b->raw);
            k->line++;
            return fm_str_check(&k->carry);
        }
        size_t n;
        fm_str_clear(&b->raw);
        FM_TRY(fm_blocks_fill(k, &b->raw, &n));
        if (n == 0) {
            fm_str_clear(&k->carry);
            return FM_OK;
        }
    }
}

fm_status fm_blocks_next(fm_blocks *k, fm_recs *b, bool *more) {
    *more = true;
    fm_str_clear(&b->raw);
    fm_str_append(&b->raw, k->carry.data ? k->carry.data : "", k->carry.len);
    FM_TRY(fm_str_check(&b->raw));
    fm_str_clear(&k->carry);
    char *cut = NULL;
    while (!cut && !k->at_end) {
        size_t n, before = b->raw.len;
        FM_TRY(fm_blocks_fill(k, &b->raw, &n));
        if (!k->started && b->raw.len >= 3 && memcmp(b->raw.data, "\xEF\xBB\xBF", 3) == 0) {
            memmove(b->raw.data, b->raw.data + 3, b->raw.len - 3 + 1);
            b->raw.len -= 3;
        }
        k->started = true;
        cut = b->raw.len > before ? memrchr(b->raw.data + before, '\n', b->raw.len - before) : NULL;
        if (!cut && b->raw.len > k->max_row) {
            int64_t line = k->line;
            FM_TRY(skip_long(k, b));
            b->first_line = line;
            b->bytes = fm_stream_consumed(k->in) - k->consumed;
            k->consumed += b->bytes;
            return FM_OK;
        }
    }
    b->first_line = k->line;
    size_t keep = cut ? (size_t)(cut + 1 - b->raw.data) : b->raw.len;
    if (k->at_end && k->pending != FM_OK) { /* the cut line is lost with what follows it */
        if (!cut) {
            fm_error_restore(&k->error);
            return k->pending;
        }
        b->raw.len = keep;
    } else if (!k->at_end) {
        fm_str_append(&k->carry, b->raw.data + keep, b->raw.len - keep);
        FM_TRY(fm_str_check(&k->carry));
        b->raw.len = keep;
    }
    k->line += count_lines(b->raw.data, b->raw.len);
    b->bytes = fm_stream_consumed(k->in) - k->consumed;
    k->consumed += b->bytes;
    *more = b->raw.len > 0;
    return FM_OK;
}
