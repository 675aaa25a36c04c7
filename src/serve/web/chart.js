"use strict";
/* Lines over time as SVG, and what they are drawn from: the text of /metrics. */
function svg(tag, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (text !== undefined) e.textContent = text;
  return e;
}
const short = v => !isFinite(v) ? "–" : v >= 1e6 ? (v / 1e6).toFixed(1) + "M" : v >= 1e4 ? (v / 1e3).toFixed(1) + "k"
  : v >= 100 ? v.toFixed(0) : v >= 1 ? v.toFixed(1) : v === 0 ? "0" : v.toPrecision(2);

/* series: [{name, values}] of the same length; NaN is a gap. */
function drawChart(figure, title, series) {
  const w = 300, h = 120, left = 34, bottom = 6, top = 12, n = Math.max(2, ...series.map(s => s.values.length));
  const most = Math.max(0, ...series.flatMap(s => s.values.filter(isFinite))) || 1;
  const x = i => left + (w - left - 4) * i / (n - 1), y = v => h - bottom - (h - bottom - top) * v / most;
  const s = svg("svg", { viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "none", role: "img" });
  const now = series.map(k => `${k.name} ${short(k.values[k.values.length - 1])}`).join(", ");
  s.setAttribute("aria-label", `${title}: ${now}`);
  for (const v of [0, most / 2, most]) {
    s.append(svg("line", { class: "axis", x1: left, x2: w - 4, y1: y(v), y2: y(v) }));
    s.append(svg("text", { x: left - 4, y: y(v) + 3, "text-anchor": "end" }, short(v)));
  }
  series.forEach((k, which) => {
    let d = "", pen = "M";
    k.values.forEach((v, i) => {
      if (!isFinite(v)) { pen = "M"; return; }
      d += `${pen}${x(i + n - k.values.length).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = "L";
    });
    s.append(svg("path", { class: "s" + which, d: d || "M0 0" }));
  });
  const caption = document.createElement("figcaption");
  const head = caption.appendChild(document.createElement("strong"));
  head.textContent = title;
  series.forEach((k, which) => {
    const e = caption.appendChild(document.createElement("span"));
    e.className = "k" + which;
    e.textContent = `${k.name} ${short(k.values[k.values.length - 1])}`;
  });
  figure.replaceChildren(caption, s);
}

/* {name: [{labels, value}]} */
function readMetrics(text) {
  const all = {};
  for (const l of text.split("\n")) {
    const m = l.match(/^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$/);
    if (!m || l[0] === "#") continue;
    const labels = {};
    for (const p of (m[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[p[1]] = p[2];
    (all[m[1]] = all[m[1]] || []).push({ labels, value: m[3] === "+Inf" ? Infinity : Number(m[3]) });
  }
  return all;
}
const total = (all, name, test = () => true) => (all[name] || []).filter(s => test(s.labels)).reduce((a, s) => a + s.value, 0);

/* Quantile q of what a histogram counted between two readings, by its buckets; NaN when it counted nothing. */
function quantile(now, before, name, q) {
  const at = all => { const b = {}; for (const s of all[name + "_bucket"] || []) b[s.labels.le] = (b[s.labels.le] || 0) + s.value; return b; };
  const a = at(now), b = at(before), le = Object.keys(a).map(k => [k === "+Inf" ? Infinity : Number(k), a[k] - (b[k] || 0)]).sort((p, r) => p[0] - r[0]);
  const n = le.length ? le[le.length - 1][1] : 0;
  if (!n) return NaN;
  let low = 0, under = 0;
  for (const [bound, count] of le) {
    if (count >= q * n) return isFinite(bound) ? low + (bound - low) * (q * n - under) / Math.max(1, count - under) : low;
    low = bound;
    under = count;
  }
  return low;
}
