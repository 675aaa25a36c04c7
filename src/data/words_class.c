/* Classes of characters, as the lists in spaCy's char_classes name them. */
#include <utf8proc.h>

#include "base/error.h"
#include "data/words.h"

typedef struct range {
    uint32_t from, to;
} range;

/* Letters of scripts without case. */
static const range uncased[] = {
    {0x591, 0x5F4},     {0x620, 0x64A},     {0x66E, 0x6D5},     {0x6E5, 0x6FF},     {0x750, 0x77F},
    {0x8A0, 0x8BD},     {0x900, 0x9FF},     {0xB80, 0xCFF},     {0xD80, 0xDFF},     {0x1100, 0x137F},
    {0x2E80, 0x2FDF},   {0x2FF0, 0x30FF},   {0x31C0, 0x31EF},   {0x3200, 0x4DBF},   {0x4E00, 0x9FFF},
    {0xAC00, 0xD7AF},   {0xF900, 0xFAFF},   {0xFB1D, 0xFBB1},   {0xFBD3, 0xFD3D},   {0xFD50, 0xFDC7},
    {0xFDF0, 0xFDFB},   {0xFE30, 0xFE4F},   {0xFE70, 0xFEFC},   {0x1EE00, 0x1EEBB}, {0x1F200, 0x1F2FF},
    {0x20000, 0x2A6DF}, {0x2A700, 0x2EBEF}, {0x2F800, 0x2FA1F},
};

/* Latin, Greek and Cyrillic letters that count; case is that of Unicode. */
static const range cased[] = {
    {0x41, 0x5A},     {0x61, 0x7A},     {0xC0, 0xD6},     {0xD8, 0xF6},     {0xF8, 0x1BF},    {0x1C4, 0x2AF},
    {0x386, 0x386},   {0x388, 0x38A},   {0x38C, 0x38C},   {0x38E, 0x38F},   {0x391, 0x3A9},   {0x3AC, 0x3AF},
    {0x3B1, 0x3C9},   {0x3CC, 0x3CE},   {0x400, 0x401},   {0x403, 0x40A},   {0x40C, 0x40D},   {0x410, 0x451},
    {0x453, 0x45A},   {0x45C, 0x45D},   {0x490, 0x491},   {0x496, 0x497},   {0x4A2, 0x4A3},   {0x4AE, 0x4AF},
    {0x4BA, 0x4BB},   {0x4D8, 0x4D9},   {0x4E8, 0x4E9},   {0x1D00, 0x1D25}, {0x1D6B, 0x1D77}, {0x1D79, 0x1D9A},
    {0x1E00, 0x1EFF}, {0x2C60, 0x2C7B}, {0x2C7E, 0x2C7F}, {0xA722, 0xA76F}, {0xA771, 0xA787}, {0xA78B, 0xA78E},
    {0xA790, 0xA7B9}, {0xA7FA, 0xA7FA}, {0xAB30, 0xAB5A}, {0xAB60, 0xAB64}, {0xFF21, 0xFF3A}, {0xFF41, 0xFF5A},
};

/* Symbols (So) that are not in the list of icons, for they came into Unicode after it was made. */
static const range no_icon[] = {
    {0x166D, 0x166D},   {0x2B97, 0x2B97},   {0x2BC9, 0x2BC9},   {0x2BFF, 0x2BFF},   {0x2E50, 0x2E51},
    {0x32FF, 0x32FF},   {0xFD40, 0xFD4F},   {0xFDCF, 0xFDCF},   {0xFDFE, 0xFDFF},   {0x1019C, 0x1019C},
    {0x11FD5, 0x11FDC}, {0x11FE1, 0x11FF1}, {0x1CF50, 0x1CFC3}, {0x1D1E9, 0x1D1EA}, {0x1E14F, 0x1E14F},
    {0x1ED2E, 0x1ED2E}, {0x1F10D, 0x1F10F}, {0x1F16C, 0x1F16F}, {0x1F1AD, 0x1F1AD}, {0x1F6D5, 0x1F6DF},
    {0x1F6FA, 0x1F6FC}, {0x1F7E0, 0x1F7FF}, {0x1F8B0, 0x1F8BF}, {0x1F90C, 0x1F90F}, {0x1F93F, 0x1F93F},
    {0x1F971, 0x1F972}, {0x1F977, 0x1F979}, {0x1F97B, 0x1F97B}, {0x1F9A3, 0x1F9AF}, {0x1F9BA, 0x1F9BF},
    {0x1F9C3, 0x1F9CF}, {0x1FA00, 0x1FA53}, {0x1FA70, 0x1FBCA},
};

