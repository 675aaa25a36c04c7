/* n-gram models against golden perplexities (tests/interop/make_ngram_golden.py), their invariants, damaged files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "../failures.h"
#include "data/ngram.h"
#include "run_step.h"

static char dir[64], model_path[96];

static char *file(const char *name, size_t *n) {
    char path[4096], *data;
    snprintf(path, sizeof path, "%s/tests/unit/data/ngram/%s", FM_SOURCE_DIR, name);
    assert_int_equal(fm_file_read(&data, n, path, 0), FM_OK);
    return data;
}

static fm_status train(const fm_ngram_train_options *o, const char *text, size_t n, fm_ngram_info *info) {
    fm_ngram_trainer *t;
    FM_TRY(fm_ngram_train_new(&t, o));
    fm_status s = fm_ngram_train_add(t, (fm_sv){text, n});
    if (s == FM_OK) {
        s = fm_ngram_train_finish(t, info, model_path);
    }
    fm_ngram_train_free(t);
    return s;
}

static fm_ngram_train_options options(int order, int unit) {
    return (fm_ngram_train_options){.order = order, .unit = unit, .memory = 64 << 20, .work_dir = dir};
}

static void golden(void **state) {
    (void)state;
    size_t n_train, n_test, n_golden;
    char *text = file("train.txt", &n_train), *test = file("test.txt", &n_test), *want = file("golden.txt", &n_golden);
    char *save = NULL;
    int models = 0, lines = 0, at_order = 0;
    size_t at = 0;
    fm_ngram *m = NULL;
    fm_ngram_info info = {0};
    fm_ngram_line room = {0};
    for (char *l = strtok_r(want, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        fm_ngram_train_options o = options(1, FM_NGRAM_BLANK);
        long long p[FM_NGRAM_MOST_ORDER] = {0}, kept;
        double d[3];
        if (sscanf(l, "model %d %lld,%lld,%lld,%lld,%lld", &o.order, &p[0], &p[1], &p[2], &p[3], &p[4]) >= 2) {
            for (int i = 0; i < FM_NGRAM_MOST_ORDER; i++) {
                o.prune[i] = p[i];
            }
            fm_ngram_close(m);
            assert_int_equal(train(&o, text, n_train, &info), FM_OK);
            assert_int_equal(fm_ngram_open(&m, model_path), FM_OK);
            assert_int_equal(fm_ngram_model_order(m), o.order);
            models++;
            at_order = 0;
            at = 0;
        } else if (sscanf(l, "order %lld %lf %lf %lf", &kept, &d[0], &d[1], &d[2]) == 4) {
            const fm_ngram_order_info *k = &info.at[at_order++];
            assert_int_equal(k->n_kept, kept);
            assert_int_equal(fm_ngram_model_count(m, at_order), kept + (at_order == 1)); /* and <s> */
            for (int i = 0; i < 3; i++) {
                assert_true(fabs(k->discount[i] - d[i]) < 1e-8);
            }
        } else if (*l != '#') {
            fm_sv line;
            fm_ngram_score s;
            assert_true(fm_ngram_next_line((fm_sv){test, n_test}, &at, &line));
            assert_int_equal(fm_ngram_score_text(m, &s, &room, line), FM_OK);
            double ours = fm_ngram_perplexity(&s), theirs = strtod(l, NULL);
            assert_true(fabs(ours - theirs) < 2e-4 * theirs);
            assert_true(s.n_unknown > 0 || s.n_units < 60);
            lines++;
        }
    }
    assert_int_equal(models, 5);
    assert_int_equal(lines, 125);
    fm_ngram_close(m);
    fm_ngram_line_free(&room);
    fm_free(text);
    fm_free(test);
    fm_free(want);
}

