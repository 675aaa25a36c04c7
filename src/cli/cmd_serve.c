/* fathom serve */
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/rows.h"
#include "cli/handover.h"
#include "fathom/serve.h"

typedef struct serve_args {
    char *filter, *user, *admin_key_file;
    bool no_page, runs;
    char *host, *alias, *api_key_file, *tls_cert, *tls_key, *cors_origins, *dtype, *kv_dtype;
    fm_strlist adapter;
    int64_t column;
    int64_t port, parallel, ctx_size, kv_bytes, batch_tokens, max_queue, max_tokens, max_body, timeout, threads, drain,
        max_connections, read_timeout;
    bool no_prefix_cache, access_log, lookup, mtp;
    char *draft;
    int64_t draft_max;
} serve_args;

#define FIELD(k) .offset = offsetof(serve_args, k)
static const fm_option table[] = {
    {.key = "host",
     .type = FM_OPT_STR,
     FIELD(host),
     .def = "127.0.0.1",
     .help = "Address to listen on; 0.0.0.0 = all of this machine's."},
    {.key = "port", .type = FM_OPT_INT, FIELD(port), .def = "8080", .min = 0, .max = 65535, .help = "0 = a free one."},
    {.key = "alias",
     .type = FM_OPT_STR,
     FIELD(alias),
     .aliases = "served_model_name",
     .metavar = "NAME",
     .help = "Name of the model in requests; default: the last part of its path."},
    {.key = "parallel",
     .type = FM_OPT_INT,
     FIELD(parallel),
     .def = "16",
     .min = 1,
     .max = 4096,
     .help = "Requests computed at once; more wait."},
    {.key = "ctx_size",
     .type = FM_OPT_INT,
     FIELD(ctx_size),
     .def = "0",
     .min = 0,
     .max = 1e9,
     .help = "Tokens of one request with its answer; 0 = what the model allows and memory holds."},
    {.key = "kv_memory",
     .type = FM_OPT_BYTES,
     FIELD(kv_bytes),
     .def = "0",
     .help = "Memory of the KV cache; 0 = what parallel requests need, at most 40% of what is free."},
    {.key = "kv_dtype",
     .type = FM_OPT_STR,
     FIELD(kv_dtype),
     .def = "auto",
     .help = "Of the KV cache: auto (as the model computes), f32, bf16, q8_0 (half of bf16)."},
    {.key = "batch_tokens",
     .type = FM_OPT_INT,
     FIELD(batch_tokens),
     .def = "512",
     .min = 16,
     .max = 65536,
     .help = "Tokens of one forward pass: more read prompts faster, fewer let others wait less."},
    {.key = "no_prefix_cache",
     .type = FM_OPT_BOOL,
     FIELD(no_prefix_cache),
     .help = "Do not reuse what requests with the same beginning have computed."},
    CLI_ROWS_DRAFT(serve_args),
    {.key = "max_queue",
     .type = FM_OPT_INT,
     FIELD(max_queue),
     .def = "256",
     .min = 1,
     .max = 1e6,
     .help = "Requests that may wait; more are refused with 503."},
    {.key = "max_tokens",
     .type = FM_OPT_INT,
     FIELD(max_tokens),
     .def = "0",
     .min = 0,
     .max = 1e9,
     .help = "Most tokens of one answer, whatever a request asks for; 0 = what fits."},
    {.key = "max_body",
     .type = FM_OPT_BYTES,
     FIELD(max_body),
     .def = "8MiB",
     .min = 1024,
     .max = 1e9,
     .help = "Largest request."},
    {.key = "timeout",
     .type = FM_OPT_INT,
     FIELD(timeout),
     .def = "600",
     .min = 1,
     .max = 86400,
     .help = "Seconds for one request, waiting included."},
    {.key = "max_connections",
     .type = FM_OPT_INT,
     FIELD(max_connections),
     .def = "4096",
     .min = 1,
     .max = 1e6,
     .help = "Connections at once."},
    {.key = "read_timeout",
     .type = FM_OPT_INT,
     FIELD(read_timeout),
     .def = "60",
     .min = 1,
     .max = 86400,
     .help = "Seconds for a client to send a request."},
    {.key = "filter",
     .type = FM_OPT_STR,
     FIELD(filter),
     .aliases = "content_filter",
     .metavar = "FILE",
     .help = "Rules for what comes in and goes out: words, regex, privacy, a classifier (docs/serving.md)."},
    {.key = "user",
     .type = FM_OPT_STR,
     FIELD(user),
     .metavar = "NAME",
     .help = "Started as root: become this user once the port is open."},
    {.key = "api_key_file",
     .type = FM_OPT_STR,
     FIELD(api_key_file),
     .metavar = "FILE",
     .help = "Keys, one a line, with names and limits; requests need one of them then."},
    {.key = "admin_key_file",
     .type = FM_OPT_STR,
     FIELD(admin_key_file),
     .metavar = "FILE",
     .help = "Keys of administrators, who may add adapters and reload; without it nobody may."},
    {.key = "tls_cert", .type = FM_OPT_STR, FIELD(tls_cert), .metavar = "FILE", .help = "Certificate chain (PEM)."},
    {.key = "tls_key", .type = FM_OPT_STR, FIELD(tls_key), .metavar = "FILE", .help = "Its private key (PEM)."},
    {.key = "cors_origins",
     .type = FM_OPT_STR,
     FIELD(cors_origins),
     .metavar = "LIST",
     .help = "Origins whose pages may use the API, by comma, or *."},
    {.key = "runs",
     .type = FM_OPT_BOOL,
     FIELD(runs),
     .help = "The web page shows the registry of runs; whoever may use the API may read it."},
    {.key = "no_page", .type = FM_OPT_BOOL, FIELD(no_page), .help = "No web page at /."},
    {.key = "access_log",
     .type = FM_OPT_BOOL,
     FIELD(access_log),
     .help = "A line of JSON on standard output for each request (never its content)."},
    {.key = "drain",
     .type = FM_OPT_INT,
     FIELD(drain),
     .def = "30",
     .min = 0,
     .max = 3600,
     .help = "Seconds that running requests get to end after SIGTERM or Ctrl-C."},
    {.key = "adapter",
     .type = FM_OPT_LIST,
     FIELD(adapter),
     .metavar = "NAME=DIR",
     .help = "PEFT folder of a LoRA adapter that requests choose by its name as model or adapter; may be given several "
             "times. One without a name applies to all requests."},
    CLI_ROW_COLUMN(serve_args),
    CLI_ROW_DTYPE(serve_args),
    CLI_ROW_THREADS(serve_args),
    {0},
};
static const fm_option *options(void) {
    return table;
}

