/* See lcs.h. */
#include "data/lcs.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

fm_status fm_lcs_length(size_t *out, const uint32_t *a, size_t n, const uint32_t *b, size_t m, uint32_t **room,
                        size_t *cap) {
    void *p = *room;
    FM_TRY(fm_grow(&p, cap, 2 * (m + 1), sizeof **room));
    *room = p;
    uint32_t *prev = *room, *row = *room + m + 1;
    memset(prev, 0, (m + 1) * sizeof *prev);
    row[0] = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            row[j + 1] = a[i] == b[j] ? prev[j] + 1 : FM_MAX(prev[j + 1], row[j]);
        }
        uint32_t *t = prev;
        prev = row;
        row = t;
        row[0] = 0;
    }
    *out = prev[m];
    return FM_OK;
}
