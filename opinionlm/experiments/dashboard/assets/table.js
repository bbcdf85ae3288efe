// The table of runs: sorted by any column, filtered by text and options, columns chosen, runs picked for comparison.

const FIRST_OPTIONS = ["model_name_or_path", "adaptation", "engine", "trainable_blocks", "learning_rate", "num_train_epochs", "max_train_samples", "seed"];
const table = { columns: [], shown: new Set(), sort: "", ascending: false, text: "", filters: new Map() };

function allColumns(group) {
  const option = (name) => ({
    id: `option.${name}`, over: "option", title: optionTitle(name), kind: "text", value: (run) => run.options[name] ?? null,
    text: (run) => optionText(run.options[name]),
  });
  const known = FIRST_OPTIONS.filter((name) => group.varying.includes(name));
  const options = [...known, ...group.varying.filter((name) => !known.includes(name))].map(option);
  const names = [...new Set(group.runs.flatMap((run) => Object.keys(run.metrics)))];
  const sections = ["test", "validation", "cost", "model"];
  const place = (name) => {
    const index = sections.indexOf(name.split(".")[0]);
    return index < 0 ? sections.length : index;
  };
  const isMain = (name) => name.endsWith(`.${group.main}`);
  names.sort((a, b) => place(a) - place(b) || isMain(b) - isMain(a));
  const metrics = names.map((name) => ({
    id: name, over: name.includes(".") ? name.split(".")[0] : "", title: metricTitle(name.slice(name.indexOf(".") + 1)), kind: "number",
    value: (run) => measure(run, name), text: (run) => metricText(name, measure(run, name)),
  }));
  const facts = ["data_fingerprint", "git_commit", "device", "processor"].map((name) => ({
    id: `fact.${name}`, over: "run", title: optionTitle(name), kind: "text", value: (run) => run.environment[name] ?? null,
    text: (run) => String(run.environment[name] ?? "–").slice(0, 16),
  }));
  const finished = { id: "fact.finished", over: "run", title: "finished (UTC)", kind: "text", value: (run) => run.finished, text: (run) => run.finished };
  return [...options, ...metrics, ...facts, finished];
}

function defaultColumns(group, columns) {
  const options = columns.filter((column) => column.over === "option").slice(0, 4).map((column) => column.id);
  const extra = group.fingerprints.length > 1 ? ["fact.data_fingerprint"] : [];
  return new Set([...options, ...extra, `test.${group.main}`, `validation.${group.main}`, "test.accuracy", "model.trainable_parameters", timeOf(group)]);
}

function visibleColumns() {
  return table.columns.filter((column) => table.shown.has(column.id));
}

function visibleRuns() {
  const words = table.text.toLowerCase().split(/\s+/).filter((word) => word);
  const runs = state.group.runs.filter((run) => {
    const text = [run.name, ...Object.entries(run.options).map(([name, value]) => `${name}=${value}`)].join(" ").toLowerCase();
    return words.every((word) => text.includes(word)) &&
      [...table.filters].every(([name, value]) => JSON.stringify(run.options[name] ?? null) === value);
  });
  const column = table.columns.find((one) => one.id === table.sort);
  const key = column ? column.value : (run) => run.name;
  const order = table.ascending ? 1 : -1;
  return runs.sort((a, b) => {
    const [first, second] = [key(a), key(b)];
    // What is missing comes last, whichever way the column is sorted.
    if (first === null || second === null) return (first === null) - (second === null);
    if (typeof first === "number" && typeof second === "number") return order * (first - second);
    return order * String(first).localeCompare(String(second), "en", { numeric: true });
  });
}

// The best values among the runs on view, by column; nothing where no direction is better or all are equal.
function bestValues(columns, runs) {
  const best = new Map();
  for (const column of columns) {
    const way = column.kind === "number" ? directionOf(column.id) : "";
    const values = runs.map((run) => column.value(run)).filter((value) => value !== null);
    if (way && new Set(values).size > 1) best.set(column.id, way === "lower" ? Math.min(...values) : Math.max(...values));
  }
  return best;
}

function heading(column) {
  const active = table.sort === column.id;
  const button = el("button", { type: "button", class: "sort", onclick: () => sortBy(column) },
    column.over ? el("span", { class: "over" }, column.over) : null,
    el("span", {}, column.title), el("span", { class: "arrow", "aria-hidden": "true" }, active ? (table.ascending ? " ▲" : " ▼") : ""));
  return el("th", {
    scope: "col", role: "columnheader", class: column.kind === "number" ? "number" : null, "data-column": column.id,
    "aria-sort": active ? (table.ascending ? "ascending" : "descending") : "none",
  }, button);
}

const NAME = { id: "name", title: "run", kind: "text" };

function sortBy(column, focused = `#run-table th[data-column="${CSS.escape(column.id)}"] button`) {
  if (table.sort === column.id) table.ascending = !table.ascending;
  else {
    table.sort = column.id;
    table.ascending = column.kind === "text" || directionOf(column.id) === "lower";
  }
  drawTable();
  document.querySelector(focused).focus();
}

