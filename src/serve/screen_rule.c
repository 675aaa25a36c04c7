/* Rules of the content filter. The only file of this folder that knows PCRE2. */
#include "serve/screen_rule.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/pii.h"

/* A pattern that goes wild costs milliseconds, then counts as found: who writes such a text means it. */
#define MATCH_LIMIT 1000000
#define LONGEST_ID  320 /* bytes of an address or number without a space in it */
#define LONGEST_NUM 320 /* bytes of a number in groups, and of what is glued to it */

struct fm_screen_pattern {
    pcre2_code *code;
};

/* ---- words ----------------------------------------------------------------------------------- */

static void put_code_point(fm_str *out, uint32_t cp) {
    bool plain = (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || (cp >= '0' && cp <= '9') || cp >= 0x80;
    char utf8[4];
    if (plain) {
        fm_str_append(out, utf8, (size_t)fm_utf8_encode(utf8, cp));
    } else {
        fm_str_printf(out, "\\x{%x}", (unsigned)cp);
    }
}

/* word[from..to), which are sorted and share their first `depth` bytes, as one pattern that goes by their letters. */
static void put_branch(fm_str *out, char **word, size_t from, size_t to, size_t depth) {
    bool ends = false, first = true;
    while (from < to && !word[from][depth]) {
        ends = true; /* a longer word behind it is tried first, then this one */
        from++;
    }
    if (from == to) {
        return;
    }
    fm_str_puts(out, "(?:");
    while (from < to) {
        uint32_t cp = 0;
        const char *p = word[from] + depth;
        int len = fm_utf8_decode(&cp, p, p + strlen(p));
        size_t next = from + 1;
        while (next < to && strncmp(word[next] + depth, p, (size_t)len) == 0) {
            next++;
        }
        fm_str_puts(out, first ? "" : "|");
        first = false;
        put_code_point(out, cp);
        put_branch(out, word, from, next, depth + (size_t)len);
        from = next;
    }
    fm_str_puts(out, ends ? ")?" : ")");
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Letters of scripts that write words without spaces between them. */
static bool is_unspaced(const char *word) {
    uint32_t cp = 0;
    (void)fm_utf8_decode(&cp, word, word + strlen(word));
    return cp >= 0x2e80 && !(cp >= 0xac00 && cp <= 0xd7ff);
}

fm_status fm_screen_words_pattern(fm_str *out, char **word, size_t n) {
    char **sorted = fm_malloc((n + 1) * sizeof *sorted);
    if (!sorted) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu words", n);
    }
    const char *join = "";
    for (int unspaced = 0; unspaced < 2; unspaced++) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++) {
            if (word[i][0] && is_unspaced(word[i]) == (unspaced == 1)) {
                sorted[m++] = word[i];
            }
        }
        if (m == 0) {
            continue;
        }
        qsort(sorted, m, sizeof *sorted, by_bytes);
        fm_str_puts(out, join);
        fm_str_puts(out, unspaced ? "" : "(?<![\\p{L}\\p{N}_])");
        put_branch(out, sorted, 0, m, 0);
        fm_str_puts(out, unspaced ? "" : "(?![\\p{L}\\p{N}_])");
        join = "|";
    }
    fm_free(sorted);
    return fm_str_check(out);
}

static fm_status compile(struct fm_screen_pattern **out, const char *text, size_t n, uint32_t more, const char *name) {
    int code;
    PCRE2_SIZE at;
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a pattern");
    }
    (*out)->code =
        pcre2_compile((PCRE2_SPTR)text, n, PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | more, &code, &at, NULL);
    if (!(*out)->code) {
        char why[160];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        FM_FAIL(FM_ERR_CONFIG, "%s: regex: %s (at position %zu)", name, why, (size_t)at + 1);
    }
    (void)pcre2_jit_compile((*out)->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    return FM_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static const char *text_of(const fm_yaml *y) {
    return y && y->kind == FM_YAML_SCALAR ? y->text : NULL;
}

/* A path of the file, seen from its folder. */
static fm_status beside(char path[4096], const char *folder, const char *file) {
    int n = *file == '/' || !*folder ? snprintf(path, 4096, "%s", file) : snprintf(path, 4096, "%s/%s", folder, file);
    return n > 0 && n < 4096 ? FM_OK : fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "the path %s is too long", file);
}

typedef struct word_list {
    char **item;
    size_t n, cap;
} word_list;

