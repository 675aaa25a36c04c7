/* fathom chat */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/sampling.h"
#include "fathom/template.h"

static const fm_option table[] = {
    {.key = "prompt",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(prompt),
     .aliases = "p",
     .help = "First message; the rest comes from the terminal."},
    {.key = "system", .type = FM_OPT_STR, SAMPLING_FIELD(system), .help = "System message."},
    {.key = "template",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(template),
     .help = "Another chat template than the model's: a built-in name, or a file."},
    {.key = "template_vars",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(template_vars),
     .help = "JSON object with variables of the template, such as {\"enable_thinking\":false}."},
    SAMPLING_ROWS,
    {0},
};
static const fm_option *options(void) {
    return table;
}

typedef struct chat {
    fm_model *model;
    const fm_tokenizer *tok;
    fm_template *template; /* NULL: a base model, whose turns are plain text */
    int32_t turn_end;      /* token that ends an answer beside the model's own end tokens; -1 = none */
    fm_session *session;
    const sampling_args *args;
    char *history; /* JSON members of the messages so far, without brackets */
    size_t n_history;
    int32_t *seen; /* [n_seen] what the session was given and gave */
    size_t n_seen, cap_seen;
    char *answer; /* of this turn */
    FILE *answer_file;
    size_t n_answer;
    int64_t n_tokens;
    double start_s, first_s, last_s;
} chat;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool remember(chat *c, const int32_t *ids, size_t n) {
    if (c->n_seen + n > c->cap_seen) {
        size_t cap = 2 * (c->n_seen + n);
        int32_t *more = realloc(c->seen, cap * sizeof *more);
        if (!more) {
            return false;
        }
        c->seen = more;
        c->cap_seen = cap;
    }
    memcpy(c->seen + c->n_seen, ids, n * sizeof *ids);
    c->n_seen += n;
    return true;
}

static bool on_token(void *user, const fm_token_out *t) {
    chat *c = user;
    c->last_s = now_s();
    if (c->n_tokens++ == 0) {
        c->first_s = c->last_s;
    }
    if (t->id == c->turn_end || !remember(c, &t->id, 1)) {
        return false;
    }
    fwrite(t->text, 1, t->text_len, stdout);
    fflush(stdout);
    if (c->answer_file) {
        fwrite(t->text, 1, t->text_len, c->answer_file);
    }
    return !ferror(stdout) && !fm_cancelled();
}

/* ---- With a template ---------------------------------------------------------------------------- */

static fm_status add_message(chat *c, const char *role, const char *content, size_t n) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f) {
        return FM_ERR_NO_MEMORY;
    }
    if (c->history) {
        fprintf(f, "%s,", c->history);
    }
    fprintf(f, "{\"role\":\"%s\",\"content\":", role);
    cli_json_bytes(f, content, n);
    fputc('}', f);
    if (fclose(f) != 0) {
        free(text);
        return FM_ERR_NO_MEMORY;
    }
    free(c->history);
    c->history = text;
    c->n_history = len;
    return FM_OK;
}

/* Ids of the whole conversation with the generation prompt. The template writes BOS itself, so none is added. */
static fm_status conversation_ids(fm_tokens *ids, const chat *c) {
    const fm_template_options o = {.size = sizeof o, .add_generation_prompt = true, .vars = c->args->template_vars};
    const fm_encode_options eo = {.size = sizeof eo, .allow_special = true, .n_threads = 1};
    fm_template_result r;
    char *list = malloc(c->n_history + 3);
    if (!list) {
        return FM_ERR_NO_MEMORY;
    }
    int n = snprintf(list, c->n_history + 3, "[%s]", c->history ? c->history : "");
    fm_status s = fm_template_render(&r, c->template, list, (size_t)n, &o);
    free(list);
    if (s == FM_OK) {
        s = fm_tokenizer_encode(ids, c->tok, r.text, r.n, &eo);
    }
    fm_template_result_free(&r);
    return s;
}

/* The session keeps what the new prompt has in common with what it saw; *skip ids need not be given again. */
static fm_status keep_common(size_t *skip, chat *c, const fm_tokens *ids) {
    size_t n = 0, most = (size_t)fm_session_length(c->session);
    most = most < c->n_seen ? most : c->n_seen;
    while (n < most && n + 1 < ids->n && c->seen[n] == ids->ids[n]) {
        n++;
    }
    *skip = n;
    c->n_seen = n;
    fm_status s = fm_session_truncate(c->session, (int64_t)n);
    return s == FM_OK && !remember(c, ids->ids + n, ids->n - n) ? FM_ERR_NO_MEMORY : s;
}

static fm_status templated_prompt(fm_tokens *ids, size_t *skip, chat *c, const char *user_text) {
    fm_status s = FM_OK;
    if (!c->history && c->args->system) {
        s = add_message(c, "system", c->args->system, strlen(c->args->system));
    }
    s = s == FM_OK ? add_message(c, "user", user_text, strlen(user_text)) : s;
    s = s == FM_OK ? conversation_ids(ids, c) : s;
    return s == FM_OK ? keep_common(skip, c, ids) : s;
}

