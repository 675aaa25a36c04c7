/* Augmentation: what is read of WordNet and of lists, what the methods change and what they leave, the same bytes for
 * any number of threads, and each allocation refused. The dictionary is in the form of WordNet's own files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "../failures.h"
#include "data/augment.h"
#include "data/lexicon.h"
#include "run_step.h"

static char dir[64], zh_path[96], sound_path[96], same_path[96], keep_path[96];

static void write_file(char *path, size_t cap, const char *name, const char *text) {
    char buf[96];
    path = path ? path : buf;
    snprintf(path, path == buf ? sizeof buf : cap, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static const char data_noun[] =
    "  1 This software and database is being provided to you\n"
    "00000100 05 n 02 dog 0 domestic_dog 0 001 @ 00000200 n 0000 | a member of the genus Canis\n"
    "00000200 18 n 04 frump 0 dog 1 Boston_bull 2 Hot_Dog 3 000 | a dull woman; \"she's a real dog\"\n"
    "00000300 27 n 0a arsenic 0 As 0 a2 0 a3 0 a4 0 a5 0 a6 0 a7 0 a8 0 a9 0 000 | ten words: a number in "
    "hexadecimal\n";
static const char index_noun[] = "  1 This software\n"
                                 "as n 1 0 1 0 00000300  \n"
                                 "arsenic n 1 0 1 0 00000300  \n"
                                 "dog n 2 2 @ ~ 2 1 00000200 00000100  \n"
                                 "domestic_dog n 1 1 @ 1 0 00000100  \n";
static const char data_verb[] = "00000500 38 v 02 dog 0 chase 0 000 01 + 08 00 | go after\n";
static const char index_verb[] = "chase v 1 0 1 1 00000500  \ndog v 1 0 1 1 00000500  \n";
static const char counts[] = "dog%1:18:00:: 1 4\ndog%1:05:00:: 2 1\ndog%2:38:00:: 1 3\nunknown%1:05:00:: 1 9\n";
static const char data_adj[] = "00000100 00 s 03 big 0 large(p) 0 huge 0 000 | above average in size\n";
static const char index_adj[] = "big a 1 0 1 1 00000100  \nlarge a 1 0 1 1 00000100  \n";

static size_t count(const fm_lexicon *l, const char *word, uint32_t senses) {
    fm_lexicon_choice c = {.senses = senses};
    return fm_lexicon_count(l, fm_sv_of(word), &c);
}

static bool offers(const fm_lexicon *l, const char *word, uint32_t senses, const char *other) {
    fm_lexicon_choice c = {.senses = senses};
    for (size_t i = 0; i < fm_lexicon_count(l, fm_sv_of(word), &c); i++) {
        if (fm_sv_eq(fm_lexicon_at(l, fm_sv_of(word), &c, i), other)) {
            return true;
        }
    }
    return false;
}

static void wordnet(void **state) {
    fm_lexicon *l;
    (void)state;
    assert_int_equal(fm_lexicon_new(&l), FM_OK);
    assert_int_equal(fm_lexicon_add(l, dir), FM_OK);
    assert_int_equal(fm_lexicon_finish(l), FM_OK);
    assert_int_equal(fm_lexicon_groups(l), 5);
    /* the first meaning of "dog" in the index is the second in the data; words with capitals are others */
    assert_int_equal(count(l, "dog", 1), 3);
    assert_true(offers(l, "dog", 1, "frump") && offers(l, "dog", 1, "Boston bull") && offers(l, "dog", 1, "Hot Dog"));
    assert_false(offers(l, "dog", 1, "domestic dog"));
    assert_false(offers(l, "dog", 1, "chase"));
    assert_true(offers(l, "dog", 2, "chase")); /* a verb, by its count before the second noun */
    assert_false(offers(l, "dog", 2, "domestic dog"));
    assert_true(offers(l, "dog", 3, "domestic dog"));
    assert_true(offers(l, "dog", 0, "domestic dog"));
    assert_int_equal(count(l, "domestic dog", 1), 1);
    assert_int_equal(count(l, "as", 1), 9);
    assert_int_equal(count(l, "big", 1), 2);
    assert_true(offers(l, "big", 1, "large")); /* without its "(p)" */
    assert_int_equal(count(l, "frump", 1), 0); /* the index does not lead there */
    assert_int_equal(count(l, "nothing", 0), 0);
    assert_int_equal(count(l, "", 0), 0);
    fm_lexicon_free(l);
}

