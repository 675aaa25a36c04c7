/* Changing words of a text. See augment.h. */
#include "data/augment.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/textnorm.h"

/* A stretch of the text: together they are all of it. */
struct fm_augment_piece {
    fm_sv text;  /* in the text, the lexicon or the arena */
    fm_sv extra; /* put behind it, or empty */
    bool word, han;
    bool first; /* word of the text */
};

const char *fm_augment_name(fm_augment_method m) {
    static const char *const name[] = {"synonym", "insert", "swap", "delete", "homophone", "equivalent", "typo"};
    return name[m];
}

void fm_augment_room_free(fm_augment_room *r) {
    fm_word_list_free(&r->list);
    fm_bump_free(&r->arena);
    fm_free(r->piece);
    fm_free(r->pick);
    *r = (fm_augment_room){0};
}

/* ---- the text in pieces ----------------------------------------------------------------------- */

static fm_status push(fm_augment_room *r, fm_sv text, bool word, bool han) {
    if (text.len == 0) {
        return FM_OK;
    }
    void *p = r->piece;
    FM_TRY(fm_grow(&p, &r->cap, r->n + 1, sizeof *r->piece));
    r->piece = p;
    r->piece[r->n++] = (fm_augment_piece){.text = text, .word = word, .han = han};
    return FM_OK;
}

static bool starts_word(fm_sv t) {
    uint32_t cp = 0;
    return fm_utf8_decode(&cp, t.ptr, t.ptr + t.len) && (fm_word_class(cp) & (FM_W_ALPHA | FM_W_DIGIT));
}

static bool is_apostrophe(fm_sv t) {
    FM_ASSERT(t.ptr);
    return *t.ptr == '\'' || (t.len >= 3 && memcmp(t.ptr, "\xE2\x80\x99", 3) == 0);
}

/* A chunk with characters of a script without blanks: words are the longest of the lexicon, single characters where it
 * knows none (always, without a lexicon); what else is between them stays together. */
static fm_status push_unspaced(fm_augment_room *r, const fm_lexicon *l, fm_sv chunk) {
    const char *p = chunk.ptr, *end = p + chunk.len, *other = p;
    while (p < end) {
        uint32_t cp = 0;
        int k = fm_utf8_decode(&cp, p, end);
        FM_ASSERT(k > 0);
        if (!fm_is_unspaced(cp)) {
            p += k;
            continue;
        }
        FM_TRY(push(r, (fm_sv){other, (size_t)(p - other)}, false, false));
        size_t n = l ? fm_lexicon_longest(l, (fm_sv){p, (size_t)(end - p)}) : 0;
        n = FM_MAX(n, (size_t)k);
        FM_TRY(push(r, (fm_sv){p, n}, true, true));
        p += n;
        other = p;
    }
    return push(r, (fm_sv){other, (size_t)(end - other)}, false, false);
}

static bool has_unspaced(fm_sv t) {
    for (const char *p = t.ptr, *end = p + t.len; p < end;) {
        uint32_t cp = 0;
        int k = fm_utf8_decode(&cp, p, end);
        FM_ASSERT(k > 0);
        if (fm_is_unspaced(cp)) {
            return true;
        }
        p += k;
    }
    return false;
}

/* characters: only those of scripts without blanks are words, one by one. */
static fm_status split(const fm_augmenter *a, fm_augment_room *r, fm_sv text, bool characters) {
    size_t at = 0;
    bool first = true;
    r->n = 0;
    if (text.len == 0) {
        return FM_OK;
    }
    FM_ASSERT(text.ptr);
    FM_TRY(fm_words_split(a->words, &r->list, text));
    for (size_t i = 0; i < r->list.n; i++) {
        const fm_word *w = &r->list.item[i];
        fm_sv t = {text.ptr + w->at, w->len};
        FM_TRY(push(r, (fm_sv){text.ptr + at, w->at - at}, false, false));
        at = w->at + w->len;
        if (!w->blank && has_unspaced(t)) {
            FM_TRY(push_unspaced(r, characters ? NULL : a->synonyms, t));
            continue;
        }
        fm_augment_piece *before = r->n ? &r->piece[r->n - 1] : NULL;
        if (!w->blank && before && before->word && !before->han && before->text.ptr + before->text.len == t.ptr &&
            (is_apostrophe(t) || starts_word(t))) {
            before->text.len += t.len; /* "hasn't" is one word here */
            continue;
        }
        bool word = !w->blank && !characters && starts_word(t);
        FM_TRY(push(r, t, word, false));
        if (word) {
            FM_ASSERT(r->piece && r->n);
            r->piece[r->n - 1].first = first;
            first = false;
        }
    }
    return push(r, (fm_sv){text.ptr + at, text.len - at}, false, false);
}

