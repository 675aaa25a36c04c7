/* The only file that knows libcurl. See http.h. */
#include "net/http.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- URLs ------------------------------------------------------------------------------------ */

/* Bytes of "scheme://host:port" at the beginning, 0 when there is none. */
static size_t origin_length(const char *url) {
    size_t scheme = strncasecmp(url, "https://", 8) == 0 ? 8 : strncasecmp(url, "http://", 7) == 0 ? 7 : 0;
    size_t host = scheme ? strcspn(url + scheme, "/?#") : 0;
    /* user:password@ would hide the host from a reader */
    return host && !memchr(url + scheme, '@', host) && !memchr(url + scheme, '\\', host) ? scheme + host : 0;
}

bool fm_url_origin(char *buf, size_t cap, const char *url) {
    size_t n = origin_length(url);
    if (n == 0 || n >= cap) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        buf[i] = (char)tolower((unsigned char)url[i]);
    }
    buf[n] = '\0';
    return true;
}

bool fm_url_resolve(char *buf, size_t cap, const char *base, const char *location) {
    size_t keep = 0;
    if (origin_length(location) == 0) {
        keep = origin_length(base);
        if (keep == 0 || location[0] != '/' || location[1] == '/' || strpbrk(location, "\r\n\\")) {
            return false; /* paths relative to the folder are used by no hub */
        }
    }
    size_t n = strlen(location);
    if (keep + n >= cap) {
        return false;
    }
    memcpy(buf, base, keep);
    memcpy(buf + keep, location, n + 1);
    return true;
}

