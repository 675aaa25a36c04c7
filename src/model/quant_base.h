/* Frozen weights held quantised under an adapter (QLoRA: Dettmers et al. 2023): the matrices of linear layers, routers
 * left out, which decide by small differences. Embeddings, heads and norms stay in the compute type. */
#ifndef FM_MODEL_QUANT_BASE_H
#define FM_MODEL_QUANT_BASE_H

#include "model/model.h"

typedef struct fm_quant_base {
    fm_dtype type;
    bool twice;         /* nf4: scales of its blocks as bytes */
    const char *stored; /* instead of type: each weight as the files of this model have it */
} fm_quant_base;

/* "nf4", "int8", "q4_k" ...: types that weights can be brought to here. */
FM_MUST_CHECK fm_status fm_quant_base_parse(fm_dtype *out, const char *name);
/* Describes them so in a model without memory. FM_ERR_CONFIG when no weight can be held in the type. */
FM_MUST_CHECK fm_status fm_quant_base_describe(fm_model *m, const fm_quant_base *q);
/* Rounds the same weights of a model in f32 memory to what the type keeps of them. */
FM_MUST_CHECK fm_status fm_quant_base_round(fm_model *m, const fm_quant_base *q, const fm_exec *x);

#endif
