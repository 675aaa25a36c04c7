#!/usr/bin/env python3
"""A real Label Studio against `fathom data label`: tasks in, annotations out, predictions, the ML backend.

  test_label_studio.py FATHOM            LABEL_STUDIO=/path/to/label-studio names the program (pip install label-studio, in
                                         an environment of its own: it is large); without it the test is passed over
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

fathom = os.path.abspath(sys.argv[1])
program = os.environ.get("LABEL_STUDIO")
if not program:
    print("LABEL_STUDIO is not set: passed over")
    sys.exit(0)
TOKEN = "0123456789abcdef0123456789abcdef01234567"
PORT = int(os.environ.get("LABEL_STUDIO_PORT", "8199"))
URL = f"http://127.0.0.1:{PORT}"
CONFIG = """<View><Text name="text" value="$text"/>
<Choices name="sentiment" toName="text"><Choice value="positive"/><Choice value="negative"/></Choices>
<Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels></View>"""
TEXTS = ["I love it", "it broke \U0001F600 when Ann came", "Ann in Oslo", "nothing"]


def call(method, path, body=None):
    r = urllib.request.Request(URL + path, None if body is None else json.dumps(body).encode(), method=method,
                               headers={"Authorization": "Token " + TOKEN, "Content-Type": "application/json"})
    try:
        text = urllib.request.urlopen(r, timeout=60).read()
    except urllib.error.HTTPError as e:
        raise SystemExit(f"{method} {path}: {e.code} {e.read()[:500]}")
    return json.loads(text) if text else None


def run(*args, want=0):
    p = subprocess.run([fathom, "data", "label", *args], capture_output=True, text=True,
                       env={**os.environ, "LABEL_STUDIO_API_KEY": TOKEN})
    assert p.returncode == want, (args, p.returncode, p.stderr)
    return json.loads(p.stdout) if want == 0 else p.stderr


def choice(v):
    return {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": [v]}}


def main(tmp):
    deadline = time.time() + 240
    while True:
        try:
            version = call("GET", "/api/version")
            break
        except (OSError, SystemExit):
            assert time.time() < deadline, "the server did not start"
            time.sleep(2)
    print("label-studio", version.get("label-studio-os-package", {}).get("version", version.get("release")))
    project = call("POST", "/api/projects/", {"title": "interop", "label_config": CONFIG})["id"]
    call("POST", f"/api/projects/{project}/import", [{"text": t} for t in TEXTS])
    tasks = sorted(call("GET", f"/api/tasks?project={project}&page_size=50")["tasks"], key=lambda t: t["id"])
    ids = [t["id"] for t in tasks]
    assert [t["data"]["text"] for t in tasks] == TEXTS
    # as the page sends them: places in UTF-16 units
    call("POST", f"/api/tasks/{ids[0]}/annotations/", {"result": [choice("positive")]})
    call("POST", f"/api/tasks/{ids[1]}/annotations/", {"result": [choice("negative"), {
        "from_name": "label", "to_name": "text", "type": "labels",
        "value": {"start": 17, "end": 20, "text": "Ann", "labels": ["PER"]}}]})
    call("POST", f"/api/tasks/{ids[2]}/annotations/", {"result": [], "was_cancelled": True})

    # pull: by project, list, range; the same from an export
    out = f"{tmp}/rows.jsonl"
    report = run("import", "--url", URL, "--project", str(project), "-o", out)
    rows = [json.loads(line) for line in open(out)]
    assert report["rows"] == 2 and [r["task_id"] for r in rows] == ids[:2], report
    assert rows[0]["label"] == "positive" and rows[1]["label"] == "negative"
    e = rows[1]["entities"][0]
    assert rows[1]["text"][e["start"]:e["end"]] == "Ann" and e["label"] == "PER", e
    for how in (["--tasks", ",".join(map(str, ids))], ["--ids", f"{ids[0]}-{ids[-1]}"]):
        run("import", "--url", URL, *how, "-o", f"{tmp}/again.jsonl", "--overwrite")
        again = [json.loads(line) for line in open(f"{tmp}/again.jsonl")]
        assert [(r["task_id"], r.get("label"), r.get("entities")) for r in again] == \
            [(r["task_id"], r.get("label"), r.get("entities")) for r in rows], how
    export = call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    json.dump(export, open(f"{tmp}/export.json", "w"))
    run("import", "-i", f"{tmp}/export.json", "-o", f"{tmp}/file.jsonl")
    by_file = [json.loads(line) for line in open(f"{tmp}/file.jsonl")]
    assert sorted((r["task_id"], r.get("label"), str(r.get("entities"))) for r in by_file) == \
        sorted((r["task_id"], r.get("label"), str(r.get("entities"))) for r in rows)

    # push, and what the server has then
    with open(f"{tmp}/p.jsonl", "w") as f:
        f.write(json.dumps({"task_id": ids[3], "label": "negative", "score": 0.75}) + "\n")
        f.write(json.dumps({"task_id": ids[2], "text": TEXTS[2], "entities": [{"start": 7, "end": 11, "label": "LOC"}]}) + "\n")
    assert run("push", "--url", URL, "-i", f"{tmp}/p.jsonl", "--from-name", "sentiment", "--model-version", "m1")["pushed"] == 2
    p = call("GET", f"/api/predictions/?task={ids[3]}")
    p = p["results"] if isinstance(p, dict) else p
    mine = [x for x in p if x["task"] == ids[3]]
    assert mine and mine[0]["score"] == 0.75 and mine[0]["result"][0]["value"]["choices"] == ["negative"], p
    assert mine[0]["model_version"] == "m1"
    err = subprocess.run([fathom, "data", "label", "import", "--url", URL, "--project", str(project), "-o", f"{tmp}/x.jsonl"],
                         capture_output=True, text=True, env={**os.environ, "LABEL_STUDIO_API_KEY": "wrong"})
    assert err.returncode == 1 and "LABEL_STUDIO_API_KEY" in err.stderr, err.stderr

    # the ML backend: Label Studio itself asks it when it is added to the project
    guide = f"{tmp}/guide.yaml"
    open(guide, "w").write("version: 1\nkind: classification\nlabels:\n"
                           "  - {name: positive, definition: content, examples: [good]}\n"
                           "  - {name: negative, definition: not content, examples: [bad]}\n")
    here = os.path.dirname(os.path.abspath(__file__))
    mock = subprocess.Popen([sys.executable, f"{here}/../cli/openai_server.py", f"{tmp}/port", f"{tmp}/asked"],
                            stdin=subprocess.PIPE, cwd=tmp)
    while not os.path.exists(f"{tmp}/port"):
        time.sleep(0.1)
    served = open(f"{tmp}/served", "w+")
    backend = subprocess.Popen([fathom, "data", "label", "serve", "--guide", guide, "--port", "0", "--model-version", "m2",
                                "--from-name", "sentiment", "--endpoint", f"http://127.0.0.1:{open(tmp + '/port').read()}/v1"],
                               stderr=served, stdout=subprocess.DEVNULL)
    try:
        address = ""
        while "http" not in address:
            time.sleep(0.1)
            address = open(f"{tmp}/served").read()
        address = "http" + address.split("http", 1)[1].split()[0]
        ml = call("POST", "/api/ml/", {"project": project, "url": address, "title": "fathom"})
        assert ml["state"] == "CO", ml  # connected: it asked /health and /setup
        call("POST", f"/api/ml/{ml['id']}/predict/test?random=true")
        print("backend:", ml["state"], ml.get("model_version"))
    finally:
        backend.terminate()
        backend.wait()
        mock.stdin.close()
        mock.wait()
    print("label studio: import by project, list, range and file, predictions, backend: equal")


with tempfile.TemporaryDirectory() as folder:
    server = None
    if not os.environ.get("LABEL_STUDIO_RUNNING"):
        server = subprocess.Popen([program, "start", "--no-browser", "--port", str(PORT), "--internal-host", "127.0.0.1",
                                   "--username", "a@b.org", "--password", "pass-pass-1", "--user-token", TOKEN],
                                  env={**os.environ, "LABEL_STUDIO_BASE_DATA_DIR": folder + "/data",
                                       "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "COLLECT_ANALYTICS": "false",
                                       "ML_BLOCK_LOCAL_IP": "false", "USE_DEFAULT_BANNED_SUBNETS": "false"},
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        main(folder)
    finally:
        if server:
            server.terminate()
            server.wait()
