/* Files inside tar and zip archives, each by the reader of its name. A member is unpacked into a temporary file first,
 * as some formats are read from their end; its rows know its name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "io/archive.h"

/* What grows so much, to so many bytes, is made to fill disks: deflate alone reaches 1:1032. */
#define BOMB_RATIO 500
#define BOMB_BYTES ((int64_t)64 << 20)

typedef struct members {
    fm_archive *a;
    fm_reader_options o;
    char *archive;
    char dir[4096], path[4300]; /* temporary folder, and the member's file in it */
    const fm_reader_def *inner;
    void *inner_state;
    bool open; /* inner_state */
    fm_str member;
    int64_t n_read, n_other, consumed;
    bool broken; /* the rest of the current member is lost, with `error` */
    fm_error_record error;
    char *buf;
} members;

#define BUF_BYTES ((size_t)1 << 16)

static fm_status open_archive(void **state, const char *path, const fm_reader_options *o) {
    members *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (k) {
        k->o = *o;
        k->archive = fm_strdup(path);
        k->buf = fm_malloc(BUF_BYTES);
    }
    if (!k || !k->archive || !k->buf) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    FM_TRY(fm_archive_open(&k->a, path));
    const char *tmp = getenv("TMPDIR");
    snprintf(k->dir, sizeof k->dir, "%s/fathom-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(k->dir)) {
        k->dir[0] = '\0';
        FM_FAIL(FM_ERR_IO, "cannot make a folder in '%s' to unpack '%s' in", tmp && *tmp ? tmp : "/tmp", path);
    }
    return FM_OK;
}

static void close_member(members *k) {
    if (k->open) {
        k->inner->close(k->inner_state);
        k->open = false;
    }
    if (*k->path) {
        unlink(k->path);
        k->path[0] = '\0';
    }
}

static void close_archive(void *state) {
    members *k = state;
    if (k) {
        close_member(k);
        fm_archive_close(k->a);
        if (*k->dir) {
            rmdir(k->dir);
        }
        fm_str_free(&k->member);
        fm_free(k->archive);
        fm_free(k->buf);
        fm_free(k);
    }
}

/* The end of the member's name, with nothing in it that a path could trip over. */
static void name_file(members *k, const char *member) {
    const char *base = strrchr(member, '/');
    base = base ? base + 1 : member;
    size_t n = strlen(base), skip = n > 100 ? n - 100 : 0;
    int at = snprintf(k->path, sizeof k->path, "%s/", k->dir);
    for (const char *p = base + skip; *p && at + 1 < (int)sizeof k->path; p++, at++) {
        bool first = k->path[at - 1] == '/';
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     (*p == '.' && !first) || *p == '-' || *p == '_';
        k->path[at] = plain ? *p : '_';
    }
    k->path[at] = '\0';
}

/* Unpacks the member; damage inside it leaves what comes before. */
static fm_status spool(members *k, const fm_archive_member *m) {
    FILE *f = fopen(k->path, "wb");
    if (!f) {
        FM_FAIL(FM_ERR_IO, "cannot make '%s' to unpack '%s'", k->path, k->archive);
    }
    int64_t bytes = 0, before = fm_archive_consumed(k->a);
    fm_status s = FM_OK;
    for (size_t n = 1; s == FM_OK && n > 0;) {
        s = fm_archive_read(k->a, k->buf, BUF_BYTES, &n);
        if (s == FM_OK && fwrite(k->buf, 1, n, f) != n) {
            s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot unpack '%s' into '%s': the disk is full?",
                             k->archive, k->dir);
            break;
        }
        bytes += (int64_t)n;
        int64_t packed = m->packed ? (int64_t)m->packed : fm_archive_consumed(k->a) - before + (int64_t)BUF_BYTES;
        if (s == FM_OK && bytes > BOMB_BYTES && bytes / BOMB_RATIO > packed) {
            s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "'%s': '%.200s' grows to more than %d times its size",
                             k->archive, m->name, BOMB_RATIO);
        }
        if (s == FM_OK && fm_cancelled()) {
            s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while unpacking '%s'", k->archive);
        }
    }
    bool written = fclose(f) == 0;
    if (s == FM_OK && !written) {
        FM_FAIL(FM_ERR_IO, "cannot unpack '%s' into '%s': the disk is full?", k->archive, k->dir);
    }
    if (s == FM_ERR_CORRUPT && bytes > 0) {
        k->broken = true;
        fm_error_save(&k->error);
        return FM_OK;
    }
    return s;
}

