/* bench tokenizer and data: text throughput against the rate memory is read at. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ceiling.h"
#include "base/error.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"
#include "fathom/tokenizer.h"
#include "measure/measure.h"

#define BLOCK      4096
#define MADE_BYTES ((size_t)8 << 20)

typedef struct text {
    char *data;
    size_t n;
    size_t at; /* of the reader below */
} text;

/* Zipf-like words of Latin letters and Han characters: made-up text when no file is given. Its figures are not
 * those of real text. */
static fm_status made_text(text *t) {
    t->data = fm_malloc(MADE_BYTES + 64);
    if (!t->data) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu bytes of text", MADE_BYTES);
    }
    fm_rng_key key = {.seed = 7, .stream = 1};
    uint64_t at = 0;
    while (t->n < MADE_BYTES) {
        double u = fm_rng_uniform(key, at++);
        uint64_t word = (uint64_t)pow(50000, u);
        if (word % 5 == 0) {
            for (uint64_t k = 0; k < 2; k++) {
                t->n += (size_t)fm_utf8_encode(t->data + t->n, (uint32_t)(0x4e00 + (word * 31 + k * 977) % 3000));
            }
        } else {
            t->data[t->n++] = ' ';
            for (uint64_t k = word * 2654435761u; k > 1000; k /= 13) {
                t->data[t->n++] = (char)('a' + k % 23);
            }
        }
        if (at % 17 == 0) {
            memcpy(t->data + t->n, ".\n", 2);
            t->n += 2;
        }
    }
    return FM_OK;
}

static fm_status load(text *t, const fm_bench_options *o) {
    memset(t, 0, sizeof *t);
    return o->input ? fm_file_read(&t->data, &t->n, o->input, (size_t)2 << 30) : made_text(t);
}

/* End of the block that begins at `at`: about 4 KiB, on a character border. */
static size_t block_end(const text *t, size_t at) {
    size_t end = FM_MIN(at + BLOCK, t->n);
    while (end < t->n && ((unsigned char)t->data[end] & 0xc0) == 0x80) {
        end++;
    }
    return end;
}

static fm_status next_block(void *user, fm_text *out, bool *end) {
    text *t = user;
    *end = t->at >= t->n;
    size_t stop = *end ? t->at : block_end(t, t->at);
    *out = (fm_text){.ptr = t->data + t->at, .len = stop - t->at};
    t->at = stop;
    return FM_OK;
}

static fm_status train(fm_tokenizer **tok, text *t, int64_t vocab, int threads, double *mb_per_s) {
    fm_bpe_train_options to = {.size = sizeof to, .vocab_size = vocab, .pattern = "gpt2", .n_threads = threads};
    t->at = 0;
    double begin = fm_now();
    FM_TRY(fm_tokenizer_train(tok, NULL, next_block, t, &to));
    *mb_per_s = (double)t->n * 1e-6 / (fm_now() - begin);
    return FM_OK;
}

static fm_status encode(const fm_tokenizer *tok, const text *t, int threads, double seconds, double *mb_per_s) {
    size_t n = 0, cap = t->n / BLOCK + 2;
    fm_text *block = fm_calloc(cap, sizeof *block);
    if (!block) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu blocks", cap);
    }
    for (size_t at = 0; at < t->n && n < cap;) {
        size_t end = block_end(t, at);
        block[n++] = (fm_text){.ptr = t->data + at, .len = end - at};
        at = end;
    }
    fm_encode_options eo = {.size = sizeof eo, .n_threads = threads};
    fm_status s = FM_OK;
    *mb_per_s = 0;
    double start = fm_now();
    for (int round = 0; s == FM_OK && (round < 2 || fm_now() - start < seconds); round++) {
        fm_token_batch b = {0};
        double begin = fm_now();
        s = fm_tokenizer_encode_batch(&b, tok, block, n, &eo);
        *mb_per_s = FM_MAX(*mb_per_s, (double)t->n * 1e-6 / (fm_now() - begin));
        fm_token_batch_free(&b);
    }
    fm_free(block);
    return s;
}

static fm_status run_tokenizer(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    text t;
    FM_TRY(load(&t, o));
    fm_tokenizer *tok = NULL;
    double train1 = NAN, train_n = NAN, enc1 = 0, enc_n = 0;
    int all = o->threads > 0 ? (int)o->threads : fm_cpu_count();
    fm_status s = FM_OK;
    if (o->tokenizer) {
        s = fm_tokenizer_open(&tok, o->tokenizer);
    } else {
        s = train(&tok, &t, o->vocab_size, 1, &train1);
        fm_tokenizer_free(tok);
        tok = NULL;
        if (s == FM_OK) {
            s = train(&tok, &t, o->vocab_size, all, &train_n);
        }
    }
    if (s == FM_OK) {
        s = encode(tok, &t, 1, o->seconds / 4, &enc1);
    }
    if (s == FM_OK) {
        s = encode(tok, &t, all, o->seconds / 4, &enc_n);
    }
    if (s == FM_OK) {
        if (!o->tokenizer) {
            fm_bench_emit(fn, user, train1, "MB/s", NAN, "", "tokenizer.train.1thread");
            fm_bench_emit(fn, user, train_n, "MB/s", train_n / train1 / all, "one thread x threads",
                          "tokenizer.train.%dthreads", all);
        }
        fm_bench_emit(fn, user, enc1, "MB/s", NAN, "", "tokenizer.encode.1thread");
        fm_bench_emit(fn, user, enc_n, "MB/s", enc_n / enc1 / all, "one thread x threads", "tokenizer.encode.%dthreads",
                      all);
    }
    fm_tokenizer_free(tok);
    fm_free(t.data);
    return s;
}

const fm_bench fm_bench_tokenizer = {
    .name = "tokenizer", .summary = "training and encoding, in blocks of 4 KiB", .run = run_tokenizer};
