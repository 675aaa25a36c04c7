/* decontaminate: rows that share a run of words with an evaluation set go.
 *
 * The n-grams of words of the evaluation rows are hashed into a table (GPT-3 took 13 words; an evaluation row shorter
 * than that counts as a whole). A word is a run of letters and digits, small letters; each Han character, kana or Thai
 * letter is a word of its own. Runs are hashed by a rolling sum of the words' hashes, 64 bits: no other run is met by
 * chance (for 10^9 words against 10^7 n-grams 1 in 2000). */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/reader.h"
#include "data/step.h"
#include "data/units.h"

#define BASE UINT64_C(0x9E3779B97F4A7C15) /* odd: a power of it never vanishes */

typedef enum action { ACT_DROP, ACT_MARK } action;

typedef struct decon_options {
    char *column, *into;
    fm_strlist against, against_columns;
    int64_t n, min_words, min_hits;
    double min_share;
    int action;
} decon_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(decon_options),
    {"against", FM_OPT_LIST, offsetof(decon_options, against), NULL, 0, 0, NULL, NULL, "FILES",
     "evaluation sets, in any input format (files or glob patterns)"},
    {"against_columns", FM_OPT_LIST, offsetof(decon_options, against_columns), NULL, 0, 0, NULL, NULL, "NAMES",
     "their columns; default: every text column"},
    {"n", FM_OPT_INT, offsetof(decon_options, n), "13", 2, 100, NULL, NULL, NULL, "words in a run"},
    {"min_words", FM_OPT_INT, offsetof(decon_options, min_words), "8", 2, 100, NULL, NULL, NULL,
     "evaluation texts with fewer words are not looked for; between this and n they count as a whole"},
    {"min_hits", FM_OPT_INT, offsetof(decon_options, min_hits), "1", 1, 1e9, NULL, NULL, NULL,
     "runs that must be shared"},
    {"min_share", FM_OPT_FLOAT, offsetof(decon_options, min_share), "0", 0, 1, NULL, NULL, NULL,
     "share of the row's runs that must be shared"},
    {"action", FM_OPT_ENUM, offsetof(decon_options, action), "drop", 0, 0, "drop|mark", NULL, NULL,
     "drop the row, or write into a column where its text was found"},
    {"into", FM_OPT_STR, offsetof(decon_options, into), "contamination", 0, 0, NULL, NULL, "NAME", "column for mark"},
    FM_STEP_OPTIONS_END,
};

typedef struct slot {
    uint64_t hash; /* 0 = free */
    uint32_t file, line;
} slot;

typedef struct table {
    slot *slot;
    size_t n, mask; /* mask + 1 = slots */
} table;

typedef struct state {
    table run;       /* of n words */
    table *shorter;  /* [n]: whole texts of so many words */
    uint64_t *power; /* [n + 1] BASE^i */
    char **file;
    size_t n_files, files_cap;
    int64_t n_rows, n_short;
} state;

/* ---- table ------------------------------------------------------------------------------------ */

static slot *find(const table *t, uint64_t hash) {
    if (!t->slot) {
        return NULL;
    }
    size_t i = (size_t)(hash ^ hash >> 32) & t->mask;
    while (t->slot[i].hash && t->slot[i].hash != hash) {
        i = (i + 1) & t->mask;
    }
    return &t->slot[i];
}

static fm_status add(table *t, uint64_t hash, uint32_t file, uint32_t line) {
    hash += hash == 0;
    if (!t->slot || t->n * 2 > t->mask) {
        size_t cap = t->slot ? 2 * (t->mask + 1) : 1024;
        table more = {.slot = fm_calloc(cap, sizeof(slot)), .n = t->n, .mask = cap - 1};
        if (!more.slot) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu runs of evaluation sets", t->n);
        }
        for (size_t i = 0; t->slot && i <= t->mask; i++) {
            if (t->slot[i].hash) {
                *find(&more, t->slot[i].hash) = t->slot[i];
            }
        }
        fm_free(t->slot);
        *t = more;
    }
    slot *s = find(t, hash);
    if (!s->hash) {
        *s = (slot){hash, file, line};
        t->n++;
    }
    return FM_OK;
}

