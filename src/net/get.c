/* fathom get: what to fetch, and each file until its bytes have the hub's hash. See fathom/get.h.
 *
 * X.part holds the bytes so far and X.part.tag says what they are a part of: the hash the hub gives, and the ETag of
 * the server that sent them. A part of another file is thrown away. */
#include "fathom/get.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sha.h"
#include "net/hub.h"
#include "net/pack.h"

#define PUBLIC_HUB "https://huggingface.co"

#define O(name) offsetof(fm_get_options, name)
static const fm_option table[] = {
    {"type", FM_OPT_ENUM, O(type), "model", 0, 0, "model|dataset", NULL, NULL, "What NAME is."},
    {"revision", FM_OPT_STR, O(revision), "main", 0, 0, NULL, NULL, "REV", "Branch, tag or commit."},
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "DIR", "Folder (default: the name without its owner)."},
    {"include", FM_OPT_LIST, O(include), NULL, 0, 0, NULL, NULL, "PATTERN",
     "Only paths that match one of these shell patterns (*.json)."},
    {"exclude", FM_OPT_LIST, O(exclude), NULL, 0, 0, NULL, NULL, "PATTERN", "No paths that match one of these."},
    {"endpoint", FM_OPT_STR, O(endpoint), NULL, 0, 0, NULL, NULL, "URL",
     "Hub or mirror (default: HF_ENDPOINT, else " PUBLIC_HUB ")."},
    {"pack", FM_OPT_STR, O(pack), NULL, 0, 0, NULL, NULL, "FILE.tar",
     "Also write an archive of the files and this program, for a machine without network."},
    {"list", FM_OPT_BOOL, O(list), NULL, 0, 0, NULL, NULL, NULL, "Only list the files and their sizes."},
    {"retries", FM_OPT_INT, O(retries), "6", 0, 1000, NULL, NULL, NULL, "Attempts in a row that bring nothing."},
    {"retry_wait", FM_OPT_FLOAT, O(retry_wait), "1", 0, 600, NULL, NULL, "SECONDS",
     "Wait before the second attempt, doubled each time."},
    {0},
};
#undef O

const fm_option *fm_get_option_table(void) {
    return table;
}

/* ---- which files ----------------------------------------------------------------------------- */

static bool matches(const fm_strlist *patterns, const char *path) {
    const char *base = strrchr(path, '/');
    for (size_t i = 0; i < patterns->n; i++) {
        if (fnmatch(patterns->item[i], path, 0) == 0 || (base && fnmatch(patterns->item[i], base + 1, 0) == 0)) {
            return true;
        }
    }
    return false;
}

/* The same weights again, for other programs. */
static bool other_framework(const char *path) {
    static const char *const tails[] = {
        "*.bin",  "*.pt",        "*.pth",    "*.h5",      "*.msgpack",        "*.ot",
        "*.onnx", "*.onnx_data", "*.tflite", "*.mlmodel", "*.bin.index.json", "*.ckpt.*"};
    for (size_t i = 0; i < FM_ARRAY_LEN(tails); i++) {
        if (fnmatch(tails[i], path, 0) == 0) {
            return true;
        }
    }
    return false;
}

/* Removes what is not wanted from the list. */
static fm_status choose(fm_hub *h, const fm_get_options *opt, fm_get_result *r) {
    bool safetensors = false;
    size_t n = 0, all = h->n;
    for (size_t i = 0; i < h->n; i++) {
        safetensors = safetensors || fnmatch("*.safetensors", h->file[i].path, 0) == 0;
    }
    bool skip = !h->dataset && safetensors && opt->include.n == 0;
    for (size_t i = 0; i < h->n; i++) {
        const char *path = h->file[i].path;
        bool wanted = (opt->include.n == 0 || matches(&opt->include, path)) && !matches(&opt->exclude, path);
        bool other = wanted && skip && other_framework(path);
        r->n_skipped += other;
        if (wanted && !other) {
            fm_hub_file keep = h->file[i];
            h->file[i] = h->file[n];
            h->file[n++] = keep;
        }
    }
    for (size_t i = n; i < h->n; i++) {
        fm_free(h->file[i].path);
    }
    h->n = n;
    if (n == 0) {
        FM_FAIL(FM_ERR_NOT_FOUND, "%s: none of its %zu files is wanted", h->name, all);
    }
    return FM_OK;
}

