/* POST /predict: what a model says of a text, given as ?text=... or {"text"} (a string, token ids, or a list of them),
 * with "text_pair" for models that judge two texts and "head" for one of several heads.
 *   one label of a text     {"prediction": index, "label", "scores": probabilities by index}
 *   several labels          {"prediction": [indices of 0.5 and more], "labels", "scores"}
 *   numbers                 {"prediction": number, or a list of them}
 *   something of each token {"prediction": [as above for each], "labels", "tokens"}
 * Without "head": the model's own, or the first by name of a language model that has some.
 * A list of texts gets {"predictions": [...]}. A decoder without such heads continues the text: {"prediction": text}.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "serve/params.h"
#include "serve/simple.h"
#include "serve/text_batch.h"

typedef struct predict_ask {
    fm_head_info head;
    bool many;
} predict_ask;

/* Probabilities of one row of scores. */
static void probabilities(double *p, const float *y, int n, bool multi) {
    double top = y[0], sum = 0;
    for (int i = 1; i < n; i++) {
        top = fmax(top, y[i]);
    }
    for (int i = 0; i < n; i++) {
        p[i] = multi ? 1 / (1 + exp(-(double)y[i])) : exp(y[i] - top);
        sum += p[i];
    }
    for (int i = 0; i < n && !multi; i++) {
        p[i] /= sum;
    }
}

static int best_of(const float *y, int n) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        best = y[i] > y[best] ? i : best;
    }
    return best;
}

static void write_label(fm_str *out, const fm_text_job *j, int i) {
    const char *name = fm_model_label(j->c->s->m, j->head, i);
    char number[32];
    snprintf(number, sizeof number, "LABEL_%d", i);
    name = name ? name : number;
    fm_str_json(out, name, strlen(name));
}

static bool is_multi(const fm_text_job *j) {
    const predict_ask *ask = j->ask;
    return strcmp(ask->head.problem, "multi") == 0;
}

static bool is_number(const fm_text_job *j) {
    const predict_ask *ask = j->ask;
    return strcmp(ask->head.problem, "regression") == 0;
}

/* The value of "prediction" for one row. */
static void write_prediction(fm_str *out, const fm_text_job *j, const float *y) {
    int n = j->width, written = 0;
    if (is_number(j)) {
        fm_str_puts(out, n == 1 ? "" : "[");
        for (int i = 0; i < n; i++) {
            fm_str_printf(out, "%s%.9g", i ? "," : "", (double)y[i]);
        }
        fm_str_puts(out, n == 1 ? "" : "]");
    } else if (is_multi(j)) {
        fm_str_putc(out, '[');
        for (int i = 0; i < n; i++) {
            if (y[i] >= 0) {
                fm_str_printf(out, "%s%d", written++ ? "," : "", i);
            }
        }
        fm_str_putc(out, ']');
    } else {
        fm_str_printf(out, "%d", best_of(y, n));
    }
}

/* The name of a row's label, or a list of those of several. */
static void write_labels(fm_str *out, const fm_text_job *j, const float *y) {
    int written = 0;
    if (!is_multi(j)) {
        write_label(out, j, best_of(y, j->width));
        return;
    }
    fm_str_putc(out, '[');
    for (int i = 0; i < j->width; i++) {
        if (y[i] >= 0) {
            fm_str_puts(out, written++ ? "," : "");
            write_label(out, j, i);
        }
    }
    fm_str_putc(out, ']');
}

static void write_text(fm_str *out, const fm_text_job *j, const float *y, double *p) {
    fm_str_puts(out, "{\"prediction\":");
    write_prediction(out, j, y);
    if (!is_number(j)) {
        fm_str_puts(out, is_multi(j) ? ",\"labels\":" : ",\"label\":");
        write_labels(out, j, y);
        fm_str_puts(out, ",\"scores\":[");
        probabilities(p, y, j->width, is_multi(j));
        for (int i = 0; i < j->width; i++) {
            fm_str_printf(out, "%s%.9g", i ? "," : "", p[i]);
        }
        fm_str_putc(out, ']');
    }
    fm_str_putc(out, '}');
}

