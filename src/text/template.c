/* Chat templates over the language in jinja.h: opening, the variables a template sees, rendering. */
#include "text/template.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/gguf.h"
#include "base/mem.h"
#include "text/jinja.h"
#include "text/template_spans.h"

#define MAX_TEMPLATE_FILE ((size_t)4 << 20)

enum { N_TOKENS = 4 };
static const char *const token_name[N_TOKENS] = {"bos_token", "eos_token", "pad_token", "unk_token"};

struct fm_template {
    fm_jinja *main;
    fm_jinja *tools;       /* used when tools are given; NULL = main */
    char *source;          /* of main */
    char *token[N_TOKENS]; /* NULL = not defined */
};

/* ---- Opening ------------------------------------------------------------------------------------ */

static fm_status copy_tokens(fm_template *t, const fm_tokenizer *tok) {
    const int32_t id[N_TOKENS] = {fm_tokenizer_bos(tok), fm_tokenizer_eos(tok), fm_tokenizer_pad(tok),
                                  fm_tokenizer_unk(tok)};
    for (int i = 0; i < N_TOKENS; i++) {
        size_t n = 0;
        const char *text = id[i] >= 0 ? fm_tokenizer_token(tok, id[i], &n) : NULL;
        if (text) {
            t->token[i] = fm_strndup(text, n);
            if (!t->token[i]) {
                FM_FAIL(FM_ERR_NO_MEMORY, "cannot copy a special token");
            }
        }
    }
    return FM_OK;
}

static fm_status make(fm_template **out, const char *text, size_t n, const char *tools, const char *name,
                      const fm_tokenizer *tok) {
    *out = NULL;
    fm_template *t = fm_calloc(1, sizeof *t);
    fm_status s = FM_OK;
    if (t) {
        t->source = fm_strndup(text, n);
    }
    if (!t || !t->source) {
        FM_FAIL_GOTO(s, fail, FM_ERR_NO_MEMORY, "cannot allocate a template");
    }
    FM_TRY_GOTO(s, fail, fmj_parse(&t->main, text, n, name));
    if (tools) {
        FM_TRY_GOTO(s, fail, fmj_parse(&t->tools, tools, strlen(tools), name));
    }
    if (tok) {
        FM_TRY_GOTO(s, fail, copy_tokens(t, tok));
    }
    *out = t;
    return FM_OK;
fail:
    fm_template_free(t);
    return s;
}

fm_status fm_template_parse(fm_template **out, const char *text, size_t n, const char *name, const fm_tokenizer *tok) {
    return make(out, text, n, NULL, name, tok);
}

static fm_status of_tokenizer(fm_template **out, const fm_tokenizer *from, const char *name, const fm_tokenizer *tok) {
    const char *text = fm_tokenizer_chat_template(from);
    *out = NULL;
    if (!text) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s has no chat template", name);
        return fm_error_hint("name one: chatml, llama3, deepseek-v3 ... (docs/templates.md), or give a file");
    }
    return make(out, text, strlen(text), fm_tokenizer_tool_template(from), name, tok ? tok : from);
}

static fm_status of_file(fm_template **out, const char *path, const fm_tokenizer *tok) {
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    FM_TRY(fm_file_read(&text, &n, path, MAX_TEMPLATE_FILE));
    fm_status s = make(out, text, n, NULL, path, tok);
    fm_free(text);
    return s;
}

static fm_status of_path(fm_template **out, const char *path, const fm_tokenizer *tok) {
    char file[4096];
    fm_tokenizer *from = NULL;
    if (fm_path_is_dir(path)) {
        FM_TRY(fm_path_join(file, sizeof file, path, "tokenizer.json"));
        if (!fm_path_exists(file)) {
            FM_TRY(fm_path_join(file, sizeof file, path, "chat_template.jinja"));
            return of_file(out, file, tok);
        }
    } else if (!fm_gguf_is_file(path)) {
        return of_file(out, path, tok);
    }
    FM_TRY(fm_tokenizer_open(&from, path));
    fm_status s = of_tokenizer(out, from, path, tok);
    fm_tokenizer_free(from);
    return s;
}

