/* Words as spaCy splits them, signatures as datatrove makes them, and groups against an exhaustive comparison. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/rng.h"
#include "data/minhash.h"
#include "run_step.h"

typedef void (*line_fn)(void *arg, const char *line, size_t n);

static size_t each_line(const char *name, line_fn fn, void *arg) {
    char path[4096], *data, *next;
    size_t n, lines = 0;
    snprintf(path, sizeof path, "%s/tests/unit/data/words/%s", FM_SOURCE_DIR, name);
    assert_int_equal(fm_file_read(&data, &n, path, 0), FM_OK);
    for (char *p = data; *p; p = next) {
        next = strchr(p, '\n');
        assert_non_null(next);
        fn(arg, p, (size_t)(next++ - p));
        lines++;
    }
    fm_free(data);
    return lines;
}

static char *field(const char *line, size_t n, const char *key, size_t *len) {
    char *out;
    assert_int_equal(fm_jsonl_string(&out, len, line, n, key, "golden"), FM_OK);
    return out;
}

typedef struct splitter {
    fm_words *w;
    fm_word_list list;
} splitter;

static void check_words(void *arg, const char *line, size_t n) {
    splitter *s = arg;
    size_t len, want_len;
    char *text = field(line, n, "text", &len), *want = field(line, n, "words", &want_len);
    char *sentences = field(line, n, "sentences", &(size_t){0});
    fm_sv v = {text, len};
    fm_str got = {0};
    assert_int_equal(fm_words_split(s->w, &s->list, v), FM_OK);
    size_t words = 0;
    for (size_t i = 0; i < s->list.n; i++) {
        if (!s->list.item[i].blank) {
            if (words++) {
                fm_str_putc(&got, 0x1F);
            }
            fm_str_append(&got, text + s->list.item[i].at, s->list.item[i].len);
        }
    }
    assert_int_equal(words, s->list.n_words);
    assert_string_equal(got.data ? got.data : "", want);
    if (len) {
        assert_int_equal(fm_words_sentences(&s->list, v), atoi(sentences));
    }
    fm_str_free(&got);
    fm_string_free(text);
    fm_string_free(want);
    fm_string_free(sentences);
}

static void words(void **state) {
    (void)state;
    splitter s = {0};
    assert_int_equal(fm_words_new(&s.w), FM_OK);
    assert_true(each_line("words.jsonl", check_words, &s) > 400);
    fm_words_free(s.w);
    fm_word_list_free(&s.list);
}

/* A chunk as long as a book, of each sort that is slow to split by a careless rule. */
static void long_chunks(void **state) {
    static const char *const piece[] = {".", "a@", "a-", "(", "…", ":)", "5km", "'s", "\xF0\x9F\x98\x80", "a.b,c"};
    (void)state;
    splitter s = {0};
    assert_int_equal(fm_words_new(&s.w), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(piece); i++) {
        fm_str text = {0};
        while (text.len < 300000) {
            fm_str_puts(&text, piece[i]);
        }
        double t = fm_now();
        assert_int_equal(fm_words_split(s.w, &s.list, (fm_sv){text.data, text.len}), FM_OK);
        assert_true(s.list.n_words > 0 && fm_now() - t < 5);
        size_t sum = 0;
        for (size_t k = 0; k < s.list.n; k++) {
            sum += s.list.item[k].len;
        }
        assert_int_equal(sum, text.len);
        fm_str_free(&text);
    }
    fm_words_free(s.w);
    fm_word_list_free(&s.list);
}

