#!/usr/bin/env python3
"""The official openai client against `fathom serve`.

    python3 -m venv venv && venv/bin/pip install openai
    venv/bin/python tests/interop/openai_client.py build/fathom MODEL

MODEL is any model folder that generates text; its answers need not make sense. The server is started here, on a free
port, with a key. Written against openai 3.54.
"""
import asyncio
import base64
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
import typing
import urllib.request

import openai
import pydantic

KEY = "test-key-1"
checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        raise SystemExit(f"FAILED: {what}")


def start(program, model, *more):
    keys = tempfile.NamedTemporaryFile("w", suffix=".keys", delete=False)
    keys.write(f"# keys\n{KEY} name=tester\nslow-key requests_per_minute=2\n")
    keys.close()
    p = subprocess.Popen([program, "serve", model, "--port", "0", "--alias", "tiny", "--api-key-file", keys.name, *more],
                         stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        found = re.search(r"served at (http://\S+)/v1", line)
        if found:
            return p, found.group(1)
    raise SystemExit("the server did not start")


def metric(url, name):
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    found = re.search(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
    check(found, f"metric {name}")
    return float(found.group(1))


HELLO = [{"role": "user", "content": "Hello, who are you?"}]


def responses(c):
    r = c.responses.create(model="tiny", input="Hello", instructions="Be brief.", max_output_tokens=8, temperature=0)
    check(r.object == "response" and r.status in ("completed", "incomplete"), "a response")
    check(r.usage.total_tokens == r.usage.input_tokens + r.usage.output_tokens, "usage of a response")
    text = ""
    kinds = []
    with c.responses.create(model="tiny", input=[{"role": "developer", "content": "Be brief."},
                                                 {"role": "user", "content": "Hello"}],
                            max_output_tokens=8, temperature=0, stream=True) as stream:
        for e in stream:
            kinds.append(e.type)
            if e.type == "response.output_text.delta":
                text += e.delta
    check(kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), "events")
    check(text == r.output_text, "the stream of a response is its text")
    try:
        c.responses.create(model="tiny", input="Hello", previous_response_id="resp_1")
        check(False, "previous_response_id is refused")
    except openai.BadRequestError:
        check(True, "")


def chat(c):
    r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, temperature=0)
    check(r.object == "chat.completion" and r.id.startswith("chatcmpl-"), "kind and id")
    check(r.choices[0].message.role == "assistant", "role")
    check(r.choices[0].finish_reason in ("stop", "length"), "finish_reason")
    check(0 < r.usage.completion_tokens <= 12, "completion_tokens")
    check(r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens, "total_tokens")
    again = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, temperature=0)
    check(again.choices[0].message.content == r.choices[0].message.content, "greedy answers are equal")
    check(again.usage.prompt_tokens_details.cached_tokens > 0, "the second prompt comes from the cache")
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "who are you?"}]}]
    same = c.chat.completions.create(model="tiny", messages=parts, max_tokens=12, temperature=0)
    check(same.choices[0].message.content == r.choices[0].message.content, "content in parts")
    r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=6, n=3, seed=5, temperature=1)
    check([x.index for x in r.choices] == [0, 1, 2], "three choices")
    s = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=6, n=3, seed=5, temperature=1)
    check([x.message.content for x in r.choices] == [x.message.content for x in s.choices], "a seed repeats")
    r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=3)
    for t in r.choices[0].logprobs.content:
        check(len(t.top_logprobs) == 3 and t.logprob <= 0 and bytes(t.bytes) is not None, "logprobs")


def stream(c):
    whole = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, temperature=0)
    text, usage, last, ids = "", None, None, set()
    for piece in c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=20, temperature=0, stream=True,
                                           stream_options={"include_usage": True}):
        ids.add(piece.id)
        if piece.choices:
            text += piece.choices[0].delta.content or ""
            last = piece.choices[0].finish_reason or last
        else:
            usage = piece.usage
    check(text == whole.choices[0].message.content, "the stream is the whole answer")
    check(last == whole.choices[0].finish_reason and len(ids) == 1, "finish_reason and id of the stream")
    check(usage.completion_tokens == whole.usage.completion_tokens, "usage of the stream")
    texts = ["", ""]
    for piece in c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, n=2, seed=1, stream=True):
        for x in piece.choices:
            texts[x.index] += x.delta.content or ""
    r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, n=2, seed=1)
    check([x.message.content for x in r.choices] == texts, "two choices in one stream")
    with c.chat.completions.stream(model="tiny", messages=HELLO, max_tokens=5) as s:
        try:
            done = s.get_final_completion()
        except openai.LengthFinishReasonError as e:  # the client's way to say finish_reason "length"
            done = e.completion
        check(done.choices[0].message.role == "assistant", "the stream helper")


TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Weather of a place", "parameters": {
        "type": "object", "properties": {"place": {"type": "string", "maxLength": 8},
                                         "unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["place", "unit"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]


def right_call(call):
    arguments = json.loads(call.function.arguments)
    if call.function.name == "weather":
        return set(arguments) == {"place", "unit"} and arguments["unit"] in "CF" and len(arguments["place"]) <= 8
    return call.function.name == "now" and arguments == {}


def tools(c):
    ask = dict(model="tiny", messages=HELLO, tools=TOOLS, max_tokens=400, temperature=1)
    forced = {"type": "function", "function": {"name": "weather"}}
    for seed in range(4):
        r = c.chat.completions.create(**ask, tool_choice=forced, seed=seed)
        m = r.choices[0].message
        check(r.choices[0].finish_reason == "tool_calls" and m.content is None, "finish_reason of a call")
        check(len(m.tool_calls) == 1 and m.tool_calls[0].function.name == "weather" and right_call(m.tool_calls[0]),
              "the named tool is called")
        with c.chat.completions.stream(**ask, tool_choice=forced, seed=seed) as s:
            pieces = [e for e in s if e.type == "tool_calls.function.arguments.delta"]
            done = s.get_final_completion()
        check("".join(e.arguments_delta for e in pieces) == m.tool_calls[0].function.arguments, "streamed arguments")
        check(done.choices[0].message.tool_calls[0].function.arguments == m.tool_calls[0].function.arguments,
              "the streamed call is the whole one")
        check(done.choices[0].finish_reason == "tool_calls", "finish_reason of a streamed call")
    r = c.chat.completions.create(**ask, tool_choice="required", parallel_tool_calls=False, seed=1)
    check(len(r.choices[0].message.tool_calls) == 1 and right_call(r.choices[0].message.tool_calls[0]), "required")
    r = c.chat.completions.create(**(ask | {"max_tokens": 900}), tool_choice="required", seed=2)
    calls = r.choices[0].message.tool_calls
    check(all(right_call(x) for x in calls[:-1]) and len({x.id for x in calls}) == len(calls), "parallel calls")
    history = HELLO + [m.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": m.tool_calls[0].id, "content": "7"}]
    r = c.chat.completions.create(model="tiny", messages=history, tools=TOOLS, max_tokens=5, tool_choice="none")
    check(r.choices[0].message.tool_calls is None, "none")


def response_tools(c):
    """Calls of functions in /v1/responses: forced, streamed, and their results sent back."""
    own = [{"type": "function", "strict": False, **t["function"]} for t in TOOLS]
    ask = dict(model="tiny", input="Hello, who are you?", tools=own, max_output_tokens=400, temperature=1)
    forced = {"type": "function", "name": "weather"}
    for seed in range(3):
        more = dict(tool_choice=forced, extra_body={"seed": seed})
        r = c.responses.create(**ask, **more)
        check(r.status == "completed" and len(r.output) == 1 and r.output[0].type == "function_call", "a call is an item")
        call = r.output[0]
        arguments = json.loads(call.arguments)
        check(call.name == "weather" and set(arguments) == {"place", "unit"} and call.call_id.startswith("call_"),
              "the named function is called")
        check(r.tools[0].name == own[0]["name"] and r.tool_choice.name == "weather", "tools and choice as they were sent")
        kinds, pieces = [], ""
        with c.responses.stream(**ask, **more) as s:
            for e in s:
                kinds.append(e.type)
                if e.type == "response.function_call_arguments.delta":
                    pieces += e.delta
                if e.type == "response.output_item.added":
                    check(e.item.type == "function_call" and e.item.arguments == "", "the item begins empty")
            done = s.get_final_response()
        check(pieces == call.arguments == done.output[0].arguments, "streamed arguments are the whole ones")
        check(done.output[0].name == "weather" and done.output[0].status == "completed", "the streamed call")
        order = [k for k in kinds if k != "response.function_call_arguments.delta"]
        check(order == ["response.created", "response.in_progress", "response.output_item.added",
                        "response.function_call_arguments.done", "response.output_item.done", "response.completed"],
              f"events of a call: {order}")
    r = c.responses.create(**(ask | {"max_output_tokens": 900}), tool_choice="required", extra_body={"seed": 2})
    calls = [x for x in r.output if x.type == "function_call"]
    check(len(calls) >= 1 and len({x.id for x in r.output}) == len(r.output), "required: items with ids of their own")
    history = [{"role": "user", "content": "Hello, who are you?"}, call.model_dump(exclude_none=True),
               {"type": "function_call_output", "call_id": call.call_id, "output": "7"}]
    r = c.responses.create(model="tiny", input=history, tools=own, max_output_tokens=5, tool_choice="none")
    check(all(x.type == "message" for x in r.output), "a result is read, none is called")
    more = c.responses.create(model="tiny", input=history[:1], tools=own, max_output_tokens=5, tool_choice="none")
    check(r.usage.input_tokens > more.usage.input_tokens, "call and result are in the prompt")


def formats(c):
    class Place(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        name: str = pydantic.Field(max_length=10)
        level: int = pydantic.Field(ge=-3, le=12)
        kinds: list[typing.Literal["a", "b"]] = pydantic.Field(max_length=3)
        more: typing.Optional["Place"]

    schema = {"name": "place", "strict": True, "schema": Place.model_json_schema()}
    ended = 0
    for seed in range(6):
        r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=400, temperature=1, seed=seed,
                                      response_format={"type": "json_schema", "json_schema": schema})
        if r.choices[0].finish_reason == "stop":
            Place.model_validate_json(r.choices[0].message.content)
            ended += 1
    check(ended > 0, "an answer by a schema ends, and is valid")
    r = c.chat.completions.create(model="tiny", messages=HELLO, max_tokens=400, seed=1, logprobs=True,
                                  response_format={"type": "json_object"})
    check(r.choices[0].message.content.lstrip().startswith("{"), "json_object")
    r = c.completions.create(model="tiny", prompt="We", max_tokens=60, extra_body={"guided_regex": "([a-f]{4}-){2}[0-9]{3}"})
    check(re.fullmatch("([a-f]{4}-){2}[0-9]{3}", r.choices[0].text), "guided_regex")
    r = c.completions.create(model="tiny", prompt="We", max_tokens=60,
                             extra_body={"structured_outputs": {"choice": ["\u4f60\u597d", "yes"]}})
    check(r.choices[0].text in ("\u4f60\u597d", "yes"), "choice")


def completions(c):
    r = c.completions.create(model="tiny", prompt="We the people", max_tokens=10, temperature=0)
    text = r.choices[0].text
    check(r.object == "text_completion" and r.usage.completion_tokens <= 10, "completion")
    e = c.completions.create(model="tiny", prompt="We the people", max_tokens=10, temperature=0, echo=True)
    check(e.choices[0].text == "We the people" + text, "echo")
    m = c.completions.create(model="tiny", prompt=["We the people", "Hello"], max_tokens=10, temperature=0)
    check(len(m.choices) == 2 and m.choices[0].text == text, "several prompts")
    p = c.completions.create(model="tiny", prompt="We", max_tokens=6, logprobs=2)
    lp = p.choices[0].logprobs
    check(len(lp.tokens) == len(lp.token_logprobs) == len(lp.text_offset) == len(lp.top_logprobs), "logprob lists")
    # A stop string taken from the middle of the answer.
    long = c.completions.create(model="tiny", prompt="We the people", max_tokens=30, temperature=0).choices[0].text
    if len(long) > 4:
        mark = long[len(long) // 2: len(long) // 2 + 2]
        r = c.completions.create(model="tiny", prompt="We the people", max_tokens=30, temperature=0, stop=[mark])
        check(r.choices[0].text == long[:long.index(mark)], "stop string")
        check(r.choices[0].finish_reason == "stop", "finish_reason of a stop string")
        got = "".join(x.choices[0].text for x in c.completions.create(
            model="tiny", prompt="We the people", max_tokens=30, temperature=0, stop=mark, stream=True))
        check(got == r.choices[0].text, "nothing of a stop string is streamed")
    r = c.completions.create(model="tiny", prompt="We", max_tokens=4, temperature=0, logit_bias={"300": 100})
    one = c.completions.create(model="tiny", prompt="We", max_tokens=1, temperature=0, logit_bias={"300": 100})
    check(r.choices[0].text == one.choices[0].text * 4, "logit_bias")


def embeddings(c):
    r = c.embeddings.create(model="tiny", input=["Hello", "world"], encoding_format="float")
    check(len(r.data) == 2 and abs(sum(x * x for x in r.data[0].embedding) - 1) < 1e-4, "unit vectors")
    d = c.embeddings.create(model="tiny", input=["Hello", "world"])  # the client asks for base64
    check(all(abs(a - b) < 1e-6 for a, b in zip(r.data[1].embedding, d.data[1].embedding)), "base64 = float")
    raw = c.embeddings.with_raw_response.create(model="tiny", input="Hello", encoding_format="base64").http_response.json()
    v = raw["data"][0]["embedding"]
    check(len(struct.unpack(f"<{len(r.data[0].embedding)}f", base64.b64decode(v))) > 0, "base64 bytes")


def expect(kind, fn, what):
    try:
        fn()
    except kind as e:
        check(e.body is not None and "message" in e.body and "type" in e.body, what + ": error form")
        return e
    raise SystemExit(f"FAILED: {what}: no {kind.__name__}")


def errors(c, url):
    make = c.chat.completions.create
    expect(openai.BadRequestError, lambda: make(model="tiny", messages=[]), "no messages")
    expect(openai.BadRequestError, lambda: make(model="tiny", messages=[{"role": "user", "content": 5}]), "content 5")
    expect(openai.BadRequestError, lambda: make(model="tiny", messages=HELLO, temperature=-1), "temperature")
    expect(openai.BadRequestError, lambda: make(model="tiny", messages=HELLO, max_tokens=0), "max_tokens")
    e = expect(openai.BadRequestError, lambda: make(model="tiny", messages=[{"role": "user", "content": "x " * 9000}]),
               "long prompt")
    check(e.body["code"] == "context_length_exceeded", "code of a long prompt")
    expect(openai.NotFoundError, lambda: make(model="other", messages=HELLO), "unknown model")
    bad = openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0)
    expect(openai.AuthenticationError, lambda: bad.models.list(), "wrong key")
    slow = openai.OpenAI(base_url=url + "/v1", api_key="slow-key", max_retries=0)
    slow.models.list()
    slow.models.list()
    e = expect(openai.RateLimitError, lambda: slow.models.list(), "rate limit")
    check(int(e.response.headers["retry-after"]) > 0, "Retry-After")
    check([m.id for m in c.models.list()] == ["tiny"], "models")
    check(c.models.retrieve("tiny").id == "tiny", "one model")


async def parallel(url):
    c = openai.AsyncOpenAI(base_url=url + "/v1", api_key=KEY, timeout=120)
    prompts = [f"Number {i}: " + "word " * (i % 7) for i in range(32)]

    async def one(i):
        if i % 2:
            r = await c.completions.create(model="tiny", prompt=prompts[i], max_tokens=24, temperature=0)
            return r.choices[0].text
        text = ""
        async for piece in await c.completions.create(model="tiny", prompt=prompts[i], max_tokens=24, temperature=0,
                                                      stream=True):
            text += piece.choices[0].text
        return text

    together = await asyncio.gather(*(one(i) for i in range(32)))
    for i in (0, 1, 6, 31):
        check(await one(i) == together[i], f"prompt {i} alone and among 32 gives the same text")


def disconnect(c, url):
    before = metric(url, 'vllm:generation_tokens_total')
    s = c.completions.create(model="tiny", prompt="Once", max_tokens=1900, stream=True,
                             extra_body={"ignore_eos": True})
    next(iter(s))
    s.close()
    end = time.time() + 10
    while metric(url, "vllm:num_requests_running") > 0 and time.time() < end:
        time.sleep(0.05)
    check(metric(url, "vllm:num_requests_running") == 0, "a stream whose client went away ends")
    quick = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0, timeout=0.3)
    try:
        quick.completions.create(model="tiny", prompt="Once", max_tokens=1900, extra_body={"ignore_eos": True})
    except openai.APITimeoutError:
        pass
    end = time.time() + 10
    while metric(url, "vllm:num_requests_running") > 0 and time.time() < end:
        time.sleep(0.05)
    check(metric(url, "vllm:num_requests_running") == 0, "a request whose client went away ends")
    check(metric(url, "vllm:generation_tokens_total") > before, "tokens are counted")


def main():
    p, url = start(sys.argv[1], sys.argv[2], *sys.argv[3:])
    try:
        c = openai.OpenAI(base_url=url + "/v1", api_key=KEY, timeout=120)
        chat(c)
        responses(c)
        stream(c)
        tools(c)
        response_tools(c)
        formats(c)
        completions(c)
        embeddings(c)
        errors(c, url)
        asyncio.run(parallel(url))
        disconnect(c, url)
    finally:
        p.terminate()
    check(p.wait(timeout=60) == 0, "ends cleanly at SIGTERM")
    print(f"openai {openai.__version__}: {checks} checks passed")


main()
