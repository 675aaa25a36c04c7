/* Rows of every kind of task about the corpus of train_fixture.h, and runs of several tasks. */
#ifndef TASK_ROWS_H
#define TASK_ROWS_H

#include "train_fixture.h"

enum { WHO, FOX, BOTH, NAMES, FIND, SAY, N_KINDS };

/* A row of each kind about sentence i of the corpus. */
static inline void write_row(FILE *f, int i, int kind, const char *task) {
    char text[256], who[16], verb[16], words[512] = "", tags[512] = "", copy[256];
    int fox = 0;
    bool the = false;
    fx_text(text, sizeof text, i);
    assert_int_equal(sscanf(text, "the %15s %15s", who, verb), 2);
    for (const char *p = text; (p = strstr(p, "fox")) != NULL; p++) {
        fox++;
    }
    fprintf(f, "{");
    if (task) {
        fprintf(f, "\"task\": \"%s\", ", task);
    }
    snprintf(copy, sizeof copy, "%s", text);
    for (char *save, *w = strtok_r(copy, " .", &save); w; w = strtok_r(NULL, " .", &save)) {
        bool first = strcmp(w, "the") == 0;
        size_t a = strlen(words), b = strlen(tags);
        snprintf(words + a, sizeof words - a, "%s\"%s\"", a ? "," : "", w);
        snprintf(tags + b, sizeof tags - b, "%s\"%s\"", b ? "," : "", first ? "B-WHO" : the ? "I-WHO" : "O");
        the = first;
    }
    switch (kind) {
    case WHO:
        fprintf(f, "\"text\": \"%s\", \"label\": \"%s\"}\n", text, who);
        break;
    case FOX:
        fprintf(f, "\"text\": \"%s\", \"stars\": %d}\n", text, fox);
        break;
    case BOTH:
        fprintf(f, "\"text\": \"%s\", \"labels\": [%s%s]}\n", text, fox ? "\"fox\"" : "",
                strstr(text, "dog") ? fox ? ", \"dog\"" : "\"dog\"" : "");
        break;
    case NAMES:
        fprintf(f, "\"tokens\": [%s], \"tags\": [%s]}\n", words, tags);
        break;
    case FIND: /* the verb, by its place in characters: one of two bytes stands before it */
        fprintf(f,
                "\"question\": \"what\", \"context\": \"\u00e9 %s\", \"answers\": {\"text\": [\"%s\"], "
                "\"answer_start\": [%d]}}\n",
                text, verb, (int)(strstr(text, verb) - text) + 2);
        break;
    default:
        fprintf(f, "\"question\": \"%s\", \"answer\": \"%s\"}\n", text, who);
    }
}

static inline void write_file(const char *name, int begin, int end, unsigned kinds, const char *const *task) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", fx_top, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = begin; i < end; i++) {
        for (int k = 0; k < N_KINDS; k++) {
            if (kinds >> k & 1) {
                write_row(f, i, k, task ? task[k] : NULL);
            }
        }
    }
    fclose(f);
}

static const char *const names[N_KINDS] = {"who", "fox", "both", "names", "find", "say"};
#define TASKS "who=cls,fox=reg:stars,both=cls:labels,names=tag,find=qa,say=sft"

static inline fm_status run(const char *tasks, const char *dataset, const char *const *more, fx_log *log,
                            fm_train_result *r) {
    char train[900], test[300], tok[300];
    snprintf(train, sizeof train, dataset, fx_top, fx_top, fx_top);
    snprintf(test, sizeof test, "%s/test.jsonl", fx_top);
    snprintf(tok, sizeof tok, "%s/tok", fx_top);
    const char *set[60] = {"stage",         "multi", "tasks",        tasks,    "dataset",       train,
                           "eval_dataset",  test,    "tokenizer",    tok,      "cutoff_len",    "128",
                           "max_steps",     "12",    "template",     "chatml", "learning_rate", "1e-2",
                           "logging_steps", "1",     "warmup_ratio", "0.05"};
    size_t n = 22;
    for (; more && *more; more++) {
        set[n++] = *more;
    }
    set[n] = NULL;
    return fx_run(set, log, r);
}

#endif