/* ---- one file -------------------------------------------------------------------------------- */

typedef struct fetch {
    const fm_hub *h;
    fm_hub_file want;
    char path[2200], part[2200], tag[2200];
    FILE *f;
    int64_t have; /* bytes in the part */
    int64_t came; /* of these in this run */
    fm_sha sha;   /* of the part */
    bool hashed;  /* a hash is known */
    char etag[256];
    fm_meter *meter; /* of the whole call */
    double *done;
} fetch;

static void start_hash(fetch *t) {
    if (*t->want.sha256) {
        fm_sha256_init(&t->sha);
    } else {
        char blob[64]; /* git hashes a header before the bytes */
        fm_sha1_init(&t->sha);
        int n = snprintf(blob, sizeof blob, "blob %lld", (long long)t->want.size);
        fm_sha_update(&t->sha, blob, (size_t)n + 1);
    }
}

static const char *wanted_hash(const fetch *t) {
    return *t->want.sha256 ? t->want.sha256 : t->want.sha1;
}

/* Adds the bytes of a file to the hash; *n gets their number. */
static fm_status hash_file(fetch *t, const char *path, int64_t *n) {
    enum { STEP = 1 << 20 };
    FILE *f = fopen(path, "rb");
    char *buffer = fm_malloc(STEP);
    fm_status s = FM_OK;
    *n = 0;
    start_hash(t);
    if (!f || !buffer) {
        s = fm_error_set(f ? FM_ERR_NO_MEMORY : FM_ERR_IO, __FILE__, __LINE__, "%s cannot be read", path);
    }
    while (s == FM_OK) {
        size_t k = fread(buffer, 1, STEP, f);
        if (k == 0) {
            break;
        }
        fm_sha_update(&t->sha, buffer, k);
        *n += (int64_t)k;
        fm_meter_update(t->meter, *t->done, path);
        if (fm_cancelled()) {
            s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted");
        }
    }
    if (f) {
        (void)fclose(f);
    }
    fm_free(buffer);
    return s;
}

static bool hash_fits(fetch *t, char hex[65]) {
    fm_sha copy = t->sha;
    fm_sha_hex(&copy, hex);
    return strcmp(hex, wanted_hash(t)) == 0;
}

/* True when the file is there whole. */
static fm_status already_there(fetch *t, bool *yes) {
    char hex[65];
    int64_t n;
    *yes = false;
    if (!fm_path_exists(t->path) || (t->want.size >= 0 && fm_file_size(t->path) != t->want.size)) {
        return FM_OK;
    }
    if (t->hashed) {
        FM_TRY(hash_file(t, t->path, &n));
        *yes = hash_fits(t, hex);
    }
    return FM_OK;
}

static void drop_part(fetch *t) {
    (void)unlink(t->part);
    (void)unlink(t->tag);
    t->have = 0;
    t->etag[0] = '\0';
}

static fm_status write_tag(const fetch *t) {
    char text[600];
    int n = snprintf(text, sizeof text, "%s\n%s\n", wanted_hash(t), t->etag);
    return fm_file_write_atomic(t->tag, text, (size_t)n);
}

/* What an earlier run left, when it is a part of this file. */
static fm_status open_part(fetch *t) {
    char *text = NULL;
    size_t n;
    int64_t hashed = 0;
    bool same = false;
    if (fm_path_exists(t->part) && fm_path_exists(t->tag) && fm_file_read(&text, &n, t->tag, 1000) == FM_OK) {
        char *etag = strchr(text, '\n');
        if (etag) {
            *etag++ = '\0';
            etag[strcspn(etag, "\n")] = '\0';
            /* without a hash, the ETag must say that it is the same */
            same = strcmp(text, wanted_hash(t)) == 0 && (t->hashed || *etag);
            (void)snprintf(t->etag, sizeof t->etag, "%s", etag);
        }
    }
    fm_free(text);
    fm_error_clear();
    t->have = same ? FM_MAX(fm_file_size(t->part), 0) : 0;
    if (t->want.size >= 0 && t->have > t->want.size) {
        same = false;
    }
    if (!same) {
        drop_part(t);
    }
    if (t->have > 0) {
        FM_TRY(hash_file(t, t->part, &hashed));
        t->have = hashed;
    } else {
        start_hash(t);
    }
    t->f = fopen(t->part, t->have ? "ab" : "wb");
    if (!t->f) {
        FM_FAIL(FM_ERR_IO, "%s: %s", t->part, strerror(errno));
    }
    *t->done += (double)t->have;
    return FM_OK;
}

