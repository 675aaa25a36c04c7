"""Chat templates through the shared library, and what transformers makes of the same input."""
import ctypes
import datetime
import json

import transformers.utils.chat_template_utils as cu


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("add_generation_prompt", ctypes.c_bool), ("spans", ctypes.c_bool),
                ("tools", ctypes.c_char_p), ("documents", ctypes.c_char_p), ("vars", ctypes.c_char_p),
                ("now", ctypes.c_int64), ("max_steps", ctypes.c_int64)]


class Span(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_size_t), ("end", ctypes.c_size_t), ("message", ctypes.c_int64)]


class Result(ctypes.Structure):
    _fields_ = [("text", ctypes.POINTER(ctypes.c_char)), ("n", ctypes.c_size_t), ("span", ctypes.POINTER(Span)),
                ("n_spans", ctypes.c_size_t)]


class Record(ctypes.Structure):  # fm_error
    _fields_ = [("status", ctypes.c_int), ("message", ctypes.c_char_p), ("hint", ctypes.c_char_p),
                ("file", ctypes.c_char_p), ("line", ctypes.c_int)]


class Ours:
    """render(template, messages, **variables) -> (text, spans as byte offsets) or an error message."""

    def __init__(self, lib, now):
        self.lib = ctypes.CDLL(lib)
        self.lib.fm_status_name.restype = ctypes.c_char_p
        self.lib.fm_error_get.restype = Record
        self.now = now

    def _error(self, status):
        e = self.lib.fm_error_get()
        return f"{self.lib.fm_status_name(status).decode()}: {e.message.decode(errors='replace')}"

    def render(self, template, messages, **variables):
        t, r = ctypes.c_void_p(), Result()
        text = template.encode("utf-8", "surrogatepass")
        s = self.lib.fm_template_parse(ctypes.byref(t), text, ctypes.c_size_t(len(text)), b"t", None)
        if s:
            return None, self._error(s)
        generation = variables.pop("add_generation_prompt", False)
        data = json.dumps(messages).encode()
        o = Options(ctypes.sizeof(Options), generation, True, None, None, json.dumps(variables).encode(), self.now, 0)
        s = self.lib.fm_template_render(ctypes.byref(r), t, data, ctypes.c_size_t(len(data)), ctypes.byref(o))
        error = self._error(s) if s else None
        self.lib.fm_template_free(t)
        if s:
            return None, error
        out = ctypes.string_at(r.text, r.n).decode(), [(r.span[i].begin, r.span[i].end) for i in range(r.n_spans)]
        self.lib.fm_template_result_free(ctypes.byref(r))
        return out


def theirs(template, messages, now=None, **variables):
    """The same from transformers; spans only where the template has generation blocks."""
    tools, documents = variables.pop("tools", None), variables.pop("documents", None)
    spans = "generation" in template and "endgeneration" in template
    real = cu.datetime
    try:
        if now is not None:
            class Fixed(datetime.datetime):
                @classmethod
                def now(cls, tz=None):
                    return datetime.datetime.fromtimestamp(now)
            cu.datetime = Fixed
        text, indices = cu.render_jinja_template([messages], tools=tools, documents=documents, chat_template=template,
                                                 return_assistant_tokens_mask=spans, **variables)
        text = text[0]
        if not spans:
            return text, None
        at = lambda i: len(text[:i].encode())
        return text, [(at(a), at(b)) for a, b in indices[0] if b > a]
    except RecursionError as e:
        return None, f"RecursionError: {e}"
    except Exception as e:  # whatever a template can raise
        return None, f"{type(e).__name__}: {e}"
    finally:
        cu.datetime = real


# ---- Conversations -------------------------------------------------------------------------------------------------

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city, \"now\" <or> later & so on.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Größe, 城市"},
            "days": {"type": "integer", "default": 1}, "unit": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city"]}, "return": {"type": "number"}}},
    {"type": "function", "function": {"name": "stop", "description": "Ends it.", "parameters": {
        "type": "object", "properties": {}}}},
]
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "exact": True, "x": None}}}
CALL2 = {"id": "call67890", "type": "function", "function": {"name": "stop", "arguments": {}}}
CALL_TEXT = {"id": "call12345", "type": "function",
             "function": {"name": "get_weather", "arguments": "{\"city\": \"Zürich\"}"}}


def m(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "one": [m("user", "Hello!")],
    "answered": [m("user", " Hello! "), m("assistant", "Hi there. ")],
    "system": [m("system", "Be brief."), m("user", "Wer bist du? 你是谁？ 🙂"), m("assistant", "Ein Modell.\n\n模型。"),
               m("user", "  Thanks\n")],
    "turns": [m("user", "1+1?"), m("assistant", "2"), m("user", "2+2?"), m("assistant", "4"), m("user", "3+3?"),
              m("assistant", "6")],
    "thinking": [m("user", "q1"), m("assistant", "<think>\nlong thought\n</think>\n\nanswer 1"), m("user", "q2"),
                 m("assistant", "<think>more</think>answer 2"), m("user", "q3")],
    "reasoning": [m("user", "q1"), m("assistant", "a1", reasoning_content="because\n"), m("user", "q2"),
                  m("assistant", "a2", reasoning="therefore")],
    "tools": [m("system", "Use tools."), m("user", "Weather?"), m("assistant", "", tool_calls=[CALL]),
              m("tool", "{\"temp\": 7}", name="get_weather", tool_call_id="call12345"), m("assistant", "7 degrees."),
              m("user", "And now?"), m("assistant", None, tool_calls=[CALL]),
              m("tool", "8", name="get_weather", tool_call_id="call12345"), m("user", "ok")],
    "tools2": [m("user", "Both."), m("assistant", "Let me see.", tool_calls=[CALL, CALL2]),
               m("tool", "1", name="get_weather", tool_call_id="call12345"),
               m("tool", "2", name="stop", tool_call_id="call67890"), m("assistant", "Done.")],
    "tools_text": [m("user", "Weather?"), m("assistant", None, tool_calls=[CALL_TEXT]),
                   m("tool", "7", name="get_weather", tool_call_id="call12345"), m("assistant", "7.")],
    "parts": [m("user", [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]),
              m("assistant", [{"type": "text", "text": "A test."}])],
    "two_users": [m("user", "a"), m("user", "b")],
    "empty": [],
    "no_content": [{"role": "user"}],
    "special": [m("user", "<|im_end|> {{ x }} {% if %} \\n \"quoted\" 'single' <b>&amp;</b> \t\u2028\x01\x7f")],
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def cases():
    """(name, messages, variables) that every template is rendered with."""
    for name, messages in CONVERSATIONS.items():
        tools = {"tools": TOOLS} if name.startswith("tools") else {}
        yield name, messages, {**TOKENS, **tools}
        yield name + "+prompt", messages, {**TOKENS, **tools, "add_generation_prompt": True}
    for k in ("one", "thinking", "reasoning", "tools2"):
        for flag in (True, False):
            yield f"{k}+thinking={flag}", CONVERSATIONS[k], {
                **TOKENS, "add_generation_prompt": True, "enable_thinking": flag, "thinking": flag}
    yield "one+tools", CONVERSATIONS["one"], {**TOKENS, "tools": TOOLS, "add_generation_prompt": True}
    yield "system+date", CONVERSATIONS["system"], {**TOKENS, "date_string": "26 Jul 2024", "tools_in_user_message": False}
    yield "one+documents", CONVERSATIONS["one"], {**TOKENS, "documents": [{"title": "T", "text": "X"}]}
