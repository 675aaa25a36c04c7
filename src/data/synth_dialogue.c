/* dialogue: a conversation of several turns about each row. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/synth.h"

static const char prompt_text[] =
    "Write a conversation between a user and an assistant about the following, {language}:\n\n{text}\n\nThe user "
    "speaks "
    "first, the assistant last; each speaks {turns} times. Later questions build on earlier answers. The assistant is "
    "helpful and exact. Answer with one JSON object a line, {\"role\": \"user\" or \"assistant\", \"content\": ...}, "
    "and "
    "nothing else.";

static fm_status prompt(const fm_synth *s, const fm_synth_item *it, int ask, fm_str *messages) {
    char turns[24], language[128];
    FM_UNUSED(ask);
    (void)snprintf(turns, sizeof turns, "%lld", (long long)s->o->turns);
    (void)snprintf(language, sizeof language, "in %.100s",
                   s->o->language ? s->o->language : "the language of the text");
    const char *const pairs[] = {"text", it->text.data, "turns", turns, "language", language, NULL};
    return fm_synth_fill(messages, s->prompt[0] ? s->prompt[0] : prompt_text, pairs);
}

typedef struct reading {
    fm_str messages, first, last;
    int64_t n;
    const char *why;
} reading;

static fm_status one(void *arg, const fm_json *object) {
    reading *r = arg;
    fm_sv role = fm_synth_member(object, "role"), content = fm_synth_member(object, "content");
    const char *want = r->n % 2 ? "assistant" : "user";
    r->why = r->why                  ? r->why
             : !fm_sv_eq(role, want) ? "roles do not take turns"
             : content.len == 0      ? "a turn without text"
                                     : NULL;
    if (r->why) {
        return FM_OK;
    }
    fm_str_printf(&r->messages, "%s{\"role\":\"%s\",\"content\":", r->n ? "," : "[", want);
    fm_str_json(&r->messages, content.ptr, content.len);
    fm_str_putc(&r->messages, '}');
    fm_str *keep = r->n == 0 ? &r->first : &r->last;
    fm_str_clear(keep);
    fm_str_append(keep, content.ptr, content.len);
    r->n++;
    return fm_str_check(keep);
}

static fm_status read(fm_synth *s, const fm_synth_item *it) {
    reading r = {.n = 0};
    fm_status st = fm_synth_objects(fm_synth_answer(it->answer[0]), "role", one, &r);
    fm_str_putc(&r.messages, ']');
    st = st == FM_OK ? fm_str_check(&r.messages) : st;
    const char *why = r.n == 0  ? "answer without turns in JSON"
                      : r.why   ? r.why
                      : r.n % 2 ? "the user has the last word"
                                : NULL;
    if (st == FM_OK) {
        st = why ? fm_synth_drop(s, why)
                 : fm_synth_chat_row(s, it, (fm_sv){r.messages.data, r.messages.len},
                                     (fm_sv){r.first.data, r.first.len}, (fm_sv){r.last.data, r.last.len}, NULL);
    }
    fm_str_free(&r.messages);
    fm_str_free(&r.first);
    fm_str_free(&r.last);
    return st;
}

const fm_synth_task fm_synth_task_dialogue = {
    .name = "dialogue",
    .help = "a conversation of several turns about each row of the input (a topic or a document)",
    .from_rows = true,
    .asks = 1,
    .prompt = prompt,
    .read = read,
};
