/* A model as an HTTP service with the OpenAI API.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_SERVE_H
#define FATHOM_SERVE_H

#include "fathom/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_serve fm_serve;

typedef struct fm_serve_options {
    size_t size;                    /* sizeof(fm_serve_options); other fields 0 = default */
    const char *host;               /* "127.0.0.1" */
    int port;                       /* 0 = any free one */
    const char *name;               /* of the model in requests; NULL = the last part of its path */
    const char *api_key_file;       /* docs/serving.md says its form; NULL = no keys are asked for */
    const char *tls_cert, *tls_key; /* PEM files, or NULL */
    const char *cors_origins;       /* "*", or origins separated by commas; NULL = none */
    int64_t max_tokens;             /* most tokens of one answer, whatever a request asks for; 0 = what fits */
    int64_t max_body;               /* bytes of a request, 8 MiB */
    int timeout_s;                  /* longest time for one request, waiting included; 0 = 600 */
    int max_connections;            /* 4096 */
    int read_timeout_s;             /* longest time for a client to send a request, 60 */
    const char *content_filter;     /* rules for what comes in and goes out (docs/serving.md), or NULL */
    const char *admin_key_file;     /* keys of /admin/ routes, which are not there without it */
    int listen_fd;                  /* an open, listening socket in place of host and port; 0 = none */
    const char *run_as;             /* root becomes this user once it listens; NULL = no change */
    bool no_page;                   /* no web page at / */
    bool runs;                      /* who may use the API may read the registry of runs */
    fm_engine_options engine;
    /* One line of JSON for each request, without its content; any thread, one at a time. */
    void (*access_log)(void *user, const char *line);
    void *user;
} fm_serve_options;

/* Starts to listen. The model must not be used by others until fm_serve_free. */
FM_API FM_MUST_CHECK fm_status fm_serve_new(fm_serve **out, fm_model *m, const fm_serve_options *opt);
FM_API int fm_serve_port(const fm_serve *s);
FM_API const char *fm_serve_name(const fm_serve *s);
FM_API fm_engine *fm_serve_engine(fm_serve *s);
/* Takes no new requests; returns when what runs is done, or after so many seconds. True when all was done. */
FM_API bool fm_serve_drain(fm_serve *s, double seconds);
/* The socket it listens on, for a process that takes over. */
FM_API int fm_serve_listen_fd(const fm_serve *s);
/* An administrator asked for a reload since the last call. */
FM_API bool fm_serve_reload_asked(fm_serve *s);
/* Another process has the socket now: those who are connected are still served, each connection ends behind its next
 * answer. Returns when all are gone, or after so many seconds; idle ones are given five at most. */
FM_API bool fm_serve_handover(fm_serve *s, double seconds);
FM_API void fm_serve_free(fm_serve *s);

#ifdef __cplusplus
}
#endif
#endif
