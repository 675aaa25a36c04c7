/* clean: one text column in a regular form.
 *
 * Order of work: NFC (or NFKC), then character by character: full-width forms, control and zero-width characters, line
 * ends, blanks, letters' case. A text that comes out as it went in keeps its bytes. ASCII that needs nothing is passed
 * eight bytes at a time. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/step.h"

typedef enum normal_form { NF_NONE, NF_NFC, NF_NFKC } normal_form;

typedef struct clean_options {
    char *column;
    int form;
    bool spaces, controls, fullwidth, lowercase, newlines;
    int64_t blank_lines;
} clean_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(clean_options),
    {"form", FM_OPT_ENUM, offsetof(clean_options, form), "nfc", 0, 0, "none|nfc|nfkc", NULL, NULL,
     "Unicode normal form"},
    {"spaces", FM_OPT_BOOL, offsetof(clean_options, spaces), "true", 0, 0, NULL, NULL, NULL,
     "runs of blanks become one, none at the ends of lines and of the text"},
    {"blank_lines", FM_OPT_INT, offsetof(clean_options, blank_lines), "1", 0, 1000, NULL, NULL, NULL,
     "blank lines kept in a row (with spaces)"},
    {"newlines", FM_OPT_BOOL, offsetof(clean_options, newlines), "true", 0, 0, NULL, NULL, NULL,
     "CRLF, CR and Unicode line ends become LF"},
    {"controls", FM_OPT_BOOL, offsetof(clean_options, controls), "true", 0, 0, NULL, NULL, NULL,
     "control, zero-width and byte-order characters, U+FFFD and private-use ones are taken out"},
    {"fullwidth", FM_OPT_BOOL, offsetof(clean_options, fullwidth), "false", 0, 0, NULL, NULL, NULL,
     "full-width letters, digits and the ideographic space become ASCII (Chinese punctuation stays)"},
    {"lowercase", FM_OPT_BOOL, offsetof(clean_options, lowercase), "false", 0, 0, NULL, NULL, NULL,
     "letters become small"},
    FM_STEP_OPTIONS_END,
};

typedef struct cleaner {
    const clean_options *o;
    char *out; /* room for the longest result */
    size_t n;
    bool pending;   /* a blank that is written when text follows */
    int64_t breaks; /* line ends that are written when text follows */
    bool controls_out;
} cleaner;

#define EACH(byte) (0x0101010101010101u * (byte))

/* 0x80 in each byte that is zero. */
static uint64_t zero_bytes(uint64_t x) {
    return ~(((x & EACH(0x7F)) + EACH(0x7F)) | x | EACH(0x7F));
}

/* How many of these eight bytes can be copied as they are: ASCII from '!' to '~' with single blanks between (and no
 * capitals when they become small); 0 when one needs a look. `after_text`: the byte before was not a blank. */
static size_t plain_bytes(const char *p, bool lowercase, bool after_text) {
    uint64_t w;
    memcpy(&w, p, 8);
    uint64_t blank = zero_bytes(w ^ EACH(0x20)), del = zero_bytes(w ^ EACH(0x7F));
    uint64_t hit = ((w - EACH(0x20)) & ~w) | w | del | (blank & (blank << 8));
    if (lowercase) { /* capitals: 0x41..0x5A; bit 7 is clear in all bytes once `w` is */
        hit |= (w + EACH(0x3F)) & ~(w + EACH(0x25));
    }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if ((hit & EACH(0x80)) || (!after_text && (blank & 0x80))) {
        return 0;
    }
    return blank >> 63 ? 7 : 8;
#else
    FM_UNUSED(after_text);
    return (hit & EACH(0x80)) || blank ? 0 : 8;
#endif
}

static void flush_blanks(cleaner *k) {
    if (k->breaks && k->n) {
        int64_t most = k->o->blank_lines + 1;
        for (int64_t i = 0; i < FM_MIN(k->breaks, most); i++) {
            k->out[k->n++] = '\n';
        }
    } else if (k->pending && k->n) {
        k->out[k->n++] = ' ';
    }
    k->pending = false;
    k->breaks = 0;
}

static void put(cleaner *k, const char *p, size_t n) {
    if (k->pending || k->breaks) {
        flush_blanks(k);
    }
    memcpy(k->out + k->n, p, n);
    k->n += n;
}

