/* Chats whose answers have parts: reasoning, then text or calls of tools. What marks them depends on the template. */
#ifndef FM_SERVE_TOOLS_H
#define FM_SERVE_TOOLS_H

#include "serve/serve.h"

#define FM_THINK_BEGIN "<think>"
#define FM_THINK_END   "</think>"
#define FM_MAX_TOOLS   128

/* How a family of models writes calls. Each is a row of a table in tools.c. */
typedef enum fm_tool_kind {
    FM_TOOL_OBJECT,   /* {"name": ..., "arguments": {...}} */
    FM_TOOL_DEEPSEEK, /* kind, separator, name, then the arguments in a fence; or name, separator, arguments */
} fm_tool_kind;
typedef struct fm_tool_format {
    const char *name;
    const char *needle, *needle2; /* in the template of such a model; needle2 may be NULL */
    fm_tool_kind kind;
    const char *call;                 /* DeepSeek: the mark of one call */
    const char *begin;                /* what the first call begins with, NULL: the answer is nothing but calls */
    const char *open, *middle, *shut; /* around the name and the arguments of a call */
    const char *between, *end;        /* of calls; behind the last one */
} fm_tool_format;

typedef enum fm_tool_choice { FM_TOOLS_NONE, FM_TOOLS_AUTO, FM_TOOLS_REQUIRED } fm_tool_choice;

typedef struct fm_chat_plan {
    const fm_tool_format *format;
    fm_tool_choice choice;
    const fm_json *tools;   /* of the body: a list; NULL = none */
    const char *only;       /* name of the one tool that may be called, or NULL */
    bool one_call;          /* no parallel calls */
    bool reasons, thinking; /* the template knows reasoning; the prompt ends within it */
    bool keep_reasoning;    /* it stays in the text */
} fm_chat_plan;

/* tools, tool_choice, parallel_tool_calls, reasoning_format of a request. */
FM_MUST_CHECK fm_status fm_chat_plan_read(fm_chat_plan *p, const fm_json *body, const char *template_source);
/* prompt: as rendered; where it ends tells whether reasoning goes on, may come, or is over. */
void fm_chat_plan_prompt(fm_chat_plan *p, const char *prompt, size_t n);
/* Gives the grammar of the whole answer, or NULL when anything may come. `body` for response_format and its like. */
FM_MUST_CHECK fm_status fm_chat_grammar(fm_grammar **out, const fm_chat_plan *p, fm_serve *s, const fm_json *body);
bool fm_chat_plan_has_tool(const fm_chat_plan *p, const char *name);

#endif
