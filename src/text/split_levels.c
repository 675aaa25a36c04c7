/* The first two published patterns of DeepSeek (LLM, MoE and V2; Coder): a sequence of patterns, each of which cuts the
 * pieces that the one before it left. A level keeps the end of its piece; the deepest levels change most often. */
#include "text/split_levels.h"

#include "text/unicode.h"

typedef struct range {
    uint32_t first, last;
} range;

/* The cased letters that the pattern lists: FM_REGEX_CASED (split_levels.h) as numbers. */
static const range cased[] = {
    {0x0041, 0x005A},   {0x0061, 0x007A},   {0x00B5, 0x00B5},   {0x00C0, 0x00D6},   {0x00D8, 0x00F6},
    {0x00F8, 0x01BA},   {0x01BC, 0x01BF},   {0x01C4, 0x0293},   {0x0295, 0x02AF},   {0x0370, 0x0373},
    {0x0376, 0x0376},   {0x0377, 0x0377},   {0x037B, 0x037D},   {0x037F, 0x037F},   {0x0386, 0x0386},
    {0x0388, 0x038A},   {0x038C, 0x038C},   {0x038E, 0x03A1},   {0x03A3, 0x03F5},   {0x03F7, 0x0481},
    {0x048A, 0x052F},   {0x0531, 0x0556},   {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};

static bool in_ranges(const range *r, size_t n, uint32_t cp) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r[mid].last < cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < n && r[lo].first <= cp;
}

static inline bool is_cased(uint32_t cp) {
    return cp < 0x80 ? (cp | 32) - 'a' < 26 : in_ranges(cased, sizeof(cased) / sizeof(*cased), cp);
}

/* [!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002] */
static inline bool is_mark(uint32_t cp) {
    return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '~') || (cp >= 0xFF01 && cp <= 0xFF0F) ||
           (cp >= 0xFF1A && cp <= 0xFF5E) || (cp >= 0x2018 && cp <= 0x201F) || (cp >= 0x3000 && cp <= 0x3002);
}

static inline bool is_letter(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_L;
}

static inline bool is_punctuation(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_P;
}

static inline bool is_wide(uint32_t cp) {
    return (cp >= 0x0800 && cp <= 0x9FA5) || (cp >= 0xAC00 && cp <= 0xD7FF);
}

/* U+FFFD for a byte that is no character; it is in no class of the patterns. */
static inline unsigned next_char(uint32_t *cp, const uint8_t *p, const uint8_t *end) {
    return fm_uni_next(cp, p, end);
}

/* \s?[class]+ or [class]+: the end of the match at p, or of what stands before the next match. */
static inline const uint8_t *run(const uint8_t *p, const uint8_t *end, bool blank, bool (*in)(uint32_t cp)) {
    const uint8_t *before = NULL; /* a blank just before q */
    uint32_t cp;
    for (const uint8_t *q = p; q < end;) {
        unsigned n = next_char(&cp, q, end);
        if (!in(cp)) {
            before = blank && (fm_uni_class(cp) & FM_UNI_Z) ? q : NULL;
            q += n;
            continue;
        }
        const uint8_t *start = before ? before : q;
        if (start > p) {
            return start;
        }
        for (q += n; q < end; q += n) {
            n = next_char(&cp, q, end);
            if (!in(cp)) {
                break;
            }
        }
        return q;
    }
    return end;
}

static const uint8_t *line_end(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p;
    while (q < end && *q != '\n' && *q != '\r') {
        q++;
    }
    return q == p ? p + 1 : q;
}

static const uint8_t *cased_words(const uint8_t *p, const uint8_t *end) {
    return run(p, end, true, is_cased);
}

static const uint8_t *marks(const uint8_t *p, const uint8_t *end) {
    return run(p, end, true, is_mark);
}

static const uint8_t *words(const uint8_t *p, const uint8_t *end) {
    return run(p, end, true, is_letter);
}

static const uint8_t *punctuation(const uint8_t *p, const uint8_t *end) {
    return run(p, end, true, is_punctuation);
}

static const uint8_t *wide(const uint8_t *p, const uint8_t *end) {
    return run(p, end, false, is_wide);
}

/* \s+$ in a piece that has no line end inside. */
static const uint8_t *tail(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = end;
    uint32_t cp;
    while (q > p) {
        unsigned n = fm_uni_prev(&cp, p, q);
        if (!(fm_uni_class(cp) & FM_UNI_Z)) {
            break;
        }
        q -= n;
    }
    return q == p ? end : q;
}

/* Each number alone. */
static const uint8_t *digits(const uint8_t *p, const uint8_t *end) {
    uint32_t cp;
    const uint8_t *q = p;
    while (q < end) {
        unsigned n = next_char(&cp, q, end);
        if (fm_uni_class(cp) & FM_UNI_N) {
            return q == p ? q + n : q;
        }
        q += n;
    }
    return q;
}

typedef const uint8_t *(*level_fn)(const uint8_t *p, const uint8_t *end);
static const level_fn llm[] = {line_end, cased_words, marks, tail, wide, digits};
static const level_fn coder[] = {line_end, words, punctuation, wide, digits};

const uint8_t *fm_split_levels_next(const uint8_t **level, bool is_coder, const uint8_t *p, const uint8_t *end) {
    const level_fn *fn = is_coder ? coder : llm;
    size_t n = is_coder ? sizeof(coder) / sizeof(*coder) : sizeof(llm) / sizeof(*llm);
    for (size_t k = 0; k < n; k++) {
        if (level[k] == p) {
            level[k] = fn[k](p, k ? level[k - 1] : end);
        }
    }
    return level[n - 1];
}
