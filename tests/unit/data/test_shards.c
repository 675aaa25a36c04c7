/* Shards and the sampler: round trip against the arrays that were written, damaged files, coverage of windows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/shard_write.h"
#include "data/shards.h"

#define N_DOCS 37

static char dir[256];
static int32_t all[4096];
static bool first[4096];
static int n_all;

/* Documents of uneven lengths with ids that name their place. */
static void write_data(int32_t vocab, int64_t shard_tokens) {
    snprintf(dir, sizeof dir, "/tmp/fm_shards_%d", (int)getpid());
    assert_int_equal(fm_remove_tree(dir), FM_OK);
    fm_shard_writer *w;
    assert_int_equal(fm_shard_writer_new(&w, dir, vocab, shard_tokens), FM_OK);
    n_all = 0;
    for (int d = 0; d < N_DOCS; d++) {
        int n = 1 + (d * 7) % 23;
        for (int i = 0; i < n; i++) {
            first[n_all + i] = i == 0;
            all[n_all + i] = (n_all + i) * 31 % vocab;
        }
        assert_int_equal(fm_shard_writer_add(w, all + n_all, n, 3 * n, (uint32_t)(d % 2), 100 + d, 0), FM_OK);
        n_all += n;
    }
    fm_json *files = fm_json_new_array();
    assert_int_equal(fm_json_append(files, fm_json_new_str("a.txt")), FM_OK);
    assert_int_equal(fm_json_append(files, fm_json_new_str("b.txt")), FM_OK);
    assert_int_equal(fm_shard_writer_finish(w, "tokhash", files, NULL), FM_OK);
    fm_json_free(files);
    fm_shard_writer_free(w);
}

static void clean(void) {
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

static void round_trip(int32_t vocab, int64_t shard_tokens) {
    write_data(vocab, shard_tokens);
    fm_dataset *d;
    assert_int_equal(fm_dataset_open(&d, dir), FM_OK);
    assert_int_equal(fm_dataset_verify(d), FM_OK);
    assert_int_equal(fm_dataset_tokens(d), n_all);
    assert_int_equal(fm_dataset_documents(d), N_DOCS);
    assert_int_equal(fm_dataset_bytes(d), 3 * n_all);
    assert_int_equal(fm_dataset_vocab(d), vocab);
    assert_string_equal(fm_dataset_tokenizer_hash(d), "tokhash");
    int32_t ids[4096];
    bool start[4096];
    for (int begin = 0; begin < n_all; begin += 11) {
        for (int n = 0; begin + n <= n_all; n += 29) {
            assert_int_equal(fm_dataset_read(d, begin, n, ids, start), FM_OK);
            assert_memory_equal(ids, all + begin, (size_t)n * 4);
            assert_memory_equal(start, first + begin, (size_t)n);
        }
    }
    int64_t doc = 0, expect = -1;
    for (int t = 0; t < n_all; t++) {
        char where[64], want[64];
        expect += first[t];
        assert_int_equal(fm_dataset_locate(d, t, &doc, where, sizeof where), FM_OK);
        assert_int_equal(doc, expect);
        snprintf(want, sizeof want, "%s:%d", expect % 2 ? "b.txt" : "a.txt", 100 + (int)expect);
        assert_string_equal(where, want);
    }
    fm_dataset_close(d);
    clean();
}

static void test_round_trip(void **state) {
    (void)state;
    round_trip(1000, 1 << 20); /* one shard of 16-bit ids */
    round_trip(1000, 50);      /* many shards */
    round_trip(100000, 64);    /* 32-bit ids */
}

/* Every byte of the shard's head and tables flipped in turn: opening fails, or reading does, or the values are other
 * values in range; nothing else happens. The hash finds every one. */
static void test_damage(void **state) {
    (void)state;
    write_data(50, 1 << 20);
    char path[300];
    snprintf(path, sizeof path, "%s/shard-00000.fmt", dir);
    char *good;
    size_t n;
    assert_int_equal(fm_file_read(&good, &n, path, 0), FM_OK);
    int refused = 0;
    for (size_t i = 0; i < n; i += i < 64 ? 1 : 5) {
        good[i] = (char)(good[i] ^ 0x81);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(good, 1, n, f), n);
        fclose(f);
        good[i] = (char)(good[i] ^ 0x81);
        fm_dataset *d;
        if (fm_dataset_open(&d, dir) != FM_OK) {
            refused++;
            continue;
        }
        assert_int_equal(fm_dataset_verify(d), FM_ERR_CORRUPT);
        int32_t ids[4096];
        bool start[4096];
        refused += fm_dataset_read(d, 0, n_all, ids, start) != FM_OK;
        fm_dataset_close(d);
    }
    assert_true(refused > 60);
    for (size_t cut = 0; cut < n; cut += 37) { /* torn files */
        assert_int_equal(truncate(path, (off_t)(n - 1 - cut)), 0);
        fm_dataset *d;
        assert_int_not_equal(fm_dataset_open(&d, dir), FM_OK);
    }
    remove(path);
    fm_dataset *d;
    assert_int_not_equal(fm_dataset_open(&d, dir), FM_OK);
    fm_free(good);
    clean();
}

