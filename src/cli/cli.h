/* The program's own helpers. src/cli includes public headers only, and is the only code that prints or exits. */
#ifndef FM_CLI_CLI_H
#define FM_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "fathom/log.h"
#include "fathom/option.h"
#include "fathom/status.h"

typedef struct cli_command cli_command;
struct cli_command {
    const char *name;                                          /* "data pack": one or two words */
    const char *args;                                          /* "MODEL [options]" */
    const char *summary;                                       /* one line */
    const char *about;                                         /* paragraphs for --help, or NULL */
    const char *examples;                                      /* one command per line */
    const fm_option *(*options)(void);                         /* NULL = none */
    int (*run)(const cli_command *cmd, int argc, char **argv); /* argv without program and command words */
};

/* Every command takes these; they are taken out of argv before the table sees it. */
typedef struct cli_common {
    bool json, quiet;
} cli_common;
extern cli_common cli_flags;

/* Parses argv into obj by cmd's table, with positional words (pointers into argv). Returns -1 to go on, or an exit code
 * (help was printed, usage was wrong). obj may be NULL when the command has no options. */
int cli_parse(const cli_command *cmd, int argc, char **argv, void *obj, char **positional, int *n_positional,
              int min_positional, int max_positional);
/* The same with `key=value` words first read from a YAML file given as the first positional word. */
int cli_fail(fm_status s); /* prints the error record; returns the exit code */
/* What a command found: json itself with --json, else as text_of words it. Frees json; prints the error of a status
 * other than FM_OK instead. Returns the exit code. */
int cli_report(fm_status s, char *json, fm_status (*text_of)(char **text, const char *json));
int cli_usage(const cli_command *cmd, const char *fmt, ...) FM_PRINTF(2, 3); /* exit code 2 */

void cli_help(const cli_command *cmd);
void cli_help_all(void);
const cli_command *cli_find(int argc, char **argv, int *n_words);
extern const cli_command *const cli_commands[];
extern const int cli_n_commands;

/* Terminal. */
void cli_ui_init(void);
void cli_ui_clear(void);              /* removes the progress line before other output */
void cli_ui_status(const char *line); /* replaces the progress line (terminal) or prints it now and then */
bool cli_is_tty(FILE *f);
int cli_columns(void);
void cli_say(const char *fmt, ...) FM_PRINTF(1, 2); /* a message to stderr unless --quiet */
int cli_signal(void);                               /* signal that asked to stop, 0 = none */

/* Small formatters into a caller's buffer. */
const char *cli_bytes(char *buf, size_t cap, double v);
const char *cli_count(char *buf, size_t cap, double v);
const char *cli_seconds(char *buf, size_t cap, double v);
void cli_json_string(FILE *f, const char *s);
/* Text of n bytes; bytes that are not UTF-8 become U+FFFD. */
void cli_json_bytes(FILE *f, const char *s, size_t n);
void cli_json_number(FILE *f, double v); /* null when not finite */

/* A growing line reader over a stream; the returned buffer is reused. NULL at the end. */
char *cli_read_line(FILE *f, size_t *n);

#endif