static void lists(void **state) {
    static const char *const line[] = {
        "Aa01A01= 人士 人物 人选",
        "Aa01B02# 工人 农民",
        "Aa01B03@ 独词",
        "de\t的\t地\t得",
        "1\t一\t壹",
        "# comment here",
        "glad happy",
        "alone",
        "",
        "bad\xff ok fine",
    };
    fm_lexicon *l;
    fm_lexicon_choice two = {.members = 2};
    (void)state;
    assert_int_equal(fm_lexicon_new(&l), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(line); i++) {
        assert_int_equal(fm_lexicon_line(l, FM_LEXICON_GROUPS, fm_sv_of(line[i])), FM_OK);
    }
    assert_int_equal(fm_lexicon_line(l, FM_LEXICON_TABLE, fm_sv_of("7-n\tn\tnoun.x\tmirth|Glee|joy")), FM_OK);
    assert_int_equal(fm_lexicon_finish(l), FM_OK);
    assert_int_equal(count(l, "人物", 0), 2);
    assert_int_equal(count(l, "工人", 0), 0);
    assert_int_equal(count(l, "独词", 0), 0);
    assert_int_equal(count(l, "de", 0), 0);
    assert_int_equal(count(l, "的", 0), 2);
    assert_int_equal(fm_lexicon_count(l, fm_sv_of("得"), &two), 2);
    assert_int_equal(fm_lexicon_count(l, fm_sv_of("的"), &two), 1);
    assert_int_equal(count(l, "1", 0), 2);
    assert_int_equal(count(l, "glad", 0), 1);
    assert_int_equal(count(l, "ok", 0), 1);
    assert_int_equal(count(l, "glee", 0), 2);
    assert_int_equal(fm_lexicon_longest(l, fm_sv_of("人物画")), strlen("人物"));
    assert_int_equal(fm_lexicon_longest(l, fm_sv_of("画人物")), 0);
    fm_lexicon_free(l);
}

static void broken(void **state) {
    static const struct {
        fm_lexicon_kind kind;
        const char *line;
    } bad[] = {
        {FM_LEXICON_DATA, "x"},
        {FM_LEXICON_DATA, "00000100 05 n 00 000"},
        {FM_LEXICON_DATA, "00000100 05 n 03 dog 0 cat 0"},
        {FM_LEXICON_DATA, "00000100 05 q 01 dog 0"},
        {FM_LEXICON_DATA, "99999999999999999999 05 n 01 dog 0"},
        {FM_LEXICON_DATA, "00000100 05 n 1ff dog 0"},
        {FM_LEXICON_INDEX, "dog n 2 0 2 1 00000100"},
        {FM_LEXICON_INDEX, "dog n 1 0 1 1 00000999"},
        {FM_LEXICON_INDEX, "dog n 1 99999999 1 1 00000100"},
        {FM_LEXICON_INDEX, "dog"},
        {FM_LEXICON_COUNTS, "dog%7:00 1 1"},
        {FM_LEXICON_COUNTS, "dog%1:00 x 1"},
        {FM_LEXICON_COUNTS, "dog 1 1"},
        {FM_LEXICON_TABLE, "a\tb\tc"},
    };
    (void)state;
    fm_lexicon *l;
    assert_int_equal(fm_lexicon_new(&l), FM_OK);
    assert_int_equal(fm_lexicon_line(l, FM_LEXICON_DATA, fm_sv_of("00000100 05 n 02 dog 0 hound 0 000 | x")), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_int_equal(fm_lexicon_line(l, bad[i].kind, fm_sv_of(bad[i].line)), FM_ERR_FORMAT);
    }
    assert_int_equal(fm_lexicon_finish(l), FM_OK);
    assert_int_equal(fm_lexicon_add(l, "/tmp"), FM_ERR_NOT_FOUND);
    assert_non_null(strstr(fm_error_get().hint, "wordnet-base"));
    fm_lexicon_free(l);
}

/* The text of the i-th row that comes out (fm_free); NULL behind the last. */
static char *row_text(const char *out, size_t i) {
    for (; i && out; i--) {
        out = strchr(out, '\n');
        out = out ? out + 1 : NULL;
    }
    if (!out || !*out) {
        return NULL;
    }
    char *text = NULL, *copy;
    size_t n;
    assert_int_equal(fm_jsonl_string(&text, &n, out, (size_t)(strchr(out, '\n') - out), "text", "row"), FM_OK);
    copy = fm_strdup(text);
    fm_string_free(text);
    return copy;
}

static char *augment(const char *rows, const char *const *options) {
    char *out = NULL;
    fm_status s = run_step(&out, NULL, "augment", rows, strlen(rows), options);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    return out;
}

