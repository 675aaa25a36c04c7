/* Byte strings, name suggestions, and text <-> number. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"

fm_sv fm_sv_of(const char *cstr) {
    fm_sv v = {cstr, strlen(cstr)};
    return v;
}

bool fm_sv_eq(fm_sv a, const char *cstr) {
    size_t n = strlen(cstr);
    return a.len == n && (n == 0 || memcmp(a.ptr, cstr, n) == 0);
}

fm_sv fm_sv_trim(fm_sv s) {
    while (s.len && (*s.ptr == ' ' || (*s.ptr >= '\t' && *s.ptr <= '\r'))) {
        s.ptr++;
        s.len--;
    }
    while (s.len && (s.ptr[s.len - 1] == ' ' || (s.ptr[s.len - 1] >= '\t' && s.ptr[s.len - 1] <= '\r'))) {
        s.len--;
    }
    return s;
}

void fm_str_free(fm_str *s) {
    fm_free(s->data);
    memset(s, 0, sizeof *s);
}

void fm_str_clear(fm_str *s) {
    s->len = 0;
    s->failed = false;
    if (s->data) {
        s->data[0] = '\0';
    }
}

/* Room for n more bytes and the NUL. */
static bool reserve(fm_str *s, size_t n) {
    if (s->failed) {
        return false;
    }
    size_t need;
    void *p = s->data;
    if (__builtin_add_overflow(s->len, n, &need) || need == SIZE_MAX || fm_grow(&p, &s->cap, need + 1, 1) != FM_OK) {
        s->failed = true;
        return false;
    }
    s->data = p;
    return true;
}

void fm_str_append(fm_str *s, const char *p, size_t n) {
    if (reserve(s, n)) {
        if (n) {
            memcpy(s->data + s->len, p, n);
        }
        s->len += n;
        s->data[s->len] = '\0';
    }
}

void fm_str_puts(fm_str *s, const char *cstr) {
    fm_str_append(s, cstr, strlen(cstr));
}

void fm_str_putc(fm_str *s, char c) {
    fm_str_append(s, &c, 1);
}

void fm_str_vprintf(fm_str *s, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) {
        s->failed = true;
    } else if (reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void fm_str_printf(fm_str *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fm_str_vprintf(s, fmt, ap);
    va_end(ap);
}

/* Characters that are written as escapes: controls, and those that YAML or JavaScript take for line ends or
 * refuse, so that a JSON string is at home in both. */
static bool needs_escape(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7f && cp < 0xA0) || cp == 0x2028 || cp == 0x2029 || cp == 0xFEFF || cp == 0xFFFE ||
           cp == 0xFFFF;
}

void fm_str_base64(fm_str *s, const uint8_t *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0u);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        fm_str_append(s, four, 4);
    }
}

void fm_str_json(fm_str *s, const char *p, size_t n) {
    const char *end = p + n;
    fm_str_putc(s, '"');
    while (p < end) {
        const char *run = p;
        while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f && *p != '"' && *p != '\\') {
            p++;
        }
        fm_str_append(s, run, (size_t)(p - run));
        if (p == end) {
            break;
        }
        uint32_t cp;
        int len = fm_utf8_decode(&cp, p, end);
        if (len == 0) {
            fm_str_puts(s, "\xEF\xBF\xBD");
            p++;
            continue;
        }
        static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
        const char *known = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
        if (known) {
            fm_str_putc(s, '\\');
            fm_str_putc(s, letter[known - plain]);
        } else if (needs_escape(cp)) {
            fm_str_printf(s, "\\u%04x", (unsigned)cp);
        } else {
            fm_str_append(s, p, (size_t)len);
        }
        p += len;
    }
    fm_str_putc(s, '"');
}

fm_status fm_str_check(const fm_str *s) {
    if (s->failed) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot grow a text beyond %zu bytes", s->len);
    }
    return FM_OK;
}

char *fm_str_take(fm_str *s) {
    if (s->failed) {
        fm_str_free(s);
        return NULL;
    }
    char *p = s->data ? s->data : fm_strdup("");
    memset(s, 0, sizeof *s);
    return p;
}

/* Optimal string alignment distance (a swap of neighbours counts one), case-blind, dash = underscore. */
static int fold(char c) {
    return c == '-' ? '_' : tolower((unsigned char)c);
}

#define NAME_MAX_LEN 64

static int distance(const char *a, int la, const char *b, int lb) {
    int d[3][NAME_MAX_LEN + 1];
    for (int j = 0; j <= lb; j++) {
        d[0][j] = j;
    }
    for (int i = 1; i <= la; i++) {
        int *row = d[i % 3], *prev = d[(i + 2) % 3], *prev2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int cost = fold(a[i - 1]) != fold(b[j - 1]);
            int v = prev[j - 1] + cost;
            v = FM_MIN(v, prev[j] + 1);
            v = FM_MIN(v, row[j - 1] + 1);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1])) {
                v = FM_MIN(v, prev2[j - 2] + 1);
            }
            row[j] = v;
        }
    }
    return d[la % 3][lb];
}

int fm_nearest_name(const char *name, const char *const *names, int n) {
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_LEN) {
        return -1;
    }
    int best = -1, best_d = 0;
    for (int i = 0; i < n; i++) {
        size_t li = names[i] ? strlen(names[i]) : 0;
        if (li == 0 || li > NAME_MAX_LEN) {
            continue;
        }
        int d = distance(name, (int)len, names[i], (int)li);
        /* Near: at most a third of the longer name differs. */
        if (d * 3 <= (int)FM_MAX(len, li) && (best < 0 || d < best_d)) {
            best = i;
            best_d = d;
        }
    }
    return best;
}

