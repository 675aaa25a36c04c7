/* Writing packed token shards. See shard_write.h. */
#include "data/shard_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

typedef struct shard_record {
    int64_t n_tokens, n_documents, bytes;
    char hash[33];
} shard_record;

struct fm_shard_writer {
    char *dir;
    int32_t vocab_size;
    uint32_t token_bytes;
    int64_t shard_tokens;
    fm_str tokens; /* of the open shard, as they go to the file */
    bool has_marks;
    uint32_t n_values;
    fm_str marks, values; /* of the open shard */
    int64_t n_open;
    uint64_t *ends;
    fm_shard_source *source;
    size_t n_docs, cap_ends, cap_source;
    shard_record *shard;
    size_t n_shards, cap_shards;
    int64_t total_tokens, total_documents, total_bytes;
};

fm_status fm_shard_writer_new(fm_shard_writer **out, const char *dir, int32_t vocab_size, int64_t shard_tokens) {
    *out = NULL;
    FM_ASSERT(vocab_size > 0 && shard_tokens > 0);
    FM_TRY(fm_mkdirs(dir));
    fm_shard_writer *w = fm_calloc(1, sizeof *w);
    char *own = w ? fm_strdup(dir) : NULL;
    if (!own) {
        fm_free(w);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a shard writer");
    }
    w->dir = own;
    w->vocab_size = vocab_size;
    w->token_bytes = vocab_size <= 65536 ? 2 : 4;
    w->shard_tokens = shard_tokens;
    *out = w;
    return FM_OK;
}

void fm_shard_writer_free(fm_shard_writer *w) {
    if (!w) {
        return;
    }
    fm_str_free(&w->tokens);
    fm_str_free(&w->marks);
    fm_str_free(&w->values);
    fm_free(w->ends);
    fm_free(w->source);
    fm_free(w->shard);
    fm_free(w->dir);
    fm_free(w);
}

fm_status fm_shard_writer_add(fm_shard_writer *w, const int32_t *ids, int64_t n, int64_t n_bytes, uint32_t file,
                              int64_t line, uint32_t piece) {
    FM_ASSERT(n > 0);
    if (w->n_open > 0 && w->n_open + n > w->shard_tokens) {
        FM_TRY(fm_shard_writer_flush(w));
    }
    FM_TRY(fm_grow((void **)&w->ends, &w->cap_ends, w->n_docs + 1, sizeof *w->ends));
    FM_TRY(fm_grow((void **)&w->source, &w->cap_source, w->n_docs + 1, sizeof *w->source));
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= w->vocab_size) {
            FM_FAIL(FM_ERR_DATA, "token id %d is outside the vocabulary of %d", ids[i], w->vocab_size);
        }
    }
    if (w->token_bytes == 4) {
        fm_str_append(&w->tokens, (const char *)ids, (size_t)n * 4);
    } else {
        uint16_t part[512];
        for (int64_t i = 0; i < n;) {
            size_t k = 0;
            for (; k < FM_ARRAY_LEN(part) && i < n; k++, i++) {
                part[k] = (uint16_t)ids[i];
            }
            fm_str_append(&w->tokens, (const char *)part, k * 2);
        }
    }
    FM_TRY(fm_str_check(&w->tokens));
    w->n_open += n;
    w->ends[w->n_docs] = (uint64_t)w->n_open;
    w->source[w->n_docs++] = (fm_shard_source){
        .file = file, .line_low = (uint32_t)line, .line_high = (uint32_t)((uint64_t)line >> 32), .piece = piece};
    w->total_tokens += n;
    w->total_documents++;
    w->total_bytes += n_bytes;
    return FM_OK;
}

void fm_shard_writer_set_extra(fm_shard_writer *w, bool marks, uint32_t n_values) {
    FM_ASSERT(w->total_documents == 0);
    w->has_marks = marks;
    w->n_values = n_values;
}

