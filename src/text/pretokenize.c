/* Pre-tokenizers of tokenizer.json: one row of `kinds` each. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/pipe.h"
#include "text/script.h"
#include "text/unicode.h"

typedef struct pre_kind pre_kind;

typedef enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
static const char *const behavior_names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                             "Contiguous"};

typedef enum prefix_scheme { ALWAYS, NEVER, FIRST } prefix_scheme;

struct fm_pre_step {
    const pre_kind *kind;
    behavior how;
    bool invert;       /* Split */
    bool prefix_space; /* ByteLevel: a blank before each piece that has none */
    bool use_regex;    /* ByteLevel */
    bool keep_bytes;   /* ByteLevel: bytes stay bytes */
    bool split;        /* Metaspace */
    prefix_scheme scheme;
    fm_pattern pattern;  /* Split */
    fm_split_kind known; /* a run of Splits that together are a known one; FM_SPLIT_COUNT for none */
    fm_str text;         /* Metaspace: the replacement; CharDelimiterSplit: the delimiter */
    size_t length;       /* FixedLength, characters */
};

struct pre_kind {
    const char *name;
    fm_status (*load)(fm_pre_step *s, const fm_json *o, const char *name);
    fm_status (*run)(const fm_pre_step *s, fm_pre_work *w);
};

/* ---- pieces ---- */

static fm_status put(fm_pieces *a, const uint8_t *p, size_t n, bool at_zero) {
    if (n == 0) {
        return FM_OK;
    }
    if (a->n == a->cap) {
        void *q = a->item;
        FM_TRY(fm_grow(&q, &a->cap, a->n + 1, sizeof(*a->item)));
        a->item = q;
    }
    a->item[a->n++] = (fm_piece){p, n, at_zero};
    return FM_OK;
}

static fm_status put_part(fm_pre_work *w, const fm_piece *of, size_t off, size_t len) {
    return put(&w->next, of->p + off, len, of->at_zero && off == 0);
}

/* Turns the spans of a piece into pieces. The library's fold: a match joins its neighbour only when the span before it
 * in that direction was none. */
static fm_status put_spans(fm_pre_work *w, const fm_piece *of, behavior how, bool invert) {
    fm_span *a = w->spans.item;
    size_t n = w->spans.n;
    bool before = false;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        a[i].match ^= invert;
    }
    switch (how) {
    case REMOVED:
        for (size_t i = 0; i < n; i++) {
            FM_TRY(a[i].match ? FM_OK : put_part(w, of, a[i].off, a[i].len));
        }
        return FM_OK;
    case MERGED_WITH_NEXT:
        for (size_t i = n; i-- > 0;) { /* kept spans gather at the end */
            if (a[i].match && !before && k) {
                a[n - k].len += a[n - k].off - a[i].off;
                a[n - k].off = a[i].off;
                before = true;
                continue;
            }
            before = a[i].match;
            a[n - ++k] = a[i];
        }
        for (size_t i = n - k; i < n; i++) {
            FM_TRY(put_part(w, of, a[i].off, a[i].len));
        }
        return FM_OK;
    case ISOLATED:
    case MERGED_WITH_PREVIOUS:
    case CONTIGUOUS:
    default:
        for (size_t i = 0; i < n; i++) {
            bool join = how == CONTIGUOUS ? a[i].match == before : how == MERGED_WITH_PREVIOUS && a[i].match && !before;
            before = a[i].match;
            if (join && k) {
                a[k - 1].len += a[i].len;
            } else {
                a[k++] = a[i];
            }
        }
        for (size_t i = 0; i < k; i++) {
            FM_TRY(put_part(w, of, a[i].off, a[i].len));
        }
        return FM_OK;
    }
}

