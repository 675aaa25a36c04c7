/* Built-in chat templates, for models that have none of their own. The formats are those that models of these families
 * were published with; the wording of the templates is ours. */
#include "text/template.h"

static const char chatml[] = "{%- for message in messages -%}\n"
                             "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
                             "{%- endfor -%}\n"
                             "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n";

static const char llama3[] =
    "{{- bos_token -}}\n"
    "{%- for message in messages -%}\n"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim -}}\n"
    "{{- '<|eot_id|>' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}\n";

/* Body of DeepSeek V3 and R1: they differ in the history (R1 drops the reasoning of all answers but the last message,
 * which is what one trains on) and in the generation prompt. */
#define DEEPSEEK(answer, prompt)                                                                                       \
    "{{- bos_token -}}\n"                                                                                              \
    "{%- set ns = namespace(system='', many=false) -%}\n"                                                              \
    "{%- for message in messages if message['role'] == 'system' -%}\n"                                                 \
    "{%- set ns.system = ns.system + ('\\n\\n' if ns.many else '') + message['content'] -%}\n"                         \
    "{%- set ns.many = true -%}\n"                                                                                     \
    "{%- endfor -%}\n"                                                                                                 \
    "{{- ns.system -}}\n"                                                                                              \
    "{%- for message in messages -%}\n"                                                                                \
    "{%- if message['role'] == 'user' -%}\n"                                                                           \
    "{{- '<｜User｜>' + message['content'] -}}\n"                                                                    \
    "{%- elif message['role'] == 'assistant' -%}\n"                                                                    \
    "{{- '<｜Assistant｜>' + " answer " + '<｜end▁of▁sentence｜>' -}}\n"                                         \
    "{%- endif -%}\n"                                                                                                  \
    "{%- endfor -%}\n"                                                                                                 \
    "{%- if add_generation_prompt -%}{{- '<｜Assistant｜>" prompt "' -}}{%- endif -%}\n"

static const char deepseek_v3[] = DEEPSEEK("message['content']", "");
static const char deepseek_r1[] =
    DEEPSEEK("(message['content'] if loop.last else message['content'].split('</think>')[-1])", "<think>\\n");

/* ChatML with a default system message and tools in the form Qwen 2.5 was trained on. */
static const char qwen25[] =
    "{%- set system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' -%}\n"
    "{%- set first = 0 -%}\n"
    "{%- if messages and messages[0]['role'] == 'system' -%}\n"
    "{%- set system = messages[0]['content'] -%}\n"
    "{%- set first = 1 -%}\n"
    "{%- endif -%}\n"
    "{{- '<|im_start|>system\\n' + system -}}\n"
    "{%- if tools -%}\n"
    "{{- '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided "
    "'\n"
    "    'with function signatures within <tools></tools> XML tags:\\n<tools>' -}}\n"
    "{%- for tool in tools -%}{{- '\\n' + tool | tojson -}}{%- endfor -%}\n"
    "{{- '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within '\n"
    "    '<tool_call></tool_call> XML tags:\\n<tool_call>\\n{\"name\": <function-name>, \"arguments\": '\n"
    "    '<args-json-object>}\\n</tool_call>' -}}\n"
    "{%- endif -%}\n"
    "{{- '<|im_end|>\\n' -}}\n"
    "{%- for message in messages[first:] -%}\n"
    "{%- if message['role'] == 'tool' -%}\n"
    "{%- if loop.previtem is undefined or loop.previtem['role'] != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}\n"
    "{{- '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' -}}\n"
    "{%- if loop.last or loop.nextitem['role'] != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}\n"
    "{%- else -%}\n"
    "{{- '<|im_start|>' + message['role'] -}}\n"
    "{%- if message['content'] or not message['tool_calls'] -%}{{- '\\n' + message['content'] -}}{%- endif -%}\n"
    "{%- for call in message['tool_calls'] or [] -%}\n"
    "{%- set call = call['function'] if call['function'] else call -%}\n"
    "{{- '\\n<tool_call>\\n{\"name\": \"' + call['name'] + '\", \"arguments\": ' + call['arguments'] | tojson -}}\n"
    "{{- '}\\n</tool_call>' -}}\n"
    "{%- endfor -%}\n"
    "{{- '<|im_end|>\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n";