static fm_status restart(fetch *t) {
    if (fflush(t->f) != 0 || ftruncate(fileno(t->f), 0) != 0 || fseek(t->f, 0, SEEK_SET) != 0) {
        FM_FAIL(FM_ERR_IO, "%s: %s", t->part, strerror(errno));
    }
    *t->done -= (double)t->have;
    t->have = 0;
    start_hash(t);
    return FM_OK;
}

static fm_status on_data(void *user, const void *data, size_t n, bool whole) {
    fetch *t = user;
    if (whole) {
        FM_TRY(restart(t)); /* the server sends the file from its beginning */
    }
    if (t->want.size >= 0 && (int64_t)n > t->want.size - t->have) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: expected %lld bytes, the server sends more", t->want.path,
                (long long)t->want.size);
    }
    if (fwrite(data, 1, n, t->f) != n) {
        (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s: %s", t->part, strerror(errno));
        return errno == ENOSPC ? fm_error_hint("the disk is full; the same command continues where this one stopped")
                               : FM_ERR_IO;
    }
    fm_sha_update(&t->sha, data, n);
    t->have += (int64_t)n;
    t->came += (int64_t)n;
    *t->done += (double)n;
    fm_meter_update(t->meter, *t->done, t->want.path);
    return FM_OK;
}

/* A hash that the first answer gives, where the list had none: W/"..." or "..." around 64 or 40 digits. */
static void learn_hash(fetch *t, const fm_http_reply *r) {
    const char *e = *r->linked_etag ? r->linked_etag : r->etag;
    e += strncmp(e, "W/", 2) == 0 ? 2 : 0;
    e += *e == '"';
    size_t n = strspn(e, "0123456789abcdef");
    if (t->hashed || (e[n] != '"' && e[n] != '\0') || (n != 64 && n != 40)) {
        return;
    }
    char *to = n == 64 ? t->want.sha256 : t->want.sha1;
    memcpy(to, e, n);
    to[n] = '\0';
}

/* Asks until the whole file is in the part. */
static fm_status transfer(fetch *t, const char *url) {
    int64_t tries = 0;
    for (;;) {
        fm_http_reply r;
        int64_t before = t->have;
        if (t->want.size >= 0 && t->have == t->want.size && (t->have > 0 || t->came > 0)) {
            return FM_OK; /* an earlier run had all */
        }
        fm_http_request q = {.url = url,
                             .token = t->h->token,
                             .from = t->have,
                             .if_range = t->etag[0] == '"' ? t->etag : NULL, /* weak ones may not be used */
                             .sink = on_data,
                             .user = t};
        fm_status s = fm_http_get(t->h->http, &q, &r);
        bool answered = r.code == 200 || r.code == 206;
        if (answered && *r.etag && strcmp(r.etag, t->etag) != 0) {
            memcpy(t->etag, r.etag, sizeof t->etag);
        }
        if (answered && t->want.size < 0) {
            t->want.size = r.length;
        }
        if (fflush(t->f) != 0 && s == FM_OK) {
            s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s: %s", t->part, strerror(errno));
        }
        fm_status tagged = write_tag(t);
        FM_TRY(s);
        FM_TRY(tagged);
        if (!*r.error && (t->want.size < 0 || t->have == t->want.size)) {
            learn_hash(t, &r);
            return FM_OK;
        }
        if (!*r.error) {
            (void)snprintf(r.error, sizeof r.error, "expected %lld bytes, the connection ended after %lld",
                           (long long)t->want.size, (long long)t->have);
            r.transient = true;
        }
        if (r.code == 416) { /* the part is longer than the file */
            FM_TRY(restart(t));
            r.transient = true;
        }
        tries = t->have > before ? 0 : tries;
        FM_TRY(fm_hub_retry(t->h, url, &r, &tries));
    }
}