fm_status fm_shard_writer_add_example(fm_shard_writer *w, const int32_t *ids, const int16_t *marks, int64_t n,
                                      const float *values, int64_t n_bytes, uint32_t file, int64_t line) {
    FM_ASSERT(w->has_marks == (marks != NULL) && (w->n_values > 0) == (values != NULL));
    FM_TRY(fm_shard_writer_add(w, ids, n, n_bytes, file, line, 0)); /* may close the shard before this document */
    if (marks) {
        fm_str_append(&w->marks, (const char *)marks, (size_t)n * sizeof *marks);
    }
    if (values) {
        fm_str_append(&w->values, (const char *)values, w->n_values * sizeof *values);
    }
    FM_TRY(fm_str_check(&w->marks));
    return fm_str_check(&w->values);
}

static void shard_name(char *buf, size_t cap, size_t i) {
    snprintf(buf, cap, "shard-%05zu.fmt", i);
}

fm_status fm_shard_writer_flush(fm_shard_writer *w) {
    if (w->n_docs == 0) {
        return FM_OK;
    }
    while (w->tokens.len % 8 != 0) {
        fm_str_putc(&w->tokens, 0);
    }
    while (w->marks.len % 8 != 0) {
        fm_str_putc(&w->marks, 0);
    }
    FM_TRY(fm_str_check(&w->tokens));
    FM_TRY(fm_str_check(&w->marks));
    bool extra = w->has_marks || w->n_values > 0;
    fm_shard_extra x = {.has_marks = w->has_marks, .n_values = w->n_values};
    fm_shard_header h = {.version = extra ? 2 : 1,
                         .token_bytes = w->token_bytes,
                         .n_tokens = (uint64_t)w->n_open,
                         .n_documents = w->n_docs,
                         .ends_at = sizeof h + w->tokens.len};
    memcpy(h.magic, FM_SHARD_MAGIC, sizeof h.magic);
    h.sources_at = h.ends_at + w->n_docs * sizeof *w->ends;
    h.file_bytes = h.sources_at + w->n_docs * sizeof *w->source;
    if (extra) {
        h.extra_at = h.file_bytes;
        h.file_bytes += sizeof x + w->marks.len + w->values.len;
    }
    FM_TRY(fm_grow((void **)&w->shard, &w->cap_shards, w->n_shards + 1, sizeof *w->shard));
    char name[32], path[4096], tmp[4112];
    shard_name(name, sizeof name, w->n_shards);
    FM_TRY(fm_path_join(path, sizeof path, w->dir, name));
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    fm_hasher *hasher;
    FM_TRY(fm_hasher_new(&hasher));
    struct {
        const void *p;
        size_t n;
    } part[] = {{&h, sizeof h},
                {w->tokens.data, w->tokens.len},
                {w->ends, w->n_docs * sizeof *w->ends},
                {w->source, w->n_docs * sizeof *w->source},
                {&x, extra ? sizeof x : 0},
                {w->marks.data, w->marks.len},
                {w->values.data, w->values.len}};
    FILE *f = fopen(tmp, "wbe");
    bool ok = f != NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(part) && ok; i++) {
        if (part[i].n == 0) {
            continue;
        }
        ok = fwrite(part[i].p, 1, part[i].n, f) == part[i].n;
        fm_hasher_update(hasher, part[i].p, part[i].n);
    }
    ok = (f && fclose(f) == 0) && ok;
    shard_record r = {.n_tokens = w->n_open, .n_documents = (int64_t)w->n_docs, .bytes = (int64_t)h.file_bytes};
    fm_hasher_hex(hasher, r.hash);
    fm_hasher_free(hasher);
    if (!ok) {
        fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", tmp, strerror(errno));
        fm_error_hint("shards need about %llu bytes each; check free space and permissions of the folder",
                      (unsigned long long)h.file_bytes);
        remove(tmp);
        return FM_ERR_IO;
    }
    FM_TRY(fm_sync_path(tmp));
    fm_crash_point("pack.shard");
    FM_TRY(fm_rename_dir(tmp, path));
    w->shard[w->n_shards++] = r;
    w->n_open = 0;
    w->n_docs = 0;
    fm_str_clear(&w->tokens);
    fm_str_clear(&w->marks);
    fm_str_clear(&w->values);
    return FM_OK;
}

