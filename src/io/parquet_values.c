/* Values of Parquet pages: encodings, and values as text. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/parquet_meta.h"

/* ---- numbers in few bits ---------------------------------------------------------------------- */

typedef struct bytes {
    const uint8_t *p, *end;
} bytes;

static bool varint(bytes *b, uint64_t *v) {
    *v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (b->p == b->end) {
            return false;
        }
        uint8_t c = *b->p++;
        *v |= (uint64_t)(c & 0x7F) << shift;
        if (!(c & 0x80)) {
            return true;
        }
    }
    return false;
}

static bool zigzag(bytes *b, int64_t *v) {
    uint64_t u;
    if (!varint(b, &u)) {
        return false;
    }
    *v = (int64_t)(u >> 1) ^ -(int64_t)(u & 1);
    return true;
}

/* The i-th number of `bits` bits, least significant bit first; the caller checked the length. */
static uint64_t bits_at(const uint8_t *p, size_t i, int bits) {
    uint64_t v = 0;
    size_t at = i * (size_t)bits;
    for (int got = 0; got < bits;) {
        size_t byte = at >> 3;
        int off = (int)(at & 7), take = FM_MIN(8 - off, bits - got);
        v |= (uint64_t)((p[byte] >> off) & ((1 << take) - 1)) << got;
        got += take;
        at += (size_t)take;
    }
    return v;
}

bool fm_pq_hybrid(uint32_t *out, size_t n, int bits, const uint8_t *data, size_t size) {
    bytes b = {data, data + size};
    size_t at = 0;
    if (bits < 0 || bits > 32) {
        return false;
    }
    while (at < n) {
        uint64_t head;
        if (!varint(&b, &head)) {
            return false;
        }
        if (head & 1) {
            uint64_t groups = head >> 1;
            size_t have = (size_t)(b.end - b.p);
            size_t count = (size_t)FM_MIN(groups, (uint64_t)(n - at + 7) / 8) * 8;
            size_t need = (size_t)bits * count / 8;
            if (need > have) { /* writers may cut the last group short */
                count = bits ? have * 8 / (size_t)bits : count;
                need = have;
                if (count < n - at) {
                    return false;
                }
            }
            for (size_t i = 0; i < count && at < n; i++) {
                out[at++] = (uint32_t)bits_at(b.p, i, bits);
            }
            b.p += need;
            continue;
        }
        uint64_t count = head >> 1;
        size_t k = ((size_t)bits + 7) / 8;
        uint32_t v = 0;
        if ((size_t)(b.end - b.p) < k || count == 0) {
            return false;
        }
        for (size_t i = 0; i < k; i++) {
            v |= (uint32_t)b.p[i] << 8 * i;
        }
        b.p += k;
        for (uint64_t i = 0; i < count && at < n; i++) {
            out[at++] = v;
        }
    }
    return true;
}

/* DELTA_BINARY_PACKED: up to n numbers; b moves behind them. The head's count must be `n` or, for lengths, at least it.
 */
static bool delta_ints(int64_t *out, size_t n, bytes *b) {
    uint64_t block, minis, total;
    int64_t value;
    if (!varint(b, &block) || !varint(b, &minis) || !varint(b, &total) || !zigzag(b, &value)) {
        return false;
    }
    if (minis == 0 || block == 0 || block % minis || block / minis % 8 || block > (1u << 24) || total < n) {
        return false;
    }
    size_t per = (size_t)(block / minis), at = 0;
    if (n) {
        out[at++] = value;
    }
    for (uint64_t left = total ? total - 1 : 0; left > 0;) {
        int64_t min;
        if (!zigzag(b, &min) || (size_t)(b->end - b->p) < minis) {
            return false;
        }
        const uint8_t *widths = b->p;
        b->p += minis;
        for (uint64_t m = 0; m < minis && left > 0; m++) {
            size_t size = (size_t)widths[m] * per / 8;
            if (widths[m] > 64 || (size_t)(b->end - b->p) < size) {
                return false;
            }
            for (size_t i = 0; i < per && left > 0; i++, left--) {
                value = (int64_t)((uint64_t)value + (uint64_t)min + bits_at(b->p, i, widths[m]));
                if (at < n) {
                    out[at++] = value;
                }
            }
            b->p += size;
            if (left && at == n && total > n && total - n > (1u << 26)) {
                return false; /* a count out of nowhere */
            }
        }
    }
    return at == n;
}

