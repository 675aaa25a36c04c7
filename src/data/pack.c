/* data pack: files of rows to token shards.
 *
 * All work happens in OUTPUT.partial, which becomes OUTPUT by a rename at the end: a refused or failed run leaves
 * OUTPUT as it was. pack.json in the working folder names the input files that are done and the shards that hold them;
 * a run of the same settings on the same files takes up there. Small files share a shard: the state is saved at the end
 * of a file once enough tokens came in since the last time. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/frozen.h"
#include "data/manifest.h"
#include "data/pack_run.h"
#include "data/shards.h"

#define STATE_FILE    "pack.json"
#define COMMIT_TOKENS ((int64_t)4 << 20)

/* X(field): counts kept in pack.json and dataset.json. */
#define COUNTS(X) X(n_rows) X(n_bad) X(n_documents) X(n_bytes) X(n_cut) X(n_split) X(n_dropped)

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    fm_pack_reject(user, file, line, reason);
}

static fm_status check_config(const fm_pack_config *c) {
    if (c->rows.input.n == 0 || !c->tokenizer || !c->output) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s is not set",
                     c->rows.input.n == 0 ? "input"
                     : c->tokenizer       ? "output"
                                          : "tokenizer");
        return fm_error_hint("input, tokenizer and output are needed");
    }
    if (c->cutoff_len > 0 && c->cutoff_len < 2 + c->add_bos + c->add_eos) {
        FM_FAIL(FM_ERR_CONFIG, "cutoff_len %lld leaves no room for text, expected at least %d",
                (long long)c->cutoff_len, 2 + c->add_bos + c->add_eos);
    }
    return FM_OK;
}

static fm_status open_tokenizer(fm_packer *p) {
    const fm_pack_config *c = p->c;
    FM_TRY(fm_pack_tokenizer(&p->tok, p->tok_hash, c->tokenizer));
    p->bos = fm_tokenizer_bos(p->tok);
    p->eos = fm_tokenizer_eos(p->tok);
    if ((c->add_bos && p->bos < 0) || (c->add_eos && p->eos < 0)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "tokenizer %s names no %s token", c->tokenizer,
                     c->add_bos && p->bos < 0 ? "BOS" : "EOS");
        return fm_error_hint("name it in tokenizer_config.json, or pack with %s=false (a model trained without "
                             "EOS does not learn to stop)",
                             c->add_bos && p->bos < 0 ? "add_bos" : "add_eos");
    }
    return FM_OK;
}

/* What makes two runs the same: settings, tokenizer, and names, sizes and times of the input files. */
static fm_status settings_hash(char out[33], const fm_packer *p, const fm_source *src) {
    const fm_pack_config *c = p->c;
    fm_str s = {0};
    fm_str_printf(&s, "v1|%d|%s|%s|%d|%lld|%d|%.17g|%lld|%d%d|%s", c->rows.format,
                  c->rows.text_column ? c->rows.text_column : "", c->rows.text_template ? c->rows.text_template : "",
                  c->rows.txt_unit, (long long)c->cutoff_len, c->long_rows, c->val_size, (long long)c->shard_tokens,
                  c->add_bos, c->add_eos, p->tok_hash);
    for (size_t i = 0; i < fm_source_n_files(src); i++) {
        const char *name = fm_source_file(src, i);
        struct stat st = {0};
        if (stat(name, &st) == 0) {
            fm_str_printf(&s, "|%s:%lld:%lld.%ld", name, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                          st.st_mtim.tv_nsec);
        } else {
            fm_str_printf(&s, "|%s", name);
        }
    }
    fm_hasher *h = NULL;
    fm_status st = fm_str_check(&s);
    if (st == FM_OK) {
        st = fm_hasher_new(&h);
    }
    if (st == FM_OK) {
        fm_hasher_update(h, s.data, s.len);
        fm_hasher_hex(h, out);
    }
    fm_hasher_free(h);
    fm_str_free(&s);
    return st;
}

static void load_counts(fm_pack_report *r, const fm_json *j) {
#define LOAD(f) r->f = fm_json_int(fm_json_get(j, #f), 0);
    COUNTS(LOAD)
#undef LOAD
}

static fm_status store_counts(fm_json *j, const fm_pack_report *r) {
#define STORE(f) FM_TRY(fm_json_set(j, #f, fm_json_new_int(r->f)));
    COUNTS(STORE)
#undef STORE
    return FM_OK;
}

