/* One pass over the characters: small letters, numbers, punctuation, blanks, marks, in this order as if each were a
 * pass of its own. ASCII goes by a table. */
#include "data/textnorm.h"

#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/mem.h"

bool fm_is_space(uint32_t c) {
    if (c < 0x80) {
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
    }
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool fm_norm_is_punct(uint32_t c) {
    static const uint16_t wide[] = {0x00AB, 0x00B4, 0x00BB, 0x2013, 0x2014, 0x2019, 0x201C, 0x201D, 0x201E,
                                    0x2026, 0x2236, 0x2501, 0x25BA, 0x3001, 0x3002, 0x3008, 0x3009, 0x300A,
                                    0x300B, 0x300C, 0x300D, 0x3010, 0x3011, 0xFF01, 0xFF05, 0xFF08, 0xFF09,
                                    0xFF0C, 0xFF0E, 0xFF11, 0xFF1A, 0xFF1B, 0xFF1F, 0xFF5E};
    if (c < 0x80) {
        return c == 0x7F || (c < 0x20 && c != 9 && c != 10) || (c > 0x20 && c < '0') || (c > '9' && c < 'A') ||
               (c > 'Z' && c < 'a') || c > 'z';
    }
    if (c < 0xA0) {
        return true;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(wide) && wide[i] <= c; i++) {
        if (wide[i] == c) {
            return true;
        }
    }
    return false;
}

bool fm_is_unspaced(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x20000 && c <= 0x323AF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x1780 && c <= 0x17FF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x0F00 && c <= 0x0FFF);
}

typedef struct writer {
    fm_str *out;
    unsigned how;
    bool pending; /* a blank that is written when something follows */
    bool seen;    /* something that is no blank came */
} writer;

static fm_status room(fm_str *s, size_t n) {
    void *p = s->data;
    FM_TRY(fm_grow(&p, &s->cap, s->len + n + 1, 1));
    s->data = p;
    return FM_OK;
}

static void put_char(writer *w, uint32_t c) {
    if (w->how & FM_NORM_MARKS && c >= 0x80) {
        utf8proc_int32_t part[16];
        int class = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)c, part, FM_ARRAY_LEN(part), UTF8PROC_DECOMPOSE, &class);
        for (utf8proc_ssize_t i = 0; i < n && i < (utf8proc_ssize_t)FM_ARRAY_LEN(part); i++) {
            if (utf8proc_category(part[i]) != UTF8PROC_CATEGORY_MN) {
                w->out->len += (size_t)fm_utf8_encode(w->out->data + w->out->len, (uint32_t)part[i]);
            }
        }
        return;
    }
    w->out->len += (size_t)fm_utf8_encode(w->out->data + w->out->len, c);
}

/* There is room for a few characters. */
static void put(writer *w, uint32_t c) {
    if (w->how & FM_NORM_PUNCT && fm_norm_is_punct(c)) {
        c = ' ';
    }
    if (w->how & FM_NORM_SPACES) {
        if (fm_is_space(c)) {
            w->pending = w->seen;
            return;
        }
        if (w->pending) {
            w->out->data[w->out->len++] = ' ';
            w->pending = false;
        }
        w->seen = true;
    }
    put_char(w, c);
}

static bool is_digit(uint32_t c) {
    return c < 0x80 ? c >= '0' && c <= '9' : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

static bool is_cased(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

/* Behind the digits at p: the end of the number, with at most one decimal mark between digits. */
static const char *number_end(const char *p, const char *end) {
    static const uint32_t marks[] = {'.', ',', 0x060C, 0x066B, 0x2396, 0x2397, 0x2398};
    for (int part = 0; part < 2; part++) {
        uint32_t c;
        int k;
        while ((k = fm_utf8_decode(&c, p, end)) > 0 && is_digit(c)) {
            p += k;
        }
        if (part == 1) {
            return p; /* the caller made sure that there was a digit */
        }
        bool mark = false;
        k = fm_utf8_decode(&c, p, end);
        for (size_t i = 0; k && i < FM_ARRAY_LEN(marks); i++) {
            mark = mark || c == marks[i];
        }
        uint32_t d;
        if (!mark || fm_utf8_decode(&d, p + k, end) == 0 || !is_digit(d)) {
            return p;
        }
        p += k;
    }
    return p;
}

static uint32_t lower(const char *p, const char *end, uint32_t c, uint32_t before) {
    if (c < 0x80) {
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    }
    if (c == 0x3A3) { /* final sigma */
        uint32_t next = 0;
        (void)fm_utf8_decode(&next, p, end);
        return is_cased(before) && !is_cased(next) ? 0x3C2 : 0x3C3;
    }
    return fm_utf8_lower(c);
}

fm_status fm_textnorm(fm_str *out, fm_sv text, unsigned how) {
    writer w = {.out = out, .how = how};
    out->len = 0;
    FM_TRY(room(out, text.len + 64));
    const char *p = text.ptr, *end = p + text.len;
    uint32_t before = 0;
    while (p < end) {
        uint32_t c = (unsigned char)*p;
        if (out->cap - out->len < (size_t)(end - p) + 64) {
            FM_TRY(room(out, 2 * (size_t)(end - p) + 64));
        }
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            if (w.pending) {
                out->data[out->len++] = ' ';
                w.pending = false;
            }
            w.seen = true;
            out->data[out->len++] = (char)(how & FM_NORM_LOWER ? c | 0x20 : c);
            before = c;
            p++;
            continue;
        }
        int k = fm_utf8_decode(&c, p, end);
        if (k == 0) {
            p++;
            continue;
        }
        if (how & FM_NORM_NUMBERS && is_digit(c)) {
            p = number_end(p, end);
            put(&w, '0');
            before = '0';
            continue;
        }
        p += k;
        uint32_t small = how & FM_NORM_LOWER ? lower(p, end, c, before) : c;
        before = c;
        put(&w, small);
        if (c == 0x130 && how & FM_NORM_LOWER && !(how & FM_NORM_MARKS)) {
            put(&w, 0x307); /* the dot of a capital I with dot */
        }
    }
    if (how & FM_NORM_SPACES) { /* marks that went may have left blanks at the ends */
        size_t from = 0;
        while (out->len && out->data[out->len - 1] == ' ') {
            out->len--;
        }
        while (from < out->len && out->data[from] == ' ') {
            from++;
        }
        memmove(out->data, out->data + from, out->len - from);
        out->len -= from;
    }
    out->data[out->len] = '\0';
    return FM_OK;
}

bool fm_mostly_unspaced(fm_sv text) {
    size_t letters = 0, unspaced = 0;
    const char *p = text.ptr, *end = p + text.len;
    while (p < end) {
        uint32_t c = (unsigned char)*p;
        int k = c < 0x80 ? 1 : fm_utf8_decode(&c, p, end);
        p += FM_MAX(k, 1);
        letters += c > ' ';
        unspaced += c >= 0x80 && fm_is_unspaced(c);
    }
    return 2 * unspaced > letters;
}
