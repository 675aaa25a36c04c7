#!/usr/bin/env python3
"""A hub on the loopback for test_get.sh: one repository per fault, named by it.

    hub_server.py PORT_FILE LOG_FILE

Writes "HUB_PORT CDN_PORT" to PORT_FILE; each request adds a line "SERVER METHOD PATH range=... if=... auth=..." to
LOG_FILE. Ends when its standard input ends.
"""
import hashlib
import http.server
import json
import os
import sys
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = bytes((i * 7 + i // 251) % 256 for i in range(300000))
FILES = {
    "config.json": b'{"model_type":"llama"}\n',
    "sub/notes +1.txt": b"with a space\n",
    "model.safetensors": BIG,
    "pytorch_model.bin": b"the same for another program",
    "empty.txt": b"",
}
seen = {}
log = None
lock = threading.Lock()
ports = {}


def is_lfs(path):
    return path.endswith((".safetensors", ".bin"))


def sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path, data, key, hash_key):
    e = {key: path, "size": len(data), hash_key: sha1(data)}
    if is_lfs(path):
        e["lfs"] = {"sha256" if key == "rfilename" else "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return e


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code, body=b"", headers=None, cut=None):
        self.send_response(code)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def count(self, key):
        with lock:
            seen[key] = seen.get(key, 0) + 1
            return seen[key]

    def do_GET(self):
        server = "hub" if self.server.server_address[1] == ports["hub"] else "cdn"
        with lock:
            log.write("%s %s range=%s if=%s auth=%s\n" % (server, self.path, self.headers.get("Range"),
                                                         self.headers.get("If-Range"),
                                                         self.headers.get("Authorization")))
            log.flush()
        path = self.path.split("?")[0]
        parts = path.strip("/").split("/")
        if server == "cdn":
            return self.send_file("moved", "/".join(parts))
        if parts[0] == "api":
            return self.api(parts)
        if parts[0] == "datasets":
            parts = parts[1:]
        if len(parts) < 5 or parts[2] != "resolve" or parts[3] != COMMIT:
            return self.answer(404, b"no")
        repo = parts[1]
        name = "/".join(parts[4:]).replace("%20", " ").replace("%2B", "+")
        if name not in FILES:
            return self.answer(404, b"no")
        if repo == "private" and self.headers.get("Authorization") != "Bearer secret":
            return self.answer(401, b"who are you")
        if repo == "moved" and is_lfs(name):
            return self.answer(302, b"", {"Location": "http://127.0.0.1:%d/%s" % (ports["cdn"], name),
                                          "X-Linked-Etag": '"%s"' % hashlib.sha256(FILES[name]).hexdigest()})
        if repo == "loop":
            return self.answer(302, b"", {"Location": self.path})
        if repo == "file" and is_lfs(name):
            return self.answer(302, b"", {"Location": "file:///etc/passwd"})
        self.send_file(repo, name)

    def send_file(self, repo, name):
        data = FILES[name]
        n = self.count((repo, name))
        if repo == "limited" and n <= 2:
            return self.answer(429, b"slow down", {"Retry-After": "0"})
        if repo == "broken":
            return self.answer(503, b"not now")
        if repo == "wrong" and is_lfs(name):
            data = data[:-1] + b"!"
        if repo == "wrong_once" and is_lfs(name) and n == 1:
            data = data[:-1] + b"!"
        etag = '"%s"' % hashlib.md5(data).hexdigest()
        headers = {"ETag": etag}
        code, start = 200, 0
        rng = self.headers.get("Range")
        if rng and repo != "no_ranges" and self.headers.get("If-Range") in (None, etag):
            start = int(rng.split("=")[1].rstrip("-"))
            code = 206
            headers["Content-Range"] = "bytes %d-%d/%d" % (start, len(data) - 1, len(data))
        body = data[start:]
        cut = None
        if repo in ("cut", "no_ranges") and name == "model.safetensors" and n <= 3:
            cut = 70000 if repo == "cut" or n == 1 else None
        if repo == "slow" and name == "model.safetensors":
            self.send_response(code)
            for k, v in headers.items():
                self.send_header(k, v)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for i in range(0, len(body), 10000):
                self.wfile.write(body[i:i + 10000])
                self.wfile.flush()
                time.sleep(0.1 if n == 1 else 0)
            return
        self.answer(code, body, headers, cut)

    def api(self, parts):
        kind, repo = parts[1], parts[3] if len(parts) > 3 else ""
        if kind == "datasets" and repo != "data":
            return self.answer(404, b"{}")
        if parts[4] == "tree":
            if repo != "tree":
                return self.answer(404, b"{}")
            items = [entry(p, d, "path", "oid") | {"type": "file"} for p, d in FILES.items()]
            items.append({"type": "directory", "path": "sub"})
            if "cursor" in self.path:
                return self.answer(200, json.dumps(items[2:]).encode())
            nxt = "http://127.0.0.1:%d%s&cursor=2" % (ports["hub"], self.path)
            return self.answer(200, json.dumps(items[:2]).encode(), {"Link": '<%s>; rel="next"' % nxt})
        if repo == "gone" or parts[5] not in ("main", "v1"):
            return self.answer(404, b'{"error":"Repository not found"}')
        if repo == "private" and self.headers.get("Authorization") != "Bearer secret":
            return self.answer(401, b"{}")
        if repo == "page":
            return self.answer(200, b"<html>an ordinary page</html>")
        siblings = [entry(p, d, "rfilename", "blobId") for p, d in FILES.items()]
        if repo in ("tree", "bare", "moved"):
            siblings = [{"rfilename": p} for p in FILES]
        if repo == "huge":
            siblings[2]["size"] = siblings[2]["lfs"]["size"] = 1 << 60
        if repo.startswith("evil"):
            siblings[0]["rfilename"] = {"evil1": "../escaped", "evil2": "/tmp/escaped", "evil3": "a/../../b",
                                        "evil4": "a\\..\\b", "evil5": ""}[repo]
        self.answer(200, json.dumps({"sha": COMMIT, "siblings": siblings}).encode())


def main():
    global log
    log = open(sys.argv[2], "w")
    for name in ("hub", "cdn"):
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads = True
        ports[name] = s.server_address[1]
        threading.Thread(target=s.serve_forever, daemon=True).start()
    for name, data in FILES.items():
        path = os.path.join(os.path.dirname(sys.argv[1]), "files", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
    with open(sys.argv[1] + ".tmp", "w") as f:
        f.write("%d %d\n" % (ports["hub"], ports["cdn"]))
    os.rename(sys.argv[1] + ".tmp", sys.argv[1])
    sys.stdin.read()


if __name__ == "__main__":
    main()
