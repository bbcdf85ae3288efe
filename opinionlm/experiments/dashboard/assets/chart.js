// What all figures share: scales, axes, markers, redrawing at another width, the box that follows the pointer.

function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function logarithmic(low, high, from, to) {
  const scale = linear(Math.log10(low), Math.log10(high), from, to);
  return (value) => scale(Math.log10(value));
}

// Round numbers within [low, high], about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low || Math.abs(high) || 1) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of [1, 2, 5]) {
      const value = Number((factor * 10 ** power).toPrecision(3));
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found.length ? found : [low, high];
}

function padded(low, high, share = 0.06) {
  const room = (high - low || Math.abs(high) * 0.1 || 1) * share;
  return [low - room, high + room];
}

// A figure that is drawn for the width it has, and again when that changes. `draw(width)` returns an SVG element.
function figure(title, draw, ...below) {
  const place = el("div", { class: "plot" });
  let drawn = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(place.clientWidth);
    if (width > 0 && width !== drawn) {
      drawn = width;
      place.replaceChildren(draw(width));
    }
  });
  observer.observe(place);
  return el("figure", {}, el("figcaption", {}, title), place, ...below);
}

function canvas(width, height, description) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
}

// Grid lines and labels of both axes. `box` is {left, right, top, bottom} in pixels.
function axes(root, box, x, y) {
  for (const value of y.ticks) {
    const place = y.scale(value);
    root.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: place, y2: place }),
      svg("text", { class: "axis", x: box.left - 8, y: place + 4, "text-anchor": "end" }, y.text(value)),
    );
  }
  for (const value of x.ticks) {
    const place = x.scale(value);
    if (x.grid) root.append(svg("line", { class: "grid", x1: place, x2: place, y1: box.top, y2: box.bottom }));
    root.append(svg("text", { class: "axis", x: place, y: box.bottom + 18, "text-anchor": "middle" }, x.text(value)));
  }
  root.append(
    svg("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    svg("text", { class: "axis", x: box.right, y: box.bottom + 36, "text-anchor": "end" }, x.label),
  );
}

// Eight shapes, so that runs differ by more than colour.
function marker(slot, x, y, size = 4.5) {
  const s = size;
  const shapes = {
    1: () => svg("circle", { cx: x, cy: y, r: s }),
    2: () => svg("rect", { x: x - s * 0.9, y: y - s * 0.9, width: s * 1.8, height: s * 1.8 }),
    3: () => polygon([[0, -1.2], [1.15, 0.85], [-1.15, 0.85]]),
    4: () => polygon([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]),
    5: () => polygon([[0, 1.2], [1.15, -0.85], [-1.15, -0.85]]),
    6: () => polygon([[-1.2, 0], [-0.6, -1.05], [0.6, -1.05], [1.2, 0], [0.6, 1.05], [-0.6, 1.05]]),
    7: () => polygon([[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2],
      [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]]),
    8: () => polygon([[0, -1.3], [0.38, -0.4], [1.3, -0.3], [0.6, 0.35], [0.8, 1.25], [0, 0.75], [-0.8, 1.25],
      [-0.6, 0.35], [-1.3, -0.3], [-0.38, -0.4]]),
  };
  function polygon(corners) {
    return svg("polygon", { points: corners.map(([a, b]) => `${x + a * s},${y + b * s}`).join(" ") });
  }
  const shape = shapes[slot]();
  shape.setAttribute("class", `series-${slot} mark`);
  return shape;
}

// The sign of a run in legends and tables.
function sign(slot) {
  return svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", class: "sign", "aria-hidden": "true" }, marker(slot, 7, 7, 4.6));
}

function line(slot, points, attributes = {}) {
  const path = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
  return svg("path", { class: `series-${slot} line`, d: path, ...attributes });
}

const hint = el("div", { class: "hint", "aria-hidden": "true", hidden: true });
document.body.append(hint);

// Lines of text beside the pointer; [slot or null, text] each.
function showHint(event, title, lines) {
  hint.replaceChildren(
    el("strong", {}, title),
    ...lines.map(([slot, text]) => el("div", {}, slot ? sign(slot) : null, text)),
  );
  hint.hidden = false;
  const box = hint.getBoundingClientRect();
  const left = event.clientX + 14 + box.width > window.innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
  hint.style.left = `${Math.max(4, left)}px`;
  hint.style.top = `${Math.max(4, Math.min(event.clientY + 14, window.innerHeight - box.height - 4))}px`;
}

function hideHint() {
  hint.hidden = true;
}

function nearest(values, wanted) {
  return values.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
}
