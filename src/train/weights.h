/* Weights between files and the masters of a model in training. */
#ifndef FM_TRAIN_WEIGHTS_H
#define FM_TRAIN_WEIGHTS_H

#include "model/model.h"

/* Fills every parameter of m, or what is read instead of it (masters allocated) from a model folder or GGUF file,
 * whatever its element types and names (see fm_model_load). Parameters of heads that it does not have are initialised
 * with `seed`, and those of prediction layers when fresh_mtp is set; another one that is missing or has another shape
 * is an error that names it. */
FM_MUST_CHECK fm_status fm_weights_read(fm_model *m, const char *path, uint64_t seed, bool fresh_mtp,
                                        const fm_backend *b, const fm_exec *x);

#endif