static void check_signature(void *arg, const char *line, size_t n) {
    static const char *const name[] = {"xxhash-64", "xxhash-32", "sha1-64", "sha1-32"};
    (void)arg;
    size_t len;
    char *text = field(line, n, "text", &len), *want = field(line, n, "signature", &(size_t){0}),
         *hash = field(line, n, "hash", &(size_t){0});
    fm_minhash_params p = {.unit = FM_SHINGLE_WORD, .n = 5, .bands = 14, .rows = 8, .seed = 1};
    while (strcmp(name[p.hash], hash) != 0) {
        p.hash++;
        assert_true(p.hash <= FM_HASH_SHA1_32);
    }
    fm_minhash *m;
    fm_minhash_room room = {0};
    uint64_t got[112];
    assert_int_equal(fm_minhash_new(&m, &p), FM_OK);
    assert_int_equal(fm_minhash_shingles(m, &room, (fm_sv){text, len}), FM_OK);
    fm_minhash_signature(m, room.shingle, room.n_shingles, got);
    char *q = want;
    for (int i = 0; i < 112; i++) {
        assert_true(strtoull(q, &q, 10) == got[i]);
    }
    fm_minhash_room_free(&room);
    fm_minhash_free(m);
    fm_string_free(text);
    fm_string_free(want);
    fm_string_free(hash);
}

static void signatures(void **state) {
    (void)state;
    assert_int_equal(each_line("signatures.jsonl", check_signature, NULL), 8);
}

/* ---- groups ----------------------------------------------------------------------------------- */

#define PAIRS 400
#define WORDS 120

static uint64_t draw(uint64_t i, uint64_t n) {
    return fm_rng_below((fm_rng_key){11, 0, 0}, i, n);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static size_t unique(uint64_t *v, size_t n) {
    size_t k = 0;
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < n; i++) {
        if (k == 0 || v[k - 1] != v[i]) {
            v[k++] = v[i];
        }
    }
    return k;
}

typedef struct set {
    uint64_t *v;
    size_t n;
} set;

static double jaccard(const set *a, const set *b) {
    size_t both = 0, i = 0, k = 0;
    while (i < a->n && k < b->n) {
        both += a->v[i] == b->v[k];
        uint64_t x = a->v[i], y = b->v[k];
        i += x <= y;
        k += y <= x;
    }
    return (double)both / (double)(a->n + b->n - both);
}

/* PAIRS texts, each with a copy in which 0 to 60 of 120 words are others: similarities from 1 down to 0.1. Every two of
 * the 800 rows are compared exhaustively; rows of different pairs are far below what can be found. */
static void make_rows(fm_str *rows, set *sets) {
    fm_minhash_params p = {.unit = FM_SHINGLE_WORD, .n = 5, .bands = 1, .rows = 1, .seed = 1};
    fm_minhash *m;
    fm_minhash_room room = {0};
    assert_int_equal(fm_minhash_new(&m, &p), FM_OK);
    uint64_t at = 0;
    for (int i = 0; i < PAIRS; i++) {
        uint64_t word[WORDS];
        for (int k = 0; k < WORDS; k++) {
            word[k] = draw(at++, 3000);
        }
        for (int copy = 0; copy < 2; copy++) {
            fm_str text = {0};
            for (int k = 0; copy && k < i * 18 / PAIRS; k++) {
                word[draw(at, WORDS)] = 5000 + draw(at + 1, 3000);
                at += 2;
            }
            for (int k = 0; k < WORDS; k++) {
                fm_str_printf(&text, "%sw%c%c%c%c", k ? " " : "", (int)('a' + word[k] / 1000),
                              (int)('a' + word[k] / 100 % 10), (int)('a' + word[k] / 10 % 10),
                              (int)('a' + word[k] % 10));
            }
            fm_str_printf(rows, "{\"text\":\"%s\"}\n", text.data);
            assert_int_equal(fm_minhash_shingles(m, &room, (fm_sv){text.data, text.len}), FM_OK);
            set *s = &sets[2 * i + copy];
            s->v = fm_malloc(room.n_shingles * sizeof *s->v);
            assert_non_null(s->v);
            memcpy(s->v, room.shingle, room.n_shingles * sizeof *s->v);
            s->n = unique(s->v, room.n_shingles);
            fm_str_free(&text);
        }
    }
    fm_minhash_room_free(&room);
    fm_minhash_free(m);
    assert_int_equal(fm_str_check(rows), FM_OK);
}

