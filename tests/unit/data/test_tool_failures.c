/* Every allocation refused in turn (failures.h): steps that use libraries and models, folders of images, rows that a
 * model writes, erasure, labels of a model, exports of Label Studio. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../failures.h"
#include "../../quick.h"
#include "data/label_model.h"
#include "data/models.h"
#include "data/ngram_train.h"
#include "fathom/synth.h"
#include "run_step.h"

static char top[64], model_dir[96], ngram[96], images[96], work[96], rows_path[96], seeds_path[96], key_path[96];

/* ---- a model that is none ---- */

static fm_status fake_open(void **out, const char *path, int n_threads, bool continues) {
    FM_UNUSED(path);
    FM_UNUSED(n_threads);
    FM_UNUSED(continues);
    *out = fm_calloc(1, 8);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a model");
    }
    return FM_OK;
}

static fm_status fake_loss(void *model, fm_sv text, double *nats, int64_t *n_tokens) {
    FM_UNUSED(model);
    *n_tokens = (int64_t)text.len;
    *nats = 2.0 * (double)text.len;
    return FM_OK;
}

static fm_status fake_embed(void *model, fm_sv text, const float **out, int32_t *n) {
    static float v[3];
    FM_UNUSED(model);
    v[0] = (float)text.len;
    *out = v;
    *n = 3;
    return FM_OK;
}

static bool tags;

static fm_status fake_labels(void *model, fm_label_names *out, fm_data_labels *kind) {
    FM_UNUSED(model);
    *kind = tags ? FM_DATA_TAGS : FM_DATA_SEVERAL_LABELS;
    FM_TRY(fm_label_names_add(out, "good", 4, 10));
    return fm_label_names_add(out, "bad", 3, 10);
}

static fm_status fake_label(void *model, fm_sv text, fm_json **out) {
    static const char labels[] = "{\"labels\":[\"good\",\"bad\"],\"score\":0.7}";
    static const char spans[] = "{\"entities\":[{\"start\":0,\"end\":1,\"label\":\"good\"}],\"score\":0.7}";
    const char *said = tags ? spans : labels;
    FM_UNUSED(model);
    FM_UNUSED(text);
    return fm_json_parse(out, said, strlen(said), "fake");
}

static void fake_close(void *model) {
    fm_free(model);
}

static const fm_data_models fake = {fake_open, fake_loss, fake_embed, fake_labels, fake_label, fake_close};

/* ---- steps ---- */

static const char rows[] = "{\"id\":1,\"text\":\"The quick brown fox jumps over the lazy dog. It was a fine day.\"}\n"
                           "{\"id\":2,\"text\":\"鼠標和軟件在這裡，人人生而自由。\"}\n"
                           "{\"id\":3,\"text\":\"Toute personne a droit à l'éducation. Elle doit être gratuite.\"}\n"
                           "{\"id\":4,\"text\":\"\"}\n"
                           "{\"id\":5,\"text\":7}\n";

static const char *const keep[] = {"keep", "en,fr", "confidence_into", "share", NULL};
static const char *const none[] = {NULL};
static const char *const parse[] = {"min", "0.1", NULL};
static const char *const by_ngram[] = {"model", ngram, NULL};
static const char *const by_model[] = {"model", model_dir, "max", "100", NULL};
static const char *const vector[] = {"model", model_dir, NULL};

static const struct {
    const char *step;
    const char *const *options;
} steps[] = {
    {"language", keep},       {"chinese", none},        {"grammar", parse},
    {"perplexity", by_ngram}, {"perplexity", by_model}, {"embed", vector},
};

static fm_status run_rows(const char *step, const char *const *options, uint64_t *sum) {
    char *out;
    fm_status s = run_step(&out, NULL, step, rows, strlen(rows), options);
    *sum = s == FM_OK ? fm_hash64(out, strlen(out), 0) : 0;
    fm_free(out);
    return s;
}

static size_t at;

static fm_status one_step(int variant, uint64_t *sum) {
    FM_UNUSED(variant);
    return run_rows(steps[at].step, steps[at].options, sum);
}

/* Steps whose library is missing are passed over, unless all are asked for. */
static void each_step(void **state) {
    (void)state;
    for (at = 0; at < FM_ARRAY_LEN(steps); at++) {
        const bool slow = strcmp(steps[at].step, "grammar") == 0; /* reads its dictionary each time */
        const failures_work w = {steps[at].step, one_step, 1, NULL, NULL};
        uint64_t sum;
        fm_status s = one_step(0, &sum);
        if (s == FM_ERR_UNSUPPORTED && !getenv("FATHOM_TEST_ALL")) {
            print_message("%s: %s\n", steps[at].step, fm_error_get().message);
            continue;
        }
        failures_most = slow ? (test_quick() ? 3 : 10) : 0;
        failures_check(&w);
        failures_most = 0;
    }
}

