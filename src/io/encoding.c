/* Encodings: see encoding.h.
 *
 * Detection decodes the sample under each candidate and asks how many of the characters beyond ASCII are common ones of
 * the language. Right decoding of a running text gives a third or more, wrong decoding spreads over rare characters. */
#include "io/encoding.h"

#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"

#define SAMPLE_BYTES ((size_t)16 << 10)

static const struct {
    const char *label, *name, *web; /* web: NULL = name */
} labels[] = {
    {"utf-8", FM_UTF8, NULL},
    {"utf8", FM_UTF8, NULL},
    {"ascii", FM_UTF8, "WINDOWS-1252"},
    {"us-ascii", FM_UTF8, "WINDOWS-1252"},
    {"gb18030", "GB18030", NULL},
    {"gbk", "GB18030", NULL},
    {"gb2312", "GB18030", NULL},
    {"gb_2312-80", "GB18030", NULL},
    {"euc-cn", "GB18030", NULL},
    {"cp936", "GB18030", NULL},
    {"big5", "BIG5-HKSCS", NULL},
    {"big5-hkscs", "BIG5-HKSCS", NULL},
    {"cp950", "BIG5-HKSCS", NULL},
    {"shift_jis", "CP932", NULL},
    {"shift-jis", "CP932", NULL},
    {"sjis", "CP932", NULL},
    {"windows-31j", "CP932", NULL},
    {"cp932", "CP932", NULL},
    {"euc-jp", "EUC-JP", NULL},
    {"iso-2022-jp", "ISO-2022-JP", NULL},
    {"euc-kr", "CP949", NULL},
    {"ks_c_5601-1987", "CP949", NULL},
    {"cp949", "CP949", NULL},
    {"utf-16", "UTF-16LE", NULL},
    {"utf-16le", "UTF-16LE", NULL},
    {"utf-16be", "UTF-16BE", NULL},
    {"utf-32le", "UTF-32LE", NULL},
    {"utf-32be", "UTF-32BE", NULL},
    {"latin1", "ISO-8859-1", "WINDOWS-1252"},
    {"latin-1", "ISO-8859-1", "WINDOWS-1252"},
    {"iso-8859-1", "ISO-8859-1", "WINDOWS-1252"},
    {"iso8859-1", "ISO-8859-1", "WINDOWS-1252"},
    {"cp1252", "WINDOWS-1252", NULL},
    {"windows-1252", "WINDOWS-1252", NULL},
    {"windows-1251", "WINDOWS-1251", NULL},
    {"cp1251", "WINDOWS-1251", NULL},
    {"koi8-r", "KOI8-R", NULL},
};

fm_status fm_encoding_find(const char **out, const char *label, bool web) {
    *out = NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(labels); i++) {
        if (strcasecmp(label, labels[i].label) == 0) {
            *out = web && labels[i].web ? labels[i].web : labels[i].name;
            return FM_OK;
        }
    }
    /* Others go by iconv's own names; the storage of a few is enough, as a run names one. */
    static _Thread_local char ring[4][48];
    static _Thread_local int at;
    iconv_t c =
        strlen(label) < sizeof ring[0] && !strchr(label, '/') && *label ? iconv_open("UTF-8", label) : (iconv_t)-1;
    if (c != (iconv_t)-1) {
        iconv_close(c);
        at = (at + 1) % 4;
        snprintf(ring[at], sizeof ring[at], "%s", label);
        *out = ring[at];
        return FM_OK;
    }
    const char *names[FM_ARRAY_LEN(labels)];
    for (size_t i = 0; i < FM_ARRAY_LEN(labels); i++) {
        names[i] = labels[i].label;
    }
    int best = fm_nearest_name(label, names, (int)FM_ARRAY_LEN(labels));
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "there is no encoding '%.60s'", label);
    return best >= 0 ? fm_error_hint("did you mean %s?", names[best]) : fm_error_hint("'iconv -l' names all");
}

/* ---- conversion ------------------------------------------------------------------------------- */

struct fm_recoder {
    iconv_t cd;
    size_t unit;   /* bytes passed over when one has no meaning */
    char keep[16]; /* the beginning of a character that the last piece cut */
    size_t n_keep;
};

fm_status fm_recoder_new(fm_recoder **out, const char *name) {
    fm_recoder *r = *out = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a converter");
    }
    r->cd = iconv_open("UTF-8", name);
    if (r->cd == (iconv_t)-1) {
        fm_free(r);
        *out = NULL;
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "the C library cannot convert from %s", name);
        return fm_error_hint("its conversion modules (gconv) are part of the package libc6 or glibc-gconv");
    }
    r->unit = strncmp(name, "UTF-16", 6) == 0 ? 2 : strncmp(name, "UTF-32", 6) == 0 ? 4 : 1;
    return FM_OK;
}