/* ---- encodings -------------------------------------------------------------------------------- */

static size_t fixed_size(const fm_pq_node *leaf) {
    switch (leaf->type) {
    case PQ_INT32:
    case PQ_FLOAT:
        return 4;
    case PQ_INT64:
    case PQ_DOUBLE:
        return 8;
    case PQ_INT96:
        return 12;
    case PQ_FIXED:
        return (size_t)leaf->type_length;
    case PQ_BOOLEAN:
    case PQ_BYTES:
        break;
    }
    return 0;
}

static uint32_t little32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t little64(const uint8_t *p) {
    return (uint64_t)little32(p) | (uint64_t)little32(p + 4) << 32;
}

static void take_fixed(fm_pq_value *v, const fm_pq_node *leaf, const uint8_t *p, size_t size) {
    v->len = (uint32_t)size;
    if (leaf->type == PQ_INT32) {
        v->u.i = (int32_t)little32(p);
    } else if (leaf->type == PQ_FLOAT) {
        v->u.i = little32(p);
    } else if (size == 8 && leaf->type != PQ_FIXED) {
        v->u.i = (int64_t)little64(p);
    } else {
        v->u.p = p;
    }
}

static bool plain(fm_pq_value *out, size_t n, const fm_pq_node *leaf, const uint8_t *p, size_t size) {
    if (leaf->type == PQ_BOOLEAN) {
        if ((n + 7) / 8 > size) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            out[i] = (fm_pq_value){.u.i = p[i / 8] >> (i % 8) & 1};
        }
        return true;
    }
    size_t k = fixed_size(leaf);
    if (k) {
        if (n > size / k) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            take_fixed(&out[i], leaf, p + i * k, k);
        }
        return true;
    }
    const uint8_t *end = p + size;
    for (size_t i = 0; i < n; i++) {
        if (end - p < 4 || little32(p) > (size_t)(end - p) - 4) {
            return false;
        }
        out[i].len = little32(p);
        out[i].u.p = p + 4;
        p += 4 + out[i].len;
    }
    return true;
}

/* Room in scratch that does not move later. */
static uint8_t *fixed_room(fm_str *scratch, size_t n) {
    fm_str_clear(scratch);
    void *p = scratch->data;
    if (fm_grow(&p, &scratch->cap, n + 1, 1) != FM_OK) {
        return NULL;
    }
    scratch->data = p;
    return (uint8_t *)p;
}

static bool split_streams(fm_pq_value *out, size_t n, const fm_pq_node *leaf, const uint8_t *p, size_t size,
                          fm_str *scratch, bool *no_memory) {
    size_t k = fixed_size(leaf);
    if (k == 0 || n > size / k) {
        return false;
    }
    uint8_t *joined = fixed_room(scratch, n * k);
    if (!joined) {
        *no_memory = true;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t b = 0; b < k; b++) {
            joined[i * k + b] = p[b * n + i];
        }
        take_fixed(&out[i], leaf, joined + i * k, k);
    }
    return true;
}

/* DELTA_LENGTH_BYTE_ARRAY into out; b moves behind. */
static bool delta_lengths(fm_pq_value *out, size_t n, bytes *b, int64_t *num) {
    if (!delta_ints(num, n, b)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (num[i] < 0 || num[i] > b->end - b->p) {
            return false;
        }
        out[i].len = (uint32_t)num[i];
        out[i].u.p = b->p;
        b->p += num[i];
    }
    return true;
}

