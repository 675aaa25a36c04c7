/* Suggestions by a model that was trained to label: stage cls (one label or several) or tag (entities). */
#ifndef FM_DATA_LABEL_MODEL_H
#define FM_DATA_LABEL_MODEL_H

#include "data/label.h"

typedef struct fm_label_model fm_label_model;
/* The model of o->local_model. guide NULL: all of its labels; else those of the guide alone, and a guide of another
 * kind or without any of its labels is FM_ERR_CONFIG. Both outlive it. */
FM_MUST_CHECK fm_status fm_label_model_open(fm_label_model **out, const fm_label_settings *o, const fm_guide *guide);
void fm_label_model_close(fm_label_model *m);
/* Appends result items of Label Studio for a text; *score: how sure the model is, 0 to 1. Any thread. */
FM_MUST_CHECK fm_status fm_label_model_suggest(fm_label_model *m, fm_sv text, fm_str *result, double *score);

#endif