static fm_status finish_part(fetch *t) {
    bool good = fflush(t->f) == 0 && fsync(fileno(t->f)) == 0;
    good = fclose(t->f) == 0 && good;
    t->f = NULL;
    if (!good || rename(t->part, t->path) != 0) {
        FM_FAIL(FM_ERR_IO, "%s: %s", t->path, strerror(errno));
    }
    (void)unlink(t->tag);
    return FM_OK;
}

/* From the network into the file's name. A wrong hash is given one more try from the beginning. */
static fm_status fetch_file(fetch *t, const char *url) {
    char hex[65] = "";
    for (int attempt = 0; attempt < 2; attempt++) {
        FM_TRY(open_part(t));
        fm_status s = transfer(t, url);
        if (s != FM_OK) {
            (void)fclose(t->f);
            t->f = NULL;
            return s;
        }
        if (!t->hashed && *wanted_hash(t)) { /* learnt on the way: the bytes must be read again */
            int64_t n;
            t->hashed = true;
            (void)fflush(t->f);
            FM_TRY(hash_file(t, t->part, &n));
        }
        if (!t->hashed || hash_fits(t, hex)) {
            return finish_part(t);
        }
        (void)fclose(t->f);
        t->f = NULL;
        *t->done -= (double)t->have;
        drop_part(t);
        if (attempt == 0) {
            fm_warn("%s: its hash is wrong; fetching it again", t->want.path);
        }
    }
    (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, "%s: expected %s %s, found %s", t->want.path,
                       *t->want.sha256 ? "sha256" : "git hash", wanted_hash(t), hex);
    return fm_error_hint("the server's bytes are not what its list says; nothing was kept; try another mirror");
}

static fm_status init_fetch(fetch *t, const fm_hub *h, const fm_hub_file *f, const char *dir) {
    *t = (fetch){.h = h, .want = *f, .hashed = *f->sha256 || (*f->sha1 && f->size >= 0)};
    FM_TRY(fm_path_join(t->path, sizeof t->path - 16, dir, f->path));
    (void)snprintf(t->part, sizeof t->part, "%.*s.part", (int)sizeof t->path - 16, t->path);
    (void)snprintf(t->tag, sizeof t->tag, "%.*s.part.tag", (int)sizeof t->path - 16, t->path);
    char *slash = strrchr(t->path, '/');
    *slash = '\0';
    fm_status s = fm_mkdirs(t->path);
    *slash = '/';
    return s;
}

/* ---- all files ------------------------------------------------------------------------------- */

static fm_status check_disk(const fm_hub *h, const char *dir) {
    int64_t need = 0, space = fm_disk_free(dir);
    for (size_t i = 0; i < h->n; i++) {
        char path[2200];
        FM_TRY(fm_path_join(path, sizeof path - 16, dir, h->file[i].path));
        int64_t there = FM_MAX(fm_file_size(path), 0);
        (void)snprintf(path + strlen(path), 16, ".part");
        there = FM_MAX(there, fm_file_size(path));
        need += FM_MAX(h->file[i].size - there, 0);
    }
    if (space >= 0 && need > space) {
        char a[32], b[32];
        (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "%s: %s are still to come, the disk has %s free", dir,
                           fm_format_bytes(a, sizeof a, (double)need), fm_format_bytes(b, sizeof b, (double)space));
        return fm_error_hint("give another folder with -o, or fewer files with --include and --exclude");
    }
    return FM_OK;
}

