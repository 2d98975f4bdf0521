// Draws the charts of a page: meltDraw(element, spec), and every .melt-chart that is there when this script runs.
// Texts reach the page as text; nothing is evaluated (vega's own interpreter computes) and nothing is loaded.
(() => {
"use strict";

const LEAST_WIDTH = 420;
const RESIZE_QUIET_MS = 150;
const themes = MELT_THEMES;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

const theme = () => {
  if (matchMedia("print").matches) return "light";
  return document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light");
};

// What a spec takes beside its fields (axes, their titles, padding) is not known before it was drawn once.
function fitted(spec, width) {
  const part = (view) => ({ ...view, ...("width" in view ? { width } : {}) });
  return spec.vconcat ? { ...spec, vconcat: spec.vconcat.map(part) } : part(spec);
}

async function render(element, chart, fieldWidth) {
  const options = {
    ast: true, actions: false, renderer: "svg", defaultStyle: false, config: themes[chart.theme],
    tooltip: { disableDefaultStyle: true },
  };
  const result = await vegaEmbed(element, fitted(chart.spec, fieldWidth), options);
  chart.result?.finalize();
  chart.result = result;
  return element.querySelector("svg").getBoundingClientRect().width;
}

async function draw(element, chart) {
  const room = Math.max(LEAST_WIDTH, element.clientWidth);
  chart.room = room;
  chart.theme = theme();
  const asked = Math.max(120, room - chart.beside);
  const width = await render(element, chart, asked);
  const over = Math.ceil(width - room);
  if (Math.abs(over) > 2 && asked - over >= 120) {
    chart.beside += over;
    await render(element, chart, asked - over);
  }
  // Vega takes the focus of the keyboard for its graphic; a picture with a name is what it is.
  element.querySelector("svg")?.setAttribute("role", "img");
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
  drawn.set(element, { spec, beside: 80, room: 0, theme: "", turn: Promise.resolve(), result: null });
  element.style.overflowX = "auto";
  sizes.observe(element);
  return queued(element);
};

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
    Math.abs(Math.max(LEAST_WIDTH, element.clientWidth) - chart.room) > 2), RESIZE_QUIET_MS);
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