fm_status fm_template_open(fm_template **out, const char *which, const fm_tokenizer *tok) {
    const char *names[32];
    int n = 0;
    *out = NULL;
    if (!which) {
        FM_ASSERT(tok != NULL);
        return of_tokenizer(out, tok, "the tokenizer", tok);
    }
    for (const fm_template_row *row = fm_template_rows; row->name; row++) {
        if (strcmp(row->name, which) == 0) {
            return make(out, row->text, strlen(row->text), NULL, row->name, tok);
        }
        names[n++] = row->name;
    }
    if (fm_path_exists(which)) {
        return of_path(out, which, tok);
    }
    int near = fm_nearest_name(which, names, n);
    (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "no chat template named '%s', and no such file", which);
    return near >= 0 ? fm_error_hint("did you mean '%s'?", names[near])
                     : fm_error_hint("docs/templates.md lists the built-in ones");
}

void fm_template_free(fm_template *t) {
    if (t) {
        fmj_free(t->main);
        fmj_free(t->tools);
        fm_free(t->source);
        for (int i = 0; i < N_TOKENS; i++) {
            fm_free(t->token[i]);
        }
        fm_free(t);
    }
}

static int n_rows(void) {
    int n = 0;
    while (fm_template_rows[n].name) {
        n++;
    }
    return n;
}

const char *fm_template_name(int i) {
    return i >= 0 && i < n_rows() ? fm_template_rows[i].name : NULL;
}

const char *fm_template_text_of(int i) {
    return i >= 0 && i < n_rows() ? fm_template_rows[i].text : NULL;
}

const char *fm_template_source(const fm_template *t) {
    return t->source;
}

/* ---- What a template sees ----------------------------------------------------------------------- */

/* Reasoning goes by several names; templates look for one or the other (as transformers does it):
 * {"thinking": r, ... the message ..., "reasoning_content": r}. */
static fm_status name_reasoning(fmj_run *r, fmj_value *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const fmj_value *found = NULL;
    fmj_dict *d;
    for (size_t i = 0; i < FM_ARRAY_LEN(names) && !found; i++) {
        const fmj_value *v = fmj_dict_find_str(message->u.dict, names[i], strlen(names[i]));
        found = v && v->type != FMJ_NONE ? v : NULL;
    }
    if (!found) {
        return FM_OK;
    }
    fmj_value reasoning = *found;
    FM_TRY(fmj_dict_new(r, &d, message->u.dict->n + 2));
    FM_TRY(fmj_dict_put_name(r, d, "thinking", &reasoning));
    for (size_t i = 0; i < message->u.dict->n; i++) {
        FM_TRY(fmj_dict_put(r, d, &message->u.dict->e[i].key, &message->u.dict->e[i].value));
    }
    FM_TRY(fmj_dict_put_name(r, d, "reasoning_content", &reasoning));
    message->u.dict = d;
    return FM_OK;
}

/* `text` with the mark before or behind it. */
static fm_status marked(fmj_run *r, fmj_value *v, const fmj_mark *mark) {
    fmj_value m;
    FM_TRY(fmj_str_view(r, &m, mark->text, strlen(mark->text)));
    return mark->front ? fmj_str_cat(r, v, m.u.s, v->u.s) : fmj_str_cat(r, v, v->u.s, m.u.s);
}

/* Puts the mark into the content of a message: a string, or the first or last text among its parts. */
static fm_status mark_content(fmj_run *r, const fmj_value *message, const fmj_mark *mark) {
    fmj_value *content = fmj_dict_find_str(message->u.dict, "content", 7);
    if (content && content->type == FMJ_STR) {
        return marked(r, content, mark);
    }
    fmj_value *text = NULL;
    for (size_t i = 0; content && content->type == FMJ_LIST && i < content->u.list->n; i++) {
        const fmj_value *part = &content->u.list->item[i];
        fmj_value *v = part->type == FMJ_DICT ? fmj_dict_find_str(part->u.dict, "text", 4) : NULL;
        if (v && v->type == FMJ_STR && (!text || !mark->front)) {
            text = v;
        }
    }
    return text ? marked(r, text, mark) : FM_OK;
}

static fm_status set_messages(fmj_run *r, const fmj_job *job) {
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, job->n_messages));
    for (size_t i = 0; i < l->n; i++) {
        FM_TRY(fmj_from_json(r, &l->item[i], fm_json_at(job->messages, i)));
        FM_TRY(name_reasoning(r, &l->item[i]));
        if (job->mark.text && job->mark.message == i) {
            FM_TRY(mark_content(r, &l->item[i], &job->mark));
        }
    }
    fmj_value v = fmj_of_list(FMJ_LIST, l);
    return fmj_run_set(r, "messages", 8, &v);
}

