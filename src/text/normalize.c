/* Normalizers of tokenizer.json: one row of `kinds` each. */
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/pipe.h"
#include "text/unicode.h"
#include "text/unicode_age.h"

typedef struct norm_kind norm_kind;

struct fm_norm_step {
    const norm_kind *kind;
    bool left, right;                    /* Strip */
    bool clean, chinese, accents, lower; /* BertNormalizer */
    fm_str text;                         /* Prepend, content of Replace */
    fm_pattern pattern;                  /* Replace */
    fm_charsmap *map;                    /* Precompiled */
};

typedef struct norm_run {
    const fm_norm_step *step;
    fm_norm_scratch *scratch;
    fm_str *out;
    const uint8_t *p, *end;
    bool *at_zero;
    bool same; /* set by a step that changes nothing and wrote nothing */
} norm_run;

struct norm_kind {
    const char *name;
    fm_status (*load)(fm_norm_step *s, const fm_json *o, const char *name); /* NULL: no options */
    fm_status (*run)(norm_run *r);
    int form; /* utf8proc flags */
};

/* ---- helpers ---- */

const char *fm_part_type(const fm_json *o) {
    const char *s = fm_json_str(fm_json_get(o, "type"), NULL);
    return s ? s : "";
}

void fm_put_cp(fm_str *out, uint32_t cp) {
    char b[4];
    int n = fm_utf8_encode(b, cp);
    fm_str_append(out, b, (size_t)n);
}

fm_status fm_text_end(fm_str *out) {
    fm_str_append(out, "", 0);
    return fm_str_check(out);
}

bool fm_is_mark(uint32_t cp) {
    /* Characters that have changed their category since. */
    if (cp < 0x300 || fm_uni_age(cp) > 8 || cp == 0x1885 || cp == 0x1886 || cp == 0xA9BD || cp == 0x111C9) {
        return false;
    }
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_MN || cp == 0x1734;
}