static const slot *lookup(const table *t, uint64_t hash) {
    const slot *s = find(t, hash + (hash == 0));
    return s && s->hash ? s : NULL;
}

/* ---- evaluation sets -------------------------------------------------------------------------- */

static fm_status add_text(fm_step *step, fm_sv text, uint32_t file, uint32_t line) {
    const decon_options *o = step->opt;
    state *s = step->state;
    size_t n = (size_t)o->n, seen = 0;
    uint64_t ring[100], h, sum = 0;
    FM_ASSERT(n > 0);
    const char *p = text.ptr, *end = p + text.len;
    while (fm_unit_next(&p, end, 0, &h)) {
        if (seen >= n) {
            sum -= ring[seen % n] * s->power[n - 1];
        }
        ring[seen % n] = h;
        sum = sum * BASE + h;
        seen++;
        if (seen >= n) {
            FM_TRY(add(&s->run, sum, file, line));
        }
    }
    if (seen < n && seen >= (size_t)o->min_words) {
        FM_TRY(add(&s->shorter[seen], sum, file, line));
    } else if (seen < n && seen) {
        s->n_short++;
    }
    return FM_OK;
}

static bool wanted(const decon_options *o, fm_sv name) {
    for (size_t i = 0; i < o->against_columns.n; i++) {
        if (fm_sv_eq(name, o->against_columns.item[i])) {
            return true;
        }
    }
    return o->against_columns.n == 0;
}

static fm_status add_rows(fm_step *step, const fm_recs *b, uint32_t file) {
    const decon_options *o = step->opt;
    state *s = step->state;
    for (size_t i = 0; i < b->n; i++) {
        const fm_rec *r = b->rec[i];
        for (size_t k = 0; !r->drop && k < r->n; k++) {
            const fm_cell *c = &r->cell[k];
            if ((c->kind == FM_CELL_TEXT || c->kind == FM_CELL_JSON) && wanted(o, c->name)) {
                FM_TRY(add_text(step, c->text, file, (uint32_t)FM_MIN(r->line, UINT32_MAX)));
            }
        }
        s->n_rows += !r->drop;
    }
    return FM_OK;
}

static fm_status add_file(fm_step *step, const char *path) {
    state *s = step->state;
    const fm_reader_options ro = {.text_column = "text", .max_row_bytes = (size_t)64 << 20, .repair_utf8 = true};
    const fm_reader_def *d;
    void *q = s->file, *reader = NULL;
    FM_TRY(fm_grow(&q, &s->files_cap, s->n_files + 1, sizeof *s->file));
    s->file = q;
    s->file[s->n_files] = fm_strdup(path);
    if (!s->file[s->n_files]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a file name");
    }
    uint32_t file = (uint32_t)s->n_files++;
    FM_TRY(fm_reader_find(&d, "auto", path));
    fm_recs b = {0};
    fm_status st = d->open(&reader, path, &ro);
    for (bool more = true; st == FM_OK && more;) {
        fm_recs_reset(&b);
        st = d->next(reader, &b, &more);
        if (st == FM_OK && d->parse && (b.raw.len || b.n_pieces)) {
            st = d->parse(&b, &ro);
        }
        if (st == FM_OK) {
            st = add_rows(step, &b, file);
        }
    }
    d->close(reader);
    fm_recs_free(&b);
    return st;
}

static fm_status decon_open(fm_step *step) {
    const decon_options *o = step->opt;
    if (o->against.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "decontaminate needs evaluation sets");
        return fm_error_hint("such as --against 'eval/*.jsonl'");
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (s) {
        s->shorter = fm_calloc((size_t)o->n, sizeof *s->shorter);
        s->power = fm_calloc((size_t)o->n + 1, sizeof *s->power);
    }
    if (!s || !s->shorter || !s->power) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    s->power[0] = 1;
    for (int64_t i = 1; i <= o->n; i++) {
        s->power[i] = s->power[i - 1] * BASE;
    }
    for (size_t i = 0; i < o->against.n; i++) {
        char **path = NULL;
        size_t n = 0;
        FM_TRY(fm_glob(&path, &n, o->against.item[i]));
        fm_status st = FM_OK;
        for (size_t k = 0; k < n && st == FM_OK; k++) {
            st = add_file(step, path[k]);
        }
        fm_names_free(path, n);
        FM_TRY(st);
        if (n == 0) {
            FM_FAIL(FM_ERR_NOT_FOUND, "there is no evaluation set '%s'", o->against.item[i]);
        }
    }
    size_t sum = s->run.n;
    for (int64_t i = 0; i < o->n; i++) {
        sum += s->shorter[i].n;
    }
    if (sum == 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                     "the evaluation sets hold no text of %lld words or more (%lld rows)", (long long)o->min_words,
                     (long long)s->n_rows);
        return fm_error_hint("--against-columns names columns, --min-words the least length");
    }
    return FM_OK;
}

