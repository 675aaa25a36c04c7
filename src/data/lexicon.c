/* Lexicons: readers of the four forms, and the tables behind the questions. See lexicon.h. */
#include "data/lexicon.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/lines.h"

#define MAX_WORD_BYTES 255u
#define MAX_WORDS      50000000u /* of all files: far above any dictionary */
#define NONE           UINT32_MAX

typedef struct entry {
    uint32_t at, len; /* in `chars` */
    uint32_t lower;   /* index of the word in lower case; itself when it is */
    uint32_t first;   /* of `use`, after finish */
} entry;

/* One word in one group. */
typedef struct use {
    uint32_t word, rank, group;
    char pos; /* of WordNet's words, else 0 */
} use;

/* How often a meaning of a word was met in WordNet's tagged texts. */
typedef struct tagged {
    uint32_t word, rank, count;
    char pos;
} tagged;

/* A synset of a data file, as the index names it. */
typedef struct synset {
    uint64_t key; /* part of speech and offset in the file */
    uint32_t group;
} synset;

struct fm_lexicon {
    fm_str chars;
    entry *word;
    size_t n_words, words_cap;
    uint32_t *slot; /* hash table of words, NONE = empty */
    size_t n_slots; /* power of two */
    uint32_t *member;
    size_t n_members, members_cap;
    uint32_t *group; /* [n_groups] first member */
    size_t n_groups, groups_cap;
    use *use;
    size_t n_uses, uses_cap;
    tagged *tagged;
    size_t n_tagged, tagged_cap;
    synset *synset;
    size_t n_synsets, synsets_cap;
    bool sorted; /* the synsets */
    size_t longest;
};

fm_status fm_lexicon_new(fm_lexicon **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a lexicon");
    }
    return FM_OK;
}

void fm_lexicon_free(fm_lexicon *l) {
    if (l) {
        fm_str_free(&l->chars);
        fm_free(l->word);
        fm_free(l->slot);
        fm_free(l->member);
        fm_free(l->group);
        fm_free(l->use);
        fm_free(l->tagged);
        fm_free(l->synset);
        fm_free(l);
    }
}

size_t fm_lexicon_words(const fm_lexicon *l) {
    return l->n_words;
}

size_t fm_lexicon_groups(const fm_lexicon *l) {
    return l->n_groups;
}

/* ---- words ------------------------------------------------------------------------------------ */

static fm_sv text_of(const fm_lexicon *l, uint32_t w) {
    return (fm_sv){l->chars.data + l->word[w].at, l->word[w].len};
}

static uint32_t find(const fm_lexicon *l, fm_sv text) {
    if (l->n_slots == 0 || text.len == 0 || text.len > MAX_WORD_BYTES) {
        return NONE;
    }
    size_t mask = l->n_slots - 1;
    for (size_t i = (size_t)fm_hash64(text.ptr, text.len, 0) & mask;; i = (i + 1) & mask) {
        uint32_t w = l->slot[i];
        if (w == NONE) {
            return NONE;
        }
        fm_sv t = text_of(l, w);
        if (t.len == text.len && memcmp(t.ptr, text.ptr, t.len) == 0) {
            return w;
        }
    }
}

static void put_slot(fm_lexicon *l, uint32_t w) {
    fm_sv t = text_of(l, w);
    size_t mask = l->n_slots - 1, i = (size_t)fm_hash64(t.ptr, t.len, 0) & mask;
    while (l->slot[i] != NONE) {
        i = (i + 1) & mask;
    }
    l->slot[i] = w;
}

static fm_status grow_slots(fm_lexicon *l) {
    size_t n = l->n_slots ? l->n_slots * 2 : 1024;
    uint32_t *slot = fm_malloc(n * sizeof *slot);
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a lexicon of %zu words", l->n_words);
    }
    memset(slot, 0xFF, n * sizeof *slot);
    fm_free(l->slot);
    l->slot = slot;
    l->n_slots = n;
    for (uint32_t w = 0; w < l->n_words; w++) {
        put_slot(l, w);
    }
    return FM_OK;
}

