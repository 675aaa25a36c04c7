/* minhash: near duplicates, found by MinHash and locality-sensitive hashing.
 *
 * Each row's signature is cut into bands; rows that agree in all values of a band are joined (union-find), and of each
 * group one row stays. Bands of all rows (a 64-bit hash each; two different bands meet by chance once in 5000 runs over
 * 10^7 rows) are sorted outside of memory. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/minhash.h"
#include "data/sorter.h"
#include "data/step.h"

typedef enum keep { KEEP_FIRST, KEEP_LONGEST } keep;
typedef enum action { ACT_DROP, ACT_MARK } action;

typedef struct minhash_options {
    char *column, *into;
    int like, unit, hash, keep, action;
    int64_t n, bands, rows, seed, memory;
} minhash_options;

/* Parameters of other pipelines. */
static const fm_minhash_params presets[] = {
    {FM_SHINGLE_AUTO, FM_HASH_XXH64, 5, 14, 8, 1, false},   /* datatrove 0.10 */
    {FM_SHINGLE_AUTO, FM_HASH_SHA1_64, 5, 14, 8, 1, false}, /* FineWeb */
    {FM_SHINGLE_CHAR, FM_HASH_XXH64, 5, 20, 13, 42, true},  /* NeMo Curator */
    {FM_SHINGLE_AUTO, FM_HASH_XXH64, 5, 25, 10, 42, true},  /* text-dedup at 0.7 */
    {FM_SHINGLE_AUTO, FM_HASH_XXH64, 5, 25, 10, 42, true},  /* data-juicer: 256 functions at 0.7 */
};

static const fm_option rows[] = {
    FM_STEP_COLUMN(minhash_options),
    {"like", FM_OPT_ENUM, offsetof(minhash_options, like), "datatrove", 0, 0,
     "datatrove|fineweb|nemo|text-dedup|data-juicer", NULL, NULL, "whose parameters stand where none are given"},
    {"unit", FM_OPT_ENUM, offsetof(minhash_options, unit), "like", 0, 0, "like|auto|word|char", NULL, NULL,
     "what a shingle is made of; auto: words, or characters where the script has no blanks (Chinese)"},
    {"n", FM_OPT_INT, offsetof(minhash_options, n), "0", 0, 1000, NULL, NULL, NULL, "units in a shingle; 0 = as like"},
    {"bands", FM_OPT_INT, offsetof(minhash_options, bands), "0", 0, 1000, NULL, NULL, NULL,
     "bands of a signature; 0 = as like"},
    {"rows", FM_OPT_INT, offsetof(minhash_options, rows), "0", 0, 1000, NULL, NULL, NULL,
     "values in a band; 0 = as like"},
    {"hash", FM_OPT_ENUM, offsetof(minhash_options, hash), "like", 0, 0, "like|xxh64|xxh32|sha1|sha1-32", NULL, NULL,
     "hash of shingles; xxh32 and sha1-32 make signatures of 32 bits"},
    {"seed_hash", FM_OPT_INT, offsetof(minhash_options, seed), "-1", -1, 4294967295.0, NULL, NULL, NULL,
     "seed of the hash functions; -1 = as like"},
    {"keep", FM_OPT_ENUM, offsetof(minhash_options, keep), "first", 0, 0, "first|longest", NULL, NULL,
     "which row of a group stays"},
    {"action", FM_OPT_ENUM, offsetof(minhash_options, action), "drop", 0, 0, "drop|mark", NULL, NULL,
     "drop the others, or number the groups in a column"},
    {"into", FM_OPT_STR, offsetof(minhash_options, into), "group", 0, 0, NULL, NULL, "NAME", "column for mark"},
    {"memory", FM_OPT_BYTES, offsetof(minhash_options, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting; more goes to a temporary file beside the output"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_minhash *m;
    fm_minhash_params p;
    fm_sorter *sorter;
    uint32_t *length; /* keep longest: bytes of each row */
    size_t n_rows, length_cap;
    uint32_t *parent; /* after resolve, NULL when no rows met: the row that stays, or mark's number */
    uint64_t n_gone, n_groups, largest, n_short;
} state;

typedef struct signature {
    uint64_t length;
    bool any;
    uint64_t band[];
} signature;

typedef struct local {
    fm_minhash_room room;
    uint64_t *value;
} local;

static fm_status minhash_open(fm_step *step) {
    const minhash_options *o = step->opt;
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    s->p = presets[o->like];
    s->p.unit = o->unit ? (fm_shingle_unit)(o->unit - 1) : s->p.unit;
    s->p.hash = o->hash ? (fm_shingle_hash)(o->hash - 1) : s->p.hash;
    s->p.n = o->n ? (int)o->n : s->p.n;
    s->p.bands = o->bands ? (int)o->bands : s->p.bands;
    s->p.rows = o->rows ? (int)o->rows : s->p.rows;
    s->p.seed = o->seed >= 0 ? (uint32_t)o->seed : s->p.seed;
    return fm_minhash_new(&s->m, &s->p);
}

static void minhash_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_minhash_free(s->m);
        fm_sorter_free(s->sorter);
        fm_free(s->length);
        fm_free(s->parent);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *data) {
    local *l = data;
    fm_minhash_room_free(&l->room);
    fm_free(l->value);
}

static fm_status local_init(fm_step *step, void *data) {
    const state *s = step->state;
    local *l = data;
    l->value = fm_malloc((size_t)s->p.bands * (size_t)s->p.rows * sizeof *l->value);
    if (!l->value) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a signature");
    }
    return FM_OK;
}