static void on_access(void *user, const char *line) {
    (void)user;
    fputs(line, stdout);
    fputc('\n', stdout);
    fflush(stdout);
}

static void announce(fm_serve *s, const serve_args *a) {
    char kv[48];
    fm_engine_stats st;
    fm_engine *e = fm_serve_engine(s);
    fm_engine_get_stats(&st, e);
    if (st.blocks > 0) {
        char weights[48] = "?", work[48];
        fm_model_info info;
        if (fm_model_get_info(&info, fm_engine_model(e)) == FM_OK) {
            (void)cli_bytes(weights, sizeof weights, (double)info.serve_bytes);
        }
        cli_say("context %lld tokens; memory: weights %s, KV cache %s (%lld tokens), a pass %s",
                (long long)fm_engine_ctx_size(e), weights, cli_bytes(kv, sizeof kv, (double)st.kv_bytes),
                (long long)st.blocks * st.block_tokens, cli_bytes(work, sizeof work, (double)st.work_bytes));
    }
    const char *v6 = strchr(a->host, ':');
    /* Printed when requests are taken: scripts wait for this line. */
    fprintf(stderr, "%s is served at http%s://%s%s%s:%d/v1\n", fm_serve_name(s), a->tls_cert ? "s" : "", v6 ? "[" : "",
            a->host, v6 ? "]" : "", fm_serve_port(s));
    fflush(stderr);
}

/* The adapter without a name, or NULL. */
static const char *whole_adapter(const fm_strlist *list) {
    const char *found = NULL;
    for (size_t i = 0; i < list->n; i++) {
        found = strchr(list->item[i], '=') ? found : list->item[i];
    }
    return found;
}

static fm_status add_adapters(fm_serve *s, const fm_strlist *list) {
    for (size_t i = 0; i < list->n; i++) {
        char name[128];
        const char *eq = strchr(list->item[i], '=');
        if (!eq) {
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)(eq - list->item[i]), list->item[i]);
        fm_status st = fm_engine_add_adapter(fm_serve_engine(s), name, eq + 1);
        if (st != FM_OK) {
            return st;
        }
    }
    return FM_OK;
}

