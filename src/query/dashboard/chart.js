// Charts of the last minutes: areas and lines in SVG, with a crosshair that tells the values under it.

import { h } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 120;

/** The least of 1, 2, 5 times a power of ten that is not under the value. */
export function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/**
 * `series`: [{ name, values, kind: "area" | "line", tone }], oldest first, one value each second.
 * `format(value)` gives the text of a value. The width holds one minute, two or five, as many as there are.
 */
export function chart({ label, series, format, floor = 0 }) {
  const most = Math.max(floor, ...series.flatMap((one) => one.values));
  const top = ceiling(most);
  const length = series[0].values.length;
  const slots = [60, 120, 300].find((many) => many >= length) ?? length;
  const x = (place) => WIDTH - ((length - 1 - place) / (slots - 1)) * WIDTH;
  const y = (value) => HEIGHT - (value / top) * (HEIGHT - 4) - 1;
  const points = (values) => values.map((value, place) => `${x(place).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const drawn = series.flatMap(({ values, kind, tone }) => {
    if (values.length < 2) return [];
    const line = h(`path.line.${tone}`, { d: `M${points(values)}` });
    if (kind !== "area") return [line];
    return [h(`path.area.${tone}`, { d: `M${x(0).toFixed(1)},${HEIGHT}L${points(values)}L${WIDTH},${HEIGHT}Z` }), line];
  });
  const grid = [0.25, 0.5, 0.75, 1].map((part) =>
    h("line.grid", { x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part) }));
  const tip = h("div.tip", { hidden: true, "aria-hidden": "true", "data-live": "1" });
  const cross = h("div.cross", { hidden: true, "data-live": "1" });
  const move = (event) => {
    const plot = event.currentTarget;
    const box = plot.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    const back = Math.round((1 - part) * (slots - 1));
    const place = length - 1 - back;
    const [shownCross, shownTip] = plot.querySelectorAll(".cross, .tip");
    const outside = place < 0 || place >= length;
    shownCross.hidden = shownTip.hidden = outside;
    if (outside) return;
    shownCross.style.left = `${(x(place) / WIDTH) * 100}%`;
    shownTip.style.left = `${Math.min(82, Math.max(18, (x(place) / WIDTH) * 100))}%`;
    const values = series.map((one) => `${one.name} ${format(one.values[place])}`).join(" · ");
    shownTip.textContent = `${values}${back === 0 ? "" : ` · ${back} s ago`}`;
  };
  const leave = (event) => event.currentTarget.querySelectorAll(".cross, .tip").forEach((one) => { one.hidden = true; });
  return h("figure.chart", {},
    h("div.plot", { onpointermove: move, onpointerleave: leave },
      h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, grid, drawn),
      h("span.top-value", { "aria-hidden": "true" }, format(top)),
      cross, tip),
    h("figcaption", { "aria-hidden": "true" }, h("span", {}, `${Math.round(slots / 60)} min ago`), h("span", {}, "now")));
}

/** One bar of 100%, cut into parts: [{ name, value, tone, title }]. */
export function stacked(label, parts, whole) {
  const all = whole ?? parts.reduce((sum, part) => sum + part.value, 0);
  return h("div.stacked", { role: "img", "aria-label": label }, parts.filter((part) => part.value > 0).map((part) =>
    h(`span.${part.tone}`, { title: part.title, style: { "flex-grow": String(part.value / all) } })));
}

/** A meter from 0 to `most`; `tone` is ok, warn or bad. */
export function meter(label, value, most, tone) {
  const part = most > 0 ? Math.min(1, value / most) : value > 0 ? 1 : 0;
  const now = Math.round(part * 100);
  return h("div.meter", { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": now },
    h(`span.${tone}`, { style: { width: `${(part * 100).toFixed(2)}%` } }));
}
