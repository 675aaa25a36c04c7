/* See hub.h. The API is that of huggingface.co: /api/models/NAME/revision/REV?blobs=true gives commit and files;
 * mirrors that give no sizes are asked for /api/models/NAME/tree/COMMIT?recursive=true, page by page. */
#include "net/hub.h"

#include <ctype.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#define MAX_LIST ((size_t)64 << 20)

/* ---- retries --------------------------------------------------------------------------------- */

fm_status fm_hub_retry(const fm_hub *h, const char *url, const fm_http_reply *reply, int64_t *tries) {
    if (reply->transient && ++*tries <= h->retries) {
        double wait = fm_http_backoff(h->retry_wait, *tries, reply);
        fm_info("%s: %s; trying again in %.3g s", url, reply->error, wait);
        return fm_http_wait(wait);
    }
    fm_status code = reply->code == 404 ? FM_ERR_NOT_FOUND : FM_ERR_IO;
    (void)fm_error_set(code, __FILE__, __LINE__, "%s: %s", url, reply->error);
    if (reply->code == 401 || reply->code == 403) {
        (void)fm_error_hint("a private or gated repository: accept its terms on its page, and set HF_TOKEN to a token "
                            "that may read it");
    } else if (reply->code == 404) {
        (void)fm_error_hint("check owner, name and revision; --type dataset for data sets; private ones need HF_TOKEN");
    } else if (reply->transient) {
        (void)fm_error_hint("the same command continues where this one stopped");
    }
    return code;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static fm_status into_text(void *user, const void *data, size_t n, bool restart) {
    fm_str *s = user;
    if (restart) {
        fm_str_clear(s);
    }
    if (s->len + n > MAX_LIST) {
        FM_FAIL(FM_ERR_FORMAT, "a list of more than %zu bytes", MAX_LIST);
    }
    fm_str_append(s, data, n);
    return fm_str_check(s);
}

/* The JSON at a URL; *code gets the answer's, and *out NULL when it is `allowed`. next: URL of the next page. */
static fm_status get_json(fm_json **out, const fm_hub *h, const char *url, int allowed, char *next, size_t next_cap) {
    fm_str text = {0};
    fm_http_reply reply;
    int64_t tries = 0;
    fm_status s;
    *out = NULL;
    for (;;) {
        fm_str_clear(&text);
        fm_http_request q = {.url = url, .token = h->token, .sink = into_text, .user = &text};
        s = fm_http_get(h->http, &q, &reply);
        if (s != FM_OK || !*reply.error || reply.code == allowed) {
            break;
        }
        s = fm_hub_retry(h, url, &reply, &tries);
        if (s != FM_OK) {
            break;
        }
    }
    if (s == FM_OK && !*reply.error) {
        s = fm_json_parse(out, text.data ? text.data : "", text.len, url);
        if (s != FM_OK) {
            (void)fm_error_hint("is this address a Hugging Face-compatible hub?");
        }
    }
    fm_str_free(&text);
    if (s == FM_OK) {
        char here[300], there[300];
        size_t n = strlen(reply.next);
        /* the token goes along, so the next page is of the same host */
        bool fits = n < next_cap && fm_url_origin(here, sizeof here, url) &&
                    fm_url_origin(there, sizeof there, reply.next) && strcmp(here, there) == 0;
        memcpy(next, fits ? reply.next : "", fits ? n + 1 : 1);
    }
    return s;
}

/* No absolute paths, no "..", no empty parts, nothing that a terminal or another system reads in its own way. */
static bool safe_path(const char *p) {
    if (!*p || strlen(p) > 1000) {
        return false;
    }
    for (const char *part = p; *part;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || n > 250 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.')) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if ((unsigned char)part[i] < 32 || part[i] == 127 || part[i] == '\\' || part[i] == ':') {
                return false;
            }
        }
        part += n;
        if (*part == '/' && !*++part) {
            return false;
        }
    }
    return true;
}

static bool is_hex(const char *s, size_t n) {
    if (!s || strlen(s) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]) && !(s[i] >= 'a' && s[i] <= 'f')) {
            return false;
        }
    }
    return true;
}

static fm_status add_file(fm_hub *h, const char *path, const fm_json *item, const char *sha1_key) {
    const fm_json *lfs = fm_json_get(item, "lfs");
    const char *sha256 = fm_json_str(fm_json_get(lfs, fm_json_get(lfs, "sha256") ? "sha256" : "oid"), NULL);
    const char *sha1 = fm_json_str(fm_json_get(item, sha1_key), NULL);
    if (!path || !safe_path(path)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the hub names a file \"%.200s\", which could leave the folder", h->name,
                path ? path : "");
    }
    void *p = h->file;
    FM_TRY(fm_grow(&p, &h->cap, h->n + 1, sizeof *h->file));
    h->file = p;
    fm_hub_file *f = &h->file[h->n];
    *f = (fm_hub_file){.path = fm_strdup(path), .size = fm_json_int(fm_json_get(item, "size"), -1)};
    if (!f->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the list of files");
    }
    h->n++;
    if (is_hex(sha256, 64)) {
        memcpy(f->sha256, sha256, 65);
        f->size = fm_json_int(fm_json_get(lfs, "size"), f->size);
    } else if (!lfs && is_hex(sha1, 40)) {
        memcpy(f->sha1, sha1, 41);
    }
    return FM_OK;
}

