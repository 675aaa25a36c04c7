/* What is too much like what is there already. See synth.h. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/lcs.h"
#include "data/synth.h"
#include "data/textnorm.h"

void fm_synth_seen_free(fm_synth_seen *s) {
    fm_free(s->token);
    fm_free(s->first);
    fm_free(s->hash);
    fm_free(s->room);
    *s = (fm_synth_seen){0};
}

static fm_status push(fm_synth_seen *s, const char *p, size_t n) {
    void *t = s->token;
    if (n == 0) {
        return FM_OK;
    }
    FM_TRY(fm_grow(&t, &s->cap, s->n + 1, sizeof *s->token));
    s->token = t;
    s->token[s->n++] = (uint32_t)fm_hash64(p, n, 0);
    return FM_OK;
}

/* Tokens of the text at the end of the list. */
static fm_status tokens(fm_synth_seen *s, fm_sv text) {
    fm_str norm = {0};
    fm_status st = fm_textnorm(&norm, text, FM_NORM_TEXT);
    const char *word = norm.data, *end = norm.data ? norm.data + norm.len : NULL;
    for (const char *p = norm.data; st == FM_OK && p < end;) {
        uint32_t cp = 0;
        int k = fm_utf8_decode(&cp, p, end);
        k = k > 0 ? k : 1;
        if (cp == ' ' || fm_is_unspaced(cp)) {
            st = push(s, word, (size_t)(p - word));
            st = st == FM_OK && cp != ' ' ? push(s, p, (size_t)k) : st;
            word = p + k;
        }
        p += k;
    }
    if (st == FM_OK && word) {
        st = push(s, word, (size_t)(end - word));
    }
    fm_str_free(&norm);
    return st;
}

fm_status fm_synth_seen_add(fm_synth_seen *s, fm_sv text) {
    void *p = s->first;
    FM_TRY(fm_grow(&p, &s->first_cap, s->n_texts + 2, sizeof *s->first));
    s->first = p;
    s->first[0] = 0;
    FM_TRY(tokens(s, text));
    s->first[++s->n_texts] = s->n;
    return FM_OK;
}

fm_status fm_synth_seen_likeness(double *out, fm_synth_seen *s, fm_sv text, double enough) {
    size_t at = s->n;
    fm_status st = tokens(s, text);
    double best = 0;
    size_t n = s->n - at;
    for (size_t i = 0; st == FM_OK && i < s->n_texts && n; i++) {
        size_t m = s->first[i + 1] - s->first[i], common = 0;
        double most = 2.0 * (double)FM_MIN(n, m) / (double)(n + m); /* F of 2 LCS / (n + m) */
        if (m == 0 || most < enough || most <= best) {
            continue;
        }
        st = fm_lcs_length(&common, s->token + at, n, s->token + s->first[i], m, &s->room, &s->room_cap);
        best = FM_MAX(best, 2.0 * (double)common / (double)(n + m));
    }
    s->n = at;
    *out = best;
    return st;
}

fm_status fm_synth_seen_hash(fm_synth_seen *s, uint64_t hash, bool *again) {
    hash = hash ? hash : 1;
    if (s->hash_cap < 2 * (s->n_hashes + 1)) {
        size_t cap = s->hash_cap ? s->hash_cap * 2 : 256;
        uint64_t *bigger = fm_calloc(cap, sizeof *bigger);
        if (!bigger) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the hashes of %zu rows", s->n_hashes);
        }
        for (size_t i = 0; i < s->hash_cap; i++) {
            size_t k = (size_t)s->hash[i] & (cap - 1);
            while (s->hash[i] && bigger[k]) {
                k = (k + 1) & (cap - 1);
            }
            bigger[k] = s->hash[i] ? s->hash[i] : bigger[k];
        }
        fm_free(s->hash);
        s->hash = bigger;
        s->hash_cap = cap;
    }
    size_t k = (size_t)hash & (s->hash_cap - 1);
    while (s->hash[k] && s->hash[k] != hash) {
        k = (k + 1) & (s->hash_cap - 1);
    }
    *again = s->hash[k] == hash;
    s->n_hashes += !*again;
    s->hash[k] = hash;
    return FM_OK;
}