/* Lower case into buf; 0 when it does not fit or is no UTF-8. */
static size_t lower(char *buf, size_t cap, fm_sv text) {
    size_t n = 0;
    for (const char *p = text.ptr, *end = p + text.len; p < end;) {
        uint32_t cp;
        int k = fm_utf8_decode(&cp, p, end);
        if (k == 0 || n + 4 > cap) {
            return 0;
        }
        n += (size_t)fm_utf8_encode(buf + n, fm_utf8_lower(cp));
        p += k;
    }
    return n;
}

static fm_status intern_one(fm_lexicon *l, uint32_t *out, fm_sv text) {
    *out = find(l, text);
    if (*out != NONE) {
        return FM_OK;
    }
    if (l->n_words >= MAX_WORDS || l->chars.len > UINT32_MAX - 1024u) {
        FM_FAIL(FM_ERR_DATA, "a lexicon of more than %u words", MAX_WORDS);
    }
    if (l->n_slots < 2 * (l->n_words + 1)) {
        FM_TRY(grow_slots(l));
    }
    void *p = l->word;
    FM_TRY(fm_grow(&p, &l->words_cap, l->n_words + 1, sizeof *l->word));
    l->word = p;
    uint32_t w = (uint32_t)l->n_words;
    l->word[w] = (entry){.at = (uint32_t)l->chars.len, .len = (uint32_t)text.len, .lower = w};
    fm_str_append(&l->chars, text.ptr, text.len);
    FM_TRY(fm_str_check(&l->chars));
    l->n_words++;
    l->longest = FM_MAX(l->longest, text.len);
    put_slot(l, w);
    *out = w;
    return FM_OK;
}

static fm_status intern(fm_lexicon *l, uint32_t *out, fm_sv text) {
    char buf[2 * MAX_WORD_BYTES];
    uint32_t small = 0;
    size_t n = lower(buf, sizeof buf, text);
    FM_TRY(intern_one(l, out, text));
    if (n && n <= MAX_WORD_BYTES && (n != text.len || memcmp(buf, text.ptr, n) != 0)) {
        FM_TRY(intern_one(l, &small, (fm_sv){buf, n}));
        l->word[*out].lower = small;
    }
    return FM_OK;
}

static fm_status add_use(fm_lexicon *l, uint32_t w, uint32_t rank, uint32_t group, char pos) {
    void *p = l->use;
    FM_TRY(fm_grow(&p, &l->uses_cap, l->n_uses + 1, sizeof *l->use));
    l->use = p;
    l->use[l->n_uses++] = (use){l->word[w].lower, rank, group, pos};
    return FM_OK;
}

static fm_status add_member(fm_lexicon *l, fm_sv text) {
    uint32_t w = 0;
    FM_TRY(intern(l, &w, text));
    void *p = l->member;
    FM_TRY(fm_grow(&p, &l->members_cap, l->n_members + 1, sizeof *l->member));
    l->member = p;
    l->member[l->n_members++] = w;
    return FM_OK;
}

static fm_status begin_group(fm_lexicon *l) {
    void *p = l->group;
    FM_TRY(fm_grow(&p, &l->groups_cap, l->n_groups + 1, sizeof *l->group));
    l->group = p;
    l->group[l->n_groups++] = (uint32_t)l->n_members;
    return FM_OK;
}

static size_t group_end(const fm_lexicon *l, size_t g) {
    return g + 1 < l->n_groups ? l->group[g + 1] : l->n_members;
}

/* ---- lines ------------------------------------------------------------------------------------ */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* The next field; empty at the end. */
static fm_sv field(fm_sv *rest) {
    while (rest->len && is_blank(*rest->ptr)) {
        rest->ptr++;
        rest->len--;
    }
    fm_sv f = {rest->ptr, 0};
    while (f.len < rest->len && !is_blank(rest->ptr[f.len])) {
        f.len++;
    }
    rest->ptr += f.len;
    rest->len -= f.len;
    return f;
}

/* Whole field as a number in the base, at most `max`. */
static bool number(uint64_t *out, fm_sv f, unsigned base, uint64_t max) {
    uint64_t v = 0;
    for (size_t i = 0; i < f.len; i++) {
        unsigned char c = (unsigned char)f.ptr[i];
        unsigned d = c >= '0' && c <= '9' ? c - (unsigned)'0' : c >= 'a' && c <= 'f' ? c - 'a' + 10u : 99u;
        if (d >= base || v > max / base) {
            return false;
        }
        v = v * base + d;
    }
    *out = v;
    return f.len > 0 && v <= max;
}

