#!/usr/bin/env python3
"""A server with the OpenAI API on the loopback for test_synth.sh: answers by rule, with faults on request.

    openai_server.py PORT_FILE LOG_FILE

Each request adds a line of JSON {"auth", "prompt"} to LOG_FILE. Words in the prompt choose what happens: see answer().
Ends when its standard input ends.
"""
import hashlib
import http.server
import json
import os
import sys
import threading
import time

lock = threading.Lock()
seen = {}
busy = 0
most_busy = 0


def lines(*objects):
    return "\n".join(json.dumps(o, ensure_ascii=False) for o in objects)


def answer(prompt):
    """(code, text or error, headers, finish)"""
    key = hashlib.sha256(prompt.encode()).hexdigest()
    with lock:
        seen[key] = seen.get(key, 0) + 1
        times = seen[key]
    n = int(key[:8], 16)
    if "FLAKY" in prompt and times == 1:
        return 503, "overloaded", {"Retry-After": "0"}, None
    if "LIMITED" in prompt and times == 1:
        return 429, "slow down", {"Retry-After": "1"}, None
    if "REFUSED" in prompt:
        return 400, "context length exceeded", {}, None
    if "BROKEN" in prompt and not os.path.exists("mended"):
        return 500, "out of order", {}, None
    if "KEYS" in prompt:
        return 401, "no such key", {}, None
    if "new tasks" in prompt:
        tasks = [{"instruction": f"Describe item {n % 9973} of the {n % 7} shelves in {n % 31} words", "input": "",
                  "output": f"It is {n}."},
                 {"instruction": f"Sort the letters of {key[:12]} by {key[12:20]} and {key[20:30]}", "input": key[:12],
                  "output": "".join(sorted(key[:12]))},
                 {"instruction": "What is the capital of France, please tell me", "input": "", "output": "Paris"},
                 {"instruction": "x", "output": "y"}]
        return 200, "<think>hm { </think>Here they are:\n```json\n" + lines(*tasks) + '\n```\n{"instruction": "cut', {}, "stop"
    if "different questions" in prompt:
        if "NOJSON" in prompt:
            return 200, "I cannot do that.", {}, "stop"
        return 200, json.dumps({"pairs": [{"question": f"What does {key[:9]} say about {key[9:14]}?", "answer": "Much."},
                                          {"question": f"Who wrote {key[14:30]} in {key[30:36]} then?",
                                           "answer": f"{n} \u4f60\u597d"}]}), {}, "stop"
    if "conversation between" in prompt:
        turns = [{"role": "user", "content": f"{key[:10]} and {key[10:20]} of {key[20:30]}?"}, {"role": "assistant", "content": "Gladly."},
                 {"role": "user", "content": "And?"}, {"role": "assistant", "content": f"{n} more."}]
        if "WRONGTURN" in prompt:
            turns = turns[1:]
        return 200, json.dumps(turns), {}, "length" if "LONG" in prompt else "stop"
    if "Mark every piece" in prompt:
        return 200, lines({"text": "Ann", "label": "PER"}, {"text": "Oslo", "label": "LOC"}, {"text": "Ann", "label": "PER"},
                          {"text": "nowhere", "label": "LOC"}, {"text": "Ann", "label": "XXX"}), {}, "stop"
    if "of these labels fits" in prompt:
        return 200, "The label is: positive." if "good" in prompt.split("Text:")[1] else "negative", {}, "stop"
    if "Translate" in prompt:
        text = prompt.split("\n\n", 1)[1]
        return 200, ("F:" + text if "into German" in prompt else text.replace("F:", "B:")), {}, "stop"
    return 200, "hello", {}, "stop"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, code, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(code)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/v1/models":
            self.send(200, {"data": [{"id": "rule-model"}]})
        else:
            self.send(404, {"error": {"message": "no such route"}})

    def do_POST(self):
        global busy, most_busy
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with lock:
            busy += 1
            most_busy = max(most_busy, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
            log.write(json.dumps({"auth": self.headers.get("Authorization"), "model": body["model"],
                                  "max_tokens": body["max_tokens"], "busy": most_busy, "prompt": prompt}) + "\n")
            log.flush()
        code, text, headers, finish = answer(prompt)
        if code != 200:
            self.send(code, {"error": {"message": text}}, headers)
            return
        self.send(200, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                        "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


log = open(sys.argv[2], "w", encoding="utf-8")
server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(sys.argv[1] + ".tmp", "w") as f:
    f.write(str(server.server_port))
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
sys.stdin.read()