/* Splits at each character of a class. */
static fm_status split_class(const fm_pre_step *s, fm_pre_work *w, bool (*in)(uint32_t cp)) {
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        const uint8_t *end = a->p + a->n, *from = a->p;
        w->spans.n = 0;
        for (const uint8_t *p = a->p; p < end;) {
            uint32_t cp;
            unsigned n = fm_uni_next(&cp, p, end);
            if (in(cp)) {
                if (p > from) {
                    FM_TRY(fm_spans_put(&w->spans, (size_t)(from - a->p), (size_t)(p - from), false));
                }
                FM_TRY(fm_spans_put(&w->spans, (size_t)(p - a->p), n, true));
                from = p + n;
            }
            p += n;
        }
        if (end > from) {
            FM_TRY(fm_spans_put(&w->spans, (size_t)(from - a->p), (size_t)(end - from), false));
        }
        FM_TRY(put_spans(w, a, s->how, false));
    }
    return FM_OK;
}

static bool is_space(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_Z;
}

static bool is_number(uint32_t cp) {
    return fm_uni_class(cp) & FM_UNI_N;
}

/* ---- Split ---- */

static fm_status load_behavior(fm_pre_step *s, const fm_json *o, const char *name) {
    const char *text = fm_json_str(fm_json_get(o, "behavior"), NULL);
    for (size_t i = 0; text && i < FM_ARRAY_LEN(behavior_names); i++) {
        if (!strcmp(text, behavior_names[i])) {
            s->how = (behavior)i;
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: pre_tokenizer \"%s\" has behavior \"%.80s\", which is not supported", name,
            fm_part_type(o), text ? text : "");
}

static fm_status load_split(fm_pre_step *s, const fm_json *o, const char *name) {
    FM_TRY(load_behavior(s, o, name));
    s->invert = fm_json_bool(fm_json_get(o, "invert"), false);
    return fm_pattern_load(&s->pattern, fm_json_get(o, "pattern"), name);
}

static fm_status put_known(fm_pre_work *w, fm_split_kind kind, const fm_piece *a) {
    fm_splitter f;
    const uint8_t *piece;
    fm_splitter_init(&f, kind, a->p, a->n);
    for (size_t n; (n = fm_splitter_next(&f, &piece)) != 0;) {
        FM_TRY(put_part(w, a, (size_t)(piece - a->p), n));
    }
    return FM_OK;
}

static fm_status run_split(const fm_pre_step *s, fm_pre_work *w) {
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        if (s->known != FM_SPLIT_COUNT) {
            FM_TRY(put_known(w, s->known, a));
            continue;
        }
        w->spans.n = 0;
        FM_TRY(fm_pattern_spans(&w->spans, &s->pattern, a->p, a->n));
        FM_TRY(put_spans(w, a, s->how, s->invert));
    }
    return FM_OK;
}

/* ---- classes of characters ---- */

static fm_status run_whitespace_split(const fm_pre_step *s, fm_pre_work *w) {
    return split_class(s, w, is_space);
}

static fm_status load_digits(fm_pre_step *s, const fm_json *o, const char *name) {
    FM_UNUSED(name);
    s->how = fm_json_bool(fm_json_get(o, "individual_digits"), false) ? ISOLATED : CONTIGUOUS;
    return FM_OK;
}

static fm_status run_digits(const fm_pre_step *s, fm_pre_work *w) {
    return split_class(s, w, is_number);
}

static fm_status load_punctuation(fm_pre_step *s, const fm_json *o, const char *name) {
    s->how = ISOLATED;
    return fm_json_get(o, "behavior") ? load_behavior(s, o, name) : FM_OK;
}

static fm_status run_punctuation(const fm_pre_step *s, fm_pre_work *w) {
    return split_class(s, w, fm_is_bert_punctuation);
}

/* Kinds of characters that runs are made of: 0 = dropped, negative = each alone. */
static fm_status split_runs(fm_pre_work *w, int (*kind)(uint32_t cp)) {
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        const uint8_t *end = a->p + a->n, *from = a->p;
        int last = 0;
        for (const uint8_t *p = a->p; p < end;) {
            uint32_t cp;
            unsigned n = fm_uni_next(&cp, p, end);
            int k = kind(cp);
            if (k != last || k < 0) {
                if (last) {
                    FM_TRY(put_part(w, a, (size_t)(from - a->p), (size_t)(p - from)));
                }
                from = p;
                last = k;
            }
            p += n;
        }
        if (last) {
            FM_TRY(put_part(w, a, (size_t)(from - a->p), (size_t)(end - from)));
        }
    }
    return FM_OK;
}

