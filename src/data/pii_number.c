/* Numbers: identity numbers, cards, IBANs, addresses, social security and telephone numbers. A number is read as groups
 * of digits with single separators; each kind looks at the groups. */
#include <string.h>

#include "base/error.h"
#include "data/pii.h"

#define MOST_GROUPS 10
#define MOST_DIGITS 40

typedef struct group {
    size_t at, len;
    char before; /* separator that stands before: ' ', '-', '.', '(' for an opening one, 0 for the first */
} group;

typedef struct number {
    const fm_pii_text *t;
    size_t from; /* with a + or ( before it */
    bool plus, paren;
    group g[MOST_GROUPS];
    size_t n;                     /* groups */
    char digit[MOST_DIGITS + 1];  /* of all groups */
    size_t upto[MOST_GROUPS + 1]; /* digits in the first k groups */
} number;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c) {
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static char byte_at(const fm_pii_text *t, size_t at) {
    return at < t->text.len ? t->text.ptr[at] : 0;
}

bool fm_pii_edge(const fm_pii_text *t, size_t at) {
    if (at == 0) {
        return true;
    }
    char c = t->text.ptr[at - 1];
    if (t->escaped && at >= 2 && t->text.ptr[at - 2] == '\\' && strchr("nrtbf", c) && c) {
        return true;
    }
    return !is_digit(c) && !is_alpha(c) && c != '_';
}

static bool ends_here(const fm_pii_text *t, size_t at) {
    char c = byte_at(t, at);
    return !is_digit(c) && !is_alpha(c) && c != '_';
}

/* ---- words around ----------------------------------------------------------------------------- */

static bool same_letters(const char *p, const char *word, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : p[i];
        if (c != word[i]) {
            return false;
        }
    }
    return true;
}

/* One of the words (ended by NULL) begins within [from, to). */
static bool has_word(const fm_pii_text *t, size_t from, size_t to, const char *const *word) {
    for (; *word; word++) {
        size_t n = strlen(*word);
        for (size_t i = from; i + n <= to; i++) {
            if (same_letters(t->text.ptr + i, *word, n)) {
                return true;
            }
        }
    }
    return false;
}

/* Numbers of things: none of a person. Only what stands close before counts. */
static bool names_a_thing(const fm_pii_text *t, size_t at) {
    static const char *const word[] = {"order",   "invoice", "tracking", "serial", "isbn",   "issn",   "imei",
                                       "invoice", "version", "订单",     "单号",   "编号",   "流水号", "快递",
                                       "运单",    "发票",    "序列号",   "批号",   "条形码", "条码",   "案号",
                                       "合同号",  "文号",    "设备号",   NULL};
    size_t from = at > 24 ? at - 24 : 0;
    for (size_t i = at; i > from; i--) { /* not beyond the end of the clause, nor another number */
        char c = t->text.ptr[i - 1];
        if (c == '\n' || c == ',' || c == ';' || is_digit(c) ||
            (i + 2 <= at && memcmp(t->text.ptr + i - 1, "，", 3) == 0) ||
            (i + 2 <= at && memcmp(t->text.ptr + i - 1, "。", 3) == 0)) {
            from = i;
            break;
        }
    }
    return has_word(t, from, at, word);
}

