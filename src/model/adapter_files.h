/* Inside of the adapters: building one by hand. */
#ifndef FM_MODEL_ADAPTER_FILES_H
#define FM_MODEL_ADAPTER_FILES_H

#include "model/adapter.h"

/* A matrix that the linear operation multiplies by: no table of embeddings, no head. */
bool fm_is_linear(const fm_model *m, const fm_param *p);
/* A weight of a head with labels or numbers, or of what weighs tasks: no language model reads it. */
bool fm_is_task_head(const fm_model *m, const fm_param *p);
/* Not attached yet. */
FM_MUST_CHECK fm_status fm_adapter_begin(fm_adapter **out, fm_model *m);
FM_MUST_CHECK fm_status fm_adapter_add(fm_adapter *a, fm_param *w, int64_t rank);
/* A parameter of the base that the adapter has a whole one of. */
FM_MUST_CHECK fm_status fm_adapter_add_whole(fm_adapter *a, fm_param *w);
void fm_adapter_attach(fm_adapter *a);

#endif
