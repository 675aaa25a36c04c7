/* Reading packed token shards. Everything a file says is checked against its size before it is used, so a damaged file
 * is an error and never a wild read; content hashes are checked by fm_dataset_verify. */
#include "data/shards.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "data/shard_format.h"

#define FM_MAX_VALUES 65536

typedef struct shard {
    fm_map map;
    char *name;
    char hash[33];
    int64_t first_token, n_tokens; /* of the whole sequence */
    int64_t first_document, n_documents;
    uint32_t token_bytes;
    const uint8_t *tokens;
    const uint8_t *ends;    /* u64 each; read through load64: the place may be unaligned in a damaged file */
    const uint8_t *sources; /* fm_shard_source each */
    const uint8_t *marks;   /* i16 each, or NULL */
    const uint8_t *values;  /* f32 each, or NULL */
    uint32_t n_values;
} shard;

struct fm_dataset {
    char *dir;
    shard *shard;
    size_t n_shards;
    int64_t n_tokens, n_documents, n_bytes;
    int32_t vocab;
    char hash[33];
    char *tokenizer_hash;
    char **file; /* source names */
    size_t n_files;
    bool examples;
    uint32_t n_values;
    fm_json *json;
};

static uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t doc_end(const shard *s, int64_t i) {
    return load64(s->ends + 8 * i);
}

/* The part that examples have. */
static bool check_extra(shard *s, const fm_shard_header *h) {
    fm_shard_extra x;
    uint64_t size = s->map.size, at = h->extra_at;
    if (at > size || size - at < sizeof x) {
        return false;
    }
    memcpy(&x, s->map.data + at, sizeof x);
    at += sizeof x;
    uint64_t marks = x.has_marks ? (h->n_tokens * 2 + 7) / 8 * 8 : 0;
    if (x.has_marks > 1 || x.n_values > FM_MAX_VALUES || marks > size - at ||
        size - at - marks != h->n_documents * x.n_values * 4) {
        return false;
    }
    s->marks = x.has_marks ? s->map.data + at : NULL;
    s->values = x.n_values ? s->map.data + at + marks : NULL;
    s->n_values = x.n_values;
    return true;
}

/* Layout and document ends of one mapped shard. */
static fm_status check_shard(shard *s, const char *path) {
    fm_shard_header h;
    if (s->map.size < sizeof h) {
        FM_FAIL(FM_ERR_CORRUPT, "%s has %zu bytes, a shard has at least %zu", path, s->map.size, sizeof h);
    }
    memcpy(&h, s->map.data, sizeof h);
    if (memcmp(h.magic, FM_SHARD_MAGIC, sizeof h.magic) != 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s is not a token shard (it does not begin with its mark)", path);
    }
    if (h.version == 0 || h.version > FM_SHARD_VERSION) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s has shard version %u, this program reads up to %d", path, h.version,
                FM_SHARD_VERSION);
    }
    uint64_t size = s->map.size;
    bool ok = (h.token_bytes == 2 || h.token_bytes == 4) && h.file_bytes == size && h.n_tokens > 0 &&
              h.n_documents > 0 && h.n_documents <= h.n_tokens && h.n_tokens <= size / h.token_bytes &&
              h.n_documents <= size / 24;
    if (ok) {
        uint64_t tokens_end = sizeof h + h.n_tokens * h.token_bytes;
        ok = h.ends_at >= tokens_end && h.ends_at <= size && h.ends_at % 8 == 0 &&
             h.sources_at == h.ends_at + h.n_documents * 8;
        uint64_t end = h.sources_at + h.n_documents * sizeof(fm_shard_source);
        ok = ok && (h.version == 1 ? size == end : h.extra_at == end && check_extra(s, &h));
    }
    if (!ok) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: the sizes in the header do not fit the file of %zu bytes", path, s->map.size);
    }
    if ((uint64_t)s->n_tokens != h.n_tokens || (uint64_t)s->n_documents != h.n_documents) {
        FM_FAIL(FM_ERR_CORRUPT, "%s holds %llu tokens and %llu documents, %s says %lld and %lld", path,
                (unsigned long long)h.n_tokens, (unsigned long long)h.n_documents, FM_DATASET_FILE,
                (long long)s->n_tokens, (long long)s->n_documents);
    }
    s->token_bytes = h.token_bytes;
    s->tokens = s->map.data + sizeof h;
    s->ends = s->map.data + h.ends_at;
    s->sources = s->map.data + h.sources_at;
    uint64_t before = 0;
    for (int64_t i = 0; i < s->n_documents; i++) {
        uint64_t end = doc_end(s, i);
        if (end <= before || end > h.n_tokens) {
            FM_FAIL(FM_ERR_CORRUPT, "%s: document %lld ends at token %llu, after %llu of %llu", path, (long long)i,
                    (unsigned long long)end, (unsigned long long)before, (unsigned long long)h.n_tokens);
        }
        before = end;
    }
    if (before != h.n_tokens) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: documents end at token %llu of %llu", path, (unsigned long long)before,
                (unsigned long long)h.n_tokens);
    }
    return FM_OK;
}

