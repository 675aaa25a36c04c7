/* domain: rows weighted, or chosen, by how like they are to a sample of target text (domain.h, domain_judge.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/domain_judge.h"
#include "data/langid.h"
#include "data/records.h"
#include "data/spool.h"
#include "data/step.h"

#define FEW_ROWS    5000
#define MOST_TARGET 20000 /* rows whose topics are looked at */

typedef struct domain_options {
    char *column, *target_column, *into, *probability_into;
    fm_strlist target;
    int method;
    int64_t rows, chars;
    double fraction, min_probability, cost;
    bool noise, per_word;
} domain_options;

enum { BY_IMPORTANCE, BY_CLASSIFIER };

static const fm_option rows[] = {
    FM_STEP_COLUMN(domain_options),
    {"target", FM_OPT_LIST, offsetof(domain_options, target), NULL, 0, 0, NULL, NULL, "FILES",
     "sample of the text that is wanted, in any input format"},
    {"target_column", FM_OPT_STR, offsetof(domain_options, target_column), "text", 0, 0, NULL, NULL, "NAME",
     "its text column"},
    {"method", FM_OPT_ENUM, offsetof(domain_options, method), "importance", 0, 0, "importance|classifier", NULL, NULL,
     "words counted (DSIR), or a classifier learnt from the target and the rows"},
    {"rows", FM_OPT_INT, offsetof(domain_options, rows), "0", 0, 1e12, NULL, NULL, NULL,
     "keep so many rows, the likest ones"},
    {"fraction", FM_OPT_FLOAT, offsetof(domain_options, fraction), "0", 0, 1, NULL, NULL, NULL,
     "or this share of the rows; neither: all stay and get their weight"},
    {"min_probability", FM_OPT_FLOAT, offsetof(domain_options, min_probability), "0", 0, 1, NULL, NULL, NULL,
     "classifier: or rows that are at least so probably of the target"},
    {"into", FM_OPT_STR, offsetof(domain_options, into), "domain_weight", 0, 0, NULL, NULL, "NAME",
     "importance: column for the logarithm of the weight; empty = none"},
    {"probability_into", FM_OPT_STR, offsetof(domain_options, probability_into), "domain_probability", 0, 0, NULL, NULL,
     "NAME", "classifier: column for the probability, where target and rows are equally many; empty = none"},
    {"noise", FM_OPT_BOOL, offsetof(domain_options, noise), "true", 0, 0, NULL, NULL, NULL,
     "importance: draw rows in proportion to their weights (Gumbel noise, by the seed), not the highest"},
    {"per_word", FM_OPT_BOOL, offsetof(domain_options, per_word), "false", 0, 0, NULL, NULL, NULL,
     "importance: divide the logarithm by the words and pairs of the row, so that long rows do not stand out"},
    {"chars", FM_OPT_INT, offsetof(domain_options, chars), "0", 0, FM_DOMAIN_CHARS, NULL, NULL, NULL,
     "classifier: look at runs of so many characters too; 0 = words and pairs of words alone"},
    {"cost", FM_OPT_FLOAT, offsetof(domain_options, cost), "1", 1e-6, 1e6, NULL, NULL, NULL,
     "classifier: C of logistic regression; larger follows the rows more closely"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_domain_profile target, before, after;
    fm_domain_topics topics;
    float *vector; /* of target rows, while they are read */
    size_t n_vectors, vectors_cap;
    fm_spool spool; /* of the rows */
    fm_spool target_spool;
    fm_domain_judge *judge;
    float ratio[FM_DOMAIN_BUCKETS];
    double *score, *weight; /* [n] by ordinal; NAN for a row without words. weight: or the probability */
    size_t n;
    double cut;
    char language[FM_DOMAIN_LANGUAGES][16];
    int n_languages;
    bool languages; /* CLD2 is there */
} state;

/* What `row` leaves for `observe`. */
typedef struct features {
    uint16_t *bucket;
    size_t n, n_words; /* n: runs of characters among them */
    const char *language;
    int topic;
} features;

/* 0 is "not known", the last stands for all further ones. */
static int language_index(state *s, const char *code) {
    int i = 0;
    while (i < s->n_languages && strcmp(s->language[i], code) != 0) {
        i++;
    }
    if (i == s->n_languages && i < FM_DOMAIN_LANGUAGES - 1) {
        snprintf(s->language[s->n_languages++], sizeof s->language[0], "%s", code);
    }
    return i;
}

static const char *language_of(const state *s, fm_sv text) {
    fm_langid found = {.code = "und"};
    if (s->languages) {
        fm_langid_detect(&found, text);
    }
    return found.reliable ? found.code : "und";
}

/* ---- the target ---- */

static fm_status add_target(const fm_step *step, fm_domain_text *t, fm_sv text) {
    const domain_options *o = step->opt;
    state *s = step->state;
    FM_TRY(fm_domain_split(t, text, (int)o->chars));
    if (t->n_words == 0) {
        return FM_OK;
    }
    fm_domain_count(&s->target, t->bucket, fm_domain_n_words(t->n_words), t->n_words,
                    language_index(s, language_of(s, text)), 0);
    if (o->method == BY_CLASSIFIER) {
        FM_TRY(fm_domain_spool_put(&s->target_spool, t->bucket, t->n, t->n_words, 0, 0));
    }
    if (s->n_vectors < MOST_TARGET) {
        void *p = s->vector;
        FM_TRY(fm_grow(&p, &s->vectors_cap, s->n_vectors + 1, sizeof t->vector));
        s->vector = p;
        memcpy(s->vector + s->n_vectors++ * FM_DOMAIN_DIMS, t->vector, sizeof t->vector);
    }
    return FM_OK;
}

static fm_status read_target(fm_step *step, fm_records *in, fm_domain_text *t) {
    const domain_options *o = step->opt;
    state *s = step->state;
    for (;;) {
        fm_rec *r;
        fm_bump *arena;
        FM_TRY(fm_records_next(in, &r, &arena));
        if (!r) {
            break;
        }
        const fm_cell *c = fm_rec_get(r, o->target_column);
        if (c && c->kind == FM_CELL_TEXT) {
            FM_TRY(add_target(step, t, c->text));
        }
    }
    if (s->target.n == 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "domain: the target has no text in a column '%s' (%lld rows)",
                     o->target_column, (long long)fm_records_n_read(in));
        return fm_error_hint("--target-column names the column");
    }
    size_t bytes = s->n_vectors * FM_DOMAIN_DIMS * sizeof(float);
    float *counts = fm_malloc(bytes); /* fitting overwrites them */
    if (!counts) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot look for topics of %zu rows", s->n_vectors);
    }
    memcpy(counts, s->vector, bytes);
    fm_domain_topics_fit(&s->topics, counts, s->n_vectors);
    fm_free(counts);
    s->target.topic[0] = 0;
    for (size_t i = 0; i < s->n_vectors; i++) {
        s->target.topic[fm_domain_topic(&s->topics, s->vector + i * FM_DOMAIN_DIMS)]++;
    }
    fm_free(s->vector);
    s->vector = NULL;
    return FM_OK;
}