/* ---- images ---- */

static fm_status read_images(int variant, uint64_t *sum) {
    char to[128];
    snprintf(to, sizeof to, "%s/images.jsonl", top);
    const char *const set[] = {"input", images, "output", to, "overwrite", "true", "threads", "1", NULL};
    fm_data_job *j;
    fm_data_report r = {.size = sizeof r};
    char *manifest = NULL;
    FM_UNUSED(variant);
    FM_TRY(fm_data_job_step(&j, NULL));
    fm_status s = failures_set(fm_data_job_object(j), fm_data_job_options(j), set);
    s = s == FM_OK ? fm_data_run(&r, &manifest, j) : s;
    fm_string_free(manifest);
    fm_data_job_free(j);
    if (s == FM_OK) {
        assert_int_equal(r.n_rows, 4); /* two good ones, a cut one, one that is text */
        *sum = failures_hash(to);
    }
    return s;
}

static void image_folder(void **state) {
    static const failures_work w = {"images", read_images, 1, NULL, NULL};
    (void)state;
    failures_check(&w);
}

/* ---- rows that a model writes ---- */

static void fresh(void) {
    assert_int_equal(fm_remove_tree(work), FM_OK);
    assert_int_equal(fm_mkdirs(work), FM_OK);
}

/* What each task looks for is in every answer; no two are alike. */
static fm_status chat(void *user, const fm_chat_ask *ask, fm_chat_answer *answer) {
    char text[512];
    const unsigned long h = (unsigned long)(fm_hash64(ask->messages, ask->messages_bytes, ask->seed) >> 16);
    const int task = *(const int *)user;
    snprintf(text, sizeof text,
             task == 0   ? "{\"instruction\":\"Say %lu and %lx of it\",\"input\":\"\",\"output\":\"so %lu\"}"
             : task == 1 ? "{\"question\":\"What is %lu near %lx of it?\",\"answer\":\"that %lu\"}"
             : task == 2
                 ? "{\"role\":\"user\",\"content\":\"ask %lu %lx\"}\n{\"role\":\"assistant\",\"content\":\"%lu\"}"
                 : "back %lu %lx %lu",
             h, h * 7, h + 1);
    return fm_chat_answer_text(answer, text, strlen(text));
}

static fm_status write_rows(int variant, uint64_t *sum) {
    static const char *const names[] = {"instruct", "qa", "dialogue", "back-translate"};
    char to[128];
    snprintf(to, sizeof to, "%s/made.jsonl", work);
    const char *const set[] = {"task",        names[variant],
                               "input",       variant ? rows_path : "",
                               "seeds",       seeds_path,
                               "output",      to,
                               "rows",        variant ? "0" : "4",
                               "concurrency", "1",
                               "overwrite",   "true",
                               NULL};
    fm_synth_config *c;
    fm_synth_report r = {.size = sizeof r};
    char *manifest = NULL;
    int task = variant;
    FM_TRY(fm_synth_config_new(&c));
    fm_status s = failures_set(c, fm_synth_options(), set);
    s = s == FM_OK ? fm_synth_run(&r, &manifest, c, chat, &task) : s;
    fm_string_free(manifest);
    fm_synth_config_free(c);
    *sum = s == FM_OK ? failures_hash(to) : 0;
    return s;
}

static void synthesis(void **state) {
    static const failures_work w = {"synth", write_rows, 4, work, fresh};
    (void)state;
    failures_check(&w);
}

/* ---- erasure ---- */

static void dataset(void) {
    char path[128];
    fresh();
    snprintf(path, sizeof path, "%s/rows.jsonl", work);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(rows, f);
    assert_int_equal(fclose(f), 0);
}

static fm_status erase(int variant, uint64_t *sum) {
    char path[128], *json = NULL;
    snprintf(path, sizeof path, "%s/rows.jsonl", work);
    fm_erase_config c = {.column = (char *)(uintptr_t)(variant ? NULL : "id"),
                         .anywhere = variant == 1,
                         .subject = (char *)(uintptr_t)(variant ? "fox" : "3"),
                         .key_file = key_path};
    fm_status s = fm_data_erase(&json, path, &c);
    fm_string_free(json);
    *sum = s == FM_OK ? failures_hash(path) : 0;
    return s;
}

static void erasure(void **state) {
    static const failures_work w = {"erase", erase, 2, work, dataset};
    (void)state;
    failures_check(&w);
}

/* ---- labels ---- */

static fm_status suggest(int variant, uint64_t *sum) {
    const fm_label_settings o = {
        .local_model = model_dir, .from_name = (char *)(uintptr_t) "label", .to_name = (char *)(uintptr_t) "text"};
    fm_label_model *m;
    fm_str result = {0};
    double score = 0;
    tags = variant == 1;
    FM_TRY(fm_label_model_open(&m, &o, NULL));
    fm_status s = fm_label_model_suggest(m, fm_sv_of("a text"), &result, &score);
    *sum = s == FM_OK ? fm_hash64(result.data, result.len, 0) : 0;
    fm_str_free(&result);
    fm_label_model_close(m);
    return s;
}