static fm_status open_shard(fm_dataset *d, shard *s, const fm_json *j, const char *json_path) {
    const char *name, *hash;
    FM_TRY(fm_json_get_str(&name, j, "file", ""));
    FM_TRY(fm_json_get_str(&hash, j, "hash", ""));
    FM_TRY(fm_json_get_i64(&s->n_tokens, j, "n_tokens", 0));
    FM_TRY(fm_json_get_i64(&s->n_documents, j, "n_documents", 0));
    if (!*name || strchr(name, '/') || strlen(hash) != 32 || s->n_tokens <= 0 || s->n_documents <= 0 ||
        s->n_tokens > INT64_MAX / 16 - d->n_tokens) {
        FM_FAIL(FM_ERR_FORMAT, "%s: a shard entry lacks file, hash, n_tokens or n_documents, or they are out of range",
                json_path);
    }
    memcpy(s->hash, hash, sizeof s->hash);
    s->name = fm_strdup(name);
    if (!s->name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a shard name");
    }
    s->first_token = d->n_tokens;
    s->first_document = d->n_documents;
    d->n_tokens += s->n_tokens;
    d->n_documents += s->n_documents;
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, d->dir, name));
    FM_TRY(fm_map_open(&s->map, path));
    FM_TRY(check_shard(s, path));
    bool examples = s->marks || s->values, first = s == d->shard;
    if (!first && (examples != d->examples || s->n_values != d->n_values)) {
        FM_FAIL(FM_ERR_CORRUPT, "%s has other values than the shards before it", path);
    }
    d->examples = examples;
    d->n_values = s->n_values;
    return FM_OK;
}

static fm_status read_manifest(fm_dataset *d, const fm_json *j, const char *path) {
    const char *format, *hash, *tok;
    int64_t version, vocab, n_tokens, n_documents;
    bool complete;
    FM_TRY(fm_json_get_str(&format, j, "format", ""));
    if (strcmp(format, FM_DATASET_FORMAT) != 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s is not a packed dataset (format \"%s\", expected \"%s\")", path, format,
                FM_DATASET_FORMAT);
    }
    FM_TRY(fm_json_get_i64(&version, j, "version", 0));
    if (version < 1 || version > FM_DATASET_VERSION) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s has version %lld, this program reads up to %d", path, (long long)version,
                FM_DATASET_VERSION);
    }
    FM_TRY(fm_json_get_bool(&complete, j, "complete", false));
    if (!complete) {
        FM_FAIL(FM_ERR_STATE, "%s is not marked complete", path);
    }
    FM_TRY(fm_json_get_str(&hash, j, "hash", ""));
    FM_TRY(fm_json_get_str(&tok, j, "tokenizer_hash", ""));
    FM_TRY(fm_json_get_i64(&vocab, j, "vocab_size", 0));
    FM_TRY(fm_json_get_i64(&n_tokens, j, "n_tokens", 0));
    FM_TRY(fm_json_get_i64(&n_documents, j, "n_documents", 0));
    FM_TRY(fm_json_get_i64(&d->n_bytes, j, "n_bytes", 0));
    if (strlen(hash) != 32 || vocab < 1 || vocab > INT32_MAX || d->n_bytes < 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: hash, vocab_size or n_bytes is out of range", path);
    }
    memcpy(d->hash, hash, sizeof d->hash);
    d->vocab = (int32_t)vocab;
    d->tokenizer_hash = fm_strdup(tok);
    const fm_json *files = fm_json_get(j, "files"), *shards = fm_json_get(j, "shards");
    d->n_files = fm_json_size(files);
    d->file = fm_calloc(FM_MAX(d->n_files, 1), sizeof *d->file);
    size_t n = fm_json_size(shards);
    d->shard = fm_calloc(FM_MAX(n, 1), sizeof *d->shard);
    if (!d->tokenizer_hash || !d->file || !d->shard) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for dataset %s", path);
    }
    for (size_t i = 0; i < d->n_files; i++) {
        const char *name = fm_json_str(fm_json_at(files, i), NULL);
        d->file[i] = fm_strdup(name ? name : "?");
        if (!d->file[i]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for dataset %s", path);
        }
    }
    for (size_t i = 0; i < n; i++) {
        d->n_shards = i + 1;
        FM_TRY(open_shard(d, &d->shard[i], fm_json_at(shards, i), path));
    }
    if (n == 0 || d->n_tokens != n_tokens || d->n_documents != n_documents) {
        FM_FAIL(FM_ERR_CORRUPT, "%s counts %lld tokens and %lld documents, its shards %lld and %lld", path,
                (long long)n_tokens, (long long)n_documents, (long long)d->n_tokens, (long long)d->n_documents);
    }
    return FM_OK;
}