static fm_status set_json(fmj_run *r, const char *name, fm_json *j) {
    fmj_value v;
    FM_TRY(fmj_from_json(r, &v, j));
    return fmj_run_set(r, name, strlen(name), &v);
}

static fm_status set_var(void *arg, const char *key, fm_json *value) {
    bool own = strcmp(key, "messages") == 0 || strcmp(key, "add_generation_prompt") == 0; /* the job's */
    return own ? FM_OK : set_json(arg, key, value);
}

static fm_status set_all(fmj_run *r, const fmj_job *job) {
    for (int i = 0; i < N_TOKENS; i++) {
        const char *token = job->t->token[i];
        if (token) {
            fmj_value v;
            FM_TRY(fmj_str_view(r, &v, token, strlen(token)));
            FM_TRY(fmj_run_set(r, token_name[i], strlen(token_name[i]), &v));
        }
    }
    fmj_value gen = fmj_bool(job->generation);
    FM_TRY(set_json(r, "tools", job->tools));
    FM_TRY(set_json(r, "documents", job->documents));
    FM_TRY(fmj_run_set(r, "add_generation_prompt", 21, &gen));
    if (job->vars) {
        FM_TRY(fm_json_each(job->vars, set_var, r));
    }
    if (job->more_vars) {
        FM_TRY(fm_json_each(job->more_vars, set_var, r));
    }
    return set_messages(r, job);
}

fm_status fmj_job_run(fm_template_result *out, const fmj_job *job) {
    const fm_jinja *tpl = job->tools && fm_json_size(job->tools) > 0 && job->t->tools ? job->t->tools : job->t->main;
    fmj_run r;
    *out = (fm_template_result){0};
    fm_status s = fmj_run_begin(&r, tpl);
    r.now = job->now;
    if (job->max_steps > 0) {
        r.limits.steps = r.steps = job->max_steps;
    }
    s = s == FM_OK ? set_all(&r, job) : s;
    s = s == FM_OK ? fmj_run_render(&r) : s;
    if (s == FM_OK && r.n_span > 0) {
        out->span = fm_calloc(r.n_span, sizeof *out->span);
        s = out->span ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate spans");
        for (size_t i = 0; s == FM_OK && i < r.n_span; i++) {
            if (r.span[i].begin < r.span[i].end) {
                out->span[out->n_spans++] = (fm_template_span){r.span[i].begin, r.span[i].end, -1};
            }
        }
    }
    if (s == FM_OK) {
        fm_str_append(&r.buf[0], "", 0);
        s = fm_str_check(&r.buf[0]);
        out->n = r.buf[0].len;
        out->text = s == FM_OK ? fm_str_take(&r.buf[0]) : NULL;
    }
    if (s == FM_OK && !out->text) { /* nothing was written */
        out->text = fm_strdup("");
        s = out->text ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate a text");
    }
    if (s != FM_OK) {
        fm_template_result_free(out);
    }
    fmj_run_end(&r);
    return s;
}

void fm_template_result_free(fm_template_result *r) {
    fm_free(r->text);
    fm_free(r->span);
    *r = (fm_template_result){0};
}

/* ---- Rendering ---------------------------------------------------------------------------------- */

bool fmj_job_marks_itself(const fmj_job *job) {
    const fm_jinja *tpl = job->tools && fm_json_size(job->tools) > 0 && job->t->tools ? job->t->tools : job->t->main;
    return tpl->has_generation;
}

static fm_status check_messages(const fm_json *messages) {
    if (!fm_json_is_array(messages)) {
        FM_FAIL(FM_ERR_FORMAT, "messages: a list is expected");
    }
    for (size_t i = 0; i < fm_json_size(messages); i++) {
        if (!fm_json_is_object(fm_json_at(messages, i))) {
            FM_FAIL(FM_ERR_FORMAT, "message %zu: an object with role and content is expected", i);
        }
    }
    return FM_OK;
}

static fm_status parse_option(fm_json **out, const char *text, const char *name, bool object) {
    if (!text) {
        return FM_OK;
    }
    FM_TRY(fm_json_parse(out, text, strlen(text), name));
    if (object ? !fm_json_is_object(*out) : !fm_json_is_array(*out) && !fm_json_is_null(*out)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: %s is expected", name, object ? "an object" : "a list");
    }
    return FM_OK;
}