static fm_status domain_open(fm_step *step) {
    const domain_options *o = step->opt;
    const fm_records_options ro = {.input = o->target};
    fm_records *in;
    fm_domain_text t = {0};
    if (o->target.n == 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "domain needs a sample of target text");
        return fm_error_hint("such as --target wanted.jsonl");
    }
    if ((o->rows > 0) + (o->fraction > 0) + (o->min_probability > 0) > 1) {
        FM_FAIL(FM_ERR_CONFIG, "domain: expected one of rows, fraction and min_probability, found several");
    }
    if (o->method != BY_CLASSIFIER && (o->min_probability > 0 || o->chars > 0)) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "domain: %s is an option of the classifier",
                           o->chars > 0 ? "chars" : "min_probability");
        return fm_error_hint("add --method classifier");
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    s->languages = fm_langid_open() == FM_OK;
    FM_ASSERT(language_index(s, "und") == 0);
    if (o->method == BY_CLASSIFIER) {
        FM_TRY(fm_mkdirs(step->env->work_dir));
        FM_TRY(fm_spool_open(&s->target_spool, 1, step->env->work_dir));
    }
    FM_TRY(fm_records_open(&in, &ro));
    fm_status st = read_target(step, in, &t);
    fm_records_close(in);
    fm_domain_text_free(&t);
    return st;
}

static void domain_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_spool_close(&s->spool);
        fm_spool_close(&s->target_spool);
        fm_domain_judge_free(s->judge);
        fm_free(s->vector);
        fm_free(s->score);
        fm_free(s->weight);
        fm_free(s);
        step->state = NULL;
    }
}

/* ---- the rows ---- */

static void local_free(void *local) {
    fm_domain_text_free(local);
}