static uint64_t synset_key(char pos, uint64_t offset) {
    return ((uint64_t)(unsigned char)(pos == 's' ? 'a' : pos) << 56) | offset;
}

static bool is_pos(fm_sv f) {
    return f.len == 1 && strchr("nvasr", *f.ptr) && *f.ptr;
}

/* A word of WordNet: "_" is a blank, "(a)", "(p)", "(ip)" behind adjectives say where they stand. */
static bool plain_word(char *buf, fm_sv *f) {
    if (f->len && f->ptr[f->len - 1] == ')') {
        for (size_t i = 1; i < f->len; i++) {
            f->len = f->ptr[i] == '(' ? i : f->len;
        }
    }
    if (f->len == 0 || f->len > MAX_WORD_BYTES || !fm_utf8_valid(f->ptr, f->len)) {
        return false;
    }
    for (size_t i = 0; i < f->len; i++) {
        buf[i] = f->ptr[i] == '_' ? ' ' : f->ptr[i];
    }
    f->ptr = buf;
    return true;
}

/* synset_offset lex_filenum ss_type w_cnt word lex_id [word lex_id...] p_cnt ... */
static fm_status data_line(fm_lexicon *l, fm_sv line) {
    char buf[MAX_WORD_BYTES];
    uint64_t offset = 0, n = 0;
    if (line.len == 0 || *line.ptr == ' ') { /* the licence at the top */
        return FM_OK;
    }
    fm_sv first = field(&line), file = field(&line), pos = field(&line), count = field(&line);
    if (!number(&offset, first, 10, (uint64_t)1 << 40) || file.len == 0 || !is_pos(pos) ||
        !number(&n, count, 16, 255) || n == 0) {
        FM_FAIL(FM_ERR_FORMAT, "no synset: expected offset, file, part of speech and the number of words");
    }
    void *p = l->synset;
    FM_TRY(fm_grow(&p, &l->synsets_cap, l->n_synsets + 1, sizeof *l->synset));
    l->synset = p;
    FM_TRY(begin_group(l));
    l->synset[l->n_synsets++] = (synset){synset_key(*pos.ptr, offset), (uint32_t)(l->n_groups - 1)};
    l->sorted = false;
    for (uint64_t i = 0; i < n; i++) {
        fm_sv w = field(&line), id = field(&line);
        if (id.len == 0 || !plain_word(buf, &w)) {
            FM_FAIL(FM_ERR_FORMAT, "a synset of %d words has %d", (int)n, (int)i);
        }
        FM_TRY(add_member(l, w));
    }
    return FM_OK;
}

static int by_key(const void *a, const void *b) {
    const synset *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->group > y->group) - (x->group < y->group);
}

/* lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset [synset_offset...] */
static fm_status index_line(fm_lexicon *l, fm_sv line) {
    char buf[MAX_WORD_BYTES];
    uint64_t n = 0, pointers = 0, v = 0;
    uint32_t w = 0;
    if (line.len == 0 || *line.ptr == ' ') {
        return FM_OK;
    }
    fm_sv lemma = field(&line), pos = field(&line), count = field(&line), p_count = field(&line);
    if (!is_pos(pos) || !number(&n, count, 10, 10000) || !number(&pointers, p_count, 10, 10000) ||
        !plain_word(buf, &lemma)) {
        FM_FAIL(FM_ERR_FORMAT, "no line of an index: expected word, part of speech, numbers of synsets and pointers");
    }
    for (uint64_t i = 0; i < pointers + 2; i++) {
        (void)field(&line);
    }
    if (!l->sorted && l->n_synsets) {
        qsort(l->synset, l->n_synsets, sizeof *l->synset, by_key);
        l->sorted = true;
    }
    FM_TRY(intern(l, &w, lemma));
    for (uint32_t i = 0; i < n; i++) {
        fm_sv f = field(&line);
        if (!number(&v, f, 10, (uint64_t)1 << 40)) {
            FM_FAIL(FM_ERR_FORMAT, "a word of %d synsets has %d", (int)n, (int)i);
        }
        synset key = {.key = synset_key(*pos.ptr, v)};
        size_t lo = 0, hi = l->n_synsets;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if (l->synset[mid].key < key.key) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        if (lo == l->n_synsets || l->synset[lo].key != key.key) {
            FM_FAIL(FM_ERR_FORMAT, "there is no synset %llu in the data file", (unsigned long long)v);
        }
        FM_TRY(add_use(l, w, i, l->synset[lo].group, *pos.ptr));
    }
    return FM_OK;
}

