#!/usr/bin/env python3
"""The web page in a real browser: headless Chromium, driven over the DevTools protocol.

    python3 tests/browser/page_test.py build/fathom MODEL [FOLDER FOR SCREENSHOTS]

MODEL is any model folder that generates text. tests/cli/test_serve_browser.sh runs it with one of its own. Needs Chromium
and websockets (Debian: chromium-headless-shell, python3-websockets); written against Chromium 156, websockets 10 and 16.
"""
import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import websockets

checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        raise SystemExit(f"FAILED: {what}")


class Page:
    """One tab. call() is a command of the protocol, js() an expression whose value comes back."""

    def __init__(self, socket):
        self.socket, self.n, self.answers, self.log = socket, 0, {}, []
        self.task = asyncio.create_task(self.read())

    async def read(self):
        async for text in self.socket:
            m = json.loads(text)
            if "id" in m:
                self.answers.pop(m["id"]).set_result(m)
            elif m["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.log.append(json.dumps(m["params"])[:400])
            elif m["method"] == "Network.requestWillBeSent":
                self.urls.add(m["params"]["request"]["url"])

    urls = set()

    async def call(self, method, **params):
        self.n += 1
        self.answers[self.n] = asyncio.get_running_loop().create_future()
        answer = self.answers[self.n]
        await self.socket.send(json.dumps({"id": self.n, "method": method, "params": params}))
        m = await asyncio.wait_for(answer, 60)
        if "error" in m:
            raise SystemExit(f"FAILED: {method}: {m['error']}")
        return m["result"]

    async def js(self, text):
        r = await self.call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in r:
            raise SystemExit(f"FAILED: {text}: {r['exceptionDetails']}")
        return r["result"].get("value")

    async def until(self, text, what, seconds=30):
        for _ in range(seconds * 20):
            if await self.js(text):
                return check(True, what)
            await asyncio.sleep(0.05)
        check(False, what + ": " + str(await self.js("document.body.innerText")))

    async def key(self, key, code=0):
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def size(self, w, h, phone=False):
        await self.call("Emulation.setDeviceMetricsOverride", width=w, height=h, deviceScaleFactor=1, mobile=phone)

    async def picture(self, name):
        if len(sys.argv) > 3:
            r = await self.call("Page.captureScreenshot", format="png")
            with open(os.path.join(sys.argv[3], name + ".png"), "wb") as f:
                f.write(base64.b64decode(r["data"]))


async def send(p, text):
    await p.js("document.getElementById('text').focus()")
    await p.call("Input.insertText", text=text)
    await p.key("Enter", 13)


async def chat(p):
    await p.until("document.querySelectorAll('#model option').length == 1", "the model is in the list")
    await p.js("document.getElementById('max_tokens').value = 40; document.getElementById('system').value = 'Be brief.'")
    await send(p, "Hello, *who* are you?")
    await p.until("document.querySelectorAll('.turn').length == 2", "a question and an answer")
    await p.until("document.getElementById('stop').hidden", "the answer ends")
    check(re.search(r"\d+ tokens", await p.js("document.getElementById('status').textContent")), "tokens and speed")
    check(await p.js("document.querySelector('.turn.user div').textContent") == "Hello, *who* are you?", "own text as typed")
    await p.picture("chat")
    await p.js("document.getElementById('again').click()")
    await p.until("document.getElementById('stop').hidden && document.querySelectorAll('.turn').length == 2", "regenerate")
    # Stop in the midst of a long answer; the keyboard does it too.
    await p.js("document.getElementById('max_tokens').value = ''")
    await send(p, "And now?")
    for _ in range(8):  # an answer may end by itself before the key comes
        await p.until("(document.querySelectorAll('.turn')[3] || {}).textContent?.length > 20 || document.getElementById('stop').hidden",
                      "the answer comes in pieces")
        await p.key("Escape", 27)
        await p.until("document.getElementById('stop').hidden", "the answer ends")
        if await p.js("document.getElementById('status').textContent") == "Stopped.":
            break
        await p.js("document.getElementById('again').click()")
    check(await p.js("document.getElementById('status').textContent") == "Stopped.", "stop")
    await p.js("document.getElementById('temperature').value = 99")
    await p.js("document.getElementById('temperature').value = -1")
    await send(p, "Wrong settings")
    await p.until("document.querySelector('.turn.error')?.textContent.includes('temperature')", "an error is shown")
    await p.js("document.getElementById('temperature').value = ''; document.getElementById('new').click()")
    check(await p.js("document.querySelectorAll('.turn').length") == 0, "a new chat")


HOSTILE = r"""# Head <img src=x onerror=hit()>

<script>hit()</script> **bold `code`** *em* [bad](javascript:hit()) [good](https://example.org/a_(b)) https://example.org/x.

- one
- two <b>three</b>

1. first

> quoted

| a | b |
|---|---|
| 1 | <i>2</i> |

```html
<script>hit()</script>
```
"""


async def markdown(p):
    await p.js("window.wasHit = 0; window.hit = () => { window.wasHit = 1 }")
    await p.js(f"turns = [{{role: 'user', content: '<b>x</b>'}}, {{role: 'assistant', thought: 'hm', content: {json.dumps(HOSTILE)}}}]; redraw()")
    q = "document.querySelector('.turn.assistant > div')"
    tags = await p.js(f"[...new Set([...{q}.querySelectorAll('*')].map(e => e.tagName))].sort().join()")
    check(tags == "A,BLOCKQUOTE,CODE,EM,H3,LI,OL,P,PRE,STRONG,TABLE,TD,TH,TR,UL", f"elements of markdown: {tags}")
    links = await p.js(f"[...{q}.querySelectorAll('a')].map(a => a.href + ' ' + a.rel).join()")
    check("javascript" not in links and links.count("noopener") == 2 and "/a_(b)" in links, f"links: {links}")
    check(await p.js("window.wasHit") == 0, "nothing of it runs")
    check(await p.js("document.querySelector('.turn details').open") is False, "thinking is folded")
    check(await p.js("split('<think>a b</think>\\nc').join('|')") == "a b|c", "thoughts between marks")
    await p.picture("markdown")
    await p.js("turns = []; redraw()")


async def metrics(p):
    await p.js("document.getElementById('tab-chat').focus()")
    await p.key("ArrowRight", 39)
    check(await p.js("document.activeElement.id") == "tab-metrics", "arrow keys change the view")
    await p.until("document.querySelectorAll('#charts svg path').length >= 8", "charts")
    await p.until("[...document.querySelectorAll('#figures tr')].some(r => parseFloat(r.cells[1].textContent) > 40)", "figures")
    check(await p.js("[...document.querySelectorAll('#charts svg')].every(s => s.getAttribute('aria-label'))"), "charts have names")
    check(await p.js("short(quantile(readMetrics('h_bucket{le=\"1\"} 0\\nh_bucket{le=\"2\"} 10\\nh_bucket{le=\"+Inf\"} 10\\n'), {}, 'h', 0.5))") == "1.5", "quantile")
    await asyncio.sleep(4.5)
    await p.picture("metrics")


async def runs(p):
    await p.key("ArrowRight", 39)
    await p.until("document.querySelectorAll('#run-list tbody tr').length > 0", "runs are listed")
    await p.js("document.querySelector('#run-list tbody button').click()")
    await p.until("!document.getElementById('report').hidden && document.getElementById('report-frame').srcdoc.length > 500", "a report")
    await p.picture("runs")
    await p.js("document.getElementById('report-close').click()")
    await p.key("Home", 36)


async def languages(p):
    await p.js("document.getElementById('tab-chat').click(); document.getElementById('lang').click()")
    check(await p.js("document.documentElement.lang") == "zh-CN", "Chinese")
    check(await p.js("document.getElementById('tab-chat').textContent") == "对话", "Chinese words")
    check(await p.js("[...document.querySelectorAll('[data-t]')].every(e => e.textContent && e.textContent != 'undefined')"), "no word is missing")
    await p.size(390, 844, True)
    await p.js("document.getElementById('settings').open = true")
    check(await p.js("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than a phone")
    check(await p.js("(r => r.bottom <= innerHeight && r.width > 60)(document.getElementById('send').getBoundingClientRect())"), "the button is on the phone's screen")
    await p.picture("phone")
    await p.js("document.getElementById('tab-metrics').click()")
    await asyncio.sleep(1)
    check(await p.js("document.documentElement.scrollWidth <= innerWidth"), "charts fit a phone")
    await p.picture("phone-metrics")
    await p.js("document.getElementById('lang').click()")


async def names(p):
    """What a screen reader gets: every control has a name, the tree has its landmarks."""
    tree = (await p.call("Accessibility.getFullAXTree"))["nodes"]
    roles = {n["role"]["value"] for n in tree if not n.get("ignored")}
    for role in ("main", "tablist", "tab", "tabpanel", "log", "status", "button", "heading"):
        check(role in roles, f"role {role}")
    for n in tree:
        if not n.get("ignored") and n["role"]["value"] in ("button", "textbox", "combobox", "tab", "spinbutton", "link"):
            check(n.get("name", {}).get("value"), f"a {n['role']['value']} without a name")


async def drive(port, url):
    tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
    tab = next(t for t in tabs if t["type"] == "page")
    async with websockets.connect(tab["webSocketDebuggerUrl"], max_size=1 << 26) as socket:
        p = Page(socket)
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            await p.call(domain + ".enable")
        await p.size(1100, 800)
        await p.call("Page.navigate", url=url)
        await p.until("document.getElementById('status')?.textContent.includes('API key')", "a key is asked for")
        p.log.clear()  # the refusal
        await p.js("(k => { k.value = 'page-key'; k.dispatchEvent(new Event('change')) })(document.getElementById('key'))")
        await chat(p)
        check(not [l for l in p.log if "400" not in l], f"errors in the console: {p.log}")
        p.log.clear()
        await markdown(p)
        await names(p)
        await metrics(p)
        await runs(p)
        await languages(p)
        check(all(u.startswith((url, "data:", "about:")) for u in p.urls), f"other addresses: {p.urls}")
        check(not p.log, f"errors in the console: {p.log}")


def main():
    program, model = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    browser = next((b for b in ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if not browser:
        print("skipped: no chromium")
        raise SystemExit(77)
    with tempfile.TemporaryDirectory() as tmp:
        with open(tmp + "/keys", "w") as f:
            f.write("page-key name=page\n")
        env = dict(os.environ, FATHOM_REGISTRY=tmp + "/runs.db")
        with open(tmp + "/rows.jsonl", "w") as f:
            f.write('{"text":"one two three four five six seven eight nine ten"}\n' * 20)
        subprocess.run([program, "train", "params=1m", f"dataset={tmp}/rows.jsonl", f"tokenizer={model}", "max_steps=2", "cutoff_len=32",
                        "per_device_train_batch_size=1", "measure_mfu=false", "train_from_scratch=true", f"output_dir={tmp}/out"],
                       env=env, check=True, capture_output=True)
        server = subprocess.Popen([program, "serve", model, "--port", "0", "--api-key-file", tmp + "/keys", "--runs"], env=env,
                                  stderr=subprocess.PIPE, text=True)
        chrome = None
        try:
            url = next(m.group(1) for m in (re.search(r"served at (http://\S+)/v1", line) for line in server.stderr) if m)
            chrome = subprocess.Popen([browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US",
                                       "--remote-debugging-port=0", "--user-data-dir=" + tmp + "/profile", "about:blank"],
                                      stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            port = next(m.group(1) for m in (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in chrome.stderr) if m)
            asyncio.run(drive(int(port), url + "/"))
        finally:
            for p in (chrome, server):
                if p:
                    p.terminate()
                    p.wait(timeout=30)
    print(f"{checks} checks passed")


main()
