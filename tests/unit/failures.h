/* Refuses every allocation of a piece of work in turn, once alone and once with all that follow. Each time the work
 * must fail with FM_ERR_NO_MEMORY (or be done all the same), leave nothing behind in the ledger, and succeed with the
 * same result when memory is back. Include after cmocka.h. */
#ifndef TESTS_UNIT_FAILURES_H
#define TESTS_UNIT_FAILURES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "fathom/option.h"

/* Allocations refused per piece of work; of more, every k-th. Fewer where each try waits for the disk. With
 * FATHOM_TEST_ALL set in the environment every one is. */
#define MOST        600
#define MOST_WRITES 120

/* Fewer still where each try is slow by itself; 0 = as above. */
static int64_t failures_most;

/* A piece of work: everything it takes it gives back, whatever happens. *sum says what came out. */
typedef struct failures_work {
    const char *name;
    fm_status (*run)(int variant, uint64_t *sum);
    int n_variants;
    const char *writes;  /* folder where it leaves files, or NULL: none may stay under a .tmp name */
    void (*fresh)(void); /* before each try, or NULL. With it the work is also gone on with after a refusal */
} failures_work;

static inline void failures_ledger(int64_t out[FM_MEM_TAG_COUNT]) {
    for (int t = 0; t < FM_MEM_TAG_COUNT; t++) {
        out[t] = fm_ledger_current((fm_mem_tag)t);
    }
}

static inline bool failures_leftovers(const char *dir) {
    char **names = NULL;
    size_t n = 0;
    bool found = false;
    assert_int_equal(fm_dir_list(&names, &n, dir), FM_OK);
    for (size_t i = 0; i < n; i++) {
        found = found || strstr(names[i], ".tmp");
    }
    fm_names_free(names, n);
    return found;
}

static inline int failures_check_one(const failures_work *w, int variant, int64_t n, bool sticky, uint64_t want,
                                     int *survived) {
    int64_t before[FM_MEM_TAG_COUNT], after[FM_MEM_TAG_COUNT];
    uint64_t sum = 0;
    int bad = 0;
    failures_ledger(before);
    if (w->fresh) {
        w->fresh();
    }
    fm_error_clear();
    fm_mem_fail_at(n, sticky);
    fm_status s = w->run(variant, &sum);
    fm_mem_fail_at(0, false);
    failures_ledger(after);
    if (s == FM_OK) {
        (*survived)++;
        bad += sum != want;
    }
    bad += s != FM_OK && (s != FM_ERR_NO_MEMORY || fm_error_get().message[0] == '\0');
    for (int t = 0; t < FM_MEM_TAG_COUNT; t++) {
        bad += before[t] != after[t];
    }
    bool left = w->writes && failures_leftovers(w->writes);
    if (bad || left) {
        print_error("%s, variant %d, allocation %lld%s: %s%s%s%s\n", w->name, variant, (long long)n,
                    sticky ? " and on" : "", fm_status_name(s),
                    s == FM_OK ? (sum == want ? "" : ", another result") : ": ",
                    s == FM_OK ? "" : fm_error_get().message, left ? "; .tmp files left" : "");
        for (int t = 0; t < FM_MEM_TAG_COUNT; t++) {
            if (before[t] != after[t]) {
                print_error("    %s: %lld bytes left\n", fm_mem_tag_name((fm_mem_tag)t),
                            (long long)(after[t] - before[t]));
            }
        }
    }
    if (s != FM_OK && w->fresh) {
        uint64_t again = 0;
        fm_error_clear();
        s = w->run(variant, &again);
        if (s != FM_OK || again != want) {
            print_error("%s, variant %d, going on after allocation %lld%s: %s\n", w->name, variant, (long long)n,
                        sticky ? " and on" : "", s == FM_OK ? "another result" : fm_error_get().message);
            bad++;
        }
    }
    return bad + left;
}

static inline void failures_check(const failures_work *w) {
    int bad = 0;
    for (int v = 0; v < w->n_variants; v++) {
        uint64_t want = 0, again = 1;
        int survived = 0;
        int64_t tried = 0;
        if (w->fresh) {
            w->fresh();
        }
        fm_status s = w->run(v, &want); /* tables that are made once and kept are made now */
        if (s != FM_OK) {
            print_error("%s, variant %d: %s\n", w->name, v, fm_error_get().message);
        }
        assert_int_equal(s, FM_OK);
        if (w->fresh) {
            w->fresh();
        }
        fm_mem_fail_at(0, false);
        assert_int_equal(w->run(v, &again), FM_OK);
        assert_true(again == want);
        int64_t total = fm_mem_alloc_count(), most = failures_most ? failures_most : w->writes ? MOST_WRITES : MOST;
        int64_t stride = getenv("FATHOM_TEST_ALL") ? 1 : (total + most - 1) / most;
        assert_true(total > 5);
        for (int sticky = 0; sticky < 2 && bad < 20; sticky++) {
            for (int64_t n = 1; n <= total && bad < 20; n += stride, tried++) {
                bad += failures_check_one(w, v, n, sticky == 1, want, &survived);
            }
        }
        again = 0;
        if (w->fresh) {
            w->fresh();
        }
        assert_int_equal(w->run(v, &again), FM_OK);
        assert_true(again == want);
        print_message("%-10s variant %d: %lld allocations, %lld refusals, %d of them survived\n", w->name, v,
                      (long long)total, (long long)tried, survived);
    }
    assert_int_equal(bad, 0);
}

/* Pairs of key and value ended by NULL, set on a configuration of any kind. */
static inline fm_status failures_set(void *config, const fm_option *options, const char *const *set) {
    for (; *set; set += 2) {
        FM_TRY(fm_options_set(config, options, set[0], set[1], "test"));
    }
    return FM_OK;
}

/* Bytes of a file, without an allocation that could be refused. */
static inline uint64_t failures_hash(const char *path) {
    uint64_t h = 14695981039346656037u;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;) {
        h = (h ^ (uint64_t)c) * 1099511628211u;
    }
    fclose(f);
    return h;
}

#endif
