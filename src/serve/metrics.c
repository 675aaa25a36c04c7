/* Prometheus metrics. */
#include "serve/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "serve/text_batch.h"

/* Upper bounds of the buckets, those of vLLM. */
static const double first[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                               1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double token[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
static const double request[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
static const double tokens[] = {1,    2,    5,    10,    20,    50,    100,    200,    500,
                                1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};

static const double choices[] = {1, 2, 5, 10, 20};
static const double http[] = {.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300};

static void observe(fm_histogram *h, const double *bound, size_t n, double v) {
    size_t i = 0;
    while (i < n && v > bound[i]) {
        i++;
    }
    h->count[i]++;
    h->n++;
    h->sum += v;
}
#define OBSERVE(h, scale, v) observe(h, scale, FM_ARRAY_LEN(scale), v)

void fm_metrics_finish(fm_metrics *m, const fm_engine_event *v) {
    double run = v->prefill_s + v->decode_s;
    pthread_mutex_lock(&m->lock);
    if (v->status != FM_OK) {
        m->finished_abort++;
    } else if (v->finish == FM_FINISH_LENGTH || v->finish == FM_FINISH_CONTEXT) {
        m->finished_length++;
    } else {
        m->finished_stop++;
    }
    if (v->n_generated > 0) {
        OBSERVE(&m->ttft, first, v->queue_s + v->prefill_s);
        OBSERVE(&m->prefill, request, v->prefill_s);
        OBSERVE(&m->decode, request, v->decode_s);
        OBSERVE(&m->inference, request, run);
        m->prompt_tokens += (uint64_t)(v->n_prompt - v->n_cached);
        m->prompt_s += v->prefill_s;
        m->generation_tokens += (uint64_t)v->n_generated;
        m->generation_s += v->decode_s;
    }
    if (v->n_generated > 1) {
        OBSERVE(&m->tpot, token, v->decode_s / (v->n_generated - 1));
    }
    OBSERVE(&m->e2e, request, v->queue_s + run);
    OBSERVE(&m->queue, request, v->queue_s);
    OBSERVE(&m->prompt, tokens, v->n_prompt);
    OBSERVE(&m->generation, tokens, v->n_generated);
    pthread_mutex_unlock(&m->lock);
}

void fm_metrics_asked(fm_metrics *m, int n, int64_t max_tokens) {
    pthread_mutex_lock(&m->lock);
    OBSERVE(&m->choices, choices, n);
    if (max_tokens >= 0) {
        OBSERVE(&m->most_tokens, tokens, (double)max_tokens);
    }
    pthread_mutex_unlock(&m->lock);
}

void fm_metrics_answer(fm_metrics *m, int code, int route, double seconds) {
    pthread_mutex_lock(&m->lock);
    OBSERVE(&m->http[route >= 0 && route < FM_METRIC_ROUTES - 1 ? route : FM_METRIC_ROUTES - 1], http, seconds);
    m->answers[code / 100 < 6 && code >= 100 ? code / 100 : 0]++;
    pthread_mutex_unlock(&m->lock);
}

static void head(fm_str *out, const char *prefix, const char *name, const char *type, const char *help) {
    fm_str_printf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, type);
}

static void value(fm_str *out, const char *name, const char *type, const char *help, const char *labels, double v) {
    head(out, "vllm:", name, type, help);
    fm_str_printf(out, "vllm:%s{%s} %.17g\n", name, labels, v);
}

static void plain(fm_str *out, const char *name, const char *type, const char *help, double v) {
    head(out, "llamacpp:", name, type, help);
    fm_str_printf(out, "llamacpp:%s %.17g\n", name, v);
}

/* name with its prefix. */
static void samples(fm_str *out, const fm_histogram *h, const char *name, const double *bound, size_t n,
                    const char *labels) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += h->count[i];
        fm_str_printf(out, "%s_bucket{%s,le=\"%g\"} %llu\n", name, labels, bound[i], (unsigned long long)sum);
    }
    fm_str_printf(out, "%s_bucket{%s,le=\"+Inf\"} %llu\n%s_sum{%s} %.17g\n%s_count{%s} %llu\n", name, labels,
                  (unsigned long long)h->n, name, labels, h->sum, name, labels, (unsigned long long)h->n);
}

static void histogram(fm_str *out, const fm_histogram *h, const char *name, const char *help, const double *bound,
                      size_t n, const char *labels) {
    char full[64];
    head(out, "vllm:", name, "histogram", help);
    snprintf(full, sizeof full, "vllm:%s", name);
    samples(out, h, full, bound, n, labels);
}

/* Of the routes that were asked for. */
static void write_http(fm_str *out, const fm_metrics *m, const char *l) {
    fm_str labels = {0};
    head(out, "fathom:", "http_request_duration_seconds", "histogram", "Time from a request to the end of its answer.");
    for (int i = 0; i < FM_METRIC_ROUTES; i++) {
        const char *path = i < fm_n_routes ? fm_routes[i]->path : "other";
        if (m->http[i].n > 0) {
            fm_str_clear(&labels);
            fm_str_printf(&labels, "%s,route=\"%.*s\"", l, (int)strcspn(path, "|"), path);
            samples(out, &m->http[i], "fathom:http_request_duration_seconds", http, FM_ARRAY_LEN(http),
                    labels.data ? labels.data : l);
        }
    }
    fm_str_free(&labels);
}

