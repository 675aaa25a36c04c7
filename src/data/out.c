/* Output files: see out.h. */
#include "data/out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/out_parquet.h"
#include "io/jsonl.h"

typedef enum kind { JSONL, CSV, TSV, PARQUET, UNKNOWN } kind;

/* A row group is written when its packed pages have so many bytes. */
#define GROUP_BYTES ((size_t)16 << 20)

typedef struct out_file {
    char part[64];
    int64_t shard;
    char *path, *tmp; /* the same for stdout */
    int fd;           /* -1 when it is closed */
    int64_t rows, bytes, text_bytes;
    fm_pqw *parquet;
} out_file;

struct fm_out {
    fm_out_options o;
    char *path, *format;
    kind kind;
    fm_packing packing;
    const char *suffix; /* of files in a folder, with the dot */
    bool is_dir, is_stdout;
    out_file *file;
    size_t n, cap;
    fm_pqw_type *types; /* [n_columns] Parquet */
};

static kind kind_of(const char *name) {
    size_t n = strlen(name);
    static const struct {
        const char *end;
        kind kind;
    } known[] = {{"jsonl", JSONL}, {"ndjson", JSONL}, {"csv", CSV}, {"tsv", TSV}, {"parquet", PARQUET}};
    bool packed = false;
    if (n > 3 && strcasecmp(name + n - 3, ".gz") == 0) {
        n -= 3;
        packed = true;
    } else if (n > 4 && strcasecmp(name + n - 4, ".zst") == 0) {
        n -= 4;
        packed = true;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(known); i++) {
        size_t k = strlen(known[i].end);
        if (n >= k && strncasecmp(name + n - k, known[i].end, k) == 0 && (n == k || name[n - k - 1] == '.')) {
            return known[i].kind == PARQUET && packed ? UNKNOWN : known[i].kind; /* its pages are packed already */
        }
    }
    return UNKNOWN;
}

bool fm_out_is_folder(const char *path) {
    return strcmp(path, "-") != 0 &&
           (fm_path_is_dir(path) || path[strlen(path) - 1] == '/' || kind_of(path) == UNKNOWN);
}

bool fm_out_needs_columns(const char *path, const char *format) {
    bool named = strcmp(path, "-") == 0 || fm_out_is_folder(path);
    kind k = kind_of(named ? (format ? format : "jsonl") : path);
    return k == CSV || k == TSV || k == PARQUET;
}

bool fm_out_needs_types(const char *path, const char *format) {
    bool named = strcmp(path, "-") == 0 || fm_out_is_folder(path);
    return kind_of(named ? (format ? format : "jsonl") : path) == PARQUET;
}

fm_status fm_out_new(fm_out **out, const fm_out_options *o) {
    fm_out *w = *out = fm_calloc(1, sizeof *w);
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the output");
    }
    w->o = *o;
    w->is_stdout = strcmp(o->path, "-") == 0;
    w->is_dir = fm_out_is_folder(o->path);
    w->path = fm_strdup(o->path);
    w->format = fm_strdup(o->format ? o->format : "jsonl");
    if (!w->path || !w->format) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the output");
    }
    const char *name = w->is_dir || w->is_stdout ? w->format : w->path;
    w->kind = kind_of(name);
    w->packing = fm_packing_of(name);
    if (w->kind == UNKNOWN) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "output format '%s' is not known", name);
        return fm_error_hint("formats are parquet, and jsonl, csv and tsv, each also with .gz or .zst");
    }
    if (w->kind == PARQUET) {
        w->types = fm_calloc(o->n_columns + 1, sizeof *w->types);
        if (!w->types) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the output");
        }
        for (size_t i = 0; i < o->n_columns; i++) {
            w->types[i] = fm_cells_type(o->kinds ? o->kinds[i] : 0);
        }
    }
    if (w->is_dir) {
        FM_TRY(fm_mkdirs(o->path));
    }
    return FM_OK;
}

static void close_file(out_file *f) {
    if (f->fd > STDERR_FILENO) {
        close(f->fd);
    }
    f->fd = -1;
}