static bool is_blank(uint32_t c) {
    return c == ' ' || c == '\t' || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/* Zero-width joiners stay: they carry meaning in Indic scripts and emoji. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x200B || c == 0x200E || c == 0x200F ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x2064) || c == 0xFEFF || c == 0xFFFD ||
           (c >= 0xFFF9 && c <= 0xFFFB) || (c >= 0xE000 && c <= 0xF8FF) || (c & 0xFFFE) == 0xFFFE;
}

static void take(cleaner *k, uint32_t c, const char *p, int len) {
    const clean_options *o = k->o;
    char utf8[4];
    if (o->fullwidth &&
        ((c >= 0xFF10 && c <= 0xFF19) || (c >= 0xFF21 && c <= 0xFF3A) || (c >= 0xFF41 && c <= 0xFF5A))) {
        c -= 0xFEE0;
        len = fm_utf8_encode(utf8, c);
        p = utf8;
    } else if (o->fullwidth && c == 0x3000) {
        c = ' ';
        len = fm_utf8_encode(utf8, c);
        p = utf8;
    }
    if (c == '\n' ||
        (o->newlines && (c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029 || c == 0x0B || c == 0x0C))) {
        if (o->spaces) {
            k->breaks++;
            k->pending = false;
        } else {
            put(k, "\n", 1);
        }
        return;
    }
    if (o->spaces && is_blank(c)) {
        k->pending = true;
        return;
    }
    if (o->controls && c != '\t' && is_control(c)) {
        k->controls_out = true;
        return;
    }
    if (o->lowercase) {
        uint32_t small = fm_utf8_lower(c);
        if (small != c) {
            len = fm_utf8_encode(utf8, small);
            p = utf8;
        }
    }
    put(k, p, (size_t)len);
}

static void clean(cleaner *k, const char *p, size_t n) {
    const char *end = p + n;
    while (p < end) {
        const char *run = p;
        bool after_text = k->n > 0 && !k->pending && !k->breaks;
        for (size_t some; end - p >= 8 && (some = plain_bytes(p, k->o->lowercase, after_text)) > 0;) {
            p += some;
            after_text = true;
        }
        while (end - p >= 3 && (unsigned char)*p >= 0xE4 && (unsigned char)*p <= 0xE9) {
            p += 3; /* U+4000..U+9FFF: nothing of what is looked for below */
        }
        if (p > run) {
            put(k, run, (size_t)(p - run));
            if (p == end) {
                return;
            }
        }
        unsigned char b = (unsigned char)*p;
        if (b > 0x20 && b < 0x7F && !(k->o->lowercase && b >= 'A' && b <= 'Z')) {
            put(k, p++, 1);
            continue;
        }
        if (b == ' ' && k->o->spaces) {
            k->pending = true;
            p++;
            continue;
        }
        if (b == '\r' && k->o->newlines && p + 1 < end && p[1] == '\n') {
            p++;
            continue;
        }
        uint32_t c;
        int len = fm_utf8_decode(&c, p, end);
        if (len == 0) { /* cells are valid UTF-8 */
            p++;
            continue;
        }
        take(k, c, p, len);
        p += len;
    }
}

/* Never composed with what stands before it, not reordered, and its own normal form (NFC_Quick_Check yes, combining
 * class 0). A careful no costs time only. */
static bool stays_nfc(uint32_t c) {
    if (c >= 0x1E00 && c <= 0x1EFF) {
        return true;
    }
    if ((c >= 0x1100 && c <= 0x11FF) || c > 0x10FFFF) {
        return false;
    }
    const utf8proc_property_t *q = utf8proc_get_property((utf8proc_int32_t)c);
    bool second = q->comb_index != UINT16_MAX && q->comb_index >= 0x8000;
    return q->combining_class == 0 && !second && (q->decomp_seqindex == UINT16_MAX || q->decomp_type != 0);
}

/* The first character from p on that may change under NFC, or end. *stable: the last one before it that begins anew
 * whatever stands before it (the quick check of UAX #15). */
static const char *first_unsure(const char *p, const char *end, const char **stable) {
    const unsigned char *u = (const unsigned char *)p, *stop = (const unsigned char *)end, *last = u;
    while (u < stop) {
        if (stop - u >= 8) {
            uint64_t w;
            memcpy(&w, u, 8);
            if ((w & EACH(0x80)) == 0) {
                u += 8;
                last = u - 1;
                continue;
            }
        }
        int k;
        uint32_t c;
        if (*u < 0x80) {
            k = 1;
        } else if (*u < 0xCC) { /* two bytes, below U+0300 */
            k = 2;
        } else if (*u >= 0xE4 && *u <= 0xE9) { /* U+4000..U+9FFF */
            k = 3;
        } else if ((k = fm_utf8_decode(&c, (const char *)u, end)) == 0 || !stays_nfc(c)) {
            break;
        }
        last = u;
        u += k;
    }
    *stable = (const char *)last;
    return (const char *)u;
}