/* A dataset already at OUTPUT: *same when it came from the same settings and files. */
static fm_status look_at_output(fm_packer *p, const char *settings, bool *same) {
    const fm_pack_config *c = p->c;
    *same = false;
    if (!fm_path_exists(c->output)) {
        return FM_OK;
    }
    char part[4096], path[4096];
    FM_TRY(fm_dataset_part(part, sizeof part, c->output, "train"));
    FM_TRY(fm_path_join(path, sizeof path, part, FM_DATASET_FILE));
    if (fm_path_exists(path) && !c->overwrite_output_dir) {
        fm_json *j;
        FM_TRY(fm_json_load(&j, path));
        const char *found = fm_json_str(fm_json_get(j, "settings_hash"), NULL);
        *same = found && strcmp(found, settings) == 0;
        if (*same) {
            load_counts(&p->r, fm_json_get(j, "counts"));
            p->r.n_tokens = fm_json_int(fm_json_get(j, "n_tokens"), 0);
            p->r.n_shards = (int64_t)fm_json_size(fm_json_get(j, "shards"));
        }
        fm_json_free(j);
        if (*same) {
            fm_info("%s holds these files packed with these settings already", c->output);
            return FM_OK;
        }
    }
    char **names;
    size_t n;
    FM_TRY(fm_dir_list(&names, &n, c->output));
    fm_names_free(names, n);
    if (n > 0 && !c->overwrite_output_dir) {
        fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "%s exists and is not empty", c->output);
        return fm_error_hint("choose another output, or set overwrite_output_dir=true to replace it");
    }
    return FM_OK;
}

static fm_status make_writers(fm_packer *p) {
    const fm_pack_config *c = p->c;
    char dir[4096];
    int32_t vocab = fm_tokenizer_vocab_size(p->tok);
    FM_TRY(fm_mkdirs(p->work));
    if (c->val_size <= 0) {
        return fm_shard_writer_new(&p->train, p->work, vocab, c->shard_tokens);
    }
    FM_TRY(fm_path_join(dir, sizeof dir, p->work, "train"));
    FM_TRY(fm_shard_writer_new(&p->train, dir, vocab, c->shard_tokens));
    FM_TRY(fm_path_join(dir, sizeof dir, p->work, "val"));
    return fm_shard_writer_new(&p->val, dir, vocab, c->shard_tokens);
}

/* Closes the shards and writes pack.json: everything up to n_done files is safe. */
static fm_status commit(fm_packer *p, const char *settings, size_t n_done) {
    FM_TRY(fm_shard_writer_flush(p->train));
    if (p->val) {
        FM_TRY(fm_shard_writer_flush(p->val));
    }
    if (p->rejects_file && fflush(p->rejects_file) != 0) {
        FM_FAIL(FM_ERR_IO, "cannot write %s: %s", p->rejects, strerror(errno));
    }
    fm_json *o = fm_json_new_object(), *train = NULL, *val = NULL;
    fm_status s = fm_json_set(o, "settings_hash", fm_json_new_str(settings));
    FM_TRY_GOTO(s, done, s);
    FM_TRY_GOTO(s, done, fm_json_set(o, "n_files_done", fm_json_new_int((int64_t)n_done)));
    FM_TRY_GOTO(s, done, fm_json_set(o, "rejects_bytes", fm_json_new_int(FM_MAX(fm_file_size(p->rejects), 0))));
    FM_TRY_GOTO(s, done, store_counts(o, &p->r));
    FM_TRY_GOTO(s, done, fm_shard_writer_state(&train, p->train));
    FM_TRY_GOTO(s, done, fm_json_set(o, "train", train));
    if (p->val) {
        FM_TRY_GOTO(s, done, fm_shard_writer_state(&val, p->val));
        FM_TRY_GOTO(s, done, fm_json_set(o, "val", val));
    }
    fm_str text = {0};
    char path[4096];
    s = fm_json_dump(&text, o, 2);
    s = s == FM_OK ? fm_path_join(path, sizeof path, p->work, STATE_FILE) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_str_free(&text);
    fm_crash_point("pack.commit");
done:
    fm_json_free(o);
    return s;
}

/* Takes up an unfinished run of the same settings, or clears the working folder. */
static fm_status resume(fm_packer *p, const char *settings, size_t *n_done) {
    *n_done = 0;
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, p->work, STATE_FILE));
    fm_json *j = NULL;
    bool usable = fm_path_exists(path) && fm_json_load(&j, path) == FM_OK;
    const char *found = usable ? fm_json_str(fm_json_get(j, "settings_hash"), NULL) : NULL;
    usable = found && strcmp(found, settings) == 0;
    fm_status s = FM_OK;
    if (usable) {
        s = make_writers(p);
        usable = s == FM_OK && fm_shard_writer_resume(p->train, fm_json_get(j, "train")) == FM_OK &&
                 (!p->val || fm_shard_writer_resume(p->val, fm_json_get(j, "val")) == FM_OK);
        usable = usable && (!fm_path_exists(p->rejects) ||
                            truncate(p->rejects, (off_t)fm_json_int(fm_json_get(j, "rejects_bytes"), 0)) == 0);
        if (usable) {
            load_counts(&p->r, j);
            *n_done = (size_t)fm_json_int(fm_json_get(j, "n_files_done"), 0);
            fm_info("resuming: %zu files are packed already", *n_done);
        } else {
            fm_warn("the unfinished run in %s cannot be used (%s): starting again", p->work, fm_error_get().message);
            fm_shard_writer_free(p->train);
            fm_shard_writer_free(p->val);
            p->train = p->val = NULL;
        }
    }
    fm_json_free(j);
    FM_TRY(s);
    if (!usable) {
        FM_TRY(fm_remove_tree(p->work));
        FM_TRY(make_writers(p));
    }
    return FM_OK;
}

