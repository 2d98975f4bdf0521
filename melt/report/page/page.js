// The page at work: sorting, filtering, keyboard, details and charts. Texts enter as text, never as HTML.
(() => {
"use strict";

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// What lies packed in the page: JSON or text, deflated, in base64. Unpacked at its first need.
const unpacked = new Map();
function unpack(name) {
  if (!unpacked.has(name)) unpacked.set(name, inflate(name));
  return unpacked.get(name);
}
async function inflate(name) {
  const holder = document.getElementById(`z-${name}`);
  if (!holder) return null;
  const packed = atob(holder.textContent.trim());
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}
const unpackJson = async (name) => JSON.parse((await unpack(name)) ?? "null");

// Theme: the system's until the switch is used; then what was chosen, here and on the next opening where that can be kept.
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themeSwitch = find("#theme");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
function nameSwitch() {
  themeSwitch.textContent = isDark() ? "Light" : "Dark";
  themeSwitch.setAttribute("aria-label", `Change to the ${isDark() ? "light" : "dark"} theme`);
}
try {
  const kept = localStorage.getItem("melt-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
} catch { /* A page opened from a file may not keep anything. */ }
themeSwitch.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("melt-theme", root.dataset.theme); } catch { /* As above. */ }
  nameSwitch();
});
systemDark.addEventListener("change", nameSwitch);
nameSwitch();

// Tables of lines that open.
const tables = all("table.rows");
const linesOf = (table) => all("tbody > tr[data-i]", table);
const shownOf = (table) => linesOf(table).filter((line) => !line.hidden);
const detailOf = (line) => (line.nextElementSibling?.classList.contains("detail") ? line.nextElementSibling : null);

function sortBy(table, header) {
  const place = [...header.parentElement.children].indexOf(header);
  const lines = linesOf(table);
  const isNumeric = lines.some((line) => line.children[place].dataset.v !== undefined);
  const before = header.getAttribute("aria-sort");
  const order = before === "none" ? (isNumeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const key = (line) => {
    const cell = line.children[place];
    if (isNumeric) return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    return cell.textContent.trim() || null;
  };
  const texts = new Intl.Collator(undefined, { numeric: true });
  const keyed = lines.map((line) => [key(line), line, detailOf(line)]);
  // What was not measured comes last either way.
  keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * (isNumeric ? a - b : texts.compare(a, b))));
  find("tbody", table).append(...keyed.flatMap(([, line, detail]) => (detail ? [line, detail] : [line])));
  for (const other of all("thead th", table)) other.setAttribute("aria-sort", other === header ? order : "none");
}

async function toggle(line, open = line.getAttribute("aria-expanded") !== "true") {
  line.setAttribute("aria-expanded", String(open));
  let detail = detailOf(line);
  if (detail) {
    detail.hidden = !open;
    return;
  }
  if (!open) return;
  const inside = make("div", { className: "inside" });
  const cell = make("td", { colSpan: line.children.length }, inside);
  detail = make("tr", { className: "detail", id: `${line.id}-detail` }, cell);
  line.setAttribute("aria-controls", detail.id);
  line.after(detail);
  fit(inside);
  const kind = line.closest("table").dataset.kind;
  const told = (await unpackJson(kind))[Number(line.dataset.i)];
  if (kind === "runs") tellRun(inside, told, line.dataset.i);
  else tellLine(inside, told);
}

// A detail is as wide as what can be seen of its table, however far that is scrolled.
const fit = (inside) => inside.style.setProperty("--room", `${inside.closest(".scroll").clientWidth}px`);
addEventListener("resize", () => all(".inside").forEach(fit));

