/* The splitting engine: see words.h. Rules are those of spaCy's TOKENIZER_PREFIXES, _SUFFIXES and English infixes. */
#include "data/words.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/textnorm.h"

#define SLOTS 8192 /* more than twice the specials */

struct fm_words {
    fm_special *special;
    size_t n, cap;
    uint16_t slot[SLOTS]; /* index + 1 */
    uint16_t class[0x10000];
    bool starts[256]; /* first bytes of specials that affixes tear apart */
};

/* ---- specials --------------------------------------------------------------------------------- */

static size_t slot_of(const char *p, size_t n) {
    uint64_t h = n * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001B3);
    }
    return (size_t)(h ^ h >> 29) % SLOTS;
}

static const fm_special *find(const fm_words *w, const char *p, size_t n) {
    if (n >= FM_SPECIAL_BYTES) {
        return NULL;
    }
    for (size_t i = slot_of(p, n); w->slot[i]; i = (i + 1) % SLOTS) {
        const fm_special *s = &w->special[w->slot[i] - 1];
        if (s->len == n && memcmp(s->text, p, n) == 0) {
            return s;
        }
    }
    return NULL;
}

static fm_status add_special(void *arg, const fm_special *s) {
    fm_words *w = arg;
    const fm_special *old = find(w, s->text, s->len);
    if (old) {
        w->special[old - w->special] = *s;
        return FM_OK;
    }
    void *p = w->special;
    FM_TRY(fm_grow(&p, &w->cap, w->n + 1, sizeof *w->special));
    w->special = p;
    FM_ASSERT(w->n < SLOTS / 2);
    w->special[w->n++] = *s;
    size_t i = slot_of(s->text, s->len);
    while (w->slot[i]) {
        i = (i + 1) % SLOTS;
    }
    w->slot[i] = (uint16_t)w->n;
    return FM_OK;
}

/* ---- one chunk: characters [lo, hi) ----------------------------------------------------------- */

typedef struct chunk {
    const fm_words *w;
    fm_word_list *l;
    const char *text;
    bool specials, has_digit;
    size_t n_suffix;
} chunk;

static const fm_special *special_at(const chunk *k, size_t lo, size_t hi) {
    const uint32_t *at = k->l->at;
    return k->specials && lo < hi ? find(k->w, k->text + at[lo], at[hi] - at[lo]) : NULL;
}

/* Characters of the prefix, 0 when there is none. */
static size_t prefix(const chunk *k, size_t lo, size_t hi) {
    const uint32_t *c = k->l->cp + lo;
    const uint16_t *class = k->l->class + lo;
    size_t n = hi - lo;
    if (c[0] == '.') {
        size_t dots = 1;
        while (dots < n && c[dots] == '.') {
            dots++;
        }
        return dots > 1 ? dots : 0;
    }
    if (c[0] == '+') {
        return n == 1 || !(class[1] & FM_W_DIGIT);
    }
    if (class[0] & FM_W_PREFIX) {
        return 1;
    }
    if (n > 2 && c[0] == 'U' && c[1] == 'S' && c[2] == '$') {
        return 3;
    }
    return n > 1 && (c[0] == 'C' || c[0] == 'A') && c[1] == '$' ? 2 : 0;
}

/* Units that part from the number before them; the longest that fits. Written as the characters themselves. */
static size_t unit(const chunk *k, size_t lo, size_t hi) {
    static const char *const units[] = {
        "km",  "km²", "km³", "m",   "m²",   "m³",  "dm",   "dm²",  "dm³",  "cm",  "cm²", "cm³",  "mm",   "mm²", "mm³",
        "ha",  "µm",  "nm",  "yd",  "in",   "ft",  "kg",   "g",    "mg",   "µg",  "t",   "lb",   "oz",   "m/s", "km/h",
        "kmh", "mph", "hPa", "Pa",  "mbar", "mb",  "MB",   "kb",   "KB",   "gb",  "GB",  "tb",   "TB",   "T",   "G",
        "M",   "K",   "%",   "км",  "км²",  "км³", "м",    "м²",   "м³",   "дм",  "дм²", "дм³",  "см",   "см²", "см³",
        "мм",  "мм²", "мм³", "нм",  "кг",   "г",   "мг",   "м/с",  "км/ч", "кПа", "Па",  "мбар", "Кб",   "КБ",  "кб",
        "Мб",  "МБ",  "мб",  "Гб",  "ГБ",   "гб",  "Тб",   "ТБ",   "тбكم", "كم²", "كم³", "م",    "م²",   "م³",  "سم",
        "سم²", "سم³", "مم",  "مم²", "مم³",  "كم",  "غرام", "جرام", "جم",   "كغ",  "ملغ", "كوب",  "اكواب"};
    const uint32_t *at = k->l->at;
    size_t best = 0;
    if (!k->has_digit || k->l->class[hi - 1] & FM_W_DIGIT) {
        return 0;
    }
    size_t digit = hi;
    while (digit > lo && hi - digit < 6 && !(k->l->class[digit - 1] & FM_W_DIGIT)) {
        digit--;
    }
    if (digit == lo || !(k->l->class[digit - 1] & FM_W_DIGIT)) {
        return 0;
    }
    const char *p = k->text + at[digit];
    size_t n = at[hi] - at[digit];
    for (size_t i = 0; i < FM_ARRAY_LEN(units) && !best; i++) {
        best = strlen(units[i]) == n && memcmp(units[i], p, n) == 0 ? hi - digit : 0;
    }
    return best;
}