static bool names_a_phone(const fm_pii_text *t, size_t at, size_t end) {
    static const char *const before[] = {"phone",   "tel",     "mobile",   "cell",       "fax",         "call me",
                                         "calling", "call",    "reach",    "registered", "messages to", "answering at",
                                         "desk",    "contact", "whatsapp", "电话",       "手机",        "联系",
                                         "致电",    "传真",    "热线",     NULL};
    static const char *const behind[] = {"office", "fax", "mobile", "home", "cell", NULL};
    return has_word(t, at > 26 ? at - 26 : 0, at, before) ||
           (end + 2 < t->text.len && has_word(t, end, FM_MIN(end + 8, t->text.len), behind));
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Where the next group begins behind a separator, or 0. */
static size_t next_group(const number *k, size_t end, char *sep) {
    const fm_pii_text *t = k->t;
    char c = byte_at(t, end), d = byte_at(t, end + 1);
    *sep = c;
    if (c == ')' && (d == ' ' || d == '-') && is_digit(byte_at(t, end + 2))) {
        return end + 2;
    }
    if (c == ' ' && d == '(' && is_digit(byte_at(t, end + 2))) {
        *sep = '(';
        return end + 2;
    }
    if (c == '(' && is_digit(d)) {
        return end + 1;
    }
    return (c == ' ' || c == '-' || c == '.' || c == ')') && is_digit(d) ? end + 1 : 0;
}

static void read_number(number *k, const fm_pii_text *t, size_t at) {
    memset(k, 0, sizeof *k);
    k->t = t;
    k->from = at;
    if (k->from && t->text.ptr[k->from - 1] == '(') {
        k->from--;
        k->paren = true;
    }
    if (k->from && t->text.ptr[k->from - 1] == '+') {
        k->from--;
        k->plus = true;
    }
    char sep = 0;
    size_t digits = 0;
    while (k->n < MOST_GROUPS) {
        size_t end = at;
        while (is_digit(byte_at(t, end))) {
            end++;
        }
        if (digits + (end - at) > MOST_DIGITS) {
            break;
        }
        memcpy(k->digit + digits, t->text.ptr + at, end - at);
        digits += end - at;
        k->paren = k->paren || sep == '(';
        k->g[k->n++] = (group){at, end - at, sep};
        k->upto[k->n] = digits;
        at = next_group(k, end, &sep);
        if (!at) {
            break;
        }
    }
}

static size_t end_of(const number *k, size_t groups) {
    return k->g[groups - 1].at + k->g[groups - 1].len;
}

static int value(const char *p, size_t n) {
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        v = v * 10 + (p[i] - '0');
    }
    return v;
}

static bool is_date(int year, int month, int day) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1850 || year > 2100 || month < 1 || month > 12 || day < 1) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (month == 2 && leap);
}

/* ---- kinds ------------------------------------------------------------------------------------ */

/* 18 characters: region, date of birth, order, check (ISO 7064 mod 11-2). */
static bool looks_like_id(const char *p) {
    static const char region[] =
        "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 "
        "64 65 71 81 82 83 91";
    for (size_t i = 0; i + 1 < sizeof region; i += 3) {
        if (p[0] == region[i] && p[1] == region[i + 1]) {
            return is_date(value(p + 6, 4), value(p + 10, 2), value(p + 12, 2));
        }
    }
    return false;
}

static bool is_id(const number *k, size_t *end) {
    static const int weight[] = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
    const fm_pii_text *t = k->t;
    const char *p = t->text.ptr + k->g[0].at;
    char last = byte_at(t, k->g[0].at + 17);
    if (k->g[0].len < 17 || k->g[0].len > 18 || (k->g[0].len == 17 && (last | 32) != 'x') ||
        !ends_here(t, k->g[0].at + 18) || !looks_like_id(p)) {
        return false;
    }
    int sum = 0;
    for (int i = 0; i < 17; i++) {
        sum += (p[i] - '0') * weight[i];
    }
    char want = "10X98765432"[sum % 11];
    *end = k->g[0].at + 18;
    return want == (last == 'x' ? 'X' : last);
}

static bool luhn(const char *d, size_t n) {
    int sum = 0;
    for (size_t i = 0; i < n; i++) {
        int v = d[n - 1 - i] - '0';
        v = i % 2 ? (v > 4 ? 2 * v - 9 : 2 * v) : v;
        sum += v;
    }
    return sum % 10 == 0;
}

/* Lengths and first digits that issuers use. */
static bool is_issued(const char *d, size_t n) {
    int two = value(d, 2), four = value(d, 4);
    switch (d[0]) {
    case '4':
        return n == 13 || n == 16 || n == 19;
    case '5':
        return two == 50 || two >= 56 ? n >= 12 : n == 16;
    case '6':
        return n >= 12 && (n >= 16 || two != 62);
    case '3':
        return (two == 34 || two == 37 ? n == 15 : false) || (two == 35 && n >= 16) ||
               ((two == 30 || two == 36 || two == 38 || two == 39) && n == 14);
    case '2':
        return (four >= 2221 && four <= 2720 && n == 16) || (four == 2131 && n == 15);
    case '1':
        return four == 1800 && n == 15;
    case '9': /* old cards of Chinese banks */
        return (four == 9558 && (n == 19 || n == 16)) || (two == 95 && n == 16);
    default:
        return false;
    }
}

