/* Strings that are split in a way of their own: contractions, abbreviations, times, emoticons. Contractions come with
 * and without their apostrophe ("don't", "dont"), and in both forms of it; words also with a capital. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/words.h"

/* Words and what may hang on each. A + parts what hangs: "'ll+'ve" makes we | 'll | 've. */
static const char *const hung[][2] = {
    {"i", "'m 'm+a 'll 'll+'ve 'd 'd+'ve 've"},
    {"you", "'ll 'll+'ve 'd 'd+'ve 've 're"},
    {"he she it", "'ll 'll+'ve 'd 'd+'ve 's"},
    {"we they", "'ll 'll+'ve 'd 'd+'ve 've 're"},
    {"who what when where why how there", "'s 'll 'll+'ve 're 've 'd 'd+'ve"},
    {"that this", "'s 'll 'll+'ve 'd 'd+'ve"},
    {"these those", "'ll 'll+'ve 're 've 'd 'd+'ve"},
    {"ca could do does did had may might must need ought sha should wo would", "n't n't+'ve"},
    {"could might must should would not", "'ve"},
    {"ai are is was were have has dare", "n't"},
};
/* They are words, though hung would part them. */
static const char *const not_hung = " Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore ";

/* Parted at |, in small letters and with a capital. */
static const char *const both[] = {"can|not", "gon|na",  "got|ta", "let|'s", "c'm|on",    "how|'d|'y",
                                   "ma'am",   "o'clock", "lovin'", "lovin",  "havin'",    "havin",
                                   "doin'",   "doin",    "goin'",  "goin",   "nothin'",   "nothin",
                                   "nuthin'", "nuthin",  "ol'",    "ol",     "somethin'", "somethin"};
/* Parted at |, as they stand. */
static const char *const one[] = {
    "y'|all", "y|all", "em", "'em", "ll", "'ll", "nuff", "'nuff", "'S", "'s", "\xE2\x80\x98S", "\xE2\x80\x98s",
    "and/or", "w/o", "'re", "'Cause", "'cause", "'cos", "'Cos", "'coz", "'Coz", "'cuz", "'Cuz", "'bout", "'d", "a.m.",
    "Adm.", "Bros.", "co.", "Co.", "Corp.", "D.C.", "Dr.", "e.g.", "E.g.", "E.G.", "Gen.", "Gov.", "i.e.", "I.e.",
    "I.E.", "Inc.", "Jr.", "Ltd.", "Md.", "Messrs.", "Mo.", "Mont.", "Mr.", "Mrs.", "Ms.", "p.m.", "Ph.D.", "Prof.",
    "Rep.", "Rev.", "Sen.", "St.", "vs.", "v.s.", "Mt.", "Ak.", "Ala.", "Apr.", "Ariz.", "Ark.", "Aug.", "Calif.",
    "Colo.", "Conn.", "Dec.", "Del.", "Feb.", "Fla.", "Ga.", "Ia.", "Id.", "Ill.", "Ind.", "Jan.", "Jul.", "Jun.",
    "Kan.", "Kans.", "Ky.", "La.", "Mar.", "Mass.", "Mich.", "Minn.", "Miss.", "N.C.", "N.D.", "N.H.", "N.J.", "N.M.",
    "N.Y.", "Neb.", "Nebr.", "Nev.", "Nov.", "Oct.", "Okla.", "Ore.", "Pa.", "S.C.", "Sep.", "Sept.", "Tenn.", "Va.",
    "Wash.", "Wis.", "'", "\\\")", "<space>", "''", "C++", "\\t", "\\n", "\xE2\x80\x94", "ä.", "ö.", "ü.", "°|c|.",
    "°|f|.", "°|k|.", "°|C|.", "°|F|.", "°|K|.",
    /* faces */
    ":)", ":-)", ":))", ":-))", ":)))", ":-)))", "(:", "(-:", "=)", "(=", ":]", ":-]", "[:", "[-:", "[=", "=]", ":o)",
    "(o:", ":}", ":-}", "8)", "8-)", "(-8", ";)", ";-)", "(;", "(-;", ":(", ":-(", ":((", ":-((", ":(((", ":-(((",
    "):", ")-:", "=(", ">:(", ":')", ":'-)", ":'(", ":'-(", ":/", ":-/", "=/", "=\x01", ":\x01", ":-\x01", "]=", "=[",
    ":1", ":P", ":-P", ":p", ":-p", ":O", ":-O", ":o", ":-o", ":0", ":-0", ":()", ">:o", ":*", ":-*", ":3", ":-3", "=3",
    ":>", ":->", ":X", ":-X", ":x", ":-x", ":D", ":-D", ";D", ";-D", "=D", "xD", "XD", "xDD", "XDD", "8D", "8-D", "^_^",
    "^__^", "^___^", ">.<", ">.>", "<.<", "._.", ";_;", "-_-", "-__-", "v.v", "V.V", "v_v", "V_V", "o_o", "o_O", "O_o",
    "O_O", "0_o", "o_0", "0_0", "o.O", "O.o", "O.O", "o.o", "0.0", "o.0", "0.o", "@_@", "<3", "<33", "<333", "</3",
    "(^_^)", "(-_-)", "(._.)", "(>_<)", "(*_*)", "(¬_¬)", "ಠ_ಠ", "ಠ︵ಠ", "(ಠ_ಠ)", "¯\\(ツ)/¯", "(╯°□°）╯︵┻━┻",
    "><(((*>"};

