/* fathom eval */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/evaluate.h"
#include "fathom/runs.h"

/* A registry that cannot be written is told of and ends nothing. */
static void note(const char *json, int64_t started_ms) {
    fm_registry *r = NULL;
    int64_t id = 0;
    fm_status s = fm_registry_open(&r, NULL, true);
    s = s == FM_OK ? fm_registry_add_eval(r, json, started_ms, &id) : s;
    if (s != FM_OK) {
        cli_say("the registry of runs was not written: %s", fm_error_get().message);
    } else if (id > 0) {
        cli_say("run %lld; 'fathom runs report %lld -o FILE.html' makes a page of it", (long long)id, (long long)id);
    }
    fm_registry_close(r);
}

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_eval_config *cfg = NULL, *scratch = NULL;
    char *json = NULL, *text = NULL;
    fm_status s = fm_eval_config_new(&cfg);
    if (s == FM_OK) {
        s = fm_eval_config_new(&scratch);
    }
    int rc = s == FM_OK ? cli_config(cmd, argc, argv, cfg, scratch, false) : cli_fail(s);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (rc < 0) {
        s = fm_eval_run(cfg, &json);
        if (s == FM_OK && !cli_flags.json) {
            s = fm_eval_text(&text, json);
        }
        rc = s == FM_OK ? 0 : cli_fail(s);
    }
    if (rc == 0 && json) {
        cli_ui_clear();
        printf(cli_flags.json ? "%s\n" : "%s", cli_flags.json ? json : text);
        note(json, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    }
    fm_string_free(text);
    fm_string_free(json);
    fm_eval_config_free(scratch);
    fm_eval_config_free(cfg);
    return rc;
}

const cli_command cli_cmd_eval = {
    .name = "eval",
    .args = "[CONFIG.yaml] --model DIR --task NAME|FILE [key=value ...]",
    .summary = "Score a model on a task, with intervals, slices and a second model beside it",
    .about = "Multiple choice and GSM8K are scored as lm-evaluation-harness does; docs/evaluation.md has the "
             "definitions.\nIntervals are a bootstrap over rows, differences of two models are paired.",
    .examples = "fathom eval --model out --task ppl --data held.txt\n"
                "fathom eval --model out --task test_mc.csv --slice-by length\n"
                "fathom eval --model out --task qa --data test.jsonl --metrics bleu,rougeL --max-new-tokens 128\n"
                "fathom eval --model out --task mmlu --data mmlu --num-fewshot 5 --json\n"
                "fathom eval --model new --compare old --task gsm8k --data test.jsonl --fewshot-data train.jsonl",
    .options = fm_eval_options,
    .run = run,
};
