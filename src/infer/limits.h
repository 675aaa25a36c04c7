/* What a model says about the texts it writes. */
#ifndef FM_INFER_LIMITS_H
#define FM_INFER_LIMITS_H

#include "model/model.h"

/* Tokens a model can attend to: rope by length stretches beyond the trained context. */
int64_t fm_context_limit(const fm_model *m);
/* The token ends a text; tok may be NULL. */
bool fm_ends_text(const fm_model *m, const fm_tokenizer *tok, int32_t id);

#endif
