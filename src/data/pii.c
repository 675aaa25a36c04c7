/* The scan: bytes that can begin something are looked at (digits, @, colons), the rest is passed over. */
#include "data/pii.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

const char *fm_pii_name(fm_pii_kind k) {
    static const char *const name[] = {
#define FM_X(sym, text, mask) text,
        FM_PII_KINDS(FM_X)
#undef FM_X
    };
    return name[k];
}

const char *fm_pii_mask(fm_pii_kind k) {
    static const char *const name[] = {
#define FM_X(sym, text, mask) mask,
        FM_PII_KINDS(FM_X)
#undef FM_X
    };
    return name[k];
}

void fm_pii_spans_free(fm_pii_spans *s) {
    fm_free(s->item);
    memset(s, 0, sizeof *s);
}

/* ---- names ------------------------------------------------------------------------------------ */

#define MOST_NAME 120

struct fm_pii_names {
    fm_str text;  /* all names, in small letters */
    uint32_t *at; /* [n + 1] */
    size_t n, cap;
    uint32_t *slot; /* index + 1, by hash */
    size_t slots;
    /* Lengths of names by a hash of their first two bytes: bits, for lengths up to MOST_NAME. */
    uint64_t length[4096][2];
};

fm_status fm_pii_names_new(fm_pii_names **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a list of names");
    }
    return FM_OK;
}

void fm_pii_names_free(fm_pii_names *n) {
    if (n) {
        fm_str_free(&n->text);
        fm_free(n->at);
        fm_free(n->slot);
        fm_free(n);
    }
}

