"use strict";
/* Markdown to nodes. Text only ever becomes text nodes and a fixed set of elements: whatever a model writes, no markup
 * of it is interpreted, and links lead to http and https only. */
const make = (tag, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; return e; };

function inline(into, text, depth = 0) {
  const rule = /`([^`]+)`|\*\*([^*]+(?:\*[^*]+\*[^*]*)*)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\(((?:[^()\s]|\([^()\s]*\))+)\)|(https?:\/\/[^\s<>()]*[^\s<>().,;:!?'"])/g;
  let at = 0, m;
  while ((m = rule.exec(text)) && depth < 8) {
    into.append(text.slice(at, m.index));
    at = rule.lastIndex;
    if (m[1] !== undefined) into.append(make("code", m[1]));
    else if (m[2] !== undefined) inline(into.appendChild(make("strong")), m[2], depth + 1);
    else if (m[3] !== undefined) inline(into.appendChild(make("em")), m[3], depth + 1);
    else {
      const url = m[5] || m[6];
      if (!/^https?:\/\//i.test(url)) { into.append(m[0]); continue; }
      const a = into.appendChild(make("a", m[4] || url));
      a.href = url;
      a.rel = "noopener noreferrer nofollow";
      a.target = "_blank";
    }
  }
  into.append(text.slice(at));
}

function table(into, lines) {
  const cells = l => l.trim().replace(/^\||\|$/g, "").split("|");
  const e = into.appendChild(make("table"));
  lines.forEach((l, i) => {
    if (i === 1) return;
    const tr = e.appendChild(make("tr"));
    for (const c of cells(l)) inline(tr.appendChild(make(i ? "td" : "th")), c.trim());
  });
}

function markdown(into, text) {
  const lines = text.split("\n");
  let i = 0;
  into.replaceChildren();
  while (i < lines.length) {
    const l = lines[i], fence = l.match(/^\s*(```+|~~~+)\s*(\S*)/), head = l.match(/^(#{1,6})\s+(.*)/);
    if (fence) {
      const code = [];
      for (i++; i < lines.length && !lines[i].trim().startsWith(fence[1]); i++) code.push(lines[i]);
      i++;
      const pre = into.appendChild(make("pre"));
      pre.tabIndex = 0;
      const c = pre.appendChild(make("code", code.join("\n")));
      if (fence[2]) c.dataset.language = fence[2].slice(0, 30);
    } else if (head) {
      inline(into.appendChild(make("h" + Math.min(6, head[1].length + 2))), head[2]);
      i++;
    } else if (/^\s*([-*+]|\d+[.)])\s+/.test(l)) {
      const ordered = /^\s*\d/.test(l), list = into.appendChild(make(ordered ? "ol" : "ul"));
      if (ordered) list.start = parseInt(l, 10);
      for (; i < lines.length && /^\s*([-*+]|\d+[.)])\s+/.test(lines[i]) && /^\s*\d/.test(lines[i]) === ordered; i++)
        inline(list.appendChild(make("li")), lines[i].replace(/^\s*([-*+]|\d+[.)])\s+/, ""));
    } else if (/^\s*>/.test(l)) {
      const quote = [];
      for (; i < lines.length && /^\s*>/.test(lines[i]); i++) quote.push(lines[i].replace(/^\s*>\s?/, ""));
      inline(into.appendChild(make("blockquote")), quote.join("\n"));
    } else if (l.includes("|") && i + 1 < lines.length && /^[\s|:-]*-[\s|:-]*$/.test(lines[i + 1]) && lines[i + 1].includes("|")) {
      const rows = [];
      for (; i < lines.length && lines[i].includes("|"); i++) rows.push(lines[i]);
      table(into, rows);
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(l)) {
      into.append(make("hr"));
      i++;
    } else if (l.trim() === "") {
      i++;
    } else {
      const p = into.appendChild(make("p"));
      for (let first = true; i < lines.length && lines[i].trim() !== "" && (first || !/^\s*(```|~~~|>|#{1,6}\s|[-*+]\s|\d+[.)]\s)/.test(lines[i])); i++) {
        if (!first) p.append(make("br"));
        inline(p, lines[i]);
        first = false;
      }
    }
  }
}
