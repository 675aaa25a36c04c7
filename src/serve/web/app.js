"use strict";
const $ = id => document.getElementById(id);
const base = new URL(".", location.href).href;
$("key").value = sessionStorage.getItem("key") || "";

async function ask(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}) };
  if ($("key").value) headers.Authorization = "Bearer " + $("key").value;
  const r = await fetch(base + path, { ...options, headers });
  if (!r.ok) {
    let text = r.status + "";
    try { text = (await r.json()).error.message; } catch { /* not ours */ }
    const e = new Error(r.status === 401 ? t("needKey") : text);
    e.code = r.status;
    throw e;
  }
  return r;
}

/* ---- views ---- */
const tabs = [...document.querySelectorAll("[role=tab]")];
function show(tab, focus) {
  for (const b of tabs) {
    const on = b === tab;
    b.setAttribute("aria-selected", on);
    b.tabIndex = on ? 0 : -1;
    $(b.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", "#" + tab.id.slice(4));
  if (tab.id === "tab-metrics") poll();
  if (tab.id === "tab-runs") listRuns();
}
for (const b of tabs) {
  b.addEventListener("click", () => show(b));
  b.addEventListener("keydown", e => {
    const i = tabs.indexOf(b), to = { ArrowRight: i + 1, ArrowLeft: i - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    show(tabs[to % tabs.length], true);
  });
}
$("lang").addEventListener("click", () => {
  lang = lang === "zh" ? "en" : "zh";
  localStorage.setItem("lang", lang);
  translate();
  redraw();
  if (past.length > 1) drawAll();
});

/* ---- chat ---- */
let turns = []; /* {role, content, thought, error} */
let writing = null; /* AbortController */
const fields = ["temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed"];

function drawTurn(turn, box) {
  box.className = "turn " + (turn.error ? "error" : turn.role);
  const head = make("h2", t(turn.role === "user" ? "you" : "assistant")), body = make("div");
  const parts = [head];
  if (turn.thought) {
    const d = make("details"), text = make("div");
    d.open = box.querySelector("details")?.open || false;
    d.append(make("summary", t("thinking")), text);
    markdown(text, turn.thought);
    parts.push(d);
  }
  if (turn.role === "user" || turn.error) body.textContent = turn.error || turn.content;
  else markdown(body, turn.content);
  parts.push(body);
  box.replaceChildren(...parts);
}
function redraw() {
  const log = $("log");
  log.replaceChildren(...turns.map(turn => { const e = make("article"); drawTurn(turn, e); return e; }));
  log.scrollTop = log.scrollHeight;
  $("again").disabled = !!writing || !turns.some(turn => turn.role === "assistant");
}
/* Models without a reasoning field write their thoughts between marks. */
function split(raw) {
  const m = raw.match(/^\s*<think>([\s\S]*?)(?:<\/think>([\s\S]*)|$)/);
  return m ? [m[1], (m[2] || "").trimStart()] : ["", raw];
}
function request() {
  const body = { model: $("model").value || undefined, stream: true, stream_options: { include_usage: true }, messages: [] };
  if ($("system").value.trim()) body.messages.push({ role: "system", content: $("system").value });
  for (const turn of turns) if (!turn.error) body.messages.push({ role: turn.role, content: turn.content });
  for (const f of fields) if ($(f).value !== "") body[f] = Number($(f).value);
  return JSON.stringify(body);
}
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n\n");
    rest = pieces.pop();
    for (const p of pieces) if (p.startsWith("data: {")) yield JSON.parse(p.slice(6));
  }
}
async function answer() {
  const asked = request(), turn = { role: "assistant", content: "", thought: "" }, began = performance.now();
  let raw = "", usage = null, first = 0, waitingFrame = false;
  turns.push(turn);
  writing = new AbortController();
  $("stop").hidden = false;
  $("send").disabled = true;
  $("status").textContent = t("writing");
  redraw();
  const box = $("log").lastElementChild;
  const draw = () => {
    waitingFrame = false;
    const log = $("log"), end = log.scrollTop + log.clientHeight > log.scrollHeight - 60;
    drawTurn(turn, box);
    if (end) log.scrollTop = log.scrollHeight;
  };
  try {
    const r = await ask("v1/chat/completions", { method: "POST", body: asked, signal: writing.signal });
    for await (const e of events(r)) {
      if (e.error) throw new Error(e.error.message);
      usage = e.usage || usage;
      const d = e.choices[0]?.delta || {};
      if (d.reasoning_content) turn.thought += d.reasoning_content;
      if (d.content) {
        raw += d.content;
        const [thought, text] = split(raw);
        if (thought) turn.thought = thought;
        turn.content = text;
      }
      first = first || (d.content || d.reasoning_content ? performance.now() : 0);
      if (!waitingFrame) { waitingFrame = true; requestAnimationFrame(draw); }
    }
    const s = (performance.now() - (first || began)) / 1000, n = usage?.completion_tokens || 0;
    $("status").textContent = `${t("done")}: ${n} ${t("tokens")}, ${short(n / Math.max(s, 0.001))} ${t("perSecond")}`;
  } catch (e) {
    if (e.name === "AbortError") $("status").textContent = t("stopped");
    else {
      turn.error = e.message;
      $("status").textContent = t("failed") + ": " + e.message;
    }
  }
  writing = null;
  $("stop").hidden = true;
  $("send").disabled = false;
  redraw();
}
$("ask").addEventListener("submit", e => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (!text || writing) return;
  turns = turns.filter(turn => !turn.error);
  turns.push({ role: "user", content: text });
  $("text").value = "";
  answer();
});
$("text").addEventListener("keydown", e => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); $("ask").requestSubmit(); }
  if (e.key === "Escape" && writing) writing.abort();
});
$("stop").addEventListener("click", () => { writing?.abort(); $("text").focus(); });
$("again").addEventListener("click", () => {
  while (turns.length && turns[turns.length - 1].role === "assistant") turns.pop();
  answer();
});
$("new").addEventListener("click", () => { writing?.abort(); turns = []; $("status").textContent = ""; redraw(); $("text").focus(); });
$("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value); models(); });

async function models() {
  try {
    const list = (await (await ask("v1/models")).json()).data, kept = $("model").value;
    $("model").replaceChildren(...list.map(m => new Option(m.id, m.id)));
    if (list.some(m => m.id === kept)) $("model").value = kept;
    $("status").textContent = list.length && list[0].max_model_len > 0 ? "" : t("noModel");
  } catch (e) { $("status").textContent = e.message; }
}

/* ---- metrics ---- */
const past = []; /* readings: {at, all} */
let timer = 0;
const label = l => l.code;
function drawAll() {
  const steps = past.slice(1), before = i => past[i];
  const rate = (name, test) => steps.map((p, i) => Math.max(0, (total(p.all, name, test) - total(before(i).all, name, test)) / (p.at - before(i).at)));
  const gauge = (name, by = 1) => steps.map(p => total(p.all, name) * by);
  const time = q => steps.map((p, i) => quantile(p.all, before(Math.max(0, i - 14)).all, "vllm:time_to_first_token_seconds", q));
  const charts = [
    ["generated", [{ name: t("now"), values: rate("vllm:generation_tokens_total") }]],
    ["read", [{ name: t("now"), values: rate("vllm:prompt_tokens_total") }]],
    ["requests", [{ name: t("running"), values: gauge("vllm:num_requests_running") }, { name: t("waiting"), values: gauge("vllm:num_requests_waiting") }]],
    ["first", [{ name: "p50", values: time(0.5) }, { name: "p99", values: time(0.99) }]],
    ["cache", [{ name: t("now"), values: gauge("vllm:kv_cache_usage_perc", 100) }]],
    ["memory", [{ name: t("now"), values: gauge("process_resident_memory_bytes", 1 / 1048576) }]],
    ["cpu", [{ name: t("now"), values: rate("process_cpu_seconds_total").map(v => v * 100) }]],
    ["answers", [{ name: t("good"), values: rate("fathom:http_answers_total", l => label(l) < "4") }, { name: t("errors"), values: rate("fathom:http_answers_total", l => label(l) >= "4") }]]
  ];
  const place = $("charts");
  while (place.children.length < charts.length) place.append(make("figure"));
  charts.forEach(([key, series], i) => drawChart(place.children[i], t(key), series));
  const all = past[past.length - 1].all, n = total(all, "vllm:time_to_first_token_seconds_count");
  const rows = [
    ["rowUptime", Date.now() / 1000 - total(all, "process_start_time_seconds")],
    ["rowFinished", total(all, "vllm:request_success_total")], ["rowPrompt", total(all, "vllm:prompt_tokens_total")],
    ["rowGenerated", total(all, "vllm:generation_tokens_total")], ["rowHits", total(all, "vllm:prefix_cache_hits_total")],
    ["rowFirst", n ? total(all, "vllm:time_to_first_token_seconds_sum") / n : NaN]
  ].map(([key, v]) => [t(key), short(v)]);
  rows.push([t("rowErrors"), ["4xx", "5xx"].map(c => total(all, "fathom:http_answers_total", l => l.code === c)).join(" / ")]);
  $("figures").tBodies[0].replaceChildren(...rows.map(r => { const tr = make("tr"); tr.append(make("td", r[0]), make("td", r[1])); return tr; }));
}
async function poll() {
  clearTimeout(timer);
  if ($("view-metrics").hidden) return;
  try {
    past.push({ at: performance.now() / 1000, all: readMetrics(await (await ask("metrics")).text()) });
    while (past.length > 151) past.shift();
    $("metrics-status").textContent = t("updated");
    if (past.length > 1) drawAll();
  } catch (e) { $("metrics-status").textContent = t("failed") + ": " + e.message; }
  timer = setTimeout(poll, past.length < 2 ? 300 : 2000);
}

/* ---- runs ---- */
function duration(s) { return s >= 3600 ? (s / 3600).toFixed(1) + " h" : s >= 60 ? (s / 60).toFixed(1) + " min" : (s || 0).toFixed(1) + " s"; }
async function listRuns() {
  const body = $("run-list").tBodies[0];
  try {
    const kind = $("run-kind").value, list = await (await ask("v1/runs" + (kind ? "?kind=" + kind : ""))).json();
    body.replaceChildren(...list.map(r => {
      const tr = make("tr"), first = tr.appendChild(make("td")), open = first.appendChild(make("button", `${r.id} ${r.name || ""}`));
      const when = r.started ? new Date(r.started).toLocaleString(document.documentElement.lang) : "";
      open.type = "button";
      open.addEventListener("click", () => report(r.id));
      const figures = Object.entries(r.figures || {}).slice(0, 3).map(([k, v]) => `${k} ${typeof v === "number" ? +v.toPrecision(4) : v}`).join(", ");
      tr.append(make("td", r.kind), make("td", r.status), make("td", when), make("td", duration(r.seconds)), make("td", figures));
      return tr;
    }));
    $("runs-status").textContent = list.length ? "" : t("noRuns");
  } catch (e) {
    body.replaceChildren();
    $("runs-status").textContent = e.code === 404 ? t("runsOff") : t("failed") + ": " + e.message;
  }
}
async function report(id) {
  try {
    $("report-frame").srcdoc = await (await ask(`v1/runs/${id}/report`)).text();
    $("report").hidden = false;
    $("report-close").focus();
  } catch (e) { $("runs-status").textContent = t("failed") + ": " + e.message; }
}
$("report-close").addEventListener("click", () => { $("report").hidden = true; $("run-reload").focus(); });
$("run-reload").addEventListener("click", listRuns);
$("run-kind").addEventListener("change", listRuns);

translate();
redraw();
models();
show(tabs.find(b => b.id === "tab-" + location.hash.slice(1)) || tabs[0]);