static char small(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static size_t head(const char *p) {
    return ((size_t)(unsigned char)small(p[0]) * 67 + (unsigned char)small(p[1])) % 4096;
}

static bool is_name(const fm_pii_names *n, const char *p, size_t len) {
    char word[MOST_NAME + 1];
    for (size_t i = 0; i < len; i++) {
        word[i] = small(p[i]);
    }
    size_t i = (size_t)fm_hash64(word, len, 0) & (n->slots - 1);
    for (; n->slot[i]; i = (i + 1) & (n->slots - 1)) {
        uint32_t k = n->slot[i] - 1;
        if (n->at[k + 1] - n->at[k] == len && memcmp(n->text.data + n->at[k], word, len) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status put_slot(fm_pii_names *n, uint32_t k) {
    size_t i = (size_t)fm_hash64(n->text.data + n->at[k], n->at[k + 1] - n->at[k], 0) & (n->slots - 1);
    while (n->slot[i]) {
        i = (i + 1) & (n->slots - 1);
    }
    n->slot[i] = k + 1;
    return FM_OK;
}

fm_status fm_pii_names_add(fm_pii_names *n, fm_sv name) {
    if (name.len < 2 || name.len > MOST_NAME || (n->slots && is_name(n, name.ptr, name.len))) {
        return FM_OK; /* one letter is no name */
    }
    if (2 * (n->n + 1) > n->slots) {
        size_t slots = n->slots ? 2 * n->slots : 1024;
        uint32_t *more = fm_calloc(slots, sizeof *more);
        if (!more) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu names", n->n);
        }
        fm_free(n->slot);
        n->slot = more;
        n->slots = slots;
        for (uint32_t k = 0; k < n->n; k++) {
            FM_TRY(put_slot(n, k));
        }
    }
    void *p = n->at;
    FM_TRY(fm_grow(&p, &n->cap, n->n + 2, sizeof *n->at));
    n->at = p;
    n->at[n->n] = (uint32_t)n->text.len;
    for (size_t i = 0; i < name.len; i++) {
        fm_str_putc(&n->text, small(name.ptr[i]));
    }
    FM_TRY(fm_str_check(&n->text));
    n->at[n->n + 1] = (uint32_t)n->text.len;
    n->length[head(name.ptr)][name.len / 64] |= (uint64_t)1 << (name.len % 64);
    return put_slot(n, (uint32_t)n->n++);
}

static bool is_letter_byte(char c) {
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* The longest name at text[at], or 0. */
static size_t name_at(const fm_pii_names *n, fm_sv text, size_t at) {
    const uint64_t *length = n->length[head(text.ptr + at)];
    if (!(length[0] | length[1])) {
        return 0;
    }
    bool latin = is_letter_byte(text.ptr[at]);
    if (latin && at && is_letter_byte(text.ptr[at - 1])) {
        return 0;
    }
    for (int half = 1; half >= 0; half--) {
        for (uint64_t left = length[half]; left;) {
            unsigned bit = 63u - (unsigned)__builtin_clzll(left);
            size_t len = (size_t)half * 64 + bit;
            left ^= (uint64_t)1 << bit;
            if (len > text.len - at) {
                continue;
            }
            char last = text.ptr[at + len - 1], next = at + len < text.len ? text.ptr[at + len] : 0;
            bool inside = is_letter_byte(last) && is_letter_byte(next);
            if (!inside && is_name(n, text.ptr + at, len)) {
                return len;
            }
        }
    }
    return 0;
}

/* ---- spans ------------------------------------------------------------------------------------ */

static fm_status put(fm_pii_spans *s, size_t from, size_t end, fm_pii_kind kind) {
    while (s->n && s->item[s->n - 1].at + s->item[s->n - 1].len > from) {
        s->n--; /* an address swallows the number that was seen inside it */
    }
    void *p = s->item;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->item));
    s->item = p;
    s->item[s->n++] = (fm_pii_span){from, end - from, kind};
    return FM_OK;
}

static int by_place(const void *a, const void *b) {
    const fm_pii_span *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : (x->len < y->len) - (x->len > y->len);
}

static fm_status find_names(fm_pii_spans *out, fm_sv text, const fm_pii_names *names) {
    size_t before = out->n, kept = 0;
    for (size_t i = 0; i + 2 <= text.len;) {
        size_t len = ((unsigned char)text.ptr[i] & 0xC0) == 0x80 ? 0 : name_at(names, text, i);
        if (len == 0) {
            i++;
            continue;
        }
        void *p = out->item;
        FM_TRY(fm_grow(&p, &out->cap, out->n + 1, sizeof *out->item));
        out->item = p;
        out->item[out->n++] = (fm_pii_span){i, len, FM_PII_NAME};
        i += len;
    }
    if (out->n == before) {
        return FM_OK;
    }
    qsort(out->item, out->n, sizeof *out->item, by_place);
    for (size_t i = 0; i < out->n; i++) { /* a name inside an address is part of it, and the other way about */
        const fm_pii_span *last = kept ? &out->item[kept - 1] : NULL;
        if (last && last->at + last->len > out->item[i].at) {
            if (last->kind == FM_PII_NAME && out->item[i].kind != FM_PII_NAME) {
                out->item[kept - 1] = out->item[i];
            }
            continue;
        }
        out->item[kept++] = out->item[i];
    }
    out->n = kept;
    return FM_OK;
}

/* ---- e-mail, addresses of version 6, passwords in URLs ---------------------------------------- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_local(char c) {
    return is_digit(c) || is_letter_byte(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-';
}

/* Latin letters with marks, two bytes from C3 80 to C9 8F: some people's names have them. */
static bool is_latin_pair(const char *p) {
    unsigned char a = (unsigned char)p[0], b = (unsigned char)p[1];
    return a >= 0xC3 && a <= 0xC9 && (b & 0xC0) == 0x80 && !(a == 0xC3 && (b == 0x97 || b == 0xB7));
}

static bool find_email(const fm_pii_text *t, size_t at, size_t *from, size_t *end) {
    const char *p = t->text.ptr;
    size_t a = at, b = at + 1, label = b, dots = 0;
    while (a > 0 && at - a < 64) {
        if (is_local(p[a - 1])) {
            a--;
        } else if (a >= 2 && is_latin_pair(p + a - 2)) {
            a -= 2;
        } else {
            break;
        }
    }
    if (t->escaped && a > 0 && p[a - 1] == '\\' && a < at && strchr("nrtbf", p[a])) {
        a++;
    }
    while (a < at && (p[a] == '.' || p[a] == '-' || p[a] == '%')) {
        a++;
    }
    size_t last = b; /* behind the last label that can be a top-level domain */
    for (; b < t->text.len && b - at < 255; b++) {
        char c = p[b];
        if (c == '.') {
            if (b == label || p[b - 1] == '-') {
                break;
            }
            label = b + 1;
            dots++;
        } else if (!is_digit(c) && !is_letter_byte(c) && c != '-') {
            break;
        } else if (dots && b > label && is_letter_byte(c) && is_letter_byte(p[label])) {
            last = b + 1;
        }
    }
    if (a == at || p[at - 1] == '.' || last == at + 1) {
        return false;
    }
    char next = last < t->text.len ? p[last] : 0;
    *from = a;
    *end = last;
    return !is_digit(next) && !is_letter_byte(next) && next != '@';
}

/* user:password of scheme://user:password@host; colon is at text[at]. */
static bool find_credentials(const fm_pii_text *t, size_t at, size_t *from, size_t *end) {
    const char *p = t->text.ptr;
    size_t n = t->text.len, b = at + 3, colon = 0;
    if (at + 4 >= n || p[at + 1] != '/' || p[at + 2] != '/' || at == 0 || !is_letter_byte(p[at - 1])) {
        return false;
    }
    for (; b < n && b - at < 300; b++) {
        char c = p[b];
        if (c == '@') {
            break;
        }
        if (c == ':' && !colon) {
            colon = b;
        }
        if (c == '/' || c == '?' || c == '#' || c == '"' || c == '<' || (unsigned char)c <= ' ') {
            return false;
        }
    }
    *from = at + 3;
    *end = b;
    return b < n && p[b] == '@' && colon > at + 3 && colon + 1 < b;
}

static bool is_hex(char c) {
    return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* Eight groups, or fewer around one "::"; at is the first colon. Short forms that could be code are not taken. */
static bool find_ip6(const fm_pii_text *t, size_t at, size_t *from, size_t *end) {
    const char *p = t->text.ptr;
    size_t a = at, b = at, groups = 0, len = 0, hex = 0, gaps = 0;
    while (a > 0 && at - a < 4 && is_hex(p[a - 1])) {
        a--;
    }
    if (!fm_pii_edge(t, a) || (a > 0 && p[a - 1] == ':')) {
        return false;
    }
    for (b = a; b < t->text.len && (is_hex(p[b]) || p[b] == ':'); b++) {
        if (p[b] == ':') {
            if (b > a && p[b - 1] == ':') {
                gaps++;
            }
            len = 0;
            continue;
        }
        groups += len == 0;
        hex++;
        if (++len > 4) {
            return false;
        }
    }
    char next = b < t->text.len ? p[b] : 0;
    if (b > a && p[b - 1] == ':' && !(b >= 2 && p[b - 2] == ':')) {
        b--; /* a colon behind it */
    }
    *from = a;
    *end = b;
    bool full = gaps == 0 && groups == 8, cut = gaps == 1 && groups >= 2 && groups <= 7 && at - a == 4 && hex >= 6;
    bool dotted = next == '.' && b + 1 < t->text.len && is_digit(p[b + 1]); /* the old form at the end of the new one */
    return (full || cut) && !is_letter_byte(next) && next != '_' && !dotted;
}

static bool wanted(const fm_pii_text *t, fm_pii_kind kind) {
    return t->kinds >> kind & 1;
}

fm_status fm_pii_find(fm_pii_spans *out, fm_sv text, unsigned kinds, const fm_pii_names *names, bool escaped) {
    static const unsigned char look[256] = {['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1,
                                            ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1, ['@'] = 2, [':'] = 3};
    const fm_pii_text t = {text, kinds, escaped};
    out->n = 0;
    for (size_t i = 0; i < text.len;) {
        int what = look[(unsigned char)text.ptr[i]];
        if (what == 0) {
            i++;
            continue;
        }
        size_t from = i, end = i + 1;
        fm_pii_kind kind = FM_PII_EMAIL;
        bool found = false;
        if (what == 1) {
            found = fm_pii_number(&t, i, &from, &end, &kind);
        } else if (what == 2) {
            found = wanted(&t, FM_PII_EMAIL) && find_email(&t, i, &from, &end);
        } else if (find_credentials(&t, i, &from, &end)) {
            kind = FM_PII_CREDENTIALS;
            found = wanted(&t, kind);
            end += !found;
        } else {
            kind = FM_PII_IP;
            found = wanted(&t, kind) && find_ip6(&t, i, &from, &end);
        }
        if (found) {
            FM_TRY(put(out, from, end, kind));
            i = FM_MAX(end + (kind == FM_PII_CREDENTIALS), i + 1);
            continue;
        }
        i = what == 1 ? FM_MAX(end, i + 1) : i + 1;
        while (what == 1 && i < text.len && is_digit(text.ptr[i])) {
            i++;
        }
    }
    return names && wanted(&t, FM_PII_NAME) ? find_names(out, text, names) : FM_OK;
}