void fm_out_free(fm_out *o, bool discard) {
    if (!o) {
        return;
    }
    for (size_t i = 0; i < o->n; i++) {
        close_file(&o->file[i]);
        if (discard && o->file[i].tmp) {
            unlink(o->file[i].tmp);
        }
        fm_free(o->file[i].path);
        fm_free(o->file[i].tmp);
        fm_pqw_free(o->file[i].parquet);
    }
    fm_free(o->types);
    fm_free(o->file);
    fm_free(o->path);
    fm_free(o->format);
    fm_free(o);
}

/* ---- worker side ------------------------------------------------------------------------------ */

void fm_out_pieces_free(fm_out_pieces *p) {
    for (size_t i = 0; i < p->cap; i++) {
        fm_str_free(&p->item[i].text);
        fm_str_free(&p->item[i].packed);
        fm_free(p->item[i].page);
    }
    fm_free(p->item);
    memset(p, 0, sizeof *p);
}

static fm_status piece_of(fm_out_pieces *p, const char *part, fm_out_piece **out) {
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->item[i].part, part) == 0) {
            *out = &p->item[i];
            return FM_OK;
        }
    }
    if (p->n == p->cap) {
        size_t old = p->cap;
        void *q = p->item;
        FM_TRY(fm_grow(&q, &p->cap, p->n + 1, sizeof *p->item));
        p->item = q;
        memset(p->item + old, 0, (p->cap - old) * sizeof *p->item);
    }
    fm_out_piece *f = &p->item[p->n++];
    fm_str_clear(&f->text);
    fm_str_clear(&f->packed);
    f->n_rows = f->n_bytes = 0;
    snprintf(f->part, sizeof f->part, "%s", part);
    *out = f;
    return FM_OK;
}

static void put_csv(fm_str *s, const char *p, size_t n, char delimiter) {
    bool quote = n && (*p == ' ' || p[n - 1] == ' ' || *p == '"');
    for (size_t i = 0; i < n && !quote; i++) {
        quote = p[i] == delimiter || p[i] == '"' || p[i] == '\n' || p[i] == '\r';
    }
    if (!quote) {
        fm_str_append(s, p, n);
        return;
    }
    fm_str_putc(s, '"');
    for (const char *end = p + n; p < end;) {
        const char *q = memchr(p, '"', (size_t)(end - p));
        fm_str_append(s, p, (size_t)((q ? q + 1 : end) - p));
        if (q) {
            fm_str_putc(s, '"');
        }
        p = q ? q + 1 : end;
    }
    fm_str_putc(s, '"');
}

/* `seen` of the row's cells are columns of the output; there must be no other. */
static fm_status check_columns(const fm_out *o, const fm_rec *r, size_t seen) {
    for (size_t i = 0; seen < r->n && i < r->n; i++) {
        bool known = false;
        for (size_t k = 0; k < o->o.n_columns && !known; k++) {
            known = fm_sv_eq(r->cell[i].name, o->o.column[k]);
        }
        if (!known) {
            fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                         "a row (line %lld of its file) has the column '%.*s', which is not among `columns`",
                         (long long)r->line, (int)FM_MIN(r->cell[i].name.len, (size_t)80), r->cell[i].name.ptr);
            return fm_error_hint("add it to columns, or drop it with the step fields");
        }
    }
    return FM_OK;
}

static fm_status put_csv_row(const fm_out *o, fm_str *s, const fm_rec *r) {
    char d = o->kind == TSV ? '\t' : ',';
    size_t seen = 0;
    for (size_t i = 0; i < o->o.n_columns; i++) {
        const fm_cell *c = fm_rec_get(r, o->o.column[i]);
        if (i) {
            fm_str_putc(s, d);
        }
        seen += c != NULL;
        if (c && c->kind != FM_CELL_NULL) {
            put_csv(s, c->text.ptr, c->text.len, d);
        } else if (o->o.n_columns == 1) {
            fm_str_puts(s, "\"\""); /* an empty line would be no row */
        }
    }
    FM_TRY(check_columns(o, r, seen));
    fm_str_putc(s, '\n');
    return FM_OK;
}

static void put_header(const fm_out *o, fm_str *s) {
    for (size_t i = 0; i < o->o.n_columns; i++) {
        char d = o->kind == TSV ? '\t' : ',';
        if (i) {
            fm_str_putc(s, d);
        }
        put_csv(s, o->o.column[i], strlen(o->o.column[i]), d);
    }
    fm_str_putc(s, '\n');
}

