/* Chat templates: conversations to the text a model was trained on.
 *
 * The language is Jinja2 as the transformers library sets it up for chat templates (docs/templates.md says what is in
 * it and the limits that hold for hostile templates). A template is parsed once and does not change: any number of
 * threads may render with one object at the same time.
 *
 * The text holds the special tokens of the model written out, also the first one (BOS) where the template prints it:
 * encode it with allow_special = true and add_special = false, or BOS comes twice.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_TEMPLATE_H
#define FATHOM_TEMPLATE_H

#include "fathom/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_template fm_template;

/* Opens a template. `which` is
 *   NULL            the template of `tok`,
 *   a name          one of the built-in templates (fm_template_name),
 *   a path          a file of template text, a GGUF file, or a model's folder.
 * bos_token, eos_token, pad_token and unk_token are those of `tok` (which may be NULL: then those of the model at the
 * path, or none). The object does not need `tok` afterwards.
 * FM_ERR_NOT_FOUND when there is no template; FM_ERR_FORMAT and FM_ERR_UNSUPPORTED name the file and the line. */
FM_API FM_MUST_CHECK fm_status fm_template_open(fm_template **out, const char *which, const fm_tokenizer *tok);
/* From text; `name` is for messages. tok may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_template_parse(fm_template **out, const char *text, size_t n, const char *name,
                                                 const fm_tokenizer *tok);
FM_API void fm_template_free(fm_template *t);

/* Name and text of the i-th built-in template; NULL behind the last. */
FM_API const char *fm_template_name(int i);
FM_API const char *fm_template_text_of(int i);
/* The text of this template, as it is stored with a model. Owned by t. */
FM_API const char *fm_template_source(const fm_template *t);

typedef struct fm_template_options {
    size_t size;                /* sizeof(fm_template_options) */
    bool add_generation_prompt; /* end with what precedes an answer */
    bool spans;                 /* also say where the assistant's texts are */
    const char *tools;          /* JSON list of tool descriptions, or NULL */
    const char *documents;      /* JSON list, or NULL */
    const char *vars;           /* JSON object with more variables (enable_thinking ...); they win over all others but
                                 * messages; or NULL */
    int64_t now;                /* for strftime_now: seconds since 1970; 0 = the clock */
    int64_t max_steps;          /* of one rendering; 0 = 20 million */
} fm_template_options;

/* Bytes [begin, end) of the text that the assistant writes: what follows the generation prompt, up to and with the mark
 * that ends the turn (a blank behind that mark is left out). */
typedef struct fm_template_span {
    size_t begin, end;
    int64_t message; /* index among the messages; -1 for a {% generation %} block */
} fm_template_span;

typedef struct fm_template_result {
    char *text; /* [n] NUL-terminated */
    size_t n;
    fm_template_span *span; /* [n_spans] in order, not overlapping; empty ones are left out */
    size_t n_spans;
} fm_template_result;
FM_API void fm_template_result_free(fm_template_result *r);

/* Renders `messages`, a JSON list of {"role":...,"content":...} objects of n bytes. opt may be NULL. Release *out with
 * fm_template_result_free.
 *
 * With opt->spans: a template with {% generation %} blocks says itself where they are. For others each assistant
 * message is found by rendering the conversation up to it, with and without it; a message of which the template prints
 * nothing (say, reasoning that it drops from the history) has no span. FM_ERR_FORMAT when messages or options are not
 * such JSON; FM_ERR_DATA when the template refuses the conversation, goes wrong (with its line) or takes more than a
 * template may. */
FM_API FM_MUST_CHECK fm_status fm_template_render(fm_template_result *out, const fm_template *t, const char *messages,
                                                  size_t n, const fm_template_options *opt);

/* Renders a JSON object of n bytes: messages (a list), tools, documents, add_generation_prompt and any other variables
 * are its members and win over `opt`; `name` (a file and line) is for messages. */
FM_API FM_MUST_CHECK fm_status fm_template_render_object(fm_template_result *out, const fm_template *t,
                                                         const char *object, size_t n, const char *name,
                                                         const fm_template_options *opt);

/* What the template prints behind an assistant's text in the middle of a conversation, up to the last character that is
 * no blank: "<|im_end|>". Empty when there is no such mark. *out is released with fm_string_free. */
FM_API FM_MUST_CHECK fm_status fm_template_turn_end(char **out, const fm_template *t);

#ifdef __cplusplus
}
#endif
#endif
