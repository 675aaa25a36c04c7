/* What a model with a head for labels or tags says of a text, as data steps ask for it (data/models.h). */
#ifndef FM_EVAL_LABELLING_H
#define FM_EVAL_LABELLING_H

#include "data/models.h"
#include "fathom/model.h"

typedef struct fm_labelling fm_labelling;
/* The main head of a model. Both outlive it; one thread at a time. FM_ERR_CONFIG for a head of another kind. */
FM_MUST_CHECK fm_status fm_labelling_new(fm_labelling **out, fm_model *m, const fm_tokenizer *t);
void fm_labelling_free(fm_labelling *l);
FM_MUST_CHECK fm_status fm_labelling_names(const fm_labelling *l, fm_label_names *out, fm_data_labels *kind);
FM_MUST_CHECK fm_status fm_labelling_say(fm_labelling *l, fm_sv text, fm_json **out);

#endif
