/* What a hub says a repository holds. */
#ifndef FM_NET_HUB_H
#define FM_NET_HUB_H

#include "base/str.h"
#include "fathom/get.h"
#include "net/http.h"

typedef struct fm_hub_file {
    char *path;
    int64_t size;    /* -1 unknown */
    char sha256[65]; /* of large files; "" unknown */
    char sha1[41];   /* git's hash of small ones; "" unknown */
} fm_hub_file;

typedef struct fm_hub {
    fm_http *http;
    char *endpoint; /* without a slash at the end */
    const char *token;
    bool dataset;
    const char *name;
    int64_t retries;
    double retry_wait;
    char commit[72];
    fm_hub_file *file;
    size_t n, cap;
} fm_hub;

/* Fills commit and files. Paths that would leave the folder are refused. */
FM_MUST_CHECK fm_status fm_hub_list(fm_hub *h, const char *revision);
void fm_hub_free_files(fm_hub *h);
/* URL of a file's bytes at the commit. */
FM_MUST_CHECK fm_status fm_hub_url(fm_str *out, const fm_hub *h, const char *path);
/* One attempt has failed as `reply` says: waits and returns FM_OK to try again, or the failure as a status. `*tries`
 * counts attempts without progress. */
FM_MUST_CHECK fm_status fm_hub_retry(const fm_hub *h, const char *url, const fm_http_reply *reply, int64_t *tries);

#endif
