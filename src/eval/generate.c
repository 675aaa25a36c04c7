/* Greedy answers to many prompts. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "eval/task.h"
#include "fathom/generate.h"

typedef struct answer {
    const fm_eval_generation *o;
    fm_str text;
    int64_t n_tokens;
    double first_s, last_s;
    bool cut; /* a stop text was met */
} answer;

static bool on_token(void *user, const fm_token_out *t) {
    answer *a = user;
    a->last_s = fm_now();
    a->first_s = a->n_tokens++ == 0 ? a->last_s : a->first_s;
    fm_str_append(&a->text, t->text, t->text_len);
    size_t end = SIZE_MAX;
    for (size_t i = 0; i < a->o->n_stop && a->text.len > 0; i++) {
        const char *at = memmem(a->text.data, a->text.len, a->o->stop[i].ptr, a->o->stop[i].len);
        if (at && a->o->stop[i].len > 0) {
            end = FM_MIN(end, (size_t)(at - a->text.data));
        }
    }
    if (end != SIZE_MAX) {
        a->text.len = end;
        a->text.data[end] = '\0';
        a->cut = true;
    }
    return !a->cut && !a->text.failed && !fm_cancelled();
}

fm_status fm_eval_generate(fm_model *m, const fm_eval_request *req, size_t n, const fm_eval_generation *o, fm_sv *out,
                           fm_eval_scores *s) {
    fm_sampling sampling = fm_sampling_default();
    sampling.temperature = 0;
    sampling.repetition_penalty = 1;
    sampling.max_new_tokens = o->max_new_tokens;
    double first = 0, rest = 0;
    int64_t n_rest = 0, longest = 1;
    for (size_t i = 0; i < n; i++) {
        longest = FM_MAX(longest, req[i].n_ids + o->max_new_tokens);
    }
    fm_session *session;
    fm_meter meter;
    FM_TRY(fm_session_new(&session, m, longest));
    fm_meter_start(&meter, "answering", "rows", (double)n);
    fm_status st = FM_OK;
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        answer a = {.o = o};
        double begin = fm_now();
        st = fm_session_truncate(session, 0);
        st = st == FM_OK ? fm_session_generate(session, req[i].ids, req[i].n_ids, &sampling, on_token, &a, NULL) : st;
        st = st == FM_OK ? fm_str_check(&a.text) : st;
        if (st == FM_OK && fm_cancelled()) {
            st = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while answering");
        }
        st = st == FM_OK ? fm_bump_sv(&s->arena, &out[i], a.text.data ? a.text.data : "", a.text.len) : st;
        fm_str_free(&a.text);
        first += a.n_tokens > 0 ? a.first_s - begin : 0;
        rest += a.n_tokens > 1 ? a.last_s - a.first_s : 0;
        n_rest += a.n_tokens > 1 ? a.n_tokens - 1 : 0;
        s->generated += a.n_tokens;
        s->tokens += req[i].n_ids + a.n_tokens;
        fm_meter_update(&meter, (double)(i + 1), "");
    }
    fm_session_free(session);
    s->first_token_ms = n > 0 ? 1000 * first / (double)n : NAN;
    s->per_token_ms = n_rest > 0 ? 1000 * rest / (double)n_rest : NAN;
    return st;
}