/* DELTA_BYTE_ARRAY: lengths of shared fronts, then the tails. */
static bool delta_bytes(fm_pq_value *out, size_t n, bytes *b, int64_t *front, int64_t *num, fm_str *scratch,
                        bool *no_memory) {
    if (!delta_ints(front, n, b) || !delta_lengths(out, n, b, num)) {
        return false;
    }
    uint64_t total = 0, before = 0;
    for (size_t i = 0; i < n; i++) {
        if (front[i] < 0 || (uint64_t)front[i] > before) {
            return false;
        }
        before = (uint64_t)front[i] + out[i].len;
        total += before;
        if (before > UINT32_MAX || total > ((uint64_t)1 << 30)) {
            return false; /* fronts may multiply a page without end */
        }
    }
    uint8_t *p = fixed_room(scratch, (size_t)total), *last = p;
    if (!p) {
        *no_memory = true;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(p, last, (size_t)front[i]);
        memcpy(p + front[i], out[i].u.p, out[i].len);
        out[i].len += (uint32_t)front[i];
        out[i].u.p = p;
        last = p;
        p += out[i].len;
    }
    return true;
}

static bool dictionary(fm_pq_value *out, size_t n, const uint8_t *p, size_t size, const fm_pq_value *dict,
                       size_t n_dict, uint32_t *index) {
    if (n == 0) {
        return true;
    }
    if (size < 1 || !fm_pq_hybrid(index, n, p[0], p + 1, size - 1)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (index[i] >= n_dict) {
            return false;
        }
        out[i] = dict[index[i]];
    }
    return true;
}

static bool booleans(fm_pq_value *out, size_t n, const uint8_t *p, size_t size, uint32_t *num) {
    if (size < 4 || little32(p) > size - 4 || !fm_pq_hybrid(num, n, 1, p + 4, little32(p))) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = (fm_pq_value){.u.i = num[i]};
    }
    return true;
}

fm_status fm_pq_values(fm_pq_value *out, size_t n, const fm_pq_node *leaf, int encoding, const uint8_t *data,
                       size_t size, const fm_pq_value *dict, size_t n_dict, fm_str *scratch, const char *name) {
    bool ok = false, no_memory = false;
    bytes b = {data, data + size};
    int64_t *num = NULL;
    if (encoding != 0 && encoding != 9) {
        num = fm_malloc((2 * n + 1) * sizeof *num);
        if (!num) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot read a page of %zu values", n);
        }
    }
    switch (encoding) {
    case 0:
        ok = plain(out, n, leaf, data, size);
        break;
    case 2:
    case 8:
        ok = dictionary(out, n, data, size, dict, n_dict, (uint32_t *)(void *)num);
        break;
    case 3:
        ok = leaf->type == PQ_BOOLEAN && booleans(out, n, data, size, (uint32_t *)(void *)num);
        break;
    case 5:
        ok = (leaf->type == PQ_INT32 || leaf->type == PQ_INT64) && delta_ints(num, n, &b);
        for (size_t i = 0; ok && i < n; i++) {
            out[i] = (fm_pq_value){.u.i = leaf->type == PQ_INT32 ? (int32_t)(uint32_t)(uint64_t)num[i] : num[i]};
        }
        break;
    case 6:
        ok = leaf->type == PQ_BYTES && delta_lengths(out, n, &b, num);
        break;
    case 7:
        ok = (leaf->type == PQ_BYTES || leaf->type == PQ_FIXED) &&
             delta_bytes(out, n, &b, num + n, num, scratch, &no_memory);
        for (size_t i = 0; ok && leaf->type == PQ_FIXED && i < n; i++) {
            ok = out[i].len == (uint32_t)leaf->type_length;
        }
        break;
    case 9:
        ok = split_streams(out, n, leaf, data, size, scratch, &no_memory);
        break;
    default:
        fm_free(num);
        FM_FAIL(FM_ERR_UNSUPPORTED, "'%s': column '%s' has the unknown encoding %d", name, leaf->name, encoding);
    }
    fm_free(num);
    if (no_memory) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot read a page of %zu values", n);
    }
    if (!ok) {
        FM_FAIL(FM_ERR_CORRUPT, "'%s': a page of column '%s' is damaged (encoding %d)", name, leaf->name, encoding);
    }
    return FM_OK;
}

/* ---- values as text --------------------------------------------------------------------------- */

/* Days since 1970 as a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
 */
