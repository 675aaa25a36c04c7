#!/usr/bin/env python3
"""The calls of Label Studio's API that `fathom data label` uses, on the loopback, over an export file.

    label_studio_server.py PORT_FILE LOG_FILE EXPORT.json

The legacy token is "legacy"; the personal one "a.b.c" is exchanged for "fresh". Each prediction adds a line to LOG_FILE.
Ends when its standard input ends.
"""
import http.server
import json
import os
import sys
import threading
import urllib.parse

tasks = json.load(open(sys.argv[3], encoding="utf-8"))
log = open(sys.argv[2], "w", encoding="utf-8")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if self.headers.get("Authorization") in ("Token legacy", "Bearer fresh"):
            return True
        self.send(401, {"detail": "Invalid token."})
        return False

    def do_GET(self):
        if not self.allowed():
            return
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/api/tasks":
            if query["project"] != ["3"]:
                self.send(404, {"detail": "Not found."})
                return
            page, size = int(query["page"][0]), 3  # pages are smaller than asked for
            self.send(200, {"tasks": tasks[(page - 1) * size:page * size], "total": len(tasks)})
            return
        found = [t for t in tasks if url.path == f"/api/tasks/{t['id']}/"]
        self.send(*((200, found[0]) if found else (404, {"detail": "No Task matches the given query."})))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/token/refresh" and body["refresh"] == "a.b.c":
            self.send(200, {"access": "fresh"})
        elif self.allowed():
            known = any(t["id"] == body["task"] for t in tasks)
            if known:
                log.write(json.dumps(body, ensure_ascii=False) + "\n")
                log.flush()
            self.send(*((201, {"id": 1}) if known else (400, {"detail": "no such task"})))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(sys.argv[1] + ".tmp", "w") as f:
    f.write(str(server.server_port))
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
sys.stdin.read()
