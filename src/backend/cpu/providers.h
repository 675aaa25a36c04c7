/* Who computes matrix products on the CPU: a list in order of preference per element type. */
#ifndef FM_BACKEND_CPU_PROVIDERS_H
#define FM_BACKEND_CPU_PROVIDERS_H

#include "backend/backend.h"

/* Puts the product of the preferred provider into the table, whose own kernels are already there.
 * FATHOM_MATMUL=own|onednn forces one; another value, or onednn where it is not available, is as if
 * unset. A provider that answers FM_ERR_UNSUPPORTED hands over to the table's own kernel. */
void fm_matmul_providers_apply(fm_backend *b);
/* The provider in force after fm_matmul_providers_apply: "own" or "onednn". */
const char *fm_matmul_provider_name(fm_dtype d);

#endif