/* Over all words that can follow, and the unknown one, probabilities sum to 1 behind any context. */
static void sums_to_one(void **state) {
    (void)state;
    size_t n;
    char *text = file("train.txt", &n);
    fm_ngram_train_options o = options(3, FM_NGRAM_MIXED);
    fm_ngram_info info;
    fm_ngram *m;
    fm_ngram_line words = {0}, context = {0};
    o.prune[2] = 1;
    o.lowercase = true;
    assert_int_equal(train(&o, text, n, &info), FM_OK);
    assert_int_equal(fm_ngram_open(&m, model_path), FM_OK);
    for (size_t i = 0; i < n; i++) {
        text[i] = (char)(text[i] == '\n' ? ' ' : text[i]);
    }
    assert_int_equal(fm_ngram_split(&words, (fm_sv){text, n}, FM_NGRAM_MIXED, true), FM_OK);
    size_t different = 0;
    for (size_t i = 0; i < words.n; i++) { /* each once */
        size_t k = 0;
        while (k < different && words.item[k] != words.item[i]) {
            k++;
        }
        words.item[k] = words.item[i];
        different += k == different;
    }
    assert_int_equal((int64_t)different + 1, info.at[0].n_kept);
    static const char *const behind[] = {"", "the", "Of the", "mr. Lorry said", "zzz of the", "the zzz"};
    for (size_t b = 0; b < FM_ARRAY_LEN(behind); b++) {
        fm_ngram_state s, c;
        bool known;
        fm_ngram_begin(m, &s);
        assert_int_equal(fm_ngram_split(&context, fm_sv_of(behind[b]), FM_NGRAM_MIXED, true), FM_OK);
        for (size_t i = 0; i < context.n; i++) {
            (void)fm_ngram_next(m, &s, context.item[i], &known);
        }
        double sum = 0;
        for (size_t i = 0; i <= different + 1; i++) { /* then </s>, then what is unknown */
            c = s;
            uint64_t w = i < different ? words.item[i] : i == different ? 0 : 0x1234567;
            sum += pow(10, fm_ngram_next(m, &c, w, &known));
            assert_true(known == (i <= different));
        }
        assert_true(fabs(sum - 1) < 1e-3);
    }
    fm_ngram_close(m);
    fm_ngram_line_free(&words);
    fm_ngram_line_free(&context);
    fm_free(text);
}

/* Memory so small that counts go to the sorters many times gives the same bytes. */
static void memory_does_not_matter(void **state) {
    (void)state;
    size_t n, a, b;
    char *text = file("train.txt", &n), *large, *small;
    fm_ngram_train_options o = options(4, FM_NGRAM_MIXED);
    fm_ngram_info info;
    assert_int_equal(train(&o, text, n, &info), FM_OK);
    assert_int_equal(fm_file_read(&large, &a, model_path, 0), FM_OK);
    assert_int_equal((int64_t)a, info.n_bytes);
    o.memory = 1 << 18;
    assert_int_equal(train(&o, text, n, &info), FM_OK);
    assert_int_equal(fm_file_read(&small, &b, model_path, 0), FM_OK);
    assert_int_equal(a, b);
    assert_memory_equal(large, small, a);
    fm_free(large);
    fm_free(small);
    fm_free(text);
}

static void units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int unit;
        size_t n;
    } cases[] = {
        {"It's a 5-star 中文 text，好。", FM_NGRAM_MIXED, 13},
        {"It's a 5-star 中文 text，好。", FM_NGRAM_BLANK, 5},
        {" a b\t中 ", FM_NGRAM_CHAR, 3},
        {"", FM_NGRAM_MIXED, 0},
        {"  \t ", FM_NGRAM_BLANK, 0},
    };
    fm_ngram_line l = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        assert_int_equal(fm_ngram_split(&l, fm_sv_of(cases[i].text), cases[i].unit, true), FM_OK);
        assert_int_equal(l.n, cases[i].n);
    }
    assert_int_equal(fm_ngram_split(&l, fm_sv_of("Ab AB"), FM_NGRAM_MIXED, true), FM_OK);
    assert_true(l.item[0] == l.item[1]);
    assert_int_equal(fm_ngram_split(&l, fm_sv_of("Ab AB"), FM_NGRAM_MIXED, false), FM_OK);
    assert_true(l.item[0] != l.item[1]);
    fm_ngram_line_free(&l);
}

