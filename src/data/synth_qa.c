/* qa: questions that a document answers. */
#include <stdio.h>
#include "base/error.h"
#include "data/synth.h"

static const char prompt_text[] =
    "Document:\n\n{text}\n\nWrite {n} different questions that this document answers, each with its answer, "
    "{language}. A "
    "question must make sense to someone who has not seen the document; an answer must follow from the document alone. "
    "Answer with one JSON object a line, {\"question\": ..., \"answer\": ...}, and nothing else.";

static fm_status prompt(const fm_synth *s, const fm_synth_item *it, int ask, fm_str *messages) {
    char n[24], language[128];
    FM_UNUSED(ask);
    (void)snprintf(n, sizeof n, "%lld", (long long)s->o->per_request);
    (void)snprintf(language, sizeof language, "in %.100s",
                   s->o->language ? s->o->language : "the language of the document");
    const char *const pairs[] = {"text", it->text.data, "n", n, "language", language, NULL};
    return fm_synth_fill(messages, s->prompt[0] ? s->prompt[0] : prompt_text, pairs);
}

typedef struct reading {
    fm_synth *s;
    const fm_synth_item *it;
    size_t n;
} reading;

static fm_status one(void *arg, const fm_json *object) {
    reading *r = arg;
    fm_sv question = fm_synth_member(object, "question"), answer = fm_synth_member(object, "answer");
    fm_str messages = {0};
    r->n++;
    fm_str_puts(&messages, "[{\"role\":\"user\",\"content\":");
    fm_str_json(&messages, question.ptr, question.len);
    fm_str_puts(&messages, "},{\"role\":\"assistant\",\"content\":");
    fm_str_json(&messages, answer.ptr, answer.len);
    fm_str_puts(&messages, "}]");
    fm_status s = fm_str_check(&messages);
    if (s == FM_OK) {
        s = fm_synth_chat_row(r->s, r->it, (fm_sv){messages.data, messages.len}, question, answer, NULL);
    }
    fm_str_free(&messages);
    return s;
}

static fm_status read(fm_synth *s, const fm_synth_item *it) {
    reading r = {s, it, 0};
    FM_TRY(fm_synth_objects(fm_synth_answer(it->answer[0]), "question", one, &r));
    return r.n ? FM_OK : fm_synth_drop(s, "answer without a question in JSON");
}

const fm_synth_task fm_synth_task_qa = {
    .name = "qa",
    .help = "questions and answers about each document of the input",
    .from_rows = true,
    .asks = 1,
    .prompt = prompt,
    .read = read,
};
