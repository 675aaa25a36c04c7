/* fields: columns chosen, renamed, filled; rows that miss a needed one go. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/step.h"

typedef struct fields_options {
    fm_strlist keep, drop, rename, require, fill;
    bool strip_empty;
} fields_options;

static const fm_option rows[] = {
    {"rename", FM_OPT_LIST, offsetof(fields_options, rename), NULL, 0, 0, NULL, NULL, "OLD=NEW",
     "columns to rename; first"},
    {"fill", FM_OPT_LIST, offsetof(fields_options, fill), NULL, 0, 0, NULL, NULL, "NAME=VALUE",
     "text for columns that are missing, null or empty"},
    {"require", FM_OPT_LIST, offsetof(fields_options, require), NULL, 0, 0, NULL, NULL, "NAMES",
     "rows where one of these is missing, null or empty are dropped"},
    {"keep", FM_OPT_LIST, offsetof(fields_options, keep), NULL, 0, 0, NULL, NULL, "NAMES",
     "only these columns, in this order"},
    {"remove", FM_OPT_LIST, offsetof(fields_options, drop), NULL, 0, 0, NULL, NULL, "NAMES", "not these columns"},
    {"remove_empty", FM_OPT_BOOL, offsetof(fields_options, strip_empty), "false", 0, 0, NULL, NULL, NULL,
     "columns of a row that are null or empty are left out"},
    FM_STEP_OPTIONS_END,
};

static fm_status check_pairs(const fm_strlist *l, const char *key) {
    for (size_t i = 0; i < l->n; i++) {
        const char *eq = strchr(l->item[i], '=');
        if (!eq || eq == l->item[i] || (strcmp(key, "rename") == 0 && !eq[1])) {
            FM_FAIL(FM_ERR_CONFIG, "%s: expected NAME=VALUE, found '%s'", key, l->item[i]);
        }
    }
    return FM_OK;
}

static fm_status fields_open(fm_step *s) {
    const fields_options *o = s->opt;
    FM_TRY(check_pairs(&o->rename, "rename"));
    FM_TRY(check_pairs(&o->fill, "fill"));
    if (o->keep.n + o->drop.n + o->rename.n + o->require.n + o->fill.n == 0 && !o->strip_empty) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "fields has nothing to do");
        return fm_error_hint("give keep, remove, rename, require, fill or remove_empty");
    }
    return FM_OK;
}

static fm_status rename_columns(fm_step_ctx *x, fm_rec *r, const fields_options *o) {
    for (size_t i = 0; i < o->rename.n; i++) {
        const char *pair = o->rename.item[i], *eq = strchr(pair, '=');
        fm_cell *c = fm_rec_get_sv(r, (fm_sv){pair, (size_t)(eq - pair)});
        fm_cell *old = c ? fm_rec_get(r, eq + 1) : NULL;
        if (c && old != c) {
            c->name = fm_sv_of(eq + 1); /* options outlive the rows */
            if (old) {
                fm_rec_remove(r, old);
            }
            FM_TRY(fm_step_count(x, "renamed", 1));
        }
    }
    return FM_OK;
}

static fm_status fill_columns(fm_step_ctx *x, fm_rec *r, const fields_options *o) {
    for (size_t i = 0; i < o->fill.n; i++) {
        const char *pair = o->fill.item[i], *eq = strchr(pair, '=');
        fm_sv name = {pair, (size_t)(eq - pair)};
        fm_cell *c = fm_rec_get_sv(r, name);
        if (c && !fm_cell_is_empty(c)) {
            continue;
        }
        if (c) {
            FM_TRY(fm_cell_set_text(x->arena, c, eq + 1, strlen(eq + 1)));
        } else {
            fm_cell fresh = {.name = name, .kind = FM_CELL_TEXT, .text = fm_sv_of(eq + 1)};
            FM_TRY(fm_rec_push(x->arena, r, fresh));
        }
        FM_TRY(fm_step_count(x, "filled", 1));
    }
    return FM_OK;
}

/* The kept columns in the order of the option. */
static fm_status keep_columns(fm_step_ctx *x, fm_rec *r, const fields_options *o) {
    fm_rec *fresh;
    FM_TRY(fm_rec_new(x->arena, &fresh, NULL));
    for (size_t i = 0; i < o->keep.n; i++) {
        const fm_cell *c = fm_rec_get(r, o->keep.item[i]);
        if (c) {
            FM_TRY(fm_rec_push(x->arena, fresh, *c));
        }
    }
    r->cell = fresh->cell;
    r->n = fresh->n;
    r->cap = fresh->cap;
    return FM_OK;
}

static fm_status fields_row(fm_step_ctx *x, fm_rec *r) {
    const fields_options *o = x->step->opt;
    FM_TRY(rename_columns(x, r, o));
    FM_TRY(fill_columns(x, r, o));
    for (size_t i = 0; i < o->require.n; i++) {
        const fm_cell *c = fm_rec_get(r, o->require.item[i]);
        if (!c || fm_cell_is_empty(c)) {
            return fm_step_drop(x, r, "missing field", o->require.item[i]);
        }
    }
    if (o->keep.n) {
        FM_TRY(keep_columns(x, r, o));
    }
    for (size_t i = 0; i < o->drop.n; i++) {
        const fm_cell *c = fm_rec_get(r, o->drop.item[i]);
        if (c) {
            fm_rec_remove(r, c);
        }
    }
    for (size_t i = r->n; o->strip_empty && i > 0; i--) {
        if (fm_cell_is_empty(&r->cell[i - 1])) {
            fm_rec_remove(r, &r->cell[i - 1]);
        }
    }
    return r->n == 0 ? fm_step_drop(x, r, "no columns left", NULL) : FM_OK;
}

const fm_step_def fm_step_fields = {
    .name = "fields",
    .help = "chooses, renames and fills columns; drops rows that miss a needed one",
    .about = "Order: rename, fill, require, keep, remove.",
    .examples = "fathom data fields -i qa.csv -o qa.jsonl --rename question=prompt --require prompt,answer --keep "
                "prompt,answer",
    .options = rows,
    .options_bytes = sizeof(fields_options),
    .open = fields_open,
    .row = fields_row,
};
