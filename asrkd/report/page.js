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
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [560, 240, 52, 10, 10, 34];

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

function drawPanel(panel, place) {
  const points = panel.lines.flatMap((line) => line.x.map((x, index) => [x, line.y[index]]));
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const [x0, x1] = range(xs);
  let [y0, y1] = range(ys);
  [y0, y1] = [y0 - 0.04 * (y1 - y0), y1 + 0.04 * (y1 - y0)];
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);

  const box = document.createElement("div");
  box.className = "panel";
  const title = document.createElement("p");
  title.className = "panel-title";
  title.textContent = panel.title;
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": panel.title });
  for (const y of ticks(y0, y1, 5)) {
    element("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y), class: "grid" }, svg);
    element("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, svg).textContent = shown(y);
  }
  for (const x of ticks(x0, x1, 6)) {
    element("text", { x: px(x), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, svg).textContent = shown(x);
  }
  element("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, svg).textContent = panel.xlabel;
  const key = document.createElement("p");
  key.className = "key";
  const said = panel.lines.map((line) => {
    element("polyline", { points: line.x.map((x, index) => `${px(x)},${py(line.y[index])}`).join(" "), stroke: line.color, class: "curve" }, svg);
    if (line.x.length === 1) element("circle", { cx: px(line.x[0]), cy: py(line.y[0]), r: 3, fill: line.color }, svg);
    const entry = document.createElement("span");
    const dot = element("svg", { viewBox: "0 0 12 12", class: "dot" });
    element("circle", { cx: 6, cy: 6, r: 5, fill: line.color }, dot);
    const text = document.createElement("span");
    entry.append(dot, text);
    key.append(entry);
    return text;
  });
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
      said[number].textContent = `${line.name} ${shown(line.y[at])}` + (x === null ? "" : ` at ${shown(line.x[at])}`);
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
  box.append(title, svg, key);
  place.append(box);
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const panels = JSON.parse(figure.querySelector("script").textContent);
  const place = document.createElement("div");
  place.className = "panels";
  panels.forEach((panel) => drawPanel(panel, place));
  figure.querySelector("img").replaceWith(place);
}
