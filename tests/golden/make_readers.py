#!/usr/bin/env python3
"""Small files of the formats that `fathom data` reads, and their rows as JSON lines (<file>.rows) as other programs see them.

  make_readers.py [NAME]      writes tests/unit/data/readers/
Needs: pip install pyarrow warcio
The versions that wrote them are in versions.txt beside them.
"""
import base64
import datetime
import decimal
import gzip
import json
import os
import sys

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "data", "readers")
os.makedirs(out, exist_ok=True)
versions = {}


def rows(name, items):
    with open(os.path.join(out, name + ".rows"), "w", encoding="utf-8", newline="\n") as f:
        for r in items:
            f.write((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False, separators=(",", ":"))) + "\n")


def arrow(nested, types):
    """The tables of the Parquet samples as a stream and as files, packed and not, with a dictionary and string views."""
    import pyarrow as pa

    def write(name, table, make, codec=None, rows_=100):
        with make(os.path.join(out, name), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as w:
            for b in table.to_batches(max_chunksize=rows_):
                w.write_batch(b)
    write("nested.arrow", nested, pa.ipc.new_stream, rows_=3)
    color = types.schema.get_field_index("color")
    types = types.slice(0, 120)
    coded = types.set_column(color, "color", types["color"].combine_chunks().dictionary_encode())
    coded = coded.set_column(0, "s", coded["s"].combine_chunks().cast(pa.string_view()))
    write("types.arrow", coded, pa.ipc.new_file, "zstd", 50)
    write("types_lz4.feather", coded, pa.ipc.new_file, "lz4")


def parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq
    versions["pyarrow"] = pa.__version__
    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    data = [
        {"id": 1, "messages": [{"role": "user", "content": "Hi \"there\"\n"}, {"role": "assistant", "content": "你好"}], "tags": ["a", None], "n": [[1], [], None]},
        {"id": None, "messages": [], "tags": None, "n": None},
        {"id": 3, "messages": None, "tags": [], "n": [[2, None, 3]]},
        {"id": 4, "messages": [{"role": None, "content": ""}, None], "tags": ["b"], "n": []},
    ]
    t = pa.Table.from_pylist(data, schema=pa.schema([("id", pa.int64()), ("messages", chat), ("tags", pa.list_(pa.string())), ("n", pa.list_(pa.list_(pa.int8())))]))
    nested = t
    pq.write_table(t, os.path.join(out, "nested.parquet"), compression="snappy", row_group_size=3)
    rows("nested.parquet", t.to_pylist())
    n = 300
    t = pa.table({
        "s": pa.array([None if i % 7 == 0 else "row %d" % i for i in range(n)]),
        "color": pa.array([["red", "green", "blue"][i % 3] for i in range(n)]),
        "u": pa.array([2**64 - 1 - i for i in range(n)], pa.uint64()),
        "d": pa.array([i / 8 + 0.5 for i in range(n)], pa.float64()),
        "yes": pa.array([i % 5 == 0 for i in range(n)]),
        "day": pa.array([datetime.date(1960, 2, 28) + datetime.timedelta(days=i) for i in range(n)]),
        "at": pa.array([datetime.datetime(1999, 12, 31, 23, 59, i % 60, 1000 * i) for i in range(n)], pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal(i * 7 - 900).scaleb(-2) for i in range(n)], pa.decimal128(12, 2)),
        "bin": pa.array([bytes([255, i % 256]) for i in range(n)], pa.binary()),
    })
    arrow(nested, t)
    pq.write_table(t, os.path.join(out, "types.parquet"), compression="zstd", row_group_size=170, data_page_size=300, data_page_version="2.0",
                   use_dictionary=["color"], column_encoding={"s": "DELTA_BYTE_ARRAY", "u": "DELTA_BINARY_PACKED", "d": "BYTE_STREAM_SPLIT", "bin": "DELTA_LENGTH_BYTE_ARRAY"})

    def plain(r):
        at = r["at"].strftime("%Y-%m-%dT%H:%M:%S")
        if r["at"].microsecond:
            at += (".%06d" % r["at"].microsecond).rstrip("0")
        return dict(r, day=r["day"].isoformat(), at=at + "Z", price="@%s@" % r["price"], bin={"base64": base64.b64encode(r["bin"]).decode()})
    rows("types.parquet", map(plain, t.to_pylist()))
    p = os.path.join(out, "types.parquet.rows")
    s = open(p, encoding="utf-8").read().replace('"@', "").replace('@"', "")
    open(p, "w", encoding="utf-8", newline="\n").write(s)
    for name in ("types.arrow", "types_lz4.feather"):
        open(os.path.join(out, name + ".rows"), "w", encoding="utf-8", newline="\n").write("".join(s.splitlines(True)[:120]))
    rows("nested.arrow", nested.to_pylist())