/* Marks that end sentences. The second list is datatrove's alone: spaCy's sentencizer does not know them. */
static const range terminal[] = {
    {0x21, 0x21},       {0x2E, 0x2E},       {0x3F, 0x3F},       {0x589, 0x589},     {0x61F, 0x61F},
    {0x6D4, 0x6D4},     {0x700, 0x702},     {0x7F9, 0x7F9},     {0x964, 0x965},     {0x104A, 0x104B},
    {0x1362, 0x1362},   {0x1367, 0x1368},   {0x166E, 0x166E},   {0x1735, 0x1736},   {0x1803, 0x1803},
    {0x1809, 0x1809},   {0x1944, 0x1945},   {0x1AA8, 0x1AAB},   {0x1B5A, 0x1B5B},   {0x1B5E, 0x1B5F},
    {0x1C3B, 0x1C3C},   {0x1C7E, 0x1C7F},   {0x203C, 0x203D},   {0x2047, 0x2049},   {0x2E2E, 0x2E2E},
    {0x2E3C, 0x2E3C},   {0x3002, 0x3002},   {0xA4FF, 0xA4FF},   {0xA60E, 0xA60F},   {0xA6F3, 0xA6F3},
    {0xA6F7, 0xA6F7},   {0xA876, 0xA877},   {0xA8CE, 0xA8CF},   {0xA92F, 0xA92F},   {0xA9C8, 0xA9C9},
    {0xAA5D, 0xAA5F},   {0xAAF0, 0xAAF1},   {0xABEB, 0xABEB},   {0xFE52, 0xFE52},   {0xFE56, 0xFE57},
    {0xFF01, 0xFF01},   {0xFF0E, 0xFF0E},   {0xFF1F, 0xFF1F},   {0xFF61, 0xFF61},   {0x10A56, 0x10A57},
    {0x11047, 0x11048}, {0x110BE, 0x110C1}, {0x11141, 0x11143}, {0x111C5, 0x111C6}, {0x111CD, 0x111CD},
    {0x111DE, 0x111DF}, {0x11238, 0x11239}, {0x1123B, 0x1123C}, {0x112A9, 0x112A9}, {0x1144B, 0x1144C},
    {0x115C2, 0x115C3}, {0x115C9, 0x115D7}, {0x11641, 0x11642}, {0x1173C, 0x1173E}, {0x11A42, 0x11A43},
    {0x11A9B, 0x11A9C}, {0x11C41, 0x11C42}, {0x16A6E, 0x16A6F}, {0x16AF5, 0x16AF5}, {0x16B37, 0x16B38},
    {0x16B44, 0x16B44}, {0x1BC9F, 0x1BC9F}, {0x1DA88, 0x1DA88},
};
static const range terminal_more[] = {
    {0x61D, 0x61E},     {0x837, 0x837},     {0x839, 0x839},     {0x83D, 0x83E},     {0x17D4, 0x17D6},
    {0x17D9, 0x17DA},   {0x1B7D, 0x1B7E},   {0x2E53, 0x2E54},   {0x10F55, 0x10F59}, {0x10F86, 0x10F89},
    {0x11944, 0x11944}, {0x11946, 0x11946}, {0x11EF7, 0x11EF8}, {0x11F43, 0x11F44}, {0x16E98, 0x16E98},
};

static bool in(const range *r, size_t n, uint32_t c) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r[mid].to < c) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < n && r[lo].from <= c;
}

static bool one_of(uint32_t c, const uint16_t *set, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (set[i] == c) {
            return true;
        }
    }
    return false;
}

/* What the sentencizer of spaCy ends sentences at. */
static bool ends_sentence(uint32_t c) {
    return c < 0x80 ? c == '.' || c == '!' || c == '?' : in(terminal, FM_ARRAY_LEN(terminal), c);
}

bool fm_is_terminal(uint32_t c) {
    return ends_sentence(c) || (c >= 0x80 && in(terminal_more, FM_ARRAY_LEN(terminal_more), c));
}

