/* augment: copies of a row with some words changed. What a copy is depends on the row's content, the copy's number and
 * the seed: the same for any number of threads, and for the same row wherever it stands. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/augment.h"
#include "data/step.h"

#define WORDNET "/usr/share/wordnet"

typedef struct augment_options {
    char *column, *mark, *homophones, *equivalents, *keep;
    fm_strlist methods, synonyms;
    int64_t copies, senses, common, min_han;
    double ratio;
    bool combine, originals;
} augment_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(augment_options),
    {"methods", FM_OPT_LIST, offsetof(augment_options, methods), "synonym,insert,swap,delete", 0, 0, NULL, NULL,
     "NAMES", "synonym, insert, swap, delete, typo, homophone, equivalent; the copies take them in turn"},
    {"copies", FM_OPT_INT, offsetof(augment_options, copies), "4", 1, 1000, NULL, NULL, NULL, "new rows for each row"},
    {"ratio", FM_OPT_FLOAT, offsetof(augment_options, ratio), "0.1", 0, 1, NULL, NULL, NULL,
     "share of a text's words that change, at least one"},
    {"combine", FM_OPT_BOOL, offsetof(augment_options, combine), "false", 0, 0, NULL, NULL, NULL,
     "each copy goes through all methods"},
    {"originals", FM_OPT_BOOL, offsetof(augment_options, originals), "true", 0, 0, NULL, NULL, NULL,
     "the rows themselves stay; --no-originals: copies only"},
    {"synonyms", FM_OPT_LIST, offsetof(augment_options, synonyms), NULL, 0, 0, NULL, NULL, "PATHS",
     "WordNet folder or lists of synonyms; default: " WORDNET " where it is installed"},
    {"senses", FM_OPT_INT, offsetof(augment_options, senses), "1", 0, 1000, NULL, NULL, NULL,
     "of a WordNet folder: so many meanings of a word, the most frequent first; 0 = all"},
    {"homophones", FM_OPT_STR, offsetof(augment_options, homophones), NULL, 0, 0, NULL, NULL, "FILE",
     "lines of characters that sound alike"},
    {"common", FM_OPT_INT, offsetof(augment_options, common), "10", 0, 1000, NULL, NULL, NULL,
     "only the first so many characters of such a line (they come by frequency); 0 = all"},
    {"equivalents", FM_OPT_STR, offsetof(augment_options, equivalents), NULL, 0, 0, NULL, NULL, "FILE",
     "lines of characters that mean the same"},
    {"min_han", FM_OPT_INT, offsetof(augment_options, min_han), "2", 1, 100, NULL, NULL, NULL,
     "Chinese words of fewer characters get no synonyms"},
    {"keep", FM_OPT_STR, offsetof(augment_options, keep), NULL, 0, 0, NULL, NULL, "FILE",
     "words that are not replaced or mistyped (terms, names), one or more a line"},
    {"mark", FM_OPT_STR, offsetof(augment_options, mark), NULL, 0, 0, NULL, NULL, "NAME",
     "column of the copies that says by which method"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_augmenter a;
    fm_words *words;
    fm_lexicon *synonyms, *homophones, *equivalents, *keep;
    fm_augment_method method[FM_AUGMENT_COUNT];
    size_t n_methods;
} state;

static fm_status load(fm_lexicon **out, const char *const *path, size_t n) {
    FM_TRY(fm_lexicon_new(out));
    for (size_t i = 0; i < n; i++) {
        FM_TRY(fm_lexicon_add(*out, path[i]));
    }
    return fm_lexicon_finish(*out);
}

static fm_status add_method(state *s, const char *name) {
    const char *all[FM_AUGMENT_COUNT];
    for (int m = 0; m < FM_AUGMENT_COUNT; m++) {
        all[m] = fm_augment_name((fm_augment_method)m);
        if (strcmp(all[m], name) == 0) {
            for (size_t i = 0; i < s->n_methods; i++) {
                if ((int)s->method[i] == m) {
                    FM_FAIL(FM_ERR_CONFIG, "augment: the method '%s' is named twice", name);
                }
            }
            s->method[s->n_methods++] = (fm_augment_method)m;
            return FM_OK;
        }
    }
    int best = fm_nearest_name(name, all, FM_AUGMENT_COUNT);
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "augment: there is no method '%s'", name);
    return fm_error_hint("%s%s", best >= 0 ? "did you mean " : "see fathom data augment --help",
                         best >= 0 ? all[best] : "");
}

static fm_status needs(const char *method, const char *option, const char *path) {
    if (!path) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "augment: the method '%s' needs a file", method);
        return fm_error_hint("--%s FILE: characters of one group a line", option);
    }
    return FM_OK;
}

static fm_status augment_open(fm_step *step) {
    const augment_options *o = step->opt;
    static const char *const installed[] = {WORDNET};
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    for (size_t i = 0; i < o->methods.n; i++) {
        FM_TRY(add_method(s, o->methods.item[i]));
    }
    if (s->n_methods == 0) {
        FM_FAIL(FM_ERR_CONFIG, "augment: no method is named");
    }
    FM_TRY(fm_words_new(&s->words));
    bool synonyms = o->synonyms.n > 0;
    for (size_t i = 0; i < s->n_methods; i++) {
        fm_augment_method m = s->method[i];
        synonyms = synonyms || m == FM_AUGMENT_SYNONYM || m == FM_AUGMENT_INSERT;
        if (m == FM_AUGMENT_HOMOPHONE) {
            FM_TRY(needs("homophone", "homophones", o->homophones));
            FM_TRY(load(&s->homophones, (const char *const *)&o->homophones, 1));
        } else if (m == FM_AUGMENT_EQUIVALENT) {
            FM_TRY(needs("equivalent", "equivalents", o->equivalents));
            FM_TRY(load(&s->equivalents, (const char *const *)&o->equivalents, 1));
        }
    }
    if (synonyms && o->synonyms.n) {
        FM_TRY(load(&s->synonyms, (const char *const *)o->synonyms.item, o->synonyms.n));
    } else if (synonyms && fm_path_is_dir(WORDNET)) {
        FM_TRY(load(&s->synonyms, installed, 1));
    } else if (synonyms) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "augment: no synonyms are named and " WORDNET " is not there");
        return fm_error_hint("apt-get install wordnet-base brings it; or --synonyms PATH, or --methods swap,delete");
    }
    if (o->keep) {
        FM_TRY(load(&s->keep, (const char *const *)&o->keep, 1));
    }
    s->a = (fm_augmenter){.words = s->words,
                          .synonyms = s->synonyms,
                          .homophones = s->homophones,
                          .equivalents = s->equivalents,
                          .keep = s->keep,
                          .ratio = o->ratio,
                          .senses = (uint32_t)o->senses,
                          .common = (uint32_t)o->common,
                          .min_han = (uint32_t)o->min_han};
    return FM_OK;
}

static void augment_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_words_free(s->words);
        fm_lexicon_free(s->synonyms);
        fm_lexicon_free(s->homophones);
        fm_lexicon_free(s->equivalents);
        fm_lexicon_free(s->keep);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *local) {
    fm_augment_room_free(local);
}

/* The text of one copy into x->tmp[0]. */
static fm_status change(fm_step_ctx *x, fm_sv text, uint64_t hash, int64_t copy, size_t *changes) {
    const augment_options *o = x->step->opt;
    const state *s = x->step->state;
    size_t first = o->combine ? 0 : ((size_t)(hash % s->n_methods) + (size_t)copy) % s->n_methods;
    size_t n = o->combine ? s->n_methods : 1, some = 0;
    *changes = 0;
    fm_str_clear(&x->tmp[0]);
    fm_str_append(&x->tmp[0], text.ptr, text.len);
    FM_TRY(fm_str_check(&x->tmp[0]));
    for (size_t i = 0; i < n; i++) {
        fm_augment_method m = s->method[first + i];
        fm_rng_key key = {.seed = hash, .stream = fm_rng_stream(fm_augment_name(m)), .step = (uint32_t)copy};
        fm_sv from = {x->tmp[0].data ? x->tmp[0].data : "", x->tmp[0].len};
        FM_TRY(fm_augment(&s->a, x->local, &x->tmp[1], &some, from, m, key));
        fm_str t = x->tmp[0];
        x->tmp[0] = x->tmp[1];
        x->tmp[1] = t;
        *changes += some;
    }
    return fm_str_check(&x->tmp[0]);
}

