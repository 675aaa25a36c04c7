#!/usr/bin/env python3
"""`fathom serve` at full load for a time: requests whose answers are known, streams that are left in the middle, broken
requests, readers that read slowly or not at all. Each whole answer is compared; memory must stay flat.

    python3 tests/soak/soak.py FATHOM MODEL [--seconds 1800] [--clients 24] [--idle 1000] [--slow 200] [-- SERVE OPTIONS]

MODEL is any folder that generates text; it needs nothing but Python. The report ends with `ok` or says what is wrong.
"""
import argparse
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time

PROMPTS = ["We the people", "Once upon a time", "Number 17:", "The state of " * 8, "a b c " * 20]


class Server:
    def __init__(self, program, model, options):
        self.p = subprocess.Popen([program, "serve", model, "--port", "0", "--alias", "soak", *options],
                                  stderr=subprocess.PIPE, text=True)
        for line in self.p.stderr:
            found = re.search(r"served at http://([^:]+):(\d+)/v1", line)
            if found:
                self.host, self.port = found.group(1), int(found.group(2))
                threading.Thread(target=lambda: [None for _ in self.p.stderr], daemon=True).start()
                return
        raise SystemExit("the server did not start")

    def post(self, path, body, timeout=120):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            c.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def rss(self):
        with open(f"/proc/{self.p.pid}/status") as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) * 1024

    def open_stream(self, tokens, seed, recv_bytes=None):
        s = socket.socket()
        if recv_bytes:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_bytes)
        s.settimeout(120)
        s.connect((self.host, self.port))
        body = json.dumps({"prompt": "Once", "max_tokens": tokens, "seed": seed, "stream": True, "ignore_eos": True}).encode()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return s


class Soak:
    def __init__(self, server, seconds):
        self.server, self.end = server, time.time() + seconds
        self.lock, self.wrong, self.counts, self.want = threading.Lock(), [], {}, {}

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fail(self, what):
        with self.lock:
            self.wrong.append(what)

    def body(self, i):
        return {"prompt": PROMPTS[i % len(PROMPTS)], "max_tokens": 4 + i % 13, "seed": i % 7,
                "temperature": 0.8 if i % 2 else 0, "ignore_eos": True}

    def learn(self):
        for i in range(70):
            status, text = self.server.post("/v1/completions", self.body(i))
            if status != 200:
                raise SystemExit(f"request {i}: {status} {text[:200]}")
            self.want[i] = json.loads(text)["choices"][0]["text"]

    def whole(self, rng):
        i = rng.randrange(70)
        status, text = self.server.post("/v1/completions", self.body(i))
        if status == 503:
            self.count("shed")
        elif status != 200:
            self.fail(f"a request got {status}: {text[:100]}")
        elif json.loads(text)["choices"][0]["text"] != self.want[i]:
            self.fail(f"request {i} got another answer")
        else:
            self.count("whole")

    def stream(self, rng):
        i = rng.randrange(70)
        c = http.client.HTTPConnection(self.server.host, self.server.port, timeout=120)
        c.request("POST", "/v1/completions", json.dumps(self.body(i) | {"stream": True}))
        r = c.getresponse()
        if r.status == 503:
            self.count("shed")
        elif r.status != 200:
            self.fail(f"a stream got {r.status}")
        else:
            text = ""
            for line in r.read().decode().split("\n\n"):
                if line.startswith("data: {"):
                    text += "".join(x["text"] for x in json.loads(line[6:])["choices"])
            if text != self.want[i]:
                self.fail(f"stream {i} got another answer")
            self.count("streams")
        c.close()

    def leave(self, rng):
        s = self.server.open_stream(400, rng.randrange(1000))
        if rng.random() < 0.7:
            s.recv(rng.randrange(1, 2000))
        s.close()
        self.count("left")

    def broken(self, rng):
        bad = [b"{", b"[]", b"{}", b'{"prompt":5}', b'{"prompt":"a","temperature":"x"}', b'{"prompt":"a","max_tokens":-3}',
               bytes(rng.randrange(256) for _ in range(rng.randrange(400))), b'{"prompt":"a","grammar":"root ::= "}',
               b'{"prompt":"a","json_schema":{"type":"array","items":' * 50, b'{"prompt":"a","guided_regex":"((((("}']
        status, _ = self.server.post("/v1/completions", rng.choice(bad))
        if not (400 <= status < 500 or status in (200, 503)):
            self.fail(f"a broken request got {status}")
        self.count("broken")

    def half(self, rng):
        s = socket.create_connection((self.server.host, self.server.port), timeout=10)
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"[:rng.randrange(10, 70)])
        s.close()
        self.count("half")

    def client(self, number):
        rng = random.Random(number)
        kinds = [self.whole] * 5 + [self.stream] * 5 + [self.leave] * 3 + [self.broken] * 3 + [self.half]
        while time.time() < self.end and not self.wrong:
            try:
                rng.choice(kinds)(rng)
            except (ConnectionError, http.client.HTTPException, OSError) as e:
                self.count(f"connection: {type(e).__name__}")
                time.sleep(0.05)


def hold(server, idle, slow):
    """Open connections that say nothing, and streams that nobody reads: what memory do they take?"""
    before, held = server.rss(), []
    for _ in range(idle - slow):
        held.append(socket.create_connection((server.host, server.port), timeout=10))
    for i in range(slow):
        held.append(server.open_stream(120, i, 4096))
    start = time.time()
    status, _ = server.post("/v1/completions", {"prompt": "We", "max_tokens": 1}, 300)
    waited = time.time() - start
    time.sleep(2)
    grown = server.rss() - before
    print(f"{idle} connections, {slow} of them unread streams: {grown / 2**20:.1f} MiB more, another request got {status} "
          f"after {waited:.1f} s")
    for s in held:
        s.close()
    return grown, status


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("model")
    ap.add_argument("--seconds", type=float, default=1800)
    ap.add_argument("--clients", type=int, default=24)
    ap.add_argument("--idle", type=int, default=1000)
    ap.add_argument("--slow", type=int, default=200)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = ap.parse_args(sys.argv[1:cut])
    server = Server(a.program, a.model, sys.argv[cut + 1:])
    soak = Soak(server, a.seconds)
    soak.learn()
    threads = [threading.Thread(target=soak.client, args=(i,)) for i in range(a.clients)]
    for t in threads:
        t.start()
    warm, peak, settle = None, 0, time.time() + min(60, a.seconds / 3)
    while any(t.is_alive() for t in threads):
        time.sleep(0.5)
        if time.time() > settle:
            warm = warm or server.rss()
            peak = max(peak, server.rss())
    for t in threads:
        t.join()
    print(", ".join(f"{n} {what}" for what, n in sorted(soak.counts.items())))
    time.sleep(1)
    last = server.rss()
    print(f"memory: {warm / 2**20:.1f} MiB after the beginning, at most {peak / 2**20:.1f}, {last / 2**20:.1f} at the end")
    if last > warm * 1.02 + 2**20:
        soak.fail("memory grows")
    grown, status = hold(server, a.idle, a.slow)
    if grown > 512 * 2**20 or status != 200:
        soak.fail("too much memory for idle connections, or others wait for them")
    server.p.terminate()
    if server.p.wait(120) != 0:
        soak.fail("the server did not end cleanly")
    if soak.wrong:
        raise SystemExit("\n".join(soak.wrong[:10]))
    if not all(soak.counts.get(k) for k in ("whole", "streams", "left", "broken", "half")):
        raise SystemExit("some kind of request never came to its end: too short a time")
    print("ok")


main()
