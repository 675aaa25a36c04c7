/* Which parts an answer may have, and their grammar. */
#include "serve/tools.h"

#include <stdio.h>
#include <string.h>

#include "infer/grammar.h"
#include "serve/constraint.h"

#define DS_BEGIN "<\xef\xbd\x9ctool\xe2\x96\x81"
#define DS_CLOSE "\xef\xbd\x9c>"

/* The first whose needles are in the template; the last for templates that know no tools. */
static const fm_tool_format formats[] = {
    {.name = "deepseek_v3",
     .needle = DS_BEGIN "calls\xe2\x96\x81"
                        "begin" DS_CLOSE,
     .needle2 = "```json",
     .kind = FM_TOOL_DEEPSEEK,
     .call = DS_BEGIN "call\xe2\x96\x81"
                      "begin" DS_CLOSE,
     .begin = DS_BEGIN "calls\xe2\x96\x81"
                       "begin" DS_CLOSE,
     .open = DS_BEGIN "call\xe2\x96\x81"
                      "begin" DS_CLOSE "function" DS_BEGIN "sep" DS_CLOSE,
     .middle = "\n```json\n",
     .shut = "\n```" DS_BEGIN "call\xe2\x96\x81"
             "end" DS_CLOSE,
     .between = "\n",
     .end = DS_BEGIN "calls\xe2\x96\x81"
                     "end" DS_CLOSE},
    {.name = "deepseek_v31",
     .needle = DS_BEGIN "calls\xe2\x96\x81"
                        "begin" DS_CLOSE,
     .kind = FM_TOOL_DEEPSEEK,
     .call = DS_BEGIN "call\xe2\x96\x81"
                      "begin" DS_CLOSE,
     .begin = DS_BEGIN "calls\xe2\x96\x81"
                       "begin" DS_CLOSE,
     .open = DS_BEGIN "call\xe2\x96\x81"
                      "begin" DS_CLOSE,
     .middle = DS_BEGIN "sep" DS_CLOSE,
     .shut = DS_BEGIN "call\xe2\x96\x81"
                      "end" DS_CLOSE,
     .between = "",
     .end = DS_BEGIN "calls\xe2\x96\x81"
                     "end" DS_CLOSE},
    {.name = "hermes",
     .needle = "<tool_call>",
     .kind = FM_TOOL_OBJECT,
     .begin = "<tool_call>",
     .open = "\n{\"name\": \"",
     .middle = "\", \"arguments\": ",
     .shut = "}\n</tool_call>",
     .between = "\n<tool_call>",
     .end = ""},
    {.name = "llama3",
     .needle = "\"parameters\":",
     .needle2 = "<|start_header_id|>",
     .kind = FM_TOOL_OBJECT,
     .begin = NULL,
     .open = "{\"name\": \"",
     .middle = "\", \"parameters\": ",
     .shut = "}",
     .between = "; ",
     .end = ""},
};

static const fm_tool_format *format_of(const char *source) {
    const fm_tool_format *hermes = NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(formats); i++) {
        const fm_tool_format *f = &formats[i];
        if (strstr(source, f->needle) && (!f->needle2 || strstr(source, f->needle2))) {
            return f;
        }
        hermes = strcmp(f->name, "hermes") == 0 ? f : hermes;
    }
    return hermes;
}

/* ---- what a request says --------------------------------------------------------------------- */

static const fm_json *function_of(const fm_json *tools, size_t i) {
    return fm_json_get(fm_json_at(tools, i), "function");
}

static bool good_name(const char *name) {
    size_t n = name ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") : 0;
    return name && n > 0 && n <= 128 && !name[n];
}

static fm_status read_tools(fm_chat_plan *p, const fm_json *list) {
    if (fm_json_is_null(list) || (fm_json_is_array(list) && fm_json_size(list) == 0)) {
        return FM_OK;
    }
    if (!fm_json_is_array(list) || fm_json_size(list) > FM_MAX_TOOLS) {
        FM_FAIL(FM_ERR_ARGUMENT, "tools: expected a list of at most %d tools", FM_MAX_TOOLS);
    }
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const char *type = fm_json_str(fm_json_get(fm_json_at(list, i), "type"), NULL);
        const fm_json *f = function_of(list, i);
        if (!type || strcmp(type, "function") != 0 || !good_name(fm_json_str(fm_json_get(f, "name"), NULL))) {
            FM_FAIL(FM_ERR_ARGUMENT,
                    "tools[%zu]: expected {\"type\":\"function\",\"function\":{\"name\":...}} with a name of letters, "
                    "digits, _, - and .",
                    i);
        }
        const fm_json *parameters = fm_json_get(f, "parameters");
        if (!fm_json_is_null(parameters) && !fm_json_is_object(parameters)) {
            FM_FAIL(FM_ERR_ARGUMENT, "tools[%zu].function.parameters: expected a JSON schema", i);
        }
    }
    p->tools = list;
    p->choice = FM_TOOLS_AUTO;
    return FM_OK;
}