static fm_status add_word(word_list *w, const char *text, size_t n, const char *name) {
    while (n > 0 && (unsigned char)text[n - 1] <= ' ') {
        n--;
    }
    while (n > 0 && (unsigned char)*text <= ' ') {
        text++;
        n--;
    }
    if (n == 0) {
        return FM_OK;
    }
    if (n > 256 || memchr(text, 0, n) || !fm_utf8_valid(text, n)) {
        FM_FAIL(FM_ERR_CONFIG, "%s: words: expected UTF-8 of at most 256 bytes each", name);
    }
    FM_TRY(fm_grow((void **)&w->item, &w->cap, w->n + 1, sizeof *w->item));
    w->item[w->n] = fm_strndup(text, n);
    if (!w->item[w->n]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a word");
    }
    w->n++;
    return FM_OK;
}

static fm_status add_words(word_list *w, const fm_yaml *y, const char *folder, const char *name) {
    const fm_yaml *list = fm_yaml_get(y, "words"), *file = fm_yaml_get(y, "words_file");
    for (size_t i = 0; list && i < list->n; i++) {
        const char *word = text_of(list->child[i]);
        FM_TRY(add_word(w, word ? word : "", word ? strlen(word) : 0, name));
    }
    if (text_of(list)) {
        FM_TRY(add_word(w, list->text, strlen(list->text), name));
    }
    if (text_of(file)) {
        char path[4096], *data = NULL;
        size_t n = 0;
        FM_TRY(beside(path, folder, file->text));
        FM_TRY(fm_file_read(&data, &n, path, (size_t)64 << 20));
        fm_status st = FM_OK;
        for (char *p = data, *end = data + n; p < end && st == FM_OK;) {
            char *e = memchr(p, '\n', (size_t)(end - p));
            st = add_word(w, p, (size_t)((e ? e : end) - p), name);
            p = e ? e + 1 : end;
        }
        fm_free(data);
        return st;
    }
    return FM_OK;
}

static fm_status read_words(fm_screen_rule *r, const fm_yaml *y, const char *folder) {
    word_list w = {0};
    fm_str pattern = {0};
    fm_status st = add_words(&w, y, folder, r->name);
    if (st == FM_OK && w.n > 0) {
        st = fm_screen_words_pattern(&pattern, w.item, w.n);
        st = st == FM_OK ? compile(&r->pattern[0], pattern.data, pattern.len, PCRE2_CASELESS, r->name) : st;
    }
    fm_str_free(&pattern);
    for (size_t i = 0; i < w.n; i++) {
        fm_free(w.item[i]);
    }
    fm_free(w.item);
    return st;
}

static fm_status add_kind(fm_screen_rule *r, const char *kind) {
    unsigned every = ((1U << FM_PII_COUNT) - 1) & ~(1U << FM_PII_NAME);
    if (kind && strcmp(kind, "all") == 0) {
        r->pii |= every;
        return FM_OK;
    }
    for (int k = 0; kind && k < FM_PII_COUNT; k++) {
        if (k != FM_PII_NAME && strcmp(fm_pii_name((fm_pii_kind)k), kind) == 0) {
            r->pii |= 1U << k;
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_CONFIG,
            "%s: privacy: expected all, email, card, phone, id-cn, iban, ip, ssn or url-credentials, found \"%s\" "
            "(names are words)",
            r->name, kind ? kind : "");
}

static fm_status read_privacy(fm_screen_rule *r, const fm_yaml *y) {
    const fm_yaml *list = fm_yaml_get(y, "privacy");
    if (text_of(list)) {
        return add_kind(r, list->text);
    }
    for (size_t i = 0; list && i < list->n; i++) {
        FM_TRY(add_kind(r, text_of(list->child[i])));
    }
    return FM_OK;
}

static fm_status find_label(fm_screen_rule *r, const char *label, int n) {
    int64_t number = -1;
    for (int i = 0; label && i < n; i++) {
        const char *name = fm_model_label(r->model, 0, i);
        if (name && strcmp(name, label) == 0) {
            r->label = i;
            return FM_OK;
        }
    }
    if (label && fm_parse_i64(&number, label) == FM_OK && number >= 0 && number < n) {
        r->label = (int)number;
        return FM_OK;
    }
    FM_FAIL(FM_ERR_CONFIG, "%s: label: expected one of the model's %d labels or its number, found \"%s\"", r->name, n,
            label ? label : "");
}

static fm_status read_model(fm_screen_rule *r, const fm_yaml *y, const char *folder) {
    const char *model = text_of(fm_yaml_get(y, "model")), *threshold = text_of(fm_yaml_get(y, "threshold"));
    char path[4096];
    fm_head_info h = {0};
    if (!model) {
        return FM_OK;
    }
    FM_TRY(beside(path, folder, model));
    fm_model_options mo = {.size = sizeof mo};
    FM_TRY(fm_model_open(&r->model, path, &mo));
    FM_TRY(fm_model_tokenizer(&r->tok, r->model));
    FM_TRY(fm_model_head_info(&h, r->model, 0));
    if (h.per_token || h.n_outputs < 1 || strcmp(h.kind, "lm") == 0 || strcmp(h.problem, "regression") == 0) {
        FM_FAIL(FM_ERR_CONFIG, "%s: model: expected one that gives texts labels", r->name);
    }
    FM_TRY(find_label(r, text_of(fm_yaml_get(y, "label")), h.n_outputs));
    r->threshold = 0.5;
    if (threshold && (fm_parse_f64(&r->threshold, threshold) != FM_OK || !(r->threshold > 0 && r->threshold <= 1))) {
        FM_FAIL(FM_ERR_CONFIG, "%s: threshold: expected a number above 0, at most 1", r->name);
    }
    return FM_OK;
}

static fm_status read_choice(int *out, const fm_screen_rule *r, const fm_yaml *y, const char *key, const char *a,
                             const char *b, const char *c) {
    const char *text = text_of(fm_yaml_get(y, key));
    const char *const names[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        if (text && strcmp(text, names[i]) == 0) {
            *out = i;
            return FM_OK;
        }
    }
    if (!fm_yaml_get(y, key)) {
        return FM_OK;
    }
    FM_FAIL(FM_ERR_CONFIG, "%s: %s: expected %s, %s or %s", r->name, key, a, b, c);
}

static fm_status check_keys(const fm_yaml *y, const char *name) {
    static const char *const keys[] = {"name",  "words",     "words_file", "regex",  "privacy", "model",
                                       "label", "threshold", "on",         "action", "mask"};
    for (size_t i = 0; i < y->n; i++) {
        bool known = false;
        for (size_t k = 0; k < FM_ARRAY_LEN(keys); k++) {
            known = known || strcmp(y->child[i]->key, keys[k]) == 0;
        }
        if (!known) {
            int near = fm_nearest_name(y->child[i]->key, keys, (int)FM_ARRAY_LEN(keys));
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: a rule has no key \"%s\"", name,
                               y->child[i]->line, y->child[i]->key);
            return near >= 0 ? fm_error_hint("did you mean %s?", keys[near]) : FM_ERR_CONFIG;
        }
    }
    return FM_OK;
}

