/* POST /v1/embeddings */
#include <string.h>

#include "serve/params.h"
#include "serve/text_batch.h"

typedef struct embed_ask {
    bool base64;
} embed_ask;

static void write_vector(fm_str *out, const float *v, int64_t d, bool base64) {
    if (base64) { /* floats as they are in memory: little-endian on all machines this runs on */
        fm_str_putc(out, '"');
        fm_str_base64(out, (const uint8_t *)v, (size_t)d * sizeof *v);
        fm_str_putc(out, '"');
        return;
    }
    fm_str_putc(out, '[');
    for (int64_t i = 0; i < d; i++) {
        fm_str_printf(out, i ? ",%.9g" : "%.9g", (double)v[i]);
    }
    fm_str_putc(out, ']');
}

static void done(fm_text_job *j, fm_status st) {
    const fm_serve *s = j->c->s;
    const embed_ask *ask = j->ask;
    fm_str out = {0};
    if (st != FM_OK) {
        fm_reply_failure(j->c, st);
        return;
    }
    fm_str_puts(&out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < j->in.n; i++) {
        fm_str_printf(&out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        write_vector(&out, j->out + (int64_t)i * j->width, j->width, ask->base64);
        fm_str_putc(&out, '}');
    }
    fm_str_puts(&out, "],\"model\":");
    fm_str_json(&out, s->name, strlen(s->name));
    fm_str_printf(&out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", j->in.ids.n, j->in.ids.n);
    fm_reply_json(j->c, 200, &out);
    fm_str_free(&out);
}

static fm_status read_form(bool *base64, const fm_call *c) {
    const char *form = NULL;
    FM_TRY(fm_json_get_str(&form, c->body, "encoding_format", "float"));
    *base64 = form && strcmp(form, "base64") == 0;
    if (!form || (!*base64 && strcmp(form, "float") != 0)) {
        return fm_bad_field("encoding_format", "\"float\" or \"base64\"");
    }
    int64_t d = fm_json_int(fm_json_get(c->body, "dimensions"), c->s->info.d_model);
    if (d != c->s->info.d_model) {
        FM_FAIL(FM_ERR_ARGUMENT, "dimensions: the vectors of this model have %d", (int)c->s->info.d_model);
    }
    return FM_OK;
}

static fm_status handle(fm_call *c) {
    fm_text_job *j = NULL;
    FM_TRY(fm_check_model(c->s, c->body));
    FM_TRY(fm_text_job_new(&j, c, sizeof(embed_ask)));
    embed_ask *ask = j->ask;
    j->done = done;
    fm_status st = read_form(&ask->base64, c);
    st = st == FM_OK ? fm_text_input_read(&j->in, c->s, c->body, "input") : st;
    st = st == FM_OK ? fm_text_job_submit(j) : st;
    if (st != FM_OK) {
        fm_text_job_free(j);
    }
    return st;
}

const fm_route fm_route_embeddings = {.method = "POST", .path = "/v1/embeddings|/embeddings", .handle = handle};