static fm_status augment_row(fm_step_ctx *x, fm_rec *r) {
    const augment_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_cell *cell;
    FM_TRY(fm_step_text(x, r, o->column, &cell));
    if (!cell) {
        return FM_OK;
    }
    uint64_t row = fm_rec_hash(r), hash = fm_hash64(&row, sizeof row, x->step->seed);
    fm_sv text = cell->text;
    size_t at = (size_t)(cell - r->cell), first = x->emitted->n;
    for (int64_t i = 0; i < o->copies; i++) {
        size_t changes = 0;
        fm_rec *copy = NULL;
        FM_TRY(change(x, text, hash, i, &changes));
        const fm_str *t = &x->tmp[0];
        bool same = changes == 0 || t->len == 0 || (t->len == text.len && memcmp(t->data, text.ptr, t->len) == 0);
        bool again = false;
        for (size_t k = first; k < x->emitted->n && !same && !again; k++) {
            const fm_sv *e = &x->emitted->rec[k]->cell[at].text;
            again = e->len == t->len && memcmp(e->ptr, t->data, t->len) == 0;
        }
        if (same || again) {
            FM_TRY(fm_step_count(x, same ? "copies without a change" : "copies that came out alike", 1));
            continue;
        }
        FM_TRY(fm_step_emit(x, &copy, r));
        FM_TRY(fm_cell_set_text(x->arena, &copy->cell[at], t->data, t->len));
        const char *name = o->combine
                               ? "combined"
                               : fm_augment_name(s->method[((size_t)(hash % s->n_methods) + (size_t)i) % s->n_methods]);
        if (o->mark) {
            FM_TRY(fm_rec_set_text(x->arena, copy, o->mark, name, strlen(name)));
        }
        FM_TRY(fm_step_count(x, name, 1));
    }
    return o->originals ? FM_OK : fm_step_drop(x, r, "only its copies were asked for", NULL);
}

const fm_step_def fm_step_augment = {
    .name = "augment",
    .help = "adds copies of rows with words changed: synonyms, swaps, deletions, insertions, typos, homophones",
    .about =
        "Copies keep all other columns, labels with them. Columns that hold places in the text do not fit the\n"
        "copies. English takes synonyms from WordNet, Chinese from a list such as Cilin; docs/augmentation.md. Copies\n"
        "that say the same in other words, by way of another language: fathom data synth --task back-translate.",
    .examples = "fathom data augment -i train.jsonl -o more.jsonl --copies 4 --ratio 0.1\n"
                "fathom data augment -i zh.jsonl -o more.jsonl --synonyms cilin.txt.gz --methods synonym,homophone "
                "--homophones sounds.txt\n"
                "fathom data augment -i train.jsonl -o more.jsonl --copies 12 --methods delete,typo,swap --combine\n"
                "fathom data augment -i all.csv -o copies.csv --methods swap,delete --no-originals --mark how",
    .options = rows,
    .options_bytes = sizeof(augment_options),
    .open = augment_open,
    .close = augment_close,
    .row = augment_row,
    .local_bytes = sizeof(fm_augment_room),
    .local_free = local_free,
};