fm_status fm_dataset_open(fm_dataset **out, const char *dir) {
    *out = NULL;
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, FM_DATASET_FILE));
    if (!fm_path_exists(path)) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s is not a packed dataset: it has no %s", dir,
                     FM_DATASET_FILE);
        return fm_error_hint("make one with: fathom data pack -i FILES -t TOKENIZER -o %s", dir);
    }
    fm_dataset *d = fm_calloc(1, sizeof *d);
    char *own = d ? fm_strdup(dir) : NULL;
    if (!own) {
        fm_free(d);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for dataset %s", dir);
    }
    d->dir = own;
    fm_json *j = NULL;
    fm_status s = fm_json_load(&j, path);
    if (s == FM_OK) {
        s = read_manifest(d, j, path);
    }
    d->json = j;
    if (s != FM_OK) {
        fm_dataset_close(d);
        return s;
    }
    *out = d;
    return FM_OK;
}

void fm_dataset_close(fm_dataset *d) {
    if (!d) {
        return;
    }
    for (size_t i = 0; i < d->n_shards; i++) {
        fm_map_close(&d->shard[i].map);
        fm_free(d->shard[i].name);
    }
    for (size_t i = 0; d->file && i < d->n_files; i++) {
        fm_free(d->file[i]);
    }
    fm_json_free(d->json);
    fm_free(d->file);
    fm_free(d->shard);
    fm_free(d->tokenizer_hash);
    fm_free(d->dir);
    fm_free(d);
}

fm_status fm_dataset_verify(const fm_dataset *d) {
    fm_meter meter;
    fm_meter_start(&meter, "checking shards", "tokens", (double)d->n_tokens);
    for (size_t i = 0; i < d->n_shards; i++) {
        char hash[33], path[4096];
        FM_TRY(fm_path_join(path, sizeof path, d->dir, d->shard[i].name));
        FM_TRY(fm_file_hash(hash, path));
        if (strcmp(hash, d->shard[i].hash) != 0) {
            fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "%s has hash %s, %s says %s", path, hash, FM_DATASET_FILE,
                         d->shard[i].hash);
            return fm_error_hint("the file changed after it was packed: pack the data again");
        }
        fm_meter_update(&meter, (double)(d->shard[i].first_token + d->shard[i].n_tokens), d->shard[i].name);
    }
    return FM_OK;
}

fm_status fm_dataset_part(char *buf, size_t cap, const char *dir, const char *part) {
    char sub[4096], path[4096];
    FM_TRY(fm_path_join(sub, sizeof sub, dir, part));
    FM_TRY(fm_path_join(path, sizeof path, sub, FM_DATASET_FILE));
    const char *use = fm_path_exists(path) ? sub : dir;
    if ((size_t)snprintf(buf, cap, "%s", use) >= cap) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is longer than %zu bytes: %s", cap, use);
    }
    return FM_OK;
}

int64_t fm_dataset_tokens(const fm_dataset *d) {
    return d->n_tokens;
}
int64_t fm_dataset_documents(const fm_dataset *d) {
    return d->n_documents;
}
int64_t fm_dataset_bytes(const fm_dataset *d) {
    return d->n_bytes;
}
int32_t fm_dataset_vocab(const fm_dataset *d) {
    return d->vocab;
}
const char *fm_dataset_hash(const fm_dataset *d) {
    return d->hash;
}
const char *fm_dataset_tokenizer_hash(const fm_dataset *d) {
    return d->tokenizer_hash;
}
const char *fm_dataset_dir(const fm_dataset *d) {
    return d->dir;
}

