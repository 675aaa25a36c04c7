/* fathom data ingest */
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "fathom/crawl.h"

static void report(const fm_ingest_stats *s, const char *output) {
    if (cli_flags.json) {
        printf("{\"requests\":%lld,\"rows\":%lld,\"refused_rows\":%lld,\"bytes\":%lld,\"busy\":%lld,\"denied\":%lld,"
               "\"files\":%lld,\"seconds\":",
               (long long)s->n_requests, (long long)s->n_rows, (long long)s->n_refused_rows, (long long)s->n_bytes,
               (long long)s->n_busy, (long long)s->n_denied, (long long)s->n_files);
        cli_json_number(stdout, s->seconds);
        printf("}\n");
        return;
    }
    cli_say("%s: %lld rows of %lld requests in %lld files; %lld rows refused, %lld requests told to wait", output,
            (long long)s->n_rows, (long long)s->n_requests, (long long)s->n_files, (long long)s->n_refused_rows,
            (long long)s->n_busy);
}

static fm_status serve(const fm_ingest_options *o) {
    fm_ingest *g;
    fm_ingest_stats st;
    fm_status s = fm_ingest_new(&g, o);
    if (s != FM_OK) {
        return s;
    }
    const char *v6 = strchr(o->host, ':');
    /* Printed when requests are taken: scripts wait for this line. */
    fprintf(stderr, "rows are taken at http%s://%s%s%s:%d/rows\n", o->tls_cert ? "s" : "", v6 ? "[" : "", o->host,
            v6 ? "]" : "", fm_ingest_port(g));
    fflush(stderr);
    while (!fm_cancelled()) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    s = fm_ingest_finish(g);
    fm_ingest_get_stats(g, &st);
    fm_ingest_free(g);
    if (s == FM_OK) {
        report(&st, o->output);
    }
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_ingest_options o;
    char *pos[128];
    int n = 0;
    memset(&o, 0, sizeof o);
    fm_status s = fm_options_init(&o, fm_ingest_option_table());
    if (s != FM_OK) {
        return cli_fail(s);
    }
    o.size = sizeof o;
    int rc = argc > 128 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &o, pos, &n, 0, 0);
    if (rc < 0) {
        s = serve(&o);
        rc = s == FM_OK ? 0 : cli_fail(s);
    }
    fm_options_free(&o, fm_ingest_option_table());
    return rc;
}

const cli_command cli_cmd_data_ingest = {
    .name = "data ingest",
    .args = "-o DIR [options]",
    .summary = "Take rows that other systems send over HTTP; an answer of 200 says that they are on disk",
    .about =
        "POST /rows with JSON lines, a JSON array, CSV or TSV (also gzip); ?strict=1 takes all rows or none. Bad rows "
        "are\n"
        "answered with line and reason. 503 and 429 come with Retry-After. GET /stats, GET /health. Ctrl-C ends it.",
    .examples = "fathom data ingest -o incoming\n"
                "fathom data ingest -o incoming --host 0.0.0.0 --api-key-file keys.txt --require text --rotate-s 600\n"
                "curl --data-binary @rows.jsonl -H 'Content-Type: application/x-ndjson' http://127.0.0.1:8090/rows",
    .options = fm_ingest_option_table,
    .run = run,
};