fm_status fm_screen_rule_init(fm_screen_rule *r, const fm_yaml *y, const char *folder, const char *name) {
    int action = FM_SCREEN_BLOCK, on = 2;
    if (y->kind != FM_YAML_MAP) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected a rule with a name", name, y->line);
    }
    FM_TRY(check_keys(y, name));
    const char *called = text_of(fm_yaml_get(y, "name")), *mask = text_of(fm_yaml_get(y, "mask"));
    const char *regex = text_of(fm_yaml_get(y, "regex"));
    if (!called || !*called) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: the rule has no name", name, y->line);
    }
    snprintf(r->name, sizeof r->name, "%s", called);
    snprintf(r->mask, sizeof r->mask, "%s", mask ? mask : "[removed]");
    FM_TRY(read_choice(&action, r, y, "action", "block", "mask", "flag"));
    FM_TRY(read_choice(&on, r, y, "on", "input", "output", "both"));
    r->action = (fm_screen_action)action;
    r->input = on != 1;
    r->output = on != 0;
    FM_TRY(read_words(r, y, folder));
    FM_TRY(regex ? compile(&r->pattern[1], regex, strlen(regex), 0, r->name) : FM_OK);
    FM_TRY(read_privacy(r, y));
    FM_TRY(read_model(r, y, folder));
    if (!r->pattern[0] && !r->pattern[1] && !r->pii && !r->model) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: the rule \"%s\" has no words, regex, privacy or model", name, y->line, r->name);
    }
    return FM_OK;
}

void fm_screen_rule_free(fm_screen_rule *r) {
    for (int i = 0; i < 2; i++) {
        if (r->pattern[i]) {
            pcre2_code_free(r->pattern[i]->code);
            fm_free(r->pattern[i]);
        }
    }
    fm_model_close(r->model);
}

/* ---- finding --------------------------------------------------------------------------------- */

static fm_status add_span(fm_screen_spans *out, fm_screen_rule *r, size_t at, size_t end) {
    FM_TRY(fm_grow((void **)&out->item, &out->cap, out->n + 1, sizeof *out->item));
    out->item[out->n++] = (fm_screen_span){.at = at, .end = end, .rule = r};
    return FM_OK;
}

