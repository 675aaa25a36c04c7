/* Where the assistant's texts are in a rendered conversation, for templates that do not say so themselves.
 *
 * For assistant message i let G be the messages before it with the generation prompt, and B the messages up to it. In
 * most templates both are beginnings of the whole text, and message i is what B has more than G. Some templates print
 * a message differently once others follow it (reasoning is dropped from the history). Then a character that no
 * conversation has is put at the edge of the message's content, in the whole conversation: where the text changes,
 * there is the edge; what ends the turn is read off B in the same way. */
#include "text/template_spans.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/* U+E000, U+F8FF, U+10FFFD: for private use. One that the text has not is taken. */
static const char *const marks[] = {"\xEE\x80\x80", "\xEF\xA3\xBF", "\xF4\x8F\xBF\xBD"};

const char *fmj_last_of(const char *p, const char *end, const char *what, size_t n) {
    for (const char *q = end - n; (size_t)(end - p) >= n && q >= p; q--) {
        if (memcmp(q, what, n) == 0) {
            return q;
        }
    }
    return NULL;
}

static size_t common(const fm_template_result *a, const fm_template_result *b) {
    size_t n = FM_MIN(a->n, b->n), i = 0;
    while (i + 256 <= n && memcmp(a->text + i, b->text + i, 256) == 0) {
        i += 256;
    }
    while (i < n && a->text[i] == b->text[i]) {
        i++;
    }
    return i;
}

static bool begins(const fm_template_result *whole, const fm_template_result *part) {
    return part->n <= whole->n && memcmp(whole->text, part->text, part->n) == 0;
}

/* A rendering that may be refused by the template (a conversation that ends in the wrong role): then *ok is false. */
static fm_status attempt(fm_template_result *out, bool *ok, const fmj_job *job) {
    fm_status s = fmj_job_run(out, job);
    *ok = s == FM_OK;
    return s == FM_ERR_DATA || s == FM_ERR_UNSUPPORTED ? FM_OK : s;
}

/* The edge of message i's content in `text`, which is what `job` gives; *ok false when the content is not in it. */
static fm_status edge(size_t *at, bool *ok, const fm_template_result *text, const fmj_job *job, size_t i, bool front) {
    fmj_job marked = *job;
    fm_template_result r;
    *ok = false;
    *at = 0;
    size_t k = 0;
    while (k < FM_ARRAY_LEN(marks) && memmem(text->text, text->n, marks[k], strlen(marks[k]))) {
        k++;
    }
    if (k == FM_ARRAY_LEN(marks)) {
        return FM_OK;
    }
    bool rendered;
    marked.mark = (fmj_mark){.text = marks[k], .message = i, .front = front};
    FM_TRY(attempt(&r, &rendered, &marked));
    if (rendered) {
        size_t p = common(text, &r), n = strlen(marks[k]);
        while (p > 0 && p < r.n && ((unsigned char)r.text[p] & 0xC0) == 0x80) { /* both characters begin alike */
            p--;
        }
        *at = p;
        while (p < r.n && strchr(" \n\r\t", r.text[p])) { /* blanks that are cut off where no mark follows */
            p++;
        }
        *ok = r.n - p >= n && memcmp(r.text + p, marks[k], n) == 0;
    }
    fm_template_result_free(&r);
    return FM_OK;
}

/* The template cut the head of the content off (reasoning): the message then begins where the generation prompt and the
 * whole text part, if that is behind the messages before. */
static fm_status begin_by_prompt(size_t *begin, bool *ok, const fm_template_result *whole, const fm_template_result *g,
                                 const fmj_job *before) {
    fmj_job job = *before;
    fm_template_result p;
    bool has_p;
    job.generation = false;
    FM_TRY(attempt(&p, &has_p, &job));
    *begin = common(whole, g);
    *ok = has_p && begins(whole, &p) && *begin >= p.n;
    fm_template_result_free(&p);
    return FM_OK;
}

/* Bytes of the mark that ends a turn, which both texts begin with. What follows it may begin alike too ("<|user|>" and
 * "</s>"): then the common part is cut back to where a mark can end. Blanks behind it do not count. */