static fm_status encode_pages(const fm_out *o, const fm_recs *b, fm_out_piece *p) {
    size_t n = o->o.n_columns;
    if (!p->page) {
        p->page = fm_calloc(n + 1, sizeof *p->page);
    }
    if (!p->page) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate pages of %zu columns", n);
    }
    return fm_out_pages(&p->text, p->page, b, p->part, o->o.column, o->types, n);
}

fm_status fm_out_encode(const fm_out *o, const fm_recs *b, fm_out_pieces *pieces) {
    pieces->n = 0;
    for (size_t i = 0; i < b->n; i++) {
        const fm_rec *r = b->rec[i];
        fm_out_piece *p;
        if (r->drop) {
            continue;
        }
        FM_TRY(piece_of(pieces, r->part ? r->part : "", &p));
        if (o->kind == JSONL) {
            fm_rec_put_json(&p->text, r);
            fm_str_putc(&p->text, '\n');
        } else if (o->kind == PARQUET) {
            size_t seen = 0;
            while (seen < r->n && seen < o->o.n_columns && fm_sv_eq(r->cell[seen].name, o->o.column[seen])) {
                seen++;
            }
            FM_TRY(check_columns(o, r, seen));
        } else {
            FM_TRY(put_csv_row(o, &p->text, r));
        }
        p->n_rows++;
    }
    for (size_t i = 0; i < pieces->n; i++) {
        fm_out_piece *p = &pieces->item[i];
        if (o->kind == PARQUET) {
            FM_TRY(encode_pages(o, b, p));
        }
        FM_TRY(fm_str_check(&p->text));
        p->n_bytes = (int64_t)p->text.len;
        for (size_t k = 0; o->kind == PARQUET && k < o->o.n_columns; k++) {
            p->n_bytes += (int64_t)p->page[k].plain_bytes - (int64_t)p->page[k].bytes;
        }
        if (o->packing != FM_PACKING_NONE) {
            FM_TRY(fm_pack_bytes(&p->packed, o->packing, 0, p->text.data, p->text.len));
        }
    }
    return FM_OK;
}

/* ---- ordered side ----------------------------------------------------------------------------- */

/* dir/name.jsonl.gz and part "train": dir/name.train.jsonl.gz. In a folder: train.jsonl, or train-00000.jsonl when
 * there are shards; the main part is called data. */
static fm_status name_file(const fm_out *o, fm_str *s, const char *part, int64_t shard) {
    if (o->is_stdout) {
        fm_str_puts(s, "stdout");
    } else if (o->is_dir) {
        fm_str_puts(s, o->path);
        if (o->path[strlen(o->path) - 1] != '/') {
            fm_str_putc(s, '/');
        }
        fm_str_puts(s, *part ? part : "data");
        if (o->o.shard_bytes > 0) {
            fm_str_printf(s, "-%05lld", (long long)shard);
        }
        fm_str_printf(s, ".%s", o->format);
    } else if (*part) {
        const char *base = strrchr(o->path, '/');
        base = base ? base + 1 : o->path;
        const char *dot = strchr(base + 1, '.');
        size_t n = dot ? (size_t)(dot - o->path) : strlen(o->path);
        fm_str_append(s, o->path, n);
        fm_str_printf(s, ".%s%s", part, o->path + n);
    } else {
        fm_str_puts(s, o->path);
    }
    return fm_str_check(s);
}

static fm_status add_file(fm_out *o, const char *part, int64_t shard, out_file **out) {
    void *q = o->file;
    FM_TRY(fm_grow(&q, &o->cap, o->n + 1, sizeof *o->file));
    o->file = q;
    out_file *f = &o->file[o->n];
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->shard = shard;
    snprintf(f->part, sizeof f->part, "%s", part);
    o->n++;
    fm_str name = {0};
    fm_status s = name_file(o, &name, part, shard);
    if (s == FM_OK) {
        f->path = fm_strdup(name.data);
        if (!o->is_stdout) {
            fm_str_puts(&name, ".tmp");
        }
        s = fm_str_check(&name);
    }
    f->tmp = s == FM_OK ? fm_str_take(&name) : NULL;
    fm_str_free(&name);
    FM_TRY(s);
    if (!f->path || !f->tmp) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an output file name");
    }
    *out = f;
    return FM_OK;
}

