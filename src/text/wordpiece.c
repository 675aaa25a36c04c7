/* WordPiece: the longest token that begins a word, then the longest that continues it, and so on; a word that cannot be
 * finished, or is too long, is unknown. WordLevel: a word is a token or unknown. */
#include <string.h>

#include "base/error.h"
#include "text/bpe.h"
#include "text/unicode.h"

static fm_status put_unknown(const fm_tokenizer *t, fm_tokens *out) {
    if (t->unk < 0) {
        FM_FAIL(FM_ERR_DATA, "a word is unknown, and the vocabulary lacks the unknown token \"%.80s\"",
                t->unk_token ? t->unk_token : "");
    }
    return fm_tokens_push(out, t->unk);
}

fm_status fm_wordpiece_build(fm_tokenizer *t) {
    FM_TRY(fm_vocab_trie_build(t));
    t->continuing_node = 0;
    for (const char *s = t->continuing ? t->continuing : ""; *s && t->continuing_node >= 0; s++) {
        t->continuing_node = fm_trie_step(&t->trie, t->continuing_node, (uint8_t)*s);
    }
    return FM_OK;
}

static bool too_long(const uint8_t *p, size_t n, size_t max_chars) {
    if (n <= max_chars) {
        return false;
    }
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) {
        chars += (p[i] & 0xC0) != 0x80;
    }
    return chars > max_chars;
}

fm_status fm_wordpiece_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    const fm_tokenizer *t = w->t;
    size_t before = out->n;
    bool bad = too_long(p, n, t->max_word_chars);
    for (size_t at = 0; at < n && !bad;) {
        int32_t s = at ? t->continuing_node : 0, best = -1;
        size_t stop = at;
        for (size_t i = at; s >= 0 && i < n; i++) {
            s = fm_trie_step(&t->trie, s, p[i]);
            if (s >= 0 && t->trie.node[s].value >= 0 && (i + 1 == n || (p[i + 1] & 0xC0) != 0x80)) {
                best = t->trie.node[s].value;
                stop = i + 1;
            }
        }
        bad = best < 0;
        if (!bad) {
            FM_TRY(fm_tokens_push(out, best));
        }
        at = stop;
    }
    if (bad) {
        out->n = before;
        return put_unknown(t, out);
    }
    return FM_OK;
}

fm_status fm_wordlevel_run(fm_bpe_worker *w, fm_tokens *out, const uint8_t *p, size_t n) {
    uint32_t id;
    if (fm_strtab_get(&w->t->by_bytes, p, n, &id) && !(w->t->entry[id].flags & FM_TOK_SPECIAL)) {
        return fm_tokens_push(out, (int32_t)id);
    }
    return put_unknown(w->t, out);
}