int64_t fm_shard_writer_tokens(const fm_shard_writer *w) {
    return w->total_tokens;
}
int64_t fm_shard_writer_documents(const fm_shard_writer *w) {
    return w->total_documents;
}
int64_t fm_shard_writer_bytes(const fm_shard_writer *w) {
    return w->total_bytes;
}
int64_t fm_shard_writer_n_shards(const fm_shard_writer *w) {
    return (int64_t)w->n_shards;
}

/* Members that dataset.json and the resume state share. */
static fm_status describe(fm_json *o, const fm_shard_writer *w) {
    FM_TRY(fm_json_set(o, "vocab_size", fm_json_new_int(w->vocab_size)));
    FM_TRY(fm_json_set(o, "token_bytes", fm_json_new_int(w->token_bytes)));
    FM_TRY(fm_json_set(o, "n_tokens", fm_json_new_int(w->total_tokens)));
    FM_TRY(fm_json_set(o, "n_documents", fm_json_new_int(w->total_documents)));
    FM_TRY(fm_json_set(o, "n_bytes", fm_json_new_int(w->total_bytes)));
    FM_TRY(fm_json_set(o, "shards", fm_json_new_array()));
    fm_json *list = fm_json_get(o, "shards");
    for (size_t i = 0; i < w->n_shards; i++) {
        char name[32];
        shard_name(name, sizeof name, i);
        FM_TRY(fm_json_append(list, fm_json_new_object()));
        fm_json *s = fm_json_at(list, i);
        FM_TRY(fm_json_set(s, "file", fm_json_new_str(name)));
        FM_TRY(fm_json_set(s, "bytes", fm_json_new_int(w->shard[i].bytes)));
        FM_TRY(fm_json_set(s, "n_tokens", fm_json_new_int(w->shard[i].n_tokens)));
        FM_TRY(fm_json_set(s, "n_documents", fm_json_new_int(w->shard[i].n_documents)));
        FM_TRY(fm_json_set(s, "hash", fm_json_new_str(w->shard[i].hash)));
    }
    return FM_OK;
}

fm_status fm_shard_writer_state(fm_json **out, const fm_shard_writer *w) {
    FM_ASSERT(w->n_docs == 0);
    fm_json *o = fm_json_new_object();
    fm_status s = describe(o, w);
    if (s != FM_OK) {
        fm_json_free(o);
        o = NULL;
    }
    *out = o;
    return s;
}

fm_status fm_shard_writer_resume(fm_shard_writer *w, const fm_json *state) {
    FM_ASSERT(w->n_docs == 0 && w->n_shards == 0);
    const fm_json *list = fm_json_get(state, "shards");
    size_t n = fm_json_size(list);
    for (size_t i = 0; i < n; i++) {
        const fm_json *s = fm_json_at(list, i);
        shard_record r = {.n_tokens = fm_json_int(fm_json_get(s, "n_tokens"), -1),
                          .n_documents = fm_json_int(fm_json_get(s, "n_documents"), -1),
                          .bytes = fm_json_int(fm_json_get(s, "bytes"), -1)};
        const char *hash = fm_json_str(fm_json_get(s, "hash"), NULL);
        char name[32], path[4096], found[33];
        shard_name(name, sizeof name, i);
        FM_TRY(fm_path_join(path, sizeof path, w->dir, name));
        FM_TRY(fm_file_hash(found, path));
        if (!hash || strcmp(hash, found) != 0 || fm_file_size(path) != r.bytes) {
            FM_FAIL(FM_ERR_CORRUPT, "%s is not the shard that the unfinished run wrote", path);
        }
        memcpy(r.hash, found, sizeof r.hash);
        FM_TRY(fm_grow((void **)&w->shard, &w->cap_shards, i + 1, sizeof *w->shard));
        w->shard[i] = r;
        w->n_shards = i + 1;
    }
    for (size_t i = n;; i++) { /* shards of files that were not finished */
        char name[32], path[4096];
        shard_name(name, sizeof name, i);
        FM_TRY(fm_path_join(path, sizeof path, w->dir, name));
        if (!fm_path_exists(path)) {
            break;
        }
        FM_TRY(fm_remove_tree(path));
    }
    w->total_tokens = fm_json_int(fm_json_get(state, "n_tokens"), 0);
    w->total_documents = fm_json_int(fm_json_get(state, "n_documents"), 0);
    w->total_bytes = fm_json_int(fm_json_get(state, "n_bytes"), 0);
    return FM_OK;
}

