"""Two web sites on the loopback for tests/cli/test_crawl.sh: one with every trap a crawler meets, one that is broken.
Usage: crawl_site.py PORT_FILE LOG_FILE; ends when standard input does. The log has a line a request:
site, path, seconds, User-Agent."""
import gzip
import http.server
import os
import sys
import threading
import time

LOG = open(sys.argv[2], "a", buffering=1)
LOCK = threading.Lock()
SEEN = {}  # path -> requests
TEXT = "This is the text of page %s, long enough to be kept, with a comma and a full stop. It says a little more here, too."


def page(title, links="", head="", text=None):
    body = "".join("<p>%s</p>" % (TEXT % title if text is None else text) for _ in range(2))
    return ("<html lang=en><head><title>%s</title>%s</head><body><article><h1>%s</h1>%s</article><nav>%s</nav></body></html>"
            % (title, head, title, body, links)).encode()


def words(name):  # pages that differ in digits alone count as saying nothing new
    return TEXT % name.translate(str.maketrans("0123456789", "abcdefghij"))


def a(*refs):
    return "".join('<a href="%s">x</a> ' % r for r in refs)


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site = "main"

    def log_message(self, *args):
        pass

    def send(self, body, code=200, type_="text/html; charset=utf-8", **headers):
        self.send_response(code)
        if type_:
            self.send_header("Content-Type", type_)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, to, code=302):
        self.send(b"", code, Location=to)

    def do_GET(self):
        path = self.path
        with LOCK:
            SEEN[path] = n = SEEN.get(path, 0) + 1
            LOG.write("%s %s %.3f %s\n" % (self.site, path, time.time(), self.headers["User-Agent"]))
        try:
            self.answer(path, n)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self, path, n):
        name, _, query = path.partition("?")
        base = "http://127.0.0.1:%d" % self.server.server_port
        if path == "/robots.txt":
            self.send(("User-agent: *\nDisallow: /\n\nUser-agent: fathom\nDisallow: /private\nAllow: /private/open\n"
                       "Disallow: /*.cgi$\nCrawl-delay: 0.005\nSitemap: %s/map.xml\n" % base).encode(), type_="text/plain")
        elif path == "/map.xml":
            self.send(("<?xml version='1.0'?><sitemapindex xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><sitemap>"
                       "<loc>%s/map1.xml.gz</loc></sitemap><sitemap><loc>/broken.xml</loc></sitemap></sitemapindex>"
                       % base).encode(), type_="application/xml")
        elif path == "/map1.xml.gz":
            self.send(gzip.compress(("<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc> %s/only-in-map?a=1"
                                     "&amp;b=2 </loc><lastmod>2024-01-01</lastmod></url><url><loc>http://elsewhere.example/x"
                                     "</loc></url><url><loc>%s/private/map</loc></url></urlset>" % (base, base)).encode()),
                      type_="application/x-gzip")
        elif path == "/broken.xml":
            self.send(b"<urlset><url><loc>/from-broken</loc></url><url><lo")
        elif path == "/":
            self.send(page("home", a(
                "/a#top", "/a?utm_source=mail", "b?y=2&x=1", "/b?x=1&y=2", "/private/x", "/private/open", "/run.cgi", "/cal?month=1",
                "/deep/", "/cycle/", "/session?sid=%d" % n, "/id?visit=%d" % n, "/loop", "/moved", "/chain/0", "/noindex",
                "/nofollow", "/header", "/big", "/endless", "/drip", "/image.png", "/image", "/flaky", "/gone", "/copy", "/packed",
                "/bomb", "/latin", "/chunked", "/based/", "/level1", "/note.txt", "/empty", "/cut", "mailto:a@b.c",
                "javascript:x()", "http://elsewhere.example/", "http://169.254.169.254/", "data:text/html,x", "/" + "x" * 3000)
                + "<a rel=nofollow href=/never>x</a>", "<link rel=license href=/licence>"))
        elif name == "/cal":
            month = int(query.split("=")[1])
            self.send(page("calendar", a("/cal?month=%d" % (month + 1), "/cal?month=%d" % (month - 1)),
                           text="No events in month %d, which is a pity, but there may be some later." % month))
        elif name.startswith("/deep/"):  # a folder that answers to everything
            self.send(page(name, a("x%d/" % name.count("/"))))
        elif name.startswith("/cycle/"):
            self.send(page(name, a("one/two/")))
        elif name in ("/session", "/id"):  # a new id with each visit
            self.send(page(name, a("/session?sid=%d" % (n * 7 + 1), "/id?visit=%d" % (int((query or "=0").split("=")[1]) + 1)),
                           text="Welcome, visitor %s. You have a number of your own and nothing else." % query))
        elif path == "/loop":
            self.redirect("/loop2")
        elif path == "/loop2":
            self.redirect("loop")
        elif path == "/moved":
            self.redirect("%s/target" % base, 301)
        elif name.startswith("/chain/"):
            self.redirect("/chain/%d" % (int(name[7:]) + 1))
        elif path == "/noindex":
            self.send(page("noindex", a("/behind-noindex"), '<meta name="robots" content="NOINDEX">'))
        elif path == "/nofollow":
            self.send(page("nofollow", a("/never"), '<meta name="fathom" content="nofollow">'))
        elif path == "/header":
            self.send(page("header", a("/never")), X_Robots_Tag="none")
        elif path == "/big":
            self.send(page("big") + b" " * 3000000)
        elif path == "/endless":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"<p>more</p>" * 1000)
        elif path == "/drip":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif path in ("/image.png", "/image"):
            self.send(b"\x89PNG" + b"\0" * 100, type_="image/png")
        elif path == "/flaky":
            if n < 3:
                self.send(b"later", 503, Retry_After="0")
            else:
                self.send(page("flaky"))
        elif path == "/gone":
            self.send(b"gone", 404)
        elif path == "/copy":
            self.send(page("/a", a("/a")))
        elif path == "/packed":
            self.send(gzip.compress(page("packed")), Content_Encoding="gzip")
        elif path == "/bomb":
            self.send(gzip.compress(b"<p>" + b"a " * 20000000), Content_Encoding="gzip")
        elif path == "/latin":
            self.send(page("latin", text="Stra\u00dfe und B\u00e4ume, die gr\u00fcn sind, stehen hier in gro\u00dfer Zahl herum.").decode()
                      .encode("latin-1"), type_="text/html; charset=ISO-8859-1")
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            body = page("chunked")
            for i in range(0, len(body), 50):
                part = body[i:i + 50]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif path == "/based/":
            self.send(page("based", a("by-base"), '<base href="/else/where/">'))
        elif name.startswith("/level"):
            self.send(page(name, a("/level%d" % (int(name[6:]) + 1)), text=words(name)))
        elif path == "/note.txt":
            self.send(b"A note in plain text, http://127.0.0.1/never-linked", type_="text/plain")
        elif path == "/empty":
            self.send(b"<html><body></body></html>")
        elif path == "/cut":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"<p>half")
            self.close_connection = True
        elif name.startswith("/wide"):  # 100 pages for tests of interruption
            self.send(page(name, a(*["/wide/%d" % i for i in range(100)]) if name == "/wide" else "", text=words(name)))
        else:
            self.send(page(path))


class Broken(Site):
    site = "broken"

    def answer(self, path, n):
        self.send(b"", 500) if path == "/robots.txt" else self.send(page(path))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


servers = [Server(("127.0.0.1", 0), Site), Server(("127.0.0.1", 0), Broken)]
for s in servers:
    threading.Thread(target=s.serve_forever, daemon=True).start()
with open(sys.argv[1] + ".tmp", "w") as f:
    f.write(" ".join(str(s.server_port) for s in servers) + "\n")
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
sys.stdin.read()