/* \w+|[^\w\s]+ */
static int whitespace_kind(uint32_t cp) {
    unsigned c = fm_uni_class(cp);
    return c & FM_UNI_W ? 1 : c & FM_UNI_Z ? 0 : 2;
}

static fm_status run_whitespace(const fm_pre_step *s, fm_pre_work *w) {
    FM_UNUSED(s);
    return split_runs(w, whitespace_kind);
}

static int bert_kind(uint32_t cp) {
    return is_space(cp) ? 0 : fm_is_bert_punctuation(cp) ? -1 : 1;
}

static fm_status run_bert(const fm_pre_step *s, fm_pre_work *w) {
    FM_UNUSED(s);
    return split_runs(w, bert_kind);
}

/* ---- the rest ---- */

static fm_status load_delimiter(fm_pre_step *s, const fm_json *o, const char *name) {
    size_t n;
    const char *text = fm_json_str(fm_json_get(o, "delimiter"), &n);
    uint32_t cp;
    if (!text || n == 0 || fm_utf8_decode(&cp, text, text + n) != (int)n) {
        FM_FAIL(FM_ERR_FORMAT, "%s: pre_tokenizer \"CharDelimiterSplit\" has no delimiter of one character", name);
    }
    s->how = REMOVED;
    fm_str_append(&s->pattern.literal, text, n);
    return fm_text_end(&s->pattern.literal);
}

static fm_status load_fixed(fm_pre_step *s, const fm_json *o, const char *name) {
    int64_t n = fm_json_int(fm_json_get(o, "length"), 5);
    if (n < 1) {
        FM_FAIL(FM_ERR_FORMAT, "%s: pre_tokenizer \"FixedLength\" has length %lld", name, (long long)n);
    }
    s->length = (size_t)n;
    return FM_OK;
}

static fm_status run_fixed(const fm_pre_step *s, fm_pre_work *w) {
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        size_t from = 0, count = 0;
        for (size_t at = 0; at < a->n;) {
            uint32_t cp;
            at += fm_uni_next(&cp, a->p + at, a->p + a->n);
            if (++count == s->length || at == a->n) {
                FM_TRY(put_part(w, a, from, at - from));
                from = at;
                count = 0;
            }
        }
    }
    return FM_OK;
}

/* Cut where the script changes; characters of any script stay with what precedes. What stands before the first
 * script is dropped, as the library does. */
static fm_status run_scripts(const fm_pre_step *s, fm_pre_work *w) {
    FM_UNUSED(s);
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        const uint8_t *end = a->p + a->n, *from = NULL;
        int last = -1;
        for (const uint8_t *p = a->p; p < end;) {
            uint32_t cp;
            unsigned n = fm_uni_next(&cp, p, end);
            int k = fm_script_of(cp);
            if (k != FM_SCRIPT_ANY && last != FM_SCRIPT_ANY && k != last) {
                if (from) {
                    FM_TRY(put_part(w, a, (size_t)(from - a->p), (size_t)(p - from)));
                }
                from = p;
            }
            last = k == FM_SCRIPT_ANY ? last : k;
            p += n;
        }
        if (from) {
            FM_TRY(put_part(w, a, (size_t)(from - a->p), (size_t)(end - from)));
        }
    }
    return FM_OK;
}

/* ---- stages that change characters: pieces are written one after another into a new text ---- */

static fm_status rebase(fm_pre_work *w, fm_str *text) {
    FM_TRY(fm_text_end(text));
    const uint8_t *at = (const uint8_t *)text->data;
    for (size_t i = 0; i < w->next.n; i++) {
        w->next.item[i].p = at;
        at += w->next.item[i].n;
    }
    return FM_OK;
}

