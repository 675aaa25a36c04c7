/* Answers in parts: the same parts in whatever pieces the text comes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "infer/grammar.h"
#include "serve/answer_reader.h"
#include "serve/constraint.h"

#define DS(x) "<\xef\xbd\x9ctool\xe2\x96\x81" x "\xef\xbd\x9c>"
#define CALLS                                                                                                          \
    DS("calls\xe2\x96\x81"                                                                                             \
       "begin")
#define CALL                                                                                                           \
    DS("call\xe2\x96\x81"                                                                                              \
       "begin")
#define SEP DS("sep")
#define SHUT                                                                                                           \
    DS("call\xe2\x96\x81"                                                                                              \
       "end")
#define END                                                                                                            \
    DS("calls\xe2\x96\x81"                                                                                             \
       "end")

static const char tools[] = "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\","
                            "\"function\":{\"name\":\"g\"}}],\"tool_choice\":\"auto\"}";

/* Parts as "R:...", "T:...", "C:name", "A:...", pieces of a part joined. */
typedef struct seen {
    fm_str text;
    int last;
} seen;

static void on_part(void *user, fm_answer_part part, const char *text, size_t n) {
    seen *s = user;
    if (s->last != (int)part || part == FM_PART_CALL) {
        fm_str_printf(&s->text, "[%c:", "RTCA"[part]);
        s->last = (int)part;
    }
    fm_str_append(&s->text, text, n);
}

static void check(const char *source, const char *prompt, const char *body, const char *answer, const char *want) {
    fm_json *j;
    fm_chat_plan plan;
    assert_int_equal(fm_json_parse(&j, body, strlen(body), "body"), FM_OK);
    assert_int_equal(fm_chat_plan_read(&plan, j, source), FM_OK);
    fm_chat_plan_prompt(&plan, prompt, strlen(prompt));
    for (size_t step = 1; step <= strlen(answer); step++) {
        fm_answer_reader r;
        seen s = {.last = -1};
        fm_answer_reader_init(&r, &plan, on_part, &s);
        for (size_t at = 0; at < strlen(answer); at += step) {
            assert_int_equal(fm_answer_reader_push(&r, answer + at, FM_MIN(step, strlen(answer) - at)), FM_OK);
        }
        assert_int_equal(fm_answer_reader_end(&r), FM_OK);
        if (strcmp(s.text.data ? s.text.data : "", want) != 0) {
            fail_msg("pieces of %zu: %s: expected %s, found %s", step, answer, want, s.text.data);
        }
        fm_str_free(&s.text);
        fm_answer_reader_deinit(&r);
    }
    fm_json_free(j);
}

static void test_reasoning(void **state) {
    (void)state;
    static const char r1[] = "{{ '</think>' }}";
    check(r1, "<Assistant><think>\n", "{}", "One <b> two\n</thin\n</think>\n\nThree </think>",
          "[R:One <b> two\n</thin[T:Three </think>");
    check(r1, "<Assistant>", "{}", "<think>\nhm\n</think>\nyes", "[R:hm[T:yes");
    check(r1, "<Assistant>", "{}", "<thin>k", "[T:<thin>k");
    check(r1, "<Assistant>", "{}", "\n\nplain  text ", "[T:plain  text");
    check(r1, "<think>\n\n</think>\n\n", "{}", "<think>x</think>", "[T:<think>x</think>");
    check(r1, "<think>", "{}", "never ends", "[R:never ends");
    check(r1, "<think>", "{\"reasoning_format\":\"none\"}", "a</think>b", "[T:a</think>b");
    check("no marks", "", "{}", "<think>x</think>", "[T:<think>x</think>");
}

