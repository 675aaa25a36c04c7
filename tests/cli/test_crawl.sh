#!/bin/sh
# fathom data crawl on a site of traps, and on one whose robots.txt cannot be read; interrupted and killed.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
"$fathom" data crawl --help > /dev/null || exit 1
cd "$tmp"
unset http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY || true
mkfifo stay
python3 "$top/tests/cli/crawl_site.py" "$tmp/port" "$tmp/log" < stay 2> "$tmp/site.err" &
exec 9> stay # the server ends with this script
i=0
while [ ! -f port ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || die "the test site did not start"
    sleep 0.1
done
read -r main broken < port
site=http://127.0.0.1:$main
if "$fathom" data crawl "$site/gone" -o none --delay 0 2>&1 | grep -Eq "built without|cannot be opened|cannot open"; then
    echo "SKIP: libcurl, libxml2 or SQLite is missing"
    exit 77
fi
crawl() { # RC URL ARGS...
    rc_=$1
    shift
    run "$rc_" "$fathom" data crawl "$@" --delay 0 --retry-wait 0.05 --timeout 1
}

: > log
crawl 0 "$site/" "http://127.0.0.1:$broken/x" -o web --depth 40 --max-bytes 1MiB --retries 2 --max-similar 60 \
    --contact bot@test.example --json
cp web/pages-000001.jsonl rows.jsonl
python3 - "$tmp" "$main" << 'EOF' || die "the rows are not those expected"
import json, re, sys
tmp, port = sys.argv[1:3]
base = "http://127.0.0.1:%s" % port
rows = {json.loads(l)["url"]: json.loads(l) for l in open(tmp + "/rows.jsonl", encoding="utf-8")}
n_lines = sum(1 for _ in open(tmp + "/rows.jsonl"))
log = [l.split(" ", 3) for l in open(tmp + "/log")]
asked = [l[1] for l in log if l[0] == "main"]
counts = json.load(open(tmp + "/web/manifest.json"))["crawl"]
bad = []
def check(what, ok):
    if not ok:
        bad.append(what)
check("a row twice", n_lines == len(rows))
for path in ["/", "/a", "/private/open", "/target", "/flaky", "/packed", "/latin", "/chunked", "/note.txt", "/behind-noindex",
             "/only-in-map?a=1&b=2", "/from-broken", "/else/where/by-base", "/nofollow", "/b?y=2&x=1", "/level40", "/deep/x2/"]:
    check("no row of " + path, base + path in rows)
for path in ["/private/x", "/private/map", "/run.cgi", "/never", "/never-linked", "/level41", "/b?x=1&y=2", "/a?utm_source=mail"]:
    check("asked for " + path, path not in asked)
for path in ["/noindex", "/header", "/image", "/image.png", "/gone", "/big", "/endless", "/drip", "/bomb", "/empty", "/cut", "/loop"]:
    check("a row of " + path, base + path not in rows)
check("copy and original", (base + "/a" in rows) != (base + "/copy" in rows))
check("robots.txt asked more than once", asked.count("/robots.txt") == 1)
check("robots.txt first", asked[0] == "/robots.txt")
check("503 not asked again", asked.count("/flaky") == 3)
check("cut line not asked again", asked.count("/cut") == 3)
check("404 asked again", asked.count("/gone") == 1)
check("redirect loop", asked.count("/loop") == 1 and asked.count("/loop2") == 1)
check("chain of redirects: %d" % sum(p.startswith("/chain/") for p in asked), sum(p.startswith("/chain/") for p in asked) == 11)
check("calendar: %d" % sum(p.startswith("/cal?") for p in asked), 30 <= sum(p.startswith("/cal?") for p in asked) <= 40)
check("visits: %d" % sum(p.startswith("/id?") for p in asked), sum(p.startswith("/id?") for p in asked) <= 40)
check("session ids", sum(p.startswith("/session") for p in asked) == 1)
check("endless folder: %d" % sum(p.startswith("/deep/") for p in asked), sum(p.startswith("/deep/") for p in asked) <= 26)
check("path that repeats itself", sum(p.startswith("/cycle/") for p in asked) <= 4)
check("other hosts", not [u for u in rows if not u.startswith(base + "/")])
check("user agent", all(re.fullmatch(r"fathom/[0-9.]+ \(crawler; \+bot@test\.example\)", l[3].strip()) for l in log))
check("robots.txt with 500: asked for pages", not [l for l in log if l[0] == "broken" and l[1] != "/robots.txt"])
check("robots.txt with 500: retries", sum(l[0] == "broken" for l in log) == 3)
check("encoding", "Bäume, die grün" in rows.get(base + "/latin", {}).get("text", ""))
check("columns", rows[base + "/"]["title"] == "home" and rows[base + "/"]["language"] == "en"
      and rows[base + "/"]["licence"] == base + "/licence" and rows[base + "/level40"]["depth"] == 40)
check("menus in the text", "x x" not in rows[base + "/"]["text"])
times = sorted(float(l[2]) for l in log if l[0] == "main")
check("Crawl-delay", min(b - a for a, b in zip(times, times[1:])) > 0.004)
for k, v in {"text seen before": 1, "the page says noindex": 2, "robots.txt forbids it": 3, "longer than max_bytes": 2, "answered 404": 1,
             "no page or text by its type": 2, "too many redirects": 1, "broken sitemap": 1, "no text": 1, "broken answer": 1}.items():
    check("count of '%s': %s" % (k, counts.get(k)), (counts.get(k) or 0) >= v)
for b in bad:
    print(b, file=sys.stderr)
sys.exit(1 if bad else 0)
EOF
n_checks=$((n_checks + 1))

# again: nothing is asked for, the output stays
: > log
crawl 0 "$site/" -o web --json
has out '"new":0'
[ ! -s log ] || die "a finished crawl asked again"
same rows.jsonl web/pages-000001.jsonl
crawl 2 "$site/" -o web --format warc
has err "another format"

# a web archive holds the same pages for the reader
crawl 0 "$site/" -o arc --format warc --max-bytes 1MiB --exclude '*/drip' --exclude '*/cal*' --exclude '*/id*' --no-sitemaps --depth 1 --retries 0
run 0 "$fathom" data convert -i arc/pages-000001.warc.gz -o arc.jsonl --overwrite
has arc.jsonl "page packed"
has arc.jsonl "page chunked"
has arc.jsonl "grün"
if python3 -c "import warcio" 2> /dev/null; then
    python3 -c "import sys; from warcio.archiveiterator import ArchiveIterator as A; assert sum(r.rec_type == 'response' for r in A(open('arc/pages-000001.warc.gz','rb'))) > 5"
fi

# limits
crawl 0 "$site/wide" -o few --max-pages 10 --no-sitemaps --json
has out '"pages":10,'
[ "$(wc -l < few/pages-000001.jsonl)" = 10 ] || die "not 10 pages"
crawl 0 "$site/wide" -o few --max-pages 20 --no-sitemaps --json
has out '"pages":20,"new":10,'
[ "$(cut -d, -f1 few/pages-000001.jsonl | sort -u | wc -l)" = 20 ] || die "a page twice"

# interrupted by Ctrl-C, killed between output and state: no page is lost, none comes twice
: > log
"$fathom" data crawl "$site/wide" -o cut --delay 0.02 --no-sitemaps > o 2> err &
pid=$!
i=0
while [ "$(grep -c wide/ log)" -lt 30 ]; do
    i=$((i + 1))
    [ $i -lt 200 ] || die "nothing was asked for"
    sleep 0.05
done
kill -INT $pid
rc=0
wait $pid || rc=$?
[ $rc = 130 ] || die "exit status $rc after an interrupt"
has err "goes on where"
[ -f cut/pages-000001.jsonl.open ] || die "the unfinished file has a finished name"
rc=0
FATHOM_CRASH_POINT=crawl-commit:2 "$fathom" data crawl "$site/wide" -o cut --delay 0.02 --no-sitemaps > o 2> err || rc=$?
[ $rc = 137 ] || die "exit status $rc, expected a kill"
printf '{"torn' >> cut/pages-000001.jsonl.open
crawl 0 "$site/wide" -o cut --no-sitemaps --json
[ "$(wc -l < cut/pages-000001.jsonl)" = 101 ] || die "$(wc -l < cut/pages-000001.jsonl) pages, expected 101"
[ "$(cut -d, -f1 cut/pages-000001.jsonl | sort -u | wc -l)" = 101 ] || die "a page twice"
hasnt cut/pages-000001.jsonl torn

# what is refused
run 2 "$fathom" data crawl -o x
crawl 2 ftp://h/ -o x
has err "http"
mkdir mine && : > mine/file
crawl 1 "$site/" -o mine
has err "overwrite"
[ -f mine/file ] || die "a file of someone else was removed"
finish
