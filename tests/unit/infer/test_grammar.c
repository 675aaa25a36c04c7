/* Grammars: texts that are in and out, refusals, and the tokens that may come next against trying each. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "infer/grammar.h"

static bool accepts(fm_grammar *g, const char *text) {
    fm_matcher *m;
    bool ok = false;
    assert_int_equal(fm_matcher_new(&m, g), FM_OK);
    assert_int_equal(fm_matcher_push(m, text, strlen(text), &ok), FM_OK);
    ok = ok && fm_matcher_complete(m);
    fm_matcher_free(m);
    return ok;
}

typedef struct row {
    fm_grammar_kind kind;
    const char *grammar;
    const char *in[8], *out[8];
} row;

static void test_texts(void **state) {
    (void)state;
    static const row rows[] = {
        {FM_GRAMMAR_GBNF, "root ::= \"a\"{5,5}", {"aaaaa"}, {"aaaa", "aaaaaa", ""}},
        {FM_GRAMMAR_GBNF,
         "# sums\nroot ::= term (\"+\" term)*\nterm ::= [0-9]+ | \"(\" root \")\"",
         {"1", "12+3", "((1+2)+3)"},
         {"", "+1", "(1", "1+"}},
        {FM_GRAMMAR_GBNF,
         "root ::= [\xe4\xb8\x80-\xe9\xbf\xbf]+ \"\\u3002\"?\n",
         {"\xe4\xbd\xa0\xe5\xa5\xbd", "\xe4\xbd\xa0\xe3\x80\x82", "\xe9\xbf\xbf"},
         {"a", "\xe4\xbd", "\xe3\x80\x82"}},
        {FM_GRAMMAR_GBNF, "root ::= [^\\n]* |\n \"\\n\"", {"", "\n", "\xf0\x9f\x98\x80x"}, {"a\n", "\xff"}},
        {FM_GRAMMAR_GBNF,
         "root ::= a? b{2,} c{,1}\na ::= \"a\"\nb ::= \"b\"\nc ::= \"c\"",
         {"bb", "abbb", "bbc"},
         {"ab", "bbcc"}},
        {FM_GRAMMAR_GBNF, "root ::= (\"\" | \"x\")* \"y\"", {"y", "xxy"}, {"x"}},
        {FM_GRAMMAR_REGEX, "^[a-c]+(?:-\\d{2,3})?$", {"a", "abc-12", "b-123"}, {"", "a-1", "d", "a-1234"}},
        {FM_GRAMMAR_REGEX, "yes|no|\\.\\w*", {"yes", "no", ".", ".a_9"}, {"", "yesno", "x"}},
        {FM_GRAMMAR_REGEX, "[^\\s\\]]+", {"ab", "\xc3\xa9"}, {"a b", "]", ""}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{}",
         {"{}", "[1, 2.5e3, \"x\\n\", null, {\"a\": true}]", "-1"},
         {"{", "01", "\"\n\""}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":3},\"age\":{\"type\":"
         "\"integer\"},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\"]},\"minItems\":1,\"maxItems\":2}},"
         "\"required\":[\"name\",\"tags\"],\"additionalProperties\":false}",
         {"{\"name\":\"ann\",\"tags\":[\"a\"]}", "{\"name\": \"b\", \"age\": 3, \"tags\": [\"a\", \"b\"]}"},
         {"{\"name\":\"anna\",\"tags\":[\"a\"]}", "{\"name\":\"ann\"}", "{\"name\":\"ann\",\"tags\":[]}",
          "{\"name\":\"ann\",\"tags\":[\"a\",\"a\",\"a\"]}", "{\"name\":\"ann\",\"tags\":[\"c\"]}",
          "{,\"tags\":[\"a\"]}"}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"const\":7}}}",
         {"{}", "{\"a\":null}", "{\"b\":7}", "{\"a\":null,\"b\":7}"},
         {"{\"b\":7,\"a\":null}", "{\"a\":null,}", "{\"c\":1}"}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
         {"{}", "{\"x\":1,\"y\":-2}"},
         {"{\"x\":\"1\"}"}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{"
         "\"type\":\"null\"},{\"$ref\":\"#/$defs/node\"}]}},\"required\":[\"next\"]}}}",
         {"{\"next\":null}", "{\"next\":{\"next\":{\"next\":null}}}"},
         {"{}", "{\"next\":{}}"}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"string\",\"pattern\":\"^a\\\"b[^c]$\"}",
         {"\"a\\\"bx\"", "\"a\\\"b\\\\\"", "\"a\\\"b\\n\""},
         {"\"a\"bx\"", "\"a\\\"bc\"", "\"a\\\"b\n\""}},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"b+\"}", {"\"b\"", "\"abbc\""}, {"\"ac\"", "\"\""}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":[\"string\",\"null\"],\"format\":\"date\"}",
         {"null", "\"2024-02-29\""},
         {"\"2024-13-01\"", "\"x\""}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
         "\"boolean\"},\"maxItems\":2}}}",
         {"[]", "[[]]", "[[[true],[]],[[false,true]]]"},
         {"[true]", "[[[true,true,true]]]", "[[[]]"}},
        {FM_GRAMMAR_JSON_SCHEMA,
         "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],\"items\":false}",
         {"[1,true]"},
         {"[1]", "[1,true,2]"}},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_grammar *g;
        fm_status s = fm_grammar_new(&g, rows[i].kind, rows[i].grammar, strlen(rows[i].grammar));
        if (s != FM_OK) {
            print_error("%s: %s\n", rows[i].grammar, fm_error_get().message);
        }
        assert_int_equal(s, FM_OK);
        for (int k = 0; k < 8; k++) {
            if (rows[i].in[k] && !accepts(g, rows[i].in[k])) {
                fail_msg("%s refuses %s", rows[i].grammar, rows[i].in[k]);
            }
            if (rows[i].out[k] && accepts(g, rows[i].out[k])) {
                fail_msg("%s accepts %s", rows[i].grammar, rows[i].out[k]);
            }
        }
        fm_grammar_free(g);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        fm_grammar_kind kind;
        const char *text, *says;
    } rows[] = {
        {FM_GRAMMAR_GBNF, "root ::= other", "other"},
        {FM_GRAMMAR_GBNF, "x ::= \"a\"", "root"},
        {FM_GRAMMAR_GBNF, "root ::= \"a", "quote"},
        {FM_GRAMMAR_GBNF, "root ::= (\"a\"", "expected )"},
        {FM_GRAMMAR_GBNF, "root ::= \"a\"\nroot ::= \"b\"", "line 2"},
        {FM_GRAMMAR_GBNF, "root ::= root \"a\" | \"b\"", "begins with itself"},
        {FM_GRAMMAR_GBNF, "root ::= \"a\"{3,2}", "expected {m}"},
        {FM_GRAMMAR_GBNF, "root ::= [z-a]", "range"},
        {FM_GRAMMAR_REGEX, "(a", "lacks"},
        {FM_GRAMMAR_REGEX, "a)", "without"},
        {FM_GRAMMAR_REGEX, "(?=a)", "(?:"},
        {FM_GRAMMAR_REGEX, "(a)\\1", "escape"},
        {FM_GRAMMAR_REGEX, "*a", "repeat"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"integer\",\"multipleOf\":3}", "multipleOf"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "bounds"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"type\":\"strin\"}", "strin"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#/$defs/x\"}", "nowhere"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#\"}", "begins with itself"},
        {FM_GRAMMAR_JSON_SCHEMA, "{\"enum\":[]}", "enum"},
        {FM_GRAMMAR_JSON_SCHEMA, "[", "JSON"},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_grammar *g = NULL;
        fm_status s = fm_grammar_new(&g, rows[i].kind, rows[i].text, strlen(rows[i].text));
        if (s == FM_OK || !strstr(fm_error_get().message, rows[i].says)) {
            fail_msg("%s: %s", rows[i].text, s == FM_OK ? "accepted" : fm_error_get().message);
        }
        assert_null(g);
    }
}

static bool takes(fm_grammar *g, const char *fmt, double v) {
    char text[64];
    snprintf(text, sizeof text, fmt, v);
    return accepts(g, text);
}

/* Bounds of numbers: all whole numbers around them, and fractions. */
static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *bounds;
        double lo, hi; /* what is in, both ends included for whole numbers */
        bool open_lo, open_hi;
    } rows[] = {
        {"\"minimum\":0,\"maximum\":10", 0, 10, false, false},
        {"\"minimum\":-37,\"maximum\":1205", -37, 1205, false, false},
        {"\"minimum\":87,\"maximum\":1099", 87, 1099, false, false},
        {"\"exclusiveMinimum\":0", 0, 1e18, true, false},
        {"\"maximum\":-3", -1e18, -3, false, false},
        {"\"exclusiveMaximum\":1,\"minimum\":-1", -1, 1, false, true},
        {"\"exclusiveMaximum\":200,\"exclusiveMinimum\":-100", -100, 200, true, true},
        {"\"minimum\":-120,\"maximum\":-99", -120, -99, false, false},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        for (int whole = 0; whole < 2; whole++) {
            char schema[200];
            fm_grammar *g;
            snprintf(schema, sizeof schema, "{\"type\":\"%s\",%s}", whole ? "integer" : "number", rows[i].bounds);
            assert_int_equal(fm_grammar_new(&g, FM_GRAMMAR_JSON_SCHEMA, schema, strlen(schema)), FM_OK);
            for (int v = -1500; v <= 1500; v++) {
                bool in = (rows[i].open_lo ? v > rows[i].lo : v >= rows[i].lo) &&
                          (rows[i].open_hi ? v < rows[i].hi : v <= rows[i].hi);
                if (takes(g, "%.0f", v) != in) {
                    fail_msg("%s: %d", schema, v);
                }
                double f = v + 0.25 * ((v + 1500) % 3 + 1);
                bool f_in = f > rows[i].lo && f < rows[i].hi && !whole;
                if ((whole || f != 0) && takes(g, "%.2f", f) != f_in) {
                    fail_msg("%s: %.2f", schema, f);
                }
            }
            assert_false(accepts(g, "007"));
            fm_grammar_free(g);
        }
    }
    fm_grammar *g;
    static const char odd[] = "{\"type\":\"number\",\"minimum\":0.5}";
    assert_int_equal(fm_grammar_new(&g, FM_GRAMMAR_JSON_SCHEMA, odd, sizeof odd - 1), FM_ERR_UNSUPPORTED);
}