/* Groups as cards have them printed: fours, or 4-6-5. */
static bool grouped_as_card(const number *k, size_t groups) {
    char sep = k->n > 1 ? k->g[1].before : 0;
    if (groups < 3 || k->g[0].len != 4 || (sep != ' ' && sep != '-') || k->upto[groups] > 19) {
        return false;
    }
    for (size_t i = 1; i < groups; i++) {
        if (k->g[i].before != sep || (i + 1 < groups && groups > 3 && k->g[i].len != 4)) {
            return false;
        }
    }
    bool ends = groups == k->n || k->g[groups].before == ' ';
    bool amex = groups == 3 && k->g[1].len == 6 && k->g[2].len >= 4 && k->g[2].len <= 5;
    return ends && (amex || (groups >= 4 && k->g[groups - 1].len <= 4));
}

static bool is_card_of(const number *k, size_t groups, size_t *end) {
    size_t n = k->upto[groups];
    *end = end_of(k, groups);
    if (n < 12 || n > 19 || !ends_here(k->t, *end) || !is_issued(k->digit, n) || !luhn(k->digit, n)) {
        return false;
    }
    if (n == 18 && looks_like_id(k->digit)) { /* an identity number with a wrong check digit */
        return false;
    }
    char c = byte_at(k->t, *end);
    return !((c == '.' || c == ',') && is_digit(byte_at(k->t, *end + 1))) && !names_a_thing(k->t, k->from);
}

static bool is_card(const number *k, size_t *end) {
    for (size_t groups = FM_MIN(k->n, (size_t)5); groups >= 3; groups--) {
        if (grouped_as_card(k, groups)) {
            if (is_card_of(k, groups, end)) {
                return true;
            }
            /* 16 digits and a number behind them, or 19: cards that begin with 6 have 19 */
            if (groups <= 4 || k->digit[0] == '6') {
                return false;
            }
        }
    }
    return is_card_of(k, 1, end);
}

static bool is_ip(const number *k, size_t *end) {
    if (k->n < 4) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        const char *p = k->t->text.ptr + k->g[i].at;
        if ((i && k->g[i].before != '.') || k->g[i].len > 3 || value(p, k->g[i].len) > 255 ||
            (k->g[i].len > 1 && *p == '0')) {
            return false;
        }
    }
    *end = end_of(k, 4);
    return !(k->n > 4 && k->g[4].before == '.') && ends_here(k->t, *end) && !k->plus && !names_a_thing(k->t, k->from);
}

static bool is_ssn(const number *k, size_t *end) {
    if (k->n < 3 || k->g[0].len != 3 || k->g[1].len != 2 || k->g[2].len != 4 || k->g[1].before != '-' ||
        k->g[2].before != '-') {
        return false;
    }
    int area = value(k->digit, 3);
    *end = end_of(k, 3);
    return area != 0 && area != 666 && area < 900 && value(k->digit + 3, 2) != 0 && value(k->digit + 5, 4) != 0 &&
           ends_here(k->t, *end) && !(k->n > 3 && k->g[3].before == '-');
}

/* ---- telephone numbers ------------------------------------------------------------------------ */

static bool lens(const number *k, size_t first, size_t groups, const char *want) {
    size_t n = strlen(want);
    for (size_t i = 0; i < n; i++) {
        if (first + i >= groups || k->g[first + i].len != (size_t)(want[i] - '0')) {
            return false;
        }
    }
    return first + n == groups;
}

static bool is_chinese_mobile(const number *k, size_t groups) {
    size_t n = k->upto[groups], skip = 0;
    const char *d = k->digit;
    if (n == 13 && d[0] == '8' && d[1] == '6') {
        skip = 2;
    } else if (n == 15 && memcmp(d, "0086", 4) == 0) {
        skip = 4;
    }
    if (n - skip != 11 || d[skip] != '1' || d[skip + 1] < '3') {
        return false;
    }
    size_t first = skip && k->g[0].len == skip ? 1 : 0;
    return groups - first == 1 || lens(k, first, groups, "344") || (skip && first == 0 && lens(k, 1, groups, "44"));
}

