/* Chat templates: built-in formats, variables, spans, errors and limits. The language itself is compared with Jinja in
 * test_jinja.c. */
#include "text_fixture.h"

#include <stdlib.h>

#include "fathom/template.h"

static const char talk[] =
    "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"},"
    "{\"role\":\"assistant\",\"content\":\"<think>a</think>Yo \"},"
    "{\"role\":\"user\",\"content\":\"Bye\"},{\"role\":\"assistant\",\"content\":\"<think>b</think>So\"}]";
static const char tokens[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";

static void open_named(fm_template **t, const char *name) {
    ok(fm_template_open(t, name, NULL));
}

static void parse(fm_template **t, const char *text) {
    ok(fm_template_parse(t, text, strlen(text), "test", NULL));
}

/* Renders, or gives the status with the message in the error record. */
static fm_status render(fm_template_result *r, const char *text, const char *messages, const char *vars) {
    fm_template *t;
    const fm_template_options o = {.size = sizeof o, .vars = vars};
    memset(r, 0, sizeof *r);
    fm_status s = fm_template_parse(&t, text, strlen(text), "test", NULL);
    if (s == FM_OK) {
        s = fm_template_render(r, t, messages, strlen(messages), &o);
        fm_template_free(t);
    }
    return s;
}

static void gives(const char *text, const char *messages, const char *vars, const char *want) {
    fm_template_result r;
    ok(render(&r, text, messages, vars));
    assert_string_equal(r.text, want);
    assert_int_equal(r.n, strlen(want));
    fm_template_result_free(&r);
}

static void fails(fm_status want, const char *text, const char *message) {
    fm_template_result r;
    assert_int_equal(render(&r, text, "[]", NULL), want);
    if (!strstr(fm_error_get().message, message)) {
        fail_msg("'%s' lacks '%s'", fm_error_get().message, message);
    }
    assert_null(r.text);
}

/* ---- Built-in formats --------------------------------------------------------------------------- */

static const struct {
    const char *name, *text, *prompt, *turn_end;
    const char *span[2];
} formats[] = {
    {"chatml",
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>a</think>Yo "
     "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>b</think>So<|im_end|>\n",
     "<|im_start|>assistant\n",
     "<|im_end|>",
     {"<think>a</think>Yo <|im_end|>", "<think>b</think>So<|im_end|>"}},
    {"llama3",
     "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>a</think>Yo<|eot_id|><|start_header_id|>user"
     "<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>b</think>So<|eot_id|>",
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "<|eot_id|>",
     {"<think>a</think>Yo<|eot_id|>", "<think>b</think>So<|eot_id|>"}},
    {"deepseek-v3",
     "<s>S<｜User｜>Hi<｜Assistant｜><think>a</think>Yo "
     "<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜><think>b</think>So"
     "<｜end▁of▁sentence｜>",
     "<｜Assistant｜>",
     "<｜end▁of▁sentence｜>",
     {"<think>a</think>Yo <｜end▁of▁sentence｜>", "<think>b</think>So<｜end▁of▁sentence｜>"}},
    {"deepseek-r1",
     "<s>S<｜User｜>Hi<｜Assistant｜>Yo "
     "<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜><think>b</think>So<｜end▁of▁sentence｜>",
     "<｜Assistant｜><think>\n",
     "<｜end▁of▁sentence｜>",
     {"Yo <｜end▁of▁sentence｜>", "<think>b</think>So<｜end▁of▁sentence｜>"}},
    {"qwen2.5",
     "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>a</think>Yo "
     "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>b</think>So<|im_end|>\n",
     "<|im_start|>assistant\n",
     "<|im_end|>",
     {"<think>a</think>Yo <|im_end|>", "<think>b</think>So<|im_end|>"}},
    {"mistral",
     "<s>[INST] S\n\nHi[/INST] <think>a</think>Yo </s>[INST] Bye[/INST] <think>b</think>So</s>",
     "",
     "",
     {" <think>a</think>Yo </s>", " <think>b</think>So</s>"}},
    {"phi",
     "<|system|>\nS<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n<think>a</think>Yo <|end|>\n<|user|>\nBye<|end|>\n"
     "<|assistant|>\n<think>b</think>So<|end|>\n",
     "<|assistant|>\n",
     "<|end|>",
     {"<think>a</think>Yo <|end|>", "<think>b</think>So<|end|>"}},
    {"gemma",
     "<s><start_of_turn>user\nS\n\nHi<end_of_turn>\n<start_of_turn>model\n<think>a</think>Yo<end_of_turn>\n"
     "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n<think>b</think>So<end_of_turn>\n",
     "<start_of_turn>model\n",
     "<end_of_turn>",
     {"<think>a</think>Yo<end_of_turn>", "<think>b</think>So<end_of_turn>"}},
    {"vicuna",
     "<s>S USER: Hi ASSISTANT: <think>a</think>Yo </s>USER: Bye ASSISTANT: <think>b</think>So</s>",
     "ASSISTANT:",
     "",
     {" <think>a</think>Yo </s>", " <think>b</think>So</s>"}},
    {"alpaca",
     "<s>S\n\n### Instruction:\nHi\n\n### Response:\n<think>a</think>Yo </s>\n\n### Instruction:\nBye\n\n"
     "### Response:\n<think>b</think>So</s>",
     "### Response:\n",
     "",
     {"<think>a</think>Yo </s>", "<think>b</think>So</s>"}},
    {"plain",
     "<s>S\n\nUser: Hi\n\nAssistant: <think>a</think>Yo </s>User: Bye\n\nAssistant: <think>b</think>So</s>",
     "Assistant:",
     "",
     {" <think>a</think>Yo </s>", " <think>b</think>So</s>"}},
};

static void test_formats(void **state) {
    (void)state;
    fm_template_options o = {.size = sizeof o, .vars = tokens, .spans = true};
    size_t n_formats = sizeof formats / sizeof formats[0];
    for (size_t i = 0; i < n_formats; i++) {
        fm_template *t;
        fm_template_result r;
        char *end, prompted[2048];
        open_named(&t, formats[i].name);
        assert_string_equal(fm_template_name((int)i), formats[i].name);
        assert_string_equal(fm_template_source(t), fm_template_text_of((int)i));
        o.add_generation_prompt = false;
        ok(fm_template_render(&r, t, talk, sizeof talk - 1, &o));
        assert_string_equal(r.text, formats[i].text);
        assert_int_equal(r.n_spans, 2);
        for (size_t k = 0; k < 2; k++) {
            const char *want = formats[i].span[k];
            assert_int_equal(r.span[k].message, k ? 4 : 2);
            assert_int_equal(r.span[k].end - r.span[k].begin, strlen(want));
            assert_memory_equal(r.text + r.span[k].begin, want, strlen(want));
        }
        fm_template_result_free(&r);
        o.add_generation_prompt = true;
        static const char first[] = "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"}]";
        ok(fm_template_render(&r, t, first, sizeof first - 1, &o));
        size_t cut = r.n - strlen(formats[i].prompt);
        assert_memory_equal(r.text, formats[i].text, cut);
        snprintf(prompted, sizeof prompted, "%s", r.text + cut);
        assert_string_equal(prompted, formats[i].prompt);
        assert_int_equal(r.n_spans, 0);
        fm_template_result_free(&r);
        ok(fm_template_turn_end(&end, t));
        assert_string_equal(end, formats[i].turn_end);
        fm_string_free(end);
        fm_template_free(t);
    }
    assert_null(fm_template_name((int)n_formats));
    assert_null(fm_template_text_of(-1));
}