static fm_status domain_row(fm_step_ctx *x, fm_rec *r) {
    const domain_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_domain_text *t = x->local;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    if (c->text.len > 1 << 30) {
        return fm_step_drop(x, r, "longer than 1 GiB", NULL);
    }
    FM_TRY(fm_domain_split(t, c->text, (int)o->chars));
    features *f = fm_bump_alloc(x->arena, sizeof *f + t->n * sizeof *f->bucket);
    if (!f) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %zu words and pairs of a row", t->n);
    }
    *f = (features){.bucket = (uint16_t *)(f + 1),
                    .n = t->n,
                    .n_words = t->n_words,
                    .language = language_of(s, c->text),
                    .topic = fm_domain_topic(&s->topics, t->vector)};
    if (t->n) {
        memcpy(f->bucket, t->bucket, t->n * sizeof *f->bucket);
    }
    r->aux = f;
    return FM_OK;
}

static fm_status domain_observe(fm_step_ctx *x, fm_rec *r) {
    state *s = x->step->state;
    const features *f = r->aux;
    if (!s->spool.file) {
        FM_TRY(fm_spool_open(&s->spool, 1, x->step->env->work_dir));
    }
    FM_ASSERT(f);
    const int language = language_index(s, f->language);
    FM_TRY(fm_domain_spool_put(&s->spool, f->bucket, f->n, f->n_words, language, f->topic));
    fm_domain_count(&s->before, f->bucket, fm_domain_n_words(f->n_words), f->n_words, language, f->topic);
    s->n++;
    return FM_OK;
}

static int downwards(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The score that the last row kept has. */
static fm_status set_cut(fm_step *step) {
    const domain_options *o = step->opt;
    state *s = step->state;
    double *sorted = fm_malloc((s->n + 1) * sizeof *sorted);
    size_t n = 0;
    if (!sorted) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot order %zu rows", s->n);
    }
    for (size_t i = 0; i < s->n; i++) {
        if (!isnan(s->score[i])) {
            sorted[n++] = s->score[i];
        }
    }
    size_t keep = o->rows > 0 ? (size_t)FM_MIN((uint64_t)o->rows, n) : (size_t)(o->fraction * (double)n + 0.5);
    qsort(sorted, n, sizeof *sorted, downwards);
    s->cut = keep ? sorted[FM_MIN(keep, n) - 1] : INFINITY;
    fm_free(sorted);
    return FM_OK;
}

/* Weight and score of row i. */
static void score_row(fm_step *step, const fm_domain_text *t, size_t i) {
    const domain_options *o = step->opt;
    state *s = step->state;
    if (t->n_words == 0) {
        s->weight[i] = s->score[i] = NAN;
    } else if (s->judge) {
        s->weight[i] = s->score[i] = fm_domain_judge_ask(s->judge, t);
    } else {
        const double sum = fm_domain_weight(s->ratio, t);
        uint64_t h = fm_hash64(&i, sizeof i, step->seed);
        double u = ((double)(h >> 11) + 0.5) * 0x1p-53;
        s->weight[i] = o->per_word ? sum / (double)fm_domain_n_words(t->n_words) : sum;
        s->score[i] = s->weight[i] - (o->noise ? log(-log(u)) : 0);
    }
}

static fm_status score_rows(fm_step *step, fm_domain_text *t) {
    const domain_options *o = step->opt;
    state *s = step->state;
    int language, topic;
    FM_TRY(fm_spool_rewind(&s->spool));
    for (size_t i = 0; i < s->n; i++) {
        FM_TRY(fm_domain_spool_get(&s->spool, t, &language, &topic));
        score_row(step, t, i);
    }
    s->cut = o->min_probability > 0 ? o->min_probability : -INFINITY;
    if (o->rows > 0 || o->fraction > 0) {
        FM_TRY(set_cut(step));
    }
    FM_TRY(fm_spool_rewind(&s->spool));
    for (size_t i = 0; i < s->n; i++) {
        FM_TRY(fm_domain_spool_get(&s->spool, t, &language, &topic));
        if (s->score[i] >= s->cut) {
            fm_domain_count(&s->after, t->bucket, fm_domain_n_words(t->n_words), t->n_words, language, topic);
        }
    }
    return FM_OK;
}