static void put_date(fm_str *out, int64_t days) {
    if (days < -1000000000 || days > 1000000000) {
        fm_str_printf(out, "day %" PRId64, days);
        return;
    }
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097, yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
    fm_str_printf(out, "%04" PRId64 "-%02" PRId64 "-%02" PRId64, yoe + era * 400 + (m <= 2), m, d);
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static void put_time(fm_str *out, int64_t t, int64_t per_second) {
    int64_t s = t / per_second, part = t % per_second;
    fm_str_printf(out, "%02d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
    if (part) {
        char frac[16];
        int n = snprintf(frac, sizeof frac, ".%0*" PRId64,
                         per_second == 1000      ? 3
                         : per_second == 1000000 ? 6
                                                 : 9,
                         part);
        while (n > 0 && frac[n - 1] == '0') {
            frac[--n] = '\0';
        }
        fm_str_puts(out, frac);
    }
}

static void put_timestamp(fm_str *out, int64_t t, int64_t per_second, bool utc) {
    int64_t day = floor_div(t, 86400 * per_second);
    put_date(out, day);
    fm_str_putc(out, 'T');
    put_time(out, t - day * 86400 * per_second, per_second);
    if (utc) {
        fm_str_putc(out, 'Z');
    }
}

/* An integer of big-endian two's complement bytes, with the point `scale` digits from the right. */
static void put_decimal(fm_str *out, const uint8_t *p, size_t n, int32_t scale) {
    uint8_t mag[64];
    char digits[160];
    int nd = 0;
    bool negative = n && p[0] & 0x80;
    while (n > sizeof mag && (p[0] == 0 || p[0] == 0xFF)) { /* sign bytes */
        p++;
        n--;
    }
    n = FM_MIN(n, sizeof mag);
    memcpy(mag, p, n);
    if (negative) {
        int carry = 1;
        for (size_t i = n; i > 0; i--) {
            int v = (uint8_t)~mag[i - 1] + carry;
            mag[i - 1] = (uint8_t)v;
            carry = v >> 8;
        }
    }
    for (bool any = true; any && nd < 155;) { /* least significant digit first */
        unsigned rem = 0;
        any = false;
        for (size_t i = 0; i < n; i++) {
            unsigned v = rem << 8 | mag[i];
            mag[i] = (uint8_t)(v / 10);
            rem = v % 10;
            any = any || mag[i];
        }
        digits[nd++] = (char)('0' + rem);
    }
    scale = FM_MAX(0, FM_MIN(scale, 150));
    while (nd <= scale) {
        digits[nd++] = '0';
    }
    if (negative) {
        fm_str_putc(out, '-');
    }
    for (int i = nd; i > 0; i--) {
        fm_str_putc(out, digits[i - 1]);
        if (i - 1 == scale && scale > 0) {
            fm_str_putc(out, '.');
        }
    }
}

static double half(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

/* Nanoseconds of the day, Julian day number. Microseconds since 1970 wrap around 64 bits: so Spark writes and reads
 * dates far off. */
static void put_int96(fm_str *out, const uint8_t *p) {
    const int64_t day_us = 86400000000;
    int64_t ns = (int64_t)little64(p), day = (int64_t)(int32_t)little32(p + 8) - 2440588;
    int64_t us = (int64_t)((uint64_t)day * (uint64_t)day_us + (uint64_t)floor_div(ns, 1000));
    int64_t date = floor_div(us, day_us);
    put_date(out, date);
    fm_str_putc(out, 'T');
    put_time(out, (us - date * day_us) * 1000 + (ns - floor_div(ns, 1000) * 1000), 1000000000);
}

/* Text without JSON's quotes, for dates and the like; returns false for other kinds. */
static bool put_plain(fm_str *out, const fm_pq_node *l, const fm_pq_value *v) {
    if (l->type == PQ_INT96) {
        put_int96(out, v->u.p);
    } else if (l->kind == PQ_K_DATE && l->type == PQ_INT32) {
        put_date(out, v->u.i);
    } else if (l->kind == PQ_K_TIME && (l->type == PQ_INT32 || l->type == PQ_INT64) && v->u.i >= 0 && l->per_second) {
        put_time(out, v->u.i, l->per_second);
    } else if (l->kind == PQ_K_TIMESTAMP && l->type == PQ_INT64 && l->per_second) {
        put_timestamp(out, v->u.i, l->per_second, l->utc);
    } else if (l->kind == PQ_K_UUID && v->len == 16 && l->type == PQ_FIXED) {
        for (int i = 0; i < 16; i++) {
            fm_str_printf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", v->u.p[i]);
        }
    } else if (l->kind == PQ_K_INTERVAL && v->len == 12 && l->type == PQ_FIXED) {
        fm_str_printf(out, "%u months %u days %u ms", little32(v->u.p), little32(v->u.p + 4), little32(v->u.p + 8));
    } else {
        return false;
    }
    return true;
}

/* An array or object on one line, as JSON columns should hold; anything else stays text. */
static bool is_json(const fm_pq_value *v) {
    const char *p = (const char *)v->u.p, *why, *at;
    fm_json_value value;
    return v->len && (*p == '{' || *p == '[') && !memchr(p, '\n', v->len) && !memchr(p, '\r', v->len) &&
           fm_jsonl_value(&value, p, p + v->len, &why, &at) == p + v->len;
}

static fm_json_kind put_bytes(fm_str *out, const fm_pq_node *l, const fm_pq_value *v, bool as_text) {
    if (l->kind == PQ_K_DECIMAL) {
        put_decimal(out, v->u.p, v->len, l->scale);
        return FM_JSON_NUMBER;
    }
    if (l->kind == PQ_K_FLOAT16 && v->len == 2) {
        return fm_table_put_double(out, half((uint16_t)(v->u.p[0] | v->u.p[1] << 8)), 17);
    }
    if (l->kind == PQ_K_JSON && is_json(v)) {
        fm_str_append(out, (const char *)v->u.p, v->len);
        return v->u.p[0] == '{' ? FM_JSON_OBJECT : FM_JSON_ARRAY;
    }
    return fm_table_put_bytes(out, v->u.p, v->len, as_text);
}

fm_json_kind fm_pq_put(fm_str *out, const fm_pq_node *l, const fm_pq_value *v, bool as_text) {
    fm_json_kind kind = FM_JSON_NUMBER;
    size_t at = out->len;
    if (!as_text) {
        fm_str_putc(out, '"');
    }
    if (put_plain(out, l, v)) {
        if (!as_text) {
            fm_str_putc(out, '"');
        }
        return FM_JSON_STRING;
    }
    if (!as_text && !out->failed) {
        out->len = at;
        out->data[at] = '\0';
    }
    switch (l->type) {
    case PQ_BOOLEAN:
        fm_str_puts(out, v->u.i ? "true" : "false");
        return v->u.i ? FM_JSON_TRUE : FM_JSON_FALSE;
    case PQ_FLOAT: {
        float f;
        uint32_t u = (uint32_t)v->u.i;
        memcpy(&f, &u, sizeof f);
        return fm_table_put_double(out, (double)f, 9);
    }
    case PQ_DOUBLE: {
        double d;
        memcpy(&d, &v->u.i, sizeof d);
        return fm_table_put_double(out, d, 17);
    }
    case PQ_INT32:
    case PQ_INT64:
        if (l->kind == PQ_K_DECIMAL) {
            uint8_t big[8];
            for (int i = 0; i < 8; i++) {
                big[i] = (uint8_t)((uint64_t)v->u.i >> (56 - 8 * i));
            }
            put_decimal(out, big, 8, l->scale);
        } else if (l->kind == PQ_K_UNSIGNED) {
            fm_str_printf(out, "%" PRIu64, l->type == PQ_INT32 ? (uint64_t)(uint32_t)v->u.i : (uint64_t)v->u.i);
        } else {
            fm_str_printf(out, "%" PRId64, v->u.i);
        }
        return kind;
    case PQ_INT96:
    case PQ_BYTES:
    case PQ_FIXED:
        break;
    }
    return put_bytes(out, l, v, as_text);
}