/* ---- Variables ---------------------------------------------------------------------------------- */

static void test_variables(void **state) {
    (void)state;
    gives("{{ x }}|{{ messages|length }}|{{ tools is none }}|{{ documents }}|{{ add_generation_prompt }}|{{ y is "
          "defined }}",
          "[]", "{\"x\":[1,2.5,null,true,\"a'b\"]}", "[1, 2.5, None, True, \"a'b\"]|0|True|None|False|False");
    /* reasoning under any of its names */
    gives("{% for m in messages %}{{ m.thinking }}-{{ m.reasoning_content }};{% endfor %}",
          "[{\"role\":\"a\",\"reasoning\":\"r\"},{\"role\":\"a\",\"thinking\":\"t\",\"reasoning_content\":\"c\"},"
          "{\"role\":\"a\",\"reasoning_content\":null,\"thinking\":\"t\"}]",
          NULL, "r-r;t-c;t-t;");
    fm_template *t;
    fm_template_result r;
    const fm_template_options o = {.size = sizeof o,
                                   .tools = "[{\"name\":\"f\"}]",
                                   .documents = "[{\"title\":\"d\"}]",
                                   .add_generation_prompt = true,
                                   .now = 86400};
    parse(&t, "{{ tools[0].name }}{{ documents[0].title }}{{ add_generation_prompt }} {{ strftime_now('%Y') }}");
    ok(fm_template_render(&r, t, "[]", 2, &o));
    assert_string_equal(r.text, "fdTrue 1970");
    fm_template_result_free(&r);
    static const char object[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"tools\":[{\"name\":\"g\"}],"
                                 "\"add_generation_prompt\":false,\"documents\":[{\"title\":\"e\"}]}";
    ok(fm_template_render_object(&r, t, object, sizeof object - 1, "line 1", &o));
    assert_string_equal(r.text, "geFalse 1970");
    fm_template_result_free(&r);
    assert_int_equal(fm_template_render_object(&r, t, "{\"messages\":[3]}", 16, "line 7", &o), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "line 7"));
    assert_int_equal(fm_template_render(&r, t, "{}", 2, &o), FM_ERR_FORMAT);
    assert_int_equal(fm_template_render(&r, t, "[", 1, &o), FM_ERR_FORMAT);
    fm_template_free(t);
}

