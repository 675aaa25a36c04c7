/* dedup: rows whose value was there already go.
 *
 * Two rows are the same when 128 bits of hash of their normalised columns are (XXH3 twice with different seeds). Hashes
 * are sorted outside of memory; what stays in memory is one bit a row. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/sorter.h"
#include "data/step.h"
#include "data/textnorm.h"

typedef enum normal { N_NONE, N_SPACE, N_TEXT } normal;
typedef enum keep { KEEP_FIRST, KEEP_LONGEST } keep;

typedef struct dedup_options {
    fm_strlist columns;
    int normal, keep;
    int64_t memory;
} dedup_options;

static const fm_option rows[] = {
    {"by", FM_OPT_LIST, offsetof(dedup_options, columns), "text", 0, 0, NULL, NULL, "NAMES",
     "columns that are compared (such as text, or url); '*' = all"},
    {"normalise", FM_OPT_ENUM, offsetof(dedup_options, normal), "text", 0, 0, "none|space|text", NULL, NULL,
     "compare bytes; with runs of blanks as one; also without case and punctuation"},
    {"keep", FM_OPT_ENUM, offsetof(dedup_options, keep), "first", 0, 0, "first|longest", NULL, NULL,
     "which row of a group stays"},
    {"memory", FM_OPT_BYTES, offsetof(dedup_options, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting; more goes to a temporary file beside the output"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_sorter *sorter;
    fm_bits gone;
    bool all;
    uint64_t n_gone, n_groups, largest;
} state;

typedef struct key {
    uint64_t a, b, length;
} key;

static fm_status dedup_open(fm_step *s) {
    const dedup_options *o = s->opt;
    state *k = s->state = fm_calloc(1, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    if (o->columns.n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "dedup needs a column");
    }
    k->all = o->columns.n == 1 && strcmp(o->columns.item[0], "*") == 0;
    return FM_OK;
}

static void dedup_close(fm_step *s) {
    state *k = s->state;
    if (k) {
        fm_sorter_free(k->sorter);
        fm_bits_free(&k->gone);
        fm_free(k);
        s->state = NULL;
    }
}

static fm_status add_cell(fm_step_ctx *x, key *k, const fm_cell *c, uint64_t name) {
    const dedup_options *o = x->step->opt;
    fm_sv v = c->text;
    if (c->kind == FM_CELL_TEXT && o->normal != N_NONE) {
        FM_TRY(fm_textnorm(&x->tmp[0], v, o->normal == N_SPACE ? FM_NORM_SPACES : FM_NORM_TEXT));
        /* A text of signs alone ("***") is compared as it is: it must not equal every other one. */
        if (x->tmp[0].len) {
            v = (fm_sv){x->tmp[0].data, x->tmp[0].len};
        }
    }
    uint64_t seed = name + (uint64_t)c->kind * (c->kind != FM_CELL_TEXT);
    k->a += fm_hash64(v.ptr, v.len, seed);
    k->b += fm_hash64(v.ptr, v.len, ~seed);
    k->length += c->text.len;
    return FM_OK;
}

static fm_status dedup_row(fm_step_ctx *x, fm_rec *r) {
    const dedup_options *o = x->step->opt;
    const state *s = x->step->state;
    key *k = fm_bump_alloc(x->arena, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold the hash of a row");
    }
    memset(k, 0, sizeof *k);
    for (size_t i = 0; s->all && i < r->n; i++) { /* a sum: the order of columns says nothing */
        FM_TRY(add_cell(x, k, &r->cell[i], fm_hash64(r->cell[i].name.ptr, r->cell[i].name.len, 0)));
    }
    for (size_t i = 0; !s->all && i < o->columns.n; i++) {
        const fm_cell *c = fm_rec_get(r, o->columns.item[i]);
        if (!c) {
            return fm_step_drop(x, r, "missing column", o->columns.item[i]);
        }
        FM_TRY(add_cell(x, k, c, i));
    }
    r->aux = k;
    return FM_OK;
}