uint16_t fm_word_class(uint32_t c) {
    static const uint16_t punct[] = {0x2026, ',',    ':',  ';',    '!',    '?',    0xBF,   0x61F,  0xA1,
                                     '(',    ')',    '[',  ']',    '{',    '}',    '<',    '>',    '_',
                                     '#',    '*',    '&',  0x3002, 0xFF1F, 0xFF01, 0xFF0C, 0x3001, 0xFF1B,
                                     0xFF1A, 0xFF5E, 0xB7, 0x964,  0x60C,  0x6D4,  0x61B,  0x66A};
    static const uint16_t quotes[] = {'\'',   '"',    0x201D, 0x201C, '`',    0x2018, 0xB4,   0x2019,
                                      0x201A, ',',    0x201E, 0xBB,   0xAB,   0x300C, 0x300D, 0x300E,
                                      0x300F, 0xFF08, 0xFF09, 0x3014, 0x3015, 0x3010, 0x3011, 0x300A,
                                      0x300B, 0x3008, 0x3009, 0x2329, 0x232A, 0x27E6, 0x27E7};
    static const uint16_t before_dot[] = {'%', 0xB2, '-', '+', '|', '(', ')', '?', ':'};
    uint16_t k = 0;
    if (c >= '0' && c <= '9') {
        return FM_W_DIGIT | FM_W_BEFORE_DOT;
    }
    if (c >= 0x80 && in(uncased, FM_ARRAY_LEN(uncased), c)) {
        k = FM_W_ALPHA | FM_W_LOWER | FM_W_UPPER;
    } else if (in(cased, FM_ARRAY_LEN(cased), c)) {
        utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
        k = FM_W_ALPHA;
        k |= g == UTF8PROC_CATEGORY_LL || c == 0x294 ? FM_W_LOWER : 0;
        k |= g == UTF8PROC_CATEGORY_LU ? FM_W_UPPER : 0;
    }
    if (one_of(c, punct, FM_ARRAY_LEN(punct))) {
        k |= FM_W_PREFIX | FM_W_SUFFIX | FM_W_BEFORE_DOT;
    }
    if (one_of(c, quotes, FM_ARRAY_LEN(quotes))) {
        k |= FM_W_PREFIX | FM_W_SUFFIX | FM_W_BEFORE_DOT | FM_W_QUOTE;
    }
    if (c == '$' || c == 0xA3 || c == 0xA5 || c == 0xE3F || c == 0xFDFC || (c >= 0x20A0 && c <= 0x20BF)) {
        k |= FM_W_PREFIX | FM_W_CURRENCY;
    }
    if (c == 0xA7 || c == '%' || c == '=' || c == 0x2014 || c == 0x2013) {
        k |= FM_W_PREFIX;
    }
    if (c == 0x2014 || c == 0x2013) {
        k |= FM_W_SUFFIX;
    }
    if (c == 0x2026) {
        k |= FM_W_INFIX;
    } else if (c >= 0x80 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_SO &&
               !in(no_icon, FM_ARRAY_LEN(no_icon), c)) {
        k |= FM_W_PREFIX | FM_W_SUFFIX | FM_W_INFIX;
    }
    if ((k & FM_W_LOWER) || one_of(c, before_dot, FM_ARRAY_LEN(before_dot))) {
        k |= FM_W_BEFORE_DOT;
    }
    return k;
}

static bool is_punct(fm_sv v) {
    const char *p = v.ptr, *end = p + v.len;
    while (p < end) {
        uint32_t c;
        int k = fm_utf8_decode(&c, p, end);
        utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
        if (k == 0 || g < UTF8PROC_CATEGORY_PC || g > UTF8PROC_CATEGORY_PO) {
            return false;
        }
        p += k;
    }
    return true;
}

/* A sentence begins at the first word and at each that follows an end mark and is none itself, nor other punctuation.
 */
size_t fm_words_sentence_end(const fm_word_list *l, fm_sv text, size_t from) {
    bool seen = false;
    for (size_t i = from; i < l->n; i++) {
        fm_sv v = {text.ptr + l->item[i].at, l->item[i].len};
        uint32_t c = 0;
        int k = v.len <= 4 ? fm_utf8_decode(&c, v.ptr, v.ptr + v.len) : 0;
        bool end = k && (size_t)k == v.len && ends_sentence(c);
        if (seen && !end && !is_punct(v)) {
            return i;
        }
        seen = seen || end;
    }
    return l->n;
}

size_t fm_words_sentences(const fm_word_list *l, fm_sv text) {
    size_t n = 1;
    for (size_t i = fm_words_sentence_end(l, text, 0); i < l->n; i = fm_words_sentence_end(l, text, i)) {
        n++;
    }
    return n;
}