/* BOS comes once: the template writes it, the encoder adds none. */
static void test_bos(void **state) {
    (void)state;
    static const char vocab[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"h\":0,\"i\":1,\"<s>\":2,\"</"
        "s>\":3},\"merges\":[]},\"added_tokens\":["
        "{\"id\":2,\"content\":\"<s>\",\"special\":true},{\"id\":3,\"content\":\"</s>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
        "\"decoder\":{\"type\":\"ByteLevel\"}}";
    static const char config[] =
        "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true,\"chat_template\":["
        "{\"name\":\"tool_use\",\"template\":\"{{ bos_token }}i\"},{\"name\":\"default\","
        "\"template\":\"{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}\"}]}";
    static const char hi[] = "[{\"role\":\"user\",\"content\":\"hi\"}]";
    const fm_encode_options eo = {.size = sizeof eo, .allow_special = true};
    fm_template_options o = {.size = sizeof o};
    fm_tokenizer *tok;
    fm_template *t;
    fm_template_result r;
    fm_tokens ids = {0};
    ok(fm_tokenizer_parse(&tok, vocab, sizeof vocab - 1, config, sizeof config - 1, "vocab"));
    ok(fm_template_open(&t, NULL, tok));
    ok(fm_template_render(&r, t, hi, sizeof hi - 1, NULL));
    assert_string_equal(r.text, "<s>hi</s>");
    ok(fm_tokenizer_encode(&ids, tok, r.text, r.n, &eo));
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.ids[0], 2);
    assert_int_equal(ids.ids[1], 0);
    assert_int_equal(ids.ids[3], 3);
    fm_template_result_free(&r);
    /* the template for tools, also after saving */
    char dir[] = "/tmp/fathom-template-XXXXXX";
    assert_non_null(mkdtemp(dir));
    ok(fm_tokenizer_save(tok, dir));
    for (int i = 0; i < 2; i++) {
        o.tools = "[{\"name\":\"f\"}]";
        ok(fm_template_render(&r, t, hi, sizeof hi - 1, &o));
        assert_string_equal(r.text, "<s>i");
        fm_template_result_free(&r);
        o.tools = "[]";
        ok(fm_template_render(&r, t, hi, sizeof hi - 1, &o));
        assert_string_equal(r.text, "<s>hi</s>");
        fm_template_result_free(&r);
        fm_template_free(t);
        if (i == 0) {
            ok(fm_template_open(&t, dir, NULL));
        }
    }
    /* a template that is set replaces both */
    ok(fm_tokenizer_set_chat_template(tok, "{{ messages[0].content }}"));
    assert_null(fm_tokenizer_tool_template(tok));
    ok(fm_tokenizer_set_chat_template(tok, NULL));
    assert_int_equal(fm_template_open(&t, NULL, tok), FM_ERR_NOT_FOUND);
    char path[64];
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        (void)remove(path);
    }
    (void)remove(dir);
    fm_tokens_free(&ids);
    fm_tokenizer_free(tok);
}

/* ---- Spans -------------------------------------------------------------------------------------- */

