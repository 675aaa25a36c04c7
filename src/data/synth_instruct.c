/* instruct: new tasks after examples, as self-instruct makes them (Wang et al., ACL 2023): eight examples in a prompt,
 * six of the seeds and two of what was made before. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/synth.h"

#define FROM_SEEDS 6u
#define FROM_MADE  2u

static const char prompt_text[] =
    "You write tasks for training a helpful assistant. Here are examples, one JSON object a line:\n{examples}\n"
    "Write {n} new tasks that differ from the examples and from each other in subject and in kind{language}. A task is "
    "an "
    "instruction, an input (\"\" when the instruction needs none) and the right output. Answer with one JSON object a "
    "line, {\"instruction\": ..., \"input\": ..., \"output\": ...}, and nothing else.";

static fm_status prompt(const fm_synth *s, const fm_synth_item *it, int ask, fm_str *messages) {
    fm_str examples = {0}, language = {0};
    char n[24];
    FM_UNUSED(ask);
    fm_rng_key key = {
        .seed = (uint64_t)s->o->seed, .stream = fm_rng_stream("synth.examples"), .step = (uint32_t)it->index};
    size_t made = s->n_pool - s->n_seeds, from_made = FM_MIN(made, FROM_MADE);
    size_t from_seeds = FM_MIN(s->n_seeds, FROM_SEEDS + FROM_MADE - from_made);
    for (size_t i = 0; i < from_seeds + from_made; i++) { /* without repetition: the front of a permutation */
        bool seed = i < from_seeds;
        uint64_t p = fm_permute(seed ? i : i - from_seeds, seed ? s->n_seeds : made, fm_rng_u32(key, seed ? 0 : 4));
        const fm_str *e = &s->pool[(seed ? 0 : s->n_seeds) + p];
        fm_str_append(&examples, e->data, e->len);
        fm_str_puts(&examples, "\n");
    }
    if (s->o->language) {
        fm_str_printf(&language, ", in %s", s->o->language);
    }
    (void)snprintf(n, sizeof n, "%lld", (long long)s->o->per_request);
    fm_status st = fm_str_check(&examples);
    st = st == FM_OK ? fm_str_check(&language) : st;
    if (st == FM_OK) {
        const char *const pairs[] = {"examples", examples.data ? examples.data : "", "n", n,
                                     "language", language.data ? language.data : "", NULL};
        st = fm_synth_fill(messages, s->prompt[0] ? s->prompt[0] : prompt_text, pairs);
    }
    fm_str_free(&examples);
    fm_str_free(&language);
    return st;
}

typedef struct reading {
    fm_synth *s;
    const fm_synth_item *it;
    size_t n;
} reading;

static fm_status one(void *arg, const fm_json *object) {
    reading *r = arg;
    fm_sv instruction = fm_synth_member(object, "instruction"), input = fm_synth_member(object, "input"),
          output = fm_synth_member(object, "output");
    fm_str user = {0}, messages = {0}, example = {0};
    bool kept = false;
    r->n++;
    fm_str_append(&user, instruction.ptr, instruction.len);
    if (input.len) {
        fm_str_puts(&user, "\n");
        fm_str_append(&user, input.ptr, input.len);
    }
    fm_str_puts(&messages, "[{\"role\":\"user\",\"content\":");
    fm_str_json(&messages, user.data ? user.data : "", user.len);
    fm_str_puts(&messages, "},{\"role\":\"assistant\",\"content\":");
    fm_str_json(&messages, output.ptr, output.len);
    fm_str_puts(&messages, "}]");
    fm_status s = fm_str_check(&user);
    s = s == FM_OK ? fm_str_check(&messages) : s;
    if (s == FM_OK) {
        s = fm_synth_chat_row(r->s, r->it, (fm_sv){messages.data, messages.len}, instruction, output, &kept);
    }
    if (s == FM_OK && kept) {
        s = fm_json_dump(&example, object, 0);
        s = s == FM_OK ? fm_synth_example(r->s, (fm_sv){example.data, example.len}, instruction) : s;
    }
    fm_str_free(&user);
    fm_str_free(&messages);
    fm_str_free(&example);
    return s;
}

static fm_status read(fm_synth *s, const fm_synth_item *it) {
    reading r = {s, it, 0};
    FM_TRY(fm_synth_objects(fm_synth_answer(it->answer[0]), "instruction", one, &r));
    return r.n ? FM_OK : fm_synth_drop(s, "answer without a task in JSON");
}

const fm_synth_task fm_synth_task_instruct = {
    .name = "instruct",
    .help = "new instructions with answers, after example tasks (--seeds): self-instruct",
    .asks = 1,
    .prompt = prompt,
    .read = read,
};