static fm_status minhash_row(fm_step_ctx *x, fm_rec *r) {
    const minhash_options *o = x->step->opt;
    const state *s = x->step->state;
    local *l = x->local;
    size_t bands = (size_t)s->p.bands, n = (size_t)s->p.rows;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    signature *g = fm_bump_alloc(x->arena, sizeof *g + bands * sizeof(uint64_t));
    if (!g) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold a signature");
    }
    r->aux = g;
    g->length = c->text.len;
    FM_TRY(fm_minhash_shingles(s->m, &l->room, c->text));
    g->any = l->room.n_shingles > 0;
    if (!g->any) {
        return fm_step_count(x, "too short to compare", 1);
    }
    fm_minhash_signature(s->m, l->room.shingle, l->room.n_shingles, l->value);
    for (size_t b = 0; b < bands; b++) {
        g->band[b] = fm_hash64(l->value + b * n, n * sizeof *l->value, b);
    }
    return FM_OK;
}

static fm_status minhash_observe(fm_step_ctx *x, fm_rec *r) {
    const minhash_options *o = x->step->opt;
    state *s = x->step->state;
    const signature *g = r->aux;
    if (!s->sorter) {
        char path[4200];
        snprintf(path, sizeof path, "%s/minhash-%d", x->step->env->work_dir, x->step->index);
        FM_TRY(fm_sorter_new(&s->sorter, 2, o->memory, path));
    }
    if (r->ordinal >= UINT32_MAX) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "minhash takes up to %u rows at once", UINT32_MAX);
    }
    s->n_rows = (size_t)r->ordinal + 1;
    if (o->keep == KEEP_LONGEST) {
        void *p = s->length;
        FM_TRY(fm_grow(&p, &s->length_cap, s->n_rows, sizeof *s->length));
        s->length = p;
        s->length[r->ordinal] = (uint32_t)FM_MIN(g->length, UINT32_MAX);
    }
    for (int b = 0; g->any && b < s->p.bands; b++) {
        const uint64_t rec[2] = {g->band[b], (uint64_t)r->ordinal};
        FM_TRY(fm_sorter_push(s->sorter, rec));
    }
    s->n_short += !g->any;
    return FM_OK;
}

static uint32_t root_of(uint32_t *parent, uint32_t i) {
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

/* The root of a group is its first row. */
static fm_status join(state *s, uint32_t a, uint32_t b) {
    if (!s->parent) {
        s->parent = fm_malloc(s->n_rows * sizeof *s->parent);
        if (!s->parent) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot group %zu rows", s->n_rows);
        }
        for (size_t i = 0; i < s->n_rows; i++) {
            s->parent[i] = (uint32_t)i;
        }
    }
    a = root_of(s->parent, a);
    b = root_of(s->parent, b);
    s->parent[FM_MAX(a, b)] = FM_MIN(a, b);
    return FM_OK;
}