static void label_value(fm_str *out, const char *s) {
    for (; *s; s++) {
        if (*s == '\\' || *s == '"') {
            fm_str_putc(out, '\\');
        }
        fm_str_putc(out, *s == '\n' ? ' ' : *s);
    }
}

/* Tokens of each pass, as the engine counted them. */
static void write_passes(fm_str *out, const fm_engine_stats *st, const char *l) {
    fm_histogram h = {.n = (uint64_t)st->passes, .sum = (double)st->pass_tokens};
    double bound[FM_PASS_BUCKETS];
    for (int i = 0; i < FM_PASS_BUCKETS; i++) {
        bound[i] = i == 0 ? 1 : 4 << i;
        h.count[i] = (uint64_t)st->passes_by_tokens[i];
    }
    histogram(out, &h, "iteration_tokens_total", "Tokens of a pass of the engine.", bound, FM_PASS_BUCKETS, l);
}

/* Names of adapters that requests use; the value is the time, as vLLM has it. */
static void write_adapters(fm_str *out, fm_serve *s) {
    fm_str names[2] = {{0}, {0}}; /* running, waiting */
    char name[128];
    int n = 0, of[2];
    for (; fm_engine_adapter_name(name, sizeof name, s->e, n); n++) {
        if (!fm_engine_adapter_requests(&of[0], &of[1], s->e, n)) {
            break;
        }
        for (int k = 0; k < 2; k++) {
            if (of[k] > 0) {
                fm_str_puts(&names[k], names[k].len ? "," : "");
                label_value(&names[k], name);
            }
        }
    }
    if (n > 0) {
        head(out, "vllm:", "lora_requests_info", "gauge", "Adapters of requests that are computed and that wait.");
        fm_str_printf(
            out,
            "vllm:lora_requests_info{max_lora=\"%d\",running_lora_adapters=\"%s\",waiting_lora_adapters=\"%s\"} "
            "%.3f\n",
            n, names[0].data ? names[0].data : "", names[1].data ? names[1].data : "", (double)fm_unix_ms() / 1000);
    }
    fm_str_free(&names[0]);
    fm_str_free(&names[1]);
}

static void write_vllm(fm_str *out, const fm_metrics *m, const fm_engine_stats *st, const char *l) {
    value(out, "num_requests_running", "gauge", "Requests that are computed.", l, st->running);
    value(out, "num_requests_waiting", "gauge", "Requests that wait.", l, st->waiting);
    value(out, "kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 1 = all.", l,
          st->blocks > 0 ? (double)st->blocks_used / st->blocks : 0);
    value(out, "prefix_cache_queries_total", "counter", "Tokens of prompts.", l, (double)st->prefix_queries);
    value(out, "prefix_cache_hits_total", "counter", "Of these, tokens found in the cache.", l,
          (double)st->prefix_hits);
    value(out, "num_preemptions_total", "counter", "Requests that gave their memory back for a time.", l,
          (double)st->preemptions);
    value(out, "prompt_tokens_total", "counter", "Tokens of prompts computed.", l, (double)st->prompt_tokens);
    value(out, "generation_tokens_total", "counter", "Tokens generated.", l, (double)st->generation_tokens);
    value(out, "spec_decode_num_drafts_total", "counter", "Guesses of several tokens checked in one pass.", l,
          (double)st->drafts);
    value(out, "spec_decode_num_draft_tokens_total", "counter", "Tokens guessed.", l, (double)st->draft_tokens);
    value(out, "spec_decode_num_accepted_tokens_total", "counter", "Of these, right ones.", l,
          (double)st->draft_accepted);
    head(out, "vllm:", "request_success_total", "counter", "Requests that ended, by reason.");
    fm_str_printf(out, "vllm:request_success_total{%s,finished_reason=\"stop\"} %llu\n", l,
                  (unsigned long long)m->finished_stop);
    fm_str_printf(out, "vllm:request_success_total{%s,finished_reason=\"length\"} %llu\n", l,
                  (unsigned long long)m->finished_length);
    fm_str_printf(out, "vllm:request_success_total{%s,finished_reason=\"abort\"} %llu\n", l,
                  (unsigned long long)m->finished_abort);
#define FM_X(field, name, help, scale) histogram(out, &m->field, name, help, scale, FM_ARRAY_LEN(scale), l);
    FM_HISTOGRAM_LIST(FM_X)
#undef FM_X
    histogram(out, &m->choices, "request_params_n", "Choices asked for.", choices, FM_ARRAY_LEN(choices), l);
    histogram(out, &m->most_tokens, "request_params_max_tokens", "Most tokens asked for.", tokens, FM_ARRAY_LEN(tokens),
              l);
}

