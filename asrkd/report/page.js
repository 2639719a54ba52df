"use strict";
// Tables are sorted by a click on a column's head; charts are drawn from their data, and say the values under the pointer.

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(table, heads, column));
  });
}

function sortBy(table, heads, column) {
  const falling = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  const values = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
  const number = (row) => parseFloat(values.get(row).replace(/,/g, "").replace("−", "-"));
  const numeric = heads[column].classList.contains("number");
  rows.sort((a, b) => {
    if (!numeric) return values.get(a).localeCompare(values.get(b), undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    // What is not a number comes last, in either direction.
    if (Number.isNaN(x) || Number.isNaN(y)) return (Number.isNaN(x) - Number.isNaN(y)) * (falling ? -1 : 1);
    return x - y;
  });
  if (falling) rows.reverse();
  table.tBodies[0].append(...rows);
}

const SVG = "http://www.w3.org/2000/svg";
// About as wide as a panel on the page, so that its letters have their size.
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [380, 210, 44, 20, 10, 36];

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const marks = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) marks.push(at);
  return marks;
}

const shown = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(+value.toPrecision(3)));

function made(tag, name, text = "") {
  const one = document.createElement(tag);
  one.className = name;
  one.textContent = text;
  return one;
}

function titled(panel) {
  const box = made("div", "panel");
  box.append(made("p", "panel-title", panel.title));
  return box;
}

// The names of colors, under a chart; returns where the text of each goes.
function legend(entries, place) {
  const key = made("p", "key");
  const texts = entries.map(({ name, color }) => {
    const [entry, text] = [document.createElement("span"), made("span", "", name)];
    const dot = element("svg", { viewBox: "0 0 12 12", class: "dot" });
    element("circle", { cx: 6, cy: 6, r: 5, fill: color }, dot);
    entry.append(dot, text);
    key.append(entry);
    return text;
  });
  place.append(key);
  return texts;
}

function drawBars(panel, place) {
  const box = titled(panel);
  const rows = made("div", "bars");
  const top = Math.max(...panel.bars.map((bar) => Math.max(bar.value, bar.high ?? 0)), 1e-9);
  let group = null;
  for (const bar of panel.bars) {
    if (bar.group !== group) rows.append(made("span", "group", bar.group));
    group = bar.group;
    const [track, fill] = [made("span", "track"), made("span", "fill")];
    fill.style.width = `${(100 * bar.value) / top}%`;
    fill.style.background = bar.color;
    track.append(fill);
    if (bar.high !== undefined) {
      const whisker = made("span", "whisker");
      whisker.style.left = `${(100 * bar.low) / top}%`;
      whisker.style.width = `${(100 * (bar.high - bar.low)) / top}%`;
      track.append(whisker);
    }
    track.title = `${bar.group}, ${bar.name}: ${bar.value.toFixed(1)}` + (bar.high === undefined ? "" : ` [${bar.low.toFixed(1)}, ${bar.high.toFixed(1)}]`);
    rows.append(track, made("span", "value", bar.value.toFixed(1)));
  }
  box.append(rows);
  legend([...new Map(panel.bars.map((bar) => [bar.name, bar])).values()], box);
  place.append(box);
}

// The corners of a line: of a histogram, whose points are the middles of its bars, of their tops.
function corners(line, steps) {
  if (!steps) return line.x.map((x, index) => [x, line.y[index]]);
  const half = line.x.length > 1 ? (line.x[1] - line.x[0]) / 2 : 0.5;
  const tops = line.x.flatMap((x, index) => [[x - half, line.y[index]], [x + half, line.y[index]]]);
  return [[tops[0][0], 0], ...tops, [tops[tops.length - 1][0], 0]];
}

function drawPanel(panel, place) {
  const points = panel.lines.flatMap((line) => [
    ...corners(line, panel.steps),
    ...["low", "high"].flatMap((end) => (line[end] || []).map((y, index) => [line.x[index], y])),
  ]);
  if (panel.diagonal) points.push([0, 0], [1, 1]);
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  if (panel.from !== undefined) ys.push(panel.from);
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const [x0, x1] = range(xs);
  let [y0, y1] = range(ys);
  [y0, y1] = [panel.from === undefined ? y0 - 0.04 * (y1 - y0) : y0, y1 + 0.04 * (y1 - y0)];
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const path = (corner) => corner.map(([x, y]) => `${px(x)},${py(y)}`).join(" ");

  const box = titled(panel);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": panel.title });
  for (const y of ticks(y0, y1, 5)) {
    element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y), class: "grid" }, svg);
    element("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, svg).textContent = shown(y);
  }
  for (const x of ticks(x0, x1, 6)) {
    element("text", { x: px(x), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, svg).textContent = shown(x);
  }
  element("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, svg).textContent = panel.xlabel;
  if (panel.diagonal) element("line", { x1: px(0), y1: py(0), x2: px(1), y2: py(1), class: "rule" }, svg);
  for (const line of panel.lines) {
    if (line.low) {
      const ends = [...line.x.map((x, index) => [x, line.low[index]]), ...line.x.map((x, index) => [x, line.high[index]]).reverse()];
      element("polygon", { points: path(ends), fill: line.color, class: "band" }, svg);
    }
    if (panel.steps) element("polygon", { points: path(corners(line, true)), fill: line.color, class: "band" }, svg);
    element("polyline", { points: path(corners(line, panel.steps)), stroke: line.color, class: "curve" }, svg);
    if (line.x.length === 1) element("circle", { cx: px(line.x[0]), cy: py(line.y[0]), r: 3, fill: line.color }, svg);
  }
  box.append(svg);
  const said = legend(panel.lines, box);
  const rule = element("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "rule", visibility: "hidden" }, svg);
  const marks = panel.lines.map((line) => element("circle", { r: 3.5, fill: line.color, visibility: "hidden" }, svg));

  function nearest(values, x) {
    let best = 0;
    values.forEach((value, index) => {
      if (Math.abs(value - x) < Math.abs(values[best] - x)) best = index;
    });
    return best;
  }
  function show(x) {
    panel.lines.forEach((line, number) => {
      const at = x === null ? line.x.length - 1 : nearest(line.x, x);
      const ends = line.low ? ` [${shown(line.low[at])}, ${shown(line.high[at])}]` : "";
      const value = x === null && line.summary ? line.summary : `${shown(line.y[at])}${ends}`;
      said[number].textContent = `${line.name} ${value}` + (x === null ? "" : ` at ${shown(line.x[at])}`);
      marks[number].setAttribute("visibility", x === null ? "hidden" : "visible");
      marks[number].setAttribute("cx", px(line.x[at]));
      marks[number].setAttribute("cy", py(line.y[at]));
    });
    rule.setAttribute("visibility", x === null ? "hidden" : "visible");
    if (x !== null) {
      rule.setAttribute("x1", px(x));
      rule.setAttribute("x2", px(x));
    }
  }
  const under = (event) => {
    const bounds = svg.getBoundingClientRect();
    const at = ((event.clientX - bounds.left) / bounds.width) * WIDTH;
    show(Math.min(x1, Math.max(x0, x0 + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (x1 - x0))));
  };
  svg.addEventListener("pointermove", under);
  svg.addEventListener("pointerdown", under);
  svg.addEventListener("pointerleave", () => show(null));
  show(null);
  place.append(box);
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const panels = JSON.parse(figure.querySelector("script").textContent);
  const place = document.createElement("div");
  place.className = "panels";
  panels.forEach((panel) => (panel.bars ? drawBars : drawPanel)(panel, place));
  figure.querySelector(".picture").replaceWith(place);
}