static fm_status fetch_all(fm_hub *h, const char *dir, fm_get_result *r) {
    fm_meter meter;
    fm_str url = {0};
    double done = 0, total = 0;
    fm_status s = FM_OK;
    for (size_t i = 0; i < h->n; i++) {
        total += (double)FM_MAX(h->file[i].size, 0);
    }
    fm_meter_start(&meter, "fetching", "bytes", total);
    for (size_t i = 0; i < h->n && s == FM_OK; i++) {
        fetch *t = fm_malloc(sizeof *t);
        bool there = false;
        if (!t) {
            s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory to fetch %s", h->file[i].path);
            break;
        }
        s = init_fetch(t, h, &h->file[i], dir);
        t->meter = &meter;
        t->done = &done;
        s = s == FM_OK ? already_there(t, &there) : s;
        if (s == FM_OK && there) {
            done += (double)t->want.size;
        } else if (s == FM_OK) {
            fm_str_clear(&url);
            s = fm_hub_url(&url, h, t->want.path);
            s = s == FM_OK ? fetch_file(t, url.data) : s;
            r->n_fetched += s == FM_OK;
            r->fetched_bytes += t->came;
        }
        h->file[i].size = FM_MAX(t->want.size, h->file[i].size);
        r->n_bytes += FM_MAX(h->file[i].size, 0);
        fm_free(t);
    }
    fm_meter_end(&meter, done, "");
    fm_str_free(&url);
    return s;
}

static fm_status run(fm_hub *h, const fm_get_options *opt, const char *dir, fm_get_result *r, fm_get_file_fn on_file,
                     void *user) {
    FM_TRY(fm_hub_list(h, opt->revision && *opt->revision ? opt->revision : "main"));
    (void)snprintf(r->commit, sizeof r->commit, "%s", h->commit);
    FM_TRY(choose(h, opt, r));
    r->n_files = (int64_t)h->n;
    if (opt->list) {
        for (size_t i = 0; i < h->n; i++) {
            r->n_bytes += FM_MAX(h->file[i].size, 0);
            if (on_file) {
                on_file(user, h->file[i].path, h->file[i].size);
            }
        }
        return FM_OK;
    }
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(check_disk(h, dir));
    FM_TRY(fetch_all(h, dir, r));
    return opt->pack ? fm_pack_write(opt->pack, h, dir, &r->pack_bytes) : FM_OK;
}

/* owner/name, or a name alone (old models). */
static fm_status check_name(const char *name) {
    size_t slashes = 0;
    bool good = *name && strlen(name) < 200 && name[0] != '/' && name[0] != '.' && !strstr(name, "..");
    for (const char *c = name; *c; c++) {
        slashes += *c == '/';
        good = good && ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || strchr("0123456789-_./", *c));
    }
    if (!good || slashes > 1 || name[strlen(name) - 1] == '/') {
        FM_FAIL(FM_ERR_ARGUMENT, "\"%s\" is not the name of a repository; expected OWNER/NAME", name);
    }
    return FM_OK;
}

fm_status fm_get(fm_get_result *out, const char *name, const fm_get_options *opt, fm_get_file_fn on_file, void *user) {
    *out = (fm_get_result){0};
    if (opt->size != sizeof *opt) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_get_options: expected size %zu, found %zu", sizeof *opt, opt->size);
    }
    FM_TRY(check_name(name));
    const char *env = getenv("HF_ENDPOINT"), *slash = strrchr(name, '/');
    const char *endpoint = opt->endpoint && *opt->endpoint ? opt->endpoint : env && *env ? env : PUBLIC_HUB;
    const char *dir = opt->output && *opt->output ? opt->output : slash ? slash + 1 : name;
    size_t n = strlen(endpoint);
    fm_hub h = {.token = getenv("HF_TOKEN"),
                .dataset = opt->type == FM_GET_DATASET,
                .name = name,
                .retries = opt->retries,
                .retry_wait = opt->retry_wait};
    while (n > 1 && endpoint[n - 1] == '/') {
        n--;
    }
    (void)snprintf(out->output, sizeof out->output, "%s", dir);
    h.endpoint = fm_strndup(endpoint, n);
    fm_status s = h.endpoint ? fm_http_new(&h.http)
                             : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory to fetch %s", name);
    s = s == FM_OK ? run(&h, opt, dir, out, on_file, user) : s;
    if (s == FM_ERR_CANCELLED) {
        (void)fm_error_hint("the same command continues where this one stopped");
    }
    fm_hub_free_files(&h);
    fm_http_free(h.http);
    fm_free(h.endpoint);
    return s;
}