/* Tokens of a byte each, as a tokenizer spells characters it has no token for: the mask never lets a broken character
 * begin, and a matcher that is used again gives the same. */
static void test_bytes(void **state) {
    (void)state;
    fm_str json = {0};
    fm_str_puts(&json, "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{");
    for (int i = 0; i < 256; i++) {
        fm_str_printf(&json, "%s\"<0x%02X>\":%d", i ? "," : "", i, i);
    }
    fm_str_puts(&json, "},\"merges\":[]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{"
                       "\"type\":\"Fuse\"}]}}");
    fm_tokenizer *tok;
    fm_vocab_order *order;
    fm_grammar *g;
    assert_int_equal(fm_tokenizer_parse(&tok, json.data, json.len, NULL, 0, "bytes"), FM_OK);
    fm_str_free(&json);
    assert_int_equal(fm_vocab_order_new(&order, tok, 256), FM_OK);
    static const char grammar[] = "root ::= \"\xe4\xbd\xa0\" [\xc3\xa9\xe5\xa5\xbd-\xe5\xa5\xbf]* [^a]";
    assert_int_equal(fm_grammar_new(&g, FM_GRAMMAR_GBNF, grammar, sizeof grammar - 1), FM_OK);
    static const struct {
        const char *text;
        uint8_t yes[4], no[4];
    } rows[] = {{"", {0xe4, 0xe4, 0xe4, 0xe4}, {'a', 0xe5, 0xbd, 0xff}},
                {"\xe4", {0xbd, 0xbd, 0xbd, 0xbd}, {0xbe, 'a', 0xe4, 0x80}},
                {"\xe4\xbd\xa0", {0xe5, 0xc3, 'b', 0xf4}, {'a', 0x80, 0xc0, 0xf5}},
                {"\xe4\xbd\xa0\xed", {0x80, 0x9f, 0x90, 0x85}, {0xa0, 0xbf, 'a', 0xc3}},
                {"\xe4\xbd\xa0\xe5\xa5", {0xbd, 0xbf, 0x80, 0xbe}, {'a', 0xc0, 0xe5, 0x7f}}};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
            fm_matcher *m;
            const uint32_t *bits;
            bool ok;
            assert_int_equal(fm_matcher_new(&m, g), FM_OK);
            for (const char *p = rows[i].text; *p; p++) {
                assert_int_equal(fm_matcher_push(m, p, 1, &ok), FM_OK);
                assert_true(ok);
            }
            assert_int_equal(fm_matcher_allowed(m, order, &bits), FM_OK);
            for (int k = 0; k < 4; k++) {
                assert_true(bits[rows[i].yes[k] / 32] >> (rows[i].yes[k] % 32) & 1);
                assert_false(bits[rows[i].no[k] / 32] >> (rows[i].no[k] % 32) & 1);
            }
            fm_matcher_free(m);
        }
    }
    fm_grammar_free(g);
    fm_vocab_order_free(order);
    fm_tokenizer_free(tok);
}