void fm_hub_free_files(fm_hub *h) {
    for (size_t i = 0; i < h->n; i++) {
        fm_free(h->file[i].path);
    }
    fm_free(h->file);
    h->file = NULL;
    h->n = h->cap = 0;
}

/* Escapes what may not stand in the path of a URL. */
static void put_escaped(fm_str *s, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~/", c)) {
            fm_str_putc(s, (char)c);
        } else {
            fm_str_printf(s, "%%%02X", c);
        }
    }
}

static fm_status list_revision(fm_hub *h, const char *revision) {
    fm_str url = {0};
    fm_json *j = NULL;
    char next[1024];
    fm_str_printf(&url, "%s/api/%s/", h->endpoint, h->dataset ? "datasets" : "models");
    put_escaped(&url, h->name);
    fm_str_puts(&url, "/revision/");
    for (const char *c = revision; *c; c++) { /* refs/pr/1 is one word here */
        if (*c == '/') {
            fm_str_puts(&url, "%2F");
        } else {
            put_escaped(&url, (const char[2]){*c, 0});
        }
    }
    fm_str_puts(&url, "?blobs=true");
    fm_status s = fm_str_check(&url);
    s = s == FM_OK ? get_json(&j, h, url.data, 0, next, sizeof next) : s;
    const char *sha = fm_json_str(fm_json_get(j, "sha"), NULL);
    const fm_json *files = fm_json_get(j, "siblings");
    if (s == FM_OK && (!fm_json_is_array(files) || !sha || strlen(sha) >= sizeof h->commit || !safe_path(sha))) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s: expected members sha and siblings", url.data);
    }
    if (s == FM_OK && sha) {
        memcpy(h->commit, sha, strlen(sha) + 1);
    }
    for (size_t i = 0; s == FM_OK && i < fm_json_size(files); i++) {
        const fm_json *f = fm_json_at(files, i);
        s = add_file(h, fm_json_str(fm_json_get(f, "rfilename"), NULL), f, "blobId");
    }
    fm_json_free(j);
    fm_str_free(&url);
    return s;
}

/* Sizes and hashes, where the first list had none. A hub without this page leaves them unknown. */
static fm_status list_tree(fm_hub *h) {
    fm_str first = {0};
    char url[4096], next[1024] = "";
    fm_str_printf(&first, "%s/api/%s/", h->endpoint, h->dataset ? "datasets" : "models");
    put_escaped(&first, h->name);
    fm_str_printf(&first, "/tree/%s?recursive=true", h->commit);
    fm_status s = fm_str_check(&first);
    if (s == FM_OK && first.len >= sizeof url) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "%s: the name is too long", h->name);
    }
    if (s == FM_OK) {
        memcpy(url, first.data, first.len + 1);
    }
    fm_str_free(&first);
    for (int page = 0; s == FM_OK && page < 10000; page++) {
        fm_json *j;
        s = get_json(&j, h, url, 404, next, sizeof next);
        if (s != FM_OK || !j) {
            return s;
        }
        if (page == 0) {
            fm_hub_free_files(h);
        }
        for (size_t i = 0; s == FM_OK && i < fm_json_size(j); i++) {
            const fm_json *f = fm_json_at(j, i);
            const char *type = fm_json_str(fm_json_get(f, "type"), NULL);
            if (!type || strcmp(type, "directory") != 0) {
                s = add_file(h, fm_json_str(fm_json_get(f, "path"), NULL), f, "oid");
            }
        }
        fm_json_free(j);
        if (!*next) {
            return s;
        }
        memcpy(url, next, strlen(next) + 1);
    }
    return s;
}

fm_status fm_hub_list(fm_hub *h, const char *revision) {
    FM_TRY(list_revision(h, revision));
    for (size_t i = 0; i < h->n; i++) {
        if (h->file[i].size < 0) {
            return list_tree(h);
        }
    }
    return FM_OK;
}

fm_status fm_hub_url(fm_str *out, const fm_hub *h, const char *path) {
    fm_str_printf(out, "%s/%s", h->endpoint, h->dataset ? "datasets/" : "");
    put_escaped(out, h->name);
    fm_str_printf(out, "/resolve/%s/", h->commit);
    put_escaped(out, path);
    return fm_str_check(out);
}