static void spans_are(const char *text, const char *messages, const char *const *want, size_t n) {
    fm_template *t;
    fm_template_result r;
    const fm_template_options o = {.size = sizeof o, .spans = true};
    parse(&t, text);
    ok(fm_template_render(&r, t, messages, strlen(messages), &o));
    if (r.n_spans != n) {
        fail_msg("%zu spans, expected %zu in %s", r.n_spans, n, r.text);
    }
    for (size_t i = 0; i < n; i++) {
        assert_true(r.span[i].end <= r.n && r.span[i].begin < r.span[i].end);
        if (strlen(want[i]) != r.span[i].end - r.span[i].begin ||
            memcmp(r.text + r.span[i].begin, want[i], strlen(want[i])) != 0) {
            fail_msg("span %zu is '%.*s', expected '%s'", i, (int)(r.span[i].end - r.span[i].begin),
                     r.text + r.span[i].begin, want[i]);
        }
    }
    fm_template_result_free(&r);
    fm_template_free(t);
}

static void test_spans(void **state) {
    (void)state;
    /* the template says so itself, also inside a block */
    spans_are("{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<e>"
              "{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
              talk, (const char *[]){"<think>a</think>Yo <e>", "<think>b</think>So<e>"}, 2);
    /* the history loses its reasoning: neither beginning of the text can be compared; the prompt has "<think>" */
    spans_are("{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' and not loop.last %}"
              "{{ m.content.split('</think>')[-1]|trim }}{% else %}{{ m.content }}{% endif %}<e>\n{% endfor %}"
              "{% if add_generation_prompt %}assistant:<think>{% endif %}",
              talk, (const char *[]){"Yo<e>", "b</think>So<e>"}, 2);
    /* the end of the whole conversation has a mark of its own */
    spans_are("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
              "{% if add_generation_prompt %}<|assistant|>{% else %}</s>{% endif %}",
              "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"A\"},"
              "{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"B\"}]",
              (const char *[]){"A<|end|>", "B<|end|>\n</s>"}, 2);
    /* reasoning in a field of its own, printed for the last answer only */
    spans_are(
        "{% for m in messages %}{{ m.role }}:{% if m.reasoning and loop.last %}<t>{{ m.reasoning }}</t>{% endif %}"
        "{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
        "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"A\",\"reasoning\":\"r\"},"
        "{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"B\",\"reasoning\":\"q\"}]",
        (const char *[]){"A<e>", "<t>q</t>B<e>"}, 2);
    /* nothing but a newline ends the turn: it is kept */
    spans_are("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
              "{% if add_generation_prompt %}assistant:{% endif %}",
              "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"A\"},"
              "{\"role\":\"user\",\"content\":\"u\"}]",
              (const char *[]){" A\n"}, 1);
    /* a conversation that begins with the assistant, which the template refuses for the prompt alone */
    spans_are("{% if not messages %}{{ raise_exception('empty') }}{% endif %}{% for m in messages %}[{{ m.role }}]"
              "{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
              "[{\"role\":\"assistant\",\"content\":\"A\"},{\"role\":\"user\",\"content\":\"u\"}]",
              (const char *[]){"A<e>"}, 1);
    /* an answer of which nothing is printed has no span; tool calls without content have one */
    spans_are(
        "{% for m in messages %}{% if m.content or m.calls %}[{{ m.role }}]{{ m.content or '' }}{{ m.calls or '' }}"
        "<e>{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
        "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"\"},"
        "{\"role\":\"assistant\",\"content\":null,\"calls\":\"f()\"},{\"role\":\"tool\",\"content\":\"7\"},"
        "{\"role\":\"assistant\",\"content\":[]}]",
        (const char *[]){"f()<e>"}, 1);
    /* content in parts, and content that has the mark in it */
    spans_are("{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
              "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{{ '<e>' if loop.last else '' }}{% endfor %}"
              "{% if add_generation_prompt %}[ assistant]{% endif %}",
              "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":[{\"text\":\"A\"},{\"text\":"
              "\"B\"}]},"
              "{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"\xEE\x80\x80x\"}]",
              (const char *[]){"AB", "\xEE\x80\x80x<e>"}, 2);
}

/* ---- Errors and limits -------------------------------------------------------------------------- */

static void test_errors(void **state) {
    (void)state;
    fails(FM_ERR_FORMAT, "a\n{% if x %}", "test:2");
    fails(FM_ERR_FORMAT, "{{ 1 +", "test:1");
    fails(FM_ERR_FORMAT, "{{ 'a }}", "test:1");
    fails(FM_ERR_FORMAT, "{% endfor %}", "endfor");
    fails(FM_ERR_FORMAT, "{% break %}", "loop");
    fails(FM_ERR_FORMAT, "\xFF", "UTF-8");
    fails(FM_ERR_UNSUPPORTED, "{% include 'x' %}", "include");
    fails(FM_ERR_UNSUPPORTED, "\n\n{{ 1|nothing }}", "test:3: no filter named 'nothing'");
    fails(FM_ERR_DATA, "\n{{ nothing.x }}", "test:2: 'nothing' is undefined");
    fails(FM_ERR_DATA, "{{ raise_exception('no ' ~ 1) }}", "no 1");
    fails(FM_ERR_DATA, "{% set l = [] %}{% if l.append(1) %}{% endif %}", "cannot change a list");
    fails(FM_ERR_DATA, "{{ 9223372036854775807 + 1 }}", "64 bits");
    fails(FM_ERR_DATA, "{{ 1 // 0 }}", "zero");
    fails(FM_ERR_DATA, "{{ {'a': 1}.items().x.y }}", "has no attribute 'x'");
    fm_template *t = NULL;
    assert_int_equal(fm_template_open(&t, "chatmll", NULL), FM_ERR_NOT_FOUND);
    assert_non_null(strstr(fm_error_get().hint, "chatml"));
    assert_null(t);
}

/* Each of these asks for more than a template may have. */
static void test_limits(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ range(100001)|length }}",
        "{{ 'x' * 9000000000000000000 }}",
        "{{ [0] * 9000000000000000000 }}",
        "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor "
        "%}",
        "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% set ns = namespace(v=[]) %}{% for i in range(100000) %}{% set ns.v = [ns.v] %}{% endfor %}{{ ns.v }}",
        "{% set ns = namespace(v=[]) %}{% for i in range(100000) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}{{ ns.v }}",
        "{% set ns = namespace(v=[]) %}{% for i in range(1000) %}{% set ns.v = [ns.v] %}{% endfor %}{{ ns.v == [ns.v] "
        "}}",
        "{{ 'a' | center(9000000000) }}",
        "{{ '%*d' | format(900000000, 1) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{{ ('\\n' * 1000000) | indent(1000000, blank=true) }}",
        "{{ [1] | batch(9000000000000, 0) | list }}",
        "{{ [1] | slice(9000000000000) | list }}",
        "{% set ns = namespace(v={}) %}{% for i in range(100) %}{% set ns.v = {'a': ns.v, 'b': ns.v} %}{% endfor %}"
        "{{ ns.v|tojson }}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        fm_template_result r;
        fm_status s = render(&r, texts[i], "[]", NULL);
        if (s != FM_ERR_DATA) {
            fail_msg("template %zu gives %s", i, fm_status_name(s));
        }
    }
    /* nesting is refused when the template is read */
    char deep[4096];
    memset(deep, 0, sizeof deep);
    memset(deep, '(', 2000);
    memcpy(deep, "{{", 2);
    fails(FM_ERR_FORMAT, deep, "test:1");
    strcpy(deep, "{{ 1");
    for (int i = 0; i < 1000; i++) {
        strcat(deep, "+1");
    }
    strcat(deep, "}}");
    fails(FM_ERR_FORMAT, deep, "levels");
}

/* Whatever allocation fails, the call fails with it and nothing is lost. */
static void test_memory(void **state) {
    (void)state;
    const fm_template_options o = {.size = sizeof o, .vars = tokens, .spans = true, .tools = "[{\"name\":\"f\"}]"};
    bool done = false;
    for (int64_t n = 1; !done; n++) {
        fm_template *t = NULL;
        fm_template_result r = {0};
        fm_mem_fail_at(n, false);
        fm_status s = fm_template_open(&t, DATA "templates/qwen3.jinja", NULL);
        s = s == FM_OK ? fm_template_render(&r, t, talk, sizeof talk - 1, &o) : s;
        done = s == FM_OK;
        fm_mem_fail_at(0, false);
        if (!done) {
            assert_int_equal(s, FM_ERR_NO_MEMORY);
            assert_null(r.text);
        }
        fm_template_result_free(&r);
        fm_template_free(t);
        assert_true(n < 100000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats), cmocka_unit_test(test_variables), cmocka_unit_test(test_bos),
        cmocka_unit_test(test_spans),   cmocka_unit_test(test_errors),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
