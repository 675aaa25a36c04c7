/* Reading what a request asks for. */
#include "serve/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

void fm_params_asked_free(fm_params_asked *p) {
    fm_free(p->bias);
    p->bias = NULL;
    fm_grammar_free(p->o.grammar);
    p->o.grammar = NULL;
}

fm_status fm_check_model(const fm_serve *s, const fm_json *body) {
    const char *name = NULL;
    FM_TRY(fm_json_get_str(&name, body, "model", NULL));
    if (name && *name && strcmp(name, s->name) != 0) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no model \"%s\" here; this server has \"%s\"", name, s->name);
    }
    return FM_OK;
}

fm_status fm_choose_model(const char **adapter, const fm_serve *s, const fm_json *body) {
    const char *name = NULL;
    FM_TRY(fm_json_get_str(adapter, body, "adapter", NULL));
    FM_TRY(fm_json_get_str(&name, body, "model", NULL));
    if (*adapter && !**adapter) {
        *adapter = NULL;
    }
    if (*adapter && !fm_engine_has_adapter(s->e, *adapter)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no adapter \"%s\" here", *adapter);
    }
    if (!*adapter && name && *name && strcmp(name, s->name) != 0 && fm_engine_has_adapter(s->e, name)) {
        *adapter = name;
        return FM_OK;
    }
    return fm_check_model(s, body);
}

/* A number in a range, null and missing are the default. */
static fm_status number(double *out, const fm_json *body, const char *key, double min, double max, double def) {
    const fm_json *v = fm_json_get(body, key);
    *out = def;
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    double x = fm_json_num(v, NAN);
    if (!fm_json_is_number(v) || !(x >= min && x <= max)) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: expected a number from %g to %g", key, min, max);
    }
    *out = x;
    return FM_OK;
}

static fm_status whole(int64_t *out, const fm_json *body, const char *key, double min, double max, int64_t def) {
    double v;
    FM_TRY(number(&v, body, key, min, max, (double)def));
    if (v != floor(v)) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: expected a whole number", key);
    }
    *out = (int64_t)v;
    return FM_OK;
}

static fm_status truth(bool *out, const fm_json *body, const char *key) {
    const fm_json *v = fm_json_get(body, key);
    *out = fm_json_bool(v, false);
    return fm_json_is_null(v) || fm_json_is_bool(v) ? FM_OK : fm_bad_field(key, "true or false");
}

static fm_status read_stops(fm_params_asked *p, const fm_json *body) {
    const fm_json *v = fm_json_get(body, "stop");
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    bool list = fm_json_is_array(v);
    size_t n = list ? fm_json_size(v) : 1;
    if (n > FM_MAX_STOPS) {
        FM_FAIL(FM_ERR_ARGUMENT, "stop: expected at most %d strings, found %zu", FM_MAX_STOPS, n);
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = fm_json_str(list ? fm_json_at(v, i) : v, NULL);
        if (!text || !*text) {
            return fm_bad_field("stop", "a string that is not empty, or a list of them");
        }
        p->stop[p->n_stop++] = text;
    }
    return FM_OK;
}

typedef struct bias_reader {
    fm_params_asked *p;
    int32_t vocab;
} bias_reader;

static fm_status read_bias(void *arg, const char *key, fm_json *value) {
    bias_reader *r = arg;
    int64_t id;
    double v = fm_json_num(value, NAN);
    if (fm_parse_i64(&id, key) != FM_OK || id < 0 || id >= r->vocab || !fm_json_is_number(value) || fabs(v) > 100) {
        FM_FAIL(FM_ERR_ARGUMENT, "logit_bias: expected token ids below %d with numbers from -100 to 100, found \"%s\"",
                (int)r->vocab, key);
    }
    /* -100 forbids, as the API says */
    r->p->bias[r->p->o.n_bias++] = (fm_logit_bias){.id = (int32_t)id, .bias = v <= -100 ? -HUGE_VAL : v};
    return FM_OK;
}

