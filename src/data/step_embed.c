/* embed: a vector of each row's text by a model into a column, for steps and programs that work on vectors. */
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/models.h"
#include "data/step.h"

typedef struct embed_options {
    char *column, *into, *model;
} embed_options;

static const fm_option rows[] = {
    FM_STEP_COLUMN(embed_options),
    {"model", FM_OPT_STR, offsetof(embed_options, model), NULL, 0, 0, NULL, NULL, "DIR",
     "folder with an encoder or a language model, or a GGUF file"},
    {"into", FM_OPT_STR, offsetof(embed_options, into), "embedding", 0, 0, NULL, NULL, "NAME",
     "column for the list of numbers"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    const fm_data_models *models;
    void *model;
    pthread_mutex_t lock; /* a model computes one row at a time, with all threads */
} state;

static fm_status embed_open(fm_step *step) {
    const embed_options *o = step->opt;
    if (!o->model) {
        FM_FAIL(FM_ERR_CONFIG, "embed needs a model");
    }
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    pthread_mutex_init(&s->lock, NULL);
    s->models = fm_data_get_models();
    if (!s->models) {
        FM_FAIL(FM_ERR_STATE, "embed: this program gave data steps no models (fm_data_use_models)");
    }
    return s->models->open(&s->model, o->model, step->env->n_threads, false);
}

static void embed_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        if (s->model) {
            s->models->close(s->model);
        }
        pthread_mutex_destroy(&s->lock);
        fm_free(s);
        step->state = NULL;
    }
}

static fm_status embed_row(fm_step_ctx *x, fm_rec *r) {
    const embed_options *o = x->step->opt;
    state *s = x->step->state;
    fm_str *out = &x->tmp[0];
    fm_cell *c;
    FM_TRY(fm_step_text(x, r, o->column, &c));
    if (!c) {
        return FM_OK;
    }
    const float *v = NULL;
    int32_t n = 0;
    fm_str_clear(out);
    pthread_mutex_lock(&s->lock);
    fm_status st = s->models->embed(s->model, c->text, &v, &n);
    for (int32_t i = 0; st == FM_OK && i < n; i++) {
        fm_str_printf(out, "%s%.9g", i ? "," : "[", (double)v[i]);
    }
    pthread_mutex_unlock(&s->lock);
    FM_TRY(st);
    if (n == 0) {
        return fm_step_drop(x, r, "no tokens", NULL);
    }
    fm_str_putc(out, ']');
    FM_TRY(fm_str_check(out));
    return fm_rec_set_json(x->arena, r, o->into, out->data, out->len);
}

const fm_step_def fm_step_embed = {
    .name = "embed",
    .help = "a vector of each row's text by a model, into a column",
    .about =
        "Pooling is what the model's folder says (sentence-transformers), else the mean for encoders and the last\n"
        "token for decoders. Texts longer than the model's context are cut. 'balance' with smote takes the column.",
    .examples = "fathom data embed -i reviews.jsonl -o vectors.jsonl --model out/encoder\n"
                "fathom data balance -i vectors.jsonl -o balanced.jsonl --method smote --numeric embedding",
    .options = rows,
    .options_bytes = sizeof(embed_options),
    .open = embed_open,
    .close = embed_close,
    .row = embed_row,
};