/* lemma%ss_type:lex_filenum:lex_id:head_word:head_id sense_number tag_cnt */
static fm_status counts_line(fm_lexicon *l, fm_sv line) {
    static const char types[] = "nvara"; /* 1 to 5; satellites are adjectives */
    char buf[MAX_WORD_BYTES];
    uint64_t sense = 0, count = 0;
    if (line.len == 0) {
        return FM_OK;
    }
    fm_sv key = field(&line), number_ = field(&line), count_ = field(&line);
    const char *mark = key.len ? memchr(key.ptr, '%', key.len) : NULL;
    size_t n = mark ? (size_t)(mark - key.ptr) : 0;
    if (!mark || n + 1 >= key.len || mark[1] < '1' || mark[1] > '5' || !number(&sense, number_, 10, 10000) ||
        sense == 0 || !number(&count, count_, 10, UINT32_MAX)) {
        FM_FAIL(FM_ERR_FORMAT, "no count of a meaning: expected word%%type:..., number of the meaning, count");
    }
    char pos = types[mark[1] - '1'];
    key.len = n;
    uint32_t w = plain_word(buf, &key) ? find(l, key) : NONE;
    if (w == NONE) {
        return FM_OK; /* counts of another version know other words */
    }
    void *p = l->tagged;
    FM_TRY(fm_grow(&p, &l->tagged_cap, l->n_tagged + 1, sizeof *l->tagged));
    l->tagged = p;
    l->tagged[l->n_tagged++] = (tagged){l->word[w].lower, (uint32_t)(sense - 1), (uint32_t)count, pos};
    return FM_OK;
}

/* Words of the group begun last: each is found by all others. */
static fm_status close_group(fm_lexicon *l) {
    size_t g = l->n_groups - 1, from = l->group[g];
    if (l->n_members - from < 2) { /* a word alone stands for nothing */
        l->n_members = from;
        l->n_groups--;
        return FM_OK;
    }
    for (size_t i = from; i < l->n_members; i++) {
        FM_TRY(add_use(l, l->member[i], 0, (uint32_t)g, '\0'));
    }
    return FM_OK;
}

static fm_status add_good_member(fm_lexicon *l, fm_sv f) {
    if (f.len == 0 || f.len > MAX_WORD_BYTES || !fm_utf8_valid(f.ptr, f.len) || memchr(f.ptr, '\0', f.len)) {
        return FM_OK; /* lists that people made by hand have such */
    }
    return add_member(l, f);
}

static fm_status table_line(fm_lexicon *l, fm_sv line) {
    const char *p = line.ptr, *end = p + line.len;
    for (int i = 0; i < 3; i++) {
        p = p < end ? memchr(p, '\t', (size_t)(end - p)) : NULL;
        if (!p) {
            FM_FAIL(FM_ERR_FORMAT, "expected four columns: id, part of speech, file, words");
        }
        p++;
    }
    FM_TRY(begin_group(l));
    while (p < end) {
        const char *e = memchr(p, '|', (size_t)(end - p));
        e = e ? e : end;
        FM_TRY(add_good_member(l, (fm_sv){p, (size_t)(e - p)}));
        p = e + 1;
    }
    return close_group(l);
}

/* Latin letters alone: the sound of the characters that follow. */
static bool is_sound(fm_sv f) {
    for (size_t i = 0; i < f.len; i++) {
        unsigned char c = (unsigned char)(f.ptr[i] | 0x20);
        if (c < 'a' || c > 'z') {
            return false;
        }
    }
    return f.len > 0;
}

static fm_status groups_line(fm_lexicon *l, fm_sv line) {
    fm_sv rest = line, first = field(&rest), after = rest;
    if (first.len == 0 || *first.ptr == '#') {
        return FM_OK;
    }
    char mark = first.len > 1 ? first.ptr[first.len - 1] : '\0';
    bool code = first.len == 8 && (mark == '=' || mark == '#' || mark == '@');
    if (code && mark != '=') {
        return FM_OK;
    }
    fm_sv second = field(&after);
    bool heading = code || (is_sound(first) && second.len && (unsigned char)*second.ptr >= 0x80);
    FM_TRY(begin_group(l));
    if (!heading) {
        FM_TRY(add_good_member(l, first));
    }
    for (fm_sv f = field(&rest); f.len; f = field(&rest)) {
        FM_TRY(add_good_member(l, f));
    }
    return close_group(l);
}

