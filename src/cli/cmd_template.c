/* fathom template */
#include <string.h>

#include "cli/cli.h"
#include "fathom/template.h"

typedef struct template_args {
    char *template, *vars;
    bool generation, spans, show, list;
} template_args;

#define F(x) .offset = offsetof(template_args, x)

static const fm_option table[] = {
    {.key = "template",
     .type = FM_OPT_STR,
     F(template),
     .help = "Another template than the model's: a built-in name, or a file."},
    {.key = "add_generation_prompt",
     .type = FM_OPT_BOOL,
     F(generation),
     .help = "End with what precedes an answer, where the line does not say so itself."},
    {.key = "template_vars", .type = FM_OPT_STR, F(vars), .help = "JSON object with variables for all lines."},
    {.key = "spans", .type = FM_OPT_BOOL, F(spans), .help = "Also give the bytes that the assistant wrote."},
    {.key = "list", .type = FM_OPT_BOOL, F(list), .help = "Print the names of the built-in templates."},
    {.key = "show", .type = FM_OPT_BOOL, F(show), .help = "Print the template itself."},
    {0},
};
static const fm_option *options(void) {
    return table;
}

static void print_result(const fm_template_result *r, bool spans) {
    fputs("{\"text\":", stdout);
    cli_json_bytes(stdout, r->text, r->n);
    if (spans) {
        fputs(",\"assistant\":[", stdout);
        for (size_t i = 0; i < r->n_spans; i++) {
            printf("%s[%zu,%zu]", i ? "," : "", r->span[i].begin, r->span[i].end);
        }
        fputs("]", stdout);
    }
    fputs("}\n", stdout);
}

static fm_status render_lines(const fm_template *t, const template_args *a) {
    const fm_template_options o = {
        .size = sizeof o, .add_generation_prompt = a->generation, .spans = a->spans, .vars = a->vars};
    size_t len, line_no = 0;
    char *line;
    fm_status s = FM_OK;
    while (s == FM_OK && !fm_cancelled() && (line = cli_read_line(stdin, &len))) {
        char name[64];
        fm_template_result r;
        snprintf(name, sizeof name, "standard input:%zu", ++line_no);
        if (len == 0) {
            continue;
        }
        s = fm_template_render_object(&r, t, line, len, name, &o);
        if (s == FM_OK) {
            print_result(&r, a->spans);
        }
        fm_template_result_free(&r);
    }
    return s;
}

/* MODEL as a template of its own (a name, a .jinja file, a folder), or its tokenizer for --template. */
static fm_status open_template(fm_template **out, const char *model, const char *which) {
    fm_tokenizer *tok = NULL;
    *out = NULL;
    if (!which) {
        return fm_template_open(out, model, NULL);
    }
    fm_status s = fm_tokenizer_open(&tok, model);
    s = s == FM_OK ? fm_template_open(out, which, tok) : s;
    fm_tokenizer_free(tok);
    return s;
}

static int run(const cli_command *cmd, int argc, char **argv) {
    template_args a = {0};
    char *pos[64] = {0};
    int n = 0;
    fm_template *t = NULL;
    fm_status s = fm_options_init(&a, table);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, &a, pos, &n, 0, 1);
    if (rc < 0 && a.list) {
        for (int i = 0; fm_template_name(i); i++) {
            puts(fm_template_name(i));
        }
        rc = 0;
    } else if (rc < 0 && n == 0) {
        rc = cli_usage(cmd, "a model, or the name or file of a template is needed");
    } else if (rc < 0) {
        s = open_template(&t, pos[0], a.template);
        if (s == FM_OK && a.show) {
            fputs(fm_template_source(t), stdout);
        } else if (s == FM_OK) {
            s = render_lines(t, &a);
        }
        rc = s == FM_OK ? (fm_cancelled() ? 130 : 0) : cli_fail(s);
        fm_template_free(t);
    }
    fm_options_free(&a, table);
    return rc;
}

const cli_command cli_cmd_template = {
    .name = "template",
    .args = "MODEL [options]",
    .summary = "Render JSONL {\"messages\":[...]} with a chat template to {\"text\":...}",
    .about =
        "MODEL is a model's folder, a GGUF file, a file of template text, or the name of a built-in template: chatml, "
        "llama3, deepseek-v3, deepseek-r1, qwen2.5, mistral, phi, gemma, vicuna, alpaca, plain. A line may also "
        "have tools, documents and add_generation_prompt; its other members are variables of the template.",
    .examples =
        "echo '{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"add_generation_prompt\":true}' | fathom "
        "template chatml\n"
        "fathom template out/sft --spans < talks.jsonl\nfathom template out/base --template llama3 < "
        "talks.jsonl\nfathom template out/sft --show\nfathom template --list",
    .options = options,
    .run = run,
};