static void mistakes(void **state) {
    (void)state;
    fm_ngram_train_options o = options(3, FM_NGRAM_MIXED);
    fm_ngram_trainer *t;
    fm_ngram_info info;
    fm_ngram *m;
    size_t n;
    char *data, *out;
    o.prune[1] = 2;
    assert_int_equal(fm_ngram_train_new(&t, &o), FM_ERR_CONFIG);
    o.prune[1] = 0;
    assert_int_equal(train(&o, " \n\n", 3, &info), FM_ERR_DATA);
    assert_int_equal(train(&o, "a b c a b\nb c\n", 14, &info), FM_OK);
    assert_true(info.at[0].guessed && info.at[2].guessed);
    assert_int_equal(fm_file_read(&data, &n, model_path, 0), FM_OK);
    for (size_t cut = 0; cut < n; cut += cut < 16 ? 1 : 97) { /* cut off anywhere, it is refused or read in bounds */
        assert_int_equal(fm_file_write_atomic(model_path, data, cut), FM_OK);
        assert_int_not_equal(fm_ngram_open(&m, model_path), FM_OK);
    }
    data[0] = 'X';
    assert_int_equal(fm_file_write_atomic(model_path, data, n), FM_OK);
    assert_int_equal(fm_ngram_open(&m, model_path), FM_ERR_FORMAT);
    data[0] = 'F';
    assert_int_equal(fm_file_write_atomic(model_path, data, n), FM_OK);
    const char *const fluent[] = {"model", model_path, "min_fluency", "0.1", NULL}, *const none[] = {NULL};
    assert_int_equal(run_step(&out, NULL, "perplexity", "{\"text\":\"a\"}\n", 13, fluent), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "perplexity", "{\"text\":\"a\"}\n", 13, none), FM_ERR_CONFIG);
    const char *const limits[] = {"model", model_path, "max", "4", NULL};
    assert_int_equal(run_step(&out, NULL, "perplexity",
                              "{\"text\":\"a b c\"}\n{\"text\":\"c c c\"}\n{\"text\":\" \"}\n", 48, limits),
                     FM_OK);
    assert_non_null(strstr(out, "\"a b c\""));
    assert_null(strstr(out, "c c c"));
    assert_null(strstr(out, "\" \""));
    fm_free(out);
    fm_free(data);
}

/* The quantiles turn perplexities into shares of usual text. */
static void fluency(void **state) {
    (void)state;
    fm_ngram_train_options o = options(2, FM_NGRAM_MIXED);
    fm_ngram_info info;
    fm_ngram *m;
    double q[FM_NGRAM_QUANTILES];
    assert_int_equal(train(&o, "a b c a b\nb c\n", 14, &info), FM_OK);
    assert_int_equal(fm_ngram_open(&m, model_path), FM_OK);
    assert_true(fm_ngram_fluency(m, 5) < 0);
    fm_ngram_close(m);
    for (int i = 0; i < FM_NGRAM_QUANTILES; i++) {
        q[i] = 100 + (i < 50 ? i : 50 + 10 * (i - 50));
    }
    assert_int_equal(fm_ngram_set_quantiles(model_path, q), FM_OK);
    assert_int_equal(fm_ngram_open(&m, model_path), FM_OK);
    assert_true(fabs(fm_ngram_fluency(m, 1) - 1) < 1e-9);
    assert_true(fabs(fm_ngram_fluency(m, 125) - 0.75) < 1e-9);
    assert_true(fabs(fm_ngram_fluency(m, 405) - 0.245) < 1e-9);
    assert_true(fabs(fm_ngram_fluency(m, 1e9)) < 1e-9);
    fm_ngram_close(m);
}

static fm_status refused_work(int variant, uint64_t *sum) {
    static const char text[] = "the cat sat on the mat\nthe dog sat on the log\n中文 句子。\n";
    fm_ngram_train_options o = options(2 + variant, FM_NGRAM_MIXED);
    fm_ngram_info info;
    fm_ngram *m;
    fm_ngram_score s = {0};
    fm_ngram_line l = {0};
    o.memory = 1 << 16;
    FM_TRY(train(&o, text, sizeof text - 1, &info));
    FM_TRY(fm_ngram_open(&m, model_path));
    fm_status st = fm_ngram_score_text(m, &s, &l, fm_sv_of("the cat on the 中文"));
    fm_ngram_close(m);
    fm_ngram_line_free(&l);
    *sum = st == FM_OK ? fm_hash64(&s.log10_p, sizeof s.log10_p, 0) : 0;
    return st;
}

static void failures(void **state) {
    (void)state;
    const failures_work w = {"n-grams", refused_work, 2, NULL, NULL};
    failures_check(&w);
}

int main(void) {
    snprintf(dir, sizeof dir, "/tmp/fathom_ngram_XXXXXX");
    if (!mkdtemp(dir)) {
        return 1;
    }
    snprintf(model_path, sizeof model_path, "%s/m.ngram", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),   cmocka_unit_test(sums_to_one), cmocka_unit_test(memory_does_not_matter),
        cmocka_unit_test(units),    cmocka_unit_test(mistakes),    cmocka_unit_test(fluency),
        cmocka_unit_test(failures),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    return fm_remove_tree(dir) == FM_OK ? bad : 1;
}