static fm_status pack_file(fm_packer *p, const char *name) {
    fm_source_options so = fm_source_options_of(&p->c->rows, &name, 1);
    so.on_bad = on_bad;
    so.user = p;
    fm_source *src;
    FM_TRY(fm_source_open(&src, &so));
    int64_t rows_before = p->r.n_rows;
    fm_status s = FM_OK;
    for (int64_t k = 0; s == FM_OK; k++) {
        fm_source_row row;
        bool more;
        s = fm_source_next(src, &row, &more);
        if (s != FM_OK || !more) {
            break;
        }
        s = fm_pack_row(p, &row);
        if (s == FM_OK && (k & 63) == 0) {
            double took = fm_now() - p->start_s;
            char detail[96];
            snprintf(detail, sizeof detail, "%.1f MB/s", took > 0 ? (double)p->r.n_bytes / 1e6 / took : 0);
            fm_meter_update(&p->meter, (double)fm_shard_writer_tokens(p->train), detail);
            if (fm_cancelled()) {
                s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while packing %s", name);
            }
        }
    }
    if (s == FM_OK) {
        s = fm_pack_drain(p);
    }
    p->r.n_rows = rows_before + fm_source_n_good(src) + fm_source_n_bad(src);
    fm_source_close(src);
    return s == FM_OK ? p->rejects_status : s;
}

/* The files with their hashes and manifests, so that shards know their whole history. */
static fm_status put_inputs(fm_json *extra, const fm_json *files) {
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(extra, "inputs", list));
    for (size_t i = 0; i < fm_json_size(files); i++) {
        const char *path = fm_json_str(fm_json_at(files, i), NULL);
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "file", fm_json_new_str(path)));
        if (fm_file_size(path) >= 0 && !fm_path_is_dir(path)) {
            FM_TRY(fm_manifest_input(e, path, i == 0));
        }
    }
    return FM_OK;
}

static fm_status finish(fm_packer *p, const char *settings) {
    const fm_pack_config *c = p->c;
    if (fm_shard_writer_documents(p->train) == 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                     "no document is left to train on: %lld rows read, %lld bad, %lld dropped%s",
                     (long long)p->r.n_rows, (long long)p->r.n_bad, (long long)p->r.n_dropped,
                     p->val ? ", the rest held out" : "");
        return fm_error_hint("see the reasons with: fathom data check; check text_column, cutoff_len and val_size");
    }
    if (p->rejects_file) {
        int rc = fclose(p->rejects_file);
        p->rejects_file = NULL;
        if (rc != 0) {
            FM_FAIL(FM_ERR_IO, "cannot write %s: %s", p->rejects, strerror(errno));
        }
    }
    fm_json *extra = fm_json_new_object();
    fm_status s = fm_json_set(extra, "settings_hash", fm_json_new_str(settings));
    s = s == FM_OK ? fm_json_set(extra, "counts", fm_json_new_object()) : s;
    s = s == FM_OK ? store_counts(fm_json_get(extra, "counts"), &p->r) : s;
    s = s == FM_OK ? put_inputs(extra, p->files) : s;
    if (s == FM_OK && p->val && fm_shard_writer_documents(p->val) > 0) {
        s = fm_shard_writer_finish(p->val, p->tok_hash, p->files, NULL);
    } else if (s == FM_OK && p->val) {
        fm_warn("val_size %g of %lld documents held nothing out", c->val_size, (long long)p->r.n_documents);
        char dir[4096];
        s = fm_path_join(dir, sizeof dir, p->work, "val");
        s = s == FM_OK ? fm_remove_tree(dir) : s;
    }
    s = s == FM_OK ? fm_shard_writer_finish(p->train, p->tok_hash, p->files, extra) : s;
    fm_json_free(extra);
    FM_TRY(s);
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, p->work, "tokenizer"));
    FM_TRY(fm_copy_tokenizer(c->tokenizer, path));
    FM_TRY(fm_path_join(path, sizeof path, p->work, STATE_FILE));
    FM_TRY(fm_remove_tree(path));
    if (c->rejects && fm_path_exists(p->rejects)) {
        char *text;
        size_t n;
        FM_TRY(fm_file_read(&text, &n, p->rejects, 0));
        s = fm_file_write_atomic(c->rejects, text, n);
        fm_free(text);
        FM_TRY(s);
    }
    fm_crash_point("pack.rename");
    FM_TRY(fm_remove_tree(c->output));
    return fm_rename_dir(p->work, c->output);
}

