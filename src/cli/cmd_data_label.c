/* fathom data label */
#include <string.h>

#include "cli/cli.h"
#include "cli/local_chat.h"
#include "fathom/evaluate.h"
#include "fathom/label.h"
#include "fathom/model.h"

/* Whether it answers questions; else it was trained to label. */
static fm_status generates(bool *out, const char *path) {
    fm_model *m = NULL;
    fm_status s = fm_model_open(&m, path, NULL);
    *out = s == FM_OK && fm_model_generates(m);
    fm_model_close(m);
    return s;
}

static fm_status go(const fm_label_config *c, const char *action) {
    cli_local_chat *local = NULL;
    char *report = NULL;
    fm_status s = FM_OK;
    bool chats = false;
    fm_data_use_models();
    if (fm_label_local_model(c) && strcmp(action, "serve") == 0) {
        s = generates(&chats, fm_label_local_model(c));
        s = s == FM_OK && chats ? cli_local_chat_new(&local, fm_label_local_model(c)) : s;
    }
    if (s == FM_OK) {
        s = fm_label_run(&report, c, action, local ? cli_local_chat_ask : NULL, local);
    }
    if (s == FM_OK) {
        fputs(report, stdout);
    }
    cli_local_chat_free(local);
    fm_string_free(report);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_label_config *c = NULL;
    char *word[256];
    int n = 0;
    if (argc > 256) {
        return cli_usage(cmd, "too many arguments");
    }
    fm_status s = fm_label_config_new(&c);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = cli_parse(cmd, argc, argv, c, word, &n, 1, 1);
    if (rc < 0) {
        s = go(c, word[0]);
        rc = s == FM_OK ? 0 : cli_fail(s);
    }
    fm_label_config_free(c);
    return rc;
}

const cli_command cli_cmd_data_label = {
    .name = "data label",
    .args = "ACTION [options]",
    .summary = "Labelling with Label Studio: import, push, serve, agree, review, release",
    .about = "import   annotations from an export file or a server as rows, checked against a guide\n"
             "push     labels of rows, or of a trained model, as predictions\n"
             "serve    the ML backend: live suggestions by a trained model, or a language model and the guide\n"
             "agree    agreement of annotators: Cohen's and Fleiss' kappa\n"
             "review   verdicts of three levels, error rate of each annotator\n"
             "release  rows that passed the required level\n"
             "What to label next: fathom data select. All of it: docs/labelling.md.",
    .examples =
        "fathom data label import -i export.json -o rows.jsonl --guide guide.yaml --rejects bad.jsonl\n"
        "fathom data label import --url http://localhost:8080 --project 3 --ids 100-200 -o rows.jsonl\n"
        "fathom data label push -i predicted.jsonl --url http://localhost:8080 --from-name sentiment\n"
        "fathom data label push -i tasks.jsonl --url http://localhost:8080 --local-model models/sentiment\n"
        "fathom data label serve --guide guide.yaml --local-model models/7b --port 9090\n"
        "fathom data label serve --local-model models/sentiment --from-name sentiment\n"
        "fathom data label agree -i rows.jsonl\n"
        "fathom data label review -i rows.jsonl --log log.jsonl --level lead --reviewer eve --verdicts v.jsonl\n"
        "fathom data label release -i rows.jsonl --log log.jsonl --require expert -o train.jsonl",
    .options = fm_label_options,
    .run = run,
};
