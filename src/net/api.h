/* Calls of JSON APIs over HTTP by any number of threads: connections are kept and shared, what is transient is tried
 * again, and a server that asks for a pause (Retry-After) gets it from all threads. */
#ifndef FM_NET_API_H
#define FM_NET_API_H

#include "base/json.h"

typedef struct fm_api fm_api;

typedef struct fm_api_options {
    const char *url;         /* what paths are appended to: "http://127.0.0.1:8080/v1" */
    const char *token;       /* or NULL */
    const char *auth_scheme; /* NULL: "Bearer" */
    const char *token_hint;  /* where the token comes from, for messages: "the environment variable X" */
    double timeout_s;        /* of one request */
    int64_t retries;         /* attempts after the first */
    double retry_wait;       /* seconds before the second attempt, doubled each time */
    bool clear_token;        /* the token may go over http to other machines */
} fm_api_options;

/* Strings are copied. FM_ERR_CONFIG: no http or https URL, or a token that would go unencrypted to another machine. */
FM_MUST_CHECK fm_status fm_api_new(fm_api **out, const fm_api_options *o);
void fm_api_free(fm_api *a);
int64_t fm_api_retries(const fm_api *a); /* attempts that were repeated so far */

/* One call; *out is the JSON of the answer (owned), NULL when it is empty. body: JSON of n bytes, or NULL. Any thread.
 * FM_ERR_DATA: the server does not take this request (400, 413, 422); FM_ERR_NOT_FOUND: 404; FM_ERR_IO: all else, with
 * the server's own words. */
FM_MUST_CHECK fm_status fm_api_call(fm_api *a, fm_json **out, const char *method, const char *path, const char *body,
                                    size_t n);

#endif