static fm_status pack_files(fm_packer *p, const fm_source *src, const char *settings, size_t n_done) {
    int64_t committed = 0;
    for (size_t i = 0; i < fm_source_n_files(src); i++) {
        FM_TRY(fm_json_append(p->files, fm_json_new_str(fm_source_file(src, i))));
    }
    for (size_t i = n_done; i < fm_source_n_files(src); i++) {
        p->file = (uint32_t)i;
        FM_TRY(pack_file(p, fm_source_file(src, i)));
        int64_t tokens = fm_shard_writer_tokens(p->train) + (p->val ? fm_shard_writer_tokens(p->val) : 0);
        if (tokens - committed >= FM_MIN(COMMIT_TOKENS, p->c->shard_tokens)) {
            FM_TRY(commit(p, settings, i + 1));
            committed = tokens;
        }
    }
    return finish(p, settings);
}

static fm_status pack(fm_packer *p) {
    const fm_pack_config *c = p->c;
    FM_TRY(check_config(c));
    FM_TRY(open_tokenizer(p));
    fm_source_options so = fm_source_options_of(&c->rows, NULL, 0);
    fm_source *src;
    FM_TRY(fm_source_open(&src, &so));
    char settings[33];
    bool same;
    size_t n_done = 0;
    fm_status s = settings_hash(settings, p, src);
    p->r.n_files = (int64_t)fm_source_n_files(src);
    if (s == FM_OK) {
        s = look_at_output(p, settings, &same);
    }
    if (s == FM_OK && !same) {
        size_t len = strlen(c->output);
        while (len > 1 && c->output[len - 1] == '/') {
            len--;
        }
        snprintf(p->work, sizeof p->work, "%.*s.partial", (int)len, c->output);
        s = c->guarded ? FM_OK : fm_frozen_check(&c->rows.input, &c->frozen_tests, NULL);
        s = s != FM_OK ? s : fm_path_join(p->rejects, sizeof p->rejects, p->work, "rejects.jsonl");
        s = s == FM_OK ? resume(p, settings, &n_done) : s;
        fm_meter_start(&p->meter, "packing", "tokens", 0);
        s = s == FM_OK ? pack_files(p, src, settings, n_done) : s;
        if (s == FM_ERR_DATA) { /* refused: nothing stays */
            fm_error_record keep;
            fm_error_save(&keep);
            if (fm_remove_tree(p->work) != FM_OK) {
                fm_warn("%s is left over and can be removed", p->work);
            }
            fm_error_restore(&keep);
        }
    }
    fm_source_close(src);
    return s;
}

fm_status fm_data_pack(fm_pack_report *out, const fm_pack_config *c, fm_bad_row_fn fn, void *user) {
    FM_ASSERT(out && out->size >= sizeof out->size);
    fm_packer p = {.c = c, .fn = fn, .user = user, .start_s = fm_now()};
    p.files = fm_json_new_array();
    fm_status s = pack(&p);
    if (p.train) {
        p.r.n_tokens = fm_shard_writer_tokens(p.train);
        p.r.n_shards = fm_shard_writer_n_shards(p.train);
    }
    if (p.val) {
        p.r.n_eval_tokens = fm_shard_writer_tokens(p.val);
        p.r.n_eval_bytes = fm_shard_writer_bytes(p.val);
        p.r.n_shards += fm_shard_writer_n_shards(p.val);
    }
    p.r.seconds = fm_now() - p.start_s;
    if (p.r.seconds > 0) {
        p.r.tokens_per_s = (double)(p.r.n_tokens + p.r.n_eval_tokens) / p.r.seconds;
        p.r.mb_per_s = (double)p.r.n_bytes / 1e6 / p.r.seconds;
    }
    if (p.rejects_file) {
        fclose(p.rejects_file);
    }
    fm_shard_writer_free(p.train);
    fm_shard_writer_free(p.val);
    fm_json_free(p.files);
    fm_tokenizer_free(p.tok);
    fm_str_free(&p.text);
    fm_free(p.end);
    fm_free(p.line);
    fm_free(p.doc);
    size_t size = out->size;
    p.r.size = size;
    memcpy(out, &p.r, FM_MIN(size, sizeof p.r));
    return s;
}
