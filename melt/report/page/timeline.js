// A run over time: it zooms between its parameters t0 and t1, and tells what all of its lines are at one moment.
(() => {
"use strict";

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Lines by panel, each as rising times and the values drawn there, null where the line is broken.
function panelsOf(spec) {
  return spec.vconcat.map((panel) => {
    const { data, mark } = panel.layer.at(-1);
    const lines = new Map();
    for (const { t, v, s } of data.values) {
      if (!lines.has(s)) lines.set(s, { t: [], v: [] });
      lines.get(s).t.push(t);
      lines.get(s).v.push(v);
    }
    return { title: panel.title.text, lines, isStep: mark.interpolate === "step-after" };
  });
}

// The drawn value nearest to a moment; null where no line is drawn.
function valueAt({ t, v }, moment, isStep) {
  let [low, high] = [0, t.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle] <= moment) low = middle + 1;
    else high = middle;
  }
  const before = low - 1;
  if (before < 0 || v[before] === null) return null;
  if (t[before] === moment) return v[before];
  if (low === t.length || v[low] === null) return null;
  return isStep || moment - t[before] <= t[low] - moment ? v[before] : v[low];
}

// What lies below the chart: the moment, to be moved by keys too, and a value for each line.
function readoutOf(spec) {
  const slider = make("input", { type: "range", step: "any" });
  slider.setAttribute("aria-label", `Moment, in ${spec.vconcat.at(-1).layer.at(-1).encoding.x.axis.title}`);
  const words = make("output", { className: "moment" });
  const values = make("ul", { className: "values" });
  const told = panelsOf(spec).flatMap(({ title, lines, isStep }) => [...lines].map(([name, line]) => {
    const value = make("b");
    const named = lines.size > 1 ? [title, ": ", make("bdi", { textContent: name })] : [title];
    values.append(make("li", {}, make("span", {}, ...named), value));
    return { line, isStep, value };
  }));
  const tell = (moment) => {
    const phases = spec.datasets.phases.filter(({ a, b }) => a <= moment && moment <= b).map(({ phase }) => phase);
    const text = [`${moment.toFixed(2)} s`, ...new Set(phases)].join(", ");
    words.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    for (const { line, isStep, value } of told) value.textContent = valueAt(line, moment, isStep) ?? "-";
  };
  return { parts: [make("label", { className: "at" }, "At ", slider, " ", words), values], slider, tell };
}

window.meltTimeline = async (figure, spec, draw) => {
  const [from, to] = spec.params;
  const whole = [from.value, to.value];
  const { parts, slider, tell } = readoutOf(spec);
  const cross = make("div", { className: "cross", hidden: true });
  let moment = Math.min(Math.max(0, whole[0]), whole[1]);

  const fields = () => [...figure.querySelectorAll(".mark-group.role-scope .background")].map((field) => field.getBoundingClientRect());
  const mark = () => {
    const found = fields();
    if (!found.length) return;
    const [first] = found;
    const share = (moment - from.value) / (to.value - from.value);
    const { left, top } = figure.getBoundingClientRect();
    cross.style.left = `${first.left - left - figure.clientLeft + share * first.width}px`;
    cross.style.top = `${first.top - top - figure.clientTop}px`;
    cross.style.height = `${Math.max(...found.map(({ bottom }) => bottom)) - first.top}px`;
    if (cross.parentNode !== figure) figure.append(cross);
  };
  const point = (at) => {
    moment = Math.min(Math.max(at, from.value), to.value);
    slider.value = moment;
    tell(moment);
    mark();
    cross.hidden = false;
  };

  const show = (t0, t1) => {
    const length = Math.min(Math.max(t1 - t0, (whole[1] - whole[0]) / 2000), whole[1] - whole[0]);
    from.value = Math.min(Math.max(t0, whole[0]), whole[1] - length);
    to.value = from.value + length;
    figure.firstChild.meltView?.signal("t0", from.value).signal("t1", to.value).runAsync();
    Object.assign(slider, { min: from.value, max: to.value, step: length / 200 });
    if (!cross.hidden) point(moment);
  };
  const zoom = (factor, at = 0.5) => {
    const length = to.value - from.value;
    const fixed = from.value + at * length;
    show(fixed - at * length * factor, fixed + (1 - at) * length * factor);
  };
  const move = (share) => {
    const by = share * (to.value - from.value);
    show(from.value + by, to.value + by);
  };
  const all = () => show(...whole);

  figure.addEventListener("melt-drawn", mark);
  figure.addEventListener("scroll", mark, true);
  await draw(figure, spec);
  const shareAt = (event) => {
    const [{ left, width }] = fields();
    return Math.min(1, Math.max(0, (event.clientX - left) / width));
  };
  const button = (text, title, act) => {
    const made = make("button", { type: "button", textContent: text, title });
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  };
  const buttons = make("div", { className: "zoom" },
    button("+", "Zoom in", () => zoom(0.5)), button("−", "Zoom out", () => zoom(2)),
    button("←", "Earlier", () => move(-0.25)), button("→", "Later", () => move(0.25)), button("Whole run", "Show the whole run", all));
  figure.after(buttons, make("div", { className: "readout" }, ...parts));
  slider.addEventListener("input", () => point(Number(slider.value)));
  all();
  slider.value = moment;
  tell(moment);

  figure.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY / 400), shareAt(event));
  }, { passive: false });
  figure.addEventListener("dblclick", all);
  let held = null;
  figure.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = shareAt(event);
    figure.setPointerCapture(event.pointerId);
  });
  for (const end of ["pointerup", "pointercancel"]) figure.addEventListener(end, () => { held = null; });
  figure.addEventListener("pointermove", (event) => {
    const now = shareAt(event);
    if (held === null) point(from.value + now * (to.value - from.value));
    else {
      move(held - now);
      held = now;
    }
  });
};
})();