/* 010, 02x and 03xx to 09xx. */
static size_t area_code(const char *d, size_t n) {
    if (n < 3 || d[0] != '0') {
        return 0;
    }
    return d[1] == '1' ? (d[2] == '0' ? 3 : 0) : d[1] == '2' ? 3 : d[1] >= '3' ? 4 : 0;
}

static bool is_chinese_fixed(const number *k, size_t groups) {
    const char *d = k->digit;
    size_t n = k->upto[groups], area = area_code(d, n);
    if (area == 0 || n - area < 7 || n - area > 8 || d[area] < '2' || d[area] > '8' || (area == 3 && n - area != 8)) {
        return false;
    }
    return groups == 1 ||
           (k->g[0].len == area && (groups == 2 || lens(k, 1, groups, "44") || lens(k, 1, groups, "34")));
}

static bool is_american(const number *k, size_t groups) {
    size_t first = k->g[0].len == 1 && k->digit[0] == '1' ? 1 : 0;
    return lens(k, first, groups, "334") && k->digit[first] >= '2';
}

static bool is_service(const number *k, size_t groups) {
    return k->upto[groups] == 10 && (memcmp(k->digit, "400", 3) == 0 || memcmp(k->digit, "800", 3) == 0) &&
           (groups == 1 || lens(k, 0, groups, "334") || lens(k, 0, groups, "343") || lens(k, 0, groups, "37"));
}

static bool looks_like_date(const number *k, size_t groups) {
    const char *d = k->digit;
    size_t n = k->upto[groups];
    if (groups == 3 && k->g[0].len == 4 && k->g[1].len <= 2 && k->g[2].len <= 2) {
        return value(d, 4) >= 1000 && value(d, 4) < 2200;
    }
    if (groups == 3 && k->g[0].len <= 2 && k->g[1].len <= 2 && k->g[2].len == 4) {
        return true;
    }
    return groups == 1 && n == 8 && is_date(value(d, 4), value(d + 4, 2), value(d + 6, 2));
}

static bool is_phone_of(const number *k, size_t groups, size_t end) {
    size_t n = k->upto[groups];
    if (n < 7 || n > 17 || looks_like_date(k, groups)) {
        return false;
    }
    if (is_chinese_mobile(k, groups) || is_chinese_fixed(k, groups) || is_service(k, groups) ||
        is_american(k, groups)) {
        return true;
    }
    if (k->plus) {
        return n >= 8 && n <= 15;
    }
    bool long_groups = true; /* no group of one digit, as amounts and lists have */
    for (size_t i = 0; i < groups; i++) {
        long_groups = long_groups && k->g[i].len >= 2;
    }
    if (k->digit[0] == '0' && groups >= 2 && long_groups) {
        if (k->digit[1] == '0' ? n >= 10 : n >= 9 && n <= 12 && (groups >= 3 || k->g[0].len >= 3)) {
            return true;
        }
    }
    if (k->paren && groups >= 2 && n >= 8 && n <= 12 && long_groups) {
        return true;
    }
    return n <= 13 && (groups > 1 ? long_groups : n >= 7) && names_a_phone(k->t, k->from, end);
}

/* Behind an extension: "x123", " ext. 123", in China "-123". */
static size_t extension(const number *k, size_t groups, size_t end) {
    const fm_pii_text *t = k->t;
    size_t p = end;
    if ((byte_at(t, p) | 32) == 'x') {
        p++;
    } else if (p + 5 < t->text.len && memcmp(t->text.ptr + p, " ext", 4) == 0) {
        p += 4;
        p += byte_at(t, p) == '.';
        p += byte_at(t, p) == ' ';
    } else if (is_chinese_fixed(k, groups) && byte_at(t, p) == '-') {
        p++;
    } else {
        return end;
    }
    size_t from = p;
    while (is_digit(byte_at(t, p))) {
        p++;
    }
    return p > from && p - from <= 6 ? p : end;
}

