/* back-translate: each row, and a copy whose text went to another language and back (Sennrich et al., ACL 2016). */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/synth.h"

static const char there[] = "Translate the following text into {via}. Answer with the translation alone.\n\n{text}";
static const char back[] = "Translate the following text into {language}. Answer with the translation alone.\n\n{text}";

static fm_status prompt(const fm_synth *s, const fm_synth_item *it, int ask, fm_str *messages) {
    fm_str text = {0};
    const char *from = it->text.data;
    fm_status st = FM_OK;
    if (ask == 1) {
        fm_sv a = fm_synth_answer(it->answer[0]);
        fm_str_append(&text, a.ptr, a.len);
        fm_str_puts(&text, "");
        st = fm_str_check(&text);
        from = text.data ? text.data : "";
    }
    const char *const pairs[] = {
        "text", from, "via", s->o->via, "language", s->o->language ? s->o->language : "English", NULL};
    const char *own = s->prompt[ask];
    st = st == FM_OK ? fm_synth_fill(messages, own ? own : ask ? back : there, pairs) : st;
    fm_str_free(&text);
    return st;
}

static fm_status read(fm_synth *s, const fm_synth_item *it) {
    FM_TRY(fm_synth_row(s, it, NULL, NULL));
    if (!it->answer[1]) {
        return fm_synth_drop(s, "no translation");
    }
    fm_sv t = fm_synth_answer(it->answer[1]);
    const char *why = it->cut || it->answer_cut ? "a text too long to translate"
                      : t.len == 0              ? "empty translation"
                      : t.len == it->text.len && memcmp(t.ptr, it->text.data, t.len) == 0 ? "came back as it was"
                      : t.len > 3 * it->text.len + 30 || 3 * t.len + 30 < it->text.len ? "another length than the text"
                                                                                       : NULL;
    return why ? fm_synth_drop(s, why) : fm_synth_row(s, it, s->o->column, &t);
}

const fm_synth_task fm_synth_task_back_translate = {
    .name = "back-translate",
    .help = "adds copies of rows whose text was translated to another language (--via) and back (--language)",
    .from_rows = true,
    .asks = 2,
    .prompt = prompt,
    .read = read,
};
