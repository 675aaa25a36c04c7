/* HTTP and HTTPS client over libcurl, which is opened at run time at the first request: programs that never ask start
 * as fast as without it, and run where it is not installed.
 *
 * Redirects are followed here, not by the library: the token goes to the host it is meant for and to no other, and
 * never from https to http. Certificates are always checked. */
#ifndef FM_NET_HTTP_H
#define FM_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"

typedef struct fm_http fm_http;

/* Called with the body of a good answer (200, 206; with any_code of each) piece by piece. `restart` is true with the
 * first piece when the whole file comes though a part of it was asked for. */
typedef fm_status (*fm_http_sink)(void *user, const void *data, size_t n, bool restart);

typedef struct fm_http_request {
    const char *url;
    const char *token;    /* or NULL */
    int64_t from;         /* first byte wanted; 0 = all */
    const char *if_range; /* ETag that the part at hand had, or NULL */
    fm_http_sink sink;
    void *user;
    const char *agent;  /* User-Agent; NULL = the program's name and version */
    const char *accept; /* Accept, or NULL */
    bool gzip;          /* the body may come packed: it goes to the sink as it comes */
    bool no_redirects;  /* the first answer is the last; reply->location says where it leads */
    fm_str *head;       /* or NULL: gets the last answer's status line and header lines, up to 64 KiB */
    /* Calls of an API: not redirected. */
    const char *method;      /* NULL: GET, or POST with a body */
    const char *body;        /* JSON, or NULL */
    size_t body_bytes;       /* of body */
    const char *auth_scheme; /* before the token; NULL: "Bearer" */
    double timeout_s;        /* for the whole transfer; 0 = none as long as bytes come */
    bool clear_token;        /* the token may go over http to other machines */
    bool any_code;           /* the sink gets bodies of errors too */
} fm_http_request;

typedef struct fm_http_reply {
    int code;              /* of the last answer; 0 = the connection failed */
    bool transient;        /* worth asking again: no connection, cut, 408, 429, 5xx */
    double retry_after;    /* seconds that the server asks for (of a date: from now), 0 = nothing said */
    int64_t length;        /* whole size of the file, -1 unknown */
    char etag[256];        /* of the last answer */
    char linked_etag[256]; /* X-Linked-Etag of the first answer: what the file is, before redirects */
    char location[4096];   /* Location of the last answer, or "" */
    char type[256];        /* Content-Type of the last answer, known to the sink, or "" */
    char next[1024];       /* URL of the next page (Link: rel="next"), or "" */
    char error[512];       /* what went wrong, "" = nothing */
} fm_http_reply;

/* FM_ERR_UNSUPPORTED when libcurl is not there. */
FM_MUST_CHECK fm_status fm_http_new(fm_http **out);
void fm_http_free(fm_http *h);
/* FM_OK also for answers of any code and for failed connections: see reply->code and error. Other statuses are those of
 * the sink, FM_ERR_CANCELLED, and bad URLs. */
FM_MUST_CHECK fm_status fm_http_get(fm_http *h, const fm_http_request *q, fm_http_reply *reply);

/* Seconds to wait after `tries` failed attempts: `first`, doubled each time to a minute at most; what the server asks
 * for when that is longer. */
double fm_http_backoff(double first, int64_t tries, const fm_http_reply *reply);
FM_MUST_CHECK fm_status fm_http_wait(double seconds); /* FM_ERR_CANCELLED when interrupted */

/* "https://host:port" of a URL into buf, lower case; false when it is no http or https URL. */
bool fm_url_origin(char *buf, size_t cap, const char *url);
/* Location as seen from a URL; false when it does not fit or leads to another scheme than http and https. */
bool fm_url_resolve(char *buf, size_t cap, const char *base, const char *location);
/* True when a token may go with this URL: https, or this machine. */
bool fm_url_private(const char *url);

#endif