static fm_status dedup_observe(fm_step_ctx *x, fm_rec *r) {
    const dedup_options *o = x->step->opt;
    state *s = x->step->state;
    const key *k = r->aux;
    if (!s->sorter) {
        char path[4200];
        snprintf(path, sizeof path, "%s/dedup-%d", x->step->env->work_dir, x->step->index);
        FM_TRY(fm_sorter_new(&s->sorter, o->keep == KEEP_LONGEST ? 4 : 3, o->memory, path));
    }
    const uint64_t rec[4] = {k->a, k->b, (uint64_t)r->ordinal, k->length};
    return fm_sorter_push(s->sorter, rec);
}

/* Rows of one first hash. More than a few different second hashes under one first do not happen by chance; they would
 * be let through. */
typedef struct group {
    uint64_t b, best, length, n;
} group;

static void close_groups(state *s, const group *g, size_t n) {
    for (size_t i = 0; i < n; i++) {
        s->n_groups += g[i].n > 1;
        s->largest = FM_MAX(s->largest, g[i].n);
    }
}

static fm_status dedup_resolve(fm_step *step) {
    state *s = step->state;
    const dedup_options *o = step->opt;
    group g[8];
    size_t n = 0;
    uint64_t a = 0;
    const uint64_t *rec;
    if (!s->sorter) {
        return FM_OK;
    }
    FM_TRY(fm_sorter_sort(s->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(s->sorter, &rec));
        if (!rec || rec[0] != a) {
            close_groups(s, g, n);
            n = 0;
        }
        if (!rec) {
            break;
        }
        a = rec[0];
        size_t i = 0;
        while (i < n && g[i].b != rec[1]) {
            i++;
        }
        if (i == n) {
            if (n < FM_ARRAY_LEN(g)) {
                g[n++] = (group){rec[1], rec[2], o->keep == KEEP_LONGEST ? rec[3] : 0, 1};
            }
            continue;
        }
        uint64_t loser = rec[2];
        if (o->keep == KEEP_LONGEST && rec[3] > g[i].length) {
            loser = g[i].best;
            g[i].best = rec[2];
            g[i].length = rec[3];
        }
        g[i].n++;
        s->n_gone++;
        FM_TRY(fm_bits_set(&s->gone, loser));
    }
    fm_sorter_free(s->sorter);
    s->sorter = NULL;
    return FM_OK;
}

static fm_status dedup_apply(fm_step_ctx *x, fm_rec *r) {
    const state *s = x->step->state;
    return fm_bits_has(&s->gone, (uint64_t)r->ordinal) ? fm_step_drop(x, r, "duplicate", NULL) : FM_OK;
}

static fm_status dedup_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json, "{\"duplicates\": %llu, \"groups\": %llu, \"largest_group\": %llu}",
                  (unsigned long long)s->n_gone, (unsigned long long)s->n_groups, (unsigned long long)s->largest);
    return fm_str_check(json);
}

const fm_step_def fm_step_dedup = {
    .name = "dedup",
    .help = "drops rows that are the same as another (by text, URL or all columns)",
    .about = "Text is compared without case, punctuation and runs of blanks (--normalise). Near duplicates: minhash.\n"
             "Repeated lines inside different rows: dedup-lines.",
    .examples = "fathom data dedup -i crawl/ -o unique.jsonl.zst\n"
                "fathom data dedup -i crawl.jsonl -o unique.jsonl --by url --keep longest --rejects same.jsonl",
    .options = rows,
    .options_bytes = sizeof(dedup_options),
    .memory = "1 bit a row; 24 bytes a row are sorted within --memory and on disk",
    .open = dedup_open,
    .close = dedup_close,
    .row = dedup_row,
    .observe = dedup_observe,
    .resolve = dedup_resolve,
    .apply = dedup_apply,
    .report = dedup_report,
};
