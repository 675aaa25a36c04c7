/* regex: the user's patterns (PCRE2) over one text column: replace, drop rows that match, or keep only those. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/step.h"

typedef enum regex_action { RX_REPLACE, RX_DROP, RX_KEEP, RX_EXTRACT } regex_action;

typedef struct regex_options {
    char *column, *replace, *into;
    fm_strlist pattern;
    int action;
    bool ignore_case, multiline;
} regex_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(regex_options),
    {"pattern", FM_OPT_LIST, offsetof(regex_options, pattern), NULL, 0, 0, NULL, "p", "REGEX",
     "Perl-compatible patterns, applied in order; --pattern again (or a YAML list) for another"},
    {"action", FM_OPT_ENUM, offsetof(regex_options, action), "replace", 0, 0, "replace|drop|keep|extract", NULL, NULL,
     "replace matches; drop rows that match one; keep only rows that match one; extract the first group into a column"},
    {"replace", FM_OPT_STR, offsetof(regex_options, replace), NULL, 0, 0, NULL, NULL, "TEXT",
     "what a match becomes; $1 or ${name} is a group; default: nothing"},
    {"into", FM_OPT_STR, offsetof(regex_options, into), "match", 0, 0, NULL, NULL, "NAME", "column for extract"},
    {"ignore_case", FM_OPT_BOOL, offsetof(regex_options, ignore_case), "false", 0, 0, NULL, NULL, NULL,
     "capitals and small letters are the same"},
    {"multiline", FM_OPT_BOOL, offsetof(regex_options, multiline), "true", 0, 0, NULL, NULL, NULL,
     "^ and $ also match at line ends"},
    FM_STEP_OPTIONS_END,
};

typedef struct patterns {
    pcre2_code **code;
    size_t n;
} patterns;

typedef struct local {
    pcre2_match_data *match;
    pcre2_match_context *limits;
} local;

static fm_status regex_open(fm_step *s) {
    const regex_options *o = s->opt;
    if (o->pattern.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "regex needs a pattern");
        return fm_error_hint("such as --pattern '\\[\\d+\\]'");
    }
    patterns *p = s->state = fm_calloc(1, sizeof *p);
    if (p) {
        p->code = fm_calloc(o->pattern.n, sizeof(pcre2_code *));
    }
    if (!p || !p->code) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the patterns");
    }
    uint32_t how = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | (o->ignore_case ? PCRE2_CASELESS : 0) |
                   (o->multiline ? PCRE2_MULTILINE : 0);
    for (size_t i = 0; i < o->pattern.n; i++) {
        int code;
        PCRE2_SIZE at;
        const char *text = o->pattern.item[i];
        if (!fm_utf8_valid(text, strlen(text))) {
            FM_FAIL(FM_ERR_CONFIG, "pattern %zu is no UTF-8", i + 1);
        }
        p->code[i] = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, how, &code, &at, NULL);
        if (!p->code[i]) {
            char why[160];
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            FM_FAIL(FM_ERR_CONFIG, "pattern '%s': %s (at position %zu)", text, why, (size_t)at + 1);
        }
        p->n++;
        (void)pcre2_jit_compile(p->code[i], PCRE2_JIT_COMPLETE); /* without it matching is slower, no more */
    }
    return FM_OK;
}

static void regex_close(fm_step *s) {
    patterns *p = s->state;
    if (p) {
        for (size_t i = 0; i < p->n; i++) {
            pcre2_code_free(p->code[i]);
        }
        fm_free(p->code);
        fm_free(p);
        s->state = NULL;
    }
}

static void local_free(void *data) {
    local *l = data;
    pcre2_match_data_free(l->match);
    pcre2_match_context_free(l->limits);
}

static fm_status local_init(fm_step *s, void *data) {
    local *l = data;
    FM_UNUSED(s);
    l->match = pcre2_match_data_create(32, NULL);
    l->limits = pcre2_match_context_create(NULL);
    if (!l->match || !l->limits) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a matcher");
    }
    /* A pattern that goes wild on one row costs a second, not the night. */
    pcre2_set_match_limit(l->limits, 10000000);
    return FM_OK;
}