function sheet(headers, rows, numeric) {
  const cell = (tag, text, place) => make(tag, { textContent: text, className: numeric.includes(place) ? "n" : "" });
  const head = make("tr", {}, ...headers.map((text, place) => Object.assign(cell("th", text, place), { scope: "col" })));
  const body = rows.map((row) => make("tr", {}, ...row.map((text, place) => cell("td", text, place))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { className: "scroll", tabIndex: 0 }, table);
}
const part = (title, ...children) => make("section", {}, make("h3", { textContent: title }), ...children);

function tellLine(inside, told) {
  const runs = told.runs.map(([place, id]) => make("a", { href: `#run-${place}`, className: "id", textContent: id }));
  if (told.nightly.length) inside.append(part("Against the sweeps before", sheet(["metric", "verdict", "difference", "why"], told.nightly, [2])));
  inside.append(
    part("Figures", sheet(["metric", "median", "sessions from", "difference", "judged"], told.figures, [1, 3])),
    part("Runs", make("p", { className: "which" }, ...runs.flatMap((link, place) => (place ? [", ", link] : [link])))),
  );
}

function tellRun(inside, told, index) {
  if (told.why.length) {
    const reasons = told.why.map(([code, message, meaning]) =>
      make("li", { className: "reason" }, make("b", { textContent: code }), `: ${message}`, meaning ? make("small", { textContent: ` (${meaning})` }) : ""));
    inside.append(part("Why it ended so, or may not be believed", make("ul", {}, ...reasons)));
  }
  if (told.ended) inside.append(part("How it ended", make("p", { textContent: told.ended })));
  for (const [name, text] of told.evidence) {
    const last = make("pre", { textContent: text, tabIndex: 0 });
    inside.append(part(`Last lines of ${name}`, last));
    last.scrollTop = last.scrollHeight;
  }
  const timeline = make("figure", { className: "chart" });
  if (document.getElementById(`z-timeline-${index}`)) {
    inside.append(part("Timeline", timeline));
    unpackJson(`timeline-${index}`).then((spec) => window.meltTimeline(timeline, spec, draw));
  }
  const facts = told.facts.flatMap(([name, text]) => [make("dt", { textContent: name }), make("dd", {}, make("bdi", { textContent: text }))]);
  const columns = make("div", { className: "two" }, part("Conditions", make("dl", {}, ...facts)));
  const figures = told.figures.length ? [sheet(["metric", "value", "source", "note"], told.figures, [1])] : [];
  if (figures.length || told.unmeasured.length) columns.append(part("Figures", ...figures));
  inside.append(columns);
  if (told.unmeasured.length) columns.lastChild.append(make("ul", {}, ...told.unmeasured.map(([why, titles]) => make("li", { textContent: `Not measured: ${titles} (${why})` }))));
  const { headers, rows } = told.repetitions;
  if (rows.length) inside.append(part("Repetitions", sheet(headers.map((words) => words.join(" ")), rows, headers.map((_, place) => place))));
  if (told.missing.length) inside.append(part("Not to be had on this device", make("ul", {}, ...told.missing.map((text) => make("li", { textContent: text })))));
}

for (const table of tables) {
  linesOf(table).forEach((line, place) => {
    line.tabIndex = place ? -1 : 0;
    line.setAttribute("aria-expanded", "false");
  });
  table.addEventListener("click", (event) => {
    const header = event.target.closest("thead th");
    const line = event.target.closest("tr[data-i]");
    if (header && event.target.closest("button")) sortBy(table, header);
    // Who marks text wants to copy it.
    else if (line && !event.target.closest("a") && getSelection().isCollapsed) {
      walkTo(table, line);
      toggle(line);
    }
  });
  table.addEventListener("keydown", (event) => walk(table, event));
}

// One line of a table is in the order of the Tab key; arrows walk from there.
function walkTo(table, line) {
  for (const other of all("tr[data-i][tabindex='0']", table)) other.tabIndex = -1;
  line.tabIndex = 0;
  line.focus();
}
function walk(table, event) {
  const line = event.target.closest("tr");
  if (event.target !== line || !line.dataset.i) return;
  const lines = shownOf(table);
  const at = lines.indexOf(line);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1, PageDown: Math.min(at + 10, lines.length - 1), PageUp: Math.max(at - 10, 0) }[event.key];
  if (to !== undefined) {
    if (lines[to]) walkTo(table, lines[to]);
  } else if (event.key === "Enter" || event.key === " ") toggle(line);
  else if (event.key === "ArrowRight") toggle(line, true);
  else if (event.key === "ArrowLeft" || (event.key === "Escape" && line.getAttribute("aria-expanded") === "true")) {
    toggle(line, false);
    event.stopPropagation();
  } else return;
  event.preventDefault();
}

// The filter: every word must be somewhere in the line.
const filter = find("#filter");
const words = new Map();
function applyFilter() {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const counts = tables.map((table) => {
    const lines = linesOf(table);
    for (const line of lines) {
      if (!words.has(line)) words.set(line, line.textContent.toLowerCase());
      line.hidden = !wanted.every((word) => words.get(line).includes(word));
      const detail = detailOf(line);
      if (detail) detail.hidden = line.hidden || line.getAttribute("aria-expanded") !== "true";
    }
    const shown = shownOf(table);
    if (shown.length && !shown.some((line) => line.tabIndex === 0)) {
      lines.forEach((line) => { line.tabIndex = -1; });
      shown[0].tabIndex = 0;
    }
    return `${shown.length} of ${lines.length} ${table.dataset.kind === "runs" ? "runs" : "lines"}`;
  });
  find("#found").textContent = wanted.length ? `Shown: ${counts.join(", ")}` : "";
}
filter?.addEventListener("input", applyFilter);
filter?.form.addEventListener("submit", (event) => event.preventDefault());

addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, textarea, select");
  if (event.key === "/" && filter && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    filter.focus();
    filter.select();
  } else if (event.key === "Escape" && filter) {
    const wasTyping = event.target === filter;
    if (wasTyping || filter.value) {
      filter.value = "";
      applyFilter();
    }
    if (wasTyping) filter.blur();
  } else if (event.key === "ArrowDown" && event.target === filter) {
    const [first] = tables.flatMap(shownOf);
    if (first) {
      event.preventDefault();
      walkTo(first.closest("table"), first);
    }
  }
});

// Links to runs open them, filtered away or not.
function openLinked() {
  const line = /^#(run|line)-\d+$/.test(location.hash) ? find(location.hash) : null;
  if (!line) return;
  if (line.hidden) {
    filter.value = "";
    applyFilter();
  }
  toggle(line, true);
  walkTo(line.closest("table"), line);
}
addEventListener("hashchange", openLinked);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#run-']");
  if (link && link.hash === location.hash) openLinked();
});

// Charts: the library becomes a script of the page when the first one is wanted; the policy knows its hash.
let library = null;
function withLibrary() {
  library ??= unpack("library").then((text) => document.head.append(make("script", { textContent: text })));
  return library;
}
async function draw(figure, spec) {
  await withLibrary();
  const place = make("div", { className: "place" });
  figure.replaceChildren(place);
  return window.meltDraw(place, spec);
}

// Charts near the screen come first; the others follow when there is nothing else to do, so that print has all.
const waiting = new Set(all("[data-chart]"));
async function drawWaiting(figure) {
  if (!waiting.delete(figure)) return;
  seen.unobserve(figure);
  const specs = await unpackJson("charts");
  await draw(figure, specs[Number(figure.dataset.chart)]);
}
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawWaiting(target);
}, { rootMargin: "400px" });
for (const figure of waiting) seen.observe(figure);
const whenIdle = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
const drawNext = () => whenIdle(async () => {
  const [next] = waiting;
  if (!next) return;
  await drawWaiting(next);
  drawNext();
});
addEventListener("load", drawNext);
addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));

openLinked();
})();