function drawTable() {
  const columns = visibleColumns();
  const runs = visibleRuns();
  const best = bestValues(columns, runs);
  const cell = (run, column) => {
    const value = column.value(run);
    const isBest = best.has(column.id) && value === best.get(column.id);
    const range = column.id === `test.${state.group.main}` || column.id === `validation.${state.group.main}` ? run.intervals[column.id] : null;
    const content = [el("span", { class: "shown" }, column.text(run)), isBest ? el("span", { class: "visually-hidden" }, " (best)") : null,
      range ? el("span", { class: "range" }, `${metricText(column.id, range[0])} to ${metricText(column.id, range[1])}`) : null];
    const kind = [column.kind === "number" ? "number" : "", isBest ? "best" : ""].join(" ").trim();
    return [`${/^(test|validation)$/.test(column.over) ? `${column.over} ` : ""}${column.title}`, content, kind, { title: value === null ? null : String(value) }];
  };
  const row = (run) => {
    const box = el("input", { type: "checkbox", checked: isSelected(run), "aria-label": `Compare ${run.name}`, onchange: () => toggleRun(run) });
    box.run = run;
    const slot = selection().find((one) => one.run === run)?.slot;
    const members = run.members === null ? null : el("span", { class: "range" }, `ensemble of ${run.members}`);
    const warned = run.warnings.length ? el("span", { class: "warned", title: run.warnings.join("\n") }, "incomplete") : null;
    return stackedRow(el("td", { class: "pick", role: "cell" }, box),
      [el("span", { class: "place" }, slot ? sign(slot) : null), el("span", {}, run.name), members, warned], columns.map((column) => cell(run, column)));
  };
  const header = [el("th", { scope: "col", role: "columnheader", class: "pick" }, el("span", { class: "visually-hidden" }, "compare")), heading(NAME), ...columns.map(heading)];
  const drawn = stackedTable("Finished runs; the buttons in the header sort", header, runs.map(row), "No run passes the filters.");
  document.getElementById("run-table").replaceChildren(drawn.firstElementChild);
  document.getElementById("run-order").replaceChildren(choice("Sort by", [NAME, ...columns].map((column) => [column.id, `${column.over ? `${column.over}: ` : ""}${column.title}`]), table.sort, (id) => {
    sortBy([NAME, ...columns].find((column) => column.id === id), "#run-order select");
  }));
  document.getElementById("run-count").textContent = `${runs.length} of ${plural(state.group.runs.length, "run")}`;
}

// Picking runs changes only signs and ticks, so that the focus stays where it is.
function markSelection() {
  for (const box of document.querySelectorAll("#run-table tbody input")) {
    box.checked = isSelected(box.run);
    const slot = selection().find((one) => one.run === box.run)?.slot;
    box.closest("tr").querySelector(".place").replaceChildren(...(slot ? [sign(slot)] : []));
  }
}

function optionFilters(group) {
  const filters = table.columns.filter((column) => column.over === "option").map((column) => {
    const name = column.id.slice("option.".length);
    const values = [...new Set(group.runs.map((run) => JSON.stringify(run.options[name] ?? null)))];
    if (values.length > 20 || values.length === group.runs.length && group.runs.length > 6) return null;
    values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    return choice(column.title, [["", "all"], ...values.map((value) => [value, optionText(JSON.parse(value))])], "", (value) => {
      if (value) table.filters.set(name, value);
      else table.filters.delete(name);
      drawTable();
    });
  }).filter((filter) => filter !== null);
  return [filters.slice(0, 3), filters.slice(3)];
}

function columnChooser() {
  const sections = [...new Set(table.columns.map((column) => column.over))];
  return el("details", { class: "chooser" }, el("summary", {}, "Columns"), el("div", { class: "panel" }, sections.map((over) =>
    el("fieldset", {}, el("legend", {}, over || "other"), table.columns.filter((column) => column.over === over).map((column) =>
      tick(column.title, table.shown.has(column.id), (on) => {
        if (on) table.shown.add(column.id);
        else table.shown.delete(column.id);
        drawTable();
      }))))));
}

function renderTable() {
  table.columns = allColumns(state.group);
  table.shown = defaultColumns(state.group, table.columns);
  table.sort = `test.${state.group.main}`;
  table.ascending = directionOf(table.sort) === "lower";
  table.text = "";
  table.filters.clear();
  const [first, more] = optionFilters(state.group);
  body("runs").replaceChildren(
    el("div", { class: "fields" },
      textField("Filter", "name or option=value", (text) => {
        table.text = text;
        drawTable();
      }),
      el("div", { id: "run-order", class: "narrow-only" }), first, columnChooser()),
    ...(more.length ? [folded("More filters", el("div", { class: "fields" }, more))] : []),
    el("div", { class: "scroll tall", id: "run-table", tabindex: "0", role: "region", "aria-label": "Table of runs" }),
    el("p", { class: "note" }, el("span", { id: "run-count", role: "status" }), `. Best values of a column are bold and underlined; small print gives 95 % intervals. Ticked runs (at most ${MOST_SELECTED}) are compared below.`),
  );
  drawTable();
}

when(["group"], renderTable);
when(["selection"], markSelection);