PAGE = """<!DOCTYPE html><html lang="en"><head><title> My  page &amp; more</title><style>x{}</style><script>var a="<p>no</p>";</script></head>
<body class="has-sidebar"><header><h1>Site</h1><nav><ul><li><a href=/>Home</a><li><a href=/a>About</a></ul></nav></header>
<div class="content"><h2>A heading</h2><p>This is the first paragraph of the article, which is long enough to count as content, with commas, and a full stop.
<p>A second one with a <a href=x>link</a> inside and enough words to be kept because it is text that somebody wrote to be read.<br>after a break
<ul><li>one item<li>two items</ul><pre>  code {
    x = 1;
  }</pre>
<table><tr><th>Name<th>Value<tr><td>a<td>1</table>
<div style="display: none">hidden words</div>
<p>short end.</p></div>
<div id="sidebar"><p>Related stories that are not part of the article, long enough to be taken as text, if there was no class.</div>
<footer>Copyright 2024 by somebody, all rights reserved, and so on and on for a long time with many words in it.</footer></body></html>
"""
PAGE_TEXT = """A heading

This is the first paragraph of the article, which is long enough to count as content, with commas, and a full stop.

A second one with a link inside and enough words to be kept because it is text that somebody wrote to be read.
after a break

- one item
- two items

  code {
    x = 1;
  }

Name | Value
a | 1

short end."""
CHINESE = "<html><head><meta charset=gb2312><title>新闻</title></head><body><div id=nav><a href=/>首页</a> <a href=/n>新闻</a></div><div>" \
          "<p>今天上午，研究人员发表了一项关于语言模型的新研究，结果说明数据的质量比数量更加重要，这一点得到了很多人的同意。</p>" \
          "<p>他们还说，下一步的工作是把方法用到更多的语言上。</p></div></body></html>"
CHINESE_TEXT = "今天上午，研究人员发表了一项关于语言模型的新研究，结果说明数据的质量比数量更加重要，这一点得到了很多人的同意。\n\n" \
               "他们还说，下一步的工作是把方法用到更多的语言上。"


def html():
    """The texts are what a reader of the page would call its content; they are written here by hand."""
    with open(os.path.join(out, "page.html"), "w") as f:
        f.write(PAGE)
    rows("page.html", [{"title": "My page & more", "language": "en", "text": PAGE_TEXT}])
    with open(os.path.join(out, "gbk.html"), "wb") as f:
        f.write(CHINESE.encode("gbk"))
    rows("gbk.html", [{"title": "新闻", "text": CHINESE_TEXT}])


def chunked(body):
    return b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 100]), body[i:i + 100]) for i in range(0, len(body), 100)) + b"0\r\n\r\n"


