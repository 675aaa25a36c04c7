/* What data steps ask of models (data/models.h). */
#include "base/error.h"
#include "base/mem.h"
#include "data/models.h"
#include "eval/labelling.h"
#include "fathom/evaluate.h"
#include "model/model.h"
#include "text/bpe.h"

#define PIECE 2048 /* tokens of one pass */

typedef struct judge {
    fm_model *m;
    const fm_tokenizer *t; /* the model's */
    int32_t piece;
    fm_tokens ids;
    int32_t target[PIECE];
    float loss[PIECE];
    float *vector; /* [d_model] */
    fm_labelling *labelling;
} judge;

static void judge_close(void *model) {
    judge *j = model;
    if (j) {
        fm_tokens_free(&j->ids);
        fm_free(j->vector);
        fm_labelling_free(j->labelling);
        fm_model_close(j->m);
        fm_free(j);
    }
}

static fm_status prepare(judge *j, const char *path, bool continues) {
    FM_TRY(fm_model_tokenizer(&j->t, j->m));
    if (continues && !fm_model_generates(j->m)) {
        FM_FAIL(FM_ERR_CONFIG, "the model %s does not predict the next token", path);
    }
    j->vector = fm_calloc((size_t)j->m->cfg.d_model, sizeof *j->vector);
    if (!j->vector) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a vector of %d numbers", (int)j->m->cfg.d_model);
    }
    j->piece = (int32_t)FM_MAX(2, FM_MIN((int64_t)PIECE, j->m->cfg.max_position));
    return FM_OK;
}

static fm_status judge_open(void **out, const char *path, int n_threads, bool continues) {
    fm_model_options o = {.size = sizeof o, .threads = n_threads};
    judge *j = fm_calloc(1, sizeof *j);
    *out = NULL;
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a model that judges rows");
    }
    fm_status s = fm_model_open(&j->m, path, &o);
    if (s == FM_OK) {
        s = prepare(j, path, continues);
    }
    if (s != FM_OK) {
        judge_close(j);
        return s;
    }
    *out = j;
    return FM_OK;
}

static fm_status judge_loss(void *model, fm_sv text, double *nats, int64_t *n_tokens) {
    judge *j = model;
    const fm_encode_options o = {.size = sizeof o};
    const int32_t bos = fm_tokenizer_bos(j->t);
    *nats = 0;
    *n_tokens = 0;
    j->ids.n = 0;
    if (bos >= 0) {
        FM_TRY(fm_tokens_push(&j->ids, bos));
    }
    FM_TRY(fm_tokenizer_encode(&j->ids, j->t, text.ptr, text.len, &o));
    for (size_t at = 0; at + 1 < j->ids.n; at += (size_t)j->piece - 1) { /* the last of one begins the next */
        const int32_t n = (int32_t)FM_MIN((size_t)j->piece, j->ids.n - at), offsets[2] = {0, n};
        for (int32_t i = 0; i < n; i++) {
            j->target[i] = i + 1 < n ? j->ids.ids[at + (size_t)i + 1] : -100;
        }
        const fm_texts t = {.size = sizeof t, .ids = j->ids.ids + at, .offsets = offsets, .n = 1};
        FM_TRY(fm_model_token_losses(j->m, &t, j->target, j->loss));
        for (int32_t i = 0; i + 1 < n; i++) {
            *nats += (double)j->loss[i];
        }
        *n_tokens += n - 1;
    }
    return FM_OK;
}

static fm_status judge_embed(void *model, fm_sv text, const float **out, int32_t *n) {
    judge *j = model;
    const fm_encode_options o = {.size = sizeof o, .add_special = true};
    j->ids.n = 0;
    *n = 0;
    *out = j->vector;
    FM_TRY(fm_tokenizer_encode(&j->ids, j->t, text.ptr, text.len, &o));
    if (j->ids.n == 0) {
        return FM_OK;
    }
    const int32_t offsets[2] = {0, (int32_t)FM_MIN((int64_t)j->ids.n, (int64_t)j->m->cfg.max_position)};
    const fm_texts t = {.size = sizeof t, .ids = j->ids.ids, .offsets = offsets, .n = 1};
    FM_TRY(fm_model_embed(j->m, &t, NULL, j->vector));
    *n = (int32_t)j->m->cfg.d_model;
    return FM_OK;
}

static fm_status judge_labels(void *model, fm_label_names *out, fm_data_labels *kind) {
    judge *j = model;
    if (!j->labelling) {
        FM_TRY(fm_labelling_new(&j->labelling, j->m, j->t));
    }
    return fm_labelling_names(j->labelling, out, kind);
}

static fm_status judge_label(void *model, fm_sv text, fm_json **out) {
    judge *j = model;
    if (!j->labelling) {
        FM_TRY(fm_labelling_new(&j->labelling, j->m, j->t));
    }
    return fm_labelling_say(j->labelling, text, out);
}

void fm_data_use_models(void) {
    static const fm_data_models models = {.open = judge_open,
                                          .loss = judge_loss,
                                          .embed = judge_embed,
                                          .labels = judge_labels,
                                          .label = judge_label,
                                          .close = judge_close};
    fm_data_set_models(&models);
}
