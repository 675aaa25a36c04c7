/* Format 1.0: magic, version, u16 header size, a Python dict literal padded with spaces. The header is
 * written with a fixed size, so that the row count can be put in at the end. */
#include "io/npy.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define HEADER_BYTES 256

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE '<'
#else
#define NATIVE '>'
#endif

struct fm_npy_writer {
    FILE *f;
    char *path, *tmp;
    int n_dims;
    int64_t dims[FM_NPY_MAX_DIMS];
    int64_t row; /* elements of one row: product of dims[1..] */
    int64_t n;   /* elements written */
};

static fm_status write_header(fm_npy_writer *w) {
    char h[HEADER_BYTES + 1];
    memset(h, ' ', sizeof h);
    static const char magic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    memcpy(h, magic, sizeof magic);
    h[8] = (char)((HEADER_BYTES - 10) & 0xFF);
    h[9] = (char)((HEADER_BYTES - 10) >> 8);
    int at = 10 + snprintf(h + 10, HEADER_BYTES - 10, "{'descr': '%cf4', 'fortran_order': False, 'shape': (", NATIVE);
    for (int i = 0; i < w->n_dims; i++) {
        at += snprintf(h + at, (size_t)(HEADER_BYTES - at), "%lld, ", (long long)w->dims[i]);
    }
    at += snprintf(h + at, (size_t)(HEADER_BYTES - at), "), }"); /* at most 10 + 50 + 8 * 21 + 4 */
    h[at] = ' ';
    h[HEADER_BYTES - 1] = '\n';
    if (fseek(w->f, 0, SEEK_SET) != 0 || fwrite(h, 1, HEADER_BYTES, w->f) != HEADER_BYTES) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->tmp, strerror(errno));
    }
    return FM_OK;
}

void fm_npy_abort(fm_npy_writer *w) {
    if (w) {
        if (w->f && w->tmp) {
            fclose(w->f);
            unlink(w->tmp);
        }
        fm_free(w->path);
        fm_free(w->tmp);
        fm_free(w);
    }
}

fm_status fm_npy_create(fm_npy_writer **out, const char *path, int n_dims, const int64_t *dims) {
    *out = NULL;
    FM_ASSERT(n_dims >= 1 && n_dims <= FM_NPY_MAX_DIMS);
    fm_npy_writer *w = fm_calloc(1, sizeof *w);
    size_t n = strlen(path) + 5;
    if (w) {
        w->path = fm_strdup(path);
        w->tmp = fm_malloc(n);
    }
    if (!w || !w->path || !w->tmp) {
        fm_npy_abort(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a writer for '%s'", path);
    }
    snprintf(w->tmp, n, "%s.tmp", path);
    w->n_dims = n_dims;
    w->row = 1;
    bool ok = dims[0] >= -1;
    for (int i = 0; i < n_dims; i++) {
        w->dims[i] = dims[i];
        ok = ok && (i == 0 || (dims[i] >= 0 && !__builtin_mul_overflow(w->row, dims[i], &w->row)));
    }
    fm_status s = FM_OK;
    if (!ok) {
        s = fm_error_set(FM_ERR_SHAPE, __FILE__, __LINE__, "'%s': the shape has a negative or huge dimension", path);
    } else if (!(w->f = fopen(w->tmp, "wbe"))) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot create '%s': %s", w->tmp, strerror(errno));
    } else {
        s = write_header(w);
    }
    if (s != FM_OK) {
        fm_npy_abort(w);
        return s;
    }
    *out = w;
    return FM_OK;
}

fm_status fm_npy_put(fm_npy_writer *w, const float *data, int64_t n) {
    FM_ASSERT(n >= 0);
    if (n > 0 && fwrite(data, sizeof *data, (size_t)n, w->f) != (size_t)n) {
        fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write '%s': %s", w->tmp, strerror(errno));
        return errno == ENOSPC ? fm_error_hint("free some space on the disk") : FM_ERR_IO;
    }
    w->n += n;
    return FM_OK;
}

