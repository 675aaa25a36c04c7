/* mix: sources in given shares of the output, by rows or by the length of their text. Of a source with too much, rows
 * are left out at random; of one with too little (when `repeat` allows it) all rows come several times. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/step.h"

typedef enum mix_unit { BY_ROWS, BY_BYTES } mix_unit;

typedef struct mix_options {
    fm_strlist weights;
    char *by, *column;
    int unit;
    double repeat;
    int64_t total;
} mix_options;

static const fm_option rows[] = {
    {"weights", FM_OPT_LIST, offsetof(mix_options, weights), NULL, 0, 0, NULL, NULL, "NAME=W",
     "shares of the sources, such as web=60,books=30,code=10; they need not sum to anything"},
    {"by", FM_OPT_STR, offsetof(mix_options, by), NULL, 0, 0, NULL, NULL, "NAME",
     "column that names a row's source; default: the names of the inputs in the pipeline file, else their paths"},
    {"unit", FM_OPT_ENUM, offsetof(mix_options, unit), "rows", 0, 0, "rows|bytes", NULL, NULL,
     "what the shares are of: rows, or bytes of the text column"},
    FM_STEP_COLUMN(mix_options),
    {"repeat", FM_OPT_FLOAT, offsetof(mix_options, repeat), "1", 1, 1000, NULL, NULL, NULL,
     "rows of a small source may come up to so many times; 1 = none comes twice"},
    {"total", FM_OPT_INT, offsetof(mix_options, total), "0", 0, 9e18, NULL, NULL, NULL,
     "rows or bytes of the whole; 0 = as much as the sources and repeat allow"},
    FM_STEP_OPTIONS_END,
};

typedef struct row_seen {
    uint64_t key, units;
} row_seen;

typedef struct source {
    char *name;
    double weight;
    row_seen *row;
    size_t n, cap;
    uint64_t units, taken; /* there, and in the output */
    uint64_t whole;        /* times that every row comes */
    uint64_t cut;          /* rows with a key up to it once more, when some do */
    bool some;
} source;

typedef struct mixer {
    source *source;
    size_t n;
} mixer;

static fm_status parse_weight(source *s, const char *text) {
    const char *eq = strrchr(text, '=');
    if (!eq || eq == text || fm_parse_f64(&s->weight, eq + 1) != FM_OK || !(s->weight > 0) || s->weight > 1e12) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "weights: expected NAME=SHARE, found '%s'", text);
        return fm_error_hint("such as web=60,books=30,code=10");
    }
    s->name = fm_strndup(text, (size_t)(eq - text));
    if (!s->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the mixture");
    }
    return FM_OK;
}

static fm_status mix_open(fm_step *s) {
    const mix_options *o = s->opt;
    mixer *m = s->state = fm_calloc(1, sizeof *m);
    if (m) {
        m->source = fm_calloc(o->weights.n + 1, sizeof *m->source);
    }
    if (!m || !m->source) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the mixture");
    }
    for (; m->n < o->weights.n; m->n++) {
        FM_TRY(parse_weight(&m->source[m->n], o->weights.item[m->n]));
    }
    if (m->n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "mix needs weights");
        return fm_error_hint("such as --weights web=60,books=30,code=10");
    }
    return FM_OK;
}

static void mix_close(fm_step *s) {
    mixer *m = s->state;
    const mix_options *o = s->opt;
    for (size_t i = 0; m && m->source && i < o->weights.n; i++) {
        fm_free(m->source[i].name);
        fm_free(m->source[i].row);
    }
    if (m) {
        fm_free(m->source);
        fm_free(m);
        s->state = NULL;
    }
}

/* The row's source, or NULL. */
static source *source_of(const fm_step_ctx *x, const fm_rec *r, char *shown, size_t cap) {
    const mix_options *o = x->step->opt;
    const mixer *m = x->step->state;
    const fm_step_env *env = x->step->env;
    const fm_cell *c = o->by ? fm_rec_get(r, o->by) : NULL;
    fm_sv name = {"", 0};
    if (c) {
        name = c->text;
    } else if (!o->by && r->source >= 0) {
        const char *given = env->source_name[r->source];
        name = fm_sv_of(given ? given : env->source[r->source]);
    }
    for (size_t i = 0; i < m->n; i++) {
        if (fm_sv_eq(name, m->source[i].name)) {
            return &m->source[i];
        }
    }
    snprintf(shown, cap, "%.*s", (int)FM_MIN(name.len, cap - 1), name.ptr);
    return NULL;
}

static fm_status mix_row(fm_step_ctx *x, fm_rec *r) {
    char name[128];
    return source_of(x, r, name, sizeof name) ? FM_OK : fm_step_drop(x, r, "a source without a weight", name);
}