static void trained(void **state) {
    static const failures_work w = {"suggest", suggest, 2, NULL, NULL};
    (void)state;
    failures_check(&w);
}

static fm_status minimal(int variant, uint64_t *sum) {
    static const char item[] =
        "{\"id\":4,\"text\":\"Ann in Oslo\",\"mood\":\"good\",\"annotator\":1,\"annotation_id\":9,"
        "\"updated_at\":\"2024\",\"marks\":[{\"start\":0,\"end\":3,\"text\":\"Ann\",\"labels\":"
        "[\"PER\"]}],\"stars\":[{\"rating\":4}],\"more\":{\"choices\":[\"x\",\"y\"]}}";
    const fm_ls_options o = {.left = "left", .right = "right", .from_name = "mood"};
    fm_json *task = NULL;
    fm_recs out = {0};
    fm_tallies counts = {0};
    fm_str text = {0};
    FM_UNUSED(variant);
    fm_status s = fm_json_parse(&task, item, strlen(item), "item");
    s = s == FM_OK ? fm_ls_rows(&out, task, &o, &counts) : s;
    for (size_t i = 0; i < out.n && s == FM_OK; i++) {
        fm_rec_put_json(&text, out.rec[i]);
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        assert_int_equal(out.n, 1);
        assert_non_null(strstr(text.data, "\"label\":\"PER\""));
        assert_non_null(strstr(text.data, "\"label\":\"good\""));
        assert_non_null(strstr(text.data, "\"score\":4"));
        *sum = fm_hash64(text.data, text.len, 0);
    }
    fm_str_free(&text);
    fm_tallies_free(&counts);
    fm_recs_free(&out);
    fm_json_free(task);
    return s;
}

static void json_min(void **state) {
    static const failures_work w = {"json-min", minimal, 1, NULL, NULL};
    (void)state;
    failures_check(&w);
}

/* ---- */

static void write_file(char *path, size_t cap, const char *dir, const char *name, const void *data, size_t n) {
    snprintf(path, cap, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state) {
    static const unsigned char gif[] =
        "GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x21\xf9\x04\x01\x00\x00"
        "\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";
    static const char seed[] = "{\"instruction\":\"Name a colour\",\"input\":\"\",\"output\":\"red\"}\n";
    char path[160];
    fm_ngram_trainer *t;
    fm_ngram_info info;
    (void)state;
    snprintf(top, sizeof top, "%s/fathom_tools_XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(top));
    snprintf(work, sizeof work, "%s/work", top);
    snprintf(model_dir, sizeof model_dir, "%s/model", top);
    snprintf(images, sizeof images, "%s/images", top);
    snprintf(path, sizeof path, "%s/cats", images);
    assert_int_equal(fm_mkdirs(model_dir), FM_OK);
    assert_int_equal(fm_mkdirs(path), FM_OK);
    char file[192];
    write_file(file, sizeof file, path, "a.gif", gif, sizeof gif - 1);
    write_file(file, sizeof file, path, "a.txt", "a cat", 5);
    write_file(file, sizeof file, path, "b.gif", gif, sizeof gif - 1);
    write_file(file, sizeof file, path, "cut.gif", gif, 20);
    write_file(file, sizeof file, path, "none.png", "text", 4);
    write_file(rows_path, sizeof rows_path, top, "rows.jsonl", rows, strlen(rows));
    write_file(seeds_path, sizeof seeds_path, top, "seeds.jsonl", seed, strlen(seed));
    write_file(key_path, sizeof key_path, top, "key", "0123456789abcdef", 16);
    snprintf(ngram, sizeof ngram, "%s/words.ngram", top);
    const fm_ngram_train_options o = {.order = 2, .unit = FM_NGRAM_MIXED, .memory = 1 << 20, .work_dir = top};
    assert_int_equal(fm_ngram_train_new(&t, &o), FM_OK);
    for (int i = 0; i < 200; i++) {
        snprintf(path, sizeof path, "The quick brown fox number %d jumps over the lazy dog on day %d.", i, i % 30);
        assert_int_equal(fm_ngram_train_add(t, fm_sv_of(path)), FM_OK);
    }
    assert_int_equal(fm_ngram_train_finish(t, &info, ngram), FM_OK);
    fm_ngram_train_free(t);
    fm_data_set_models(&fake);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(top) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_step), cmocka_unit_test(image_folder), cmocka_unit_test(synthesis),
        cmocka_unit_test(erasure),   cmocka_unit_test(trained),      cmocka_unit_test(json_min),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