bool fm_chat_plan_has_tool(const fm_chat_plan *p, const char *name) {
    for (size_t i = 0; i < fm_json_size(p->tools); i++) {
        if (strcmp(fm_json_str(fm_json_get(function_of(p->tools, i), "name"), NULL), name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status read_choice(fm_chat_plan *p, const fm_json *v) {
    const char *word = fm_json_str(v, NULL), *name = fm_json_str(fm_json_get(fm_json_get(v, "function"), "name"), NULL);
    if (fm_json_is_null(v) || (word && strcmp(word, "auto") == 0)) {
        return FM_OK;
    }
    if (word && strcmp(word, "none") == 0) {
        p->choice = FM_TOOLS_NONE;
        return FM_OK;
    }
    if ((!word || strcmp(word, "required") != 0) && !name) {
        return fm_bad_field("tool_choice", "\"none\", \"auto\", \"required\" or a function by name");
    }
    if (!p->tools || (name && !fm_chat_plan_has_tool(p, name))) {
        FM_FAIL(FM_ERR_ARGUMENT, "tool_choice: there is no tool \"%.128s\" in tools", name ? name : "");
    }
    p->choice = FM_TOOLS_REQUIRED;
    p->only = name;
    return FM_OK;
}

fm_status fm_chat_plan_read(fm_chat_plan *p, const fm_json *body, const char *source) {
    const char *reasoning = NULL;
    *p = (fm_chat_plan){.format = format_of(source), .reasons = strstr(source, FM_THINK_END) != NULL};
    FM_TRY(read_tools(p, fm_json_get(body, "tools")));
    FM_TRY(read_choice(p, fm_json_get(body, "tool_choice")));
    const fm_json *parallel = fm_json_get(body, "parallel_tool_calls");
    if (!fm_json_is_null(parallel) && !fm_json_is_bool(parallel)) {
        return fm_bad_field("parallel_tool_calls", "true or false");
    }
    p->one_call = !fm_json_bool(parallel, true) || p->only;
    FM_TRY(fm_json_get_str(&reasoning, body, "reasoning_format", "auto"));
    p->keep_reasoning = reasoning && strcmp(reasoning, "none") == 0;
    return FM_OK;
}

void fm_chat_plan_prompt(fm_chat_plan *p, const char *prompt, size_t n) {
    const size_t begin = strlen(FM_THINK_BEGIN), end = strlen(FM_THINK_END);
    while (n > 0 && strchr(" \t\r\n", prompt[n - 1])) {
        n--;
    }
    if (n >= begin && memcmp(prompt + n - begin, FM_THINK_BEGIN, begin) == 0) {
        p->reasons = p->thinking = true;
    } else if (n >= end && memcmp(prompt + n - end, FM_THINK_END, end) == 0) {
        p->reasons = false; /* the prompt says: none this time */
    }
}

/* ---- grammar --------------------------------------------------------------------------------- */

static void literal(fm_str *out, const char *text) {
    fm_grammar_literal(out, text, strlen(text));
}

/* Rules NAME, NAME-1 ...: any text up to and with `mark`, then the rule `next`. The first character of the mark occurs
 * in it once, so that a false start begins again at the character that made it one. may_end: the text may also end. */
static void write_until(fm_str *out, const char *name, const char *mark, const char *next, bool may_end) {
    const char *end = mark + strlen(mark);
    uint32_t first = 0, c = 0;
    (void)fm_utf8_decode(&first, mark, end);
    int i = 0;
    for (const char *p = mark; p < end; i++) {
        int n = fm_utf8_decode(&c, p, end);
        FM_ASSERT(n > 0 && (i == 0 || c != first));
        p += n;
        if (i == 0) {
            fm_str_printf(out, "%s ::= ", name);
        } else {
            fm_str_printf(out, "%s-%d ::= [\\U%08x] %s-1 | ", name, i, first, name);
        }
        fm_str_printf(out, "%s[\\U%08x] ", may_end ? "\"\" | " : "", c);
        if (p == end) {
            fm_str_puts(out, next);
        } else {
            fm_str_printf(out, "%s-%d", name, i + 1);
        }
        fm_str_printf(out, " | [^\\U%08x\\U%08x] %s\n", c, first, name);
    }
}

/* The rule `name` for the arguments of a tool; a schema that cannot be enforced means any object, unless the tool is
 * strict. */
static fm_status arguments_rule(fm_str *out, const char *name, const fm_json *function) {
    const fm_json *schema = fm_json_get(function, "parameters");
    fm_str rules = {0};
    fm_status s = FM_OK;
    if (fm_json_size(schema) > 0) {
        s = fm_grammar_add_schema(&rules, name, schema);
    }
    if (fm_json_size(schema) == 0 ||
        (s == FM_ERR_UNSUPPORTED && !fm_json_bool(fm_json_get(function, "strict"), false))) {
        fm_str_clear(&rules);
        fm_str_printf(&rules, "%s ::= json-object\n", name);
        s = FM_OK;
    }
    if (s == FM_OK) {
        fm_str_append(out, rules.data ? rules.data : "", rules.len);
        s = fm_str_check(&rules);
    }
    fm_str_free(&rules);
    return s;
}

/* fm-calls: what follows the mark with which calls begin. */
static fm_status write_calls(fm_str *out, const fm_chat_plan *p) {
    const fm_tool_format *f = p->format;
    fm_str calls = {0};
    bool any = false;
    for (size_t i = 0; i < fm_json_size(p->tools); i++) {
        const fm_json *function = function_of(p->tools, i);
        const char *name = fm_json_str(fm_json_get(function, "name"), NULL);
        char rule[32];
        if (p->only && strcmp(p->only, name) != 0) {
            continue;
        }
        snprintf(rule, sizeof rule, "fm-tool-%zu", i);
        fm_status s = arguments_rule(out, rule, function);
        if (s != FM_OK) {
            fm_str_free(&calls);
            return s;
        }
        fm_str_puts(&calls, any ? "| " : "");
        literal(&calls, name);
        literal(&calls, f->middle);
        fm_str_printf(&calls, "%s ", rule);
        any = true;
    }
    fm_str_puts(out, "fm-call ::= ");
    literal(out, f->open);
    fm_str_printf(out, "(%s) ", calls.data ? calls.data : "");
    literal(out, f->shut);
    fm_str_puts(out, "\nfm-calls ::= fm-call ");
    if (!p->one_call) {
        fm_str_putc(out, '(');
        literal(out, f->between);
        fm_str_puts(out, "fm-call)* ");
    }
    literal(out, f->end);
    fm_str_putc(out, '\n');
    fm_status s = fm_str_check(&calls);
    fm_str_free(&calls);
    return s;
}

static fm_status write_answer(fm_str *out, const fm_chat_plan *p, const fm_json *body, bool *any) {
    bool constrained = false, calls = p->choice != FM_TOOLS_NONE && p->tools;
    FM_TRY(fm_constraint_read(out, &constrained, body));
    calls = calls && (p->choice == FM_TOOLS_REQUIRED || p->format->begin); /* without a mark: as the model likes */
    *any = calls || constrained;
    if (!*any) {
        return FM_OK;
    }
    if (calls) {
        if (!constrained || !strstr(out->data, "\njson-value ::= ")) {
            fm_grammar_json_rules(out);
        }
        FM_TRY(write_calls(out, p));
    }
    if (!calls) {
        fm_str_puts(out, "fm-main ::= fm-lead fm-body\n");
    } else if (p->choice == FM_TOOLS_REQUIRED || constrained) {
        fm_str_puts(out, "fm-main ::= fm-lead (");
        literal(out, p->format->begin ? p->format->begin : "");
        fm_str_puts(out, p->choice == FM_TOOLS_REQUIRED ? "fm-calls)\n" : "fm-calls | fm-body)\n");
    } else {
        write_until(out, "fm-main", p->format->begin, "fm-calls", true);
    }
    fm_str_puts(out, p->reasons ? "fm-lead ::= [\\n ]{0,2}\n" : "fm-lead ::= \"\"\n");
    if (p->reasons) {
        write_until(out, "fm-think", FM_THINK_END, "fm-main", false);
    }
    fm_str_puts(out, !p->reasons   ? "fm-start ::= fm-main\n"
                     : p->thinking ? "fm-start ::= fm-think\n"
                                   : "fm-start ::= \"" FM_THINK_BEGIN "\" fm-think | fm-main\n");
    return FM_OK;
}

fm_status fm_chat_grammar(fm_grammar **out, const fm_chat_plan *p, fm_serve *s, const fm_json *body) {
    fm_str rules = {0};
    bool any = false;
    *out = NULL;
    fm_status st = write_answer(&rules, p, body, &any);
    st = st == FM_OK ? fm_str_check(&rules) : st;
    if (st == FM_OK && any) {
        st = fm_grammars_get(out, s->grammars, &rules, "fm-start");
    }
    fm_str_free(&rules);
    return st;
}
