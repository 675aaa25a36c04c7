/* fathom data crawl */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fathom/crawl.h"

static void report(const fm_crawl_result *r, const char *output) {
    char t[32];
    if (cli_flags.json) {
        printf("{\"pages\":%lld,\"new\":%lld,\"hosts\":%lld,\"waiting\":%lld,\"files\":%lld,\"seconds\":",
               (long long)r->n_pages, (long long)(r->n_pages - r->n_before), (long long)r->n_hosts,
               (long long)r->n_waiting, (long long)r->n_files);
        cli_json_number(stdout, r->seconds);
        printf(",\"counts\":{");
        for (int i = 0; i < r->n_counts; i++) {
            printf(i ? "," : "");
            cli_json_string(stdout, r->count[i].what);
            printf(":%lld", (long long)r->count[i].n);
        }
        printf("}}\n");
        return;
    }
    for (int i = 0; i < r->n_counts; i++) {
        cli_say("%10lld  %s", (long long)r->count[i].n, r->count[i].what);
    }
    cli_say("%s: %lld pages (%lld new) of %lld hosts in %lld files, %s", output, (long long)r->n_pages,
            (long long)(r->n_pages - r->n_before), (long long)r->n_hosts, (long long)r->n_files,
            cli_seconds(t, sizeof t, r->seconds));
    if (r->n_waiting > 0) {
        cli_say("%lld more addresses are known; the same command with higher limits goes on", (long long)r->n_waiting);
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_crawl_options o;
    fm_crawl_result r;
    char **pos = calloc((size_t)argc + 1, sizeof *pos);
    int n = 0;
    memset(&o, 0, sizeof o);
    fm_status s = pos ? fm_options_init(&o, fm_crawl_option_table()) : FM_ERR_NO_MEMORY;
    if (s != FM_OK) {
        free(pos);
        return cli_fail(s);
    }
    o.size = sizeof o;
    int rc = cli_parse(cmd, argc, argv, &o, pos, &n, 0, argc);
    if (rc < 0 && n == 0 && !o.seeds) {
        rc = cli_usage(cmd, "no address to begin with");
    }
    if (rc < 0) {
        o.seed = (fm_strlist){pos, (size_t)n};
        s = fm_crawl(&r, &o);
        o.seed = (fm_strlist){NULL, 0};
        if (s == FM_OK) {
            report(&r, o.output);
        }
        rc = s == FM_OK ? 0 : cli_fail(s);
    }
    fm_options_free(&o, fm_crawl_option_table());
    free(pos);
    return rc;
}

const cli_command cli_cmd_data_crawl = {
    .name = "data crawl",
    .args = "URL... -o DIR [options]",
    .summary = "Collect web pages politely: robots.txt, one request at a time to a host, sitemaps",
    .about = "Rows have url, title, language, text and, where the page names one, its licence. An interrupted crawl "
             "goes on\n"
             "where it stopped. robots.txt, noindex and nofollow are always obeyed; the User-Agent is fathom/VERSION.",
    .examples = "fathom data crawl https://example.org/ -o pages --contact https://my.site/bot\n"
                "fathom data crawl https://example.org/docs/ -o docs --include 'https://example.org/docs/*' --depth 8\n"
                "fathom data crawl --seeds hosts.txt -o archive --format warc --max-pages 1000000 --hosts 64",
    .options = fm_crawl_option_table,
    .run = run,
};