static fm_status read_biases(fm_params_asked *p, const fm_serve *s, const fm_json *body) {
    fm_json *v = fm_json_get(body, "logit_bias");
    if (fm_json_is_null(v)) {
        return FM_OK;
    }
    if (!fm_json_is_object(v)) {
        return fm_bad_field("logit_bias", "an object of token ids and numbers");
    }
    p->bias = fm_calloc(fm_json_size(v) + 1, sizeof *p->bias);
    if (!p->bias) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for logit_bias");
    }
    bias_reader r = {.p = p, .vocab = s->info.vocab_size};
    FM_TRY(fm_json_each(v, read_bias, &r));
    p->o.bias = p->bias;
    return FM_OK;
}

/* Chat: logprobs true and top_logprobs n. Completions: logprobs n. */
static fm_status read_logprobs(fm_params_asked *p, const fm_json *body, bool chat) {
    int64_t n = 0;
    if (chat) {
        FM_TRY(truth(&p->logprobs, body, "logprobs"));
        FM_TRY(whole(&n, body, "top_logprobs", 0, FM_MAX_TOP_LOGPROBS, 0));
        if (n > 0 && !p->logprobs) {
            FM_FAIL(FM_ERR_ARGUMENT, "top_logprobs: needs logprobs to be true");
        }
    } else {
        p->logprobs = !fm_json_is_null(fm_json_get(body, "logprobs"));
        FM_TRY(whole(&n, body, "logprobs", 0, FM_MAX_TOP_LOGPROBS, 0));
    }
    p->o.logprobs = !p->logprobs ? 0 : n > 0 ? (int)n : -1;
    return FM_OK;
}

static fm_status read_lengths(fm_params_asked *p, const fm_json *body, bool chat) {
    int64_t most = -1, newer = -1;
    FM_TRY(whole(&most, body, "max_tokens", chat ? 1 : 0, 1e9, -1));
    FM_TRY(whole(&newer, body, "max_completion_tokens", chat ? 1 : 0, 1e9, -1));
    p->o.max_new_tokens = newer >= 0 ? newer : most;
    return FM_OK;
}

fm_status fm_params_read(fm_params_asked *out, fm_serve *s, const fm_json *body, bool chat) {
    int64_t n = 1, seed = 0;
    *out = (fm_params_asked){.o = fm_sampling_default()};
    FM_TRY(fm_choose_model(&out->adapter, s, body));
    fm_sampling *o = &out->o;
    FM_TRY(number(&o->temperature, body, "temperature", 0, 100, s->default_temperature));
    FM_TRY(number(&o->top_p, body, "top_p", 0, 1, s->default_top_p));
    FM_TRY(number(&o->min_p, body, "min_p", 0, 1, 0));
    FM_TRY(number(&o->typical_p, body, "typical_p", 1e-9, 1, 1));
    FM_TRY(whole(&o->top_k, body, "top_k", -1, 1e9, s->default_top_k));
    o->top_k = FM_MAX(o->top_k, 0); /* -1 is "off" elsewhere */
    FM_TRY(number(&o->repetition_penalty, body, "repetition_penalty", 0.01, 100, s->default_repetition_penalty));
    FM_TRY(number(&o->presence_penalty, body, "presence_penalty", -2, 2, 0));
    FM_TRY(number(&o->frequency_penalty, body, "frequency_penalty", -2, 2, 0));
    FM_TRY(truth(&o->ignore_eos, body, "ignore_eos"));
    FM_TRY(whole(&n, body, "n", 1, FM_MAX_CHOICES, 1));
    out->n = (int)n;
    out->seeded = !fm_json_is_null(fm_json_get(body, "seed"));
    FM_TRY(whole(&seed, body, "seed", -9007199254740992.0, 9007199254740992.0, 0));
    uint64_t serial = atomic_fetch_add(&s->serial, 1);
    o->seed = out->seeded ? (uint64_t)seed : fm_hash64(&serial, sizeof serial, s->secret);
    FM_TRY(truth(&out->stream, body, "stream"));
    FM_TRY(truth(&out->include_usage, fm_json_get(body, "stream_options"), "include_usage"));
    FM_TRY(read_lengths(out, body, chat));
    FM_TRY(read_logprobs(out, body, chat));
    FM_TRY(read_stops(out, body));
    return read_biases(out, s, body);
}