/* ---- replacing -------------------------------------------------------------------------------- */

/* English words that carry grammar rather than meaning; sorted. WordNet has meanings for many of them ("as": arsenic).
 */
static const char *const function_words[] = {
    "a",        "about",   "above",   "after",   "again", "against", "all",     "almost", "also",    "although",
    "always",   "am",      "among",   "an",      "and",   "another", "any",     "are",    "as",      "at",
    "be",       "because", "been",    "before",  "being", "below",   "between", "both",   "but",     "by",
    "can",      "cannot",  "could",   "did",     "do",    "does",    "doing",   "done",   "down",    "during",
    "each",     "either",  "else",    "even",    "ever",  "every",   "few",     "for",    "from",    "further",
    "had",      "has",     "have",    "having",  "he",    "her",     "here",    "hers",   "herself", "him",
    "himself",  "his",     "how",     "however", "i",     "if",      "in",      "into",   "is",      "it",
    "its",      "itself",  "just",    "less",    "let",   "like",    "may",     "me",     "might",   "mine",
    "more",     "most",    "much",    "must",    "my",    "myself",  "neither", "never",  "no",      "none",
    "nor",      "not",     "nothing", "now",     "of",    "off",     "often",   "on",     "once",    "one",
    "only",     "or",      "other",   "our",     "ours",  "out",     "over",    "own",    "per",     "quite",
    "rather",   "s",       "same",    "shall",   "she",   "should",  "since",   "so",     "some",    "something",
    "still",    "such",    "t",       "than",    "that",  "the",     "their",   "theirs", "them",    "then",
    "there",    "these",   "they",    "this",    "those", "though",  "through", "thus",   "to",      "too",
    "two",      "under",   "until",   "up",      "upon",  "us",      "very",    "was",    "we",      "were",
    "what",     "when",    "where",   "whether", "which", "while",   "who",     "whom",   "whose",   "why",
    "will",     "with",    "within",  "without", "would", "yes",     "yet",     "you",    "your",    "yours",
    "yourself",
};