static fm_status finish(fm_npy_writer *w) {
    int64_t want;
    if (w->dims[0] < 0) {
        w->dims[0] = w->row ? w->n / w->row : 0;
        FM_TRY(write_header(w));
    }
    if (__builtin_mul_overflow(w->dims[0], w->row, &want) || want != w->n) {
        FM_FAIL(FM_ERR_STATE, "'%s': expected %lld rows of %lld elements, got %lld elements", w->path,
                (long long)w->dims[0], (long long)w->row, (long long)w->n);
    }
    if (fflush(w->f) != 0 || fsync(fileno(w->f)) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot write '%s': %s", w->tmp, strerror(errno));
    }
    return fm_rename_dir(w->tmp, w->path);
}

fm_status fm_npy_close(fm_npy_writer *w) {
    fm_status s = finish(w);
    fm_npy_abort(w); /* after the rename there is no temporary file left to remove */
    return s;
}

/* Text behind "'key':" in the header; NULL when missing. */
static const char *entry(const char *header, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(header, quoted);
    if (!p) {
        return NULL;
    }
    p += strlen(quoted);
    p += strspn(p, " ");
    return *p == ':' ? p + 1 + strspn(p + 1, " ") : NULL;
}

static bool parse_dtype(fm_dtype *out, const char *p) {
    static const struct {
        const char *code;
        fm_dtype dtype;
    } types[] = {{"f8", FM_F64}, {"f4", FM_F32}, {"f2", FM_F16}, {"i4", FM_I32},
                 {"i8", FM_I64}, {"i1", FM_I8},  {"u1", FM_U8},  {"b1", FM_BOOL}};
    if (!p || *p != '\'' || !p[1] || strncmp(p + 4, "'", 1) != 0) {
        return false;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (strncmp(p + 2, types[i].code, 2) == 0) {
            *out = types[i].dtype;
            return p[1] == NATIVE || (p[1] == '|' && types[i].code[1] == '1');
        }
    }
    return false;
}

static bool parse_shape(fm_npy *a, const char *p) {
    a->n = 1;
    if (!p || *p++ != '(') {
        return false;
    }
    for (;;) {
        p += strspn(p, " ,");
        if (*p == ')') {
            return true;
        }
        char *end;
        errno = 0;
        long long v = isdigit((unsigned char)*p) ? strtoll(p, &end, 10) : -1;
        if (v < 0 || errno || a->n_dims == FM_NPY_MAX_DIMS || __builtin_mul_overflow(a->n, v, &a->n)) {
            return false;
        }
        a->dims[a->n_dims++] = v;
        p = end;
    }
}

static fm_status read_header(fm_npy *a, const char *path) {
    const uint8_t *d = a->map.data;
    size_t size = a->map.size, head = 10;
    if (size < 12 || memcmp(d, "\x93NUMPY", 6) != 0 || d[6] < 1 || d[6] > 3) {
        FM_FAIL(FM_ERR_FORMAT, "'%s': not a .npy file", path);
    }
    size_t len = d[8] | (size_t)d[9] << 8;
    if (d[6] > 1) {
        len |= (size_t)d[10] << 16 | (size_t)d[11] << 24;
        head = 12;
    }
    char text[1024];
    if (len > size - head || len >= sizeof text) {
        FM_FAIL(FM_ERR_FORMAT, "'%s': a header of %zu bytes is not possible", path, len);
    }
    memcpy(text, d + head, len);
    text[len] = '\0';
    const char *order = entry(text, "fortran_order");
    if (!parse_dtype(&a->dtype, entry(text, "descr")) || !order || strncmp(order, "False", 5) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': expected a row-major array of a plain native type, found %.200s", path,
                text);
    }
    if (!parse_shape(a, entry(text, "shape"))) {
        FM_FAIL(FM_ERR_FORMAT, "'%s': cannot read the shape in %.200s", path, text);
    }
    int64_t bytes = fm_dtype_bytes(a->dtype, a->n);
    if (bytes < 0 || (uint64_t)bytes != size - head - len) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': expected %lld bytes of data, found %zu", path, (long long)bytes,
                size - head - len);
    }
    a->data = d + head + len;
    return FM_OK;
}

fm_status fm_npy_open(fm_npy *out, const char *path) {
    memset(out, 0, sizeof *out);
    FM_TRY(fm_map_open(&out->map, path));
    fm_status s = read_header(out, path);
    if (s != FM_OK) {
        fm_npy_release(out);
    }
    return s;
}

void fm_npy_release(fm_npy *a) {
    fm_map_close(&a->map);
    memset(a, 0, sizeof *a);
    a->map.fd = -1;
}