static fm_status run_pattern(fm_screen_spans *out, fm_screen_rule *r, const pcre2_code *code, fm_text text, bool last,
                             size_t *hold) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    fm_status st = FM_OK;
    if (!match || !limits) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a match");
    } else {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
    }
    for (size_t at = 0; st == FM_OK && at <= text.len;) {
        int rc = pcre2_match(code, (PCRE2_SPTR)text.ptr, text.len, at, last ? 0 : PCRE2_PARTIAL_HARD, match, limits);
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(match);
        if (rc == PCRE2_ERROR_PARTIAL) {
            *hold = FM_MIN(*hold, place[0]);
            break;
        }
        if (rc == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (rc < 0) { /* a limit: taken as found */
            st = add_span(out, r, at, text.len);
            break;
        }
        if (place[1] > place[0]) {
            st = add_span(out, r, place[0], place[1]);
        }
        at = place[1] > at ? place[1] : at + 1;
        while (at < text.len && ((unsigned char)text.ptr[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    return st;
}

static bool is_numeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c && strchr("()+-./", c));
}

/* Where the end of text may be the beginning of an address or number: its last piece without a space, and the groups
 * of digits and capitals before it, up to one that has something else before its own. */
static size_t unfinished(const char *text, size_t n) {
    size_t at = n;
    while (at > 0 && n - at < LONGEST_ID && (unsigned char)text[at - 1] > ' ') {
        at--;
    }
    bool group = true;
    while (group && at > 1 && n - at < LONGEST_NUM && text[at - 1] == ' ' && is_numeric(text[at - 2])) {
        for (at--; at > 0 && text[at - 1] != ' '; at--) {
            group = group && is_numeric(text[at - 1]);
        }
    }
    return at;
}

static fm_status run_pii(fm_screen_spans *out, fm_screen_rule *r, fm_text text, bool last, size_t *hold) {
    fm_pii_spans found = {0};
    fm_status st = fm_pii_find(&found, (fm_sv){text.ptr, text.len}, r->pii, NULL, false);
    for (size_t i = 0; i < found.n && st == FM_OK; i++) {
        st = add_span(out, r, found.item[i].at, found.item[i].at + found.item[i].len);
    }
    fm_pii_spans_free(&found);
    if (!last) {
        *hold = FM_MIN(*hold, unfinished(text.ptr, text.len));
    }
    return st;
}

fm_status fm_screen_rule_find(fm_screen_spans *out, fm_screen_rule *r, const char *text, size_t n, bool last,
                              size_t *hold) {
    fm_text t = {text, n};
    for (int i = 0; i < 2; i++) {
        if (r->pattern[i]) {
            FM_TRY(run_pattern(out, r, r->pattern[i]->code, t, last, hold));
        }
    }
    return r->pii ? run_pii(out, r, t, last, hold) : FM_OK;
}

/* ---- classifiers ----------------------------------------------------------------------------- */

static double probability(const float *y, int n, int label, bool multi) {
    double sum = 0;
    for (int i = 0; i < n && !multi; i++) {
        sum += exp((double)y[i] - (double)y[label]);
    }
    return multi ? 1 / (1 + exp(-(double)y[label])) : 1 / sum;
}

/* The ids in windows of what the model reads at once; one that has the label is enough. */
static fm_status judge_ids(bool *found, const fm_screen_rule *r, const fm_tokens *ids, int64_t window,
                           const fm_head_info *h) {
    float *y = fm_malloc((size_t)h->n_outputs * sizeof *y);
    fm_status st = FM_OK;
    if (!y) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for scores");
    }
    for (size_t at = 0; at < ids->n && st == FM_OK && !*found; at += (size_t)window) {
        int32_t offsets[2] = {0, (int32_t)FM_MIN(ids->n - at, (size_t)window)};
        fm_texts t = {.size = sizeof t, .ids = ids->ids + at, .offsets = offsets, .n = 1};
        st = fm_model_scores(r->model, 0, &t, y);
        *found =
            st == FM_OK && probability(y, h->n_outputs, r->label, strcmp(h->problem, "multi") == 0) >= r->threshold;
    }
    fm_free(y);
    return st;
}

fm_status fm_screen_rule_judge(bool *found, const fm_screen_rule *r, const char *text, size_t n) {
    fm_model_info info = {0};
    fm_head_info h = {0};
    fm_tokens ids = {0};
    fm_encode_options o = {.size = sizeof o, .add_special = true, .n_threads = 1};
    *found = false;
    FM_TRY(fm_model_get_info(&info, r->model));
    FM_TRY(fm_model_head_info(&h, r->model, 0));
    fm_status st = fm_tokenizer_encode(&ids, r->tok, text, n, &o);
    st = st == FM_OK ? judge_ids(found, r, &ids, FM_MAX(info.max_position, 1), &h) : st;
    fm_tokens_free(&ids);
    return st;
}