/* Runs the job, and finds the spans when they are wanted. */
static fm_status run_job(fm_template_result *out, const fmj_job *job, bool spans) {
    FM_TRY(fmj_job_run(out, job));
    if (!spans) {
        out->n_spans = 0;
        return FM_OK;
    }
    fm_status s = fmj_job_marks_itself(job) ? FM_OK : fmj_find_spans(out, job);
    if (s != FM_OK) {
        fm_template_result_free(out);
    }
    return s;
}

/* The options as a job; what was parsed for it goes with free_job, also after a failure. A caller built against an
 * older header gives a shorter struct. */
static fm_status make_job(fmj_job *job, const fm_template *t, fm_json *messages, const fm_template_options *opt) {
    fm_template_options o = {0};
    *job = (fmj_job){.t = t, .messages = messages, .n_messages = fm_json_size(messages)};
    if (opt) {
        memcpy(&o, opt, FM_MIN(opt->size, sizeof o));
    }
    job->generation = o.add_generation_prompt;
    job->now = o.now;
    job->max_steps = o.max_steps;
    FM_TRY(parse_option(&job->tools, o.tools, "tools", false));
    FM_TRY(parse_option(&job->documents, o.documents, "documents", false));
    return parse_option(&job->vars, o.vars, "variables", true);
}

static void free_job(fmj_job *job) {
    fm_json_free(job->tools);
    fm_json_free(job->documents);
    fm_json_free(job->vars);
}

fm_status fm_template_render_json(fm_template_result *out, const fm_template *t, fm_json *messages,
                                  const fm_template_options *opt) {
    fmj_job job;
    *out = (fm_template_result){0};
    FM_TRY(check_messages(messages));
    fm_status s = make_job(&job, t, messages, opt);
    s = s == FM_OK ? run_job(out, &job, opt && opt->spans) : s;
    free_job(&job);
    return s;
}

fm_status fm_template_render_object(fm_template_result *out, const fm_template *t, const char *object, size_t n,
                                    const char *name, const fm_template_options *opt) {
    fm_json *j = NULL;
    fmj_job job = {0}, call;
    *out = (fm_template_result){0};
    FM_TRY(fm_json_parse(&j, object, n, name));
    fm_json *messages = fm_json_get(j, "messages"), *tools = fm_json_get(j, "tools");
    const fm_json *generation = fm_json_get(j, "add_generation_prompt");
    fm_status s = check_messages(messages);
    s = s == FM_OK ? make_job(&job, t, messages, opt) : s;
    call = job;
    call.more_vars = j;
    call.tools = tools ? tools : job.tools;
    call.generation = fm_json_bool(generation, job.generation);
    if (s == FM_OK && generation && !fm_json_is_bool(generation)) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "add_generation_prompt: true or false is expected");
    }
    if (s == FM_OK && tools && !fm_json_is_array(tools) && !fm_json_is_null(tools)) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "tools: a list is expected");
    }
    s = s == FM_OK ? run_job(out, &call, opt && opt->spans) : s;
    free_job(&job);
    fm_json_free(j);
    return s == FM_OK ? FM_OK : fm_error_context("%s", name);
}

fm_status fm_template_render(fm_template_result *out, const fm_template *t, const char *messages, size_t n,
                             const fm_template_options *opt) {
    fm_json *j;
    *out = (fm_template_result){0};
    FM_TRY(fm_json_parse(&j, messages, n, "messages"));
    fm_status s = fm_template_render_json(out, t, j, opt);
    fm_json_free(j);
    return s;
}

fm_status fm_template_turn_end(char **out, const fm_template *t) {
    static const char talk[] = "[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"zqx\"}]";
    const fm_template_options opt = {.size = sizeof opt, .spans = true};
    fm_template_result r;
    *out = NULL;
    FM_TRY(fm_template_render(&r, t, talk, sizeof talk - 1, &opt));
    const char *from = "";
    size_t n = 0;
    if (r.n_spans > 0) {
        const char *end = r.text + r.span[r.n_spans - 1].end;
        const char *content = fmj_last_of(r.text + r.span[0].begin, end, "zqx", 3);
        if (content) {
            from = content + 3;
            n = (size_t)(end - from);
            while (n > 0 && (from[n - 1] == ' ' || from[n - 1] == '\n')) {
                n--;
            }
        }
    }
    *out = fm_strndup(from, n);
    fm_template_result_free(&r);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a text");
    }
    return FM_OK;
}