static void only(const char *in, const char *const *options, const char *const *one_of) {
    fm_str row = {0};
    fm_str_puts(&row, "{\"text\":");
    fm_str_json(&row, in, strlen(in));
    fm_str_puts(&row, ",\"label\":7}\n");
    char *out = augment(row.data, options);
    for (size_t i = 0; one_of[0]; i++) {
        char *text = row_text(out, i);
        if (!text) {
            assert_true(i > 0);
            break;
        }
        bool good = false;
        for (const char *const *w = one_of; *w; w++) {
            good = good || strcmp(*w, text) == 0;
        }
        if (!good) {
            fail_msg("'%s' became '%s'", in, text);
        }
        fm_free(text);
    }
    if (!one_of[0]) {
        assert_string_equal(out, "");
    }
    for (const char *p = out; *p; p = strchr(p, '\n') + 1) {
        assert_non_null(strstr(p, "\"label\":7"));
    }
    fm_free(out);
    fm_str_free(&row);
}

static void synonyms(void **state) {
    const char *const o[] = {"methods", "synonym", "synonyms", dir, "originals", "false", "copies", "20", NULL};
    (void)state;
    only("A dog, as ever.", o,
         (const char *const[]){"A frump, as ever.", "A Boston bull, as ever.", "A Hot Dog, as ever.", NULL});
    only("Big as it is", o, (const char *const[]){"Large as it is", "Huge as it is", NULL});
    /* names, addresses, mail, acronyms, function words */
    only("The Dog at dog.com, dog@dog.org, DOG as such.", o, (const char *const[]){NULL});
    only("", o, (const char *const[]){NULL});
    only("  ...  ", o, (const char *const[]){NULL});
    const char *const keep[] = {"methods", "synonym", "synonyms", dir, "originals", "false", "keep", keep_path, NULL};
    only("a dog", keep, (const char *const[]){NULL});
    const char *const insert[] = {"methods", "insert", "synonyms", dir, "originals", "false", "copies", "20", NULL};
    only("a big: it", insert,
         (const char *const[]){"a big huge: it", "a big large: it", "a huge big: it", "a large big: it",
                               "a big: it huge", "a big: it large", NULL});
}

static void places(void **state) {
    const char *const swap[] = {"methods", "swap", "originals", "false", "copies", "20", NULL};
    const char *const delete[] = {"methods", "delete", "originals", "false", "copies", "30", "ratio", "0.5", NULL};
    (void)state;
    only("one two, three", swap, (const char *const[]){"two one, three", "three two, one", "one three, two", NULL});
    only("it hasn't dog\u2019s", swap,
         (const char *const[]){"hasn't it dog\u2019s", "dog\u2019s hasn't it", "it dog\u2019s hasn't", NULL});
    only("one", swap, (const char *const[]){NULL});
    only("one", delete, (const char *const[]){NULL});
    only("one two, three", delete,
         (const char *const[]){"two, three", "one, three", "one two,", "one,", "two,", ", three", "three", NULL});
}

static void typos(void **state) {
    const char *const o[] = {"methods", "typo", "originals", "false", "copies", "60", NULL};
    const char *const keep[] = {"methods", "typo", "originals", "false", "keep", keep_path, NULL};
    (void)state;
    only("my card, 2nd", o,
         (const char *const[]){"my crad, 2nd", "my cadr, 2nd", "my crd, 2nd", "my cad, 2nd", "my caard, 2nd",
                               "my carrd, 2nd", "my csrd, 2nd", "my caed, 2nd", "my catd, 2nd", NULL});
    only("банк", o, (const char *const[]){"бнак", "бакн", "бнк", "бак", "баанк", "баннк", NULL});
    only("MAPS", o, (const char *const[]){"MPAS", "MASP", "MPS", "MAS", "MAAPS", "MAPPS", "MSPS", "MAOS", NULL});
    only("the mp3s of a6b7c, 大人物来了", o, (const char *const[]){NULL});
    only("a Card", keep, (const char *const[]){NULL});
    char longest[80] = {0};
    memset(longest, 'a', 65); /* longer words stay */
    only(longest, o, (const char *const[]){NULL});
}