fm_status fm_lexicon_line(fm_lexicon *l, fm_lexicon_kind kind, fm_sv line) {
    switch (kind) {
    case FM_LEXICON_DATA:
        return data_line(l, line);
    case FM_LEXICON_INDEX:
        return index_line(l, line);
    case FM_LEXICON_COUNTS:
        return counts_line(l, line);
    case FM_LEXICON_TABLE:
        return table_line(l, line);
    default:
        return groups_line(l, line);
    }
}

/* ---- files ------------------------------------------------------------------------------------ */

static fm_status add_file(fm_lexicon *l, const char *path, fm_lexicon_kind kind, bool guess) {
    fm_lines *in = NULL;
    fm_line line = {0};
    bool more = false;
    FM_TRY(fm_lines_open(&in, path, 1 << 20));
    fm_status s;
    while ((s = fm_lines_next(in, &line, &more)) == FM_OK && more) {
        if (line.too_long) {
            s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "the line is longer than 1 MiB");
        }
        if (s == FM_OK && guess && line.len) {
            int tabs = 0;
            bool bar = memchr(line.ptr, '|', line.len) != NULL;
            for (size_t i = 0; i < line.len; i++) {
                tabs += line.ptr[i] == '\t';
            }
            kind = tabs == 3 && bar ? FM_LEXICON_TABLE : FM_LEXICON_GROUPS;
            guess = false;
        }
        s = s == FM_OK ? fm_lexicon_line(l, kind, (fm_sv){line.ptr, line.len}) : s;
        if (s != FM_OK) {
            fm_error_context("%s:%lld", path, (long long)line.number);
            break;
        }
    }
    fm_lines_close(in);
    return s;
}

fm_status fm_lexicon_add(fm_lexicon *l, const char *path) {
    static const char *const pos[] = {"noun", "verb", "adj", "adv"};
    char name[4096];
    int found = 0;
    if (!fm_path_is_dir(path)) {
        return add_file(l, path, FM_LEXICON_GROUPS, true);
    }
    /* Offsets are those of this dictionary: another folder has its own. */
    l->n_synsets = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(pos); i++) {
        char file[16];
        static const char *const what[] = {"data", "index"};
        for (int k = 0; k < 2; k++) {
            (void)snprintf(file, sizeof file, "%s.%s", what[k], pos[i]);
            FM_TRY(fm_path_join(name, sizeof name, path, file));
            if (fm_path_exists(name)) {
                FM_TRY(add_file(l, name, k ? FM_LEXICON_INDEX : FM_LEXICON_DATA, false));
                found++;
            }
        }
    }
    FM_TRY(fm_path_join(name, sizeof name, path, "cntlist.rev"));
    if (fm_path_exists(name)) {
        FM_TRY(add_file(l, name, FM_LEXICON_COUNTS, false));
    }
    if (found < 2) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "'%s' has no dictionary of WordNet", path);
        return fm_error_hint("expected data.noun, index.noun and so on (Debian, Ubuntu: apt-get install wordnet-base "
                             "brings them to /usr/share/wordnet)");
    }
    return FM_OK;
}