static fm_status mix_observe(fm_step_ctx *x, fm_rec *r) {
    const mix_options *o = x->step->opt;
    char name[128];
    source *s = source_of(x, r, name, sizeof name);
    const fm_cell *c = o->unit == BY_BYTES ? fm_rec_get(r, o->column) : NULL;
    FM_ASSERT(s); /* `row` dropped the others */
    void *p = s->row;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof *s->row));
    s->row = p;
    row_seen e = {fm_hash64(&r->ordinal, sizeof r->ordinal, x->step->seed), o->unit == BY_ROWS ? 1
                                                                            : c                ? c->text.len
                                                                                               : 0};
    s->row[s->n++] = e;
    s->units += e.units;
    return FM_OK;
}

static int by_key(const void *a, const void *b) {
    const row_seen *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* `want` units of a source: whole rounds, then rows in the order of their keys until the next would overshoot by more
 * than it brings nearer. */
static void choose(source *s, double want) {
    s->whole = (uint64_t)(want / (double)s->units);
    s->taken = s->whole * s->units;
    double left = want - (double)s->taken;
    qsort(s->row, s->n, sizeof *s->row, by_key);
    for (size_t i = 0; i < s->n && left > (double)s->row[i].units / 2; i++) {
        left -= (double)s->row[i].units;
        s->taken += s->row[i].units;
        s->cut = s->row[i].key;
        s->some = true;
    }
    fm_free(s->row);
    s->row = NULL;
    s->n = s->cap = 0;
}

static fm_status mix_resolve(fm_step *s) {
    const mix_options *o = s->opt;
    mixer *m = s->state;
    double sum = 0, most = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->source[i].units == 0) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "mix: no rows of the source '%s'", m->source[i].name);
            return fm_error_hint(
                "sources are the names of inputs in the pipeline file, or their paths, or the values of `by`");
        }
        sum += m->source[i].weight;
    }
    for (size_t i = 0; i < m->n; i++) { /* the source that is short first bounds the whole */
        double room = o->repeat * (double)m->source[i].units * sum / m->source[i].weight;
        most = i == 0 ? room : FM_MIN(most, room);
    }
    double total = o->total > 0 ? (double)o->total : most;
    if (total > most * (1 + 1e-9)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     "mix: a total of %lld is more than the sources have at these weights (%.0f)", (long long)o->total,
                     most);
        return fm_error_hint("repeat lets rows of small sources come several times");
    }
    for (size_t i = 0; i < m->n; i++) {
        choose(&m->source[i], total * m->source[i].weight / sum);
    }
    return FM_OK;
}

static fm_status mix_apply(fm_step_ctx *x, fm_rec *r) {
    char name[128];
    const source *s = source_of(x, r, name, sizeof name);
    FM_ASSERT(s);
    uint64_t key = fm_hash64(&r->ordinal, sizeof r->ordinal, x->step->seed);
    uint64_t times = s->whole + (s->some && key <= s->cut);
    if (times == 0) {
        return fm_step_drop(x, r, "over its source's share", NULL);
    }
    for (uint64_t i = 1; i < times; i++) {
        fm_rec *copy;
        FM_TRY(fm_step_emit(x, &copy, r));
    }
    return FM_OK;
}

static fm_status mix_report(fm_step *s, fm_str *json) {
    const mixer *m = s->state;
    double all = 0, sum = 0;
    for (size_t i = 0; i < m->n; i++) {
        all += (double)m->source[i].taken;
        sum += m->source[i].weight;
    }
    fm_str_puts(json, "{");
    for (size_t i = 0; i < m->n; i++) {
        fm_str_puts(json, i ? "," : "");
        fm_str_json(json, m->source[i].name, strlen(m->source[i].name));
        fm_str_printf(json, ":{\"wanted\":%.6f,\"share\":%.6f,\"there\":%llu,\"taken\":%llu}",
                      m->source[i].weight / sum, all > 0 ? (double)m->source[i].taken / all : 0,
                      (unsigned long long)m->source[i].units, (unsigned long long)m->source[i].taken);
    }
    fm_str_puts(json, "}");
    return fm_str_check(json);
}

const fm_step_def fm_step_mix = {
    .name = "mix",
    .help = "sources in given shares (60/30/10) of rows or bytes; rows are left out or repeated at random",
    .about = "The manifest says what share each source has got. Rows keep their order; training shuffles.",
    .examples = "fathom data mix -i all.jsonl -o mixed.jsonl --by source --weights web=60,books=30,code=10\n"
                "fathom data mix -i all.jsonl -o mixed.jsonl --by lang --weights en=1,zh=1 --unit bytes --repeat 4",
    .options = rows,
    .options_bytes = sizeof(mix_options),
    .memory = "16 bytes a row",
    .open = mix_open,
    .close = mix_close,
    .row = mix_row,
    .observe = mix_observe,
    .resolve = mix_resolve,
    .apply = mix_apply,
    .report = mix_report,
};
