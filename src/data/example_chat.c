/* Conversations: the text that the chat template makes of them, with the answers marked.
 *
 * The text is encoded in pieces that begin and end where answers do: what comes before an answer has the ids that
 * serving gives the prompt, whatever the answer begins with. Marks are indices into "mark_weights" of dataset.json:
 * 0 has weight 0, 1 has weight 1, others are weights that messages name. */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/chat_rows.h"
#include "data/examples.h"
#include "fathom/template.h"

#define MAX_WEIGHTS 1024

typedef struct chat {
    const fm_examples_options *o;
    const fm_tokenizer *tok;
    fm_template *template_;
    fm_conversation c;
    fm_tokens ids;
    double weight[MAX_WEIGHTS];
    int n_weights;
    int32_t bos, eos;
    bool adds_bos; /* the tokenizer begins a text with BOS by itself */
} chat;

static void close_chat(void *state) {
    chat *k = state;
    if (k) {
        fm_template_free(k->template_);
        fm_conversation_free(&k->c);
        fm_tokens_free(&k->ids);
        fm_free(k);
    }
}

static fm_status open_chat(void **state, const fm_examples_options *o, const fm_tokenizer *t) {
    chat *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for conversations");
    }
    k->o = o;
    k->tok = t;
    k->weight[1] = 1;
    k->n_weights = 2;
    k->bos = fm_tokenizer_bos(t);
    k->eos = fm_tokenizer_eos(t);
    fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
    FM_TRY(fm_tokenizer_encode(&k->ids, t, "a", 1, &eo));
    k->adds_bos = k->bos >= 0 && k->ids.n > 0 && k->ids.ids[0] == k->bos;
    return fm_template_open(&k->template_, o->template_, t);
}

static fm_status mark_of(chat *k, double weight, int16_t *mark) {
    for (int i = 0; i < k->n_weights; i++) {
        if (k->weight[i] == weight) {
            *mark = (int16_t)i;
            return FM_OK;
        }
    }
    if (k->n_weights == MAX_WEIGHTS) {
        FM_FAIL(FM_ERR_DATA, "messages have more than %d different weights", MAX_WEIGHTS);
    }
    k->weight[k->n_weights] = weight;
    *mark = (int16_t)k->n_weights++;
    return FM_OK;
}

static bool is_blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r\n", p[i])) {
            return false;
        }
    }
    return true;
}

static fm_status add_piece(chat *k, fm_example *e, const char *p, size_t n, int16_t mark) {
    fm_encode_options eo = {.size = sizeof eo, .allow_special = true, .n_threads = 1};
    if (n == 0) {
        return FM_OK;
    }
    k->ids.n = 0;
    FM_TRY(fm_tokenizer_encode(&k->ids, k->tok, p, n, &eo));
    return fm_example_add(e, k->ids.ids, k->ids.n, mark);
}

/* Whether the last answer ends in a token that stops generation, with blank text behind it at most. */
static bool ends(const chat *k, const fm_example *e) {
    for (size_t i = e->n; i > 0 && e->n - i < 3; i--) {
        if (fm_tokenizer_is_special(k->tok, e->ids[i - 1])) {
            return true;
        }
    }
    return false;
}

/* What a span weighs: its message's weight. Templates that mark answers themselves do not say whose they are: then all
 * answers must weigh the same, or there must be a span for each. */
static fm_status weight_of(const chat *k, const fm_template_result *t, size_t i, double *w) {
    const fm_conversation *c = &k->c;
    int64_t message = t->span[i].message;
    if (message >= 0 && (size_t)message < c->n_messages) {
        *w = c->weight[message] >= 0 ? c->weight[message] : 0;
        return FM_OK;
    }
    size_t answer = 0;
    bool same = true;
    *w = -1;
    for (size_t m = 0; m < c->n_messages; m++) {
        if (c->weight[m] < 0) {
            continue;
        }
        same &= *w < 0 || c->weight[m] == *w;
        *w = answer <= i ? c->weight[m] : *w;
        answer++;
    }
    return same || answer == t->n_spans ? FM_OK : FM_ERR_DATA;
}

static fm_status add_bos(chat *k, fm_example *e, const fm_template_result *t) {
    size_t n = 0;
    const char *bos = k->adds_bos ? fm_tokenizer_token(k->tok, k->bos, &n) : NULL;
    bool there = bos && t->n >= n && memcmp(t->text, bos, n) == 0;
    return bos && !there ? fm_example_add(e, &k->bos, 1, 0) : FM_OK; /* once, whoever writes it */
}

static fm_status add_spans(chat *k, fm_example *e, const fm_template_result *t) {
    size_t at = 0;
    bool all = k->o->train_on == FM_TRAIN_ON_ALL;
    int16_t mark = 0;
    FM_TRY(add_bos(k, e, t));
    for (size_t i = 0; i < t->n_spans; i++) {
        const fm_template_span *s = &t->span[i];
        double w;
        if (weight_of(k, t, i, &w) != FM_OK) {
            e->reason = "its messages have weights, but the template joins answers";
            return FM_OK;
        }
        w = k->o->train_on == FM_TRAIN_ON_LAST && i + 1 < t->n_spans ? 0 : w;
        FM_TRY(add_piece(k, e, t->text + at, s->begin - at, all));
        FM_TRY(mark_of(k, w, &mark));
        FM_TRY(add_piece(k, e, t->text + s->begin, s->end - s->begin, mark));
        e->n_bytes += mark && !all ? (int64_t)(s->end - s->begin) : 0;
        at = s->end;
    }
    if (t->n_spans > 0 && k->eos >= 0 && !ends(k, e) && is_blank(t->text + at, t->n - at)) {
        FM_TRY(fm_example_add(e, &k->eos, 1, mark)); /* the end of an answer is learned */
    }
    e->n_bytes += all ? (int64_t)t->n : 0;
    return add_piece(k, e, t->text + at, t->n - at, all);
}

static fm_status make_chat(void *state, fm_example *e, const fm_rec *row) {
    chat *k = state;
    FM_TRY(fm_conversation_from_row(&k->c, row, k->o->columns, &e->reason));
    if (e->reason) {
        return FM_OK;
    }
    fm_template_options to = {.size = sizeof to, .spans = true, .tools = k->c.tools.len ? k->c.tools.data : NULL};
    fm_template_result t = {0};
    fm_status s = fm_template_render(&t, k->template_, k->c.messages.data, k->c.messages.len, &to);
    if (s == FM_ERR_NO_MEMORY) {
        return s;
    }
    if (s != FM_OK) {
        e->reason = "the chat template refuses it";
        return FM_OK;
    }
    s = add_spans(k, e, &t);
    fm_template_result_free(&t);
    return s;
}

static fm_status describe_chat(const void *state, fm_json *o) {
    const chat *k = state;
    FM_TRY(fm_json_set(o, "mark_weights", fm_json_new_array()));
    for (int i = 0; i < k->n_weights; i++) {
        FM_TRY(fm_json_append(fm_json_get(o, "mark_weights"), fm_json_new_num(k->weight[i])));
    }
    return FM_OK;
}

extern const fm_example_task fm_example_task_chat;
const fm_example_task fm_example_task_chat = {
    .name = "chat",
    .summary = "questions and answers, conversations",
    .marks = true,
    .open = open_chat,
    .close = close_chat,
    .make = make_chat,
    .describe = describe_chat,
};
