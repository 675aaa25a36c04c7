/* Tokens that a grammar lets come next. */
#include "infer/constrain.h"

#include <string.h>

#include "base/error.h"

fm_status fm_constrain(uint32_t *bits, bool *over, fm_matcher *g, const fm_vocab_order *order, const fm_model *m,
                       const fm_tokenizer *tok) {
    const uint32_t *next;
    int32_t vocab = m->cfg.vocab_size;
    *over = false;
    FM_TRY(fm_matcher_allowed(g, order, &next));
    memcpy(bits, next, (size_t)(vocab + 31) / 32 * sizeof *bits);
    bool complete = fm_matcher_complete(g);
    if (complete) {
        for (int i = 0; i < m->n_eos; i++) {
            if (m->eos[i] >= 0 && m->eos[i] < vocab) {
                bits[m->eos[i] / 32] |= 1U << (m->eos[i] % 32);
            }
        }
        int32_t eos = m->n_eos == 0 ? fm_tokenizer_eos(tok) : -1;
        if (eos >= 0 && eos < vocab) {
            bits[eos / 32] |= 1U << (eos % 32);
        }
    }
    for (int32_t i = 0; i < (vocab + 31) / 32; i++) {
        if (bits[i]) {
            return FM_OK;
        }
    }
    if (!complete) {
        FM_FAIL(FM_ERR_DATA, "the grammar asks for a text that no token of the vocabulary can begin");
    }
    *over = true;
    return FM_OK;
}

fm_status fm_constrain_follow(fm_matcher *g, const fm_vocab_order *order, int32_t id) {
    bool ok = false;
    FM_ASSERT(id >= 0 && id < order->vocab_size && order->place[id] >= 0);
    const fm_vocab_entry *e = &order->at[order->place[id]];
    FM_TRY(fm_matcher_push(g, e->text, e->n, &ok));
    FM_ASSERT(ok); /* it was among the allowed ones */
    return FM_OK;
}

int32_t fm_constrain_prefix(fm_matcher *g, const fm_vocab_order *order, const int32_t *ids, int32_t n) {
    int32_t at = -1;
    for (int32_t i = 0; i < n; i++) {
        int32_t place = ids[i] >= 0 && ids[i] < order->vocab_size ? order->place[ids[i]] : -1;
        bool ok = false;
        if (place < 0 || fm_matcher_walk(g, &at, order->at[place].text, order->at[place].n, &ok) != FM_OK || !ok) {
            return i;
        }
    }
    return n;
}
