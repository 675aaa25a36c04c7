/* TFRecord framing: u64 length, masked CRC32C of it, payload, masked CRC32C of that. The payload is the
 * protobuf message Event; the four fields used are coded by hand:
 *   Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
 *   Summary { repeated Value value = 1; }   Value { string tag = 1; float simple_value = 2; } */
#include "io/tfevents.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#define PREFIX     "events.out.tfevents."
#define SUFFIX     ".fathom"
#define MAX_RECORD ((uint64_t)16 << 20)

struct fm_tfevents {
    FILE *f;
    char *path;
    fm_str message, summary, value;
};

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void make_crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) {
            c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
        }
        crc_table[i] = c;
    }
}

uint32_t fm_crc32c(const void *p, size_t n) {
    pthread_once(&crc_once, make_crc_table);
    const uint8_t *b = p;
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c = crc_table[(c ^ b[i]) & 0xFF] ^ c >> 8;
    }
    return ~c;
}

static uint32_t masked(const void *p, size_t n) {
    uint32_t c = fm_crc32c(p, n);
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static void put_le(uint8_t *to, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t get_le(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static void put_varint(fm_str *s, uint64_t v) {
    for (; v >= 0x80; v >>= 7) {
        fm_str_putc(s, (char)((v & 0x7F) | 0x80));
    }
    fm_str_putc(s, (char)v);
}

static void put_fixed(fm_str *s, char key, uint64_t v, size_t n) {
    uint8_t b[8];
    put_le(b, v, n);
    fm_str_putc(s, key);
    fm_str_append(s, (const char *)b, n);
}

static void put_bytes(fm_str *s, char key, const char *p, size_t n) {
    fm_str_putc(s, key);
    put_varint(s, n);
    fm_str_append(s, p, n);
}

static uint64_t bits64(double v) {
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static fm_status write_record(fm_tfevents *w) {
    FM_TRY(fm_str_check(&w->message));
    uint8_t head[12], tail[4];
    put_le(head, w->message.len, 8);
    put_le(head + 8, masked(head, 8), 4);
    put_le(tail, masked(w->message.data, w->message.len), 4);
    if (fwrite(head, 1, 12, w->f) != 12 || fwrite(w->message.data, 1, w->message.len, w->f) != w->message.len ||
        fwrite(tail, 1, 4, w->f) != 4) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->path, strerror(errno));
    }
    return FM_OK;
}

/* A reader of protobuf fields; false at the end or where the message is broken. */
typedef struct field {
    uint64_t number, varint; /* varint: the value of kinds 0, 1 and 5 */
    const uint8_t *p;        /* kind 2 */
    size_t n;
} field;

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t b = *(*p)++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) {
            return true;
        }
    }
    return false;
}

static bool next_field(const uint8_t **p, const uint8_t *end, field *f) {
    uint64_t key, n;
    memset(f, 0, sizeof *f);
    if (!get_varint(p, end, &key)) {
        return false;
    }
    f->number = key >> 3;
    switch (key & 7) {
    case 0:
        return get_varint(p, end, &f->varint);
    case 1:
    case 5:
        n = (key & 7) == 1 ? 8 : 4;
        if ((size_t)(end - *p) < n) {
            return false;
        }
        f->varint = get_le(*p, n);
        *p += n;
        return true;
    case 2:
        if (!get_varint(p, end, &n) || n > (size_t)(end - *p)) {
            return false;
        }
        f->p = *p;
        f->n = n;
        *p += n;
        return true;
    default:
        return false;
    }
}

static fm_status read_summary(const uint8_t *p, size_t n, int64_t step, double wall, fm_tfevents_fn fn, void *user) {
    const uint8_t *end = p + n;
    field f, v;
    while (next_field(&p, end, &f)) {
        if (f.number != 1) {
            continue;
        }
        const uint8_t *q = f.p, *tag = NULL;
        size_t tag_len = 0;
        float value = 0;
        bool scalar = false;
        while (q && next_field(&q, f.p + f.n, &v)) {
            if (v.number == 1) {
                tag = v.p;
                tag_len = v.n;
            } else if (v.number == 2) {
                uint32_t bits = (uint32_t)v.varint;
                memcpy(&value, &bits, sizeof value);
                scalar = true;
            }
        }
        if (scalar && tag) {
            FM_TRY(fn(user, (const char *)tag, tag_len, (double)value, step, wall));
        }
    }
    return FM_OK;
}

/* Step of an event, and its scalars to fn when there is one. */
static fm_status read_event(const uint8_t *p, size_t n, int64_t *step, fm_tfevents_fn fn, void *user) {
    const uint8_t *end = p + n, *summary = NULL;
    size_t summary_len = 0;
    double wall = 0;
    field f;
    *step = 0;
    while (next_field(&p, end, &f)) {
        if (f.number == 1) {
            memcpy(&wall, &f.varint, sizeof wall);
        } else if (f.number == 2) {
            *step = (int64_t)f.varint;
        } else if (f.number == 5) {
            summary = f.p;
            summary_len = f.n;
        }
    }
    return fn && summary ? read_summary(summary, summary_len, *step, wall, fn, user) : FM_OK;
}