void fm_recoder_free(fm_recoder *r) {
    if (r) {
        iconv_close(r->cd);
        fm_free(r);
    }
}

/* Converts what it can of *p .. end; *cut: it stopped at a character that is not complete. */
static fm_status convert(const fm_recoder *r, fm_str *out, char **p, const char *end, bool *cut) {
    *cut = false;
    while (*p < end && !*cut) {
        void *room = out->data;
        size_t left = (size_t)(end - *p);
        FM_TRY(fm_grow(&room, &out->cap, out->len + 2 * left + 64, 1));
        out->data = room;
        char *to = out->data + out->len;
        size_t space = out->cap - out->len - 1;
        size_t rc = iconv(r->cd, p, &left, &to, &space);
        out->len = (size_t)(to - out->data);
        out->data[out->len] = '\0';
        if (rc == (size_t)-1 && errno == EILSEQ) {
            fm_str_putc(out, '\xFF');
            *p += FM_MIN(r->unit, (size_t)(end - *p));
            FM_TRY(fm_str_check(out));
        } else if (rc == (size_t)-1 && errno == EINVAL) {
            *cut = true;
        } else if (rc == (size_t)-1 && errno != E2BIG) {
            FM_FAIL(FM_ERR_IO, "conversion to UTF-8 fails: %s", strerror(errno));
        }
    }
    return FM_OK;
}

fm_status fm_recoder_feed(fm_recoder *r, fm_str *out, const char *p, size_t n, bool end) {
    char *at = (char *)(uintptr_t)p; /* iconv's type; it does not write there */
    const char *stop = p + n;
    bool cut;
    while (r->n_keep && at < stop) { /* byte by byte until the cut character is whole */
        r->keep[r->n_keep++] = *at++;
        char *k = r->keep;
        FM_TRY(convert(r, out, &k, r->keep + r->n_keep, &cut));
        r->n_keep -= (size_t)(k - r->keep);
        memmove(r->keep, k, r->n_keep);
        if (r->n_keep == sizeof r->keep) { /* no character is that long */
            fm_str_putc(out, '\xFF');
            r->n_keep = 0;
        }
    }
    FM_TRY(convert(r, out, &at, stop, &cut));
    while (at < stop && r->n_keep < sizeof r->keep) {
        r->keep[r->n_keep++] = *at++;
    }
    if (end && r->n_keep) {
        fm_str_putc(out, '\xFF');
        r->n_keep = 0;
    }
    return fm_str_check(out);
}

/* ---- detection -------------------------------------------------------------------------------- */

/* The commonest characters of running text: simplified Chinese, the traditional forms that differ, Korean syllables,
 * Russian letters. Kana are taken as a range. */
static const char common[] =
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家"
    "种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十"
    "民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯"
    "月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女"
    "变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基"
    "眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今"
    "切院让识候带导争运病医药患者治疗症，。、；：？！“”（）《》"
    "這個們來為國說時會對過發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問戰頭體見產東聲給話門兒員論處義"
    "幾認條係氣題爾別變總電數報結務計場資許統區隊決馬書則聽達強難權設記類據邊張該規萬覺術領確傳師觀運讓識帶導爭「」"
    "이다는을에의가고하지한은로서도를아나기그리자어사있시대해라인들정것만과보일수었전으제부여우적없오와게요면상주했동습"
    "니"
    "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф";

typedef struct counts {
    size_t others, common, bad; /* characters beyond ASCII, common ones of them, bytes without a meaning */
    size_t letters;             /* accented Latin ones with an ASCII letter beside them */
    size_t odd;                 /* Cyrillic letters beside ASCII ones, or capital ones behind small ones */
    size_t controls;            /* C0 but blanks and line ends, C1, private use, unassigned */
} counts;