bool fm_url_private(const char *url) {
    char origin[300];
    if (!fm_url_origin(origin, sizeof origin, url)) {
        return false;
    }
    if (strncmp(origin, "https://", 8) == 0) {
        return true;
    }
    static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < FM_ARRAY_LEN(local); i++) {
        size_t n = strlen(local[i]);
        if (strncmp(origin + 7, local[i], n) == 0 && (origin[7 + n] == ':' || origin[7 + n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* ---- retries --------------------------------------------------------------------------------- */

#define MAX_WAIT 60.0

double fm_http_backoff(double first, int64_t tries, const fm_http_reply *reply) {
    double wait = first;
    for (int64_t i = 1; i < tries && wait < MAX_WAIT; i++) {
        wait *= 2;
    }
    return FM_MIN(FM_MAX(wait, reply->retry_after), reply->retry_after > 0 ? 600 : MAX_WAIT);
}

fm_status fm_http_wait(double seconds) {
    for (int64_t left = (int64_t)(seconds * 1e3); left > 0; left -= 100) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted");
        }
        struct timespec t = {0, (long)FM_MIN(left, 100) * 1000000};
        (void)nanosleep(&t, NULL);
    }
    return FM_OK;
}

#ifdef FM_HAVE_CURL

#include <curl/curl.h>

#define FUNCTIONS(X)                                                                                                   \
    X(curl_global_init)                                                                                                \
    X(curl_easy_init)                                                                                                  \
    X(curl_easy_setopt)                                                                                                \
    X(curl_easy_perform)                                                                                               \
    X(curl_easy_getinfo)                                                                                               \
    X(curl_easy_reset)                                                                                                 \
    X(curl_easy_cleanup)                                                                                               \
    X(curl_slist_append)                                                                                               \
    X(curl_slist_free_all)

/* curl.h wraps some of these in macros that check types */
#undef curl_easy_setopt
#undef curl_easy_getinfo

static struct {
    void *lib;
#define FM_X(name) __typeof__(&name) name;
    FUNCTIONS(FM_X)
#undef FM_X
} curl;

#define MAX_REDIRECTS 10
#define HEAD_MAX      ((size_t)64 << 10)

struct fm_http {
    CURL *easy;
};

/* One answer while it comes in. */
typedef struct transfer {
    CURL *easy;
    const fm_http_request *q;
    fm_http_reply *reply;
    bool first_hop, started;
    fm_status status; /* of the sink */
} transfer;

static fm_status open_library(void) {
    if (curl.lib) {
        return FM_OK;
    }
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "libcurl.so.4 cannot be opened: %s", dlerror());
        return fm_error_hint("install libcurl (Debian, Ubuntu: apt-get install libcurl4)");
    }
#define FM_X(name)                                                                                                     \
    do {                                                                                                               \
        void *f_ = dlsym(lib, #name);                                                                                  \
        if (!f_) {                                                                                                     \
            dlclose(lib);                                                                                              \
            FM_FAIL(FM_ERR_UNSUPPORTED, "libcurl.so.4 has no function " #name);                                        \
        }                                                                                                              \
        memcpy(&curl.name, &f_, sizeof f_); /* ISO C has no cast from void * to a function */                          \
    } while (0);
    FUNCTIONS(FM_X)
#undef FM_X
    if (curl.curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        dlclose(lib);
        FM_FAIL(FM_ERR_UNSUPPORTED, "libcurl cannot be initialised");
    }
    curl.lib = lib; /* stays open for the life of the process */
    return FM_OK;
}

fm_status fm_http_new(fm_http **out) {
    *out = NULL;
    FM_TRY(open_library());
    fm_http *h = fm_calloc(1, sizeof *h);
    if (!h || !(h->easy = curl.curl_easy_init())) {
        fm_free(h);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an HTTP client");
    }
    *out = h;
    return FM_OK;
}

void fm_http_free(fm_http *h) {
    if (h) {
        curl.curl_easy_cleanup(h->easy);
        fm_free(h);
    }
}

/* ---- an answer ------------------------------------------------------------------------------- */

/* Value of a header line when its name is `name`; trimmed into buf. */
static bool header_is(char *buf, size_t cap, const char *line, size_t n, const char *name) {
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') {
        return false;
    }
    const char *p = line + k + 1, *end = line + n;
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    if ((size_t)(end - p) >= cap) {
        return false;
    }
    memcpy(buf, p, (size_t)(end - p));
    buf[end - p] = '\0';
    return true;
}

/* Seconds, or a date. */
static double retry_after(const char *v) {
    struct tm tm = {0};
    if (isdigit((unsigned char)*v)) {
        return strtod(v, NULL);
    }
    const char *end = strptime(v, "%a, %d %b %Y %H:%M:%S", &tm);
    return end ? FM_MAX(difftime(timegm(&tm), time(NULL)), 0) : 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *user) {
    transfer *t = user;
    fm_http_reply *r = t->reply;
    char v[4096];
    n *= size;
    bool first = n >= 5 && memcmp(line, "HTTP/", 5) == 0;
    if (first) { /* headers of an earlier answer (a proxy, 100) do not count */
        r->location[0] = r->etag[0] = r->type[0] = '\0';
        r->length = -1;
        if (t->q->head) {
            fm_str_clear(t->q->head);
        }
    } else if (header_is(v, sizeof r->location, line, n, "Location")) {
        memcpy(r->location, v, strlen(v) + 1);
    } else if (header_is(v, sizeof r->type, line, n, "Content-Type")) {
        memcpy(r->type, v, strlen(v) + 1);
    } else if (header_is(v, sizeof r->etag, line, n, "ETag")) {
        memcpy(r->etag, v, strlen(v) + 1);
    } else if (t->first_hop && header_is(v, sizeof r->linked_etag, line, n, "X-Linked-Etag")) {
        memcpy(r->linked_etag, v, strlen(v) + 1);
    } else if (header_is(v, sizeof v, line, n, "Content-Range")) { /* bytes 5-9/10 */
        const char *slash = strchr(v, '/');
        r->length = slash && isdigit((unsigned char)slash[1]) ? strtoll(slash + 1, NULL, 10) : -1;
    } else if (r->length < 0 && header_is(v, sizeof v, line, n, "Content-Length")) {
        r->length = strtoll(v, NULL, 10);
    } else if (header_is(v, sizeof v, line, n, "Retry-After")) {
        r->retry_after = retry_after(v);
    } else if (header_is(v, sizeof v, line, n, "Link")) { /* <URL>; rel="next" */
        const char *a = strchr(v, '<'), *b = a ? strchr(a, '>') : NULL;
        if (b && strstr(b, "rel=\"next\"") && (size_t)(b - a) < sizeof r->next) {
            memcpy(r->next, a + 1, (size_t)(b - a - 1));
            r->next[b - a - 1] = '\0';
        }
    }
    if (t->q->head && t->q->head->len + n <= HEAD_MAX) {
        fm_str_append(t->q->head, line, n);
    }
    return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *user) {
    transfer *t = user;
    long code = 0;
    n *= size;
    (void)curl.curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
    if (fm_cancelled()) {
        t->status = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted");
        return 0;
    }
    if (code != 200 && code != 206 && !t->q->any_code) {
        return n; /* pages about errors and redirects */
    }
    t->status = t->q->sink(t->q->user, data, n, code == 200 && t->q->from > 0 && !t->started);
    t->started = true;
    return t->status == FM_OK ? n : 0;
}

/* Called about once a second also when nothing comes. */
static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    FM_UNUSED(user);
    FM_UNUSED(a);
    FM_UNUSED(b);
    FM_UNUSED(c);
    FM_UNUSED(d);
    return fm_cancelled();
}