/* Roots become the row that stays; sizes are counted. */
static fm_status choose(state *s) {
    uint32_t *size = fm_calloc(s->n_rows, sizeof *size), *best = fm_malloc(s->n_rows * sizeof *best);
    if (!size || !best) {
        fm_free(size);
        fm_free(best);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot group %zu rows", s->n_rows);
    }
    for (size_t i = 0; i < s->n_rows; i++) {
        uint32_t root = root_of(s->parent, (uint32_t)i);
        if (size[root]++ == 0 || (s->length && s->length[i] > s->length[best[root]])) {
            best[root] = (uint32_t)i;
        }
    }
    for (size_t i = 0; i < s->n_rows; i++) {
        if (size[i] > 1) {
            s->n_groups++;
            s->n_gone += size[i] - 1;
            s->largest = FM_MAX(s->largest, size[i]);
        }
    }
    for (size_t i = s->n_rows; i-- > 0;) { /* roots stand before their rows: they are rewritten last */
        s->parent[i] = best[root_of(s->parent, (uint32_t)i)];
    }
    fm_free(size);
    fm_free(best);
    return FM_OK;
}

static fm_status minhash_resolve(fm_step *step) {
    state *s = step->state;
    const uint64_t *rec;
    uint64_t key = 0;
    uint32_t first = 0;
    bool any = false;
    if (!s->sorter) {
        return FM_OK;
    }
    FM_TRY(fm_sorter_sort(s->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(s->sorter, &rec));
        if (!rec) {
            break;
        }
        if (any && rec[0] == key) {
            FM_TRY(join(s, first, (uint32_t)rec[1]));
        } else {
            key = rec[0];
            first = (uint32_t)rec[1];
            any = true;
        }
    }
    fm_sorter_free(s->sorter);
    s->sorter = NULL;
    return s->parent ? choose(s) : FM_OK;
}

static fm_status minhash_apply(fm_step_ctx *x, fm_rec *r) {
    const minhash_options *o = x->step->opt;
    const state *s = x->step->state;
    uint32_t i = (uint32_t)r->ordinal, kept = s->parent ? s->parent[i] : i;
    if (o->action == ACT_MARK) {
        return fm_rec_set_int(x->arena, r, o->into, kept);
    }
    if (kept == i) {
        return FM_OK;
    }
    char detail[48];
    snprintf(detail, sizeof detail, "as row %u", kept + 1);
    return fm_step_drop(x, r, "near duplicate", detail);
}

static fm_status minhash_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json,
                  "{\"duplicates\": %llu, \"groups\": %llu, \"largest_group\": %llu, \"too_short\": %llu, "
                  "\"n\": %d, \"bands\": %d, \"rows\": %d, \"caught_at_similarity\": {",
                  (unsigned long long)s->n_gone, (unsigned long long)s->n_groups, (unsigned long long)s->largest,
                  (unsigned long long)s->n_short, s->p.n, s->p.bands, s->p.rows);
    for (int i = 5; i <= 9; i++) {
        fm_str_printf(json, "%s\"0.%d\": %.4f", i > 5 ? ", " : "", i,
                      fm_minhash_caught(s->p.bands, s->p.rows, i / 10.0));
    }
    fm_str_puts(json, "}}");
    return fm_str_check(json);
}

const fm_step_def fm_step_minhash = {
    .name = "minhash",
    .help = "drops near duplicates (MinHash-LSH)",
    .about =
        "Two texts whose shingles have Jaccard similarity s are found with the chance 1 - (1 - s^rows)^bands; the\n"
        "manifest has the table. --like datatrove and fineweb give the signatures of those pipelines bit for bit\n"
        "(English); nemo (20 x 13, characters), text-dedup and data-juicer (25 x 10) take over the parameters.",
    .examples = "fathom data minhash -i web.jsonl.zst -o unique.jsonl.zst --rejects near.jsonl\n"
                "fathom data minhash -i zh.jsonl -o unique.jsonl --like data-juicer --unit char --keep longest",
    .options = rows,
    .options_bytes = sizeof(minhash_options),
    .memory =
        "12 bytes a row (4 more with keep longest); 16 bytes a band and row are sorted within --memory and on disk",
    .open = minhash_open,
    .close = minhash_close,
    .row = minhash_row,
    .observe = minhash_observe,
    .resolve = minhash_resolve,
    .apply = minhash_apply,
    .local_bytes = sizeof(local),
    .local_init = local_init,
    .local_free = local_free,
    .report = minhash_report,
};
