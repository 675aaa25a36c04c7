/* quality: documents of poor text go, by the rules of Gopher, C4 and FineWeb (quality.h). */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/quality.h"
#include "data/step.h"
#include "data/textnorm.h"

typedef enum action { ACT_DROP, ACT_MARK } action;
typedef enum language { LANG_AUTO, LANG_EN, LANG_ZH } language;

typedef struct quality_options {
    char *column, *into;
    fm_strlist rules, set;
    int language, action;
} quality_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(quality_options),
    {"rules", FM_OPT_LIST, offsetof(quality_options, rules), "gopher-repetition,gopher-quality,c4,fineweb", 0, 0, NULL,
     NULL, "NAMES", "rules and their order; c4 also takes lines out of the text"},
    {"language", FM_OPT_ENUM, offsetof(quality_options, language), "auto", 0, 0, "auto|en|zh", NULL, NULL,
     "limits for English or for Chinese; auto: by the letters of each row"},
    {"set", FM_OPT_LIST, offsetof(quality_options, set), NULL, 0, 0, NULL, NULL, "NAME=VALUE",
     "other limits, by datatrove's names (min_doc_words=30, dup_line_frac=0.4); 0 turns one off"},
    {"action", FM_OPT_ENUM, offsetof(quality_options, action), "drop", 0, 0, "drop|mark", NULL, NULL,
     "drop the row, or write the reason into a column and change nothing else"},
    {"into", FM_OPT_STR, offsetof(quality_options, into), "quality", 0, 0, NULL, NULL, "NAME", "column for mark"},
    FM_STEP_OPTIONS_END,
};

static const struct {
    const char *name;
    fm_quality_rule rule;
} known[] = {
    {"gopher-repetition", fm_quality_gopher_repetition},
    {"gopher-quality", fm_quality_gopher},
    {"c4", fm_quality_c4},
    {"fineweb", fm_quality_fineweb},
};

typedef struct state {
    fm_words *words;
    fm_quality_limits english, chinese;
    fm_quality_rule *rule;
} state;

static fm_status no_such(const char *what, const char *name, const char *const *names, size_t n) {
    int best = fm_nearest_name(name, names, (int)n);
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "quality: there is no %s '%s'", what, name);
    return fm_error_hint("%s%s", best >= 0 ? "did you mean " : "see fathom data quality --help",
                         best >= 0 ? names[best] : "");
}

static fm_status set_limit(state *s, const char *text) {
    static const char *const name[] = {
#define FM_X(id, en, zh) #id,
        FM_QUALITY_LIMITS(FM_X)
#undef FM_X
    };
    double *const place[][2] = {
#define FM_X(id, en, zh) {&s->english.id, &s->chinese.id},
        FM_QUALITY_LIMITS(FM_X)
#undef FM_X
    };
    char key[64];
    size_t n = strcspn(text, "=");
    double v;
    if (text[n] != '=') {
        FM_FAIL(FM_ERR_CONFIG, "quality: '%s' is no NAME=VALUE", text);
    }
    snprintf(key, sizeof key, "%.*s", (int)n, text);
    if (fm_parse_f64(&v, text + n + 1) != FM_OK) {
        FM_FAIL(FM_ERR_CONFIG, "quality: '%s' is no number", text + n + 1);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(name); i++) {
        if (strcmp(name[i], key) == 0) {
            *place[i][0] = *place[i][1] = v;
            return FM_OK;
        }
    }
    return no_such("limit", key, name, FM_ARRAY_LEN(name));
}

static fm_status find_rule(fm_quality_rule *out, const char *name) {
    const char *names[FM_ARRAY_LEN(known)];
    for (size_t i = 0; i < FM_ARRAY_LEN(known); i++) {
        names[i] = known[i].name;
        if (strcmp(names[i], name) == 0) {
            *out = known[i].rule;
            return FM_OK;
        }
    }
    return no_such("rule", name, names, FM_ARRAY_LEN(names));
}

static fm_status quality_open(fm_step *step) {
    const quality_options *o = step->opt;
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (s) {
        s->rule = fm_calloc(o->rules.n + 1, sizeof *s->rule);
    }
    if (!s || !s->rule) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    s->english = fm_quality_english;
    s->chinese = fm_quality_chinese;
    for (size_t i = 0; i < o->set.n; i++) {
        FM_TRY(set_limit(s, o->set.item[i]));
    }
    for (size_t i = 0; i < o->rules.n; i++) {
        FM_TRY(find_rule(&s->rule[i], o->rules.item[i]));
        for (size_t k = 0; k < i; k++) {
            if (s->rule[k] == s->rule[i]) {
                FM_FAIL(FM_ERR_CONFIG, "quality: rule '%s' is named twice", o->rules.item[i]);
            }
        }
    }
    return fm_words_new(&s->words);
}

static void quality_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_words_free(s->words);
        fm_free(s->rule);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *local) {
    fm_quality_free(local);
}

static fm_status quality_row(fm_step_ctx *x, fm_rec *r) {
    const quality_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_quality *q = x->local;
    const char *reason = NULL;
    size_t i = 0;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    if (c->text.len >= INT32_MAX) {
        return fm_step_drop(x, r, "longer than 2 GiB", NULL);
    }
    bool chinese = o->language == LANG_ZH || (o->language == LANG_AUTO && fm_mostly_unspaced(c->text));
    FM_TRY(fm_quality_begin(q, s->words, c->text, chinese, chinese ? &s->chinese : &s->english));
    for (; i < o->rules.n && !reason; i++) {
        FM_TRY(s->rule[i](q, &reason));
    }
    if (o->action == ACT_MARK) {
        return reason ? fm_rec_set_text(x->arena, r, o->into, reason, strlen(reason))
                      : fm_rec_set_null(x->arena, r, o->into);
    }
    if (reason) {
        char detail[96];
        snprintf(detail, sizeof detail, "%s: %.4g, limit %.4g", o->rules.item[i - 1], q->found, q->allowed);
        return fm_step_drop(x, r, reason, q->allowed != 0 ? detail : o->rules.item[i - 1]);
    }
    if (q->changed) {
        FM_TRY(fm_step_count(x, "lines taken out", 1));
        FM_TRY(fm_cell_set_text(x->arena, c, q->text.ptr, q->text.len));
    }
    return FM_OK;
}

const fm_step_def fm_step_quality = {
    .name = "quality",
    .help = "drops poor documents by the rules of Gopher, C4 and FineWeb",
    .about =
        "Decisions and names of reasons are those of datatrove's filters in the order of FineWeb. Chinese rows go by\n"
        "limits for Chinese, where a character counts as a word.",
    .examples = "fathom data quality -i web.jsonl.zst -o good.jsonl.zst --rejects poor.jsonl\n"
                "fathom data quality -i web.jsonl -o good.jsonl --rules gopher-quality,fineweb --set min_doc_words=30\n"
                "fathom data quality -i web.jsonl -o marked.jsonl --action mark",
    .options = rows,
    .options_bytes = sizeof(quality_options),
    .open = quality_open,
    .close = quality_close,
    .row = quality_row,
    .local_bytes = sizeof(fm_quality),
    .local_free = local_free,
};