/* Windows of an epoch, drawn in shuffled order, train each predicted token exactly once. */
static void covers(int32_t seq_len, bool shuffle) {
    fm_dataset *d;
    assert_int_equal(fm_dataset_open(&d, dir), FM_OK);
    fm_sampler s;
    assert_int_equal(fm_sampler_init(&s, d, seq_len, 7, shuffle), FM_OK);
    int32_t *ids = calloc((size_t)seq_len, 4), *pos = calloc((size_t)seq_len, 4), *tgt = calloc((size_t)seq_len, 4);
    int32_t *off = calloc((size_t)seq_len + 1, 4);
    int64_t *order[2] = {calloc((size_t)s.n_samples, 8), calloc((size_t)s.n_samples, 8)};
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[4096] = {0};
        for (int64_t i = 0; i < s.n_samples; i++) {
            fm_sampler before = s;
            int32_t n_seg = 0;
            int64_t row;
            assert_int_equal(fm_sampler_next(&s, ids, pos, tgt, 1000, off, &n_seg, &row), FM_OK);
            order[epoch][i] = row;
            assert_true(n_seg >= 1 && off[n_seg - 1] == 1000 + seq_len);
            int seg = 0, seg_begin = 0;
            for (int t = 0; t < seq_len; t++) {
                assert_int_equal(ids[t], all[row + t]);
                if (t > 0 && first[row + t]) { /* a document inside the window begins a segment */
                    assert_int_equal(off[seg++], 1000 + t);
                    seg_begin = t;
                }
                assert_int_equal(pos[t], t - seg_begin);
                bool predicted = row + t + 1 < n_all && !first[row + t + 1];
                if (tgt[t] != -100) {
                    assert_true(predicted);
                    assert_int_equal(tgt[t], all[row + t + 1]);
                    seen[row + t + 1]++;
                }
            }
            assert_int_equal(seg, n_seg - 1);
            /* The cursor alone brings the same sample again. */
            fm_sampler again;
            assert_int_equal(fm_sampler_init(&again, d, seq_len, 7, shuffle), FM_OK);
            again.at = before.at;
            int64_t row2;
            n_seg = 0;
            assert_int_equal(fm_sampler_next(&again, ids, pos, tgt, 1000, off, &n_seg, &row2), FM_OK);
            assert_int_equal(row, row2);
            assert_int_equal(again.at.index, s.at.index);
        }
        for (int t = 0; t < n_all; t++) {
            assert_int_equal(seen[t], first[t] ? 0 : 1);
        }
    }
    if (shuffle && s.n_samples > 8) {
        assert_memory_not_equal(order[0], order[1], (size_t)s.n_samples * 8);
    }
    free(ids);
    free(pos);
    free(tgt);
    free(off);
    free(order[0]);
    free(order[1]);
    fm_dataset_close(d);
}

static void test_sampler(void **state) {
    (void)state;
    write_data(1000, 64);
    covers(16, true);
    covers(16, false);
    covers(17, true);
    covers(1, true);
    covers(n_all - 1, true);
    covers(n_all, true);
    fm_dataset *d;
    assert_int_equal(fm_dataset_open(&d, dir), FM_OK);
    fm_sampler s;
    assert_int_equal(fm_sampler_init(&s, d, n_all + 1, 7, true), FM_ERR_DATA);
    fm_dataset_close(d);
    clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_sampler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