/* Walks whole records. *good = bytes up to the first that is torn, or lies after last_step. */
static fm_status walk(const fm_map *m, int64_t last_step, size_t *good, fm_tfevents_fn fn, void *user) {
    size_t at = 0;
    *good = 0;
    while (m->size - at >= 16) {
        const uint8_t *p = m->data + at;
        uint64_t n = get_le(p, 8);
        if (n > MAX_RECORD || n > m->size - at - 16 || get_le(p + 8, 4) != masked(p, 8) ||
            get_le(p + 12 + n, 4) != masked(p + 12, n)) {
            break;
        }
        int64_t step;
        FM_TRY(read_event(p + 12, n, &step, fn, user));
        if (step > last_step) {
            break;
        }
        at += 16 + n;
        *good = at;
    }
    return FM_OK;
}

fm_status fm_tfevents_read(const char *path, fm_tfevents_fn fn, void *user) {
    fm_map m;
    size_t good;
    FM_TRY(fm_map_open(&m, path));
    fm_status s = walk(&m, INT64_MAX, &good, fn, user);
    fm_map_close(&m);
    return s;
}

/* Name of the newest file of ours (names sort by time); NULL when there is none. */
static fm_status find_newest(char **out, const char *dir) {
    char **names, path[4096];
    size_t n;
    *out = NULL;
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = n; i-- > 0 && !*out && s == FM_OK;) {
        size_t len = strlen(names[i]);
        if (strncmp(names[i], PREFIX, strlen(PREFIX)) == 0 && len > strlen(SUFFIX) &&
            strcmp(names[i] + len - strlen(SUFFIX), SUFFIX) == 0) {
            s = fm_path_join(path, sizeof path, dir, names[i]);
            *out = s == FM_OK ? fm_strdup(path) : NULL;
        }
    }
    fm_names_free(names, n);
    return s;
}

static fm_status resume(fm_tfevents *w, int64_t step) {
    fm_map m;
    size_t good;
    FM_TRY(fm_map_open(&m, w->path));
    fm_status s = walk(&m, step, &good, NULL, NULL);
    fm_map_close(&m);
    FM_TRY(s);
    if (truncate(w->path, (off_t)good) != 0 || !(w->f = fopen(w->path, "abe"))) {
        FM_FAIL(FM_ERR_IO, "cannot go on with '%s': %s", w->path, strerror(errno));
    }
    return FM_OK;
}

static fm_status start(fm_tfevents *w, const char *dir) {
    char name[256], host[64] = "host", path[4096];
    (void)gethostname(host, sizeof host - 1);
    host[sizeof host - 1] = '\0';
    int64_t ms = fm_unix_ms();
    for (int i = 0; !w->f; i++) {
        snprintf(name, sizeof name, PREFIX "%010lld.%s.%d.%02d" SUFFIX, (long long)(ms / 1000), host, (int)getpid(), i);
        FM_TRY(fm_path_join(path, sizeof path, dir, name));
        w->f = fopen(path, "wxbe");
        if (!w->f && (errno != EEXIST || i == 99)) {
            FM_FAIL(FM_ERR_IO, "cannot create '%s': %s", path, strerror(errno));
        }
    }
    w->path = fm_strdup(path);
    if (!w->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a path");
    }
    fm_str_clear(&w->message);
    put_fixed(&w->message, 0x09, bits64((double)ms / 1000), 8);
    put_bytes(&w->message, 0x1A, "brain.Event:2", 13);
    return write_record(w);
}

static void destroy(fm_tfevents *w) {
    if (w) {
        if (w->f) {
            fclose(w->f);
        }
        fm_str_free(&w->message);
        fm_str_free(&w->summary);
        fm_str_free(&w->value);
        fm_free(w->path);
        fm_free(w);
    }
}

fm_status fm_tfevents_open(fm_tfevents **out, const char *dir, int64_t resume_step) {
    *out = NULL;
    fm_tfevents *w = fm_calloc(1, sizeof *w);
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an event writer");
    }
    fm_status s = fm_mkdirs(dir);
    if (s == FM_OK && resume_step >= 0) {
        s = find_newest(&w->path, dir);
    }
    if (s == FM_OK) {
        s = w->path ? resume(w, resume_step) : start(w, dir);
    }
    if (s == FM_OK) {
        s = fm_tfevents_flush(w);
    }
    if (s != FM_OK) {
        destroy(w);
        return s;
    }
    *out = w;
    return FM_OK;
}

fm_status fm_tfevents_scalar(fm_tfevents *w, const char *tag, double value, int64_t step, double wall_s) {
    float v = (float)value;
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    fm_str_clear(&w->value);
    fm_str_clear(&w->summary);
    fm_str_clear(&w->message);
    put_bytes(&w->value, 0x0A, tag, strlen(tag));
    put_fixed(&w->value, 0x15, bits, 4);
    FM_TRY(fm_str_check(&w->value));
    put_bytes(&w->summary, 0x0A, w->value.data, w->value.len);
    FM_TRY(fm_str_check(&w->summary));
    put_fixed(&w->message, 0x09, bits64(wall_s), 8);
    fm_str_putc(&w->message, 0x10);
    put_varint(&w->message, (uint64_t)step);
    put_bytes(&w->message, 0x2A, w->summary.data, w->summary.len);
    return write_record(w);
}

fm_status fm_tfevents_flush(fm_tfevents *w) {
    if (fflush(w->f) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->path, strerror(errno));
    }
    return FM_OK;
}

fm_status fm_tfevents_close(fm_tfevents *w) {
    fm_status s = fm_tfevents_flush(w);
    if (s == FM_OK && fsync(fileno(w->f)) != 0) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot sync '%s': %s", w->path, strerror(errno));
    }
    destroy(w);
    return s;
}

const char *fm_tfevents_path(const fm_tfevents *w) {
    return w->path;
}
