/* Plain, gzip, zstd and bzip2 input, converted to UTF-8. See stream.h. */
#include "io/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/encoding.h"
#include "io/inflate.h"

#define IN_BYTES   ((size_t)1 << 17)
#define LOOK_BYTES ((size_t)1 << 16) /* looked at to tell the encoding */

typedef enum kind { PLAIN, GZIP, ZSTD, BZIP2 } kind;

struct fm_stream {
    char *name;
    int fd;             /* -1: memory */
    const uint8_t *mem; /* [mem_n] what is left of it */
    size_t mem_n;
    kind kind;
    bool at_end;    /* of the file */
    bool in_member; /* inside a gzip member or zstd frame: the file may not end here */
    int64_t consumed;
    size_t in_pos, in_len;
    z_stream z;
    ZSTD_DStream *zstd;
    fm_bunzip *bz;
    fm_recoder *recoder; /* NULL: bytes as they are */
    bool recoder_done;
    fm_str head, text; /* bytes taken to look at, and converted ones, from text_at on */
    size_t head_at, text_at;
    uint8_t in[IN_BYTES];
};

static ssize_t read_file(fm_stream *s) {
    ssize_t k;
    do {
        k = read(s->fd, s->in + s->in_len, IN_BYTES - s->in_len);
    } while (k < 0 && errno == EINTR);
    return k;
}

/* Appends to the input buffer (which is moved to its start when all was used). */
static fm_status fill(fm_stream *s) {
    if (s->in_pos == s->in_len) {
        s->in_pos = s->in_len = 0;
    }
    ssize_t k;
    if (s->fd < 0) {
        k = (ssize_t)FM_MIN(s->mem_n, IN_BYTES - s->in_len);
        memcpy(s->in + s->in_len, s->mem, (size_t)k);
        s->mem += k;
        s->mem_n -= (size_t)k;
    } else {
        k = read_file(s);
    }
    if (k < 0) {
        FM_FAIL(FM_ERR_IO, "cannot read '%s': %s", s->name, strerror(errno));
    }
    s->at_end = k == 0;
    s->in_len += (size_t)k;
    s->consumed += k;
    return FM_OK;
}

static fm_status start(fm_stream *s) {
    while (s->in_len < 4 && !s->at_end) { /* a pipe may give single bytes */
        FM_TRY(fill(s));
    }
    if (s->in_len >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b) {
        s->z.zalloc = fm_z_alloc;
        s->z.zfree = fm_z_free;
        if (inflateInit2(&s->z, 15 + 16) != Z_OK) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the gzip reader for '%s'", s->name);
        }
        s->kind = GZIP;
        s->in_member = true;
    } else if (s->in_len >= 4 && memcmp(s->in, "\x28\xB5\x2F\xFD", 4) == 0) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the zstd reader for '%s'", s->name);
        }
        s->kind = ZSTD;
        s->in_member = true;
    } else if (s->in_len >= 4 && memcmp(s->in, "BZh", 3) == 0 && s->in[3] >= '1' && s->in[3] <= '9') {
        fm_status status = fm_bunzip_new(&s->bz);
        if (status != FM_OK) {
            return fm_error_context("'%s' is packed with bzip2", s->name);
        }
        s->kind = BZIP2;
        s->in_member = true;
    }
    return FM_OK;
}

/* Takes fd over. */
static fm_status open_stream(fm_stream **out, int fd, const char *name, const void *p, size_t n) {
    *out = NULL;
    fm_stream *s = fm_malloc(sizeof *s);
    if (s) {
        memset(s, 0, offsetof(fm_stream, in)); /* not the buffer */
        s->fd = fd;
        s->mem = p;
        s->mem_n = n;
        s->name = fm_strdup(name);
    }
    if (!s || !s->name) {
        fm_free(s);
        if (fd > STDIN_FILENO) {
            close(fd);
        }
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", name);
    }
    fm_status status = start(s);
    if (status != FM_OK) {
        fm_stream_close(s);
        return status;
    }
    *out = s;
    return FM_OK;
}

fm_status fm_stream_open(fm_stream **out, const char *path) {
    *out = NULL;
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        FM_FAIL(errno == ENOENT ? FM_ERR_NOT_FOUND : FM_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    return open_stream(out, fd, is_stdin ? "stdin" : path, NULL, 0);
}

fm_status fm_stream_open_memory(fm_stream **out, const void *p, size_t n, const char *name) {
    return open_stream(out, -1, name, p, n);
}

void fm_stream_close(fm_stream *s) {
    if (!s) {
        return;
    }
    if (s->kind == GZIP) {
        inflateEnd(&s->z);
    }
    ZSTD_freeDStream(s->zstd);
    fm_bunzip_free(s->bz);
    fm_recoder_free(s->recoder);
    fm_str_free(&s->head);
    fm_str_free(&s->text);
    if (s->fd > STDIN_FILENO) {
        close(s->fd);
    }
    fm_free(s->name);
    fm_free(s);
}

static fm_status cut_short(const fm_stream *s) {
    fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "'%s': the compressed data ends in the middle (after %lld bytes)",
                 s->name, (long long)s->consumed);
    return fm_error_hint("the file was not copied or downloaded completely");
}

