/* Terminal output: messages, the progress line, help pages, small formatters. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

cli_common cli_flags;
static bool line_shown;
static double last_plain = -1e9;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool cli_is_tty(FILE *f) {
    const char *term = getenv("TERM");
    return isatty(fileno(f)) && !(term && strcmp(term, "dumb") == 0);
}

int cli_columns(void) {
    struct winsize w;
    const char *e = getenv("COLUMNS");
    if (e && atoi(e) > 20) {
        return atoi(e);
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20) {
        return w.ws_col;
    }
    return 100;
}

void cli_ui_clear(void) {
    if (line_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        line_shown = false;
    }
}

void cli_ui_status(const char *line) {
    if (cli_flags.quiet) {
        return;
    }
    if (cli_is_tty(stderr)) {
        fprintf(stderr, "\r\033[K%.*s", cli_columns() - 1, line);
        fflush(stderr);
        line_shown = true;
    } else if (now_s() - last_plain >= 10) {
        last_plain = now_s();
        fprintf(stderr, "%s\n", line);
    }
}

void cli_say(const char *fmt, ...) {
    if (cli_flags.quiet) {
        return;
    }
    cli_ui_clear();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static void on_log(void *user, fm_log_level level, const char *text) {
    (void)user;
    if (level == FM_LOG_DEBUG || (cli_flags.quiet && level < FM_LOG_WARN)) {
        return;
    }
    cli_ui_clear();
    fprintf(stderr, "%s%s\n", level == FM_LOG_WARN ? "warning: " : "", text);
}

static void on_progress(void *user, const fm_progress *p) {
    (void)user;
    char line[512], rate[48], left[48], bar[32];
    bool bytes = strcmp(p->unit, "bytes") == 0;
    double per_s = p->elapsed_s > 0 ? p->done / p->elapsed_s : 0;
    /* Nothing is shown for calls that end within two seconds. */
    if (p->elapsed_s < 1) {
        return;
    }
    if (strcmp(p->unit, "share") == 0) { /* of a whole: how fast is in the detail */
        rate[0] = '\0';
    } else if (bytes) {
        char n[40];
        snprintf(rate, sizeof rate, "  %.20s/s", cli_bytes(n, sizeof n, per_s));
    } else {
        char n[40];
        snprintf(rate, sizeof rate, "  %.20s %.20s/s", cli_count(n, sizeof n, per_s), p->unit);
    }
    if (p->total > 0) {
        double f = fmin(1, fmax(0, p->done / p->total));
        int full = (int)(f * 20);
        memset(bar, '.', 20);
        memset(bar, '#', (size_t)full);
        bar[20] = 0;
        double rest = per_s > 0 ? (p->total - p->done) / per_s : 0;
        snprintf(line, sizeof line, "%s [%s] %3.0f%%%s  %s left  %s", p->what, bar, f * 100, rate,
                 cli_seconds(left, sizeof left, rest), p->detail ? p->detail : "");
    } else {
        char n[40];
        snprintf(line, sizeof line, "%s  %s%s  %s", p->what,
                 bytes ? cli_bytes(n, sizeof n, p->done) : cli_count(n, sizeof n, p->done), rate,
                 p->detail ? p->detail : "");
    }
    cli_ui_status(line);
}

void cli_ui_init(void) {
    fm_log_set_sink(on_log, NULL);
    fm_progress_set_sink(cli_flags.quiet ? NULL : on_progress, NULL);
}

/* ---- errors and help -------------------------------------------------------------------------- */

int cli_fail(fm_status s) {
    fm_error e = fm_error_get();
    int rc = fm_status_exit_code(s);
    cli_ui_clear();
    const char *text = e.status == s && e.message[0] ? e.message : fm_status_text(s);
    fprintf(stderr, "fathom: %s\n", text);
    if (e.status == s && e.hint[0]) {
        fprintf(stderr, "        %s\n", e.hint);
    }
    if (getenv("FATHOM_DEBUG") && e.file) {
        fprintf(stderr, "        (%s at %s:%d)\n", fm_status_name(s), e.file, e.line);
    }
    return rc;
}

int cli_report(fm_status s, char *json, fm_status (*text_of)(char **text, const char *json)) {
    char *text = NULL;
    s = s == FM_OK && json && !cli_flags.json ? text_of(&text, json) : s;
    if (s == FM_OK && json) {
        cli_ui_clear();
        fputs(cli_flags.json ? json : text, stdout);
        fputs(cli_flags.json ? "\n" : "", stdout);
    }
    fm_string_free(text);
    fm_string_free(json);
    return s == FM_OK ? 0 : cli_fail(s);
}

int cli_usage(const cli_command *cmd, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "fathom %s: ", cmd->name);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nUsage: fathom %s %s\n'fathom %s --help' shows options and examples.\n", cmd->name, cmd->args,
            cmd->name);
    return 2;
}

