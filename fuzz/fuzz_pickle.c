/* State dicts: what opens has every element of every tensor inside the bytes. Other input is read as a bare pickle. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "io/pickle.h"
#include "io/torch.h"

static const fm_pickle_global allowed[] = {{"collections", "OrderedDict", 0, true}, {"a", "b", 1, false}, {0}};

static void as_pickle(const uint8_t *data, size_t size) {
    fm_pickle *p;
    size_t used = 0;
    if (fm_pickle_read(&p, data, size, &used, allowed, "fuzz") != FM_OK) {
        return;
    }
    if (used > size || !fm_pickle_root(p)) {
        abort();
    }
    for (size_t i = 0; i < fm_pickle_count(p); i++) {
        const fm_pickle_value *v = fm_pickle_at(p, i);
        const uint8_t *text = (const uint8_t *)v->text;
        if (v->kind == FM_PICKLE_STR && (text < data || text + v->n > data + size)) {
            abort();
        }
    }
    fm_pickle_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_torch *t;
    as_pickle(data, size);
    if (fm_torch_parse(&t, data, size, "fuzz") != FM_OK) {
        return 0;
    }
    for (size_t i = 0; i < fm_torch_count(t); i++) {
        const fm_torch_tensor *x = fm_torch_at(t, i);
        int64_t n = 1, last = 0;
        for (int d = 0; d < x->n_dims; d++) {
            n *= x->dims[d];
            last += (x->dims[d] - 1) * x->stride[d];
        }
        if (n && (x->data < data || last < 0 || x->data + last >= data + size)) {
            abort();
        }
        if (fm_torch_find(t, x->name) != x) {
            abort();
        }
    }
    fm_torch_close(t);
    return 0;
}