static void write_llamacpp(fm_str *out, const fm_metrics *m, const fm_engine_stats *st) {
    plain(out, "prompt_tokens_total", "counter", "Tokens of prompts computed.", (double)m->prompt_tokens);
    plain(out, "prompt_seconds_total", "counter", "Time prompts took.", m->prompt_s);
    plain(out, "tokens_predicted_total", "counter", "Tokens generated.", (double)m->generation_tokens);
    plain(out, "tokens_predicted_seconds_total", "counter", "Time generation took.", m->generation_s);
    plain(out, "n_decode_total", "counter", "Forward passes.", (double)st->passes);
    plain(out, "n_busy_slots_per_decode", "counter", "Requests in a pass, on average.",
          st->passes > 0 ? (double)st->pass_sequences / (double)st->passes : 0);
    plain(out, "prompt_tokens_seconds", "gauge", "Tokens of prompts in a second, since the start.",
          m->prompt_s > 0 ? (double)m->prompt_tokens / m->prompt_s : 0);
    plain(out, "predicted_tokens_seconds", "gauge", "Tokens generated in a second of one request, since the start.",
          m->generation_s > 0 ? (double)m->generation_tokens / m->generation_s : 0);
    plain(out, "kv_cache_usage_ratio", "gauge", "Share of the KV cache in use.",
          st->blocks > 0 ? (double)st->blocks_used / st->blocks : 0);
    plain(out, "kv_cache_tokens", "gauge", "Tokens in the KV cache.", (double)st->blocks_used * st->block_tokens);
    plain(out, "requests_processing", "gauge", "Requests that are computed.", st->running);
    plain(out, "requests_deferred", "gauge", "Requests that wait.", st->waiting);
}

static void own(fm_str *out, const char *name, const char *type, const char *help, const char *labels, double v) {
    head(out, "fathom:", name, type, help);
    fm_str_printf(out, "fathom:%s{%s} %.17g\n", name, labels, v);
}

static void write_own(fm_str *out, const fm_metrics *m, fm_serve *s, const char *l) {
    fm_text_stats t;
    fm_text_batcher_stats(&t, s->texts);
    own(out, "text_requests_waiting", "gauge", "Requests for embeddings, labels or ranks that wait or are computed.", l,
        t.waiting);
    own(out, "text_batches_total", "counter", "Passes over texts for embeddings, labels or ranks.", l,
        (double)t.batches);
    own(out, "texts_total", "counter", "Texts in them.", l, (double)t.texts);
    own(out, "text_tokens_total", "counter", "Tokens in them.", l, (double)t.tokens);
    fm_screen_metrics(out, s->screen, l);
    head(out, "fathom:", "http_answers_total", "counter", "Answers by hundreds of their code.");
    for (int i = 1; i < 6; i++) {
        fm_str_printf(out, "fathom:http_answers_total{%s,code=\"%dxx\"} %llu\n", l, i,
                      (unsigned long long)m->answers[i]);
    }
}

/* The names of Prometheus' own client libraries. */
static void write_process(fm_str *out, const fm_serve *s) {
    struct rusage u = {0};
    (void)getrusage(RUSAGE_SELF, &u);
    head(out, "", "process_resident_memory_bytes", "gauge", "Anonymous memory of the process.");
    fm_str_printf(out, "process_resident_memory_bytes %lld\n", (long long)fm_mem_rss_anon());
    head(out, "", "process_cpu_seconds_total", "counter", "Processor time, of all threads.");
    fm_str_printf(out, "process_cpu_seconds_total %.6f\n",
                  (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                      1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    head(out, "", "process_start_time_seconds", "gauge", "Start, in seconds of Unix time.");
    fm_str_printf(out, "process_start_time_seconds %lld\n", (long long)s->created);
    head(out, "", "process_open_fds", "gauge", "Open files and connections.");
    char **fd = NULL;
    size_t n = 0;
    if (fm_dir_list(&fd, &n, "/proc/self/fd") == FM_OK) {
        fm_str_printf(out, "process_open_fds %zu\n", n);
        fm_names_free(fd, n);
    }
}

void fm_metrics_write(fm_str *out, fm_serve *s) {
    fm_engine_stats st;
    fm_str labels = {0};
    fm_engine_get_stats(&st, s->e);
    pthread_mutex_lock(&s->metrics.lock);
    fm_metrics m = s->metrics;
    pthread_mutex_unlock(&s->metrics.lock);
    fm_str_puts(&labels, "engine=\"0\",model_name=\"");
    label_value(&labels, s->name);
    fm_str_putc(&labels, '"');
    const char *l = labels.data ? labels.data : "";
    write_vllm(out, &m, &st, l);
    write_passes(out, &st, l);
    write_adapters(out, s);
    write_llamacpp(out, &m, &st);
    write_own(out, &m, s, l);
    write_http(out, &m, l);
    write_process(out, s);
    fm_str_free(&labels);
}
