#!/usr/bin/env python3
"""`fathom serve` at full load for a time: requests whose answers are known, streams that are left in the middle, broken
requests, reloads, then 1,000 open streams of which some are read slowly. Each whole answer is compared, none may be lost;
memory must stay flat.

    python3 tests/soak/soak.py FATHOM MODEL [--seconds 1800] [--clients 24] [--reload 60] [--streams 1000] [--slow 200] \
        [--slack 1] [-- SERVE OPTIONS]

MODEL is any folder that generates text; it needs nothing but Python. tests/cli/test_serve_soak.sh is a short run. Reloads come in the middle third of the time, so that
before and after it memory is compared within one process. The report ends with `ok` or says what is wrong.
"""
import argparse
import http.client
import json
import random
import re
import resource
import selectors
import signal
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
        self.started, self.said = 0, []
        for line in self.p.stderr:
            if self.hear(line):
                threading.Thread(target=lambda: [self.hear(line) for line in self.p.stderr], daemon=True).start()
                return
        raise SystemExit("the server did not start")

    def hear(self, line):
        found = re.search(r"served at http://([^:]+):(\d+)/v1", line)
        if found:
            self.host, self.port = found.group(1), int(found.group(2))
            self.started += 1
        else:
            self.said = self.said[-20:] + [line]
        return found

    def reload(self):
        """A new process takes over; False when it does not within a minute."""
        before = self.started
        self.p.send_signal(signal.SIGUSR2)
        for _ in range(600):
            time.sleep(0.1)
            if self.started > before:
                return True
        return False

    def post(self, path, body, timeout=120):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            c.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def pids(self):
        """The process that was started and those that came of it by reloads."""
        all_of, at = [self.p.pid], 0
        while at < len(all_of):
            try:
                with open(f"/proc/{all_of[at]}/task/{all_of[at]}/children") as f:
                    all_of += [int(p) for p in f.read().split()]
            except FileNotFoundError:
                pass
            at += 1
        return all_of

    def rss(self):
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as f:
                    found = re.search(r"RssAnon:\s+(\d+)", f.read())
                total += int(found.group(1)) * 1024 if found else 0
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def open_stream(self, tokens, seed, recv_bytes=None, extra=None):
        s = socket.socket()
        if recv_bytes:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_bytes)
        s.settimeout(120)
        s.connect((self.host, self.port))
        body = json.dumps({"prompt": "Once", "max_tokens": tokens, "seed": seed, "stream": True, "ignore_eos": True,
                           **(extra or {})}).encode()
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
            kind = rng.choice(kinds)
            try:
                kind(rng)
            except (ConnectionError, http.client.HTTPException, OSError) as e:
                # A request that was sent whole gets an answer; the server may hang up on others at once.
                if kind in (self.whole, self.stream):
                    self.fail(f"an answer was lost: {type(e).__name__} {e}")
                self.count(f"{kind.__name__}: {type(e).__name__}")
                time.sleep(0.05)

    def reloads(self, every, begin, end):
        while time.time() < begin and not self.wrong:
            time.sleep(0.2)
        while time.time() < end and not self.wrong:
            if not self.server.reload():
                self.fail("a reload did not end in a minute: " + "".join(self.server.said[-3:]))
            self.count("reloads")
            until = min(time.time() + every, end)
            while time.time() < until and not self.wrong:
                time.sleep(0.2)