/* The content hash covers the shards alone: the same tokens from other file names are the same data. */
static fm_status content_hash(char out[33], const fm_shard_writer *w) {
    fm_hasher *h;
    FM_TRY(fm_hasher_new(&h));
    for (size_t i = 0; i < w->n_shards; i++) {
        fm_hasher_update(h, w->shard[i].hash, 32);
    }
    fm_hasher_hex(h, out);
    fm_hasher_free(h);
    return FM_OK;
}

typedef struct merge_job {
    fm_json *into;
} merge_job;

static fm_status merge_member(void *arg, const char *key, fm_json *value) {
    const merge_job *j = arg;
    fm_str text = {0};
    fm_json *copy = NULL;
    fm_status s = fm_json_dump(&text, value, 0);
    if (s == FM_OK) {
        s = fm_json_parse(&copy, text.data, text.len, key);
    }
    fm_str_free(&text);
    FM_TRY(s);
    return fm_json_set(j->into, key, copy);
}

static fm_status write_dataset_json(const fm_shard_writer *w, fm_json *o, const char *tokenizer_hash,
                                    const fm_json *files, const fm_json *extra) {
    char hash[33], path[4096];
    FM_TRY(content_hash(hash, w));
    FM_TRY(fm_json_set(o, "format", fm_json_new_str(FM_DATASET_FORMAT)));
    FM_TRY(fm_json_set(o, "version", fm_json_new_int(w->has_marks || w->n_values > 0 ? 2 : 1)));
    FM_TRY(fm_json_set(o, "complete", fm_json_new_bool(true)));
    FM_TRY(fm_json_set(o, "hash", fm_json_new_str(hash)));
    FM_TRY(fm_json_set(o, "tokenizer_hash", fm_json_new_str(tokenizer_hash)));
    FM_TRY(describe(o, w));
    merge_job job = {.into = o};
    if (extra) {
        FM_TRY(fm_json_each((fm_json *)(uintptr_t)extra, merge_member, &job));
    }
    FM_TRY(fm_json_set(o, "files", fm_json_new_array()));
    for (size_t i = 0; i < fm_json_size(files); i++) {
        const char *name = fm_json_str(fm_json_at(files, i), NULL);
        FM_TRY(fm_json_append(fm_json_get(o, "files"), fm_json_new_str(name ? name : "")));
    }
    fm_str text = {0};
    fm_status s = fm_json_dump(&text, o, 2);
    if (s == FM_OK) {
        fm_str_putc(&text, '\n');
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        s = fm_path_join(path, sizeof path, w->dir, FM_DATASET_FILE);
    }
    if (s == FM_OK) {
        fm_crash_point("pack.manifest");
        s = fm_file_write_atomic(path, text.data, text.len);
    }
    fm_str_free(&text);
    return s;
}

fm_status fm_shard_writer_finish(fm_shard_writer *w, const char *tokenizer_hash, const fm_json *files,
                                 const fm_json *extra) {
    FM_TRY(fm_shard_writer_flush(w));
    fm_json *o = fm_json_new_object();
    fm_status s = write_dataset_json(w, o, tokenizer_hash, files, extra);
    fm_json_free(o);
    return s;
}
