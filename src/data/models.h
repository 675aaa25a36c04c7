/* Models for data steps. Layers with models lie above this one: they give these functions (fm_data_use_models). */
#ifndef FM_DATA_MODELS_H
#define FM_DATA_MODELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/str.h"
#include "data/label_names.h"

typedef enum fm_data_labels { FM_DATA_ONE_LABEL, FM_DATA_SEVERAL_LABELS, FM_DATA_TAGS } fm_data_labels;

typedef struct fm_data_models {
    /* continues: FM_ERR_CONFIG for a model that does not predict the next token. */
    fm_status (*open)(void **out, const char *path, int n_threads, bool continues);
    /* Sum of -ln p of a text's tokens and how many they are; a text longer than the model's context is cut into pieces
     * that do not see each other. One thread at a time. */
    fm_status (*loss)(void *model, fm_sv text, double *nats, int64_t *n_tokens);
    /* One vector of a text (its beginning, where it is longer than the context), until the next call; *n 0 for a text
     * without tokens. One thread at a time. */
    fm_status (*embed)(void *model, fm_sv text, const float **out, int32_t *n);
    /* What a head for labels of texts or tags of words says (the main head): names of the labels, or of the types of
     * what is tagged. FM_ERR_CONFIG for a model without such a head. */
    fm_status (*labels)(void *model, fm_label_names *out, fm_data_labels *kind);
    /* JSON: {"labels": [names]} or {"entities": [{"start", "end", "label"}]}, places in characters, and "score": how
     * sure it is, 0 to 1. One thread at a time. */
    fm_status (*label)(void *model, fm_sv text, fm_json **out);
    void (*close)(void *model);
} fm_data_models;

void fm_data_set_models(const fm_data_models *m); /* outlives all steps; before any runs */
const fm_data_models *fm_data_get_models(void);   /* NULL: none were given */

#endif
