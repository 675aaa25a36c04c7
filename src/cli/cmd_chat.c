/* fathom chat */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/sampling.h"

static const fm_option table[] = {
    {.key = "prompt",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(prompt),
     .aliases = "p",
     .help = "First message; the rest comes from the terminal."},
    {.key = "system", .type = FM_OPT_STR, SAMPLING_FIELD(system), .help = "System message."},
    SAMPLING_ROWS,
    {0},
};
static const fm_option *options(void) {
    return table;
}

typedef struct chat {
    fm_model *model;
    const fm_tokenizer *tok;
    fm_session *session;
    const sampling_args *args;
    bool template_chatml; /* the model has a chat template (ChatML form); else turns are plain text */
    int64_t n_tokens;
    double start_s, first_s, last_s;
} chat;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool on_token(void *user, const fm_token_out *t) {
    chat *c = user;
    c->last_s = now_s();
    if (c->n_tokens++ == 0) {
        c->first_s = c->last_s;
    }
    fwrite(t->text, 1, t->text_len, stdout);
    fflush(stdout);
    return !ferror(stdout) && !fm_cancelled();
}

/* Text of one turn as the model was trained to see it. A base model has no roles: its turns are lines. */
static char *turn_text(const chat *c, const char *user_text, bool first) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) {
        return NULL;
    }
    if (c->template_chatml) {
        if (first && c->args->system) {
            fprintf(f, "<|im_start|>system\n%s<|im_end|>\n", c->args->system);
        }
        fprintf(f, "%s<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n", first ? "" : "\n", user_text);
    } else {
        if (first && c->args->system) {
            fprintf(f, "%s\n", c->args->system);
        }
        fprintf(f, "%s%s", first ? "" : "\n", user_text);
    }
    fclose(f);
    return text;
}

static fm_status turn(chat *c, const char *user_text, bool first) {
    fm_tokens ids = {0};
    char *text = turn_text(c, user_text, first);
    fm_encode_options eo = {
        .size = sizeof eo, .allow_special = c->template_chatml, .add_special = first, .n_threads = 1};
    fm_finish finish;
    if (!text) {
        return FM_ERR_NO_MEMORY;
    }
    fm_status s = fm_tokenizer_encode(&ids, c->tok, text, strlen(text), &eo);
    if (s == FM_OK) {
        fm_sampling o = sampling_from(c->args);
        o.seed += (uint64_t)fm_session_length(c->session); /* turns differ, a conversation repeats */
        c->n_tokens = 0;
        c->start_s = now_s();
        s = fm_session_generate(c->session, ids.ids, (int32_t)ids.n, &o, on_token, c, &finish);
        if (s == FM_OK) {
            fputc('\n', stdout);
            fflush(stdout);
            if (finish == FM_FINISH_CONTEXT) {
                cli_say("(the context of the model is full; /new starts over)");
            } else if (cli_is_tty(stderr)) {
                double rest = c->last_s - c->first_s;
                cli_say("(%lld tokens, first after %.2f s, %.1f tokens/s)", (long long)c->n_tokens,
                        c->first_s - c->start_s, rest > 0 ? (double)(c->n_tokens - 1) / rest : 0);
            }
        }
    }
    fm_tokens_free(&ids);
    free(text);
    return s;
}

static int loop(chat *c) {
    bool first = true, tty = cli_is_tty(stdin);
    const char *line = c->args->prompt;
    size_t len = 0;
    if (tty) {
        cli_say("%s /new starts over, /exit or Ctrl-D leaves.",
                c->template_chatml ? "Type a message."
                                   : "This model has no chat template: it continues what you type.");
    }
    for (;;) {
        if (!line) {
            if (tty) {
                fputs("> ", stderr);
                fflush(stderr);
            }
            line = cli_read_line(stdin, &len);
        }
        if (!line || strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
            return 0;
        }
        fm_status s = FM_OK;
        if (strcmp(line, "/new") == 0) {
            s = fm_session_truncate(c->session, 0);
            first = true;
        } else if (*line) {
            s = turn(c, line, first);
            first = false;
        }
        if (s != FM_OK) {
            return cli_fail(s);
        }
        if (fm_cancelled()) {
            return 130;
        }
        line = NULL;
    }
}

static int run(const cli_command *cmd, int argc, char **argv) {
    sampling_args a = {0}; /* chat has no row for some of its fields */
    char *pos[128] = {0};
    int n = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 128 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 1);
    if (rc < 0) {
        chat c = {.args = &a};
        fm_model_info info;
        fm_model_options mo = {.size = sizeof mo, .dtype = a.dtype, .threads = (int)a.threads, .adapter = a.adapter};
        s = fm_model_open(&c.model, pos[0], &mo);
        if (s == FM_OK) {
            s = fm_model_tokenizer(&c.tok, c.model);
        }
        if (s == FM_OK) {
            s = fm_model_get_info(&info, c.model);
        }
        if (s == FM_OK) {
            const char *t = fm_tokenizer_chat_template(c.tok);
            c.template_chatml = t && strstr(t, "<|im_start|>");
            if (t && !c.template_chatml) {
                cli_say("warning: this model's chat template is not one this version renders; turns are sent as plain "
                        "text");
            }
            s = fm_session_new(&c.session, c.model,
                               a.ctx_size > 0             ? a.ctx_size
                               : info.max_position < 4096 ? info.max_position
                                                          : 4096);
        }
        rc = s == FM_OK ? loop(&c) : cli_fail(s);
        fm_session_free(c.session);
        fm_model_close(c.model);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_chat = {
    .name = "chat",
    .args = "MODEL [options]",
    .summary = "Talk with a model in the terminal",
    .examples = "fathom chat out/demo\nfathom chat out/demo --temperature 0.7 --max-new-tokens 200",
    .options = options,
    .run = run,
};