/* ---- requests -------------------------------------------------------------------------------- */

static bool add_header(struct curl_slist **list, const char *name, const char *value) {
    char line[1024];
    int n = snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *more = NULL;
    if (n > 0 && (size_t)n < sizeof line && !strpbrk(line, "\r\n")) {
        more = curl.curl_slist_append(*list, line);
    }
    *list = more ? more : *list;
    return more != NULL;
}

static fm_status make_headers(struct curl_slist **list, const fm_http_request *q, bool with_token) {
    char range[64], bearer[900];
    bool good = add_header(list, "User-Agent", q->agent ? q->agent : "fathom/" FATHOM_VERSION);
    good = good && (!q->accept || add_header(list, "Accept", q->accept));
    good = good && (!q->gzip || add_header(list, "Accept-Encoding", "gzip"));
    if (with_token && q->token && *q->token) {
        int n = snprintf(bearer, sizeof bearer, "%s %s", q->auth_scheme ? q->auth_scheme : "Bearer", q->token);
        good = good && n > 0 && (size_t)n < sizeof bearer && add_header(list, "Authorization", bearer);
    }
    if (q->body) {
        good = good && add_header(list, "Content-Type", "application/json");
    }
    if (q->from > 0) {
        (void)snprintf(range, sizeof range, "bytes=%lld-", (long long)q->from);
        good = good && add_header(list, "Range", range);
        good = good && (!q->if_range || !*q->if_range || add_header(list, "If-Range", q->if_range));
    }
    if (!good) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: a header that is too long, or no memory for it", q->url);
    }
    return FM_OK;
}

/* curl_easy_setopt takes long, pointers and functions; a macro of ours keeps the calls short. */
#define SET(opt, value) good = good && curl.curl_easy_setopt(e, (opt), (value)) == CURLE_OK

