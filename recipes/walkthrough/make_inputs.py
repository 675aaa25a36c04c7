#!/usr/bin/env python3
"""Makes what docs/data-walkthrough.md begins with out of bundled public-domain speeches: a folder of web pages and a
messy CSV. The same bytes each time. Usage: make_inputs.py FOLDER"""
import gzip
import html
import json
import os
import random
import sys

here = os.path.dirname(os.path.abspath(__file__))
out = sys.argv[1]
r = random.Random(1)
with gzip.open(os.path.join(here, "../data/state_of_the_union.train.jsonl.gz"), "rt", encoding="utf-8") as f:
    speeches = [json.loads(line) for line in f]

# Pages of about 400 words, with what web pages have around their text.
os.makedirs(os.path.join(out, "pages"), exist_ok=True)
MENU = "".join('<li><a href="/%s.html">%s</a></li>' % (w.lower(), w) for w in ["Home", "News", "Archive", "Contact", "Imprint", "Login"])
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>%s</title><style>p{margin:1em}</style>
<script>var tracking = "%d";</script></head><body><nav class="menu"><ul>%s</ul></nav><div class="cookie-banner">We use cookies to
improve your experience. <a href="/privacy">Privacy policy</a></div><article><h1>%s</h1>
%s
</article><aside class="related"><h3>Related</h3><ul>%s</ul></aside><footer>&copy; 1996-2006 Speech Archive. All rights
reserved. Webmaster: webmaster@speeches.example</footer></body></html>
"""
pages = []
for s in speeches:
    paragraphs = [p.strip() for p in s["text"].split("\n") if p.strip()]
    part, n = [], 0
    for p in paragraphs:
        part.append(p)
        n += len(p.split())
        if n > 400:
            pages.append((s["id"], len(pages), part))
            part, n = [], 0


def write(name, title, part, number):
    related = "".join('<li><a href="/p%d.html">Speech %d</a></li>' % (k, k) for k in range(number, number + 8))
    body = "\n".join("<p>%s</p>" % html.escape(p) for p in part)
    with open(os.path.join(out, "pages", name), "w", encoding="utf-8") as f:
        f.write(PAGE % (title, r.randrange(10**9), MENU, title, body, related))


for title, number, part in pages:
    write("p%04d.html" % number, title, part, number)
for title, number, part in r.sample(pages, 40):  # mirrors: the same text at another address
    write("mirror-%04d.html" % number, title + " (mirror)", part, number)
for title, number, part in r.sample(pages, 30):  # new editions: a few words differ
    words = "\n".join(part).split(" ")
    for _ in range(3):
        words[r.randrange(len(words))] = "[sic]"
    write("edition-%04d.html" % number, title + " (revised)", " ".join(words).split("\n"), number)
for number in range(25):  # pages that are no documents
    write("login-%d.html" % number, "Login", ["Please log in to see this page.", "Forgot your password?"], number)

# A table as it comes out of an office: windows-1252, quoted line ends, letters people wrote about the speeches.
FIRST = ["Ann", "José", "Björn", "Marie", "Peter", "Zoë", "Ian", "Chloé"]
lines = ["id,date,author,comment"]
for i in range(1500):
    speech = r.choice(speeches)["text"]
    at = r.randrange(len(speech) - 700)
    text = speech[at:at + r.choice([60, 250, 400, 600])].replace('"', '""')
    who = r.choice(FIRST)
    kind = r.random()
    if kind < 0.08:
        text += " Please write to %s.%d@mail.example or call (555) 123-%04d." % (who.encode("ascii", "ignore").decode().lower(), i, i)
    elif kind < 0.10:
        text += " Charge my card 4111 1111 1111 1111 for the copy."
    elif kind < 0.16:
        text = "ok" if kind < 0.13 else ""
    elif kind < 0.22 and len(lines) > 10:
        lines.append(lines[r.randrange(1, len(lines))])
        continue
    elif kind < 0.26:
        text = "\u201c" + text + "\u201d \u2013 caf\u00e9, na\u00efve  \t " + text[:30]
    row = '%d,%02d/%02d/2006,%s,"%s"' % (i, r.randint(1, 12), r.randint(1, 28), who, text)
    if kind > 0.99:
        row = row.replace(",", ";", 3)  # someone else's separator
    lines.append(row)
with open(os.path.join(out, "letters.csv"), "wb") as f:
    f.write("\r\n".join(lines).encode("windows-1252", "replace") + b"\r\n")
print("%d pages, %d lines of letters.csv" % (len(os.listdir(os.path.join(out, "pages"))), len(lines)))