static fm_status domain_resolve(fm_step *step) {
    const domain_options *o = step->opt;
    state *s = step->state;
    fm_domain_text t = {0};
    fm_status st = FM_OK;
    s->score = fm_calloc(s->n + 1, sizeof *s->score);
    s->weight = fm_calloc(s->n + 1, sizeof *s->weight);
    if (!s->score || !s->weight) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot weigh %zu rows", s->n);
    }
    if (o->method == BY_IMPORTANCE) {
        fm_domain_ratios(s->ratio, &s->target, &s->before);
    } else if (s->n) {
        FM_TRY(fm_domain_judge_fit(&s->judge, &s->target_spool, (size_t)s->target.n, &s->spool, s->n, o->cost,
                                   step->seed));
    }
    if (s->n) {
        st = score_rows(step, &t);
    }
    fm_domain_text_free(&t);
    fm_spool_close(&s->spool);
    if (st == FM_OK && s->after.n < FEW_ROWS) {
        fm_warn("domain: %lld rows are left; fewer than %d are little to learn a domain from", (long long)s->after.n,
                FEW_ROWS);
    }
    return st;
}

static fm_status domain_apply(fm_step_ctx *x, fm_rec *r) {
    const domain_options *o = x->step->opt;
    const state *s = x->step->state;
    FM_ASSERT(r->ordinal >= 0 && (size_t)r->ordinal < s->n);
    const double weight = s->weight[r->ordinal];
    if (isnan(weight)) {
        return fm_step_drop(x, r, "no words", NULL);
    }
    const char *into = o->method == BY_CLASSIFIER ? o->probability_into : o->into;
    if (into) {
        FM_TRY(fm_rec_set_float(x->arena, r, into, weight));
    }
    return s->score[r->ordinal] >= s->cut ? FM_OK : fm_step_drop(x, r, "unlike the target", NULL);
}

static void put_distance(fm_str *json, const char *name, const state *s, const fm_domain_profile *p) {
    fm_domain_distance d = fm_domain_compare(&s->target, p);
    fm_str_printf(json, ", \"%s\": {\"rows\": %lld, \"vocabulary\": %.6f, \"lengths\": %.6f, \"topics\": %.6f, ", name,
                  (long long)p->n, d.vocabulary, d.lengths, d.topics);
    if (s->languages) {
        fm_str_printf(json, "\"languages\": %.6f}", d.languages);
    } else {
        fm_str_puts(json, "\"languages\": null}");
    }
}

static fm_status domain_report(fm_step *step, fm_str *json) {
    const state *s = step->state;
    fm_str_printf(json, "{\"target_rows\": %lld", (long long)s->target.n);
    put_distance(json, "distance_before", s, &s->before);
    put_distance(json, "distance_after", s, &s->after);
    if (s->judge) {
        fm_str_puts(json, ", \"classifier\": ");
        fm_domain_judge_report(s->judge, json);
    }
    fm_str_printf(json, ", \"few_rows\": %s}", s->after.n < FEW_ROWS ? "true" : "false");
    return fm_str_check(json);
}

const fm_step_def fm_step_domain = {
    .name = "domain",
    .help = "weighs or chooses rows by their likeness to a sample of target text (DSIR, or a classifier)",
    .about =
        "The manifest has the distance from the target before and after: of vocabulary, lengths, topics and (with\n"
        "CLD2) languages, from 0 (the same) to 1. Warns when fewer than 5,000 rows are left. The classifier is "
        "logistic\n"
        "regression over hashed words, pairs of words and runs of characters; no row is judged by one that learnt "
        "from\n"
        "it, and the manifest says how well it tells the target from the rows (auc, log_loss, calibration_error).",
    .examples = "fathom data domain -i web.jsonl -o medical.jsonl --target pubmed.jsonl --fraction 0.05\n"
                "fathom data domain -i web.jsonl -o weighted.jsonl --target notes.csv --target-column note\n"
                "fathom data domain -i web.jsonl -o medical.jsonl --target pubmed.jsonl --method classifier \\\n"
                "    --min-probability 0.9",
    .options = rows,
    .options_bytes = sizeof(domain_options),
    .memory =
        "16 bytes a row; 4 bytes a word wait on disk; a sample of the target's rows (20 MB); classifier: 200 MB more "
        "at most",
    .open = domain_open,
    .close = domain_close,
    .row = domain_row,
    .observe = domain_observe,
    .resolve = domain_resolve,
    .apply = domain_apply,
    .report = domain_report,
    .local_bytes = sizeof(fm_domain_text),
    .local_free = local_free,
};