/* One request without redirects. */
static fm_status perform(CURL *e, transfer *t, const char *url, struct curl_slist *headers) {
    char why[CURL_ERROR_SIZE] = "";
    bool good = true;
    long code = 0;
    curl.curl_easy_reset(e);
    SET(CURLOPT_URL, url);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT, 30L);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L); /* nothing for a minute is a dead connection */
    SET(CURLOPT_LOW_SPEED_TIME, t->q->timeout_s > 0 ? (long)t->q->timeout_s + 1 : 60L);
    SET(CURLOPT_TIMEOUT_MS, t->q->timeout_s > 0 ? (long)(t->q->timeout_s * 1e3) + 1 : 0L);
    if (t->q->body) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, t->q->body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->q->body_bytes);
    }
    if (t->q->method) {
        SET(CURLOPT_CUSTOMREQUEST, t->q->method);
    }
    SET(CURLOPT_BUFFERSIZE, 256L * 1024);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_ERRORBUFFER, why);
    if (!good) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "this libcurl lacks options that are needed (http and https, 7.32 or later)");
    }
    CURLcode c = curl.curl_easy_perform(e);
    (void)curl.curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &code);
    (void)curl.curl_easy_setopt(e, CURLOPT_ERRORBUFFER, (char *)NULL);
    t->reply->code = (int)code;
    if (t->status != FM_OK) {
        return t->status;
    }
    if (fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted");
    }
    if (c == CURLE_UNSUPPORTED_PROTOCOL || c == CURLE_URL_MALFORMAT) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s is no http or https URL", url);
    }
    if (c != CURLE_OK) {
        (void)snprintf(t->reply->error, sizeof t->reply->error, "%s", *why ? why : "the connection failed");
        /* A certificate that does not fit will not fit later. */
        t->reply->transient = c != CURLE_PEER_FAILED_VERIFICATION && c != CURLE_SSL_CACERT_BADFILE;
    } else if (code >= 400) {
        (void)snprintf(t->reply->error, sizeof t->reply->error, "the server answered %ld", code);
        t->reply->transient = code == 408 || code == 429 || code >= 500;
    }
    return FM_OK;
}

fm_status fm_http_get(fm_http *h, const fm_http_request *q, fm_http_reply *reply) {
    char first[300], origin[300], url[4096], next[4096];
    *reply = (fm_http_reply){.length = -1};
    if (!fm_url_origin(first, sizeof first, q->url) || strlen(q->url) >= sizeof url) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s is no http or https URL", q->url);
    }
    memcpy(url, q->url, strlen(q->url) + 1);
    transfer t = {.easy = h->easy, .q = q, .reply = reply, .first_hop = true};
    for (int hop = 0; hop <= MAX_REDIRECTS; hop++) {
        struct curl_slist *headers = NULL;
        bool same = fm_url_origin(origin, sizeof origin, url) && strcmp(origin, first) == 0;
        fm_status s = make_headers(&headers, q, same && (q->clear_token || fm_url_private(url)));
        s = s == FM_OK ? perform(h->easy, &t, url, headers) : s;
        curl.curl_slist_free_all(headers);
        FM_TRY(s);
        bool moved =
            reply->code == 301 || reply->code == 302 || reply->code == 303 || reply->code == 307 || reply->code == 308;
        if (*reply->error || !moved || q->no_redirects) {
            return FM_OK;
        }
        if (q->body || q->method) {
            (void)snprintf(reply->error, sizeof reply->error, "redirected to \"%.200s\"", reply->location);
            return FM_OK;
        }
        bool down = strncmp(origin, "https:", 6) == 0;
        if (!fm_url_resolve(next, sizeof next, url, reply->location) || !fm_url_origin(origin, sizeof origin, next) ||
            (down && strncmp(origin, "https:", 6) != 0)) {
            (void)snprintf(reply->error, sizeof reply->error, "a redirect to \"%.200s\" was refused", reply->location);
            return FM_OK;
        }
        memcpy(url, next, sizeof url);
        t.first_hop = false;
    }
    (void)snprintf(reply->error, sizeof reply->error, "more than %d redirects", MAX_REDIRECTS);
    return FM_OK;
}

#else

#define NO_CURL                                                                                                        \
    do {                                                                                                               \
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "built without libcurl: nothing can be fetched");   \
        return fm_error_hint("install libcurl4-openssl-dev (tools/install-deps.sh) and build again");                  \
    } while (0)

fm_status fm_http_new(fm_http **out) {
    *out = NULL;
    NO_CURL;
}

void fm_http_free(fm_http *h) {
    FM_UNUSED(h);
}

fm_status fm_http_get(fm_http *h, const fm_http_request *q, fm_http_reply *reply) {
    FM_UNUSED(h);
    FM_UNUSED(q);
    *reply = (fm_http_reply){.length = -1};
    NO_CURL;
}

#endif