bool fm_is_bert_punctuation(uint32_t cp) {
    if (cp < 0x80) {
        return cp > 32 && cp < 127 && !((cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z'));
    }
    return ((fm_uni_class(cp) & FM_UNI_P) && fm_uni_age(cp) <= 8) || cp == 0x166D || cp == 0x111C9;
}

static bool all_ascii(const uint8_t *p, const uint8_t *end) {
    while (p < end && *p < 0x80) {
        p++;
    }
    return p == end;
}

static bool is_space(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_Z;
}

/* ---- Unicode forms ---- */

/* Appends one stretch in a normal form. What is not valid UTF-8 is left as it is. */
static fm_status put_form(norm_run *r, const uint8_t *p, size_t n, int form) {
    const utf8proc_option_t opt = (utf8proc_option_t)form;
    if (n > (1u << 30)) {
        fm_str_append(r->out, (const char *)p, n);
        return FM_OK;
    }
    utf8proc_ssize_t len = utf8proc_decompose(p, (utf8proc_ssize_t)n, NULL, 0, opt);
    if (len < 0) {
        fm_str_append(r->out, (const char *)p, n);
        return FM_OK;
    }
    /* One more: reencode writes a NUL after the text. */
    void *points = r->scratch->points;
    FM_TRY(fm_grow(&points, &r->scratch->cap_points, (size_t)len + 1, sizeof(*r->scratch->points)));
    r->scratch->points = points;
    len = utf8proc_decompose(p, (utf8proc_ssize_t)n, r->scratch->points, len, opt);
    if (len >= 0) {
        len = utf8proc_reencode(r->scratch->points, len, opt);
    }
    if (len < 0) {
        fm_str_append(r->out, (const char *)p, n);
    } else {
        fm_str_append(r->out, (const char *)r->scratch->points, (size_t)len);
    }
    return FM_OK;
}

/* Bytes below `limit` do not change and do not join with what precedes them, so the text is cut there: the
 * ASCII part of it costs a copy, and one bad byte spoils one stretch. */
static fm_status run_form(norm_run *r) {
    int form = r->step->kind->form;
    /* First byte of a character that a form may change: U+00A0 for K, U+00C0 for D, U+0300 for C. */
    const uint8_t limit = form & UTF8PROC_COMPAT ? 0xC2 : form & UTF8PROC_COMPOSE ? 0xCC : 0xC3;
    const uint8_t *p = r->p, *q = p;
    while (q < r->end && *q < limit) {
        q++;
    }
    if (q == r->end) {
        r->same = true;
        return FM_OK;
    }
    while (p < r->end) {
        /* ASCII up to the last character before a special one, which may take marks. */
        q = p;
        while (q < r->end && *q < 0x80) {
            q++;
        }
        const uint8_t *stop = q < r->end && q > p ? q - 1 : q;
        fm_str_append(r->out, (const char *)p, (size_t)(stop - p));
        /* Then everything up to the next two ASCII characters, or a character that is too new to change. */
        uint32_t cp = 0;
        unsigned n = 0;
        bool unknown = false;
        p = q = stop;
        while (q < r->end && !(q > p && *q < 0x80 && (q + 1 == r->end || q[1] < 0x80))) {
            n = fm_uni_next(&cp, q, r->end);
            unknown = n > 1 && fm_uni_age(cp) > 9;
            if (unknown) {
                break;
            }
            q += n;
        }
        if (q > p) {
            FM_TRY(put_form(r, p, (size_t)(q - p), form));
        }
        if (unknown) {
            fm_str_append(r->out, (const char *)q, n);
            q += n;
        }
        p = q;
    }
    return FM_OK;
}

/* ---- single characters ---- */

/* Rust's to_lowercase: the simple form but for one character. */
static void put_lower(fm_str *out, uint32_t cp) {
    if (cp == 0x130) {
        fm_str_puts(out, "i\xcc\x87");
    } else {
        fm_put_cp(out, fm_utf8_lower(cp));
    }
}

static fm_status run_lower(norm_run *r) {
    for (const uint8_t *p = r->p; p < r->end;) {
        const uint8_t *q = p;
        uint32_t cp;
        while (q < r->end && *q < 0x80 && !(*q >= 'A' && *q <= 'Z')) {
            q++;
        }
        fm_str_append(r->out, (const char *)p, (size_t)(q - p));
        if (q == r->end) {
            break;
        }
        unsigned n = fm_uni_next(&cp, q, r->end);
        if (n == 1 && *q >= 0x80) {
            fm_str_putc(r->out, (char)*q);
        } else {
            put_lower(r->out, cp);
        }
        p = q + n;
    }
    return FM_OK;
}

static fm_status load_strip(fm_norm_step *s, const fm_json *o, const char *name) {
    FM_UNUSED(name);
    s->left = fm_json_bool(fm_json_get(o, "strip_left"), true);
    s->right = fm_json_bool(fm_json_get(o, "strip_right"), true);
    return FM_OK;
}

static fm_status run_strip(norm_run *r) {
    const uint8_t *p = r->p, *end = r->end;
    uint32_t cp;
    while (r->step->left && p < end) {
        unsigned n = fm_uni_next(&cp, p, end);
        if (!is_space(cp)) {
            break;
        }
        p += n;
        *r->at_zero = false;
    }
    while (r->step->right && end > p) {
        unsigned n = fm_uni_prev(&cp, p, end);
        if (!is_space(cp)) {
            break;
        }
        end -= n;
    }
    fm_str_append(r->out, (const char *)p, (size_t)(end - p));
    return FM_OK;
}

/* Copies all characters for which `drop` is false. */
static void filter(norm_run *r, bool (*drop)(uint32_t cp)) {
    for (const uint8_t *p = r->p; p < r->end;) {
        uint32_t cp;
        unsigned n = fm_uni_next(&cp, p, r->end);
        if (n == 1 && *p >= 0x80) {
            cp = 'a'; /* a stray byte stays */
        }
        if (!drop(cp)) {
            fm_str_append(r->out, (const char *)p, n);
        } else if (!r->out->len) {
            *r->at_zero = false;
        }
        p += n;
    }
}

static bool is_any_mark(uint32_t cp) {
    bool was_other = cp == 0x111C9, was_mark = cp == 0x1CF2 || cp == 0x1CF3;
    return ((fm_uni_class(cp) & FM_UNI_M) && fm_uni_age(cp) <= 9 && !was_other) || was_mark;
}

static fm_status run_strip_accents(norm_run *r) {
    r->same = all_ascii(r->p, r->end);
    if (!r->same) {
        filter(r, is_any_mark);
    }
    return FM_OK;
}

static fm_status load_text(fm_str *out, const fm_json *o, const char *key, const char *name) {
    size_t n;
    const char *s = fm_json_str(fm_json_get(o, key), &n);
    if (!s) {
        FM_FAIL(FM_ERR_FORMAT, "%s: normalizer \"%s\" has no text \"%s\"", name, fm_part_type(o), key);
    }
    fm_str_append(out, s, n);
    return fm_text_end(out);
}

static fm_status load_prepend(fm_norm_step *s, const fm_json *o, const char *name) {
    return load_text(&s->text, o, "prepend", name);
}

static fm_status run_prepend(norm_run *r) {
    fm_str_append(r->out, r->step->text.data, r->step->text.len);
    fm_str_append(r->out, (const char *)r->p, (size_t)(r->end - r->p));
    return FM_OK;
}

static fm_status load_replace(fm_norm_step *s, const fm_json *o, const char *name) {
    FM_TRY(load_text(&s->text, o, "content", name));
    return fm_pattern_load(&s->pattern, fm_json_get(o, "pattern"), name);
}

static fm_status run_replace(norm_run *r) {
    return fm_pattern_replace(r->out, &r->step->pattern, r->p, (size_t)(r->end - r->p), &r->step->text);
}

/* ---- BERT ---- */

static fm_status load_bert(fm_norm_step *s, const fm_json *o, const char *name) {
    FM_UNUSED(name);
    s->clean = fm_json_bool(fm_json_get(o, "clean_text"), true);
    s->chinese = fm_json_bool(fm_json_get(o, "handle_chinese_chars"), true);
    s->lower = fm_json_bool(fm_json_get(o, "lowercase"), true);
    s->accents = fm_json_bool(fm_json_get(o, "strip_accents"), s->lower);
    return FM_OK;
}

/* Cc, Cf and Co but for tab and line ends. */
static bool is_control(uint32_t cp) {
    if (cp < 0x80) {
        return (cp < 32 || cp == 127) && cp != '\t' && cp != '\n' && cp != '\r';
    }
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CO || (c == UTF8PROC_CATEGORY_CF && fm_uni_age(cp) <= 8);
}

static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* A character above U+007F, after clean and chinese. */
static fm_status put_bert(norm_run *r, const uint8_t *p, unsigned n, uint32_t cp) {
    const fm_norm_step *s = r->step;
    bool alone = s->chinese && is_chinese(cp);
    if (alone) {
        fm_str_putc(r->out, ' ');
    }
    if (s->accents && !(cp >= 0x3400 && cp <= 0x9FFF) && fm_uni_age(cp) <= 9) {
        utf8proc_int32_t point[8];
        utf8proc_ssize_t k = utf8proc_decompose(p, (utf8proc_ssize_t)n, point, 8, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
        for (utf8proc_ssize_t i = 0; i < k && i < 8; i++) {
            uint32_t c = (uint32_t)point[i];
            if (fm_is_mark(c)) {
                *r->at_zero = *r->at_zero && r->out->len;
            } else if (s->lower) {
                put_lower(r->out, c);
            } else {
                fm_put_cp(r->out, c);
            }
        }
    } else if (s->lower) {
        put_lower(r->out, cp);
    } else {
        fm_str_append(r->out, (const char *)p, n);
    }
    if (alone) {
        fm_str_putc(r->out, ' ');
    }
    return FM_OK;
}

static fm_status run_bert(norm_run *r) {
    const fm_norm_step *s = r->step;
    char ascii[128]; /* what an ASCII character becomes; 0 = nothing */
    for (uint32_t c = 0; c < 128; c++) {
        ascii[c] = (char)(s->clean && (c == 0 || is_control(c)) ? 0
                          : s->clean && is_space(c)             ? ' '
                          : s->lower && c >= 'A' && c <= 'Z'    ? c + 32
                                                                : c);
    }
    for (const uint8_t *p = r->p; p < r->end;) {
        if (*p < 0x80) {
            char block[256];
            size_t n = 0;
            for (; p < r->end && *p < 0x80 && n < sizeof(block); p++) {
                block[n] = ascii[*p];
                n += ascii[*p] || !s->clean;
                *r->at_zero = *r->at_zero && (n || r->out->len);
            }
            fm_str_append(r->out, block, n);
            continue;
        }
        uint32_t cp;
        unsigned n = fm_uni_next(&cp, p, r->end);
        bool stray = n == 1;
        if (s->clean && (cp == 0xFFFD || is_control(cp))) {
            *r->at_zero = *r->at_zero && r->out->len;
        } else if (s->clean && is_space(cp)) {
            fm_str_putc(r->out, ' ');
        } else if (stray) {
            fm_str_putc(r->out, (char)*p);
        } else {
            FM_TRY(put_bert(r, p, n, cp));
        }
        p += n;
    }
    return FM_OK;
}

/* ---- SentencePiece ---- */

static bool nmt_drops(uint32_t c) {
    return (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
}

static fm_status run_nmt(norm_run *r) {
    for (const uint8_t *p = r->p; p < r->end;) {
        uint32_t c;
        unsigned n = fm_uni_next(&c, p, r->end);
        bool stray = n == 1 && *p >= 0x80;
        if (!stray && nmt_drops(c)) {
            *r->at_zero = *r->at_zero && r->out->len;
        } else if (!stray && (c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                              c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD)) {
            fm_str_putc(r->out, ' ');
        } else {
            fm_str_append(r->out, (const char *)p, n);
        }
        p += n;
    }
    return FM_OK;
}

static fm_status load_precompiled(fm_norm_step *s, const fm_json *o, const char *name) {
    size_t n;
    const char *text = fm_json_str(fm_json_get(o, "precompiled_charsmap"), &n);
    if (!text) {
        FM_FAIL(FM_ERR_FORMAT, "%s: normalizer \"Precompiled\" has no precompiled_charsmap", name);
    }
    fm_str blob = {0};
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < n && text[i] != '='; i++) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *d = text[i] ? strchr(digits, text[i]) : NULL;
        if (!d) {
            fm_str_free(&blob);
            FM_FAIL(FM_ERR_FORMAT, "%s: precompiled_charsmap is not base64 at character %zu", name, i);
        }
        bits = bits << 6 | (uint32_t)(d - digits);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            fm_str_putc(&blob, (char)(uint8_t)(bits >> n_bits));
        }
    }
    fm_status st = fm_text_end(&blob);
    if (st == FM_OK && blob.len) {
        st = fm_charsmap_new(&s->map, blob.data, blob.len, name);
    }
    fm_str_free(&blob);
    return st;
}

/* As the library does: a grapheme of less than 6 bytes is looked up whole (by its shortest prefix that the map has),
 * else each of its characters. */
static void put_mapped(norm_run *r, const uint8_t *p, size_t n) {
    const char *to;
    if (n < 6 && fm_charsmap_find(r->step->map, p, n, false, &to)) {
        fm_str_puts(r->out, to);
        return;
    }
    for (const uint8_t *end = p + n; p < end;) {
        uint32_t cp;
        unsigned k = fm_uni_next(&cp, p, end);
        if (fm_charsmap_find(r->step->map, p, k, false, &to)) {
            fm_str_puts(r->out, to);
        } else {
            fm_str_append(r->out, (const char *)p, k);
        }
        p += k;
    }
}

static fm_status run_precompiled(norm_run *r) {
    if (!r->step->map) {
        r->same = true;
        return FM_OK;
    }
    for (const uint8_t *p = r->p; p < r->end;) {
        utf8proc_int32_t state = 0;
        uint32_t a, b;
        const uint8_t *q = p + fm_uni_next(&a, p, r->end);
        while (q < r->end) {
            unsigned n = fm_uni_next(&b, q, r->end);
            /* Between two printable ASCII characters there is always a break. */
            if ((a >= 32 && a < 127 && b < 127) ||
                utf8proc_grapheme_break_stateful((utf8proc_int32_t)a, (utf8proc_int32_t)b, &state)) {
                break;
            }
            q += n;
            a = b;
        }
        put_mapped(r, p,
                   (size_t)(q - p)); /* at_zero stays: the library loses count of characters dropped at the front */
        p = q;
    }
    return FM_OK;
}

static fm_status run_byte_level(norm_run *r) {
    fm_bytes_to_mapped(r->out, (const char *)r->p, (size_t)(r->end - r->p));
    return FM_OK;
}

/* ---- the table ---- */

static const norm_kind kinds[] = {
    {"NFC", NULL, run_form, UTF8PROC_STABLE | UTF8PROC_COMPOSE},
    {"NFD", NULL, run_form, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
    {"NFKC", NULL, run_form, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", NULL, run_form, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
    {"Lowercase", NULL, run_lower, 0},
    {"Strip", load_strip, run_strip, 0},
    {"StripAccents", NULL, run_strip_accents, 0},
    {"Prepend", load_prepend, run_prepend, 0},
    {"Replace", load_replace, run_replace, 0},
    {"BertNormalizer", load_bert, run_bert, 0},
    {"Nmt", NULL, run_nmt, 0},
    {"Precompiled", load_precompiled, run_precompiled, 0},
    {"ByteLevel", NULL, run_byte_level, 0},
};

static fm_status load_at(fm_norm *norm, const fm_json *o, const char *name, int depth) {
    if (fm_json_is_null(o)) {
        return FM_OK;
    }
    const char *type = fm_part_type(o);
    if (!strcmp(type, "Sequence")) {
        const fm_json *list = fm_json_get(o, "normalizers");
        if (!fm_json_is_array(list) || depth > 8) {
            FM_FAIL(FM_ERR_FORMAT, "%s: normalizer \"Sequence\" has no list \"normalizers\" or is too deep", name);
        }
        for (size_t i = 0; i < fm_json_size(list); i++) {
            FM_TRY(load_at(norm, fm_json_at(list, i), name, depth + 1));
        }
        return FM_OK;
    }
    for (size_t k = 0; k < FM_ARRAY_LEN(kinds); k++) {
        if (!strcmp(type, kinds[k].name)) {
            void *p = norm->step;
            FM_TRY(fm_grow(&p, &norm->cap, norm->n + 1, sizeof(*norm->step)));
            norm->step = p;
            fm_norm_step *s = &norm->step[norm->n++];
            *s = (fm_norm_step){.kind = &kinds[k]};
            return kinds[k].load ? kinds[k].load(s, o, name) : FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: normalizer \"%.80s\" is not supported", name, type);
}

fm_status fm_norm_load(fm_norm *n, const fm_json *o, const char *name) {
    return load_at(n, o, name, 0);
}

void fm_norm_free(fm_norm *n) {
    for (size_t i = 0; i < n->n; i++) {
        fm_str_free(&n->step[i].text);
        fm_pattern_free(&n->step[i].pattern);
        fm_charsmap_free(n->step[i].map);
    }
    fm_free(n->step);
    *n = (fm_norm){0};
}

bool fm_norm_is_nfc_only(const fm_norm *n) {
    for (size_t i = 0; i < n->n; i++) {
        if (n->step[i].kind != &kinds[0]) {
            return false;
        }
    }
    return true;
}

fm_status fm_norm_run(const fm_norm *n, fm_norm_scratch *s, const uint8_t **p, size_t *len, bool *at_zero) {
    int side = 0;
    for (size_t i = 0; i < n->n && *len; i++) {
        fm_str_clear(&s->buf[side]);
        norm_run r = {&n->step[i], s, &s->buf[side], *p, *p + *len, at_zero, false};
        FM_TRY(n->step[i].kind->run(&r));
        if (!r.same) {
            FM_TRY(fm_text_end(&s->buf[side]));
            *p = (const uint8_t *)s->buf[side].data;
            *len = s->buf[side].len;
            side ^= 1;
        }
    }
    return FM_OK;
}

void fm_norm_scratch_free(fm_norm_scratch *s) {
    fm_str_free(&s->buf[0]);
    fm_str_free(&s->buf[1]);
    fm_free(s->points);
    *s = (fm_norm_scratch){0};
}