/* The token that ends an answer, when the template's mark is one. */
static fm_status find_turn_end(chat *c) {
    const fm_encode_options eo = {.size = sizeof eo, .allow_special = true, .n_threads = 1};
    fm_tokens ids = {0};
    char *mark;
    c->turn_end = -1;
    fm_status s = fm_template_turn_end(&mark, c->template);
    if (s != FM_OK) {
        return FM_OK; /* a template that refuses so short a talk; the model's own end tokens remain */
    }
    s = fm_tokenizer_encode(&ids, c->tok, mark, strlen(mark), &eo);
    if (s == FM_OK && ids.n > 0 && fm_tokenizer_is_special(c->tok, ids.ids[0])) {
        c->turn_end = ids.ids[0];
    }
    fm_tokens_free(&ids);
    fm_string_free(mark);
    return s;
}

/* ---- Turns -------------------------------------------------------------------------------------- */

/* Without a template: a base model has no roles, its turns are lines. */
static fm_status plain_prompt(fm_tokens *ids, const chat *c, const char *user_text, bool first) {
    const fm_encode_options eo = {.size = sizeof eo, .add_special = first, .n_threads = 1};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) {
        return FM_ERR_NO_MEMORY;
    }
    if (first && c->args->system) {
        fprintf(f, "%s\n", c->args->system);
    }
    fprintf(f, "%s%s", first ? "" : "\n", user_text);
    fclose(f);
    fm_status s = text ? fm_tokenizer_encode(ids, c->tok, text, n, &eo) : FM_ERR_NO_MEMORY;
    free(text);
    return s;
}

static void report(const chat *c, fm_finish finish) {
    fputc('\n', stdout);
    fflush(stdout);
    if (finish == FM_FINISH_CONTEXT) {
        cli_say("(the context of the model is full; /new starts over)");
    } else if (cli_is_tty(stderr)) {
        double rest = c->last_s - c->first_s;
        cli_say("(%lld tokens, first after %.2f s, %.1f tokens/s)", (long long)c->n_tokens, c->first_s - c->start_s,
                rest > 0 ? (double)(c->n_tokens - 1) / rest : 0);
    }
}

static fm_status turn(chat *c, const char *user_text, bool first) {
    fm_tokens ids = {0};
    fm_finish finish;
    size_t skip = 0;
    fm_status s = c->template ? templated_prompt(&ids, &skip, c, user_text) : plain_prompt(&ids, c, user_text, first);
    if (s == FM_OK) {
        fm_sampling o = sampling_from(c->args);
        o.seed += (uint64_t)fm_session_length(c->session); /* turns differ, a conversation repeats */
        c->n_tokens = 0;
        c->start_s = now_s();
        c->answer_file = c->template ? open_memstream(&c->answer, &c->n_answer) : NULL;
        s = fm_session_generate(c->session, ids.ids + skip, (int32_t)(ids.n - skip), &o, on_token, c, &finish);
        if (s == FM_OK) {
            report(c, finish);
        }
    }
    if (c->answer_file) {
        fclose(c->answer_file);
        c->answer_file = NULL;
        s = s == FM_OK ? add_message(c, "assistant", c->answer ? c->answer : "", c->n_answer) : s;
    }
    free(c->answer);
    c->answer = NULL;
    fm_tokens_free(&ids);
    return s;
}

static fm_status start_over(chat *c) {
    free(c->history);
    c->history = NULL;
    c->n_history = 0;
    c->n_seen = 0;
    return fm_session_truncate(c->session, 0);
}

static int loop(chat *c) {
    bool first = true, tty = cli_is_tty(stdin);
    const char *line = c->args->prompt;
    size_t len = 0;
    if (tty) {
        cli_say("%s /new starts over, /exit or Ctrl-D leaves.",
                c->template ? "Type a message." : "This model has no chat template: it continues what you type.");
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
            s = start_over(c);
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

/* --template, else the model's own, else none. */
static fm_status open_template(chat *c) {
    if (!c->args->template && !fm_tokenizer_chat_template(c->tok)) {
        return FM_OK;
    }
    fm_status s = fm_template_open(&c->template, c->args->template, c->tok);
    return s == FM_OK ? find_turn_end(c) : s;
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
        chat c = {.args = &a, .turn_end = -1};
        fm_model_info info;
        fm_model_options mo = {.size = sizeof mo,
                               .dtype = a.dtype,
                               .threads = (int)a.threads,
                               .adapter = a.adapter,
                               .column = (int)a.column};
        s = fm_model_open(&c.model, pos[0], &mo);
        if (s == FM_OK) {
            s = fm_model_tokenizer(&c.tok, c.model);
        }
        if (s == FM_OK) {
            s = fm_model_get_info(&info, c.model);
        }
        if (s == FM_OK) {
            s = open_template(&c);
        }
        if (s == FM_OK) {
            s = fm_session_new(&c.session, c.model,
                               a.ctx_size > 0             ? a.ctx_size
                               : info.max_position < 4096 ? info.max_position
                                                          : 4096);
        }
        rc = s == FM_OK ? loop(&c) : cli_fail(s);
        fm_session_free(c.session);
        fm_template_free(c.template);
        fm_model_close(c.model);
        free(c.history);
        free(c.seen);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_chat = {
    .name = "chat",
    .args = "MODEL [options]",
    .summary = "Talk with a model in the terminal",
    .about = "Turns are written by the model's own chat template, or by --template. A model without one continues the "
             "text.",
    .examples = "fathom chat out/demo\nfathom chat out/demo --temperature 0.7 --max-new-tokens 200\nfathom chat "
                "out/base --template chatml --system 'Answer in one sentence.'",
    .options = options,
    .run = run,
};