/* Replaces in place; *changed and *bad tell how it went. */
static fm_status substitute(fm_step_ctx *x, const pcre2_code *code, fm_cell *cell, const char *with, bool *changed,
                            bool *bad) {
    const local *l = x->local;
    size_t cap = cell->text.len + 256;
    for (int tries = 0; tries < 2; tries++) {
        char *out = fm_bump_alloc(x->arena, cap);
        if (!out) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a replaced text of %zu bytes", cap);
        }
        PCRE2_SIZE n = cap;
        int rc = pcre2_substitute(code, (PCRE2_SPTR)cell->text.ptr, cell->text.len, 0,
                                  PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH |
                                      PCRE2_SUBSTITUTE_UNSET_EMPTY | PCRE2_NO_UTF_CHECK,
                                  l->match, l->limits, (PCRE2_SPTR)(with ? with : ""), PCRE2_ZERO_TERMINATED,
                                  (PCRE2_UCHAR *)out, &n);
        if (rc == PCRE2_ERROR_NOMEMORY && n > cap) {
            cap = n;
            continue;
        }
        *bad = rc < 0;
        if (rc > 0) {
            *changed = true;
            cell->text = (fm_sv){out, n};
            cell->raw = (fm_sv){NULL, 0};
        }
        return FM_OK;
    }
    *bad = true;
    return FM_OK;
}

static fm_status replace_all(fm_step_ctx *x, fm_rec *r, fm_cell *cell) {
    const regex_options *o = x->step->opt;
    const patterns *p = x->step->state;
    bool changed = false, bad = false;
    for (size_t i = 0; i < p->n && !bad; i++) {
        FM_TRY(substitute(x, p->code[i], cell, o->replace, &changed, &bad));
    }
    if (bad) {
        return fm_step_drop(x, r, "the pattern took too long or its replacement is wrong", NULL);
    }
    return changed ? fm_step_count(x, "changed", 1) : FM_OK;
}

static fm_status regex_row(fm_step_ctx *x, fm_rec *r) {
    const regex_options *o = x->step->opt;
    const patterns *p = x->step->state;
    const local *l = x->local;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    if (!cell) {
        return FM_OK;
    }
    if (o->action == RX_REPLACE) {
        return replace_all(x, r, cell);
    }
    bool hit = false;
    for (size_t i = 0; i < p->n && !hit; i++) {
        int rc = pcre2_match(p->code[i], (PCRE2_SPTR)cell->text.ptr, cell->text.len, 0, PCRE2_NO_UTF_CHECK, l->match,
                             l->limits);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
            return fm_step_drop(x, r, "the pattern took too long", NULL);
        }
        hit = rc >= 0;
        if (hit && o->action == RX_EXTRACT) {
            const PCRE2_SIZE *at = pcre2_get_ovector_pointer(l->match);
            size_t g = rc > 1 && at[2] != PCRE2_UNSET ? 1 : 0;
            FM_TRY(fm_rec_set_text(x->arena, r, o->into, cell->text.ptr + at[2 * g], at[2 * g + 1] - at[2 * g]));
            return fm_step_count(x, "extracted", 1);
        }
    }
    if (o->action == RX_EXTRACT) {
        FM_TRY(fm_step_count(x, "no match", 1));
        return fm_rec_set_null(x->arena, r, o->into);
    }
    if (hit == (o->action == RX_DROP)) {
        return fm_step_drop(x, r, hit ? "matches a pattern" : "matches no pattern", NULL);
    }
    return FM_OK;
}

const fm_step_def fm_step_regex = {
    .name = "regex",
    .help = "the user's patterns: replace, drop, keep or extract",
    .examples = "fathom data regex -i in.jsonl -o out.jsonl --pattern '\\[\\d+\\]'\n"
                "fathom data regex -i in.jsonl -o out.jsonl --pattern 'lorem ipsum' --action drop --ignore-case",
    .options = rows,
    .options_bytes = sizeof(regex_options),
    .open = regex_open,
    .close = regex_close,
    .row = regex_row,
    .local_bytes = sizeof(local),
    .local_init = local_init,
    .local_free = local_free,
};