/* Characters of the longest suffix of [lo, hi). */
static size_t suffix(const chunk *k, size_t lo, size_t hi) {
    const uint32_t *c = k->l->cp;
    const uint16_t *class = k->l->class;
    if (lo == hi) {
        return 0;
    }
    uint32_t last = c[hi - 1], before = hi - lo > 1 ? c[hi - 2] : 0;
    uint16_t class_before = hi - lo > 1 ? class[hi - 2] : 0;
    if (last == '.') {
        size_t dots = 1;
        while (dots < hi - lo && c[hi - dots - 1] == '.') {
            dots++;
        }
        if (dots > 1) {
            return dots;
        }
        bool two_capitals = hi - lo > 2 && class_before & FM_W_UPPER && class[hi - 3] & FM_W_UPPER;
        bool degree = hi - lo > 2 && c[hi - 3] == 0xB0 && before < 0x80 && before && strchr("FfCcKk", (int)before);
        return class_before & FM_W_BEFORE_DOT || two_capitals || degree;
    }
    if ((last == 's' || last == 'S') && (before == '\'' || before == 0x2019)) {
        return 2;
    }
    if (last == 0x2026) {
        return before == 0x2026 ? 2 : 1;
    }
    size_t n = (class[hi - 1] & FM_W_SUFFIX) != 0;
    if (class_before & FM_W_DIGIT && (last == '+' || class[hi - 1] & FM_W_CURRENCY)) {
        n = FM_MAX(n, (size_t)1);
    }
    if (last == '$' && k->has_digit) {
        if (hi - lo > 3 && c[hi - 2] == 'S' && c[hi - 3] == 'U' && class[hi - 4] & FM_W_DIGIT) {
            return 3;
        }
        if (hi - lo > 2 && (c[hi - 2] == 'C' || c[hi - 2] == 'A') && class[hi - 3] & FM_W_DIGIT) {
            return 2;
        }
    }
    return FM_MAX(n, unit(k, lo, hi));
}

/* Characters of an infix that begins at i, 0 when none does. */
static size_t infix(const chunk *k, size_t lo, size_t hi, size_t i) {
    const uint32_t *c = k->l->cp;
    const uint16_t *class = k->l->class;
    uint32_t x = c[i];
    if (x >= '0' && x != ':' && x != '<' && x != '=' && x != '>' && x != '^' && x != '~' && x < 0x80) {
        return 0;
    }
    uint16_t left = i > lo ? class[i - 1] : 0, right = i + 1 < hi ? class[i + 1] : 0;
    if (x == '.' && i + 1 < hi && c[i + 1] == '.') {
        size_t n = 2;
        while (i + n < hi && c[i + n] == '.') {
            n++;
        }
        return n;
    }
    if (class[i] & FM_W_INFIX) {
        return 1;
    }
    bool next_minus = i + 1 < hi && c[i + 1] == '-';
    if ((x == '+' || x == '-' || x == '*' || x == '^') && left & FM_W_DIGIT && (right & FM_W_DIGIT || next_minus)) {
        return 1;
    }
    if (x == '.') {
        return left & (FM_W_LOWER | FM_W_QUOTE) && right & (FM_W_UPPER | FM_W_QUOTE);
    }
    if (x == ',') {
        return left & FM_W_ALPHA && right & FM_W_ALPHA;
    }
    if (!(left & (FM_W_ALPHA | FM_W_DIGIT))) {
        return 0;
    }
    if (x == ':' || x == '<' || x == '>' || x == '=' || x == '/') {
        return (right & FM_W_ALPHA) != 0;
    }
    if (x != '-' && x != 0x2013 && x != 0x2014 && x != '~') {
        return 0;
    }
    size_t most = x == '-' ? 3 : x == 0x2014 ? 2 : 1;
    for (size_t n = 1; n <= most && i + n < hi; n++) {
        if (class[i + n] & FM_W_ALPHA) {
            return n;
        }
        if (c[i + n] != x) {
            break;
        }
    }
    return 0;
}