static void decon_close(fm_step *step) {
    const decon_options *o = step->opt;
    state *s = step->state;
    if (s) {
        for (int64_t i = 0; s->shorter && i < o->n; i++) {
            fm_free(s->shorter[i].slot);
        }
        fm_names_free(s->file, s->n_files);
        fm_free(s->run.slot);
        fm_free(s->shorter);
        fm_free(s->power);
        fm_free(s);
        step->state = NULL;
    }
}

/* ---- rows ------------------------------------------------------------------------------------- */

static fm_status decon_row(fm_step_ctx *x, fm_rec *r) {
    const decon_options *o = x->step->opt;
    const state *s = x->step->state;
    size_t n = (size_t)o->n, seen = 0, hits = 0;
    uint64_t prefix[101] = {0}, h; /* ring of sums over all words up to here */
    const slot *first = NULL;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    const char *p = c->text.ptr, *end = p + c->text.len;
    while (fm_unit_next(&p, end, 0, &h)) {
        uint64_t sum = prefix[seen % (n + 1)] * BASE + h;
        seen++;
        prefix[seen % (n + 1)] = sum;
        const slot *hit = NULL;
        if (seen >= n) {
            hit = lookup(&s->run, sum - prefix[(seen - n) % (n + 1)] * s->power[n]);
        }
        for (size_t k = (size_t)o->min_words; !hit && k < n && k <= seen; k++) {
            if (s->shorter[k].n) {
                hit = lookup(&s->shorter[k], sum - prefix[(seen - k) % (n + 1)] * s->power[k]);
            }
        }
        hits += hit != NULL;
        first = first ? first : hit;
    }
    size_t runs = seen >= n ? seen - n + 1 : 1;
    bool found = first && hits >= (size_t)o->min_hits && (double)hits >= o->min_share * (double)runs;
    char where[4096] = "";
    if (found) {
        const char *path = s->file[first->file], *slash = strrchr(path, '/');
        snprintf(where, sizeof where, "%s:%u, %zu of %zu runs", slash ? slash + 1 : path, first->line, hits, runs);
        FM_TRY(fm_step_count(x, slash ? slash + 1 : path, 1));
    }
    if (o->action == ACT_MARK) {
        return found ? fm_rec_set_text(x->arena, r, o->into, where, strlen(where))
                     : fm_rec_set_null(x->arena, r, o->into);
    }
    return found ? fm_step_drop(x, r, "in an evaluation set", where) : FM_OK;
}

static fm_status decon_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json, "{\"evaluation_rows\": %lld, \"runs\": %zu, \"texts_too_short\": %lld}", (long long)s->n_rows,
                  s->run.n, (long long)s->n_short);
    return fm_str_check(json);
}

const fm_step_def fm_step_decontaminate = {
    .name = "decontaminate",
    .help = "drops rows that share 13 words in a row with an evaluation set",
    .about = "Words are runs of letters and digits without case; each Chinese character is a word. The rejects file\n"
             "names the evaluation set and line. Keeps 32 bytes or less for a run of the evaluation sets.",
    .examples = "fathom data decontaminate -i train.jsonl -o clean.jsonl --against 'eval/*.jsonl,mmlu/*.csv'\n"
                "fathom data decontaminate -i train.jsonl -o marked.jsonl --against gsm8k.jsonl --action mark",
    .options = rows,
    .options_bytes = sizeof(decon_options),
    .open = decon_open,
    .close = decon_close,
    .row = decon_row,
    .report = decon_report,
};