/* Until a signal, or until another process has taken over: then true. */
static bool wait_for_end(fm_serve *s) {
    handover_watch();
    handover_ready();
    while (!fm_cancelled()) {
        handover_state state = handover_poll();
        if (state == HANDOVER_DONE) {
            return true;
        }
        bool asked = fm_serve_reload_asked(s), signalled = handover_asked();
        if (state == HANDOVER_NONE && (asked || signalled)) {
            (void)handover_begin(fm_serve_listen_fd(s));
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    handover_cancel();
    return false;
}

/* *rc: exit status when all went well. */
static fm_status serve(int *rc, const serve_args *a, const char *path) {
    fm_model *m = NULL, *draft = NULL;
    fm_serve *s = NULL;
    fm_model_options mo = {.size = sizeof mo, .dtype = a->dtype, .threads = (int)a->threads};
    fm_serve_options o = {.size = sizeof o,
                          .host = a->host,
                          .port = (int)a->port,
                          .name = a->alias,
                          .api_key_file = a->api_key_file,
                          .tls_cert = a->tls_cert,
                          .tls_key = a->tls_key,
                          .cors_origins = a->cors_origins,
                          .max_tokens = a->max_tokens,
                          .max_body = a->max_body,
                          .timeout_s = (int)a->timeout,
                          .max_connections = (int)a->max_connections,
                          .read_timeout_s = (int)a->read_timeout,
                          .content_filter = a->filter,
                          .run_as = a->user,
                          .admin_key_file = a->admin_key_file,
                          .listen_fd = handover_inherited(),
                          .no_page = a->no_page,
                          .runs = a->runs,
                          .engine = {.size = sizeof o.engine,
                                     .ctx_size = a->ctx_size,
                                     .kv_bytes = a->kv_bytes,
                                     .parallel = (int32_t)a->parallel,
                                     .max_queue = (int32_t)a->max_queue,
                                     .batch_tokens = (int32_t)a->batch_tokens,
                                     .kv_dtype = a->kv_dtype,
                                     .no_prefix_cache = a->no_prefix_cache,
                                     .lookup = a->lookup,
                                     .mtp = a->mtp,
                                     .draft_max = (int32_t)a->draft_max},
                          .access_log = a->access_log ? on_access : NULL};
    mo.adapter = whole_adapter(&a->adapter);
    mo.column = (int)a->column;
    fm_status st = fm_model_open(&m, path, &mo);
    if (st == FM_OK && a->draft) {
        st = fm_model_open(&draft, a->draft, &(fm_model_options){.size = sizeof mo, .dtype = a->dtype, .threads = 1});
        o.engine.draft = draft;
    }
    st = st == FM_OK ? fm_serve_new(&s, m, &o) : st;
    st = st == FM_OK ? add_adapters(s, &a->adapter) : st;
    bool replaced = false;
    if (st == FM_OK) {
        announce(s, a);
        replaced = wait_for_end(s);
        cli_say(replaced ? "replaced: %lld s for those who are connected"
                         : "ending: no new requests, %lld s for those that run",
                (long long)a->drain);
        if (!(replaced ? fm_serve_handover : fm_serve_drain)(s, (double)a->drain)) {
            cli_say("warning: some requests were cut off");
        }
    }
    fm_serve_free(s);
    fm_model_close(m);
    fm_model_close(draft);
    *rc = replaced ? handover_wait() : 0;
    return st;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    serve_args a = {0};
    char *pos[128] = {0};
    int n = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 128 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 1);
    if (rc < 0) {
        s = serve(&rc, &a, pos[0]);
        rc = s == FM_OK ? rc : cli_fail(s);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_serve = {
    .name = "serve",
    .args = "MODEL [options]",
    .summary = "Serve a model over HTTP with the OpenAI API",
    .examples = "fathom serve out/demo\n"
                "fathom serve model.gguf --host 0.0.0.0 --port 5000 --api-key-file keys.txt\n"
                "fathom serve out/demo --parallel 32 --ctx-size 8192 --access-log\n"
                "fathom serve large --draft small --draft-max 6\n"
                "fathom serve base --adapter law=out/law --adapter verse=out/verse",
    .options = options,
    .run = run,
};
