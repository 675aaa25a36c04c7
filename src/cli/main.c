/* fathom: one program for the whole life of a language model. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/data_job.h"

#define CLI_COMMAND(name) extern const cli_command cli_cmd_##name;
#include "cli/commands.def"
#undef CLI_COMMAND

const cli_command *const cli_commands[] = {
#define CLI_COMMAND(name) &cli_cmd_##name,
#include "cli/commands.def"
#undef CLI_COMMAND
};
const int cli_n_commands = (int)(sizeof cli_commands / sizeof cli_commands[0]);

static volatile sig_atomic_t stop_signal;

int cli_signal(void) {
    return (int)stop_signal;
}

/* First signal: ask the running call to save and return. Second: leave at once; what was saved stays intact. */
static void on_signal(int sig) {
    if (stop_signal) {
        _exit(128 + sig);
    }
    stop_signal = sig;
    fm_cancel();
}

static void install_signals(void) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, reported as such */
}

const cli_command *cli_find(int argc, char **argv, int *n_words) {
    const cli_command *one = NULL;
    for (int i = 0; i < cli_n_commands; i++) {
        const char *name = cli_commands[i]->name;
        const char *space = strchr(name, ' ');
        if (!space) {
            if (argc > 0 && strcmp(name, argv[0]) == 0) {
                one = cli_commands[i];
            }
        } else if (argc > 1 && strlen(argv[0]) == (size_t)(space - name) &&
                   strncmp(name, argv[0], (size_t)(space - name)) == 0 && strcmp(space + 1, argv[1]) == 0) {
            *n_words = 2;
            return cli_commands[i];
        }
    }
    if (!one && argc > 1 && strcmp(argv[0], "data") == 0) {
        *n_words = 2;
        return cli_data_step(argv[1]);
    }
    *n_words = 1;
    return one;
}

static bool is_group(const char *word) {
    size_t n = strlen(word);
    for (int i = 0; i < cli_n_commands; i++) {
        if (strncmp(cli_commands[i]->name, word, n) == 0 && cli_commands[i]->name[n] == ' ') {
            return true;
        }
    }
    return false;
}

static void help_group(const char *word) {
    size_t n = strlen(word);
    printf("Usage: fathom %s COMMAND ...\n\n", word);
    for (int i = 0; i < cli_n_commands; i++) {
        if (strncmp(cli_commands[i]->name, word, n) == 0 && cli_commands[i]->name[n] == ' ') {
            printf("  %-20s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
        }
    }
    printf("\n'fathom %s COMMAND --help' shows options and examples.\n", word);
}

/* Takes --json, --quiet out of argv; returns true when --help was among them. */
static bool take_common(int *argc, char **argv) {
    bool help = false;
    int kept = 0;
    bool options = true;
    for (int i = 0; i < *argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        }
        if (options && strcmp(argv[i], "--json") == 0) {
            cli_flags.json = true;
        } else if (options && (strcmp(argv[i], "--quiet") == 0 || strcmp(argv[i], "-q") == 0)) {
            cli_flags.quiet = true;
        } else if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            help = true;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    return help;
}

int main(int argc, char **argv) {
    install_signals();
    char **args = argv + 1;
    int n = argc - 1;
    if (n > 0 && (strcmp(args[0], "--version") == 0 || strcmp(args[0], "version") == 0)) {
        printf("fathom %s\n", FATHOM_VERSION);
        return 0;
    }
    bool help = take_common(&n, args);
    if (n > 0 && strcmp(args[0], "help") == 0) {
        help = true;
        args++;
        n--;
    }
    if (n == 0) {
        cli_help_all();
        return help ? 0 : 2;
    }
    int words = 1;
    const cli_command *cmd = cli_find(n, args, &words);
    if (!cmd) {
        if (is_group(args[0]) && (n == 1 || help)) {
            help_group(args[0]);
            return help ? 0 : 2;
        }
        fprintf(stderr, "fathom: there is no command '%s%s%s'\n", args[0], is_group(args[0]) ? " " : "",
                is_group(args[0]) ? args[1] : "");
        fprintf(stderr, "        'fathom --help' lists them\n");
        return 2;
    }
    if (help) {
        cli_help(cmd);
        return 0;
    }
    cli_ui_init();
    int rc = cmd->run(cmd, n - words, args + words);
    cli_ui_clear();
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "fathom: cannot write the results: the output was closed or the disk is full\n");
        return rc ? rc : 1;
    }
    if (rc == 130 && cli_signal() == SIGTERM) {
        return 143;
    }
    return rc;
}
