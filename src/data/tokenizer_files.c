/* A tokenizer's files: opened, hashed, carried along with data and models. */
#include "data/pack.h"

#include <stdio.h>

#include "base/error.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"

static fm_status json_path(char *buf, size_t cap, const char *path) {
    if (fm_path_is_dir(path)) {
        return fm_path_join(buf, cap, path, "tokenizer.json");
    }
    if ((size_t)snprintf(buf, cap, "%s", path) >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is longer than %zu bytes: %s", cap, path);
    }
    return FM_OK;
}

fm_status fm_pack_tokenizer(fm_tokenizer **out, char hash[33], const char *path) {
    *out = NULL;
    char file[4096];
    FM_TRY(json_path(file, sizeof file, path));
    FM_TRY(fm_tokenizer_open(out, path));
    fm_status s = fm_file_hash(hash, file);
    if (s != FM_OK) {
        fm_tokenizer_free(*out);
        *out = NULL;
    }
    return s;
}

static fm_status copy_file(const char *from, const char *dir, const char *name) {
    char to[4096];
    FM_TRY(fm_path_join(to, sizeof to, dir, name));
    char *data;
    size_t n;
    FM_TRY(fm_file_read(&data, &n, from, 0));
    fm_status s = fm_file_write_atomic(to, data, n);
    fm_free(data);
    return s;
}

fm_status fm_copy_tokenizer(const char *from, const char *dir) {
    static const char *const names[] = {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json",
        "merges.txt",     "added_tokens.json"};
    FM_TRY(fm_mkdirs(dir));
    if (fm_gguf_is_file(from)) {
        fm_tokenizer *t;
        FM_TRY(fm_tokenizer_open(&t, from));
        fm_status s = fm_tokenizer_save(t, dir);
        fm_tokenizer_free(t);
        return s;
    }
    if (!fm_path_is_dir(from)) {
        return copy_file(from, dir, names[0]);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        char path[4096];
        FM_TRY(fm_path_join(path, sizeof path, from, names[i]));
        if (fm_path_exists(path)) {
            FM_TRY(copy_file(path, dir, names[i]));
        }
    }
    return FM_OK;
}