static const shard *shard_of(const fm_dataset *d, int64_t token) {
    size_t lo = 0, hi = d->n_shards - 1;
    while (lo < hi) {
        size_t mid = lo + (hi - lo + 1) / 2;
        if (d->shard[mid].first_token <= token) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return &d->shard[lo];
}

/* First document of the shard whose end lies after `token` (counted from the shard's first). */
static int64_t document_at(const shard *s, uint64_t token) {
    int64_t lo = 0, hi = s->n_documents - 1;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (doc_end(s, mid) > token) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

static fm_status read_part(const fm_dataset *d, const shard *s, int64_t from, int64_t n, int32_t *ids,
                           bool *doc_start) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t id;
        if (s->token_bytes == 2) {
            uint16_t v;
            memcpy(&v, s->tokens + 2 * (from + i), sizeof v);
            id = v;
        } else {
            memcpy(&id, s->tokens + 4 * (from + i), sizeof id);
        }
        if (id >= (uint32_t)d->vocab) {
            FM_FAIL(FM_ERR_CORRUPT, "%s/%s: token %lld is %u, the vocabulary has %d", d->dir, s->name,
                    (long long)(from + i), id, d->vocab);
        }
        ids[i] = (int32_t)id;
        doc_start[i] = false;
    }
    int64_t doc = document_at(s, (uint64_t)from);
    int64_t begin = doc == 0 ? 0 : (int64_t)doc_end(s, doc - 1);
    while (begin < from + n) {
        if (begin >= from) {
            doc_start[begin - from] = true;
        }
        begin = (int64_t)doc_end(s, doc++);
    }
    return FM_OK;
}

fm_status fm_dataset_read(const fm_dataset *d, int64_t begin, int32_t n, int32_t *ids, bool *doc_start) {
    FM_ASSERT(begin >= 0 && n >= 0 && begin <= d->n_tokens - n);
    for (int64_t at = begin, end = begin + n; at < end;) {
        const shard *s = shard_of(d, at);
        int64_t from = at - s->first_token, count = FM_MIN(end - at, s->n_tokens - from);
        FM_TRY(read_part(d, s, from, count, ids + (at - begin), doc_start + (at - begin)));
        at += count;
    }
    return FM_OK;
}

fm_status fm_dataset_locate(const fm_dataset *d, int64_t token, int64_t *document, char *where, int64_t where_cap) {
    FM_ASSERT(token >= 0 && token < d->n_tokens);
    const shard *s = shard_of(d, token);
    int64_t doc = document_at(s, (uint64_t)(token - s->first_token));
    *document = s->first_document + doc;
    fm_shard_source src;
    memcpy(&src, s->sources + (size_t)doc * sizeof src, sizeof src);
    if (where && where_cap > 0) {
        const char *name = src.file < d->n_files ? d->file[src.file] : "?";
        unsigned long long line = (unsigned long long)src.line_high << 32 | src.line_low;
        int k = snprintf(where, (size_t)where_cap, "%s:%llu", name, line);
        if (src.piece > 0 && k > 0 && k < where_cap) {
            snprintf(where + k, (size_t)(where_cap - k), " (piece %u)", src.piece + 1);
        }
    }
    return FM_OK;
}

bool fm_dataset_is_examples(const fm_dataset *d) {
    return d->examples;
}
int32_t fm_dataset_n_values(const fm_dataset *d) {
    return (int32_t)d->n_values;
}
const fm_json *fm_dataset_json(const fm_dataset *d) {
    return d->json;
}

static const shard *shard_of_document(const fm_dataset *d, int64_t i) {
    size_t lo = 0, hi = d->n_shards - 1;
    while (lo < hi) {
        size_t mid = lo + (hi - lo + 1) / 2;
        if (d->shard[mid].first_document <= i) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return &d->shard[lo];
}

void fm_dataset_document(const fm_dataset *d, int64_t i, int64_t *begin, int64_t *n) {
    FM_ASSERT(i >= 0 && i < d->n_documents);
    const shard *s = shard_of_document(d, i);
    int64_t k = i - s->first_document, from = k ? (int64_t)doc_end(s, k - 1) : 0;
    *begin = s->first_token + from;
    *n = (int64_t)doc_end(s, k) - from;
}

void fm_dataset_marks(const fm_dataset *d, int64_t begin, int64_t n, int16_t *out) {
    FM_ASSERT(begin >= 0 && n >= 0 && begin <= d->n_tokens - n);
    const shard *s = shard_of(d, begin);
    FM_ASSERT(begin - s->first_token <= s->n_tokens - n);
    if (s->marks) {
        memcpy(out, s->marks + 2 * (begin - s->first_token), (size_t)n * sizeof *out);
    } else {
        memset(out, 0, (size_t)n * sizeof *out);
    }
}

void fm_dataset_values(const fm_dataset *d, int64_t i, float *out) {
    FM_ASSERT(i >= 0 && i < d->n_documents);
    const shard *s = shard_of_document(d, i);
    if (s->values) {
        size_t bytes = s->n_values * sizeof *out;
        memcpy(out, s->values + (size_t)(i - s->first_document) * bytes, bytes);
    }
}
