/* Shared by the tokenizer tests. */
#ifndef TEXT_FIXTURE_H
#define TEXT_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "fathom/option.h"
#include "fathom/tokenizer.h"

#define DATA FM_SOURCE_DIR "/tests/unit/text/data/"

static inline void ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
}

/* The fixture texts in name order, in blocks of `block` bytes (0 = whole files); end of list: len 0. */
typedef struct corpus {
    char *file[8];
    size_t len[8];
    int n, i;
    size_t at, block;
} corpus;

static inline void corpus_open(corpus *c, size_t block) {
    static const char *const names[] = {"state_union.txt", "udhr_arb.txt", "udhr_cmn_hans.txt", "udhr_eng.txt",
                                        "udhr_jpn.txt"};
    memset(c, 0, sizeof(*c));
    for (int i = 0; i < 5; i++) {
        char path[1024];
        (void)snprintf(path, sizeof(path), DATA "%s", names[i]);
        ok(fm_file_read(&c->file[i], &c->len[i], path, 0));
    }
    c->n = 5;
    c->block = block;
}

static inline void corpus_close(corpus *c) {
    for (int i = 0; i < c->n; i++) {
        fm_free(c->file[i]);
    }
}

static inline fm_status corpus_next(void *user, fm_text *text, bool *end) {
    corpus *c = user;
    if (c->i < c->n && c->at >= c->len[c->i]) {
        c->i++;
        c->at = 0;
    }
    if (c->i == c->n) {
        *end = true;
        return FM_OK;
    }
    size_t n = c->len[c->i] - c->at;
    n = c->block && n > c->block ? c->block : n;
    *text = (fm_text){c->file[c->i] + c->at, n};
    c->at += n;
    return FM_OK;
}

#endif