/* ---- URLs ------------------------------------------------------------------------------------- */

static bool is_label(uint32_t c) {
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= 0xA1 && c <= 0xFFFF);
}

static bool ends_url(const uint32_t *c, size_t i, size_t n) {
    if (i < n && c[i] == ':') {
        size_t d = i + 1;
        while (d < n && c[d] >= '0' && c[d] <= '9') {
            d++;
        }
        if (d - i < 3 || d - i > 6) {
            return false;
        }
        i = d;
    }
    return i == n || c[i] == '/' || c[i] == '?' || c[i] == '#';
}

/* Four numbers from 1.0.0.1 to 223.255.255.254 outside of private ranges. */
static bool is_address(const uint32_t *c, size_t n, size_t *end) {
    int v[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (int part = 0; part < 4; part++) {
        size_t from = i;
        while (i < n && i - from < 3 && c[i] >= '0' && c[i] <= '9') {
            v[part] = v[part] * 10 + (int)(c[i++] - '0');
        }
        bool zero_ahead = i - from > 1 && c[from] == '0' && (part == 0 || part == 3);
        if (i == from || zero_ahead || (part < 3 && (i == n || c[i++] != '.'))) {
            return false;
        }
    }
    *end = i;
    bool inside = v[0] == 10 || v[0] == 127 || (v[0] == 169 && v[1] == 254) || (v[0] == 192 && v[1] == 168) ||
                  (v[0] == 172 && v[1] >= 16 && v[1] <= 31);
    return !inside && v[0] >= 1 && v[0] <= 223 && v[1] <= 255 && v[2] <= 255 && v[3] >= 1 && v[3] <= 254;
}

/* A host name, port and path that reach the end. */
static bool is_host(const uint32_t *c, const uint16_t *class, size_t n) {
    size_t i = 0, label = 0, dots = 0, end;
    if (is_address(c, n, &end) && ends_url(c, end, n)) {
        return true;
    }
    for (; i < n; i++) {
        if (c[i] == '.') {
            if (i == label || i - label > 64 || !is_label(c[label]) || !is_label(c[i - 1])) {
                return false;
            }
            label = i + 1;
            dots++;
        } else if (!is_label(c[i]) && c[i] != '-' && c[i] != '_') {
            break;
        }
    }
    if (dots == 0 || i - label < 2 || i - label > 63) {
        return false;
    }
    for (size_t t = label; t < i; t++) {
        if (!(class[t] & FM_W_LOWER)) {
            return false;
        }
    }
    return ends_url(c, i, n);
}

static bool is_url(const chunk *k, size_t lo, size_t hi) {
    const uint32_t *c = k->l->cp;
    const uint16_t *class = k->l->class;
    size_t scheme = lo;
    bool dot = false;
    for (size_t i = lo; i < hi && !dot; i++) {
        dot = c[i] == '.';
    }
    if (!dot) {
        return false;
    }
    while (scheme < hi && (c[scheme] >= 0x80 || c[scheme] == '+' || c[scheme] == '-' || c[scheme] == '.' ||
                           c[scheme] == '_' || is_label(c[scheme]))) {
        scheme++;
    }
    bool has_scheme =
        scheme - lo >= 2 && scheme + 2 < hi && c[scheme] == ':' && c[scheme + 1] == '/' && c[scheme + 2] == '/';
    if (is_host(c + lo, class + lo, hi - lo) ||
        (has_scheme && is_host(c + scheme + 3, class + scheme + 3, hi - scheme - 3))) {
        return true;
    }
    /* user:password@host; a chunk full of @ is no URL, and not worth quadratic time */
    int tries = 0;
    for (size_t i = hi; i-- > lo + 1 && tries < 16;) {
        if (c[i] == '@') {
            tries++;
            if (is_host(c + i + 1, class + i + 1, hi - i - 1)) {
                return true;
            }
        }
    }
    return false;
}

/* ---- words out -------------------------------------------------------------------------------- */

static fm_status put(fm_word_list *l, size_t at, size_t len, bool blank) {
    if (l->n == l->cap) {
        void *p = l->item;
        FM_TRY(fm_grow(&p, &l->cap, l->n + 1, sizeof *l->item));
        l->item = p;
    }
    l->item[l->n++] = (fm_word){(uint32_t)at, (uint32_t)len, blank};
    return FM_OK;
}

static fm_status put_chars(const chunk *k, size_t lo, size_t hi) {
    const uint32_t *at = k->l->at;
    return put(k->l, at[lo], at[hi] - at[lo], false);
}

static fm_status put_special(fm_word_list *l, const fm_special *s, size_t at) {
    for (size_t i = 0; i < s->n_parts; i++) {
        FM_TRY(put(l, at, s->part[i], false));
        at += s->part[i];
    }
    return FM_OK;
}

static fm_status push_suffix(chunk *k, size_t lo, size_t hi) {
    fm_word_list *l = k->l;
    void *p = l->suffix;
    FM_TRY(fm_grow(&p, &l->suffix_cap, k->n_suffix + 1, sizeof *l->suffix));
    l->suffix = p;
    l->suffix[k->n_suffix++] = (fm_word){l->at[lo], l->at[hi] - l->at[lo], false};
    return FM_OK;
}

static fm_status cut_at_infixes(const chunk *k, size_t lo, size_t hi) {
    size_t from = lo;
    for (size_t i = lo; i < hi;) {
        size_t n = infix(k, lo, hi, i);
        if (n == 0) {
            i++;
            continue;
        }
        if (i > lo) { /* one at the very front stays with what follows */
            if (i > from) {
                FM_TRY(put_chars(k, from, i));
            }
            FM_TRY(put_chars(k, i, i + n));
            from = i + n;
        }
        i += n;
    }
    return from < hi ? put_chars(k, from, hi) : FM_OK;
}

/* Takes prefixes and suffixes off [*lo, *hi); prefixes are put at once, suffixes kept for later. */
static fm_status take_affixes(chunk *k, size_t *lo, size_t *hi) {
    for (size_t last = 0; *lo < *hi && *hi - *lo != last && !special_at(k, *lo, *hi);) {
        last = *hi - *lo;
        size_t pre = prefix(k, *lo, *hi);
        if (pre && special_at(k, *lo + pre, *hi)) {
            FM_TRY(put_chars(k, *lo, *lo + pre));
            *lo += pre;
            break;
        }
        size_t suf = suffix(k, *lo + pre, *hi);
        if (suf && special_at(k, *lo, *hi - suf)) {
            FM_TRY(push_suffix(k, *hi - suf, *hi));
            *hi -= suf;
            break;
        }
        if (pre) {
            FM_TRY(put_chars(k, *lo, *lo + pre));
            *lo += pre;
        }
        if (suf) {
            FM_TRY(push_suffix(k, *hi - suf, *hi));
            *hi -= suf;
        }
    }
    return FM_OK;
}

static fm_status split_chunk(chunk *k, size_t n) {
    size_t lo = 0, hi = n;
    k->n_suffix = 0;
    FM_TRY(take_affixes(k, &lo, &hi));
    if (lo < hi) {
        const fm_special *s = special_at(k, lo, hi);
        if (s) {
            FM_TRY(put_special(k->l, s, k->l->at[lo]));
        } else if (is_url(k, lo, hi)) {
            FM_TRY(put_chars(k, lo, hi));
        } else {
            FM_TRY(cut_at_infixes(k, lo, hi));
        }
    }
    for (size_t i = k->n_suffix; i-- > 0;) {
        FM_TRY(put(k->l, k->l->suffix[i].at, k->l->suffix[i].len, false));
    }
    return FM_OK;
}

/* Characters of the chunk [at, end) of the text into the list's room; returns how many. */
static fm_status decode(const fm_words *w, fm_word_list *l, const char *text, size_t at, size_t end, size_t *n,
                        bool *has_digit) {
    size_t need = end - at + 1;
    if (need > l->chunk_cap) {
        size_t cap = FM_MAX(2 * l->chunk_cap, need + 256);
        uint32_t *cp = fm_realloc(l->cp, cap * sizeof *cp);
        l->cp = cp ? cp : l->cp;
        uint16_t *class = fm_realloc(l->class, cap * sizeof *class);
        l->class = class ? class : l->class;
        uint32_t *offset = fm_realloc(l->at, cap * sizeof *offset);
        l->at = offset ? offset : l->at;
        if (!cp || !class || !offset) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot split a chunk of %zu bytes", end - at);
        }
        l->chunk_cap = cap;
    }
    *n = 0;
    *has_digit = false;
    while (at < end) {
        uint32_t c = (unsigned char)text[at];
        int k = c < 0x80 ? 1 : fm_utf8_decode(&c, text + at, text + end);
        l->cp[*n] = c;
        l->at[*n] = (uint32_t)at;
        l->class[*n] = c < 0x10000 ? w->class[c] : fm_word_class(c);
        *has_digit = *has_digit || l->class[*n] & FM_W_DIGIT;
        ++*n;
        at += (size_t)FM_MAX(k, 1);
    }
    l->at[*n] = (uint32_t)end;
    return FM_OK;
}