static fm_status open_file(fm_out *o, const char *part, int64_t shard, out_file **out) {
    out_file *f;
    FM_TRY(add_file(o, part, shard, &f));
    if (o->is_stdout) {
        if (*part) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the output has several parts, stdout is one");
            return fm_error_hint("give -o a folder or file");
        }
        f->fd = STDOUT_FILENO;
    } else {
        if (!o->o.overwrite && fm_path_exists(f->path)) {
            fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "'%s' exists already", f->path);
            return fm_error_hint("--overwrite replaces it");
        }
        f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (f->fd < 0) {
            FM_FAIL(FM_ERR_IO, "cannot make '%s': %s", f->tmp, strerror(errno));
        }
    }
    if (o->kind == PARQUET) {
        FM_TRY(fm_pqw_new(&f->parquet, o->o.column, o->types, o->o.n_columns));
        fm_str head = {0};
        fm_pqw_begin(f->parquet, &head);
        fm_status s = fm_str_check(&head);
        if (s == FM_OK) {
            s = fm_write_all(f->fd, head.data, head.len, f->tmp);
            f->bytes += (int64_t)head.len;
        }
        fm_str_free(&head);
        FM_TRY(s);
    } else if (o->kind != JSONL) {
        fm_str head = {0}, packed = {0};
        put_header(o, &head);
        fm_status s = fm_str_check(&head);
        if (s == FM_OK) {
            s = fm_pack_bytes(&packed, o->packing, 0, head.data, head.len);
        }
        if (s == FM_OK) {
            s = fm_write_all(f->fd, packed.data, packed.len, f->tmp);
            f->bytes += (int64_t)packed.len;
        }
        fm_str_free(&head);
        fm_str_free(&packed);
        FM_TRY(s);
    }
    *out = f;
    return FM_OK;
}

/* What waits of a Parquet file: a row group, or at the end that and the footer. */
static fm_status write_group(out_file *f, bool last) {
    fm_str s = {0};
    fm_status st = last ? fm_pqw_footer(f->parquet, &s) : fm_pqw_group(f->parquet, &s);
    if (st == FM_OK) {
        st = fm_write_all(f->fd, s.data ? s.data : "", s.len, f->tmp);
        f->bytes += (int64_t)s.len;
    }
    fm_str_free(&s);
    return st;
}

static fm_status write_pages(const fm_out *o, out_file *f, const fm_out_piece *p) {
    const char *at = p->text.data;
    for (size_t i = 0; i < o->o.n_columns; at += p->page[i].bytes, i++) {
        FM_TRY(fm_pqw_add(f->parquet, i, at, &p->page[i]));
    }
    fm_pqw_rows(f->parquet, p->n_rows);
    return fm_pqw_held(f->parquet) >= GROUP_BYTES ? write_group(f, false) : FM_OK;
}

/* The open file of a part, a new one when its shard is full. */
static fm_status file_of(fm_out *o, const char *part, out_file **out) {
    int64_t next = 0;
    for (size_t i = o->n; i > 0; i--) {
        out_file *f = &o->file[i - 1];
        if (strcmp(f->part, part) == 0) {
            if (f->fd >= 0 && !(o->is_dir && o->o.shard_bytes > 0 && f->text_bytes >= o->o.shard_bytes)) {
                *out = f;
                return FM_OK;
            }
            if (f->fd >= 0) {
                FM_TRY(f->parquet ? write_group(f, true) : FM_OK);
                if (fsync(f->fd) != 0) {
                    FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", f->tmp, strerror(errno));
                }
                close_file(f);
            }
            next = f->shard + 1;
            break;
        }
    }
    return open_file(o, part, next, out);
}

fm_status fm_out_write(fm_out *o, const fm_recs *b, const fm_out_pieces *pieces) {
    FM_UNUSED(b);
    for (size_t i = 0; i < pieces->n; i++) {
        const fm_out_piece *p = &pieces->item[i];
        const fm_str *s = o->packing == FM_PACKING_NONE ? &p->text : &p->packed;
        out_file *f = NULL;
        FM_TRY(file_of(o, p->part, &f));
        FM_ASSERT(f);
        if (f->parquet) {
            FM_TRY(write_pages(o, f, p));
        } else {
            FM_TRY(fm_write_all(f->fd, s->data ? s->data : "", s->len, f->tmp));
            f->bytes += (int64_t)s->len;
        }
        f->rows += p->n_rows;
        f->text_bytes += p->n_bytes;
    }
    return FM_OK;
}