/* Behind the characters from p on that may change, at the next one that begins anew. */
static const char *end_of_unsure(const char *p, const char *end) {
    while (p < end) {
        uint32_t c = (unsigned char)*p;
        int k = c < 0x80 ? 1 : fm_utf8_decode(&c, p, end);
        if (k == 0 || c < 0x300 || stays_nfc(c)) {
            break;
        }
        p += k;
    }
    return p;
}

#define PIECE 1024 /* characters that are normalised without an allocation */

static fm_status put_normal(fm_str *out, const char *p, size_t n, utf8proc_option_t how) {
    utf8proc_int32_t piece[PIECE];
    utf8proc_ssize_t k = utf8proc_decompose((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, piece, PIECE, how);
    if (k >= 0 && k < PIECE) {
        k = utf8proc_reencode(piece, k, how);
        if (k >= 0) {
            fm_str_append(out, (const char *)piece, (size_t)k);
        }
    } else if (k >= 0) {
        utf8proc_uint8_t *all;
        k = utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &all, how);
        if (k >= 0) {
            fm_str_append(out, (const char *)all, (size_t)k);
            free(all);
        }
    }
    if (k < 0) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot normalise a text of %zu bytes: %s", n, utf8proc_errmsg(k));
    }
    return FM_OK;
}

/* *text in its normal form; *owned is its storage when it is new. Of NFC only what may change is worked on: a piece
 * from a character that begins anew to the next one has the same form alone. */
static fm_status normalise(const clean_options *o, fm_sv *text, fm_str *owned) {
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    if (o->form == NF_NONE) {
        return FM_OK;
    }
    if (o->form == NF_NFKC) {
        FM_TRY(put_normal(owned, text->ptr, text->len, how | UTF8PROC_COMPAT));
    } else {
        const char *p = text->ptr, *end = p + text->len;
        while (p < end) {
            const char *from, *unsure = first_unsure(p, end, &from);
            if (unsure == end && p == text->ptr) {
                return FM_OK;
            }
            if (unsure == end) {
                from = end;
            }
            const char *next = unsure < end ? end_of_unsure(unsure, end) : end;
            next = next == unsure && unsure < end ? unsure + 1 : next; /* no UTF-8: does not happen in cells */
            fm_str_append(owned, p, (size_t)(from - p));
            FM_TRY(from < end ? put_normal(owned, from, (size_t)(next - from), how) : FM_OK);
            p = next;
        }
    }
    FM_TRY(fm_str_check(owned));
    *text = (fm_sv){owned->data ? owned->data : "", owned->len};
    return FM_OK;
}

static fm_status clean_row(fm_step_ctx *x, fm_rec *r) {
    const clean_options *o = x->step->opt;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    if (!cell) {
        return FM_OK;
    }
    fm_sv text = cell->text;
    fm_str owned = {0};
    fm_status s = normalise(o, &text, &owned);
    bool normal = owned.len && (text.len != cell->text.len || memcmp(text.ptr, cell->text.ptr, text.len) != 0);
    /* A small letter may be longer than its capital by a byte or two. */
    cleaner k = {.o = o, .out = s == FM_OK ? fm_bump_alloc(x->arena, text.len * (o->lowercase ? 3 : 1) + 1) : NULL};
    if (s == FM_OK && !k.out) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot clean a text of %zu bytes", text.len);
    }
    if (s == FM_OK) {
        clean(&k, text.ptr, text.len);
        if (!o->spaces) {
            flush_blanks(&k);
        }
    }
    fm_str_free(&owned);
    FM_TRY(s);
    if (k.n == cell->text.len && memcmp(k.out, cell->text.ptr, k.n) == 0) {
        return FM_OK;
    }
    k.out[k.n] = '\0';
    cell->text = (fm_sv){k.out, k.n};
    cell->raw = (fm_sv){NULL, 0};
    FM_TRY(fm_step_count(x, "changed", 1));
    FM_TRY(normal ? fm_step_count(x, "normal form", 1) : FM_OK);
    FM_TRY(k.controls_out ? fm_step_count(x, "control characters", 1) : FM_OK);
    return k.n == 0 ? fm_step_drop(x, r, "empty after cleaning", NULL) : FM_OK;
}

const fm_step_def fm_step_clean = {
    .name = "clean",
    .help = "Unicode normal form, blanks, line ends, control characters, full-width forms, case",
    .examples = "fathom data clean -i corpus.jsonl -o clean.jsonl.zst\n"
                "fathom data clean -i 'web/*.jsonl.gz' -o clean/ --fullwidth --lowercase --rejects dropped.jsonl",
    .options = rows,
    .options_bytes = sizeof(clean_options),
    .row = clean_row,
};
