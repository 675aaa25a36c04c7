/* fathom data synth */
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/local_chat.h"
#include "fathom/synth.h"

static void report(const fm_synth_report *r, const char *manifest) {
    char a[32], b[32];
    if (cli_flags.json) {
        fputs(manifest, stdout);
        return;
    }
    printf("%lld rows, %lld left out; %lld requests (%lld tried again), %lld answers of an earlier run\n",
           (long long)r->n_rows, (long long)r->n_dropped, (long long)r->n_asked, (long long)r->n_retries,
           (long long)r->n_kept_asks);
    printf("%s tokens of prompts, %s of answers", cli_count(a, sizeof a, (double)r->prompt_tokens),
           cli_count(b, sizeof b, (double)r->completion_tokens));
    if (r->cost > 0) {
        printf(", cost %.4g", r->cost);
    }
    printf(", %s\n", cli_seconds(a, sizeof a, r->seconds));
}

static fm_status go(const fm_synth_config *c) {
    cli_local_chat *local = NULL;
    fm_synth_report r = {.size = sizeof r};
    char *manifest = NULL;
    fm_status s = FM_OK;
    if (fm_synth_local_model(c)) {
        s = cli_local_chat_new(&local, fm_synth_local_model(c));
    }
    if (s == FM_OK) {
        s = fm_synth_run(&r, &manifest, c, local ? cli_local_chat_ask : NULL, local);
    }
    if (s == FM_OK) {
        report(&r, manifest);
    }
    cli_local_chat_free(local);
    fm_string_free(manifest);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_synth_config *c = NULL;
    fm_status s = fm_synth_config_new(&c);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_inputs(cmd, argc, argv, c);
    if (rc < 0) {
        s = go(c);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_ERR_CANCELLED) {
            cli_say("answers so far are kept: the same command goes on from here");
        }
    }
    fm_synth_config_free(c);
    return rc;
}

const cli_command cli_cmd_data_synth = {
    .name = "data synth",
    .args = "--task TASK [-i IN...] -o OUT [options]",
    .summary = "Rows that a language model writes: instructions, questions and answers, dialogues, back-translations",
    .about =
        "The model is a server with the OpenAI API (--endpoint; fathom serve is one) or one of this machine\n"
        "(--local-model). Rows are filtered by form, length and likeness to earlier ones. Answers are kept beside the\n"
        "output until it is complete, so that nothing is paid twice.",
    .examples =
        "fathom data synth --task instruct --seeds seeds.jsonl -n 1000 -o made.jsonl --endpoint "
        "http://127.0.0.1:8080/v1\n"
        "fathom data synth --task qa -i docs.jsonl -o qa.jsonl --endpoint https://api.example.com/v1 --model NAME\n"
        "fathom data synth --task dialogue -i topics.txt --turns 4 -o talks.jsonl --local-model models/7b\n"
        "fathom data synth --task back-translate -i train.jsonl --via German -o more.jsonl --local-model models/7b",
    .options = fm_synth_options,
    .run = run,
};