fm_status fm_out_state(fm_out *o, fm_json **state) {
    fm_json *list = *state = fm_json_new_array();
    for (size_t i = 0; i < o->n; i++) {
        const out_file *f = &o->file[i];
        if (f->fd >= 0 && !o->is_stdout && fdatasync(f->fd) != 0) {
            FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", f->tmp, strerror(errno));
        }
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "part", fm_json_new_str(f->part)));
        FM_TRY(fm_json_set(e, "shard", fm_json_new_int(f->shard)));
        FM_TRY(fm_json_set(e, "open", fm_json_new_bool(f->fd >= 0)));
        FM_TRY(fm_json_set(e, "rows", fm_json_new_int(f->rows)));
        FM_TRY(fm_json_set(e, "bytes", fm_json_new_int(f->bytes)));
        FM_TRY(fm_json_set(e, "text_bytes", fm_json_new_int(f->text_bytes)));
    }
    return FM_OK;
}

fm_status fm_out_resume(fm_out *o, const fm_json *state) {
    for (size_t i = 0; i < fm_json_size(state); i++) {
        const fm_json *e = fm_json_at(state, i);
        const char *part;
        out_file *f;
        FM_TRY(fm_json_get_str(&part, e, "part", ""));
        FM_TRY(add_file(o, part, fm_json_int(fm_json_get(e, "shard"), 0), &f));
        f->rows = fm_json_int(fm_json_get(e, "rows"), 0);
        f->bytes = fm_json_int(fm_json_get(e, "bytes"), 0);
        f->text_bytes = fm_json_int(fm_json_get(e, "text_bytes"), 0);
        if (fm_file_size(f->tmp) < f->bytes) {
            FM_FAIL(FM_ERR_CORRUPT, "'%s' is shorter than the interrupted run left it", f->tmp);
        }
        if (fm_json_bool(fm_json_get(e, "open"), false)) {
            f->fd = open(f->tmp, O_WRONLY | O_CLOEXEC);
            if (f->fd < 0 || ftruncate(f->fd, f->bytes) != 0 || lseek(f->fd, 0, SEEK_END) < 0) {
                FM_FAIL(FM_ERR_IO, "cannot go on with '%s': %s", f->tmp, strerror(errno));
            }
        }
    }
    return FM_OK;
}

static fm_status describe(fm_json *list, const out_file *f, bool is_stdout) {
    char hash[33] = "";
    const char *base = strrchr(f->path, '/');
    if (!is_stdout) {
        FM_TRY(fm_file_hash(hash, f->path));
    }
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    FM_TRY(fm_json_set(e, "file", fm_json_new_str(base ? base + 1 : f->path)));
    FM_TRY(fm_json_set(e, "part", fm_json_new_str(f->part)));
    FM_TRY(fm_json_set(e, "rows", fm_json_new_int(f->rows)));
    FM_TRY(fm_json_set(e, "bytes", fm_json_new_int(f->bytes)));
    return is_stdout ? FM_OK : fm_json_set(e, "hash", fm_json_new_str(hash));
}

fm_status fm_out_finish(fm_out *o, fm_json **files) {
    *files = fm_json_new_array();
    if (o->n == 0 && !o->is_dir) { /* no row came: an empty file says so */
        out_file *f;
        FM_TRY(open_file(o, "", 0, &f));
    }
    for (size_t i = 0; i < o->n; i++) {
        out_file *f = &o->file[i];
        if (f->parquet && f->fd >= 0) {
            FM_TRY(write_group(f, true));
        }
        if (!o->is_stdout) {
            if (f->fd >= 0 && (fsync(f->fd) != 0 || close(f->fd) != 0)) {
                f->fd = -1;
                FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", f->tmp, strerror(errno));
            }
            f->fd = -1;
            if (rename(f->tmp, f->path) != 0) {
                FM_FAIL(FM_ERR_IO, "cannot rename '%s' to '%s': %s", f->tmp, f->path, strerror(errno));
            }
        }
        FM_TRY(describe(*files, f, o->is_stdout));
    }
    return FM_OK;
}