static bool is_function_word(fm_sv w) {
    size_t lo = 0, hi = FM_ARRAY_LEN(function_words);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const char *f = function_words[mid];
        size_t n = strlen(f);
        int c = memcmp(f, w.ptr, FM_MIN(n, w.len));
        c = c ? c : (n > w.len) - (n < w.len);
        if (c == 0) {
            return true;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

/* What a word is looked up as: lower case, in buf; empty when it is none to replace. */
static fm_sv lookup_form(const fm_augmenter *a, const fm_augment_piece *w, char *buf, size_t cap) {
    const fm_sv none = {NULL, 0};
    size_t n = 0, chars = 0;
    for (const char *p = w->text.ptr, *end = p + w->text.len; p < end;) {
        uint32_t cp = 0;
        int k = fm_utf8_decode(&cp, p, end);
        FM_ASSERT(k > 0);
        uint32_t small = fm_utf8_lower(cp);
        bool letter = w->han || (fm_word_class(cp) & FM_W_ALPHA) || (chars && cp == '-');
        if (!letter || n + 4 > cap || (small != cp && (chars || !w->first))) {
            return none;
        }
        n += (size_t)fm_utf8_encode(buf + n, small);
        p += k;
        chars++;
    }
    fm_sv form = {buf, n};
    bool kept = (w->han && chars < a->min_han) || (!w->han && is_function_word(form)) ||
                (a->keep && fm_lexicon_has(a->keep, form));
    return kept ? none : form;
}

/* The word with a capital where the one that it replaces had one. */
static fm_status like(fm_augment_room *r, fm_sv *out, fm_sv word, fm_sv old) {
    bool capital = *old.ptr >= 'A' && *old.ptr <= 'Z' && *word.ptr >= 'a' && *word.ptr <= 'z';
    *out = word; /* of the lexicon, which lives longer */
    if (capital) {
        char *p = fm_bump_copy(&r->arena, word.ptr, word.len);
        if (!p) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a changed word");
        }
        *p = (char)(*p - 'a' + 'A');
        out->ptr = p;
    }
    return FM_OK;
}

typedef struct draw {
    fm_rng_key key;
    uint64_t at;
} draw;
static size_t below(draw *d, size_t n) {
    return (size_t)fm_rng_below(d->key, d->at++, n);
}

/* Pieces that may be chosen, into r->pick: words, with `l` those that it has something for. */
static fm_status candidates(const fm_augmenter *a, fm_augment_room *r, const fm_lexicon *l, const fm_lexicon_choice *c,
                            size_t *n_out, size_t *n_words) {
    size_t n = 0;
    *n_words = 0;
    void *p = r->pick;
    FM_TRY(fm_grow(&p, &r->pick_cap, r->n + 1, sizeof *r->pick));
    r->pick = p;
    for (size_t i = 0; i < r->n; i++) {
        if (!r->piece[i].word) {
            continue;
        }
        ++*n_words;
        if (l) {
            char buf[256];
            fm_sv form = lookup_form(a, &r->piece[i], buf, sizeof buf);
            if (form.len == 0 || fm_lexicon_count(l, form, c) == 0) {
                continue;
            }
        }
        r->pick[n++] = i;
    }
    *n_out = n;
    return FM_OK;
}

/* Any of the other words that stand for this one. */
static fm_status other_word(const fm_augmenter *a, fm_augment_room *r, const fm_lexicon *l, const fm_lexicon_choice *c,
                            const fm_augment_piece *w, draw *d, fm_sv *out) {
    char buf[256];
    fm_sv form = lookup_form(a, w, buf, sizeof buf);
    size_t n = fm_lexicon_count(l, form, c);
    FM_ASSERT(n > 0);
    return like(r, out, fm_lexicon_at(l, form, c, below(d, n)), w->text);
}

/* How many of n words change. */
static size_t wanted(const fm_augmenter *a, size_t n) {
    size_t k = (size_t)(a->ratio * (double)n + 0.5);
    return FM_MAX(k, 1);
}

static fm_status replace(const fm_augmenter *a, fm_augment_room *r, const fm_lexicon *l, fm_lexicon_choice c, draw *d,
                         size_t *changes) {
    size_t n = 0, n_words = 0;
    FM_TRY(candidates(a, r, l, &c, &n, &n_words));
    size_t k = FM_MIN(wanted(a, n_words), n);
    for (size_t i = 0; i < k; i++) {
        size_t j = i + below(d, n - i), at = r->pick[j];
        r->pick[j] = r->pick[i];
        fm_sv to = {NULL, 0};
        FM_TRY(other_word(a, r, l, &c, &r->piece[at], d, &to));
        r->piece[at].text = to;
        ++*changes;
    }
    return FM_OK;
}

static fm_status insert(const fm_augmenter *a, fm_augment_room *r, draw *d, size_t *changes) {
    fm_lexicon_choice c = {.senses = a->senses};
    size_t n = 0, n_words = 0, n_all = 0;
    FM_TRY(candidates(a, r, a->synonyms, &c, &n, &n_words));
    size_t k = n ? wanted(a, n_words) : 0;
    for (size_t i = 0; i < k; i++) {
        FM_TRY(candidates(a, r, a->synonyms, &c, &n, &n_words));
        fm_augment_piece from = r->piece[r->pick[below(d, n)]];
        fm_sv word = {NULL, 0};
        from.first = false; /* a small letter, wherever it goes */
        if (*from.text.ptr >= 'A' && *from.text.ptr <= 'Z') {
            continue;
        }
        FM_TRY(other_word(a, r, a->synonyms, &c, &from, d, &word));
        FM_TRY(candidates(a, r, NULL, &c, &n_all, &n_words));
        fm_augment_piece *to = &r->piece[r->pick[below(d, n_all)]];
        if (to->extra.len == 0) {
            to->extra = word;
            ++*changes;
        }
    }
    return FM_OK;
}

static fm_status swap(const fm_augmenter *a, fm_augment_room *r, draw *d, size_t *changes) {
    fm_lexicon_choice c = {0};
    size_t n = 0, n_words = 0;
    FM_TRY(candidates(a, r, NULL, &c, &n, &n_words));
    size_t k = n < 2 ? 0 : wanted(a, n);
    for (size_t i = 0; i < k; i++) {
        size_t x = below(d, n), y = below(d, n - 1);
        y += y >= x;
        fm_sv t = r->piece[r->pick[x]].text;
        r->piece[r->pick[x]].text = r->piece[r->pick[y]].text;
        r->piece[r->pick[y]].text = t;
        ++*changes;
    }
    return FM_OK;
}

static fm_status delete (const fm_augmenter *a, fm_augment_room *r, draw *d, size_t *changes) {
    fm_lexicon_choice c = {0};
    size_t n = 0, n_words = 0;
    FM_TRY(candidates(a, r, NULL, &c, &n, &n_words));
    if (n < 2) {
        return FM_OK;
    }
    size_t stays = below(d, n);
    for (size_t i = 0; i < n; i++) {
        double u = fm_rng_uniform(d->key, d->at++);
        if (i == stays || u >= a->ratio) {
            continue;
        }
        size_t at = r->pick[i];
        r->piece[at].text.len = 0;
        /* with it goes one of the blanks around it */
        size_t gap = at + 1 < r->n && !r->piece[at + 1].word ? at + 1 : at ? at - 1 : at;
        fm_sv *g = &r->piece[gap].text;
        if (!r->piece[gap].word && g->len && *g->ptr == ' ' && !r->piece[at].han) {
            g->ptr++;
            g->len--;
        } else if (at && !r->piece[at - 1].word && !r->piece[at].han) { /* before a comma */
            g = &r->piece[at - 1].text;
            g->len -= g->len && g->ptr[g->len - 1] == ' ';
        }
        ++*changes;
    }
    return FM_OK;
}

/* ---- typing ----------------------------------------------------------------------------------- */

enum { TYPO_MIN = 4, TYPO_MAX = 64 }; /* letters of a word that may be mistyped */

/* A key beside this one on an English keyboard, or the letter itself. */
static uint32_t beside(uint32_t letter, draw *d) {
    static const char *const rows[] = {"qwertyuiop", "asdfghjkl", "zxcvbnm", "QWERTYUIOP", "ASDFGHJKL", "ZXCVBNM"};
    for (size_t i = 0; i < FM_ARRAY_LEN(rows) && letter < 128; i++) {
        const char *at = strchr(rows[i], (int)letter);
        if (letter && at) {
            bool left = at > rows[i] && (!at[1] || below(d, 2));
            return (uint32_t)(left ? at[-1] : at[1]);
        }
    }
    return letter;
}

/* Letters of a word that may be mistyped; 0 for others. */
static size_t typed_letters(const fm_augmenter *a, const fm_augment_piece *w, uint32_t letter[TYPO_MAX]) {
    char form[4 * TYPO_MAX]; /* in lower case */
    size_t n = 0, len = 0;
    for (const char *p = w->text.ptr, *end = p + w->text.len; p < end;) {
        uint32_t cp = 0;
        int k = fm_utf8_decode(&cp, p, end);
        FM_ASSERT(k > 0);
        if (w->han || n == TYPO_MAX || !(fm_word_class(cp) & FM_W_ALPHA)) {
            return 0;
        }
        letter[n++] = cp;
        len += (size_t)fm_utf8_encode(form + len, fm_utf8_lower(cp));
        p += k;
    }
    return n < TYPO_MIN || (a->keep && fm_lexicon_has(a->keep, (fm_sv){form, len})) ? 0 : n;
}

/* One mistake behind the first letter, which people rarely get wrong: of ten, three letters that changed places, three
 * that are missing, two that came twice and two from the key beside. */
static fm_status mistype(fm_augment_room *r, fm_augment_piece *w, uint32_t letter[TYPO_MAX], size_t n, draw *d) {
    size_t kind = below(d, 10), i = 1 + below(d, n - 2);
    char buf[4 * (TYPO_MAX + 1)];
    size_t len = 0;
    uint32_t key = kind >= 8 ? beside(letter[i], d) : letter[i];
    bool twice = kind == 6 || kind == 7 || (kind >= 8 && key == letter[i]);
    if (kind < 3) {
        letter[i] = letter[i + 1];
        letter[i + 1] = key;
    } else {
        letter[i] = key;
    }
    for (size_t k = 0; k < n; k++) {
        bool missing = k == i && kind >= 3 && kind < 6;
        for (int times = missing ? 0 : k == i && twice ? 2 : 1; times > 0; times--) {
            len += (size_t)fm_utf8_encode(buf + len, letter[k]);
        }
    }
    char *p = fm_bump_copy(&r->arena, buf, len);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a changed word");
    }
    w->text = (fm_sv){p, len};
    return FM_OK;
}

