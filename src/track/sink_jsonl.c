/* trainer_log.jsonl. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "track/sinks.h"

typedef struct log_file {
    FILE *f;
    char *run_name;
    char path[4096];
} log_file;

/* Bytes of the log that a run resumed at `step` keeps: whole lines up to the first of a later step or a broken one. */
static size_t kept_bytes(const char *text, size_t n, int64_t step) {
    size_t at = 0;
    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end) {
            break;
        }
        fm_json *j = NULL;
        bool keep = fm_json_parse(&j, text + at, (size_t)(end - text) - at, "trainer_log.jsonl") == FM_OK &&
                    fm_json_int(fm_json_get(j, "step"), INT64_MAX) <= step;
        fm_json_free(j);
        if (!keep) {
            break;
        }
        at = (size_t)(end - text) + 1;
    }
    return at;
}

static fm_status open_log(log_file *l, const fm_train_info *info) {
    FM_TRY(fm_path_join(l->path, sizeof l->path, info->output_dir, "trainer_log.jsonl"));
    if (fm_path_exists(l->path)) {
        char *text;
        size_t n;
        FM_TRY(fm_file_read(&text, &n, l->path, 0));
        size_t keep = info->first_step > 0 ? kept_bytes(text, n, info->first_step) : 0;
        fm_status s = fm_file_write_atomic(l->path, text, keep);
        fm_free(text);
        FM_TRY(s);
    }
    l->run_name = fm_strdup(info->run_name);
    if (!l->run_name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a log");
    }
    l->f = fopen(l->path, "abe");
    if (!l->f) {
        FM_FAIL(FM_ERR_IO, "cannot write %s: %s", l->path, strerror(errno));
    }
    return FM_OK;
}

static void close_log(void *state, const fm_train_result *r) {
    FM_UNUSED(r);
    log_file *l = state;
    if (l && l->f) {
        fclose(l->f);
    }
    if (l) {
        fm_free(l->run_name);
        fm_free(l);
    }
}

static fm_status begin(void **state, void *user, const fm_train_info *info) {
    FM_UNUSED(user);
    *state = NULL;
    log_file *l = fm_calloc(1, sizeof *l);
    if (!l) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a log");
    }
    fm_status s = open_log(l, info);
    if (s != FM_OK) {
        close_log(l, NULL);
        return s;
    }
    *state = l;
    return FM_OK;
}

static void number(fm_str *s, const char *key, double v) {
    if (isfinite(v)) {
        fm_str_printf(s, ", \"%s\": %.9g", key, v);
    }
}

static fm_status event(void *state, const fm_train_event *e) {
    log_file *l = state;
    int64_t ms = fm_unix_ms();
    time_t sec = (time_t)(ms / 1000);
    struct tm tm;
    char when[32];
    gmtime_r(&sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    fm_str s = {0};
    fm_str_printf(&s, "{\"@timestamp\": \"%s.%03dZ\", \"run\": ", when, (int)(ms % 1000));
    fm_str_json(&s, l->run_name, strlen(l->run_name));
    fm_str_printf(&s, ", \"step\": %lld, \"total_steps\": %lld", (long long)e->step, (long long)e->n_steps);
    number(&s, "epoch", e->epoch);
    number(&s, "loss", e->loss);
    number(&s, "learning_rate", e->learning_rate);
    number(&s, "grad_norm", e->grad_norm);
    number(&s, "tokens_per_second", e->tokens_per_s);
    number(&s, "mfu", e->mfu);
    number(&s, "expert_max_violation", e->expert_max_violation);
    number(&s, "eval_loss", e->eval_loss);
    number(&s, "eval_perplexity", e->eval_perplexity);
    number(&s, "eval_bits_per_byte", e->eval_bits_per_byte);
    for (int i = 0; i < e->n_metrics; i++) {
        number(&s, e->metrics[i].name, e->metrics[i].value);
    }
    fm_str_printf(&s, ", \"tokens\": %lld, \"memory_bytes\": %lld", (long long)e->n_tokens, (long long)e->memory_bytes);
    number(&s, "elapsed_seconds", e->elapsed_s);
    number(&s, "remaining_seconds", e->remaining_s);
    for (int i = 0; e->layer_grad_norm && i <= e->n_layers; i++) {
        double v = isfinite(e->layer_grad_norm[i]) ? e->layer_grad_norm[i] : -1; /* JSON has no NaN */
        fm_str_printf(&s, "%s%.6g", i == 0 ? ", \"layer_grad_norms\": [" : ", ", v);
    }
    fm_str_puts(&s, e->layer_grad_norm ? "]" : "");
    if (e->skipped_rows && *e->skipped_rows) {
        fm_str_puts(&s, ", \"rows\": ");
        fm_str_json(&s, e->skipped_rows, strlen(e->skipped_rows));
    }
    fm_str_puts(&s, e->skipped ? ", \"skipped\": true}\n" : "}\n");
    fm_status st = fm_str_check(&s);
    if (st == FM_OK && (fwrite(s.data, 1, s.len, l->f) != s.len || fflush(l->f) != 0)) {
        st = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", l->path, strerror(errno));
    }
    fm_str_free(&s);
    return st;
}

const fm_train_sink fm_sink_jsonl = {.name = "trainer_log.jsonl", .begin = begin, .event = event, .end = close_log};