/* What would take for ever or all memory is refused. */
static void test_limits(void **state) {
    (void)state;
    fm_str deep = {0};
    fm_grammar *g = NULL;
    for (int i = 0; i < 60; i++) {
        fm_str_puts(&deep, "{\"type\":\"array\",\"items\":");
    }
    fm_str_puts(&deep, "{\"type\":\"null\"}");
    for (int i = 0; i < 60; i++) {
        fm_str_putc(&deep, '}');
    }
    assert_int_equal(fm_grammar_new(&g, FM_GRAMMAR_JSON_SCHEMA, deep.data, deep.len), FM_OK);
    fm_grammar_free(g);
    fm_str_free(&deep);
    static const char many[] = "root ::= (a? b?){2000}\na ::= ([a-z] | \"b\"?){2000}\nb ::= (a? \"c\"){2000}";
    fm_status s = fm_grammar_new(&g, FM_GRAMMAR_GBNF, many, sizeof many - 1);
    fm_matcher *m = NULL;
    bool ok = true;
    if (s == FM_OK) {
        s = fm_matcher_new(&m, g);
        for (int i = 0; i < 400 && s == FM_OK && ok; i++) {
            s = fm_matcher_push(m, "abcabcabc", 9, &ok);
        }
        fm_matcher_free(m);
    }
    fm_grammar_free(g);
    assert_int_equal(s, FM_ERR_ARGUMENT);
}