typedef struct sink {
    fm_status (*add)(void *arg, const fm_special *s);
    void *arg;
} sink;

/* text with | between the parts (\1 is a | that is meant). */
static fm_status put(const sink *k, const char *text) {
    fm_special s = {.n_parts = 1};
    for (const char *p = text; *p; p++) {
        if (*p == '|') {
            FM_ASSERT(s.n_parts < FM_ARRAY_LEN(s.part));
            s.n_parts++;
        } else {
            FM_ASSERT(s.len < FM_SPECIAL_BYTES - 1);
            s.text[s.len++] = *p == 1 ? '|' : *p;
            s.part[s.n_parts - 1]++;
        }
    }
    return k->add(k->arg, &s);
}

/* Also with the other apostrophe. */
static fm_status put_forms(const sink *k, const char *text) {
    char other[64] = "";
    size_t n = 0;
    FM_TRY(put(k, text));
    if (!strchr(text, '\'')) {
        return FM_OK;
    }
    for (const char *p = text; *p; p++) {
        n += (size_t)snprintf(other + n, sizeof other - n, *p == '\'' ? "\xE2\x80\x99" : "%c", *p);
    }
    return put(k, other);
}

static fm_status put_capital(const sink *k, const char *text) {
    char capital[64] = "";
    FM_TRY(put_forms(k, text));
    snprintf(capital, sizeof capital, "%s", text);
    capital[0] = (char)(capital[0] - 32);
    return put_forms(k, capital);
}

/* The next of words separated by blanks; false at the end. */
static bool next(const char **p, char *word, size_t cap) {
    size_t n = strcspn(*p, " ");
    snprintf(word, cap, "%.*s", (int)n, *p);
    *p += n + ((*p)[n] == ' ');
    return n > 0;
}

static bool is_word_itself(const char *text) {
    char plain[64] = " ";
    size_t n = 1;
    for (const char *p = text; *p; p++) {
        if (*p != '|') {
            plain[n++] = *p;
        }
    }
    plain[n++] = ' ';
    plain[n] = '\0';
    return strstr(not_hung, plain) != NULL;
}

static fm_status put_hung(const sink *k, const char *word, const char *tail) {
    char with[64] = "", without[64] = "";
    size_t n = (size_t)snprintf(with, sizeof with, "%s|%s", word, tail), m = 0;
    for (size_t i = 0; i <= n; i++) {
        with[i] = with[i] == '+' ? '|' : with[i];
        if (with[i] != '\'') {
            without[m++] = with[i];
        }
    }
    for (int capital = 0; capital < 2; capital++) {
        FM_TRY(put_forms(k, with));
        if (!is_word_itself(without)) {
            FM_TRY(put(k, without));
        }
        with[0] = without[0] = (char)(with[0] - 32);
    }
    return FM_OK;
}

static fm_status put_contractions(const sink *k) {
    for (size_t i = 0; i < FM_ARRAY_LEN(hung); i++) {
        char word[16], tail[16];
        for (const char *p = hung[i][0]; next(&p, word, sizeof word);) {
            for (const char *q = hung[i][1]; next(&q, tail, sizeof tail);) {
                FM_TRY(put_hung(k, word, tail));
            }
        }
    }
    return FM_OK;
}

fm_status fm_specials_each(fm_status (*add)(void *arg, const fm_special *s), void *arg) {
    static const char *const halves[] = {"a.m.", "am", "p.m.", "pm"};
    const sink k = {add, arg};
    char text[64];
    FM_TRY(put_contractions(&k));
    for (int c = 'a'; c <= 'z'; c++) {
        snprintf(text, sizeof text, "%c.", c);
        FM_TRY(put(&k, text));
    }
    for (int h = 1; h <= 12; h++) {
        for (size_t i = 0; i < FM_ARRAY_LEN(halves); i++) {
            snprintf(text, sizeof text, "%d|%s", h, halves[i]);
            FM_TRY(put(&k, text));
        }
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(both); i++) {
        FM_TRY(put_capital(&k, both[i]));
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(one); i++) {
        FM_TRY(put_forms(&k, one[i]));
    }
    return FM_OK;
}