/* Formats without a role for the system: its text leads the first user message. */
#define SYSTEM_FIRST                                                                                                   \
    "{%- set system, first = '', 0 -%}\n"                                                                              \
    "{%- if messages and messages[0]['role'] == 'system' -%}\n"                                                        \
    "{%- set system, first = messages[0]['content'] + '\\n\\n', 1 -%}\n"                                               \
    "{%- endif -%}\n"                                                                                                  \
    "{{- bos_token -}}\n"                                                                                              \
    "{%- for message in messages[first:] -%}\n"                                                                        \
    "{%- set content = (system if loop.first else '') + message['content'] -%}\n"

static const char mistral[] = SYSTEM_FIRST "{%- if message['role'] == 'user' -%}\n"
                                           "{{- '[INST] ' + content + '[/INST]' -}}\n"
                                           "{%- elif message['role'] == 'assistant' -%}\n"
                                           "{{- ' ' + content ~ eos_token -}}\n"
                                           "{%- else -%}\n"
                                           "{{- raise_exception('unknown role ' + message['role']) -}}\n"
                                           "{%- endif -%}\n"
                                           "{%- endfor -%}\n";

static const char gemma[] =
    SYSTEM_FIRST "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}\n"
                 "{{- '<start_of_turn>' + role + '\\n' + content | trim + '<end_of_turn>\\n' -}}\n"
                 "{%- endfor -%}\n"
                 "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}\n";

static const char phi[] = "{%- for message in messages -%}\n"
                          "{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' -}}\n"
                          "{%- endfor -%}\n"
                          "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}\n";

/* Formats in plain words: the system text or a default one, then the turns, each answer ended by EOS. */
#define WORDS(default_system, after_system, user, after_user, assistant, after_answer)                                 \
    "{%- set system, first = '" default_system "', 0 -%}\n"                                                            \
    "{%- if messages and messages[0]['role'] == 'system' -%}\n"                                                        \
    "{%- set system, first = messages[0]['content'], 1 -%}\n"                                                          \
    "{%- endif -%}\n"                                                                                                  \
    "{{- bos_token -}}\n"                                                                                              \
    "{%- if system -%}{{- system + '" after_system "' -}}{%- endif -%}\n"                                              \
    "{%- for message in messages[first:] -%}\n"                                                                        \
    "{%- if message['role'] == 'user' -%}\n"                                                                           \
    "{{- '" user "' + message['content'] + '" after_user "' -}}\n"                                                     \
    "{%- elif message['role'] == 'assistant' -%}\n"                                                                    \
    "{{- '" assistant "' + message['content'] ~ eos_token -}}\n"                                                       \
    "{%- if not loop.last -%}{{- '" after_answer "' -}}{%- endif -%}\n"                                                \
    "{%- else -%}\n"                                                                                                   \
    "{{- raise_exception('unknown role ' + message['role']) -}}\n"                                                     \
    "{%- endif -%}\n"                                                                                                  \
    "{%- endfor -%}\n"                                                                                                 \
    "{%- if add_generation_prompt -%}{{- ('" assistant "') | trim(' ') -}}{%- endif -%}\n"

static const char vicuna[] =
    WORDS("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
          "detailed, and polite answers to the user\\'s questions.",
          " ", "USER: ", " ", "ASSISTANT: ", "");
static const char alpaca[] = WORDS("Below is an instruction that describes a task. Write a response that appropriately "
                                   "completes the request.",
                                   "\\n\\n", "### Instruction:\\n", "\\n\\n", "### Response:\\n", "\\n\\n");
/* Also the format of DeepSeek LLM, MoE and V2. */
static const char plain[] = WORDS("", "\\n\\n", "User: ", "\\n\\n", "Assistant: ", "");

const fm_template_row fm_template_rows[] = {
    {"chatml", chatml},
    {"llama3", llama3},
    {"deepseek-v3", deepseek_v3},
    {"deepseek-r1", deepseek_r1},
    {"qwen2.5", qwen25},
    {"mistral", mistral},
    {"phi", phi},
    {"gemma", gemma},
    {"vicuna", vicuna},
    {"alpaca", alpaca},
    {"plain", plain},
    {NULL, NULL},
};