static fm_status typo(const fm_augmenter *a, fm_augment_room *r, draw *d, size_t *changes) {
    fm_lexicon_choice c = {0};
    uint32_t letter[TYPO_MAX];
    size_t n = 0, n_words = 0, may = 0;
    FM_TRY(candidates(a, r, NULL, &c, &n, &n_words));
    for (size_t i = 0; i < n; i++) {
        if (typed_letters(a, &r->piece[r->pick[i]], letter)) {
            r->pick[may++] = r->pick[i];
        }
    }
    size_t k = FM_MIN(wanted(a, n_words), may);
    for (size_t i = 0; i < k; i++) {
        size_t j = i + below(d, may - i), at = r->pick[j];
        r->pick[j] = r->pick[i];
        FM_TRY(mistype(r, &r->piece[at], letter, typed_letters(a, &r->piece[at], letter), d));
        ++*changes;
    }
    return FM_OK;
}

fm_status fm_augment(const fm_augmenter *a, fm_augment_room *r, fm_str *out, size_t *changes, fm_sv text,
                     fm_augment_method method, fm_rng_key key) {
    draw d = {.key = key};
    *changes = 0;
    fm_str_clear(out);
    fm_bump_reset(&r->arena);
    FM_TRY(split(a, r, text, method == FM_AUGMENT_HOMOPHONE || method == FM_AUGMENT_EQUIVALENT));
    fm_augmenter single = *a; /* characters are taken one by one */
    single.min_han = 1;
    switch (method) {
    case FM_AUGMENT_SYNONYM:
        FM_TRY(replace(a, r, a->synonyms, (fm_lexicon_choice){.senses = a->senses}, &d, changes));
        break;
    case FM_AUGMENT_INSERT:
        FM_TRY(insert(a, r, &d, changes));
        break;
    case FM_AUGMENT_SWAP:
        FM_TRY(swap(a, r, &d, changes));
        break;
    case FM_AUGMENT_DELETE:
        FM_TRY(delete (a, r, &d, changes));
        break;
    case FM_AUGMENT_HOMOPHONE:
        FM_TRY(replace(&single, r, a->homophones, (fm_lexicon_choice){.members = a->common}, &d, changes));
        break;
    case FM_AUGMENT_TYPO:
        FM_TRY(typo(a, r, &d, changes));
        break;
    default:
        FM_TRY(replace(&single, r, a->equivalents, (fm_lexicon_choice){0}, &d, changes));
        break;
    }
    for (size_t i = 0; i < r->n; i++) {
        const fm_augment_piece *p = &r->piece[i];
        fm_str_append(out, p->text.ptr, p->text.len);
        if (p->extra.len) {
            fm_str_puts(out, p->han ? "" : " ");
            fm_str_append(out, p->extra.ptr, p->extra.len);
        }
    }
    return fm_str_check(out);
}
