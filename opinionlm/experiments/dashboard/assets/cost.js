// What quality costs: every run of the group as a point, with its 95 % interval.

const cost = { axis: "cost.total_seconds", log: true };
const COSTS = ["cost.total_seconds", "cost.train_seconds", "model.trainable_parameters", "cost.peak_memory_mb", "cost.train_flops"];

function renderCost() {
  const section = document.getElementById("cost");
  const names = [...new Set(state.group.runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => /^(cost|model)\./.test(name));
  const offered = [...COSTS.filter((name) => names.includes(name)), ...names.filter((name) => !COSTS.includes(name))];
  section.hidden = !offered.length;
  if (section.hidden) return;
  if (!offered.includes(cost.axis)) cost.axis = offered[0];
  const place = el("div", {});
  const draw = () => place.replaceChildren(...scatter());
  body("cost").replaceChildren(
    el("div", { class: "fields" },
      choice("Cost", offered.map((name) => [name, metricTitle(name.split(".")[1])]), cost.axis, (name) => {
        cost.axis = name;
        draw();
      }),
      tick("logarithmic", cost.log, (on) => {
        cost.log = on;
        draw();
      })),
    place);
  draw();
}

function scatter() {
  const name = `${state.split}.${state.metric}`;
  const usable = (run) => measure(run, name) !== null && measure(run, cost.axis) !== null && (!cost.log || measure(run, cost.axis) > 0);
  const points = state.group.runs.filter(usable).map((run) => ({
    run, cost: measure(run, cost.axis), value: measure(run, name), range: run.intervals[name] ?? null,
    slot: selection().find((one) => one.run === run)?.slot ?? 0,
  }));
  if (!points.length) return [note("No run has both values.")];
  // Compared runs are drawn last, above the others.
  points.sort((a, b) => (a.slot > 0) - (b.slot > 0));
  const title = `${metricTitle(state.metric)} (${state.split}) against ${metricTitle(cost.axis.split(".")[1])}`;
  const missing = state.group.runs.length - points.length;
  const rows = [...points].sort((a, b) => a.cost - b.cost).map((point) => [point.run.name, metricText(cost.axis, point.cost), metricText(name, point.value),
    point.range ? `${metricText(name, point.range[0])} to ${metricText(name, point.range[1])}` : "–"]);
  return [
    figure(title, (width) => drawScatter(width, title, name, points),
      folded("Numbers", simpleTable(title, ["run", metricTitle(cost.axis.split(".")[1]), metricTitle(state.metric), "95 % interval"], rows))),
    note(`Vertical lines are 95 % intervals; the dotted line joins the runs that no other run beats in both.${missing ? ` ${plural(missing, "run")} without both values ${missing === 1 ? "is" : "are"} left out.` : ""}`),
  ];
}

function drawScatter(width, title, name, points) {
  const height = 360;
  const box = { left: 52, right: width - 20, top: 14, bottom: height - 46 };
  const root = canvas(width, height, title);
  const costs = points.map((point) => point.cost);
  const values = points.flatMap((point) => [point.value, ...(point.range ?? [])]);
  const [lowY, highY] = padded(Math.min(...values), Math.max(...values));
  let [lowX, highX] = padded(Math.min(...costs), Math.max(...costs), 0.1);
  if (cost.log) [lowX, highX] = [Math.min(...costs) / 1.3, Math.max(...costs) * 1.3];
  else lowX = Math.max(0, lowX);
  const x = (cost.log ? logarithmic : linear)(lowX, highX, box.left, box.right);
  const y = linear(lowY, highY, box.bottom, box.top);
  axes(root, box,
    { scale: x, ticks: spaced(cost.log ? logTicks(lowX, highX) : ticks(lowX, highX, width / 110), x, 64), text: (value) => metricText(cost.axis, value), label: metricTitle(cost.axis.split(".")[1]), grid: true },
    { scale: y, ticks: ticks(lowY, highY, 6), text: (value) => String(value) });
  const front = frontier(points, directionOf(name) === "lower");
  if (directionOf(name) && front.length > 1) {
    root.append(svg("path", { class: "front", d: front.map((point, index) => `${index ? "L" : "M"}${x(point.cost)},${y(point.value)}`).join("") }));
  }
  const taken = points.map((point) => ({ left: x(point.cost) - 6, right: x(point.cost) + 6, top: y(point.value) - 6, bottom: y(point.value) + 6 }));
  for (const point of points) {
    const mark = svg("g", {}, svg("title", {}, `${point.run.name}: ${metricText(name, point.value)}, ${metricText(cost.axis, point.cost)}`));
    if (point.range) mark.append(svg("line", { class: point.slot ? `series-${point.slot} whisker` : "other whisker", x1: x(point.cost), x2: x(point.cost), y1: y(point.range[0]), y2: y(point.range[1]) }));
    mark.append(point.slot ? marker(point.slot, x(point.cost), y(point.value), 6) : svg("circle", { class: "other", cx: x(point.cost), cy: y(point.value), r: 4.5 }));
    root.append(mark);
  }
  // Compared runs get their name first; the others only where there is room.
  for (const point of [...points].reverse()) placeName(root, taken, box, point.run.name, x(point.cost), y(point.value));
  return root;
}

function spaced(values, scale, room) {
  const kept = [];
  for (const value of values) if (!kept.length || scale(value) - scale(kept.at(-1)) >= room) kept.push(value);
  return kept;
}

function frontier(points, lower) {
  const better = (a, b) => (lower ? a < b : a > b);
  return points.filter((one) => !points.some((other) => other !== one && other.cost <= one.cost && !better(one.value, other.value) && (other.cost < one.cost || better(other.value, one.value))))
    .sort((a, b) => a.cost - b.cost);
}

// A name right or left of its point, where neither a point nor another name is.
function placeName(root, taken, box, name, x, y) {
  const text = name.length > 28 ? `${name.slice(0, 27)}…` : name;
  const wide = 6.4 * text.length + 4;
  for (const [left, anchor, place] of [[x + 10, "start", x + 10], [x - 10 - wide, "end", x - 10]]) {
    const wanted = { left, right: left + wide, top: y - 8, bottom: y + 8 };
    const free = taken.every((one) => wanted.right < one.left || wanted.left > one.right || wanted.bottom < one.top || wanted.top > one.bottom);
    if (free && wanted.left >= box.left && wanted.right <= box.right + 16) {
      taken.push(wanted);
      root.append(svg("text", { class: "name halo", x: place, y: y + 4, "text-anchor": anchor }, text));
      return;
    }
  }
}

when(["group", "selection", "measure"], renderCost);
