// One row per method: runs whose options differ by nothing but the seed; an ensemble is a method of its own.

function rankedMethods(group) {
  const name = `${state.split}.${state.metric}`;
  const way = directionOf(name) === "lower" ? 1 : -1;
  const key = (method) => (name in method.metrics ? way * method.metrics[name][0] : Infinity);
  return [...group.methods].sort((a, b) => (key(a) === key(b) ? 0 : key(a) - key(b)));
}

function bestRunOf(method) {
  return state.group.runs.find((run) => run.name === method.best);
}

// The best run of each method; ensembles only where nothing else is there.
function bestRuns(group) {
  const trained = rankedMethods(group).filter((method) => method.members === null);
  return (trained.length ? trained : group.methods).map(bestRunOf);
}

// The common part of the runs' names and the options in which the methods differ.
function methodTitle(method, methods) {
  const optionsOf = (one) => state.group.runs.find((run) => run.name === one.runs[0]).options;
  const trained = methods.filter((one) => one.members === null);
  const names = [...FIRST_OPTIONS, ...state.group.varying.filter((name) => !FIRST_OPTIONS.includes(name))];
  const different = names.filter((name) => name !== "seed" && new Set(trained.map((one) => JSON.stringify(optionsOf(one)[name]))).size > 1);
  const read = (method.members === null ? different : []).filter((name) => optionsOf(method)[name] !== null);
  const options = read.slice(0, 3).map((name) => `${optionTitle(name)} ${optionText(optionsOf(method)[name])}`);
  const members = method.members === null ? [] : [`ensemble of ${method.members}`];
  const said = [...members, ...options].join(", ");
  return [el("span", { title: method.runs.join(", ") }, method.name), said ? el("span", { class: "range" }, said) : null];
}

function spread(method, name) {
  const found = method.metrics[name];
  if (!found) return "–";
  const text = (value) => (name.startsWith("cost.") ? duration(value) : metricText(name, value));
  return found[1] === null ? text(found[0]) : `${text(found[0])} ± ${text(found[1])}`;
}

function tIntervalOf(method, name) {
  const bounds = method.metrics[name]?.[2];
  return bounds ? el("span", { class: "range" }, `${metricText(name, bounds[0])} to ${metricText(name, bounds[1])}`) : null;
}

function againstBest(method) {
  if (!method.difference) return "–";
  const [value, low, high, p] = method.difference;
  const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(3)}`;
  return [`${signed(value)}, p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`,
    el("span", { class: "range" }, `${signed(low)} to ${signed(high)}`)];
}

function renderMethods() {
  const group = state.group;
  const name = `${state.split}.${state.metric}`;
  const metric = metricTitle(state.metric);
  const order = rankedMethods(group);
  const tested = state.split === "test" && state.metric === group.main && order.some((method) => method.difference);
  const others = splitsOf(group).filter((split) => split !== state.split);
  const columns = [
    ["seeds", (method) => (method.members === null || method.runs.length > 1 ? seedsOf(method) : "–")],
    [`${state.split} ${metric}`, (method) => [spread(method, name), tIntervalOf(method, name)]],
    ...(tested ? [["against the best", (method) => (method.difference ? againstBest(method) : method === order[0] ? "the best" : "–")]] : []),
    ...others.map((split) => [`${split} ${metric}`, (method) => spread(method, `${split}.${state.metric}`)]),
    [metricTitle(timeOf(group).slice(5)), (method) => spread(method, timeOf(group))],
    ["trained parameters", (method) => (method.metrics["model.trainable_parameters"] ? withUnit(method.metrics["model.trainable_parameters"][0]) : "–")],
  ];
  const row = (method) => {
    const run = bestRunOf(method);
    const box = el("input", { type: "checkbox", checked: isSelected(run), "aria-label": `Compare the best run of ${method.name}`, onchange: () => toggleRun(run) });
    box.run = run;
    return stackedRow(el("td", { class: "pick", role: "cell" }, box), methodTitle(method, order), columns.map(([title, cell]) => [title, cell(method), "number"]));
  };
  body("methods").replaceChildren(
    stackedTable("Methods, best first", [el("span", { class: "visually-hidden" }, "compare"), "method", ...columns.map(([title]) => el("th", { scope: "col", role: "columnheader", class: "number" }, title))], order.map(row)),
    note(`Mean ± sample standard deviation over runs whose options differ by nothing but the seed, with the t interval of the mean.${tested ? " Against the best: difference on the same test texts, 95 % interval and p of a paired bootstrap; p is corrected for the number of methods (Holm), the interval is not." : ""} A tick compares a method's best run by validation below.`),
    ...(notCompared(group).length ? [folded(`Runs that are not compared with these`, el("ul", {}, notCompared(group).map((line) => el("li", {}, line))))] : []),
  );
}

function seedsOf(method) {
  return method.seeds.length > 6 ? `${method.seeds.slice(0, 5).join(", ")} and ${method.seeds.length - 5} more` : method.seeds.join(", ");
}

// Runs of the other groups by name, with what sets them apart.
function notCompared(group) {
  return page.groups.filter((other) => other !== group).map((other) => {
    const same = other.dataset === group.dataset && other.task === group.task;
    const why = same ? `${other.dataset}, other test texts` : `${other.dataset}, ${other.task.replaceAll("_", " ")}`;
    const size = other.testRows === null ? "" : ` (${plural(other.testRows, "test text")})`;
    return `${why}${size}: ${other.runs.map((run) => run.name).join(", ")}`;
  });
}

function markMethods() {
  for (const box of document.querySelectorAll("#methods tbody input")) box.checked = isSelected(box.run);
}

when(["group", "measure"], renderMethods);
when(["selection"], markMethods);
