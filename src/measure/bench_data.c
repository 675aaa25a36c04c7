/* bench data: reading rows, against the rate memory is read at. */
#include <math.h>
#include <string.h>

#include "backend/ceiling.h"
#include "base/error.h"
#include "base/file.h"
#include "fathom/data.h"
#include "measure/measure.h"

/* Rows per second and MB/s of `data check` over the input (or standard made-up lines). */
static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    if (!o->input) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "bench data needs a file to read");
        return fm_error_hint("give a text, JSONL or CSV file with --input");
    }
    fm_check_config *c = NULL;
    FM_TRY(fm_check_config_new(&c));
    fm_status s = fm_options_append(c, fm_check_options(), "input", o->input, "bench");
    double best = 0, start = fm_now();
    fm_check_report r = {.size = sizeof r};
    for (int round = 0; s == FM_OK && (round < 3 || fm_now() - start < o->seconds); round++) {
        double t = fm_now();
        s = fm_data_check(&r, c, NULL, NULL);
        best = FM_MAX(best, (double)r.n_bytes / (fm_now() - t));
    }
    fm_check_config_free(c);
    FM_TRY(s);
    fm_pool *pool = NULL;
    double read = 0;
    FM_TRY(fm_pool_new(&pool, 1));
    s = fm_ceiling_read(pool, 0.3, &read);
    fm_pool_free(pool);
    FM_TRY(s);
    fm_bench_emit(fn, user, best * 1e-6, "MB/s", best / read, "memory read, one thread", "data.check");
    return FM_OK;
}

const fm_bench fm_bench_data = {.name = "data", .summary = "reading and checking rows of --input", .run = run};
