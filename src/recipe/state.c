/* What is remembered of a stage: OUTPUT_DIR/.recipe/NAME.json. And hashes of files and folders. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "recipe/recipe.h"

fm_status fm_parts_add(fm_stage_parts *p, const char *name, const char *value) {
    FM_TRY(fm_list_add(&p->name, name, strlen(name)));
    return fm_list_add(&p->value, value, strlen(value));
}

void fm_parts_free(fm_stage_parts *p) {
    fm_list_free(&p->name);
    fm_list_free(&p->value);
}

/* ---- hashes ------------------------------------------------------------------------------------ */

/* Files that say when, how fast or how far: equal results do not have them equal. */
static bool volatile_name(const char *name) {
    static const char *const begins[] = {".", "checkpoint-", "events.out.", "trainer_log", "trainer_state", "run.json"};
    for (size_t i = 0; i < FM_ARRAY_LEN(begins); i++) {
        if (strncmp(name, begins[i], strlen(begins[i])) == 0) {
            return true;
        }
    }
    return strcmp(name, "runs") == 0;
}

static fm_status add_file(fm_hasher *h, const char *path, bool content) {
    if (content) {
        char hash[33];
        FM_TRY(fm_file_hash(hash, path));
        fm_hasher_update(h, hash, 32);
        return FM_OK;
    }
    struct stat st;
    if (stat(path, &st) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot look at %s", path);
    }
    char text[96];
    int n = snprintf(text, sizeof text, "%lld %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                     st.st_mtim.tv_nsec);
    fm_hasher_update(h, text, (size_t)n);
    return FM_OK;
}

static fm_status add_tree(fm_hasher *h, const char *path, bool content, int depth) {
    if (!fm_path_is_dir(path)) {
        return add_file(h, path, content);
    }
    if (depth > 32) {
        FM_FAIL(FM_ERR_IO, "%s: folders are nested too deep", path);
    }
    char **names;
    size_t n;
    FM_TRY(fm_dir_list(&names, &n, path));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        char sub[4096];
        if (volatile_name(names[i])) {
            continue;
        }
        fm_hasher_update(h, names[i], strlen(names[i]) + 1);
        s = fm_path_join(sub, sizeof sub, path, names[i]);
        s = s == FM_OK ? add_tree(h, sub, content, depth + 1) : s;
    }
    fm_names_free(names, n);
    return s;
}

static fm_status tree(char out[33], const char *path, bool content) {
    fm_hasher *h;
    out[0] = '\0';
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    FM_TRY(fm_hasher_new(&h));
    fm_status s = add_tree(h, path, content, 0);
    if (s == FM_OK) {
        fm_hasher_hex(h, out);
    }
    fm_hasher_free(h);
    return s;
}

fm_status fm_tree_hash(char out[33], const char *path) {
    return tree(out, path, true);
}
fm_status fm_tree_signature(char out[33], const char *path) {
    return tree(out, path, false);
}

/* ---- records ----------------------------------------------------------------------------------- */

static fm_status record_path(char *buf, size_t cap, const fm_recipe *r, const fm_stage *s) {
    if (snprintf(buf, cap, "%s/.recipe/%s.json", r->output_dir, s->name) >= (int)cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path of the recipe's output is too long");
    }
    return FM_OK;
}

static fm_status add_part(void *arg, const char *key, fm_json *value) {
    const char *text = fm_json_str(value, NULL);
    return fm_parts_add(arg, key, text ? text : "");
}

static void copy_hash(char out[33], const fm_json *j) {
    const char *t = fm_json_str(j, NULL);
    snprintf(out, 33, "%.32s", t ? t : "");
}

void fm_record_deinit(fm_stage_record *rec) {
    fm_parts_free(&rec->parts);
    fm_json_free(rec->inputs);
    *rec = (fm_stage_record){0};
}

fm_status fm_record_load(fm_stage_record *out, const fm_recipe *r, const fm_stage *s) {
    char path[4096];
    fm_json *j;
    *out = (fm_stage_record){0};
    FM_TRY(record_path(path, sizeof path, r, s));
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    fm_status st = fm_json_load(&j, path);
    if (st == FM_ERR_FORMAT) { /* a damaged record is none: the stage is done again */
        fm_error_clear();
        return FM_OK;
    }
    FM_TRY(st);
    out->found = true;
    out->done = fm_json_bool(fm_json_get(j, "done"), false);
    out->seconds = fm_json_num(fm_json_get(j, "seconds"), 0);
    copy_hash(out->output_hash, fm_json_get(j, "output_hash"));
    copy_hash(out->signature, fm_json_get(j, "signature"));
    fm_json *parts = fm_json_get(j, "parts"), *inputs = fm_json_get(j, "inputs");
    st = fm_json_is_object(parts) ? fm_json_each(parts, add_part, &out->parts) : FM_OK;
    fm_str text = {0};
    if (st == FM_OK && fm_json_is_object(inputs)) { /* a copy of its own */
        st = fm_json_dump(&text, inputs, 0);
        st = st == FM_OK ? fm_json_parse(&out->inputs, text.data, text.len, path) : st;
    }
    fm_str_free(&text);
    fm_json_free(j);
    if (st != FM_OK) {
        fm_record_deinit(out);
    }
    return st;
}

static fm_status fill(fm_json *o, const fm_stage_record *rec, const fm_recipe *r, const fm_stage *s) {
    fm_str text = {0};
    fm_json *parts = fm_json_new_object(), *inputs = NULL;
    FM_TRY(fm_json_set(o, "parts", parts));
    FM_TRY(fm_json_set(o, "stage", fm_json_new_str(s->name)));
    FM_TRY(fm_json_set(o, "recipe", fm_json_new_str(r->path)));
    FM_TRY(fm_json_set(o, "done", fm_json_new_bool(rec->done)));
    FM_TRY(fm_json_set(o, "seconds", fm_json_new_num(rec->seconds)));
    FM_TRY(fm_json_set(o, "output", fm_json_new_str(s->output)));
    FM_TRY(fm_json_set(o, "output_hash", fm_json_new_str(rec->output_hash)));
    FM_TRY(fm_json_set(o, "signature", fm_json_new_str(rec->signature)));
    for (size_t i = 0; i < rec->parts.name.n; i++) {
        FM_TRY(fm_json_set(parts, rec->parts.name.item[i], fm_json_new_str(rec->parts.value.item[i])));
    }
    if (!rec->inputs) {
        return FM_OK;
    }
    fm_status st = fm_json_dump(&text, rec->inputs, 0);
    st = st == FM_OK ? fm_json_parse(&inputs, text.data, text.len, "inputs") : st;
    fm_str_free(&text);
    return st == FM_OK ? fm_json_set(o, "inputs", inputs) : st;
}

fm_status fm_record_save(const fm_stage_record *rec, const fm_recipe *r, const fm_stage *s) {
    char path[4096];
    fm_str text = {0};
    FM_TRY(record_path(path, sizeof path, r, s));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    FM_TRY(fm_mkdirs(path));
    *slash = '/';
    fm_json *o = fm_json_new_object();
    fm_status st =
        o ? fill(o, rec, r, s) : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a recipe");
    st = st == FM_OK ? fm_json_dump(&text, o, 2) : st;
    st = st == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : st;
    fm_str_free(&text);
    fm_json_free(o);
    return st;
}
