/* fathom generate */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/sampling.h"
#include "fathom/engine.h"
#include "fathom/jsonl.h"

static const fm_option table[] = {
    {.key = "prompt",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(prompt),
     .aliases = "p",
     .help = "Text to continue; without it, JSONL {\"prompt\":...} is read from standard input."},
    SAMPLING_ROWS,
    {.key = "logprobs",
     .type = FM_OPT_INT,
     SAMPLING_FIELD(logprobs),
     .def = "0",
     .min = -1,
     .max = 100,
     .help = "With --json or JSONL: log-probabilities of each token, and of this many alternatives; -1 = of the token "
             "alone."},
    {.key = "ignore_eos", .type = FM_OPT_BOOL, SAMPLING_FIELD(ignore_eos), .help = "Go on after the end token."},
    {.key = "json_schema",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(json_schema),
     .metavar = "SCHEMA",
     .help = "The text is JSON valid under this schema (a file, or the schema itself); {} is any JSON value."},
    {.key = "regex",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(regex),
     .metavar = "EXPRESSION",
     .help = "The text matches this regular expression as a whole."},
    {.key = "grammar",
     .type = FM_OPT_STR,
     SAMPLING_FIELD(grammar),
     .metavar = "FILE",
     .help = "The text follows the GBNF grammar in this file, from its rule \"root\"."},
    CLI_ROWS_DRAFT(sampling_args),
    {.key = "no_cache",
     .type = FM_OPT_BOOL,
     SAMPLING_FIELD(no_cache),
     .help = "Compute the whole prefix again for each token (a check: the text is the same)."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

typedef struct output {
    bool stream, details;
    char *text;
    size_t n, cap;
    FILE *tokens; /* JSON of the tokens, when asked for */
    int64_t n_tokens;
    double first_s, start_s, last_s;
    bool failed;
    /* With an engine: */
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool done, stopped;
    fm_status status;
    char message[1600];
    fm_finish finish;
    int n_guessed, n_accepted;
} output;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void token_json(output *o, const fm_token_out *t) {
    fprintf(o->tokens, "%s{\"id\":%d,\"text\":", o->n_tokens ? "," : "", t->id);
    cli_json_bytes(o->tokens, t->text, t->text_len);
    fputs(",\"logprob\":", o->tokens);
    cli_json_number(o->tokens, t->logprob);
    fputs(",\"top\":[", o->tokens);
    for (int i = 0; i < t->n_top; i++) {
        fprintf(o->tokens, "%s{\"id\":%d,\"logprob\":", i ? "," : "", t->top_ids[i]);
        cli_json_number(o->tokens, t->top_logprobs[i]);
        fputc('}', o->tokens);
    }
    fputs("]}", o->tokens);
}

static bool on_token(void *user, const fm_token_out *t) {
    output *o = user;
    o->last_s = now_s();
    if (o->n_tokens == 0) {
        o->first_s = o->last_s;
    }
    if (t->id >= 0) { /* the end of a grammar may come without one */
        if (o->details) {
            token_json(o, t);
        }
        o->n_tokens++;
    }
    if (o->stream) {
        fwrite(t->text, 1, t->text_len, stdout);
        fflush(stdout);
    } else if (t->text_len > 0) {
        if (o->n + t->text_len + 1 > o->cap) {
            size_t cap = (o->cap + t->text_len + 256) * 2;
            char *p = realloc(o->text, cap);
            if (!p) {
                o->failed = true;
                return false;
            }
            o->text = p;
            o->cap = cap;
        }
        memcpy(o->text + o->n, t->text, t->text_len);
        o->n += t->text_len;
    }
    return !ferror(stdout) && !fm_cancelled();
}

static const char *finish_name(fm_finish f) {
    static const char *const name[] = {"length", "stop", "interrupted", "context"};
    return name[f];
}

/* The grammar that the options name, or NULL. */
static fm_status read_grammar(fm_grammar **out, const sampling_args *a) {
    *out = NULL;
    return a->json_schema ? fm_grammar_open(out, FM_GRAMMAR_JSON_SCHEMA, a->json_schema)
           : a->regex     ? fm_grammar_open(out, FM_GRAMMAR_REGEX, a->regex)
           : a->grammar   ? fm_grammar_open(out, FM_GRAMMAR_GBNF, a->grammar)
                          : FM_OK;
}

/* On the engine's thread. */
static void on_event(void *user, const fm_engine_event *v) {
    output *o = user;
    fm_token_out t = {.id = v->id,
                      .text = v->text,
                      .text_len = v->text_len,
                      .logprob = v->logprob,
                      .top_ids = v->top_ids,
                      .top_logprobs = v->top_logprobs,
                      .n_top = v->n_top,
                      .last = v->last};
    bool goes_on = o->stopped || v->status != FM_OK || on_token(o, &t);
    pthread_mutex_lock(&o->lock);
    o->stopped = o->stopped || !goes_on;
    if (v->last) {
        o->done = true;
        o->status = v->status;
        snprintf(o->message, sizeof o->message, "%s", v->message);
        o->finish = v->finish;
        o->n_guessed = v->n_guessed;
        o->n_accepted = v->n_accepted;
    }
    pthread_cond_signal(&o->change);
    pthread_mutex_unlock(&o->lock);
}

static fm_status by_engine(fm_engine *e, const fm_tokens *ids, const fm_sampling *sampling, output *o,
                           fm_finish *finish) {
    fm_request *r;
    fm_generation g = {.size = sizeof g, .sampling = sampling, .fn = on_event, .user = o};
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->change, NULL);
    fm_status s = fm_engine_submit(&r, e, ids->ids, (int32_t)ids->n, &g);
    if (s == FM_OK) {
        pthread_mutex_lock(&o->lock);
        while (!o->done) {
            pthread_cond_wait(&o->change, &o->lock);
            if (o->stopped) {
                fm_request_cancel(r);
            }
        }
        pthread_mutex_unlock(&o->lock);
        fm_request_release(r);
        *finish = o->stopped ? FM_FINISH_STOPPED : o->finish;
        s = o->stopped ? FM_OK : o->status;
        if (s != FM_OK) {
            fprintf(stderr, "%s\n", o->message); /* the record is the other thread's */
        }
    }
    pthread_cond_destroy(&o->change);
    pthread_mutex_destroy(&o->lock);
    return s;
}

/* Speculative decoding is the engine's: a single sequence of it. *out stays NULL when it is not asked for. */
static fm_status start_engine(fm_engine **out, fm_model **draft, fm_model *m, const sampling_args *a) {
    *out = NULL;
    if (!a->draft && !a->lookup && !a->mtp) {
        return FM_OK;
    }
    if (a->draft) {
        fm_model_options mo = {.size = sizeof mo, .dtype = a->dtype, .threads = 1};
        fm_status s = fm_model_open(draft, a->draft, &mo);
        if (s != FM_OK) {
            return s;
        }
    }
    fm_engine_options o = {.size = sizeof o,
                           .ctx_size = a->ctx_size,
                           .parallel = 1,
                           .draft = *draft,
                           .lookup = a->lookup,
                           .mtp = a->mtp,
                           .draft_max = (int32_t)a->draft_max};
    return fm_engine_new(out, m, &o);
}

/* One prompt, from tokens to printed text. */
static fm_status one(fm_model *m, fm_engine *e, const fm_tokenizer *tok, const sampling_args *a, const char *prompt,
                     size_t n_prompt, fm_grammar *grammar, bool stream) {
    fm_tokens ids = {0};
    fm_encode_options eo = {.size = sizeof eo, .allow_special = true, .add_special = true, .n_threads = 1};
    fm_session *session = NULL;
    output o = {.stream = stream, .details = !stream && a->logprobs != 0, .start_s = now_s()};
    char *detail = NULL;
    size_t n_detail = 0;
    fm_finish finish = FM_FINISH_LENGTH;
    fm_status s = fm_tokenizer_encode(&ids, tok, prompt, n_prompt, &eo);
    if (s == FM_OK && !e) {
        int64_t ctx = a->ctx_size > 0 ? a->ctx_size : (int64_t)ids.n + a->max_new_tokens;
        s = fm_session_new(&session, m, ctx);
    }
    if (o.details) {
        o.tokens = open_memstream(&detail, &n_detail);
        o.details = o.tokens != NULL;
    }
    if (s == FM_OK) {
        if (stream) {
            fwrite(prompt, 1, n_prompt, stdout);
            fflush(stdout);
        }
        fm_sampling sampling = sampling_from(a);
        sampling.grammar = grammar;
        s = e ? by_engine(e, &ids, &sampling, &o, &finish)
              : fm_session_generate(session, ids.ids, (int32_t)ids.n, &sampling, on_token, &o, &finish);
    }
    if (o.tokens) {
        fclose(o.tokens);
    }
    if (s == FM_OK && stream) {
        fputc('\n', stdout);
        fflush(stdout);
        double rest = o.last_s - o.first_s;
        cli_say("%lld tokens; first after %.2f s, then %.1f tokens/s", (long long)o.n_tokens, o.first_s - o.start_s,
                rest > 0 ? (double)(o.n_tokens - 1) / rest : 0);
        if (e) {
            cli_say("%d tokens were guessed, %d of them right", o.n_guessed, o.n_accepted);
        }
    } else if (s == FM_OK) {
        fputs("{\"text\":", stdout);
        cli_json_bytes(stdout, o.text ? o.text : "", o.n);
        printf(",\"n_prompt_tokens\":%zu,\"n_tokens\":%lld,\"finish_reason\":\"%s\"", ids.n, (long long)o.n_tokens,
               finish_name(finish));
        if (e) {
            printf(",\"n_guessed\":%d,\"n_accepted\":%d", o.n_guessed, o.n_accepted);
        }
        if (detail) {
            printf(",\"tokens\":[%s]", detail);
        }
        fputs("}\n", stdout);
    }
    free(detail);
    free(o.text);
    fm_session_free(session);
    fm_tokens_free(&ids);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    sampling_args a;
    char *pos[128] = {0};
    int n = 0;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 128 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 1, 1);
    if (rc < 0 && (a.json_schema != NULL) + (a.regex != NULL) + (a.grammar != NULL) > 1) {
        rc = cli_usage(cmd, "--json-schema, --regex and --grammar: a text can follow only one of them");
    }
    if (rc < 0) {
        fm_grammar *grammar = NULL;
        fm_engine *engine = NULL;
        fm_model *m = NULL, *draft = NULL;
        const fm_tokenizer *tok = NULL;
        fm_model_options mo = {.size = sizeof mo,
                               .dtype = a.dtype,
                               .threads = (int)a.threads,
                               .adapter = a.adapter,
                               .column = (int)a.column};
        s = read_grammar(&grammar, &a);
        s = s == FM_OK ? fm_model_open(&m, pos[0], &mo) : s;
        if (s == FM_OK) {
            s = fm_model_tokenizer(&tok, m);
        }
        s = s == FM_OK ? start_engine(&engine, &draft, m, &a) : s;
        if (s == FM_OK && a.prompt) {
            s = one(m, engine, tok, &a, a.prompt, strlen(a.prompt), grammar, !cli_flags.json);
        } else if (s == FM_OK) {
            size_t len, no = 0, n_prompt = 0;
            char *line;
            if (cli_is_tty(stdin)) {
                cli_say(
                    "reading JSONL {\"prompt\":...} from the terminal; --prompt TEXT gives one on the command line");
            }
            while (s == FM_OK && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
                char name[64], *prompt = NULL;
                snprintf(name, sizeof name, "standard input:%zu", ++no);
                if (len == 0) {
                    continue;
                }
                s = fm_jsonl_string(&prompt, &n_prompt, line, len, "prompt", name);
                if (s == FM_OK) {
                    s = one(m, engine, tok, &a, prompt, n_prompt, grammar, false);
                }
                fm_string_free(prompt);
                fflush(stdout);
            }
        }
        rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
        fm_engine_free(engine);
        fm_model_close(m);
        fm_model_close(draft);
        fm_grammar_free(grammar);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_generate = {
    .name = "generate",
    .args = "MODEL [--prompt TEXT] [options]",
    .summary = "Continue a prompt, or each prompt of a JSONL stream",
    .examples = "fathom generate out/demo --prompt 'My fellow citizens,' --max-new-tokens 100\n"
                "fathom generate out/demo --prompt 'Once' --temperature 0 --json --logprobs 5\n"
                "fathom generate out/demo --prompt 'A date: ' --regex '[0-9]{4}-[0-9]{2}-[0-9]{2}'\n"
                "fathom generate out/demo --prompt 'As JSON: ' --json-schema schema.json --json\n"
                "fathom generate large --draft small --prompt 'Once' --temperature 0\n"
                "fathom generate out/demo < prompts.jsonl > answers.jsonl",
    .options = options,
    .run = run,
};