static fm_status chunk_words(const fm_words *w, fm_word_list *l, const char *text, size_t at, size_t end,
                             bool specials) {
    const fm_special *s = specials ? find(w, text + at, end - at) : NULL;
    if (s) {
        return put_special(l, s, at);
    }
    size_t n = at;
    while (n < end && (((text[n] | 32) >= 'a' && (text[n] | 32) <= 'z'))) {
        n++;
    }
    if (n == end) { /* letters alone: nothing to split */
        return put(l, at, end - at, false);
    }
    chunk k = {.w = w, .l = l, .text = text, .specials = specials};
    FM_TRY(decode(w, l, text, at, end, &n, &k.has_digit));
    return split_chunk(&k, n);
}

/* ---- specials put together again -------------------------------------------------------------- */

typedef struct match {
    size_t at, n;
    const fm_special *s;
} match;

/* Longest first, of equal ones the first. */
static int by_length(const void *a, const void *b) {
    const match *x = a, *y = b;
    return x->n != y->n ? (x->n > y->n ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static const fm_special *pieces_at(const fm_words *w, const fm_word_list *l, const char *text, size_t i, size_t n) {
    const fm_word *v = &l->item[i];
    size_t len = v[n - 1].at + v[n - 1].len - v[0].at;
    const fm_special *s = find(w, text + v[0].at, len);
    if (!s || s->n_pieces != n) {
        return NULL;
    }
    for (size_t k = 0; k < n; k++) {
        if (s->piece[k] != v[k].len) {
            return NULL;
        }
    }
    return s;
}

static fm_status find_pieces(const fm_words *w, const fm_word_list *l, const char *text, match **out, size_t *n_out) {
    size_t cap = 0;
    *out = NULL;
    *n_out = 0;
    for (size_t i = 0; i + 1 < l->n; i++) {
        if (!w->starts[(unsigned char)text[l->item[i].at]]) {
            continue;
        }
        for (size_t n = 2; i + n <= l->n; n++) {
            const fm_word *v = &l->item[i];
            if (v[n - 1].at != v[n - 2].at + v[n - 2].len || v[n - 1].blank ||
                v[n - 1].at + v[n - 1].len - v[0].at >= FM_SPECIAL_BYTES) {
                break;
            }
            const fm_special *s = pieces_at(w, l, text, i, n);
            if (s) {
                void *p = *out;
                FM_TRY(fm_grow(&p, &cap, *n_out + 1, sizeof **out));
                *out = p;
                (*out)[(*n_out)++] = (match){i, n, s};
            }
        }
    }
    return FM_OK;
}

static fm_status join(const fm_words *w, fm_word_list *l, const char *text) {
    match *m;
    size_t n, made = 0;
    fm_status st = find_pieces(w, l, text, &m, &n);
    if (st != FM_OK || n == 0) {
        fm_free(m);
        return st;
    }
    qsort(m, n, sizeof *m, by_length);
    /* Per word: 0 = free, 1 = seen, else 2 + the match that begins here. */
    size_t *mark = fm_calloc(l->n, sizeof *mark), extra = 0;
    fm_word *out = NULL;
    if (mark) {
        for (size_t i = 0; i < n; i++) {
            bool taken = mark[m[i].at] || mark[m[i].at + m[i].n - 1];
            for (size_t k = 0; k < m[i].n; k++) {
                mark[m[i].at + k] = FM_MAX(mark[m[i].at + k], (size_t)1);
            }
            if (!taken) {
                mark[m[i].at] = 2 + i;
                extra += m[i].s->n_parts;
            }
        }
        out = fm_malloc((l->n + extra) * sizeof *out);
    }
    for (size_t i = 0; out && i < l->n;) {
        if (mark[i] < 2) {
            out[made++] = l->item[i++];
            continue;
        }
        const match *x = &m[mark[i] - 2];
        uint32_t at = l->item[i].at;
        for (size_t k = 0; k < x->s->n_parts; k++) {
            out[made++] = (fm_word){at, x->s->part[k], false};
            at += x->s->part[k];
        }
        i += x->n;
    }
    fm_free(m);
    fm_free(mark);
    if (!out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot split a text into %zu words", l->n);
    }
    fm_free(l->item);
    l->item = out;
    l->cap = l->n + extra;
    l->n = made;
    return FM_OK;
}

/* ---- interface -------------------------------------------------------------------------------- */

static bool is_blank(const char *p, const char *end, int *k) {
    unsigned char b = (unsigned char)*p;
    *k = 1;
    if (b < 0x80) {
        return b == ' ' || (b >= 9 && b <= 13) || (b >= 0x1C && b <= 0x1F);
    }
    uint32_t c;
    *k = fm_utf8_decode(&c, p, end);
    if (*k == 0) {
        *k = 1;
        return false;
    }
    return fm_is_space(c);
}

fm_status fm_words_split(const fm_words *w, fm_word_list *out, fm_sv text) {
    out->n = out->n_words = 0;
    if (text.len >= INT32_MAX) {
        FM_FAIL(FM_ERR_DATA, "a text of %zu bytes is too long to be split into words", text.len);
    }
    const char *p = text.ptr, *end = p + text.len;
    bool after_word = false; /* one blank behind a word belongs to nothing */
    while (p < end) {
        int k = 1;
        const char *from = p;
        while (p < end && is_blank(p, end, &k)) {
            p += k;
        }
        if (p > from) {
            const char *b = after_word && *from == ' ' ? from + 1 : from;
            if (p > b) {
                FM_TRY(put(out, (size_t)(b - text.ptr), (size_t)(p - b), true));
            }
        }
        from = p;
        while (p < end && !is_blank(p, end, &k)) {
            p += k;
        }
        if (p > from) {
            FM_TRY(chunk_words(w, out, text.ptr, (size_t)(from - text.ptr), (size_t)(p - text.ptr), true));
            after_word = true;
        }
    }
    FM_TRY(join(w, out, text.ptr));
    for (size_t i = 0; i < out->n; i++) {
        out->n_words += !out->item[i].blank;
    }
    return FM_OK;
}

/* What the affix rules make of each special. */
static fm_status tear_specials(fm_words *w) {
    fm_word_list l = {0};
    fm_status st = FM_OK;
    for (size_t i = 0; i < w->n && st == FM_OK; i++) {
        fm_special *s = &w->special[i];
        l.n = 0;
        st = chunk_words(w, &l, s->text, 0, s->len, false);
        if (st == FM_OK && l.n > 1) {
            s->n_pieces = (uint8_t)l.n;
            for (size_t k = 0; k < l.n; k++) {
                s->piece[k] = (uint8_t)l.item[k].len;
            }
            w->starts[(unsigned char)s->text[0]] = true;
        }
    }
    fm_word_list_free(&l);
    return st;
}

fm_status fm_words_new(fm_words **out) {
    fm_words *w = *out = fm_calloc(1, sizeof *w);
    if (!w) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the splitting of words");
    }
    for (uint32_t c = 0; c < 0x10000; c++) {
        w->class[c] = fm_word_class(c);
    }
    fm_status s = fm_specials_each(add_special, w);
    if (s == FM_OK) {
        s = tear_specials(w);
    }
    if (s != FM_OK) {
        fm_words_free(w);
        *out = NULL;
    }
    return s;
}

void fm_words_free(fm_words *w) {
    if (w) {
        fm_free(w->special);
        fm_free(w);
    }
}

void fm_word_list_free(fm_word_list *l) {
    fm_free(l->item);
    fm_free(l->cp);
    fm_free(l->class);
    fm_free(l->at);
    fm_free(l->suffix);
    memset(l, 0, sizeof *l);
}