static fm_status read_gzip(fm_stream *s, uint8_t *buf, size_t cap, size_t *n) {
    s->z.next_in = s->in + s->in_pos;
    s->z.avail_in = (unsigned)(s->in_len - s->in_pos);
    s->z.next_out = buf;
    s->z.avail_out = (unsigned)FM_MIN(cap, (size_t)1 << 30);
    unsigned room = s->z.avail_out;
    if (!s->in_member) { /* another member follows */
        if (inflateReset(&s->z) != Z_OK) {
            FM_FAIL(FM_ERR_CORRUPT, "'%s': cannot read the next gzip member", s->name);
        }
        s->in_member = true;
    }
    int rc = inflate(&s->z, Z_NO_FLUSH);
    s->in_pos = s->in_len - s->z.avail_in;
    *n = room - s->z.avail_out;
    if (rc == Z_STREAM_END) {
        s->in_member = false;
    } else if (rc == Z_MEM_ERROR) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate memory to unpack '%s'", s->name);
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': damaged gzip data: %s", s->name, s->z.msg ? s->z.msg : "unknown problem");
    }
    return FM_OK;
}

static fm_status read_bzip2(fm_stream *s, uint8_t *buf, size_t cap, size_t *n) {
    bool end;
    size_t used = s->in_len - s->in_pos;
    fm_status status = fm_bunzip_run(s->bz, buf, cap, n, s->in + s->in_pos, &used, &end);
    s->in_pos += used;
    s->in_member = !end;
    return status == FM_OK ? FM_OK : fm_error_context("'%s'", s->name);
}

static fm_status read_zstd(fm_stream *s, uint8_t *buf, size_t cap, size_t *n) {
    ZSTD_inBuffer in = {s->in, s->in_len, s->in_pos};
    ZSTD_outBuffer out = {buf, cap, 0};
    size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    s->in_pos = in.pos;
    *n = out.pos;
    if (ZSTD_isError(rc)) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': damaged zstd data: %s", s->name, ZSTD_getErrorName(rc));
    }
    s->in_member = rc != 0;
    return FM_OK;
}

static fm_status read_raw(fm_stream *s, void *buf, size_t cap, size_t *n) {
    *n = 0;
    while (cap && *n == 0) {
        bool was_empty = s->in_pos == s->in_len;
        if (was_empty && !s->at_end) {
            FM_TRY(fill(s));
            was_empty = s->in_pos == s->in_len;
        }
        if (s->kind == PLAIN) {
            *n = FM_MIN(cap, s->in_len - s->in_pos);
            memcpy(buf, s->in + s->in_pos, *n);
            s->in_pos += *n;
            return FM_OK;
        }
        if (was_empty && !s->in_member) {
            return FM_OK;
        }
        /* With no input left the decoder may still hold output. */
        FM_TRY(s->kind == GZIP   ? read_gzip(s, buf, cap, n)
               : s->kind == ZSTD ? read_zstd(s, buf, cap, n)
                                 : read_bzip2(s, buf, cap, n));
        if (was_empty && *n == 0 && s->in_member) {
            return cut_short(s);
        }
    }
    return FM_OK;
}

/* What was taken to look at, then the rest. */
static fm_status read_bytes(fm_stream *s, void *buf, size_t cap, size_t *n) {
    if (s->head_at == s->head.len) {
        return read_raw(s, buf, cap, n);
    }
    *n = FM_MIN(cap, s->head.len - s->head_at);
    memcpy(buf, s->head.data + s->head_at, *n);
    s->head_at += *n;
    return FM_OK;
}

fm_status fm_stream_recode(fm_stream *s, const char *encoding) {
    const char *name = NULL;
    bool at_end = false;
    if (encoding) {
        FM_TRY(fm_encoding_find(&name, encoding, false));
    }
    while (!at_end && s->head.len < LOOK_BYTES) {
        void *p = s->head.data;
        size_t n;
        FM_TRY(fm_grow(&p, &s->head.cap, LOOK_BYTES + 1, 1));
        s->head.data = p;
        /* Damage is reported by the read that comes to it. */
        at_end = read_raw(s, s->head.data + s->head.len, LOOK_BYTES - s->head.len, &n) != FM_OK || n == 0;
        s->head.len += n;
    }
    fm_error_clear();
    if (!name) {
        name = FM_UTF8;
        if (s->head.len) {
            FM_TRY(fm_encoding_detect(&name, s->head.data, s->head.len, at_end));
        }
        if (strcmp(name, FM_UTF8) != 0) {
            fm_info("%s: read as %s (--encoding names another)", s->name, name);
        }
    }
    return strcmp(name, FM_UTF8) == 0 ? FM_OK : fm_recoder_new(&s->recoder, name);
}

fm_status fm_stream_read(fm_stream *s, void *buf, size_t cap, size_t *n) {
    *n = 0;
    if (!s->recoder) {
        return read_bytes(s, buf, cap, n);
    }
    while (s->text_at == s->text.len && !s->recoder_done) {
        char piece[16384];
        size_t k;
        FM_TRY(read_bytes(s, piece, sizeof piece, &k));
        fm_str_clear(&s->text);
        s->text_at = 0;
        s->recoder_done = k == 0;
        FM_TRY(fm_recoder_feed(s->recoder, &s->text, piece, k, k == 0));
    }
    *n = FM_MIN(cap, s->text.len - s->text_at);
    if (*n) {
        memcpy(buf, s->text.data + s->text_at, *n);
        s->text_at += *n;
    }
    return FM_OK;
}

const char *fm_stream_name(const fm_stream *s) {
    return s->name;
}

int64_t fm_stream_consumed(const fm_stream *s) {
    return s->consumed;
}