/* The mask of a vocabulary is what trying each token gives, at every place of a text. */
static void test_allowed(void **state) {
    (void)state;
    static const char vocab[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"aba\":3,\"{\":4,\"}\":5,\"\\\"\":6,\":\":7,"
        "\"1\":8,\"12\":9,\",\":10,\"\\\"a\":11,\"a\\\"\":12,\"\\\":\":13,\"}}\":14,\"{\\\"\":15},\"merges\":[]},"
        "\"decoder\":{\"type\":\"Fuse\"}}";
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"},\"ba\":{\"$ref\":"
                                 "\"#\"}}}";
    static const char text[] = "{\"ab\":12,\"ba\":{\"ab\":1}}";
    fm_tokenizer *tok;
    fm_vocab_order *order;
    fm_grammar *g;
    fm_matcher *m;
    assert_int_equal(fm_tokenizer_parse(&tok, vocab, sizeof vocab - 1, NULL, 0, "vocab"), FM_OK);
    assert_int_equal(fm_vocab_order_new(&order, tok, 16), FM_OK);
    assert_int_equal(fm_grammar_new(&g, FM_GRAMMAR_JSON_SCHEMA, schema, sizeof schema - 1), FM_OK);
    assert_int_equal(fm_matcher_new(&m, g), FM_OK);
    int n_allowed = 0;
    for (size_t at = 0; at < sizeof text; at++) {
        const uint32_t *bits;
        assert_int_equal(fm_matcher_allowed(m, order, &bits), FM_OK);
        for (int32_t id = 0; id < 16; id++) {
            size_t n;
            const char *piece = fm_tokenizer_token(tok, id, &n); /* nothing is spelled otherwise here */
            fm_matcher *try;
            bool ok;
            assert_int_equal(fm_matcher_new(&try, g), FM_OK);
            assert_int_equal(fm_matcher_push(try, text, at, &ok), FM_OK);
            assert_true(ok);
            assert_int_equal(fm_matcher_push(try, piece, n, &ok), FM_OK);
            assert_int_equal(bits[0] >> id & 1, ok);
            n_allowed += ok;
            fm_matcher_free(try);
        }
        bool ok;
        if (at < sizeof text - 1) {
            assert_int_equal(fm_matcher_push(m, text + at, 1, &ok), FM_OK);
            assert_true(ok);
        }
    }
    assert_true(n_allowed > 30);
    assert_true(fm_matcher_complete(m));
    fm_matcher_free(m);
    fm_grammar_free(g);
    fm_vocab_order_free(order);
    fm_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts),   cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_allowed), cmocka_unit_test(test_numbers),
                                       cmocka_unit_test(test_bytes),   cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