void cli_help(const cli_command *cmd) {
    printf("Usage: fathom %s %s\n\n%s\n", cmd->name, cmd->args, cmd->summary);
    if (cmd->about) {
        printf("\n%s\n", cmd->about);
    }
    if (cmd->examples) {
        printf("\nExamples:\n");
        for (const char *p = cmd->examples; *p;) {
            size_t n = strcspn(p, "\n");
            printf("  %.*s\n", (int)n, p);
            p += n + (p[n] == '\n');
        }
    }
    printf("\nOptions (configuration keys are the same with underscores: key=value):\n");
    char *text = NULL;
    if (cmd->options && fm_options_help(&text, cmd->options(), cli_columns()) == FM_OK) {
        fputs(text, stdout);
        fm_string_free(text);
    }
    printf("  --json                 report as JSON on standard output\n"
           "  -q, --quiet            no progress and no messages, only results and errors\n"
           "  -h, --help             this text\n");
}

void cli_help_all(void) {
    printf("fathom %s: one program for the whole life of a language model.\n\nUsage: fathom COMMAND ...\n\n",
           FATHOM_VERSION);
    for (int i = 0; i < cli_n_commands; i++) {
        printf("  %-20s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
    }
    printf("\n'fathom COMMAND --help' shows options and examples. Results go to standard output, messages to standard\n"
           "error. Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 input data refused,\n"
           "130 interrupted with the state saved.\n");
}

int cli_parse(const cli_command *cmd, int argc, char **argv, void *obj, char **positional, int *n_positional,
              int min_positional, int max_positional) {
    static const fm_option none[] = {{0}};
    char dummy;
    int n = 0;
    fm_status s =
        fm_options_parse_args(obj ? obj : &dummy, cmd->options ? cmd->options() : none, argc, argv, positional, &n);
    if (s != FM_OK) {
        int rc = cli_fail(s);
        fprintf(stderr, "'fathom %s --help' shows options and examples.\n", cmd->name);
        return rc;
    }
    if (n_positional) {
        *n_positional = n;
    }
    if (n < min_positional) {
        return cli_usage(cmd, "an argument is missing");
    }
    if (n > max_positional) {
        return cli_usage(cmd, "'%s' is one argument too many", positional[max_positional]);
    }
    return -1;
}

/* ---- formatters -------------------------------------------------------------------------------- */

const char *cli_bytes(char *buf, size_t cap, double v) {
    const char *unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;
    while (fabs(v) >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(buf, cap, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return buf;
}

const char *cli_count(char *buf, size_t cap, double v) {
    if (fabs(v) >= 1e9) {
        snprintf(buf, cap, "%.2fB", v / 1e9);
    } else if (fabs(v) >= 1e6) {
        snprintf(buf, cap, "%.2fM", v / 1e6);
    } else if (fabs(v) >= 1e4) {
        snprintf(buf, cap, "%.1fk", v / 1e3);
    } else {
        snprintf(buf, cap, "%.0f", v);
    }
    return buf;
}

const char *cli_seconds(char *buf, size_t cap, double v) {
    if (!isfinite(v) || v < 0) {
        snprintf(buf, cap, "?");
    } else if (v < 60) {
        snprintf(buf, cap, "%.0fs", v);
    } else if (v < 3600) {
        snprintf(buf, cap, "%dm%02ds", (int)v / 60, (int)v % 60);
    } else if (v < 86400 * 4) {
        snprintf(buf, cap, "%dh%02dm", (int)(v / 3600), (int)fmod(v / 60, 60));
    } else {
        snprintf(buf, cap, "%.1f days", v / 86400);
    }
    return buf;
}

/* Length of the valid UTF-8 character at p, 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t n) {
    size_t want = p[0] < 0x80                   ? 1
                  : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                  : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                  : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                : 0;
    if (want == 0 || want > n) {
        return 0;
    }
    for (size_t i = 1; i < want; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || outside ? 0 : want;
}

void cli_json_bytes(FILE *f, const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    fputc('"', f);
    for (size_t i = 0; i < n;) {
        size_t len = utf8_length(p + i, n - i);
        if (len == 0) {
            fputs("\\ufffd", f);
            len = 1;
        } else if (p[i] == '"' || p[i] == '\\') {
            fprintf(f, "\\%c", p[i]);
        } else if (p[i] < 0x20) {
            fprintf(f, "\\u%04x", p[i]);
        } else {
            fwrite(p + i, 1, len, f);
        }
        i += len;
    }
    fputc('"', f);
}

void cli_json_string(FILE *f, const char *s) {
    if (!s) {
        fputs("null", f);
        return;
    }
    cli_json_bytes(f, s, strlen(s));
}

void cli_json_number(FILE *f, double v) {
    if (isfinite(v)) {
        fprintf(f, "%.10g", v);
    } else {
        fputs("null", f);
    }
}

char *cli_read_line(FILE *f, size_t *n) {
    static char *buf;
    static size_t cap;
    ssize_t got = getline(&buf, &cap, f);
    if (got < 0) {
        return NULL;
    }
    while (got > 0 && (buf[got - 1] == '\n' || buf[got - 1] == '\r')) {
        buf[--got] = 0;
    }
    *n = (size_t)got;
    return buf;
}
