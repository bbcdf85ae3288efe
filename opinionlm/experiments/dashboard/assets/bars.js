// Grouped bars: one group per level or class, one bar per compared run.

// `rows` are [title, metric name] pairs; `asides` are short texts below the titles.
function groupedBars(title, rows, asides = []) {
  const runs = selection();
  const shown = (value) => (value === null ? "–" : metricText("test.score", value));
  const values = rows.flatMap(([, name]) => runs.flatMap(({ run }) => [measure(run, name) ?? 0, ...(run.intervals[name] ?? [])]));
  const low = Math.min(0, ...values);
  const high = Math.max(1, ...values);
  const thickness = runs.length > 4 ? 11.5 : 13;
  const gap = 16;
  const draw = (width) => {
    const wide = Math.min(230, Math.max(90, 16 + 7.2 * Math.max(...rows.map(([name]) => name.length))), width * 0.4);
    const block = Math.max(runs.length * thickness, asides.length ? 30 : 16) + gap;
    const height = rows.length * block + 40;
    const box = { left: wide, right: width - 48, top: 4, bottom: height - 36 };
    const root = canvas(width, height, `${title}: ${runs.map(({ run }) => run.name).join(", ")}`);
    const x = linear(low, high, box.left, box.right);
    for (const value of ticks(low, high, width / 140)) {
      root.append(
        svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }),
        svg("text", { class: "axis", x: x(value), y: box.bottom + 18, "text-anchor": "middle" }, String(value)));
    }
    rows.forEach(([name, metric], index) => {
      const top = box.top + index * block + gap / 2;
      const middle = top + (block - gap) / 2;
      const fits = Math.floor((wide - 16) / 7);
      const text = name.length > fits ? `${name.slice(0, fits - 1)}…` : name;
      root.append(svg("text", { class: "name", x: wide - 12, y: middle + (asides[index] ? -2 : 4), "text-anchor": "end" }, text, svg("title", {}, name)));
      if (asides[index]) root.append(svg("text", { class: "axis", x: wide - 12, y: middle + 14, "text-anchor": "end" }, asides[index]));
      runs.forEach(({ run, slot }, row) => {
        const value = measure(run, metric);
        const place = middle + (row - (runs.length - 1) / 2) * thickness;
        const end = x(value ?? 0);
        const bar = svg("g", { class: "bar" }, svg("title", {}, `${run.name}: ${name} ${shown(value)}${run.intervals[metric] ? ` (${run.intervals[metric].map(shown).join(" to ")})` : ""}`));
        bar.append(svg("rect", { class: `series-${slot} area`, x: Math.min(x(0), end), y: place - thickness / 2 + 1.5, width: Math.abs(end - x(0)), height: thickness - 3, rx: 1.5 }));
        const range = value === null ? null : run.intervals[metric];
        if (range) bar.append(svg("line", { class: "interval", x1: x(range[0]), x2: x(range[1]), y1: place, y2: place }));
        if (value !== null) bar.append(marker(slot, end, place, thickness > 12 ? 4.4 : 3.8));
        bar.append(svg("text", { class: "value halo", x: Math.max(end, x(0), range ? x(range[1]) : 0) + 9, y: place + 4 }, value === null ? "no value" : shown(value)));
        root.append(bar);
      });
    });
    root.append(svg("line", { class: "base", x1: x(0), x2: x(0), y1: box.top, y2: box.bottom }));
    return root;
  };
  const numbers = simpleTable(title, ["", ...runs.map(({ run }) => run.name)],
    rows.map(([name, metric]) => [name, ...runs.map(({ run }) => shown(measure(run, metric)))]));
  return figure(title, draw, folded("Numbers", numbers));
}

function namesIn(pattern) {
  const names = new Set();
  for (const run of state.group.runs) {
    for (const name of Object.keys(run.metrics)) if (pattern.test(name)) names.add(name);
  }
  return [...names];
}

function renderLevels() {
  const section = document.getElementById("levels");
  const kinds = [["macro_f1", "Macro-F1"], ["accuracy", "Accuracy"]];
  const charts = kinds.map(([kind, title]) => {
    const names = namesIn(new RegExp(`^${state.split}\\.level\\d+_${kind}$`));
    const number = (name) => Number(name.match(/level(\d+)_/)[1]);
    names.sort((a, b) => number(a) - number(b));
    return names.length ? [title, names.map((name) => [`level ${number(name)}`, name])] : null;
  }).filter((chart) => chart !== null);
  section.hidden = !charts.length;
  if (section.hidden) return;
  body("levels").replaceChildren(
    selection().length
      ? el("div", { class: "figures" }, charts.map(([title, rows]) => groupedBars(`${title}, ${state.split}`, rows)))
      : note("Choose runs to compare in the table of runs."),
    note("Every level is scored over all texts: a label given to a text that has none at this level counts as wrong."),
  );
}

function renderClasses() {
  const section = document.getElementById("classes");
  const start = `${state.split}.f1_`;
  const found = namesIn(new RegExp(`^${state.split}\\.f1_`)).map((name) => name.slice(start.length));
  const labels = [...state.group.labels.filter((label) => found.includes(label)), ...found.filter((label) => !state.group.labels.includes(label))];
  section.hidden = !labels.length;
  if (section.hidden) return;
  const counted = state.group.runs.find((run) => run.splits[state.split]?.confusion);
  const counts = labels.map((label) => {
    const place = state.group.labels.indexOf(label);
    const row = counted?.splits[state.split].confusion[place];
    const support = counted?.splits[state.split].support;
    return row ? plural(support ? support[place] : row.reduce((sum, count) => sum + count, 0), "text") : "";
  });
  body("classes").replaceChildren(
    selection().length
      ? groupedBars(`${state.split[0].toUpperCase()}${state.split.slice(1)} split`, labels.map((label) => [label, start + label]), counted ? counts : [])
      : note("Choose runs to compare in the table of runs."),
    ...(selection().some(({ run }) => labels.some((label) => run.intervals[start + label])) ? [note("Lines are 95 % intervals by bootstrap over the texts.")] : []),
  );
}

when(["group", "selection", "measure"], renderLevels);
when(["group", "selection", "measure"], renderClasses);