static size_t same_tail(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) {
        n++;
    }
    while (n > 0 && n < n_a && !strchr(">])} \n", a[n - 1])) {
        n--;
    }
    while (n > 0 && strchr(" \n\r\t", a[n - 1])) {
        n--;
    }
    return n;
}

/* Where message i ends in `whole` when the text up to it is not a beginning of the whole: the end of its content and
 * the mark that ends its turn in `upto`, if it has the same one. */
static fm_status end_by_mark(size_t *end, bool *ok, const fm_template_result *whole, const fmj_job *job,
                             const fm_template_result *upto, const fmj_job *upto_job, size_t i) {
    size_t at;
    bool has_tail;
    FM_TRY(edge(end, ok, whole, job, i, false));
    if (!*ok || !upto->text) {
        return FM_OK;
    }
    FM_TRY(edge(&at, &has_tail, upto, upto_job, i, false));
    if (has_tail) {
        *end += same_tail(upto->text + at, upto->n - at, whole->text + *end, whole->n - *end);
    }
    return FM_OK;
}

/* Leaves out blanks behind the mark that ends the turn. Where blanks alone end it, they are that mark. */
static size_t trim_end(const char *text, size_t begin, size_t end, const fm_json *message) {
    size_t n = 0, e = end;
    const char *content = fm_json_str(fm_json_get(message, "content"), &n);
    while (e > begin && strchr(" \n\r\t", text[e - 1])) {
        e--;
    }
    while (content && n > 0 && strchr(" \n\r\t", content[n - 1])) {
        n--;
    }
    const char *found = content ? fmj_last_of(text + begin, text + end, content, n) : NULL;
    bool bare = found && (size_t)(found - text) + n >= e;
    return bare ? end : e;
}

static fm_status find_span(fm_template_span *span, bool *ok, const fm_template_result *whole, const fmj_job *job,
                           size_t i) {
    fmj_job before = *job, upto = *job;
    fm_template_result g, b = {0};
    size_t begin = 0, end = 0;
    bool has_g, has_b = true, found = true;
    fm_status s = FM_OK;
    before.n_messages = i;
    before.generation = true;
    upto.n_messages = i + 1;
    upto.generation = false;
    FM_TRY(attempt(&g, &has_g, &before));
    if (has_g && begins(whole, &g)) {
        begin = g.n;
    } else {
        s = edge(&begin, &found, whole, job, i, true);
        if (s == FM_OK && !found && has_g) {
            s = begin_by_prompt(&begin, &found, whole, &g, &before);
        }
    }
    if (s == FM_OK && found && i + 1 == job->n_messages && !job->generation) {
        end = whole->n;
    } else if (s == FM_OK && found) {
        s = attempt(&b, &has_b, &upto);
        if (s == FM_OK && has_b && begins(whole, &b)) {
            end = b.n;
        } else if (s == FM_OK) {
            s = end_by_mark(&end, &found, whole, job, &b, &upto, i);
        }
    }
    fm_template_result_free(&g);
    fm_template_result_free(&b);
    if (s == FM_OK && found && begin < end) {
        end = trim_end(whole->text, begin, end, fm_json_at(job->messages, i));
    }
    *ok = s == FM_OK && found && begin < end;
    *span = (fm_template_span){begin, end, (int64_t)i};
    return s;
}

fm_status fmj_find_spans(fm_template_result *out, const fmj_job *job) {
    fm_template_span *span = fm_calloc(job->n_messages + 1, sizeof *span);
    fm_status s = FM_OK;
    size_t n = 0;
    if (!span) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate spans");
    }
    for (size_t i = 0; s == FM_OK && i < job->n_messages; i++) {
        const char *role = fm_json_str(fm_json_get(fm_json_at(job->messages, i), "role"), NULL);
        bool ok = false;
        if (role && (strcmp(role, "assistant") == 0 || strcmp(role, "model") == 0)) {
            s = find_span(&span[n], &ok, out, job, i);
        }
        if (ok && n > 0 && span[n].begin < span[n - 1].end) { /* two messages that the template made one */
            span[n].begin = span[n - 1].end;
            ok = span[n].begin < span[n].end;
        }
        n += ok;
    }
    if (s != FM_OK) {
        fm_free(span);
        return s;
    }
    fm_free(out->span);
    out->span = span;
    out->n_spans = n;
    return FM_OK;
}