const char *fm_format_bytes(char *buf, size_t cap, double bytes) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t u = 0;
    while (fabs(bytes) >= 1023.95 && u + 1 < FM_ARRAY_LEN(unit)) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, cap, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

const char *fm_format_count(char *buf, size_t cap, double n) {
    static const char *const unit[] = {"", "k", "M", "B", "T"};
    size_t u = 0;
    while (fabs(n) >= 999.95 && u + 1 < FM_ARRAY_LEN(unit)) {
        n /= 1000;
        u++;
    }
    snprintf(buf, cap, u ? "%.1f%s" : "%.0f%s", n, unit[u]);
    return buf;
}

const char *fm_format_duration(char *buf, size_t cap, double seconds) {
    if (!(seconds >= 0) || seconds > 1e15) {
        snprintf(buf, cap, "?");
    } else if (seconds < 59.95) {
        snprintf(buf, cap, "%.1fs", seconds);
    } else {
        int64_t s = (int64_t)(seconds + 0.5);
        long long d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;
        if (d) {
            snprintf(buf, cap, "%lldd %02lldh", d, h);
        } else if (h) {
            snprintf(buf, cap, "%lldh %02lldm", h, m);
        } else {
            snprintf(buf, cap, "%lldm %02llds", m, (long long)(s % 60));
        }
    }
    return buf;
}

const char *fm_format_utc(char *buf, size_t cap, int64_t unix_ms) {
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(buf, cap, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        buf[0] = '\0';
    }
    return buf;
}

/* Number, then the unit's text in *rest. strtod's "inf", "nan" and hex forms are not numbers here. */
static fm_status number_with_unit(double *out, const char **rest, const char *s, const char *kind) {
    const char *p = s;
    while (isspace((unsigned char)*p)) {
        p++;
    }
    size_t digits = strspn(p, "+-0123456789.");
    char *end = NULL;
    errno = 0;
    double v = strtod(p, &end);
    if (digits == 0 || end == p || p + strcspn(p, "xX") < end || !isfinite(v)) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected %s, found '%s'", kind, s);
    }
    while (*end == ' ') {
        end++;
    }
    *out = v;
    *rest = end;
    return FM_OK;
}

/* Exact for integers without unit; v * scale rounded otherwise. */
static fm_status scaled(int64_t *out, double v, double scale, const char *s) {
    double r = nearbyint(v * scale);
    if (!(r > -9.2e18 && r < 9.2e18)) {
        FM_FAIL(FM_ERR_ARGUMENT, "'%s' is too large", s);
    }
    *out = (int64_t)r;
    return FM_OK;
}

fm_status fm_parse_bytes(int64_t *out, const char *s) {
    static const struct {
        const char *name;
        double scale;
    } units[] = {{"", 1},
                 {"b", 1},
                 {"k", 1e3},
                 {"kb", 1e3},
                 {"m", 1e6},
                 {"mb", 1e6},
                 {"g", 1e9},
                 {"gb", 1e9},
                 {"t", 1e12},
                 {"tb", 1e12},
                 {"ki", 1024.0},
                 {"kib", 1024.0},
                 {"mi", 1048576.0},
                 {"mib", 1048576.0},
                 {"gi", 1073741824.0},
                 {"gib", 1073741824.0},
                 {"ti", 1099511627776.0},
                 {"tib", 1099511627776.0}};
    double v;
    const char *unit;
    FM_TRY(number_with_unit(&v, &unit, s, "a size such as 512MiB or 6GB"));
    if (v < 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected a size such as 512MiB or 6GB, found '%s'", s);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(units); i++) {
        if (strcasecmp(unit, units[i].name) == 0) {
            return scaled(out, v, units[i].scale, s);
        }
    }
    FM_FAIL(FM_ERR_ARGUMENT, "expected a size such as 512MiB or 6GB, found '%s'", s);
}

fm_status fm_parse_count(int64_t *out, const char *s) {
    char *end;
    errno = 0;
    long long exact = strtoll(s, &end, 10);
    if (end != s && !*end && errno == 0) {
        *out = exact;
        return FM_OK;
    }
    double v;
    const char *unit;
    FM_TRY(number_with_unit(&v, &unit, s, "a count such as 4096, 26M or 1.2B"));
    double scale = 0;
    switch (unit[0] && unit[1] ? '?' : tolower((unsigned char)unit[0])) {
    case '\0':
        scale = 1;
        break;
    case 'k':
        scale = 1e3;
        break;
    case 'm':
        scale = 1e6;
        break;
    case 'b':
    case 'g':
        scale = 1e9;
        break;
    case 't':
        scale = 1e12;
        break;
    default:
        break;
    }
    /* A count is whole: 1.5k is 1500, 0.5 is a mistake. */
    if (scale == 0 || fabs(v * scale - nearbyint(v * scale)) > 1e-6 * fabs(v * scale)) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected a count such as 4096, 26M or 1.2B, found '%s'", s);
    }
    return scaled(out, v, scale, s);
}

fm_status fm_parse_i64(int64_t *out, const char *s) {
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || *end || errno || isspace((unsigned char)*s)) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected a whole number, found '%s'", s);
    }
    *out = v;
    return FM_OK;
}

fm_status fm_parse_f64(double *out, const char *s) {
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || isspace((unsigned char)*s)) {
        FM_FAIL(FM_ERR_ARGUMENT, "expected a number, found '%s'", s);
    }
    *out = v;
    return FM_OK;
}