def warc():
    import gzip
    import io
    import warcio
    from importlib.metadata import version
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter
    versions["warcio"] = version("warcio")
    date = {"WARC-Date": "2024-05-06T07:08:09Z"}

    def response(w, url, body, headers, status="200 OK"):
        w.write_record(w.create_warc_record(url, "response", payload=io.BytesIO(body), warc_headers_dict=dict(date),
                                            http_headers=StatusAndHeaders(status, headers, protocol="HTTP/1.1")))
    for name, packed in (("site.warc", False), ("site.warc.gz", True)):
        with open(os.path.join(out, name), "wb") as f:
            w = WARCWriter(f, gzip=packed)
            w.write_record(w.create_warcinfo_record(name, {"software": "make_readers.py"}))
            response(w, "http://a.test/page", PAGE.encode(), [("Content-Type", "text/html; charset=utf-8")])
            response(w, "http://a.test/cn", chunked(gzip.compress(CHINESE.encode("gbk"), mtime=0)),
                     [("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")])
            response(w, "http://a.test/none", b"<html>no such page", [("Content-Type", "text/html")], "404 Not Found")
            response(w, "http://a.test/x.png", b"\x89PNG\0\1", [("Content-Type", "image/png")])
            response(w, "http://a.test/x.txt", "caf\xe9 and text".encode("latin1"), [("Content-Type", "text/plain; charset=ISO-8859-1")])
            w.write_record(w.create_warc_record("http://a.test/wet", "conversion", payload=io.BytesIO("plain text\nof a page \u4f60".encode()),
                                                warc_headers_dict=dict(date, **{"WARC-Identified-Content-Language": "eng"}), warc_content_type="text/plain"))
        at = date["WARC-Date"]
        rows(name, [
            {"url": "http://a.test/page", "date": at, "mime": "text/html", "title": "My page & more", "language": "en", "text": PAGE_TEXT},
            {"url": "http://a.test/cn", "date": at, "mime": "text/html", "title": "新闻", "text": CHINESE_TEXT},
            "!the server did not send the page", "!no text content",
            {"url": "http://a.test/x.txt", "date": at, "mime": "text/plain", "text": "caf\xe9 and text"},
            {"url": "http://a.test/wet", "date": at, "language": "eng", "mime": "text/plain", "text": "plain text\nof a page \u4f60"},
        ])


def xml():
    """The rows are written by hand."""
    import bz2

    def put(name, text):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(text)
    put("feed.xml", """<?xml version="1.0" encoding="utf-8"?>
<f:feed xmlns:f="urn:x"><title>All</title>
<entry id="1" lang="en"><title>First &amp; best</title><tag>a</tag><tag>b</tag><body>Some <b>bold</b> and <i>slanted <u>text</u></i>.</body>
  <by><name>Ann</name><age>3</age></by></entry>
<entry id="2"><title/><body><![CDATA[raw <b> &amp;]]></body><note>one note</note></entry>
<entry>text alone</entry>
</f:feed>
""")
    rows("feed.xml", [
        {"@id": "1", "@lang": "en", "title": "First & best", "tag": ["a", "b"], "body": "Some bold and slanted text.", "by": {"name": "Ann", "age": "3"}},
        {"@id": "2", "title": "", "body": "raw <b> &amp;", "note": "one note"},
        {"text": "text alone"},
    ])
    put("pubmed.xml", """<?xml version="1.0"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2024//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_240101.dtd">
<PubmedArticleSet>
<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="1">123</PMID><Article PubModel="Print"><Journal><JournalIssue CitedMedium="Print"><PubDate>
<Year>2011</Year><Month>May</Month></PubDate></JournalIssue><Title>Journal of Tests</Title></Journal><ArticleTitle>Effects of <i>E. coli</i> on H<sub>2</sub>O.</ArticleTitle>
<ELocationID EIdType="doi" ValidYN="Y">10.1/abc</ELocationID>
<Abstract><AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">We had a question.</AbstractText><AbstractText Label="RESULTS">p &lt; 0.05.</AbstractText></Abstract>
<AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Doe</LastName><ForeName>Jane A</ForeName></Author><Author><CollectiveName>Study Group</CollectiveName></Author></AuthorList>
<Language>eng</Language><PublicationTypeList><PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList></Article>
<MeshHeadingList><MeshHeading><DescriptorName UI="D1">Water</DescriptorName><QualifierName>chemistry</QualifierName></MeshHeading></MeshHeadingList>
<KeywordList><Keyword MajorTopicYN="N">water</Keyword><Keyword>bacteria</Keyword></KeywordList></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">123</ArticleId></ArticleIdList></PubmedData></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>124</PMID><Article><Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue><Title>J</Title></Journal>
<ArticleTitle>No abstract.</ArticleTitle></Article></MedlineCitation></PubmedArticle>
</PubmedArticleSet>
""")
    abstract = "BACKGROUND: We had a question.\nRESULTS: p < 0.05."
    rows("pubmed.xml", [
        {"pmid": "123", "title": "Effects of E. coli on H2O.", "abstract": abstract, "text": "Effects of E. coli on H2O.\n\n" + abstract, "journal": "Journal of Tests",
         "year": 2011, "language": "eng", "doi": "10.1/abc", "authors": ["Doe Jane A", "Study Group"], "mesh": ["Water"], "keywords": ["water", "bacteria"],
         "types": ["Journal Article"]},
        {"pmid": "124", "title": "No abstract.", "text": "No abstract.", "journal": "J", "year": 1998},
    ])

    def page(id_, ns, title, text, more=""):
        text = text.replace("&", "&amp;").replace("<", "&lt;")
        return "<page><title>%s</title><ns>%d</ns><id>%d</id>%s<revision><id>9</id><timestamp>2024-01-02T03:04:05Z</timestamp><text xml:space=\"preserve\">%s</text></revision></page>\n" % (
            title, ns, id_, more, text)
    wiki = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en"><siteinfo><sitename>Test</sitename></siteinfo>
