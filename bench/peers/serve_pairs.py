#!/usr/bin/env python3
"""`fathom serve` and llama.cpp's server on the same GGUF file, in turn: streams at once of 128 tokens after prompts of about 64, over
HTTP. Tokens a second of all together and the median time to the first token; medians of the ratios at the end.

    python3 bench/peers/serve_pairs.py FATHOM MODEL.gguf --peer 'llama-server -m MODEL.gguf -np 8 -c 4096 -t 2 --port PORT'
        [--pairs 3] [--streams 8] [--tokens 128] [--threads 2]

MODEL.gguf and PORT in the peer's command are replaced. Without --peer it is llama-cpp-python's server
(`python3 -m llama_cpp.server`, from the Python that runs this), which computes one request after the other.
"""
import argparse
import http.client
import json
import shlex
import socket
import statistics
import subprocess
import sys
import threading
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(port, p):
    for _ in range(1200):
        if p.poll() is not None:
            raise SystemExit("a server did not start")
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            c.request("GET", "/v1/models")
            if c.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("a server was not ready after two minutes")


def one(port, i, tokens, out):
    prompt = f"Stream {i}: " + " ".join(f"w{(i * 31 + k) % 97}" for k in range(18))
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin, first, n = time.time(), None, 0
    c.request("POST", "/v1/completions", json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
                                                     "ignore_eos": True}), {"Content-Type": "application/json"})
    r = c.getresponse()
    for line in r:
        if line.startswith(b"data: {"):
            now = time.time()
            first = first or now
            n += 1
    out.append((begin, first or time.time(), time.time(), n))


def measure(port, streams, tokens):
    out = []
    threads = [threading.Thread(target=one, args=(port, i, tokens, out)) for i in range(streams)]
    begin = time.time()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    end = max(x[2] for x in out)
    return streams * tokens / (end - begin), statistics.median(x[1] - x[0] for x in out) * 1e3


def run(command, streams, tokens):
    port = free_port()
    p = subprocess.Popen([x.replace("PORT", str(port)) for x in command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        begin = time.time()
        wait_ready(port, p)
        ready = time.time() - begin
        measure(port, 1, 4)
        rate, first = measure(port, streams, tokens)
        return rate, first, ready
    finally:
        p.terminate()
        p.wait()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fathom")
    ap.add_argument("model")
    ap.add_argument("--peer")
    ap.add_argument("--pairs", type=int, default=3)
    ap.add_argument("--streams", type=int, default=8)
    ap.add_argument("--tokens", type=int, default=128)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    ours = [a.fathom, "serve", a.model, "--port", "PORT", "--parallel", str(a.streams), "--ctx-size", "512", "--threads",
            str(a.threads)]
    peer = a.peer or f"{sys.executable} -m llama_cpp.server --model MODEL.gguf --n_ctx 512 --n_threads {a.threads} --port PORT"
    theirs = [x.replace("MODEL.gguf", a.model) for x in shlex.split(peer)]
    rates, firsts = [], []
    for i in range(a.pairs):
        x, y = run(ours, a.streams, a.tokens), run(theirs, a.streams, a.tokens)
        rates.append(x[0] / y[0])
        firsts.append(y[1] / x[1])
        print(f"pair {i}: fathom {x[0]:.1f} tokens/s, first after {x[1]:.0f} ms, ready after {x[2]:.2f} s; "
              f"peer {y[0]:.1f} tokens/s, {y[1]:.0f} ms, {y[2]:.2f} s", flush=True)
    print(f"tokens/s: {min(rates):.2f} / {statistics.median(rates):.2f} / {max(rates):.2f} times the peer (least, median, most); "
          f"first token {statistics.median(firsts):.2f} times sooner")


main()
