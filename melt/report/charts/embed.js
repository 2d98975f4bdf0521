// Draws the charts of a page: meltDraw(element, spec), and every .melt-chart that is there when this script runs.
// Texts reach the page as text; nothing is evaluated (vega's own interpreter computes) and nothing is loaded.
(() => {
"use strict";

const LEAST_WIDTH = 520;
const LEAST_STACKED_WIDTH = 340;
const RIGHT = 20;
const BOLD = 1.2;
const RESIZE_QUIET_MS = 150;
const themes = MELT_THEMES;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

const theme = () => {
  if (matchMedia("print").matches) return "light";
  return document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light");
};

// Lines that were broken for the width of a document, broken again for a narrower place.
function wrapped(lines, size, width) {
  const most = Math.max(16, Math.floor(width / (0.56 * size)));
  return [lines].flat().flatMap((line) => {
    const kept = [];
    for (const word of line.split(" ")) {
      const last = kept.length - 1;
      if (last >= 0 && kept[last].length + 1 + word.length <= most) kept[last] += ` ${word}`;
      else kept.push(word);
    }
    return kept;
  });
}

function fitted(spec, chart, fieldWidth) {
  const part = (view) => ({ ...view, ...("width" in view ? { width: fieldWidth } : {}) });
  const whole = spec.vconcat ? { ...spec, vconcat: spec.vconcat.map(part) } : part(spec);
  if (!spec.title?.text) return whole;
  const { fontSize, subtitleFontSize } = themes[chart.theme].title;
  const title = { ...spec.title, text: wrapped(spec.title.text, BOLD * fontSize, chart.seen) };
  if (spec.title.subtitle) title.subtitle = wrapped(spec.title.subtitle, subtitleFontSize, chart.seen);
  return { ...whole, title };
}

async function render(element, chart, fieldWidth) {
  const options = {
    ast: true, actions: false, renderer: "svg", defaultStyle: false, config: themes[chart.theme],
    tooltip: { disableDefaultStyle: true },
  };
  const result = await vegaEmbed(element, fitted(chart.spec, chart, fieldWidth), options);
  chart.result?.finalize();
  chart.result = result;
  element.meltView = result.view;
}

// How much the axis and its title take beside the field is not known before they were drawn once.
function besideField(element, fieldWidth) {
  const left = element.querySelector("svg").getBoundingClientRect().left;
  const fields = [...element.querySelectorAll("path.background")].map((path) => path.getBoundingClientRect());
  const field = fields.find((box) => Math.abs(box.width - fieldWidth) < 2);
  return field ? Math.ceil(field.left - left) + RIGHT : null;
}

async function draw(element, chart) {
  const room = roomOf(element, chart);
  chart.room = room;
  chart.seen = Math.min(room, element.clientWidth);
  chart.theme = theme();
  await render(element, chart, room - chart.beside);
  const beside = besideField(element, room - chart.beside);
  if (beside !== null && Math.abs(beside - chart.beside) > 2) {
    chart.beside = beside;
    await render(element, chart, room - beside);
  }
  // Vega offers its graphic as a document to walk through; a picture with a name is what it is.
  element.querySelector("svg").setAttribute("role", "img");
  element.dispatchEvent(new Event("melt-drawn", { bubbles: true }));
  return chart.result.view;
}

// One after the other: a chart that is drawn twice at once shows twice.
function queued(element) {
  const chart = drawn.get(element);
  chart.turn = chart.turn.then(() => draw(element, chart), () => draw(element, chart));
  return chart.turn;
}

window.meltDraw = (element, spec) => {
  drawn.get(element)?.result?.finalize();
  drawn.set(element, { spec, beside: 80, room: 0, seen: 0, theme: "", turn: Promise.resolve(), result: null });
  element.style.overflowX = "auto";
  sizes.observe(element);
  return queued(element);
};

// Labels of points were placed for a width: below this the picture scrolls in its box.
function roomOf(element, chart) {
  return Math.max(chart.spec.vconcat ? LEAST_STACKED_WIDTH : LEAST_WIDTH, element.clientWidth);
}

function redraw(isStale) {
  for (const [element, chart] of drawn) {
    if (!element.isConnected) {
      chart.result?.finalize();
      sizes.unobserve(element);
      drawn.delete(element);
    } else if (element.clientWidth > 0 && isStale(element, chart)) {
      queued(element);
    }
  }
}

let quiet = 0;
const sizes = new ResizeObserver(() => {
  clearTimeout(quiet);
  quiet = setTimeout(() => redraw((element, chart) =>
    Math.abs(roomOf(element, chart) - chart.room) > 2), RESIZE_QUIET_MS);
});
const recolour = () => redraw((element, chart) => chart.theme !== theme());
prefersDark.addEventListener("change", recolour);
matchMedia("print").addEventListener("change", recolour);
new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    const spec = JSON.parse(target.querySelector("script").textContent);
    meltDraw(target, spec);
  }
}, { rootMargin: "600px" });
for (const element of document.querySelectorAll(".melt-chart")) near.observe(element);
})();