static void check_groups(const fm_str *rows, const set *sets, const char *like, int bands, int n_rows) {
    const char *const o[] = {"like", like, "action", "mark", "unit", "word", "n", "5", "threads", "2", NULL};
    char *out, *next;
    assert_int_equal(run_step(&out, NULL, "minhash", rows->data, rows->len, o), FM_OK);
    static int group[2 * PAIRS];
    int n = 0;
    for (char *p = out; *p; p = next) {
        next = strchr(p, '\n') + 1;
        const char *g = strstr(p, "\"group\":");
        assert_true(g && g < next);
        group[n++] = atoi(g + 8);
    }
    assert_int_equal(n, 2 * PAIRS);
    double want = 0, variance = 0, far = 0;
    int caught = 0;
    for (int i = 0; i < n; i++) {
        for (int k = i + 1; k < n; k++) {
            double s = jaccard(&sets[i], &sets[k]), c = fm_minhash_caught(bands, n_rows, s);
            if (i / 2 != k / 2) {
                assert_true(s < 0.05);
                far += c;
                assert_int_not_equal(group[i], group[k]);
                continue;
            }
            want += c;
            variance += c * (1 - c);
            caught += group[i] == group[k];
            if (c > 1 - 1e-9) {
                assert_int_equal(group[i], group[k]);
            }
        }
    }
    print_message("%s: %d of %d pairs found, expected %.1f with a deviation of %.1f\n", like, caught, PAIRS, want,
                  sqrt(variance));
    assert_true(far < 1e-3);
    assert_true(want > 40 && want < PAIRS - 40);
    assert_true(fabs((double)caught - want) < 4 * sqrt(variance));
    fm_free(out);
}

static void groups(void **state) {
    static set sets[2 * PAIRS];
    fm_str rows = {0};
    (void)state;
    make_rows(&rows, sets);
    check_groups(&rows, sets, "datatrove", 14, 8);
    check_groups(&rows, sets, "nemo", 20, 13);
    check_groups(&rows, sets, "text-dedup", 25, 10);
    for (int i = 0; i < 2 * PAIRS; i++) {
        fm_free(sets[i].v);
    }
    fm_str_free(&rows);
}

/* Chains are one group; what stays; Chinese by characters; short texts. */
static void choice(void **state) {
    static const char in[] = "{\"id\":1,\"text\":\"one two three four five six seven eight nine ten\"}\n"
                             "{\"id\":2,\"text\":\"too short\"}\n"
                             "{\"id\":3,\"text\":\"One, two, three: four five six seven eight nine ten!!!\"}\n"
                             "{\"id\":4,\"text\":\"too short\"}\n"
                             "{\"id\":5,\"text\":\"人工智能是研究如何使计算机模拟人的某些思维过程的学科\"}\n"
                             "{\"id\":6,\"text\":\"人工智能，是研究如何使计算机模拟人的某些思维过程的学科。\"}\n";
    const char *const longest[] = {"keep", "longest", "threads", "3", NULL};
    char *out;
    (void)state;
    assert_int_equal(run_step(&out, NULL, "minhash", in, strlen(in), NULL), FM_OK);
    assert_true(strstr(out, "\"id\":1") && !strstr(out, "\"id\":3"));
    assert_true(strstr(out, "\"id\":2") && strstr(out, "\"id\":4"));
    assert_non_null(strstr(out, "\"id\":5"));
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "minhash", in, strlen(in), longest), FM_OK);
    assert_true(!strstr(out, "\"id\":1") && strstr(out, "\"id\":3"));
    fm_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),  cmocka_unit_test(long_chunks), cmocka_unit_test(signatures),
        cmocka_unit_test(groups), cmocka_unit_test(choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
