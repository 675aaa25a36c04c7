"""Clients of `fathom data ingest` for tests/cli/test_ingest.sh: ingest_client.py PART URL [KEY]."""
import gzip
import json
import socket
import sys
import threading
import urllib.error
import urllib.request

part, url = sys.argv[1:3]


def ask(path="/rows", body=None, type_="application/x-ndjson", **headers):
    r = urllib.request.Request(url + path, data=body)
    if type_ and body is not None:
        r.add_header("Content-Type", type_)
    for k, v in headers.items():
        r.add_header(k.replace("_", "-"), v)
    try:
        with urllib.request.urlopen(r, timeout=30) as a:
            return a.status, json.loads(a.read()), a.headers
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read()), e.headers


def check(what, got, *want):
    if got not in want:
        sys.exit("%s: got %s, expected %s" % (what, got, " or ".join(map(str, want))))


def formats():
    code, a, _ = ask(body=b'{"text":"one","n":1.50,"x":[1, 2]}\r\n\n{"text":"\\u00e9"}\nno json\n{"other":1}\n{"text":null}\n[1]\n{"text":"a\xff"}')
    check("JSON lines", (code, a["accepted"], a["refused"]), (200, 2, 5))
    check("lines", [e["line"] for e in a["errors"]], [4, 5, 6, 7, 8])
    check("reasons", [e["reason"].split(":")[0] for e in a["errors"]], ["no JSON object", "missing column", "missing column", "no JSON object", "no JSON object"])
    check("array", ask(body=b'[{"text":"three",\n "n":[1,\n2]}, {"text":"four"}, 5]', type_="application/json; charset=utf-8")[1]["accepted"], 2)
    check("object", ask(body=b'{\n"text":"five"}', type_="application/json")[1]["accepted"], 1)
    a = ask(body=b'text,n\r\n"six, ""6""\n2nd line",1\nseven,2\none field\neight,\n', type_="text/csv")[1]
    check("csv", (a["accepted"], a["refused"], a["errors"][0]["line"]), (3, 1, 5))
    check("tsv", ask(body=b"n\ttext\n1\tnine\n", type_="text/tab-separated-values")[1]["accepted"], 1)
    check("gzip", ask(body=gzip.compress(b'{"text":"ten"}\n'), Content_Encoding="gzip")[1]["accepted"], 1)
    check("no type", ask(body=b'{"text":"eleven"}', type_="")[0], 200)
    check("strict", ask("/rows?strict=1", b'{"text":"never"}\nbad\n')[0], 422)
    check("strict", ask("/rows?strict=1", b'{"text":"twelve"}\n')[0], 200)
    check("all bad", ask(body=b"bad\n")[0], 422)
    check("broken array", ask(body=b'[{"text":"never"}', type_="application/json")[0], 400)
    check("broken gzip", ask(body=b"\x1f\x8bxx", Content_Encoding="gzip")[0], 400)
    check("bomb", ask(body=gzip.compress(b" " * 3000000), Content_Encoding="gzip")[0], 400)
    check("empty", ask(body=b"")[0], 200)
    check("long row", ask(body=b'{"text":"' + b"x" * 70000 + b'"}')[1]["errors"][0]["reason"], "longer than max_row_bytes")
    host, port = url[7:].split(":")
    with socket.create_connection((host, int(port)), 30) as s:  # it is refused before it is sent
        s.sendall(b"POST /rows HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        check("long body", s.recv(100).split(b" ")[1], b"413")
    check("type", ask(body=b"x", type_="image/png")[0], 415)
    check("packing", ask(body=b"x", Content_Encoding="br")[0], 415)
    check("method", ask()[0], 405)
    check("path", ask("/other")[0], 404)
    check("health", ask("/health")[1], {"status": "ok"})
    s = ask("/stats")[1]
    check("stats", (s["rows"], s["waiting"]), (12, 0))


def keys():
    check("no key", ask(body=b'{"text":"never"}')[0], 401)
    check("wrong key", ask(body=b'{"text":"never"}', Authorization="Bearer x")[0], 401)
    check("health", ask("/health")[0], 200)
    for _ in range(2):
        check("key", ask(body=b'{"text":"k"}', Authorization="Bearer secret")[0], 200)
    code, _, h = ask(body=b'{"text":"never"}', Authorization="Bearer secret")
    check("limit", code, 429)
    check("Retry-After", 1 <= int(h["Retry-After"]) <= 60, True)


def crowd():
    """More than the queue holds: each request is taken whole or told to wait."""
    results = []

    def send(i):
        body = "".join('{"text":"%d-%d %s"}\n' % (i, k, "x" * 200) for k in range(2000)).encode()
        code, a, h = ask(body=body)
        results.append((code, a.get("accepted", 0), h.get("Retry-After")))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check("answers", len(results), 40)
    for code, n, retry in results:
        check("answer", (code, n, retry), (200, 2000, None), (503, 0, "1"))
    print(sum(n for _, n, _ in results), sum(c == 503 for c, _, _ in results))


def until_dead():
    """Rows one by one until the server is killed; prints those that were acknowledged."""
    n = 0
    try:
        while n < 1000:
            if ask(body=b'{"text":"row %d"}\n' % n)[0] != 200:
                break
            n += 1
    except OSError:
        pass
    print(n)


{"formats": formats, "keys": keys, "crowd": crowd, "until_dead": until_dead}[part]()
