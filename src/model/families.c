/* The table of families. */
#include <string.h>

#include "model/model.h"

#define FM_FAMILY(name) extern const fm_family fm_family_##name;
#include "model/families.def"
#undef FM_FAMILY

const fm_family *const fm_families[] = {
#define FM_FAMILY(name) &fm_family_##name,
#include "model/families.def"
#undef FM_FAMILY
};
const int fm_n_families = (int)FM_ARRAY_LEN(fm_families);

const fm_family *fm_family_find(const char *name) {
    for (int i = 0; i < fm_n_families; i++) {
        if (strcmp(fm_families[i]->name, name) == 0) {
            return fm_families[i];
        }
    }
    return NULL;
}