static int by_word(const void *a, const void *b) {
    const use *x = a, *y = b;
    if (x->word != y->word) {
        return x->word < y->word ? -1 : 1;
    }
    return x->group != y->group ? (x->group < y->group ? -1 : 1) : (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_meaning(const void *a, const void *b) {
    const tagged *x = a, *y = b;
    if (x->word != y->word) {
        return x->word < y->word ? -1 : 1;
    }
    return x->pos != y->pos ? (x->pos < y->pos ? -1 : 1) : (x->rank > y->rank) - (x->rank < y->rank);
}

/* The most frequent meaning first, whatever its part of speech; without counts the first of each, nouns first. */
static int by_count(const void *a, const void *b) {
    const tagged *x = a, *y = b;
    static const char order[] = "nvar";
    if (x->count != y->count) {
        return x->count > y->count ? -1 : 1;
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return (int)(strchr(order, x->pos) - strchr(order, y->pos));
}

#define MOST_MEANINGS 256 /* of one word: WordNet's most have 75 */

/* Ranks within parts of speech become ranks of the word. */
static void rank_meanings(fm_lexicon *l, use *first, size_t n) {
    tagged m[MOST_MEANINGS];
    size_t at[MOST_MEANINGS], k = 0;
    for (size_t i = 0; i < n && k < MOST_MEANINGS; i++) {
        if (first[i].pos) {
            tagged key = {.word = first[i].word, .rank = first[i].rank, .pos = first[i].pos};
            const tagged *t = l->n_tagged ? bsearch(&key, l->tagged, l->n_tagged, sizeof key, by_meaning) : NULL;
            key.count = t ? t->count : 0;
            at[k] = i;
            m[k++] = key;
        }
    }
    for (size_t i = 0; i < k; i++) {
        uint32_t rank = 0;
        for (size_t j = 0; j < k; j++) {
            rank += by_count(&m[j], &m[i]) < 0;
        }
        first[at[i]].rank = rank;
    }
}

fm_status fm_lexicon_finish(fm_lexicon *l) {
    if (l->n_tagged) {
        qsort(l->tagged, l->n_tagged, sizeof *l->tagged, by_meaning);
    }
    if (l->n_uses) {
        qsort(l->use, l->n_uses, sizeof *l->use, by_word);
    }
    size_t at = 0;
    for (size_t i = 0; i < l->n_uses; i++) { /* a member that a group names twice counts once */
        bool again = at && l->use[at - 1].word == l->use[i].word && l->use[at - 1].group == l->use[i].group;
        if (!again) {
            l->use[at++] = l->use[i];
        }
    }
    l->n_uses = at;
    at = 0;
    for (uint32_t w = 0; w < l->n_words; w++) {
        while (at < l->n_uses && l->use[at].word < w) {
            at++;
        }
        l->word[w].first = (uint32_t)at;
        size_t end = at;
        while (end < l->n_uses && l->use[end].word == w) {
            end++;
        }
        if (end > at) {
            rank_meanings(l, l->use + at, end - at);
        }
    }
    fm_free(l->tagged);
    l->tagged = NULL;
    l->n_tagged = l->tagged_cap = 0;
    fm_free(l->synset);
    l->synset = NULL;
    l->n_synsets = l->synsets_cap = 0;
    return FM_OK;
}

/* ---- questions -------------------------------------------------------------------------------- */

/* The i-th other word; *n counts them. */
static fm_sv walk(const fm_lexicon *l, fm_sv text, const fm_lexicon_choice *c, size_t want, size_t *n) {
    uint32_t w = find(l, text);
    *n = 0;
    for (size_t u = w == NONE ? l->n_uses : l->word[w].first; u < l->n_uses && l->use[u].word == w; u++) {
        if (c->senses && l->use[u].rank >= c->senses) {
            continue;
        }
        size_t from = l->group[l->use[u].group], end = group_end(l, l->use[u].group);
        end = c->members ? FM_MIN(end, from + c->members) : end;
        for (size_t m = from; m < end; m++) {
            if (l->word[l->member[m]].lower == w) {
                continue;
            }
            if ((*n)++ == want) {
                return text_of(l, l->member[m]);
            }
        }
    }
    return (fm_sv){NULL, 0};
}

size_t fm_lexicon_count(const fm_lexicon *l, fm_sv word, const fm_lexicon_choice *c) {
    size_t n;
    (void)walk(l, word, c, SIZE_MAX, &n);
    return n;
}

fm_sv fm_lexicon_at(const fm_lexicon *l, fm_sv word, const fm_lexicon_choice *c, size_t i) {
    size_t n;
    return walk(l, word, c, i, &n);
}

bool fm_lexicon_has(const fm_lexicon *l, fm_sv word) {
    return find(l, word) != NONE;
}

size_t fm_lexicon_longest(const fm_lexicon *l, fm_sv text) {
    size_t best = 0;
    for (size_t n = 0; n < text.len && n < l->longest;) {
        uint32_t cp;
        int k = fm_utf8_decode(&cp, text.ptr + n, text.ptr + text.len);
        if (k == 0) {
            break;
        }
        n += (size_t)k;
        best = find(l, (fm_sv){text.ptr, n}) != NONE ? n : best;
    }
    return best;
}