""" + page(1, 0, "Marks", """{{Infobox|a={{b|c}}
|d=[[e]]}}
'''Marks''' ({{lang-x|fr|''Les marques''}}, {{IPA|x}}) are [[sign (thing)|signs]]<ref name="a">a {{cite}} ref</ref> of [[Paper (sheet)|]], {{convert|5|km|mi}} long<ref name=b />.<!-- no
comment -->
[[File:x.png|thumb|A [[nested]] caption]]
== Use ==
=== Empty ===
{| class="wikitable"
| cell || {{t}}
|}
=== Full ===
* one [http://x.test link text] and [http://y.test]
# two &nbsp; &amp; three&#33;
: indented <b>bold</b><br/>after
Open {{ brace and ]] end, <nowiki>[[kept]] {{as is}}</nowiki>
== See also ==
{{portal}}
[[Category:Signs|*]]
[[Category:Paper]]
[[fr:Marques]]
""") + page(2, 0, "中文", "-{zh-hans:计算机;zh-hant:電腦}-科学是-{研究}-的学科。\n\n{{nowrap|很 好}}。[[分类:科学]]") + page(3, 0, "Go", "#REDIRECT [[Marks]]", '<redirect title="Marks" />') + \
        page(4, 10, "Template:X", "template") + page(5, 0, "Nothing", "{{only|a template}}") + "</mediawiki>\n"
    put("wiki.xml", wiki)
    with open(os.path.join(out, "wiki.xml.bz2"), "wb") as f:
        f.write(bz2.compress(wiki.encode()))
    at = "2024-01-02T03:04:05Z"
    marks = """Marks (Les marques) are signs of Paper, 5 km long.

Use

Full

- one link text and
- two & three!
indented bold
after
Open brace and end, [[kept]] {{as is}}"""
    for name in ("wiki.xml", "wiki.xml.bz2"):
        rows(name, [
            {"id": 1, "title": "Marks", "timestamp": at, "categories": ["Signs", "Paper"], "text": marks},
            {"id": 2, "title": "中文", "timestamp": at, "categories": ["科学"], "text": "计算机科学是研究的学科。\n\n很 好。"},
            "!a redirect", "!a page of another namespace", "!no text in the page",
        ])


def sqlite():
    import sqlite3
    versions["sqlite"] = sqlite3.sqlite_version
    path = os.path.join(out, "notes.sqlite")
    if os.path.exists(path):
        os.remove(path)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, score REAL, raw BLOB, n)")
    data = [(1, "one \u4e00 \"quoted\"", 0.5, b"\xff\0", None), (2, "", -2.0, b"text", 2**62), (3, None, 1e300, None, "mixed")]
    db.executemany("INSERT INTO notes VALUES (?,?,?,?,?)", data)
    db.commit()
    db.execute("VACUUM")
    db.close()

    def shown(v):
        if isinstance(v, bytes):
            try:
                return v.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(v).decode()}
        return v
    rows("notes.sqlite", [dict(zip(("id", "body", "score", "raw", "n"), map(shown, r))) for r in data])


def archive():
    """A tar of pax and GNU headers and a zip, with files of several formats, unknown ones, folders and links."""
    import io
    import tarfile
    import zipfile
    long = "d" * 90 + "/" + "e" * 90 + "/long.jsonl"
    files = [("a.jsonl", b'{"id":1,"text":"one"}\n{"id":2\n{"id":3,"text":"\xe4\xb8\xad"}\n'), ("t/b.csv", b'id,text\n4,"a ""b"""\n'), ("t/skip.xyz", b"no"),
             (long, b'{"id":5}\n'), ("t/empty.jsonl", b""), ("\u4e2d.txt", b"A text.\n")]
    want = {"a.jsonl": [{"id": 1, "text": "one"}, "!broken JSON", {"id": 3, "text": "\u4e2d"}], "t/b.csv": [{"id": "4", "text": 'a "b"'}],
            long: [{"id": 5}], "\u4e2d.txt": [{"text": "A text."}]}
    packed = io.BytesIO()
    for i, (name, data) in enumerate(files):
        part = io.BytesIO()
        with tarfile.open(fileobj=part, mode="w", format=tarfile.GNU_FORMAT if i % 2 else tarfile.PAX_FORMAT) as t:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
            if i == 1:
                for kind, target in ((tarfile.DIRTYPE, ""), (tarfile.SYMTYPE, "a.jsonl")):
                    info = tarfile.TarInfo("t/other%s.csv" % kind.decode())
                    info.type, info.linkname = kind, target
                    t.addfile(info)
            end = t.offset
        packed.write(part.getvalue()[:end])
    packed.write(b"\0" * 1024)
    with open(os.path.join(out, "mixed.tar.gz"), "wb") as f:
        f.write(gzip.compress(packed.getvalue(), mtime=0))
    rows("mixed.tar.gz", sum((want.get(n, []) for n, _ in files), []))
    with zipfile.ZipFile(os.path.join(out, "mixed.zip"), "w") as z:
        for i, (name, data) in enumerate(files):
            z.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED if i % 2 == 0 else zipfile.ZIP_STORED)
        z.writestr(zipfile.ZipInfo("x.bz2.csv"), b"id\n6\n", zipfile.ZIP_BZIP2)
        z.writestr(zipfile.ZipInfo("folder/"), b"")
    want["x.bz2.csv"] = ["!the file inside the archive cannot be read"]
    rows("mixed.zip", sum((want.get(n, []) for n in sorted([n for n, _ in files] + ["x.bz2.csv"], key=str.encode)), []))


makers = {"archive": archive, "parquet": parquet, "html": html, "warc": warc, "xml": xml, "sqlite": sqlite}
for name, make in makers.items():
    if len(sys.argv) < 2 or sys.argv[1] == name:
        make()
if versions:
    path = os.path.join(out, "versions.txt")
    old = dict(line.split(" ", 1) for line in open(path).read().splitlines()) if os.path.exists(path) else {}
    old.update(versions)
    open(path, "w").write("".join("%s %s\n" % kv for kv in sorted(old.items())))
