/* Models for data steps: see models.h. */
#include "data/models.h"

#include <stdatomic.h>
#include <stddef.h>

static _Atomic(const fm_data_models *) models;

void fm_data_set_models(const fm_data_models *m) {
    atomic_store(&models, m);
}

const fm_data_models *fm_data_get_models(void) {
    return atomic_load(&models);
}
