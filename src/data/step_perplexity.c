/* perplexity: how expected each row's text is to an n-gram model, or to a language model. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/models.h"
#include "data/ngram.h"
#include "data/step.h"

typedef struct perplexity_options {
    char *column, *into, *fluency_into, *model;
    double max, min, min_fluency;
} perplexity_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(perplexity_options),
    {"model", FM_OPT_STR, offsetof(perplexity_options, model), NULL, 0, 0, NULL, NULL, "FILE",
     "n-gram model (fathom data ngram), or a folder with a language model, or its GGUF file"},
    {"into", FM_OPT_STR, offsetof(perplexity_options, into), "perplexity", 0, 0, NULL, NULL, "NAME",
     "column for the perplexity (null for a text without words); empty = none"},
    {"fluency_into", FM_OPT_STR, offsetof(perplexity_options, fluency_into), NULL, 0, 0, NULL, NULL, "NAME",
     "column for the share of rows held out of the model's training that are harder to expect than this one: 0 to 1"},
    {"max", FM_OPT_FLOAT, offsetof(perplexity_options, max), "0", 0, 1e300, NULL, NULL, NULL,
     "rows with a higher perplexity go; 0 = any"},
    {"min", FM_OPT_FLOAT, offsetof(perplexity_options, min), "0", 0, 1e300, NULL, NULL, NULL,
     "rows with a lower one go (boilerplate that the model knows by heart)"},
    {"min_fluency", FM_OPT_FLOAT, offsetof(perplexity_options, min_fluency), "0", 0, 1, NULL, NULL, NULL,
     "rows with a smaller fluency go"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    fm_ngram *ngram; /* or */
    void *model;
    const fm_data_models *models;
    pthread_mutex_t lock; /* a model computes one row at a time, with all threads */
} state;

static bool is_model(const char *path) {
    size_t n = strlen(path);
    return fm_path_is_dir(path) || (n > 5 && strcmp(path + n - 5, ".gguf") == 0);
}

static fm_status open_model(fm_step *step) {
    const perplexity_options *o = step->opt;
    state *s = step->state;
    s->models = fm_data_get_models();
    if (!s->models) {
        FM_FAIL(FM_ERR_STATE, "perplexity: this program gave data steps no models (fm_data_use_models)");
    }
    if (o->fluency_into || o->min_fluency > 0) {
        FM_FAIL(FM_ERR_CONFIG, "perplexity: only n-gram models know what is usual (fluency)");
    }
    return s->models->open(&s->model, o->model, step->env->n_threads, true);
}

static fm_status perplexity_open(fm_step *step) {
    const perplexity_options *o = step->opt;
    if (!o->model) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "perplexity needs a model");
        return fm_error_hint("train one with: fathom data ngram -i GOOD_TEXT -o good.ngram; then --model good.ngram");
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    pthread_mutex_init(&s->lock, NULL);
    if (is_model(o->model)) {
        return open_model(step);
    }
    FM_TRY(fm_ngram_open(&s->ngram, o->model));
    if ((o->fluency_into || o->min_fluency > 0) && fm_ngram_fluency(s->ngram, 1) < 0) {
        fm_error_set(
            FM_ERR_CONFIG, __FILE__, __LINE__,
            "'%s' does not know what is usual: it was made without rows held out, or of fewer than 100 of them",
            o->model);
        return fm_error_hint("train it with more rows, or with a smaller hold_out");
    }
    return FM_OK;
}

static void perplexity_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_ngram_close(s->ngram);
        if (s->model) {
            s->models->close(s->model);
        }
        pthread_mutex_destroy(&s->lock);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *local) {
    fm_ngram_line_free(local);
}

static fm_status score(fm_step_ctx *x, fm_ngram_score *out, fm_sv text) {
    state *k = x->step->state;
    double nats = 0;
    if (k->ngram) {
        return fm_ngram_score_text(k->ngram, out, x->local, text);
    }
    *out = (fm_ngram_score){0};
    pthread_mutex_lock(&k->lock);
    fm_status s = k->models->loss(k->model, text, &nats, &out->n_units);
    pthread_mutex_unlock(&k->lock);
    out->log10_p = -nats / log(10);
    return s;
}

static fm_status perplexity_row(fm_step_ctx *x, fm_rec *r) {
    const perplexity_options *o = x->step->opt;
    const state *k = x->step->state;
    fm_ngram_score s;
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    FM_TRY(score(x, &s, c->text));
    FM_TRY(fm_step_count(x, "units", s.n_units));
    FM_TRY(fm_step_count(x, "units not in the model", s.n_unknown));
    if (s.n_units == 0) {
        FM_TRY(o->into ? fm_rec_set_null(x->arena, r, o->into) : FM_OK);
        FM_TRY(o->fluency_into ? fm_rec_set_null(x->arena, r, o->fluency_into) : FM_OK);
        return o->max > 0 || o->min > 0 || o->min_fluency > 0 ? fm_step_drop(x, r, "no words", NULL) : FM_OK;
    }
    double perplexity = fm_ngram_perplexity(&s), fluency = k->ngram ? fm_ngram_fluency(k->ngram, perplexity) : 0;
    FM_TRY(o->into ? fm_rec_set_float(x->arena, r, o->into, perplexity) : FM_OK);
    FM_TRY(o->fluency_into ? fm_rec_set_float(x->arena, r, o->fluency_into, fluency) : FM_OK);
    const char *reason = o->max > 0 && perplexity > o->max                ? "perplexity too high"
                         : perplexity < o->min                            ? "perplexity too low"
                         : o->min_fluency > 0 && fluency < o->min_fluency ? "not fluent"
                                                                          : NULL;
    if (reason) {
        char detail[64];
        snprintf(detail, sizeof detail, "perplexity %.4g", perplexity);
        return fm_step_drop(x, r, reason, detail);
    }
    return FM_OK;
}

const fm_step_def fm_step_perplexity = {
    .name = "perplexity",
    .help = "perplexity and fluency of each row by an n-gram or any other model; drops what is out of bounds",
    .about =
        "The model says by itself what a unit is (words, or characters for Chinese). Perplexity is over all units and\n"
        "line ends of a row. For a share of the rows instead of a limit, let the step outliers cut the column\n"
        "perplexity at a percentile.",
    .examples = "fathom data perplexity -i web.jsonl -o scored.jsonl --model wiki.ngram\n"
                "fathom data perplexity -i web.jsonl -o good.jsonl --model wiki.ngram --max 1000 --min 20\n"
                "fathom data perplexity -i web.jsonl -o scored.jsonl --model out/small-model\n"
                "fathom data perplexity -i zh.jsonl -o good.jsonl --model zh.ngram --fluency-into fluency "
                "--min-fluency 0.02",
    .options = rows,
    .options_bytes = sizeof(perplexity_options),
    .open = perplexity_open,
    .close = perplexity_close,
    .row = perplexity_row,
    .local_bytes = sizeof(fm_ngram_line),
    .local_free = local_free,
};