static void mark_common(uint8_t set[8192]) {
    memset(set, 0, 8192);
    const char *end = common + sizeof common - 1;
    for (const char *p = common; p < end;) {
        uint32_t c;
        int k = fm_utf8_decode(&c, p, end);
        p += k ? k : 1;
        set[(c & 0xFFFF) >> 3] |= (uint8_t)(1u << (c & 7));
    }
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static counts count(const char *p, size_t n, const uint8_t set[8192]) {
    counts k = {0};
    const char *begin = p, *end = p + n;
    uint32_t last = 0;
    while (p < end) {
        uint32_t c = 0;
        int len = fm_utf8_decode(&c, p, end);
        if (len == 0) {
            k.bad++;
            p++;
            continue;
        }
        k.controls += (c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f') || (c >= 0x7F && c < 0xA0) ||
                      (c >= 0xE000 && c < 0xF900);
        if (c >= 0x80 && c != 0xFEFF) {
            k.others++;
            k.common += (c >= 0x3040 && c < 0x3100) || (c < 0x10000 && (set[c >> 3] >> (c & 7) & 1));
            bool latin = c >= 0xC0 && c < 0x180 && c != 0xD7 && c != 0xF7, cyrillic = c >= 0x400 && c < 0x460;
            bool beside = (p > begin && is_letter(p[-1])) || (p + len < end && is_letter(p[len]));
            k.letters += latin && beside;
            k.odd += cyrillic && (beside || (c < 0x430 && last >= 0x430 && last < 0x460));
        }
        last = c;
        p += len;
    }
    return k;
}

/* How much of the sample is text under an encoding, from 0 to 1. */
static fm_status score(double *out, const char *name, const char *p, size_t n, const uint8_t set[8192], bool latin) {
    fm_recoder *r = NULL;
    fm_str text = {0};
    counts k = {0};
    *out = 0;
    fm_status s = fm_recoder_new(&r, name);
    if (s == FM_OK && r) {
        s = fm_recoder_feed(r, &text, p, n, false);
    }
    if (s == FM_OK && text.len) {
        k = count(text.data, text.len, set);
    }
    fm_str_free(&text);
    fm_recoder_free(r);
    if (s == FM_ERR_UNSUPPORTED) { /* an encoding this system lacks is not the answer */
        fm_error_clear();
        return FM_OK;
    }
    FM_TRY(s);
    size_t bad = k.bad + k.controls;
    if (k.others >= 3 && bad * 50 <= k.others) {
        double common_ones = (double)k.common - 2 * (double)k.odd;
        *out = (latin ? (double)k.letters : common_ones) / (double)k.others;
    }
    return FM_OK;
}

/* UTF-16 without a mark: zeros in one half of the byte pairs, or common characters. */
static const char *detect_utf16(const char *p, size_t n) {
    size_t zero[2] = {0, 0};
    for (size_t i = 0; i < n; i++) {
        zero[i & 1] += p[i] == 0;
    }
    size_t pairs = n / 2;
    if (pairs < 2 || (zero[0] == 0 && zero[1] == 0)) {
        return NULL;
    }
    if (zero[1] * 10 > pairs && zero[0] * 100 < zero[1]) {
        return "UTF-16LE";
    }
    return zero[0] * 10 > pairs && zero[1] * 100 < zero[0] ? "UTF-16BE" : NULL;
}

fm_status fm_encoding_detect(const char **out, const char *p, size_t n, bool whole) {
    *out = FM_UTF8;
    if (n >= 4 && memcmp(p, "\xFF\xFE\0\0", 4) == 0) {
        *out = "UTF-32LE";
        return FM_OK;
    }
    if (n >= 2 && (memcmp(p, "\xFF\xFE", 2) == 0 || memcmp(p, "\xFE\xFF", 2) == 0)) {
        *out = *p == '\xFF' ? "UTF-16LE" : "UTF-16BE";
        return FM_OK;
    }
    const char *wide = detect_utf16(p, FM_MIN(n, SAMPLE_BYTES) & ~(size_t)1);
    if (wide) {
        *out = wide;
        return FM_OK;
    }
    /* The sample begins where the text first leaves ASCII. */
    size_t first = 0;
    while (first < n && (unsigned char)p[first] < 0x80) {
        first++;
    }
    size_t at = first > 64 ? first - 64 : 0;
    const char *s = p + at;
    size_t k = FM_MIN(n - at, SAMPLE_BYTES), good = 0, bad = 0;
    bool cut = k < n - at || !whole;
    const char *end = s + (cut ? fm_utf8_complete_prefix(s, k) : k);
    for (const char *q = s; q < end;) {
        uint32_t c;
        int len = fm_utf8_decode(&c, q, end);
        good += len > 1;
        bad += len == 0;
        q += len ? len : 1;
    }
    if (bad == 0 || good > 4 * bad) { /* a third of GB18030 pairs look like UTF-8 */
        return FM_OK;
    }
    static const char *const candidates[] = {"GB18030", "BIG5-HKSCS",   "CP932", "EUC-JP",
                                             "CP949",   "WINDOWS-1251", "KOI8-R"};
    uint8_t set[8192];
    mark_common(set);
    double most = 0.15, v;
    for (size_t i = 0; i < FM_ARRAY_LEN(candidates); i++) {
        FM_TRY(score(&v, candidates[i], s, k, set, false));
        if (v > most) {
            most = v;
            *out = candidates[i];
        }
    }
    if (most < 0.4) {
        FM_TRY(score(&v, "WINDOWS-1252", s, k, set, true));
        *out = v > 0.6 ? "WINDOWS-1252" : *out;
    }
    return FM_OK;
}
