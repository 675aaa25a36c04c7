/* The table of steps and what they share. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/reader.h"
#include "data/step.h"
#include "fathom/data.h"

#define FM_STEP(name) extern const fm_step_def fm_step_##name;
#include "data/steps.def"
#undef FM_STEP

static const fm_step_def *const table[] = {
#define FM_STEP(name) &fm_step_##name,
#include "data/steps.def"
#undef FM_STEP
};

const fm_step_def *fm_step_at(size_t i) {
    return i < FM_ARRAY_LEN(table) ? table[i] : NULL;
}

/* Names in YAML may be written with underscores. */
static bool same(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) {
            return false;
        }
    }
    return *a == *b;
}

const fm_step_def *fm_step_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(table); i++) {
        if (same(table[i]->name, name)) {
            return table[i];
        }
    }
    return NULL;
}

fm_status fm_step_unknown(const char *name, const char *where) {
    const char *names[FM_ARRAY_LEN(table)];
    for (size_t i = 0; i < FM_ARRAY_LEN(table); i++) {
        names[i] = table[i]->name;
    }
    int best = fm_nearest_name(name, names, (int)FM_ARRAY_LEN(table));
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: there is no data step '%s'", where, name);
    if (best >= 0) {
        return fm_error_hint("did you mean '%s'? 'fathom data list' names all", names[best]);
    }
    return fm_error_hint("'fathom data list' names all steps");
}

fm_status fm_step_drop(fm_step_ctx *c, fm_rec *r, const char *reason, const char *detail) {
    r->drop = reason;
    r->drop_step = c->step->index;
    if (detail) {
        r->detail = fm_bump_copy(c->arena, detail, strlen(detail));
        if (!r->detail) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the reason of a refused row");
        }
    }
    return FM_OK;
}

fm_status fm_step_count(fm_step_ctx *c, const char *name, int64_t n) {
    return fm_tally_add(&c->counts, name, n);
}

fm_status fm_step_emit(fm_step_ctx *c, fm_rec **out, const fm_rec *like) {
    fm_rec *r = NULL;
    FM_TRY(fm_rec_new(c->arena, &r, like));
    FM_TRY(fm_recs_push(c->emitted, r));
    if (!like && c->at) {
        r->source = c->at->source;
        r->line = c->at->line;
    }
    *out = r;
    return FM_OK;
}

fm_status fm_step_text(fm_step_ctx *c, fm_rec *r, const char *column, fm_cell **cell) {
    *cell = fm_rec_get(r, column);
    if (!*cell) {
        return fm_step_drop(c, r, "missing column", column);
    }
    if ((*cell)->kind != FM_CELL_TEXT) {
        *cell = NULL;
        return fm_step_drop(c, r, "not text", column);
    }
    return FM_OK;
}

bool fm_data_step_at(fm_data_step_info *out, size_t i) {
    const fm_step_def *d = fm_step_at(i);
    if (d) {
        fm_data_step_info info = {.size = out->size,
                                  .name = d->name,
                                  .help = d->help,
                                  .about = d->about,
                                  .examples = d->examples,
                                  .memory = d->memory};
        memcpy(out, &info, FM_MIN(out->size, sizeof info));
    }
    return d != NULL;
}

bool fm_data_format_at(fm_data_format_info *out, size_t i) {
    const fm_reader_def *d = fm_reader_at(i);
    if (d) {
        fm_data_format_info info = {.size = out->size, .name = d->name, .suffixes = d->suffixes, .help = d->help};
        memcpy(out, &info, FM_MIN(out->size, sizeof info));
    }
    return d != NULL;
}