static fm_status set_aside(fm_recs *b, const char *reason) {
    char message[1100];
    snprintf(message, sizeof message, "%s", fm_error_get().message);
    fm_error_clear();
    return fm_recs_reject(b, 0, reason, message, (fm_sv){NULL, 0});
}

/* Data that is bad, as opposed to a machine that fails. */
static bool is_bad(fm_status s) {
    return s == FM_ERR_CORRUPT || s == FM_ERR_FORMAT || s == FM_ERR_DATA || s == FM_ERR_UNSUPPORTED;
}

static fm_status open_member(members *k, const fm_archive_member *m) {
    bool any = k->o.format && strcmp(k->o.format, "auto") != 0 && strcmp(k->o.format, "archive") != 0;
    const fm_reader_def *archive = &fm_reader_archive;
    if (!any && !fm_reader_knows(m->name)) {
        k->n_other++;
        return FM_OK;
    }
    k->n_read++;
    k->broken = false;
    name_file(k, m->name);
    FM_TRY(spool(k, m));
    FM_TRY(fm_reader_find(&k->inner, any ? k->o.format : "auto", k->path));
    if (k->inner == archive || k->inner->is_dir) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': '%.200s' is an archive inside an archive", k->archive, m->name);
    }
    k->open = true;
    return k->inner->open(&k->inner_state, k->path, &k->o);
}

/* The next member that has a reader, or the end. */
static fm_status next_member(members *k, fm_recs *b, bool *more) {
    const fm_archive_member *m;
    FM_TRY(fm_archive_next(k->a, &m, more));
    if (!*more) {
        if (k->n_read == 0) {
            FM_FAIL(FM_ERR_DATA, "'%s' holds no file of a known format (%lld of others)", k->archive,
                    (long long)k->n_other);
        }
        return FM_OK;
    }
    fm_str_clear(&k->member);
    fm_str_puts(&k->member, m->name);
    FM_TRY(fm_str_check(&k->member));
    fm_status s = open_member(k, m);
    if (is_bad(s)) {
        s = set_aside(b, "the file inside the archive cannot be read");
        close_member(k);
    }
    return s;
}

static fm_status rows_of_member(members *k, fm_recs *b) {
    bool here = false;
    fm_status s = k->inner->next(k->inner_state, b, &here);
    if (s == FM_OK && k->inner->parse && (b->raw.len || b->n_pieces)) {
        s = k->inner->parse(b, &k->o);
    }
    if (s != FM_OK && !is_bad(s)) {
        return s;
    }
    if (s != FM_OK) {
        FM_TRY(set_aside(b, "the rest of the file inside the archive cannot be read"));
    } else if (!here && k->broken) {
        fm_error_restore(&k->error);
        FM_TRY(set_aside(b, "the rest of the file inside the archive cannot be read"));
    }
    if (s != FM_OK || !here) {
        close_member(k);
    }
    return FM_OK;
}

static fm_status next_archive(void *state, fm_recs *b, bool *more) {
    members *k = state;
    *more = true;
    while (b->n == 0 && *more) {
        FM_TRY(k->open ? rows_of_member(k, b) : next_member(k, b, more));
    }
    fm_sv name = {k->member.data ? k->member.data : "", k->member.len};
    FM_TRY(fm_bump_sv(&b->arena, &name, name.ptr, name.len));
    FM_TRY(fm_bump_repair(&b->arena, &name, name));
    for (size_t i = 0; i < b->n; i++) {
        b->rec[i]->member = name;
    }
    int64_t now = fm_archive_consumed(k->a);
    b->bytes = now - k->consumed;
    k->consumed = now;
    return FM_OK;
}

const fm_reader_def fm_reader_archive = {
    .name = "archive",
    .suffixes = ".zip|.tar|.tgz|.tbz2|.tzst",
    .help = "tar (packed or not) and zip: the files inside by their names, or all of them by --format",
    .open = open_archive,
    .next = next_archive,
    .close = close_archive,
};
