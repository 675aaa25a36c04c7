/* Every tensor of every family, missing, of another shape, or with a NaN: the folder is refused with the name of the
 * tensor. One tensor too many: refused with its name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../quick.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/safetensors.h"
#include "model/model.h"

#define DATA FM_SOURCE_DIR "/tests/golden/data/"

/* A folder of each family, with all the parts it can have. */
static const struct {
    const char *family, *folder;
} models[] = {
    {"llama", "llama_bias"},
    {"qwen2", "qwen2"},
    {"qwen3", "qwen3"},
    {"mistral", "mistral_window"},
    {"qwen3_moe", "qwen3_moe"},
    {"mixtral", "mixtral"},
    {"deepseek", "deepseek"},
    {"deepseek_v2", "deepseek_v2"},
    {"deepseek_v3", "deepseek_grads/v3_mtp"},
    {"deepseek_v32", "deepseek_grads/v32"},
    {"gpt2", "heads/gpt2"},
    {"bloom", "heads/bloom"},
    {"mpt", "heads/mpt"},
    {"bert", "heads/bert_mlm"},
    {"mobilebert", "heads/mobilebert_mlm"},
};

typedef enum change { CHANGE_NONE, CHANGE_MISSING, CHANGE_SHAPE, CHANGE_NAN, CHANGE_EXTRA } change;

static char dir[64], config[512];

/* The tensors of st in one file, the one named `name` changed; an extra one has that name. All are f32. */
static void write_changed(const fm_safetensors *st, const char *name, change ch) {
    fm_str head = {0}, data = {0};
    char path[128];
    fm_str_printf(&head, "{");
    for (size_t i = 0; i < fm_safetensors_count(st) + (ch == CHANGE_EXTRA); i++) {
        bool extra = i == fm_safetensors_count(st);
        const fm_st_tensor *t = fm_safetensors_at(st, extra ? 0 : i);
        bool hit = extra || strcmp(t->name, name) == 0;
        int64_t row = t->bytes / t->dims[0], bytes = t->bytes + (hit && ch == CHANGE_SHAPE ? row : 0);
        assert_int_equal(t->dtype, FM_F32);
        if (hit && ch == CHANGE_MISSING) {
            continue;
        }
        fm_str_printf(&head, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", head.len > 1 ? "," : "",
                      extra ? name : t->name);
        for (int k = 0; k < t->n_dims; k++) {
            fm_str_printf(&head, "%s%lld", k ? "," : "", (long long)(t->dims[k] + (k == 0 && bytes > t->bytes)));
        }
        fm_str_printf(&head, "],\"data_offsets\":[%zu,%zu]}", data.len, data.len + (size_t)bytes);
        fm_str_append(&data, (const char *)t->data, (size_t)t->bytes);
        if (bytes > t->bytes) {
            fm_str_append(&data, (const char *)t->data, (size_t)row);
        }
        if (hit && ch == CHANGE_NAN) {
            memcpy(data.data + data.len - sizeof(float), &(float){NAN}, sizeof(float));
        }
    }
    fm_str_printf(&head, "}");
    while (head.len % 8) {
        fm_str_printf(&head, " ");
    }
    assert_false(head.failed || data.failed);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint64_t n = head.len; /* little-endian machines only, as are the others that read the format in place */
    assert_int_equal(fwrite(&n, 1, 8, f) + fwrite(head.data, 1, head.len, f) + fwrite(data.data, 1, data.len, f),
                     8 + head.len + data.len);
    assert_int_equal(fclose(f), 0);
    fm_str_free(&head);
    fm_str_free(&data);
}

static void expect(const fm_safetensors *st, const char *name, change ch, fm_status want, bool map) {
    static const char *const what[] = {"unchanged", "missing", "other shape", "NaN", "extra"};
    fm_model *m;
    write_changed(st, name, ch);
    fm_status s = fm_model_load(&m, dir, map, FM_F32);
    fm_model_close(s == FM_OK ? m : NULL);
    if (s != want || (want != FM_OK && !strstr(fm_error_get().message, name))) {
        fail_msg("%s, %s %s: %s: %s", config, name, what[ch], fm_status_name(s),
                 s == FM_OK ? "" : fm_error_get().message);
    }
}

/* The files hold p twice. */
static bool has_copy(const fm_model *m, const fm_param *p) {
    bool found = false;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *q = fm_params_at(m->params, i);
        found = found || (q->tie == p && q->in_files);
    }
    return found;
}

static void every_tensor(const char *folder) {
    fm_safetensors *st;
    fm_model *m;
    char from[512], to[128];
    int n_tied = 0;
    snprintf(from, sizeof from, DATA "%s", folder);
    snprintf(config, sizeof config, "%s", folder);
    assert_int_equal(fm_safetensors_open(&st, from), FM_OK);
    assert_int_equal(fm_model_load(&m, from, true, FM_F32), FM_OK);
    snprintf(from, sizeof from, DATA "%s/config.json", folder);
    snprintf(to, sizeof to, "%s/config.json", dir);
    assert_int_equal(symlink(from, to), 0);
    expect(st, "", CHANGE_NONE, FM_OK, true);
    expect(st, "model.layers.0.extra.weight", CHANGE_EXTRA, FM_ERR_FORMAT, false);
    size_t step = test_quick() ? 7 : 1;
    for (size_t i = 0; i < fm_safetensors_count(st); i += step) {
        const char *name = fm_safetensors_at(st, i)->name;
        const fm_param *p = fm_params_find(m->params, name);
        assert_non_null(p);
        bool tied = p->tie != NULL; /* a copy of another may be left out, and must be equal to it */
        n_tied += tied;
        expect(st, name, CHANGE_MISSING, tied ? FM_OK : FM_ERR_NOT_FOUND, i % 2);
        expect(st, name, CHANGE_SHAPE, tied ? FM_ERR_UNSUPPORTED : FM_ERR_SHAPE, i % 2);
        expect(st, name, CHANGE_NAN, tied || has_copy(m, p) ? FM_ERR_UNSUPPORTED : FM_ERR_NUMERIC, i % 2);
    }
    print_message("%-14s %zu tensors, %d of them copies\n", folder, fm_safetensors_count(st), n_tied);
    assert_int_equal(unlink(to), 0);
    fm_model_close(m);
    fm_safetensors_close(st);
}

static void test_every_tensor_counts(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/fathom_refused_XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (int f = 0; f < fm_n_families; f++) {
        const char *folder = NULL;
        for (size_t i = 0; i < FM_ARRAY_LEN(models); i++) {
            folder = strcmp(models[i].family, fm_families[f]->name) == 0 ? models[i].folder : folder;
        }
        if (!folder) {
            fail_msg("family %s has no row here", fm_families[f]->name);
        }
        every_tensor(folder);
    }
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_tensor_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