static void chinese(void **state) {
    const char *const o[] = {"methods", "synonym", "synonyms", zh_path, "originals", "false", "copies", "20", NULL};
    const char *const sound[] = {"methods", "homophone", "homophones", sound_path, "originals",
                                 "false",   "common",    "2",          NULL};
    const char *const same[] = {"methods", "equivalent", "equivalents", same_path, "originals", "false", NULL};
    const char *const swap[] = {"methods", "swap", "synonyms", zh_path, "originals", "false", "copies", "9", NULL};
    (void)state;
    only("大人物来了。", o, (const char *const[]){"大人士来了。", "大人选来了。", NULL});
    only("人来了", o, (const char *const[]){NULL}); /* one character */
    only("我的mp3", sound, (const char *const[]){"我地mp3", NULL});
    only("一人 1", same, (const char *const[]){"壹人 1", "1人 1", NULL});
    only("人物，人士", swap, (const char *const[]){"人士，人物", NULL});
}

static void threads(void **state) {
    fm_str rows = {0};
    char *one, *three;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        fm_str_printf(&rows, "{\"text\":\"big dog number %d saw 人物 and an old cat\",\"label\":%d}\n", i % 700, i % 5);
    }
    const char *const a[] = {"synonyms", dir, "mark", "how", "threads", "1", NULL};
    const char *const b[] = {"synonyms", dir, "mark", "how", "threads", "3", NULL};
    const char *const c[] = {"synonyms", dir, "mark", "how", "threads", "3", "seed", "5", NULL};
    one = augment(rows.data, a);
    three = augment(rows.data, b);
    assert_true(strlen(one) > 3 * rows.len);
    assert_string_equal(one, three);
    assert_non_null(strstr(one, "\"how\":\"synonym\""));
    assert_non_null(strstr(one, "\"how\":\"insert\""));
    assert_non_null(strstr(one, "\"how\":\"swap\""));
    assert_non_null(strstr(one, "\"how\":\"delete\""));
    fm_free(three);
    three = augment(rows.data, c);
    assert_string_not_equal(one, three);
    fm_free(one);
    fm_free(three);
    fm_str_free(&rows);
}

static void refused(void **state) {
    static const char *const bad[][5] = {
        {"methods", "synonim", NULL},    {"methods", "homophone", NULL},     {"methods", "swap,swap", NULL},
        {"methods", "equivalent", NULL}, {"synonyms", "/nonexistent", NULL},
    };
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        char *out = NULL;
        assert_int_not_equal(run_step(&out, NULL, "augment", "{\"text\":\"a\"}\n", 13, bad[i]), FM_OK);
        fm_free(out);
    }
}

static fm_status run(int variant, uint64_t *sum) {
    static const char rows[] = "{\"text\":\"a big dog 人物 a very old cat\"}\n{\"text\":\"Big dog\"}\n";
    const char *const options[][9] = {
        {"synonyms", dir, "threads", "1", NULL},
        {"synonyms", zh_path, "combine", "true", "keep", keep_path, NULL},
    };
    char *out;
    fm_status s = run_step(&out, NULL, "augment", rows, sizeof rows - 1, options[variant]);
    *sum = s == FM_OK ? fm_hash64(out, strlen(out), 0) : 0;
    fm_free(out);
    return s;
}

static void failures(void **state) {
    const failures_work w = {"augment", run, 2, NULL, NULL};
    (void)state;
    failures_check(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wordnet), cmocka_unit_test(lists),    cmocka_unit_test(broken),  cmocka_unit_test(synonyms),
        cmocka_unit_test(places),  cmocka_unit_test(typos),    cmocka_unit_test(chinese), cmocka_unit_test(threads),
        cmocka_unit_test(refused), cmocka_unit_test(failures),
    };
    snprintf(dir, sizeof dir, "/tmp/fathom_augment_XXXXXX");
    if (!mkdtemp(dir)) {
        return 1;
    }
    write_file(NULL, 0, "data.noun", data_noun);
    write_file(NULL, 0, "index.noun", index_noun);
    write_file(NULL, 0, "data.verb", data_verb);
    write_file(NULL, 0, "index.verb", index_verb);
    write_file(NULL, 0, "cntlist.rev", counts);
    write_file(NULL, 0, "data.adj", data_adj);
    write_file(NULL, 0, "index.adj", index_adj);
    write_file(zh_path, sizeof zh_path, "zh.txt", "Aa01A01= 人士 人物 人选\nAa01A02= 人 者\n");
    write_file(sound_path, sizeof sound_path, "sound.txt", "de\t的\t地\t得\n");
    write_file(same_path, sizeof same_path, "same.txt", "1\t一\t壹\n");
    write_file(keep_path, sizeof keep_path, "keep.txt", "dog cat card\n");
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    if (fm_remove_tree(dir) != FM_OK) {
        return 1;
    }
    return rc;
}