static void write_tokens(fm_str *out, const fm_text_job *j, const float *y, const int32_t *ids, int32_t n) {
    fm_str_puts(out, "{\"prediction\":[");
    for (int32_t t = 0; t < n; t++) {
        fm_str_puts(out, t ? "," : "");
        write_prediction(out, j, y + (int64_t)t * j->width);
    }
    fm_str_puts(out, "],\"labels\":[");
    for (int32_t t = 0; t < n && !is_number(j); t++) {
        fm_str_puts(out, t ? "," : "");
        write_labels(out, j, y + (int64_t)t * j->width);
    }
    fm_str_puts(out, "],\"tokens\":[");
    for (int32_t t = 0; t < n; t++) {
        size_t len = 0;
        const char *text = j->c->s->tok ? fm_tokenizer_token(j->c->s->tok, ids[t], &len) : NULL;
        fm_str_puts(out, t ? "," : "");
        fm_str_json(out, text ? text : "", text ? len : 0);
    }
    fm_str_puts(out, "]}");
}

static void done(fm_text_job *j, fm_status st) {
    const predict_ask *ask = j->ask;
    fm_str out = {0};
    double *p = st == FM_OK ? fm_malloc((size_t)FM_MAX(j->width, 1) * sizeof *p) : NULL;
    if (!p) {
        st = st != FM_OK ? st : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for probabilities");
        fm_reply_failure(j->c, st);
        return;
    }
    fm_str_puts(&out, ask->many ? "{\"predictions\":[" : "");
    for (int i = 0; i < j->in.n; i++) {
        int32_t from = j->in.offsets[i], n = j->in.offsets[i + 1] - from;
        fm_str_puts(&out, i ? "," : "");
        if (j->per_token) {
            write_tokens(&out, j, j->out + (int64_t)from * j->width, j->in.ids.ids + from, n);
        } else {
            write_text(&out, j, j->out + (int64_t)i * j->width, p);
        }
    }
    fm_str_puts(&out, ask->many ? "]}" : "");
    fm_reply_json(j->c, 200, &out);
    fm_str_free(&out);
    fm_free(p);
}

static fm_status judge(fm_call *c, int head, const fm_head_info *info) {
    fm_text_job *j = NULL;
    const fm_json *v = fm_json_get(c->body, "text");
    FM_TRY(fm_text_job_new(&j, c, sizeof(predict_ask)));
    predict_ask *ask = j->ask;
    *ask = (predict_ask){.head = *info, .many = fm_json_is_array(v) && !fm_json_is_number(fm_json_at(v, 0))};
    j->head = head;
    j->done = done;
    fm_status st = fm_text_input_read_plain(&j->in, c->s, c->body, "text", "text_pair");
    st = st == FM_OK ? fm_text_job_submit(j) : st;
    if (st != FM_OK) {
        fm_text_job_free(j);
    }
    return st;
}

static fm_status handle(fm_call *c) {
    const char *name = NULL;
    int head = 0;
    fm_head_info info;
    FM_TRY(fm_check_model(c->s, c->body));
    FM_TRY(fm_json_get_str(&name, c->body, "head", NULL));
    bool unnamed = !name || !*name, writes = fm_model_generates(c->s->m);
    if (unnamed && writes && fm_model_head_count(c->s->m) < 2) {
        return fm_simple_generate(c, "text", FM_ANSWER_PREDICTION);
    }
    if (unnamed && writes) {
        head = 1;
    } else {
        FM_TRY(fm_model_head_find(&head, c->s->m, name));
    }
    FM_TRY(fm_model_head_info(&info, c->s->m, head));
    if (strcmp(info.kind, "lm") == 0 || info.n_outputs < 1) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "this model has no head that judges texts; it gives /v1/embeddings");
    }
    return judge(c, head, &info);
}

const fm_route fm_route_predict = {
    .method = "POST", .path = "/predict|/v1/predict", .body_optional = true, .handle = handle};