static fm_str *new_text(fm_pre_work *w) {
    w->side ^= 1;
    fm_str_clear(&w->text[w->side]);
    return &w->text[w->side];
}

static fm_status load_metaspace(fm_pre_step *s, const fm_json *o, const char *name) {
    size_t n = 3;
    const char *text = fm_json_get(o, "replacement") ? fm_json_str(fm_json_get(o, "replacement"), &n) : "\xe2\x96\x81";
    const char *scheme = fm_json_str(fm_json_get(o, "prepend_scheme"), NULL);
    uint32_t cp;
    if (!text || n == 0 || fm_utf8_decode(&cp, text, text + n) != (int)n) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the replacement of \"Metaspace\" is not one character", name);
    }
    s->scheme = fm_json_bool(fm_json_get(o, "add_prefix_space"), true) ? ALWAYS : NEVER;
    if (scheme) {
        s->scheme = !strcmp(scheme, "always") ? ALWAYS : !strcmp(scheme, "first") ? FIRST : NEVER;
        if (s->scheme == NEVER && strcmp(scheme, "never") != 0) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: prepend_scheme \"%.40s\" is not supported", name, scheme);
        }
    }
    s->split = fm_json_bool(fm_json_get(o, "split"), true);
    fm_str_append(&s->text, text, n);
    return fm_text_end(&s->text);
}

static fm_status run_metaspace(const fm_pre_step *s, fm_pre_work *w) {
    fm_str *text = new_text(w);
    const char *mark = s->text.data;
    size_t k = s->text.len;
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        const uint8_t *end = a->p + a->n;
        bool marked = *a->p == ' ' || (a->n >= k && memcmp(a->p, mark, k) == 0);
        size_t from = text->len;
        bool at_zero = a->at_zero;
        if (!marked && (s->scheme == ALWAYS || (s->scheme == FIRST && a->at_zero))) {
            fm_str_append(text, mark, k);
        }
        for (const uint8_t *p = a->p; p < end;) {
            const uint8_t *q = p;
            while (q < end && *q != ' ' && *q != (uint8_t)mark[0]) {
                q++;
            }
            fm_str_append(text, (const char *)p, (size_t)(q - p));
            if (q == end) {
                break;
            }
            size_t step = *q == ' ' ? 1 : (size_t)(end - q) >= k && memcmp(q, mark, k) == 0 ? k : 0;
            if (step == 0) {
                fm_str_putc(text, (char)*q);
                p = q + 1;
                continue;
            }
            /* Every mark begins a piece. */
            if (s->split && text->len > from) {
                FM_TRY(fm_str_check(text));
                FM_TRY(put(&w->next, (const uint8_t *)text->data, text->len - from, at_zero));
                at_zero = false;
                from = text->len;
            }
            fm_str_append(text, mark, k);
            p = q + step;
        }
        FM_TRY(fm_text_end(text));
        FM_TRY(put(&w->next, (const uint8_t *)text->data, text->len - from, at_zero));
    }
    return rebase(w, text);
}

static fm_status load_byte_level(fm_pre_step *s, const fm_json *o, const char *name) {
    FM_UNUSED(name);
    s->prefix_space = fm_json_bool(fm_json_get(o, "add_prefix_space"), true);
    s->use_regex = fm_json_bool(fm_json_get(o, "use_regex"), true);
    return FM_OK;
}