def hold(server, streams, slow, seconds):
    """Open streams that wait for their turn, of which some read a few bytes now and then, while others ask for short
    answers: what memory do they take, and does anybody wait for them?"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < streams + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, streams + 100), hard))
    before, held, readers = server.rss(), [], selectors.DefaultSelector()
    for i in range(streams):
        s = server.open_stream(100 if i < slow else 20, i, 4096 if i < slow else None)
        held.append(s)
        if i < slow:
            readers.register(s, selectors.EVENT_READ)
    peak, waits, got, end = 0, [], 0, time.time() + seconds
    while time.time() < end or len(waits) < 5:
        for key, _ in readers.select(0)[:20]:
            part = key.fileobj.recv(16)
            got += len(part)
            if not part:
                readers.unregister(key.fileobj)
        start = time.time()
        status, _ = server.post("/v1/completions", {"prompt": "We", "max_tokens": 1, "user": "other"}, 300)
        waits.append(time.time() - start)
        if status not in (200, 503):
            raise SystemExit(f"a request beside {streams} streams got {status}")
        peak = max(peak, server.rss())
        time.sleep(0.2)
    print(f"{streams} open streams, {slow} of them slow readers ({got} bytes read): {(peak - before) / 2**20:.1f} MiB more, other "
          f"requests waited {sorted(waits)[len(waits) // 2] * 1e3:.0f} ms in the median, {max(waits):.1f} s at most")
    for s in held:
        s.close()
    return peak - before, sorted(waits)[len(waits) // 2]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("model")
    ap.add_argument("--seconds", type=float, default=1800)
    ap.add_argument("--clients", type=int, default=24)
    ap.add_argument("--reload", type=float, default=60, help="seconds between reloads; 0 = none")
    ap.add_argument("--streams", type=int, default=1000)
    ap.add_argument("--slow", type=int, default=200)
    ap.add_argument("--slack", type=float, default=1, help="MiB that memory may grow besides 2%%")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = ap.parse_args(sys.argv[1:cut])
    options = sys.argv[cut + 1:]
    server = Server(a.program, a.model, ["--max-queue", "4096", "--max-connections", "4096", *options])
    soak = Soak(server, a.seconds)
    soak.learn()
    begin = time.time()
    # Parts: one process, reloads, one process. What is compared is within the first and within the last.
    first, second = (begin + a.seconds / 3, begin + a.seconds * 2 / 3) if a.reload > 0 else (begin + a.seconds, begin + a.seconds)
    settle = min(60, a.seconds / 9)
    threads = [threading.Thread(target=soak.client, args=(i,)) for i in range(a.clients)]
    if a.reload > 0:
        threads.append(threading.Thread(target=soak.reloads, args=(a.reload, first, second)))
    for t in threads:
        t.start()
    seen = {"first": [], "last": []}
    while any(t.is_alive() for t in threads):
        time.sleep(0.5)
        now = time.time()
        if begin + settle < now < first:
            seen["first"].append(server.rss())
        elif now > second + settle and len(server.pids()) <= 2:
            seen["last"].append(server.rss())
    for t in threads:
        t.join()
    print(", ".join(f"{n} {what}" for what, n in sorted(soak.counts.items())))
    for part, rss in seen.items():
        if part == "last" and a.reload == 0:
            continue
        n = max(1, len(rss) // 10)
        if len(rss) < 2:
            # Replaced processes have up to five seconds for connections that are idle.
            if a.seconds >= 60:
                soak.fail(f"too short a time to compare memory in the {part} part")
            continue
        early, late = sorted(rss[:n])[n // 2], sorted(rss[-n:])[n // 2]
        print(f"memory of the {part} part: {early / 2**20:.1f} MiB after the beginning, {late / 2**20:.1f} at the end, at most "
              f"{max(rss) / 2**20:.1f}")
        if late > early * 1.02 + a.slack * 2**20:
            soak.fail(f"memory grows in the {part} part")
    grown, waited = hold(server, a.streams, a.slow, min(10, a.seconds / 3))
    if grown > 512 * 2**20 or waited > 2:
        soak.fail("too much memory for open streams, or others wait for them")
    server.p.terminate()
    if server.p.wait(120) != 0:
        soak.fail("the server did not end cleanly")
    if soak.wrong:
        raise SystemExit("\n".join(soak.wrong[:10]))
    if not all(soak.counts.get(k) for k in ("whole", "streams", "left", "broken", "half")) or (a.reload > 0 and not soak.counts.get("reloads")):
        raise SystemExit("some kind of request never came to its end: too short a time")
    print("ok")


main()