static bool is_phone(const number *k, size_t *end) {
    if (names_a_thing(k->t, k->from)) {
        return false;
    }
    if (k->n >= 3 && k->g[1].before != ' ' && looks_like_date(k, 3)) { /* an hour may follow it */
        return false;
    }
    for (size_t groups = k->n; groups > 0; groups--) { /* a second number may follow the first */
        size_t e = extension(k, groups, end_of(k, groups));
        char next = byte_at(k->t, e);
        bool glued = groups < k->n && e == end_of(k, groups) && k->g[groups].before != ' ';
        if (!glued && ends_here(k->t, e) && next != '@' && is_phone_of(k, groups, e)) {
            *end = e;
            return true;
        }
    }
    return false;
}

/* ---- IBAN ------------------------------------------------------------------------------------- */

/* The two letters before text[at] and what follows, in groups of four or in one piece. */
static bool is_iban(const fm_pii_text *t, size_t at, size_t *from, size_t *end) {
    static const char length[] =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18"
        "FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21"
        "LY25MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27"
        "ST25SV28TL23TN24TR26UA29VA22VG24XK20";
    if (at < 2 || !is_alpha(t->text.ptr[at - 1]) || !is_alpha(t->text.ptr[at - 2]) || !fm_pii_edge(t, at - 2)) {
        return false;
    }
    char a = (char)(t->text.ptr[at - 2] & ~32), b = (char)(t->text.ptr[at - 1] & ~32), c[40] = "";
    size_t want = 0, n = 0, p = at - 2;
    for (size_t i = 0; i + 4 < sizeof length && !want; i += 4) {
        want = length[i] == a && length[i + 1] == b ? (size_t)value(length + i + 2, 2) : 0;
    }
    while (want && n < want) {
        char x = byte_at(t, p);
        if (x == ' ' && n && n % 4 == 0) {
            x = byte_at(t, ++p);
        }
        if (!is_digit(x) && !is_alpha(x)) {
            return false;
        }
        c[n++] = is_alpha(x) ? (char)(x & ~32) : x;
        p++;
    }
    if (!want || !is_digit(c[2]) || !is_digit(c[3]) || !ends_here(t, p)) {
        return false;
    }
    int rest = 0; /* of the number with its first four characters at the end, letters as 10 to 35 */
    for (size_t i = 0; i < n; i++) {
        char x = c[(i + 4) % n];
        rest = is_digit(x) ? (rest * 10 + x - '0') % 97 : (rest * 100 + x - 'A' + 10) % 97;
    }
    *from = at - 2;
    *end = p;
    return rest == 1;
}

/* Behind what is one number, though of no kind: a card with a wrong check digit or a date is not looked at in parts. */
static size_t skip_to(const number *k) {
    for (size_t groups = FM_MIN(k->n, (size_t)5); groups >= 4; groups--) {
        if (grouped_as_card(k, groups)) {
            return end_of(k, groups);
        }
    }
    return k->n >= 3 && k->g[1].before != ' ' && looks_like_date(k, 3) ? end_of(k, 3) : end_of(k, 1);
}

bool fm_pii_number(const fm_pii_text *t, size_t at, size_t *from, size_t *end, fm_pii_kind *kind) {
    number k;
    if (t->kinds >> FM_PII_IBAN & 1 && is_iban(t, at, from, end)) {
        *kind = FM_PII_IBAN;
        return true;
    }
    *end = at;
    if (!fm_pii_edge(t, at)) {
        return false;
    }
    if (at >= 2 && strchr(".,-/", t->text.ptr[at - 1]) && is_digit(t->text.ptr[at - 2])) {
        return false; /* the rest of a longer number */
    }
    read_number(&k, t, at);
    *from = at;
    if (byte_at(t, end_of(&k, 1)) == '@') {
        return false;
    }
    *end = skip_to(&k);
    const size_t skip = *end;
    const struct {
        fm_pii_kind kind;
        bool (*is)(const number *k, size_t *end);
    } test[] = {{FM_PII_ID_CN, is_id},
                {FM_PII_CARD, is_card},
                {FM_PII_IP, is_ip},
                {FM_PII_SSN, is_ssn},
                {FM_PII_PHONE, is_phone}};
    for (size_t i = 0; i < FM_ARRAY_LEN(test); i++) {
        if (test[i].is(&k, end)) {
            *kind = test[i].kind;
            *from = *kind == FM_PII_PHONE ? k.from : at;
            return t->kinds >> *kind & 1;
        }
    }
    *end = skip;
    return false;
}