static fm_status run_byte_level(const fm_pre_step *s, fm_pre_work *w) {
    if (s->prefix_space) {
        fm_str *text = new_text(w);
        for (size_t i = 0; i < w->now.n; i++) {
            const fm_piece *a = &w->now.item[i];
            size_t from = text->len;
            fm_str_append(text, " ", *a->p != ' ');
            fm_str_append(text, (const char *)a->p, a->n);
            FM_TRY(fm_str_check(text));
            FM_TRY(put(&w->next, a->p, text->len - from, a->at_zero));
        }
        FM_TRY(rebase(w, text));
        fm_pieces t = w->now;
        w->now = w->next;
        w->next = t;
        w->next.n = 0;
    }
    for (size_t i = 0; i < w->now.n; i++) {
        const fm_piece *a = &w->now.item[i];
        FM_TRY(s->use_regex ? put_known(w, FM_SPLIT_GPT2, a) : put(&w->next, a->p, a->n, a->at_zero));
    }
    if (s->keep_bytes) {
        return FM_OK;
    }
    fm_str *text = new_text(w);
    for (size_t i = 0; i < w->next.n; i++) {
        fm_piece *a = &w->next.item[i];
        size_t from = text->len;
        fm_bytes_to_mapped(text, (const char *)a->p, a->n);
        FM_TRY(fm_str_check(text));
        a->n = text->len - from;
    }
    return rebase(w, text);
}

/* ---- the table ---- */

static const pre_kind kinds[] = {
    {"Split", load_split, run_split},
    {"ByteLevel", load_byte_level, run_byte_level},
    {"Whitespace", NULL, run_whitespace},
    {"WhitespaceSplit", NULL, run_whitespace_split},
    {"Metaspace", load_metaspace, run_metaspace},
    {"BertPreTokenizer", NULL, run_bert},
    {"Punctuation", load_punctuation, run_punctuation},
    {"Digits", load_digits, run_digits},
    {"UnicodeScripts", NULL, run_scripts},
    {"CharDelimiterSplit", load_delimiter, run_split},
    {"FixedLength", load_fixed, run_fixed},
};

