/* language: the language of each row's text into a column; rows kept, dropped or routed by it. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/langid.h"
#include "data/step.h"

typedef struct language_options {
    char *column, *into, *confidence_into;
    fm_strlist keep, drop, route;
    double min_confidence;
    bool guess;
} language_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(language_options),
    {"into", FM_OPT_STR, offsetof(language_options, into), "language", 0, 0, NULL, NULL, "NAME",
     "column for the language's code; empty = none"},
    {"confidence_into", FM_OPT_STR, offsetof(language_options, confidence_into), NULL, 0, 0, NULL, NULL, "NAME",
     "column for the share of the text in that language"},
    {"keep", FM_OPT_LIST, offsetof(language_options, keep), NULL, 0, 0, NULL, NULL, "CODES",
     "only rows in these languages (en, zh, zh-Hant); zh is both kinds of Chinese"},
    {"remove", FM_OPT_LIST, offsetof(language_options, drop), NULL, 0, 0, NULL, NULL, "CODES",
     "no rows in these languages"},
    {"route", FM_OPT_LIST, offsetof(language_options, route), NULL, 0, 0, NULL, NULL, "CODES",
     "rows in these languages go to files of their own (OUT.zh.jsonl), the others to OUT.other.jsonl"},
    {"min_confidence", FM_OPT_FLOAT, offsetof(language_options, min_confidence), "0.5", 0, 1, NULL, NULL, NULL,
     "with less of the text in its language a row counts as undetermined (und)"},
    {"guess", FM_OPT_BOOL, offsetof(language_options, guess), "false", 0, 0, NULL, NULL, NULL,
     "take the likeliest language also where another is close (short texts), instead of und"},
    FM_STEP_OPTIONS_END,
};

static fm_status check_codes(const fm_strlist *l) {
    for (size_t i = 0; i < l->n; i++) {
        if (!fm_langid_known(l->item[i])) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "language: there is no language '%s'", l->item[i]);
            return fm_error_hint("codes are those of ISO 639-1 in small letters, with zh-Hans, zh-Hant, and und for "
                                 "undetermined");
        }
    }
    return FM_OK;
}

static fm_status language_open(fm_step *s) {
    const language_options *o = s->opt;
    FM_TRY(fm_langid_open());
    FM_TRY(check_codes(&o->keep));
    FM_TRY(check_codes(&o->drop));
    FM_TRY(check_codes(&o->route));
    if (o->route.n && o->keep.n) {
        FM_FAIL(FM_ERR_CONFIG, "language: expected keep or route, found both");
    }
    return FM_OK;
}

static const char *named(const fm_strlist *l, const char *code) {
    for (size_t i = 0; i < l->n; i++) {
        if (fm_langid_matches(code, l->item[i])) {
            return l->item[i];
        }
    }
    return NULL;
}

static fm_status language_row(fm_step_ctx *x, fm_rec *r) {
    const language_options *o = x->step->opt;
    fm_langid found;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    fm_langid_detect(&found, c->text);
    const char *code = found.share >= o->min_confidence && (found.reliable || o->guess) ? found.code : "und";
    if (o->into) {
        FM_TRY(fm_rec_set_text(x->arena, r, o->into, code, strlen(code)));
    }
    if (o->confidence_into) {
        FM_TRY(fm_rec_set_float(x->arena, r, o->confidence_into, found.share));
    }
    if ((o->keep.n && !named(&o->keep, code)) || named(&o->drop, code)) {
        char detail[64];
        snprintf(detail, sizeof detail, "%s, likeliest %s with %.0f%%", code, found.code, 100 * found.share);
        return fm_step_drop(x, r, strcmp(code, "und") == 0 ? "language undetermined" : "other language", detail);
    }
    if (o->route.n) {
        const char *part = named(&o->route, code);
        r->part = part ? part : "other";
    }
    return fm_step_count(x, code, 1);
}

const fm_step_def fm_step_language = {
    .name = "language",
    .help = "finds the language of each row; keeps, drops or routes rows by it",
    .about =
        "Codes are those of ISO 639-1; simplified and traditional Chinese are zh-Hans and zh-Hant. Rows of several\n"
        "languages, of too few letters and of none are 'und'. The manifest counts rows by language. Needs the "
        "library\nCLD2 (Debian: libcld2-0).",
    .examples = "fathom data language -i web.jsonl -o en.jsonl --keep en --rejects others.jsonl\n"
                "fathom data language -i web.jsonl -o by-language/ --route en,zh-Hans,zh-Hant\n"
                "fathom data language -i web.jsonl -o marked.jsonl --confidence-into language_share",
    .options = rows,
    .options_bytes = sizeof(language_options),
    .open = language_open,
    .row = language_row,
};