static void test_hermes(void **state) {
    (void)state;
    static const char q[] = "<tool_call> </think>";
    check(q, "", tools,
          "I look.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\\\"\"]}}\n</tool_call>",
          "[T:I look.[C:f[A:{\"a\": [1, \"}\\\"\"]}");
    check(q, "", tools,
          "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"arguments\": {\"b\":2}, "
          "\"name\": \"g\", \"n\": 1.5}\n</tool_call>",
          "[C:f[A:{}[C:g[A:{\"b\":2}");
    check(q, "<think>", tools, "x</think>\n\n<tool_call>{\"name\":\"g\",\"arguments\":\"{\\\"c\\\":1}\"}</tool_call>",
          "[R:x[C:g[A:{\"c\":1}");
    check(q, "", tools, "<tool_call> not json", "[T:not json");
    check(q, "", tools, "a <tool_ca", "[T:a <tool_ca");
    check(q, "", tools, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1", "[C:f[A:{\"a\": 1");
    check(q, "", "{}", "<tool_call>{}</tool_call>", "[T:<tool_call>{}</tool_call>");
    check(q, "", "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"none\"}",
          "<tool_call>{}</tool_call>", "[T:<tool_call>{}</tool_call>");
}

static void test_llama(void **state) {
    (void)state;
    static const char l[] = "<|start_header_id|> {\"name\": function name, \"parameters\": dict}";
    check(l, "", tools, "{\"name\": \"f\", \"parameters\": {\"x\": true}}", "[C:f[A:{\"x\": true}");
    check(l, "", tools,
          "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"y\": 0}}",
          "[C:f[A:{}[C:g[A:{\"y\": 0}");
    check(l, "", tools, "{\"name\": \"other\", \"parameters\": {}}", "[T:{\"name\": \"other\", \"parameters\": {}}");
    check(l, "", tools, "{\"a\": [1, 2]}", "[T:{\"a\": [1, 2]}");
    check(l, "", tools, "{broken", "[T:{broken");
    check(l, "", tools, "Text {\"name\": \"f\"}", "[T:Text {\"name\": \"f\"}");
    check(l, "", "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"parallel_tool_calls\":false}",
          "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"f\", \"parameters\": {}}", "[C:f[A:{}");
}

static void test_deepseek(void **state) {
    (void)state;
    static const char v3[] = CALLS "```json", v31[] = CALLS;
    check(v3, "", tools,
          "Yes. " CALLS CALL "function" SEP "f\n```json\n{\"a\": \"```\"}\n```" SHUT "\n" CALL "function" SEP
          "g\n```json\n{}\n```" SHUT END,
          "[T:Yes.[C:f[A:{\"a\": \"```\"}[C:g[A:{}");
    check(v31, "", tools, CALLS CALL "f" SEP "{\"a\": 1}" SHUT CALL "g" SEP "{\"b\": {}}" SHUT END,
          "[C:f[A:{\"a\": 1}[C:g[A:{\"b\": {}}");
    check(v31, "", tools, CALLS "nothing", "[T:nothing");
}

static void test_choices(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{\"tools\":5}",
        "{\"tools\":[{}]}",
        "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]}",
        "{\"tool_choice\":\"required\"}",
        "{\"tool_choice\":\"some\"}",
        ("{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":{\"type\":\"function\","
         "\"function\":{\"name\":\"g\"}}}"),
        "{\"parallel_tool_calls\":1}"};
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        fm_json *j;
        fm_chat_plan p;
        assert_int_equal(fm_json_parse(&j, bad[i], strlen(bad[i]), "body"), FM_OK);
        assert_int_equal(fm_chat_plan_read(&p, j, ""), FM_ERR_ARGUMENT);
        fm_json_free(j);
    }
}

typedef struct grammar_row {
    const char *source, *prompt, *body;
    const char *in[4], *out[4]; /* in: whole answers; out: not, and not the beginning of one either when marked '!' */
} grammar_row;

/* The grammar of the whole answer lets through what the reader reads, and nothing else. */
static void test_grammar(void **state) {
    (void)state;
#define TOOL_F                                                                                                         \
    "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{\"n\":{"  \
    "\"type\":\"integer\"}},\"required\":[\"n\"]}}}"
#define TOOL_G                                                                                                         \
    "{\"type\":\"function\",\"function\":{\"name\":\"g\",\"parameters\":{\"type\":\"object\",\"uniqueItems\":true}}}"
    static const char both[] = "{\"tools\":[" TOOL_F "," TOOL_G "]}",
                      must[] = "{\"tools\":[" TOOL_F "," TOOL_G "],\"tool_choice\":\"required\"}",
                      only[] = "{\"tools\":[" TOOL_F "," TOOL_G
                               "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}",
                      json[] = "{\"response_format\":{\"type\":\"json_object\"}}";
    static const char q[] = "<tool_call>", think[] = "<tool_call></think>", v3[] = CALLS "```json", v31[] = CALLS,
                      l[] = "<|start_header_id|> \"parameters\":";
    static const grammar_row rows[] = {
        {q,
         "",
         both,
         {"", "any <tool_text", "a<<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>",
          ("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", "
           "\"arguments\": {\"x\":[]}}\n</tool_call>")},
         {"!<tool_call>x", "!<tool_call>\n{\"name\": \"h", "!<tool_call>\n{\"name\": \"f\", \"arguments\": {\"m",
          "<tool_call>\n"}},
        {q,
         "",
         only,
         {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>"},
         {"", "!t", "!<tool_call>\n{\"name\": \"g",
          "!<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>\n"}},
        {think,
         "<think>\n",
         must,
         {"hm <tool_call> </thin </think>\n\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"},
         {"", "hm", "!</think>no", "hm</think>"}},
        {think, "", json, {"{}", "<think>a</think>\n\n{\"b\": 1}"}, {"", "!<think>a</think>\n\nb", "!x", "<think>"}},
        {think, "<think>\n\n</think>\n\n", json, {"{}"}, {"!<think>"}},
        {v3,
         "",
         must,
         {CALLS CALL "function" SEP "f\n```json\n{\"n\":2}\n```" SHUT "\n" CALL "function" SEP
                     "g\n```json\n{}\n```" SHUT END},
         {"!x", CALLS}},
        {v31, "", both, {"x", "x" CALLS CALL "f" SEP "{\"n\":2}" SHUT END}, {CALLS, "!" CALLS CALL "h", "!" CALLS "x"}},
        {l,
         "",
         must,
         {"{\"name\": \"f\", \"parameters\": {\"n\":2}}; {\"name\": \"g\", \"parameters\": {}}"},
         {"!x", "", "!{\"name\": \"x"}},
    };
    static fm_serve s;
    assert_int_equal(fm_grammars_new(&s.grammars), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_json *j;
        fm_chat_plan plan;
        fm_grammar *g = NULL, *again = NULL;
        assert_int_equal(fm_json_parse(&j, rows[i].body, strlen(rows[i].body), "body"), FM_OK);
        assert_int_equal(fm_chat_plan_read(&plan, j, rows[i].source), FM_OK);
        fm_chat_plan_prompt(&plan, rows[i].prompt, strlen(rows[i].prompt));
        fm_status st = fm_chat_grammar(&g, &plan, &s, j);
        if (st != FM_OK) {
            fail_msg("row %zu: %s", i, fm_error_get().message);
        }
        assert_int_equal(fm_chat_grammar(&again, &plan, &s, j), FM_OK);
        assert_ptr_equal(g, again);
        for (int k = 0; k < 8; k++) {
            const char *text = k < 4 ? rows[i].in[k] : rows[i].out[k - 4];
            bool never = text && k >= 4 && text[0] == '!', ok = false;
            fm_matcher *m;
            if (!text) {
                continue;
            }
            assert_int_equal(fm_matcher_new(&m, g), FM_OK);
            assert_int_equal(fm_matcher_push(m, text + never, strlen(text + never), &ok), FM_OK);
            if (ok != !never || fm_matcher_complete(m) != (k < 4)) {
                fail_msg("row %zu: %s", i, text);
            }
            fm_matcher_free(m);
        }
        fm_grammar_free(g);
        fm_grammar_free(again);
        fm_json_free(j);
    }
    fm_grammars_free(s.grammars);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reasoning), cmocka_unit_test(test_hermes),
                                       cmocka_unit_test(test_llama),     cmocka_unit_test(test_deepseek),
                                       cmocka_unit_test(test_choices),   cmocka_unit_test(test_grammar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