static fm_status load_at(fm_pre *pre, const fm_json *o, const char *name, int depth) {
    if (fm_json_is_null(o)) {
        return FM_OK;
    }
    const char *type = fm_part_type(o);
    if (!strcmp(type, "Sequence")) {
        const fm_json *list = fm_json_get(o, "pretokenizers");
        if (!fm_json_is_array(list) || depth > 8) {
            FM_FAIL(FM_ERR_FORMAT, "%s: pre_tokenizer \"Sequence\" has no list \"pretokenizers\" or is too deep", name);
        }
        for (size_t i = 0; i < fm_json_size(list); i++) {
            FM_TRY(load_at(pre, fm_json_at(list, i), name, depth + 1));
        }
        return FM_OK;
    }
    for (size_t k = 0; k < FM_ARRAY_LEN(kinds); k++) {
        if (!strcmp(type, kinds[k].name)) {
            void *p = pre->step;
            FM_TRY(fm_grow(&p, &pre->cap, pre->n + 1, sizeof(*pre->step)));
            pre->step = p;
            fm_pre_step *s = &pre->step[pre->n++];
            *s = (fm_pre_step){.kind = &kinds[k], .how = REMOVED, .known = FM_SPLIT_COUNT};
            return kinds[k].load ? kinds[k].load(s, o, name) : FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: pre_tokenizer \"%.80s\" is not supported", name, type);
}

static void step_free(fm_pre_step *s) {
    fm_pattern_free(&s->pattern);
    fm_str_free(&s->text);
}

void fm_pre_free(fm_pre *p) {
    for (size_t i = 0; i < p->n; i++) {
        step_free(&p->step[i]);
    }
    fm_free(p->step);
    *p = (fm_pre){0};
}

/* ---- known splits ---- */

/* Line ends inside a pattern may be written as characters or as escapes. */
static bool same_regex(const char *known, const char *s) {
    for (; *s; s++) {
        if (*s == '\r' || *s == '\n') {
            if (known[0] != '\\' || known[1] != (*s == '\r' ? 'r' : 'n')) {
                return false;
            }
            known += 2;
        } else if (*known++ != *s) {
            return false;
        }
    }
    return *known == 0;
}

/* The pattern of an item when it is a Split that isolates a regular expression, or single digits. */
static const char *isolated_regex(const fm_json *o) {
    if (!strcmp(fm_part_type(o), "Digits") && fm_json_bool(fm_json_get(o, "individual_digits"), false)) {
        return "\\p{N}";
    }
    const char *how = fm_json_str(fm_json_get(o, "behavior"), NULL);
    bool plain = !strcmp(fm_part_type(o), "Split") && how && !strcmp(how, "Isolated") &&
                 !fm_json_bool(fm_json_get(o, "invert"), false);
    return plain ? fm_json_str(fm_json_get(fm_json_get(o, "pattern"), "Regex"), NULL) : NULL;
}

/* Number of items from `at` on that are the patterns of a known kind, 0 for none. */
static size_t known_run(const fm_json *list, size_t at, fm_split_kind *kind) {
    size_t best = 0;
    for (int k = 0; k < FM_SPLIT_COUNT; k++) {
        int i = 0;
        const char *known, *regex;
        while ((known = fm_split_regex((fm_split_kind)k, i)) &&
               (regex = isolated_regex(fm_json_at(list, at + (size_t)i))) && same_regex(known, regex)) {
            i++;
        }
        if (!known && (size_t)i > best) {
            best = (size_t)i;
            *kind = (fm_split_kind)k;
        }
    }
    return best;
}

static fm_status load_known(fm_pre *pre, const fm_json *list, const char *name) {
    for (size_t i = 0; i < fm_json_size(list);) {
        fm_split_kind kind = FM_SPLIT_COUNT;
        size_t n = known_run(list, i, &kind);
        if (n == 0) {
            FM_TRY(load_at(pre, fm_json_at(list, i++), name, 1));
            continue;
        }
        void *p = pre->step;
        FM_TRY(fm_grow(&p, &pre->cap, pre->n + 1, sizeof(*pre->step)));
        pre->step = p;
        pre->step[pre->n++] = (fm_pre_step){.kind = &kinds[0], .how = ISOLATED, .known = kind};
        i += n;
    }
    return FM_OK;
}

fm_status fm_pre_load(fm_pre *p, const fm_json *o, const char *name) {
    if (!strcmp(fm_part_type(o), "Sequence") && fm_json_is_array(fm_json_get(o, "pretokenizers"))) {
        return load_known(p, fm_json_get(o, "pretokenizers"), name);
    }
    return load_at(p, o, name, 0);
}

bool fm_pre_ends_in_bytes(const fm_pre *p) {
    return p->n && p->step[p->n - 1].kind == &kinds[1];
}

void fm_pre_keep_bytes(fm_pre *p) {
    p->step[p->n - 1].keep_bytes = true;
}

bool fm_pre_is_known_split(const fm_pre *p, fm_split_kind *kind, bool *add_prefix_space) {
    const fm_pre_step *last = p->n ? &p->step[p->n - 1] : NULL;
    if (!last || !last->keep_bytes) {
        return false;
    }
    *add_prefix_space = last->prefix_space;
    *kind = last->use_regex ? FM_SPLIT_GPT2 : FM_SPLIT_NONE;
    if (p->n == 2 && p->step[0].kind == &kinds[0] && p->step[0].known != FM_SPLIT_COUNT && !last->use_regex &&
        !last->prefix_space) {
        *kind = p->step[0].known;
        return true;
    }
    return p->n == 1;
}

fm_status fm_pre_run(const fm_pre *p, fm_pre_work *w, const uint8_t *text, size_t n, bool at_zero) {
    w->now.n = 0;
    FM_TRY(put(&w->now, text, n, at_zero));
    for (size_t i = 0; i < p->n; i++) {
        w->next.n = 0;
        FM_TRY(p->step[i].kind->run(&p->step[i], w));
        fm_pieces t = w->now;
        w->now = w->next;
        w->next = t;
    }
    return FM_OK;
}

void fm_pre_work_free(fm_pre_work *w) {
    fm_free(w->now.item);
    fm_free(w->next.item);
    fm_free(w->spans.item);
    fm_str_free(&w->text[0]);
    fm_str_free(&w->text[1]);
    *w = (fm_pre_work){0};
}
